# SPDX-License-Identifier: MIT
"""audit: servers that are known to lose, or not to; kinds of loss; and nothing left behind."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt.cli import CannotRun
from mptcp_sockopt.processes import listeners
from reuseport import _audit, _load
from reuseport._load import Exchange, Tally, Target, attempt, open_loop
from reuseport._net import LOOPBACK, Reuse, listen

from ..support import DEADLINE, Missing, at_work, in_private_network, started, until

ROOT = Path(__file__).parents[2]
SERVERS = Path(__file__).parent / "servers"
QUICK = ("--conns", "600", "--rate", "1000", "--every", "0.12")


def audit(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    parser = argparse.ArgumentParser()
    _audit.add_arguments(parser, "audit")
    options = _audit.Options(command="audit", **vars(parser.parse_args(arguments)))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = _audit.run(options)
    return code, out.getvalue()


def toy(mode: str, mark: str = "") -> tuple[str, ...]:
    return ("--", sys.executable, str(SERVERS / "toy.py"), mode, mark)


def processes(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
    return found


def test_a_server_that_loses_nobody() -> None:
    """Its workers share one listener and finish what they have: PASS, with the bound of 0 of n.

    Nothing is left, though they are in sessions of their own.
    """
    mark = uuid.uuid4().hex
    code, out = audit(*QUICK, *toy("careful", mark))
    verdict = re.fullmatch(
        r"AUDIT: lost 0 of (\d+) in 5 restarts \(95 % bound (\S+)\): PASS", out.splitlines()[-1]
    )
    assert verdict
    assert int(verdict[1]) >= 600
    assert float(verdict[2]) == pytest.approx(3 / int(verdict[1]), rel=0.05)
    assert code == 0
    assert processes(mark) == []


@pytest.mark.parametrize("own", [True, False], ids=["reuseport", "fork"])
def test_shares_are_told_by_process(own: bool, family: int) -> None:
    """Of processes that a server has, whichever way they share its port."""

    def look() -> tuple[dict[int, int], list[int]]:
        reuse = Reuse.PORT if own else Reuse.NONE
        listeners = [listen((LOOPBACK[family], 5000), reuse, family=family) for _ in range(3 if own else 1)]
        pids = []
        for number in range(3):
            pids.append(os.fork())
            if pids[-1] == 0:
                mine = listeners[number % len(listeners)]
                while True:
                    with mine.accept()[0] as sock:
                        sock.recv(1)
        for listener in listeners:
            listener.close()
        try:
            shares = _audit._shares(Target((LOOPBACK[family], 5000), family, mptcp=False))
            return {share["pid"]: share["connections"] for share in shares}, pids
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    shares, pids = in_private_network(look)
    assert set(shares) <= set(pids)
    assert sum(shares.values()) == _audit.PROBES
    assert len(shares) == 3
    assert min(shares.values()) > 10


def test_a_server_that_loses_its_queue() -> None:
    """It closes its listener at every restart: FAIL, and the kinds add up."""
    code, out = audit(*QUICK, "--json", *toy("careless"))
    found = json.loads(out)
    assert code == 1
    assert found["lost"] == sum(found["kinds"].values()) > 0
    assert found["kinds"]["eof"] == 0
    assert found["restarts"] == 5
    assert 1 <= found["replaced"] <= 5  # a starved server may be told twice before it has restarted once
    assert found["conns"] >= 600
    assert found["verdict"] == f"AUDIT: lost {found['lost']} of {found['conns']} in 5 restarts: FAIL"


@pytest.mark.parametrize("inherited", ["default", "ignored", "blocked"])
def test_a_server_that_dies(inherited: str) -> None:
    """Of its first SIGHUP; that is a FAIL, whatever was lost. What the auditor's own parent made of the
    signal, as nohup does, is no business of the server."""

    def look() -> tuple[int, str]:
        if inherited == "ignored":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        elif inherited == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        return audit(*QUICK, *toy("mortal"))

    code, out = testing.in_child(look)
    assert code == 1
    assert out.splitlines()[-1].endswith(" in 1 restarts, then CMD ended (killed by SIGHUP): FAIL")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (toy("deaf"), "SIGHUP restarted nothing"),
        (toy("hasty"), r"ended \(exit status 1\) before it listened on port 8000: no configuration"),
        (("--", "/no/such/server"), "/no/such/server: No such file"),
    ],
    ids=["deaf", "hasty", "missing"],
)
def test_what_cannot_be_audited(command: tuple[str, ...], reason: str) -> None:
    """Exit status 3, and the reason: no restart is not a restart without loss."""
    with pytest.raises(CannotRun, match=reason):
        audit(*QUICK, *command)


def test_usage() -> None:
    """No command, fewer than five restarts, unknown signal, no pause or a long one: 2."""
    with contextlib.redirect_stderr(io.StringIO()):
        assert audit()[0] == 2
        for arguments in (
            ["--restarts", "4"],
            ["--restart", "NONE"],
            ["--port", "0"],
            ["--every", "0"],
            ["--every", "61"],
        ):
            with pytest.raises(SystemExit) as ended:
                audit(*arguments, *toy("careful"))
            assert ended.value.code == 2


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_sudden_end(end: signal.Signals) -> None:
    """Ctrl-C, or kill -9."""
    mark = uuid.uuid4().hex
    arguments = ["--every", "10", "--rate", "10", *toy("careful", mark)]
    code = f"from tests.reuseport.test_audit import audit; audit(*{arguments!r})"
    with started(sys.executable, "-c", code, cwd=ROOT, stderr=subprocess.DEVNULL) as auditor:
        until(lambda: len(processes(mark)) >= 3, "the auditor, the server and its worker")
        auditor.send_signal(end)
        auditor.wait(DEADLINE)
    until(lambda: processes(mark) == [], "all of them to end")


# ---------------------------------------------------------------------------------------------- loader


@contextlib.contextmanager
def answering(behave: Any) -> Iterator[tuple[str, int]]:
    """A server that does the same to every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    behave(server.accept()[0])

        with at_work(work):
            try:
                yield server.getsockname()
            finally:
                server.shutdown(socket.SHUT_RDWR)


