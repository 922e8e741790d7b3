# SPDX-License-Identifier: MIT
"""audit: planted servers are named rightly; real ones, in the slow tier; and nothing is left behind."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt.cli import CannotRun
from reuseport.audit import Options, add_arguments, baseline, listening, run, trial
from reuseport.audit.evidence import Restart

from ..support import DEADLINE, Missing, rounds, started, until
from .planted import table as planted

ROOT = Path(__file__).parents[2]
SERVERS = Path(__file__).parent / "servers"
QUICK = ("--restarts", "5", "--rate", "200", "--pause", "0.1", "--within", "15")


def parsed(*arguments: str) -> Options:
    parser = argparse.ArgumentParser()
    add_arguments(parser, "audit")
    return Options(command="audit", **vars(parser.parse_args(arguments)))


def audit(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run(parsed(*arguments))
    return code, out.getvalue()


def server(name: str, *more: str) -> tuple[str, ...]:
    return ("--", sys.executable, str(planted.PROGRAM), name, "8000", *more)


def processes(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
    return found


def test_a_daemon_that_loses_nobody() -> None:
    """Its port is found, its restarts are told from its silence, and nothing of it is left."""
    mark = uuid.uuid4().hex
    code, out = audit(*QUICK, *server("daemonizes", mark))
    verdict = re.fullmatch(
        r"AUDIT: PASS: 0 of (\d) restarts lost anybody \(at most 4\d % do, 95 %\); 0 of (\d+) connections; "
        r"\d+/s of 200 asked; all 200",
        out.splitlines()[-1],
    )
    assert verdict, out
    assert code == 0
    assert verdict[1] == "5"
    assert int(verdict[2]) > 300
    assert "asked: 127.0.0.1:8000\n" in out
    assert "handshakes in flight were not tested" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert processes(mark) == []


def test_each_kind_of_client_is_judged_by_itself() -> None:
    """It closes who has said nothing when it restarts: that is a loss of the late ones alone. The figures of
    JSON add up."""
    code, out = audit(*QUICK, "--late", "600", "--keepalive", "--json", *server("impatient"))
    found = json.loads(out)
    assert code == 1, out
    assert set(found["clients"]) == {"plain", "late", "keepalive"}
    assert found["clients"]["late"]["kinds"] == {"eof": found["clients"]["late"]["lost"]}
    assert [found["clients"][client]["lost"] for client in ("plain", "keepalive")] == [0, 0]
    assert found["clients"]["keepalive"]["idle_ended"] > 0
    assert found["lost"] == sum(found["restarts"]["losses"]) == found["clients"]["late"]["lost"] > 0
    assert found["restarts"]["asked"] == 5
    assert found["lost_without_restart"] == 0
    assert found["ports"] == [8000]
    assert found["cmd"][-2:] == ["impatient", "8000"]
    assert found["rate"]["asked"] == 305
    assert found["kernel"] == os.uname().release
    assert "somebody" in found["verdict"]


def test_a_server_that_freezes_at_its_last_restart() -> None:
    """Five restarts lost nobody, and after the sixth nobody is served: it does not pass."""
    code, out = audit(*QUICK, "--restarts", "9", "--within", "2", *server("freezes"))
    assert code == 1, out
    assert "AUDIT: FAIL: nobody accepts 2 s after restart 6; 0 of 5 restarts lost anybody" in out


@pytest.mark.parametrize(
    ("served_before", "harmed", "words"),
    [(0.5, False, "the load is served, but no probe is 2 s"), (1.5, True, "nobody accepts 2 s")],
)
def test_probes_that_no_cpu_is_left_for(served_before: float, harmed: bool, words: str) -> None:
    """While the load is served, it is no fault of the server that no probe is."""
    course: Any = object.__new__(trial._Course)
    course._options, course._place = parsed("--within", "2"), SimpleNamespace(inodes=lambda: {1})
    course._watch = SimpleNamespace(nobody_accepts=lambda since: True)
    good = time.monotonic_ns() - round(served_before * 1e9)
    course._load = SimpleNamespace(live=lambda plan: SimpleNamespace(last_good=good))
    course._way, course.restarts, course.harmed = None, [Restart(0)], False
    assert course._incomplete().startswith(words)
    assert course.harmed == harmed


def test_a_server_that_does_not_start_again() -> None:
    """The last words are those of the last start."""
    mark = f"/tmp/{uuid.uuid4().hex}"
    script = f'if [ -e {mark} ]; then echo no second start; exit 7; fi; touch {mark}; exec "$@"'
    code, out = audit(*QUICK, "--respawn", "--", "sh", "-c", script, "sh", *server("careful")[1:])
    assert code == 1, out
    assert "CMD's end: exit status 7: no second start" in out
    assert "CMD ended in restart 1 (exit status 7)" in out


ABSTRACT = """
import socket, sys
sys.path.insert(0, {!r})
from tests.reuseport.planted import restarting, server
class Abstract(restarting.Anywhere):
    def listen(self):
        found = socket.socket(socket.AF_UNIX)
        found.bind("\\0here")
        found.listen(1024)
        return [found]
