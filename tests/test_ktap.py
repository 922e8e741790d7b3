# SPDX-License-Identifier: MIT
"""The self test's runner, by itself: outcomes, deadlines, shortages, signals, streams that are closed."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mptcp_sockopt.selftest import _ktap

from .support import BUFFERINGS, run, until

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
    assert lines[6].startswith("# OSError: [Errno 95] no (breaks(), test_ktap.py:")


def test_a_skip_under_strict_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """And the reason stays."""
    script = functools.partial(settle_all, {0: skips})
    assert run_scripts(capsys, ["a"], strict=True, script=script) == (1, ["not ok 1 a", "# not here"])
    assert run_scripts(capsys, ["a"], strict=False, script=script) == (0, ["ok 1 a # SKIP not here"])


def test_a_process_that_hangs_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """With a deadline, and it does not outlive the run."""
    inward, outward = os.pipe()

    def hang(settle: _ktap.Settle) -> None:
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


def test_a_process_that_dies_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """By a signal, by its exit, by an exception outside a case, or by settling too little."""

    def crashes(settle: _ktap.Settle) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    def exits(settle: _ktap.Settle) -> None:
        os._exit(7)

    def raises(settle: _ktap.Settle) -> None:
        raise ConnectionRefusedError(111, "refused")

    for script, reason in (
        (crashes, "# no result: script ended with signal 10"),
        (exits, "# no result: script ended with status 7"),
        (
            raises,
            "# no result: script: ConnectionRefusedError: [Errno 111] refused (raises(), test_ktap.py:",
        ),
        (functools.partial(settle_all, {}), "# no result: its process ended before it"),
    ):
        code, lines = run_scripts(capsys, ["a"], script=script)
        assert (code, lines[0]) == (1, "not ok 1 a")
        assert lines[1].startswith(reason)


# --------------------------------------------------------------------------------------------- no verdict

SHORT = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EADDRINUSE]


def fails_with(error: Exception) -> Callable[[], None]:
    def case() -> None:
        raise error

    return case


@pytest.mark.parametrize(
    "error",
    [*(OSError(number, os.strerror(number)) for number in SHORT), MemoryError()],
    ids=lambda error: errno.errorcode.get(getattr(error, "errno", 0), "MemoryError"),
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_shortage_is_no_verdict(error: Exception, strict: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """In a case and outside: the run bails out, with the reason; what passed before has passed."""

    def outside(settle: _ktap.Settle) -> None:
        settle.case(0, passes)
        raise error

    inside = functools.partial(settle_all, {0: passes, 1: fails_with(error)})
    for script in (inside, outside):
        code = _ktap.run(["a", "b", "c"], {"script": script}, strict=strict, seconds=60)
        lines = capsys.readouterr().out.splitlines()
        assert (code, lines[:3]) == (3, ["TAP version 13", "1..3", "ok 1 a"])
        assert len(lines) == 4
        assert lines[3].startswith(f"Bail out! script: {type(error).__name__}: {error} (")


class SuffererFirst(selectors.DefaultSelector):
    """Has no news of others until the process "suffers" has spoken, and its news first from then on."""

    has_spoken = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        first = [news for news in ready if news[0].data == "suffers"]
        self.has_spoken = self.has_spoken or bool(first)
        return first or (ready if self.has_spoken else [])


def test_what_a_shortage_elsewhere_broke_has_not_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is first in the plan, and heard first."""
    short, told = os.pipe()

    def suffers(settle: _ktap.Settle) -> None:
        os.read(short, 1)
        settle.case(0, fails)

    def lacks(settle: _ktap.Settle) -> None:
        settle.case(1, fails_with(OSError(errno.EMFILE, "no more")))
        os.write(told, b"x")

    monkeypatch.setattr(selectors, "DefaultSelector", SuffererFirst)
    code = _ktap.run(["a", "b"], {"suffers": suffers, "lacks": lacks}, strict=False, seconds=60)
    os.close(short)
    os.close(told)
    lines = capsys.readouterr().out.splitlines()
    assert (code, len(lines)) == (3, 3)
    assert lines[2].startswith("Bail out! lacks: OSError: [Errno 24] no more")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU, signal.SIGQUIT])
