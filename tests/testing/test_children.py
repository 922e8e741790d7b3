# SPDX-License-Identifier: MIT
"""Children that leave nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt.testing import _children

from ..support import DEADLINE, started, until

SECONDS = DEADLINE
ROOT = Path(__file__).parents[2]  # where `tests` can be imported


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def sleep_for_ever(*pipes: int) -> NoReturn:
    """Tell each pipe the pid, and stay."""
    for pipe in pipes:
        os.write(pipe, b"%d\n" % os.getpid())
    while True:
        signal.pause()


def leave_a_daemon(pipe: int) -> NoReturn:
    """Sleep, with an orphan in a session of its own that sleeps too and ignores what it may."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            sleep_for_ever(pipe)
        os._exit(0)
    os.wait()
    sleep_for_ever(pipe)


def two_pids(pipe: int) -> list[int]:
    data = b""
    while data.count(b"\n") < 2:
        more = os.read(pipe, 100)
        assert more, "they died before they lived"
        data += more
    return [int(line) for line in data.split()]


class Odd(Exception):  # noqa: N818  # not an error
    """Pickles, but does not unpickle."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("odd")


def test_in_child_returns() -> None:
    """Values come back pickled, whatever their size, from another process."""
    assert testing.in_child(lambda: (os.getpid(), "x" * 1_000_000), within=SECONDS)[0] != os.getpid()
    assert testing.in_child(lambda: None, within=SECONDS) is None


def test_in_child_raises() -> None:
    """The exception, its text and errno, from one that holds the child's traceback."""

    def refuse() -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")

    with pytest.raises(ConnectionRefusedError, match="nobody listens") as raised:
        testing.in_child(refuse, within=SECONDS)
    assert raised.value.errno == errno.ECONNREFUSED
    assert "in refuse" in str(raised.value.__cause__)


def test_what_cannot_be_pickled_is_said() -> None:
    """On the way out or on the way in."""

    def odd() -> None:
        raise Odd(1, 2)

    with pytest.raises(RuntimeError, match="cannot be pickled"):
        testing.in_child(lambda: sys.stdout, within=SECONDS)
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        testing.in_child(odd, within=SECONDS)


def test_a_child_that_is_killed_is_noticed() -> None:
    """At once, not at the deadline; by which signal is said."""
    with pytest.raises(testing.ChildDiedError, match="was killed by SIGKILL"):
        testing.in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), within=SECONDS)


def test_a_signal_without_a_name_is_named_by_its_number() -> None:
    """As real-time signals are."""
    number = signal.SIGRTMIN + 6
    with pytest.raises(testing.ChildDiedError, match=f"was killed by signal {number} "):
        testing.in_child(lambda: os.kill(os.getpid(), number), within=SECONDS)


def test_a_guard_that_is_killed_takes_its_child_along() -> None:
    """And that is noticed like the child's own end."""

    def kill_the_guard() -> NoReturn:
        os.kill(os.getppid(), signal.SIGKILL)
        sleep_for_ever()

    with pytest.raises(testing.ChildDiedError, match="was killed by SIGKILL"):
        testing.in_child(kill_the_guard, within=SECONDS)


def test_a_caller_that_ignores_sigchld() -> None:
    """The kernel gives it no status of its children: a result comes all the same, and none is left."""

    def caller() -> tuple[int, bool, bool]:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        inward, outward = os.pipe()
        result = testing.in_child(lambda: 1, within=SECONDS)
        with testing.Child(lambda: leave_a_daemon(outward)):
            pids = two_pids(inward)
            lived = all(map(alive, pids))
        with testing.Child(lambda: None) as ended:
            until(lambda: not alive(ended._guard), "the end of the guard")
        return result, lived, any(map(alive, pids))

    assert testing.in_child(caller, within=SECONDS) == (1, True, False)


def test_what_the_guard_lacks_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the caller's own error: no /proc, no descriptor. The function is not called."""

    def lacking(kept: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/proc/self/fd")

    monkeypatch.setattr(_children, "close_all_but", lacking)
    with pytest.raises(FileNotFoundError, match="/proc/self/fd"):
        testing.in_child(lambda: 1, within=SECONDS)


def test_a_handle_gives_its_result_once() -> None:
    """Then it has ended."""
    child = testing.Child(lambda: 1)
    assert child.result(SECONDS) == 1
    with pytest.raises(RuntimeError, match="ended"):
        child.result(SECONDS)


def test_at_the_deadline_descendants_are_gone() -> None:
    """All of them when TimeoutError is raised, and those in other sessions too."""
    inward, outward = os.pipe()
    child = testing.Child(lambda: leave_a_daemon(outward))
    pids = two_pids(inward)
    assert all(map(alive, pids))
    with pytest.raises(TimeoutError, match="more than"):
        child.result(0.01)
    assert not any(map(alive, pids))


def test_descendants_end_with_the_function() -> None:
    """What the function started and left is not there when in_child() returns."""

    def start() -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        return pid

    assert not alive(testing.in_child(start, within=SECONDS))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda end: end.name)
def test_descendants_die_with_the_caller(end: signal.Signals) -> None:
    """Of kill -9, of SIGTERM, of Ctrl-C; the caller's death is enough, it does nothing about it."""
    inward, outward = os.pipe()
    code = f"""
from tests.testing.test_children import leave_a_daemon, testing
testing.in_child(lambda: leave_a_daemon({outward}), within=60)
"""
    command = (sys.executable, "-c", code)
    with started(*command, cwd=ROOT, pass_fds=[outward], stderr=subprocess.DEVNULL) as caller:
        os.close(outward)
        pids = two_pids(inward)
        os.close(inward)
        caller.send_signal(end)
        caller.wait(SECONDS)
    until(lambda: not any(map(alive, pids)), "the end of a dead process's children")


def test_a_child_that_exits_is_noticed() -> None:
    """Without a result, and without a signal."""
    with pytest.raises(testing.ChildDiedError, match="ended by itself"):
        testing.in_child(lambda: os._exit(3), within=SECONDS)


def test_the_guard_holds_a_pipe_alone() -> None:
    """And that before the function begins: a listener that all others closed is closed."""

    def descriptors_of_parent() -> list[str]:
        folder = f"/proc/{os.getppid()}/fd"
        return [os.readlink(f"{folder}/{name}").partition(":")[0] for name in os.listdir(folder)]

    assert testing.in_child(descriptors_of_parent, within=SECONDS) == ["pipe"]
