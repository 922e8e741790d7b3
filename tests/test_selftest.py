# SPDX-License-Identifier: MIT
"""python -m mptcp_sockopt.selftest, as people and scripts run it."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mptcp_sockopt import _ktap, _sandbox, selftest

from .support import has_full_info, in_private_network, rounds, run, until

COMMAND = (sys.executable, "-m", "mptcp_sockopt.selftest")
FLAG = {2: [], 10: ["-6"]}


def test_passes_here(family: int, tmp_path: Path) -> None:
    """In another folder; a plan, a line for every case in order, totals. Skips are of what 6.5 brought."""
    found = run(*COMMAND, *FLAG[family], cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout
    version, plan, *lines, totals = found.stdout.splitlines()
    assert version == "TAP version 13"
    count = len(lines)
    assert plan == f"1..{count}"
    assert [re.match(r"ok (\d+) \S", line)[1] for line in lines] == [str(n + 1) for n in range(count)]  # type: ignore[index]
    skips = [line for line in lines if "# SKIP" in line]
    assert all(re.search(r"# SKIP .*\(Linux 6\.5\)$", line) for line in skips), skips
    assert bool(skips) is not has_full_info()
    assert totals == f"# Totals: pass:{count - len(skips)} fail:0 xfail:0 xpass:0 skip:{len(skips)} error:0"


def test_lines_fit_a_terminal() -> None:
    """80 columns, a failing line included."""
    names = selftest.Plan().names
    assert max(len(f"not ok {len(names)} {name}") for name in names) < 80
    assert len(set(names)) == len(names)
    assert not [name for name in names if "#" in name or name[0].isdigit()]


def test_list_names_the_cases_and_runs_none() -> None:
    """One a line, as many as the plan."""
    found = run(*COMMAND, "--list")
    assert found.returncode == 0
    assert found.stdout.splitlines() == selftest.Plan().names


@pytest.mark.parametrize("words", [["--nonsense"], ["extra"], ["-7"]])
def test_usage_errors(words: list[str]) -> None:
    """Exit 2, and the usage on stderr."""
    found = run(*COMMAND, *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("usage: python -m mptcp_sockopt.selftest")


def test_help_states_the_exit_codes() -> None:
    """And fits 80 columns."""
    found = run(*COMMAND, "-h", env={**os.environ, "COLUMNS": "80"})
    assert found.returncode == 0
    assert "0 pass, 1 fail, 2 usage, 4 skip" in " ".join(found.stdout.split())
    assert max(map(len, found.stdout.splitlines())) <= 80


def switched_off(*words: str) -> tuple[int, str]:
    def look() -> tuple[int, str]:
        Path("/proc/sys/net/mptcp/enabled").write_text("0")
        found = run(*COMMAND, *words)
        return found.returncode, found.stdout

    return in_private_network(look)


def test_where_mptcp_is_switched_off_it_skips(mptcp: None) -> None:
    """Exit 4 with the reason; exit 1 under --strict."""
    code, output = switched_off()
    assert code == 4
    assert re.fullmatch(r"TAP version 13\n1\.\.0 # SKIP .*net\.mptcp\.enabled=0.*\n", output)
    code, output = switched_off("--strict")
    assert code == 1
    assert re.fullmatch(r"TAP version 13\n1\.\.1\nnot ok 1 .* # .*net\.mptcp\.enabled=0.*\n", output)


def test_without_a_loopback_it_skips(mptcp: None) -> None:
    """No IPv6 there: exit 4 with the reason."""

    def look() -> tuple[int, str]:
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        found = run(*COMMAND, "-6")
        return found.returncode, found.stdout

    code, output = in_private_network(look)
    assert code == 4
    assert "not even plain TCP works over ::1" in output


@pytest.mark.parametrize("family", [2, 10], ids=["v4", "v6"], indirect=False)
def test_subflow_endpoints_do_not_disturb(family: int) -> None:
    """As NetworkManager adds them by default: the connection under test gets a second subflow."""

    def look() -> list[str]:
        _sandbox.add_address("fd00::2")
        _sandbox.add_endpoint("127.0.0.2")
        _sandbox.add_endpoint("fd00::2")
        problems = []
        for _ in range(rounds(5)):
            found = run(*COMMAND, *FLAG[family])
            if found.returncode:
                problems.append(found.stdout)
        joins = re.findall(r"MPTcpExt: (.*)", Path("/proc/net/netstat").read_text())
        counts = dict(zip(joins[0].split(), joins[1].split(), strict=True))
        # Not every one is done before its connection ends.
        assert int(counts["MPJoinAckRx"]) >= 1, "no subflow came, so this test has shown nothing"
        return problems

    assert in_private_network(look) == []


def test_a_closed_pipe_ends_it_in_silence(tmp_path: Path, mptcp: None) -> None:
    """python -m mptcp_sockopt.selftest | head -n 1"""
    child = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.readline() == "TAP version 13\n"
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=30) == 128 + signal.SIGPIPE
    assert errors == ""


# ------------------------------------------------------------------------------- the runner, by itself

Script = Callable[[_ktap.Settle], None]


def run_scripts(
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    *,
    seconds: float = 5,
    strict: bool = False,
    **scripts: Script,
) -> tuple[int, list[str]]:
    code = _ktap.run(names, scripts, strict=strict, seconds=seconds)
    return code, capsys.readouterr().out.splitlines()[2:-1]


def passes() -> None:
    _ktap.check([1], "never said")


def fails() -> None:
    _ktap.check([], "1 is not 2")


def skips() -> None:
    raise _ktap.Skip("not here")


def breaks() -> None:
    raise OSError(95, "no")


def settle_all(cases: dict[int, Callable[[], None]], settle: _ktap.Settle) -> None:
    for number, case in cases.items():
        settle.case(number, case)


def test_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    """Each in the kernel's words, in the plan's order, whoever settles first."""
    one = functools.partial(settle_all, {3: passes, 0: passes, 2: skips})
    other = functools.partial(settle_all, {1: fails, 4: breaks})
    code, lines = run_scripts(capsys, list("abcde"), one=one, other=other)
    assert code == 1
    assert lines[:5] == ["ok 1 a", "not ok 2 b", "# 1 is not 2", "ok 3 c # SKIP not here", "ok 4 d"]
    assert lines[5] == "not ok 5 e"
    assert lines[6].startswith("# OSError: [Errno 95] no (breaks(), test_selftest.py:")


def test_a_skip_under_strict_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """And the reason stays."""
    script = functools.partial(settle_all, {0: skips})
    assert run_scripts(capsys, ["a"], strict=True, script=script) == (1, ["not ok 1 a", "# not here"])
    assert run_scripts(capsys, ["a"], strict=False, script=script) == (0, ["ok 1 a # SKIP not here"])


def test_a_process_that_hangs_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """With a deadline, and it does not outlive the run."""
    inward, outward = os.pipe()

    def hang(settle: _ktap.Settle) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # its own timer is of no help
        settle.case(0, passes)
        os.close(inward)
        os.write(outward, f"{os.getpid()}\n".encode())
        time.sleep(60)

    begun = time.monotonic()
    code, lines = run_scripts(capsys, ["a", "b"], seconds=0.5, script=hang)
    assert (code, lines) == (
        1,
        ["ok 1 a", "not ok 2 b", "# no result within the time: script did not end"],
    )
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(os.read(inward, 100)), 0)
    os.close(inward)
    os.close(outward)


def test_a_process_has_a_timer_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Should the runner be killed, it ends a second after the deadline, whatever it inherited."""

    def look() -> None:
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        _ktap.check(5 < left <= 6, f"the timer is at {left}")
        _ktap.check(signal.getsignal(signal.SIGALRM) is signal.SIG_DFL, "SIGALRM does not end it")

    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        assert run_scripts(capsys, ["a"], seconds=5, script=functools.partial(settle_all, {0: look})) == (
            0,
            ["ok 1 a"],
        )
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_process_that_dies_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """By a signal, by its exit, by an exception outside a case, or by settling too little."""

    def killed(settle: _ktap.Settle) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def exits(settle: _ktap.Settle) -> None:
        os._exit(7)

    def raises(settle: _ktap.Settle) -> None:
        raise ConnectionRefusedError(111, "refused")

    for script, reason in (
        (killed, "# no result: script ended with signal 15"),
        (exits, "# no result: script ended with status 7"),
        (
            raises,
            "# no result: script: ConnectionRefusedError: [Errno 111] refused (raises(), test_selftest.py:",
        ),
        (functools.partial(settle_all, {}), "# no result: its process ended before it"),
    ):
        code, lines = run_scripts(capsys, ["a"], script=script)
        assert (code, lines[0]) == (1, "not ok 1 a")
        assert lines[1].startswith(reason)


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """The children go with it, and there is no traceback."""
    code = (
        "import functools, sys, time\n"
        "from mptcp_sockopt import _ktap\n"
        "hang = lambda settle: time.sleep(60)\n"
        "main = lambda: _ktap.run(['a'], {'script': hang}, strict=False, seconds=60)\n"
        "sys.exit(_ktap.guard(main))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    until(lambda: children.read_text().split(), "the child of the runner")
    (grandchild,) = children.read_text().split()
    os.kill(child.pid, signal.SIGINT)
    output, errors = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGINT
    assert (output, errors) == ("TAP version 13\n1..1\n", "")
    assert not Path(f"/proc/{grandchild}").exists()