def load(address: tuple[str, int], exchange: Exchange = _audit._http) -> Tally:
    """Three connections at least, as audit makes them."""
    target = Target(address, family=socket.AF_INET, mptcp=False)
    return open_loop(target, rate=1000, until=lambda tally: tally.started >= 3, exchange=exchange)


def reply(*parts: bytes) -> Any:
    def behave(sock: socket.socket) -> None:
        with sock:
            sock.recv(1000)
            for part in parts:
                sock.sendall(part)

    return behave


def reset(sock: socket.socket) -> None:
    with sock:
        sock.recv(1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (reply(HEAD, b"Content-Length: 2\r\n\r\nok"), "served"),
        (reply(HEAD, b"Content-Length: 3\r\n\r\nok"), "eof"),
        (reply(HEAD, b"\r\nok"), "served"),
        (reply(HEAD), "eof"),
        (reply(HEAD, b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "served"),
        (reply(HEAD, b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), "eof"),
        (reply(b"nonsense"), "eof"),
        (reply(), "eof"),
        (reset, "reset"),
    ],
    ids="length short end headless chunked truncated nonsense eof reset".split(),
)
def test_kinds(behave: Any, kind: str) -> None:
    """An answer is served when it is complete."""
    with answering(behave) as address:
        done = load(address)
    assert dict(done.kinds) == {kind: done.total}
    assert done.lost == (0 if kind == "served" else done.total)


def test_refused() -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    assert set(load(address).kinds) == {"refused"}


def test_reset_in_the_queue() -> None:
    """The listener is closed before it accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Target(server.getsockname(), family=socket.AF_INET, mptcp=False)

        def over(tally: Tally) -> bool:
            waiting = sum(found.queue for found in listeners(target.address[1]))
            if waiting < max(3, tally.started):
                return False
            server.close()
            return True

        tally = open_loop(target, rate=100, until=over, exchange=_audit._http)
    assert dict(tally.kinds) == {"reset": tally.total}


def test_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody accepts, or nobody answers."""
    monkeypatch.setattr(_load, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert set(load(server.getsockname()).kinds) == {"stalled"}


def test_an_answer_that_never_ends_is_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though something comes all the time."""
    monkeypatch.setattr(_audit, "PATIENCE", 0.1)

    def drip(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while True:
                sock.sendall(b"x")

    with answering(drip) as address:
        target = Target(address, family=socket.AF_INET, mptcp=False)
        tally = Tally()
        attempt(target, tally, exchange=_audit._http)
    assert dict(tally.kinds) == {"stalled": 1}


def test_slow_is_not_lost() -> None:
    """It is reported besides."""
    with answering(reply(HEAD, b"\r\n")) as address:
        target = Target(address, family=socket.AF_INET, mptcp=False)
        done = Tally(slow_after=0.0)
        attempt(target, done, exchange=_audit._http)
    assert (done.lost, done.slow) == (0, 1)


def test_server_errors_are_not_lost() -> None:
    """Status 5xx is an answer."""
    with answering(reply(b"HTTP/1.1 503 Busy\r\n\r\n")) as address:
        done = load(address)
    assert (done.lost, dict(done.served_by)) == (0, {503: done.total})


def test_raw() -> None:
    """One byte is an answer; the end is none."""

    def byte(sock: socket.socket) -> None:
        with sock:
            sock.sendall(b"x")

    for behave, kind in ((byte, "served"), (socket.socket.close, "eof")):
        with answering(behave) as address:
            assert set(load(address, _audit._first_byte).kinds) == {kind}


# -------------------------------------------------------------------------------------------- gunicorn


@pytest.mark.slow
@pytest.mark.parametrize("time", range(5))
@pytest.mark.parametrize("loses", [True, False], ids=["reuse-port", "one-listener"])
def test_gunicorn(loses: bool, time: int) -> None:
    """At SIGHUP, sync workers with --reuse-port lose what waits in their queues; without it, nothing."""
    if importlib.util.find_spec("gunicorn") is None:
        raise Missing("gunicorn is not installed")
    code, out = audit(
        *("--restart", "HUP", "--", sys.executable, "-m", "gunicorn", "--chdir", str(SERVERS)),
        *("--workers", "4", "--worker-class", "sync", *(["--reuse-port"] if loses else [])),
        *("--bind", "127.0.0.1:8000", "hello_wsgi:app"),
    )
    assert code == (1 if loses else 0), out