Abstract(0).run()
"""


def test_an_abstract_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no file, but a name in the network. If another was said, the name is in the refusal."""
    words = ("--", sys.executable, "-c", ABSTRACT.format(str(ROOT)))
    code, out = audit(*QUICK, "--unix", "@here", *words)
    assert code == 0, out
    assert "asked: unix:@here" in out
    monkeypatch.setattr(listening, "PATIENCE", 1.0)
    with pytest.raises(
        CannotRun, match="does not listen on /there after 1 s; it listens on @here: see --unix"
    ):
        audit(*QUICK, "--unix", "/there", *words)


def test_the_baseline_waits_for_late_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take their time, which is not the server's."""
    monkeypatch.setattr(baseline, "PATIENCE", 0.5)
    code, out = audit(*QUICK, "--rate", "50", "--late", "1500", *server("careful"))
    assert code == 0, out
    assert re.search(r"^late: 0 of \d+ lost", out, re.MULTILINE)


@pytest.mark.parametrize("inherited", ["ignored", "blocked"])
def test_a_server_that_dies(inherited: str) -> None:
    """It takes the blame, with its last words. What the auditor's own parent made of the signal, as nohup
    does, is no business of the server."""

    def look() -> tuple[int, str]:
        if inherited == "ignored":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        return audit(*QUICK, *server("mortal"))

    code, out = testing.in_child(look)
    assert code == 1
    assert "CMD's end: exit status 1: configuration error: line 7" in out
    assert "FAIL: CMD ended in restart 3 (exit status 1): " in out.splitlines()[-1]
    assert " found nobody afterwards; " in out.splitlines()[-1]