def test_a_process_that_somebody_killed_is_no_verdict(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the kernel does when memory or time has run out."""

    def killed(settle: _ktap.Settle) -> None:
        settle.case(0, passes)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)  # a shell's background job inherits it ignored
        os.kill(os.getpid(), number)

    code = _ktap.run(["a", "b"], {"script": killed}, strict=False, seconds=60)
    lines = capsys.readouterr().out.splitlines()
    assert (code, lines[2:]) == (3, ["ok 1 a", f"Bail out! script ended with signal {int(number)}"])


def test_a_fork_that_is_refused_is_no_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """EAGAIN, where a user may have no more processes; nothing of the first ones stays."""
    fork, pids = os.fork, list[int]()

    def refuse() -> int:
        if len(pids) == 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        pid = fork()
        pids.append(pid)
        return pid

    scripts = {name: lambda settle: time.sleep(60) for name in "abc"}
    monkeypatch.setattr(os, "fork", refuse)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert _ktap.guard(lambda: _ktap.run(["a"], scripts, strict=True, seconds=60)) == 3
    assert capsys.readouterr().out.splitlines()[2:] == [
        "Bail out! [Errno 11] Resource temporarily unavailable"
    ]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# ------------------------------------------------------------------------------------------ time and signals


def state_of(pid: int) -> str:
    """R, S, T, Z ... of proc(5); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def is_gone(pid: int) -> bool:
    """Ended, whether or not somebody has fetched it."""
    return state_of(pid) in ("", "Z")


HANG = """
import sys, time
from mptcp_sockopt.selftest import _ktap
def script(settle):
    {script}
main = lambda: _ktap.run(['a', 'b'], {{'one': script, 'other': script}}, strict=False, seconds={seconds})
sys.exit(_ktap.guard(main))
"""


@pytest.fixture
def program() -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[int]]]]:
    """Start a run of two processes in a session of its own: it, and their numbers."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, seconds: float = 60, **options: object) -> tuple[subprocess.Popen[str], list[int]]:
        command = [sys.executable, "-c", HANG.format(script=script, seconds=seconds)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        child = subprocess.Popen(command, start_new_session=True, **pipes, **options)  # type: ignore[call-overload]
        started.append(child)
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        until(lambda: len(children.read_text().split()) == 2, "the children of the runner")
        return child, [int(pid) for pid in children.read_text().split()]

    yield start
    for child in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


Program = Callable[..., tuple[subprocess.Popen[str], list[int]]]


def test_time_in_which_it_was_stopped_does_not_count(program: Program) -> None:
    """^Z or a debugger stops all, the runner or a child: the deadline passes, and all pass afterwards."""
    script = "sys.stdin.read(1); settle.result(0, 'pass', ''); settle.result(1, 'pass', '')"
    # All three at once: they wait for seconds.
    (first, its), (second, _), (third, children) = (
        program(script, 3, stdin=subprocess.PIPE) for _ in range(3)
    )
    stopped = [first.pid, *its, second.pid, children[0]]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(state_of(pid) == "T" for pid in stopped), "the stop")
    time.sleep(3.5)  # more than they have
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)  # and they wait on
    for child in (first, second, third):
        output, errors = child.communicate("xx", timeout=30)
        assert (child.returncode, errors) == (0, ""), output
        assert "not ok" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_signals_leave_nothing_behind(
    number: signal.Signals, kill: Callable[[int, int], None], program: Program
) -> None:
    """Sent to it, or to its group: no traceback, no verdict, the shell's own exit code."""
    child, pids = program("time.sleep(60)")
    kill(child.pid, number)
    output, errors = child.communicate(timeout=30)
    assert (child.returncode, output, errors) == (128 + number, "TAP version 13\n1..2\n", "")
    assert all(map(is_gone, pids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGABRT])
def test_nothing_outlives_a_runner_that_was_killed(number: signal.Signals, program: Program) -> None:
    """Not even a process that ignores everything."""
    child, pids = program("time.sleep(60)")
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == -number
    until(lambda: all(map(is_gone, pids)), "the end of the children")


def test_ignored_signals_stay_ignored(program: Program) -> None:
    """As nohup(1) and a shell's background jobs start it; ignored SIGCHLD is nothing to it."""
    ignored = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)

    def ignore() -> None:
        for number in (*ignored, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)

    passing = "sys.stdin.read(1); settle.result(0, 'pass', ''); settle.result(1, 'pass', '')"
    child, _ = program(passing, stdin=subprocess.PIPE, preexec_fn=ignore)
    for number in ignored:
        os.killpg(child.pid, number)
    output, errors = child.communicate("xx", timeout=30)
    assert (child.returncode, errors) == (0, ""), output


# ------------------------------------------------------------------------------------------ closed streams


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(closed: str) -> None:
    """The exit code is the verdict; no descriptor of a case has the number of a standard stream."""
    script = "import os; lowest = os.dup(0); sys.exit(lowest) if lowest < 3 else settle.result(0, 'pass', '')"
    code = HANG.format(script=script + "; settle.result(1, 'pass', '')", seconds=30)
    found = run("bash", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code)
    assert (found.returncode, found.stderr) == (0, "")
    assert ("ok 2 b" in found.stdout) is (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize("env", BUFFERINGS, ids=["buffered", "unbuffered"])
def test_output_that_fails_is_said_elsewhere(env: dict[str, str]) -> None:
    """/dev/full: one sentence on standard error, exit 3; nothing where that is full too."""
    code = HANG.format(script="settle.result(0, 'pass', ''); settle.result(1, 'pass', '')", seconds=30)
    for full, errors in ((">", "Bail out! [Errno 28] No space left on device\n"), ("&>", "")):
        found = run("bash", "-c", f'exec "$0" -c "$1" {full}/dev/full', sys.executable, code, env=env)
        assert (found.returncode, found.stderr) == (3, errors)


@pytest.mark.parametrize("env", BUFFERINGS, ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("redirected", [">/dev/full", "&>/dev/full", ">/dev/full 2>&-"])
def test_output_that_fails_at_the_end_is_said_too(redirected: str, env: dict[str, str]) -> None:
    """What waits in a buffer, or was printed by a parser that then left, is written inside the guard."""
    code = "import sys; from mptcp_sockopt.selftest import _ktap; sys.exit(_ktap.guard({}))"
    for ending in ("lambda: print('x') or 0", "lambda: print('x') or sys.exit(0)"):
        command = f'exec "$0" -c "$1" {redirected}'
        found = run("bash", "-c", command, sys.executable, code.format(ending), env=env)
        said = "Bail out! [Errno 28] No space left on device\n" if redirected == ">/dev/full" else ""
        assert (found.returncode, found.stderr) == (3, said)