def test_a_server_that_is_deaf() -> None:
    """No restart is not a restart without loss: 3. Unless the user insists."""
    code, out = audit(*QUICK, "--within", "1", *server("deaf_idle"))
    assert code == 3
    reason = (
        "only 0 of 1 restarts can be judged, and it takes 5: SIGHUP replaced nobody who accepts, 1 s after"
    )
    assert reason in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (server("hasty"), r"CMD ended \(exit status 1\) before it listened on any port: no configuration"),
        (("--port", "9", *server("careful")), "CMD does not listen on port 9 .*; it listens on port 8000"),
        (
            server("missing_404"),
            r"\(status 200 to 399 is good\): [\d,]+ x status 404; see --path and --expect",
        ),
        (server("tls_in_clear"), "this port speaks TLS: --tls"),
        (("--", "/no/such/server"), "/no/such/server: No such file"),
    ],
    ids=["hasty", "elsewhere", "404", "tls", "missing"],
)
def test_what_cannot_be_audited(
    command: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 3, and the reason."""
    monkeypatch.setattr("reuseport.audit.listening.PATIENCE", 1.0)
    with pytest.raises(CannotRun, match=reason):
        audit(*QUICK, *command)


def test_usage() -> None:
    """No command, fewer than five restarts, unknown signal, what does not go together: 2."""
    with contextlib.redirect_stderr(io.StringIO()):
        for arguments in ([], ["--unix", "/x", "--port", "1"], ["--raw", "--slow"]):
            assert audit(*arguments, *(server("careful") if arguments else ()))[0] == 2
        assert audit("--respawn", "--restart-with", "true", *server("careful"))[0] == 2
        for arguments in (
            ["--restarts", "4"],
            ["--restart", "NONE"],
            ["--port", "0"],
            ["--pause", "0"],
            ["--expect", "100"],
            ["--header", "nothing"],
            ["--path", "a b"],
            ["--header", "A: b\r\nC: d"],
        ):
            with pytest.raises(SystemExit) as ended:
                audit(*arguments, *server("careful"))
            assert ended.value.code == 2


def test_what_the_options_mean() -> None:
    """TLS costs clients a millisecond, so its rate is lower; late and slow clients are few."""
    assert parsed("--", "x").rate == 1000
    assert parsed("--tls", "--", "x").rate == 200
    options = parsed(*("--late", "--keepalive", "--slow-path", "/slow", "--method", "POST"), "--", "x")
    plans = {plan.client.value: plan for plan in options.plans(())}
    assert {name: plan.rate for name, plan in plans.items()} == {
        "plain": 1000,
        "late": 5,
        "keepalive": 500,
        "slow": 5,
    }
    assert plans["slow"].request.path == "/slow"
    assert plans["plain"].request[:2] == ("POST", "/")
    typed = parsed("--path", "/\udcff", "--body", "\udcff", "--header", "X: \udcff", "--", "x").request
    assert typed.wire().count(b"\xff") == 3
    assert str(options.way) == "SIGHUP"
    assert str(parsed("--respawn", "--", "x").way) == "SIGTERM and a new start"


@pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_nothing_is_left_after_a_sudden_end(end: signal.Signals) -> None:
    """Ctrl-C, or kill -9."""
    mark = uuid.uuid4().hex
    arguments = ["--pause", "10", "--rate", "10", *server("careful", mark)]
    code = f"from tests.reuseport.test_audit import audit; audit(*{arguments!r})"
    with started(sys.executable, "-c", code, cwd=ROOT, stderr=subprocess.DEVNULL) as auditor:
        until(lambda: len(processes(mark)) >= 3, "the auditor, the server and its worker")
        auditor.send_signal(end)
        auditor.wait(DEADLINE)
    until(lambda: processes(mark) == [], "all of them to end")


# -------------------------------------------------------------------------------------------- slow ones

TIMES = 1 if os.environ.get("MPTCP_SOCKOPT_FEWER") else 10  # an audit takes a quarter of a minute


@pytest.mark.slow
@pytest.mark.parametrize("one", planted.PLANTED, ids=lambda one: one.name)
def test_planted(one: planted.Planted) -> None:
    """Each is named rightly, 10 of 10."""
    for _ in range(TIMES):
        seen = planted.audit(one)
        assert seen.right, seen.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--respawn",),
        ("--restart-with", "kill -HUP $PID"),
        ("--unprotected",),
        ("--slow", "--method", "POST", "--body", "x=1"),
    ],
    ids=lambda options: options[0],
)
def test_a_careful_server_in_other_ways(options: tuple[str, ...]) -> None:
    """PASS."""
    code, out = audit(*QUICK, *options, *server("careful"))
    assert code == 0, out


def look_at_json(*arguments: str) -> Any:
    return json.loads(audit("--json", *arguments)[1])


@pytest.mark.slow
def test_a_unix_socket(tmp_path: Path) -> None:
    """Who answers is told by the kernel, with the answer."""
    path = str(tmp_path / "socket")
    found = look_at_json(*QUICK, "--unix", path, *server("unix", path))
    assert ": PASS: " in found["verdict"]
    assert found["restarts"]["judged"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("time", range(rounds(5)))
@pytest.mark.parametrize("loses", [True, False], ids=["reuse-port", "one-listener"])
def test_gunicorn(loses: bool, time: int) -> None:
    """At SIGHUP, sync workers with --reuse-port lose what waits in their queues; without it, nothing."""
    if importlib.util.find_spec("gunicorn") is None:
        raise Missing("gunicorn is not installed")
    code, out = audit(
        *(
            "--restarts",
            "20",
            "--rate",
            "400",
            "--",
            sys.executable,
            "-m",
            "gunicorn",
            "--chdir",
            str(SERVERS),
        ),
        *("--workers", "4", "--worker-class", "sync", *(["--reuse-port"] if loses else [])),
        *("--bind", "127.0.0.1:8000", "hello_wsgi:app"),
    )
    assert code == (1 if loses else 0), out
