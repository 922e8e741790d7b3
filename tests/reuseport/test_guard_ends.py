# SPDX-License-Identifier: MIT
"""However an audit ends, it leaves no process, namespace, mount, directory or file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mptcp_sockopt import testing
from reuseport import _net
from reuseport.audit import guard

from ..support import DEADLINE, rounds, started, until
from .guarded import USERS, guarded, home_of

ROOT = Path(__file__).parents[2]
KINDS = ("pid", "mnt", "ipc", "net", "user")


def namespaces(pid: int | str) -> set[str]:
    """What a process is in; nothing if it is not there."""
    found = set()
    for kind in KINDS:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


def members(names: set[str]) -> list[int]:
    """The processes that are in any of these."""
    return [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and namespaces(pid) & names]


def processes(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(user: str, who: str, number: int, *, unprotected: bool = False) -> None:
    """Kill one of the processes of an audit, and see that nothing is left."""
    mark = uuid.uuid4().hex
    with home_of(user) as home:
        before = Path("/proc/self/mountinfo").read_text()
        code = (
            "from tests.reuseport.guarded import wait_in_a_guard;"
            f"wait_in_a_guard({mark!r}, {user!r}, {home!r}, {unprotected})"
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with started(sys.executable, "-c", code, cwd=ROOT, **pipes) as auditor:
            assert auditor.stdout
            line = auditor.stdout.readline()
            assert line, "the auditor ended by itself"
            pids = json.loads(line)
            own = {name for pid in pids.values() for name in namespaces(pid)} - namespaces("self")
            expected = {"net"} | (set() if unprotected else {"pid", "mnt", "ipc"})
            if user == "user":
                expected.add("user")
            assert {name.partition(":")[0] for name in own} == expected
            inside = members(own)
            assert len(processes(mark)) >= 4
            assert len(inside) >= 5
            os.kill(pids[who], number)
            auditor.wait(DEADLINE)
        until(lambda: not any(map(is_there, {*inside, *pids.values()})), "all in its namespaces to end")
        assert processes(mark) == []
        assert Path("/proc/self/mountinfo").read_text() == before
        if not unprotected:
            assert os.listdir(home) == []
            assert not os.path.exists(f"/tmp/{mark}")
        else:
            os.unlink(f"/tmp/{mark}")


OTHERS = ("keeper", "trial", "launcher", "init", "cmd")


@pytest.mark.parametrize("who", ["auditor", *OTHERS])
def test_nothing_is_left_after_a_sudden_end(who: str) -> None:
    """kill -9, of any of its processes."""
    end("root" if os.getuid() == 0 else "user", who, signal.SIGKILL)


def test_nothing_is_left_after_ctrl_c() -> None:
    """Which the auditor gets, as a user."""
    end("user", "auditor", signal.SIGINT)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
# The keeper, of mptcp_sockopt.testing, blocks the others; PID 1 of a namespace is not even told.
HEARD = {"keeper": (signal.SIGTERM, signal.SIGKILL), "init": (signal.SIGKILL,)}


ENDS = [
    (who, number, user, unprotected)
    for who in ("auditor", *OTHERS)
    for number in HEARD.get(who, SIGNALS)
    for user in USERS
    for unprotected in (False, True)
]


@pytest.mark.slow
@pytest.mark.parametrize(("who", "number", "user", "unprotected"), ENDS[:: 6 - rounds(5)])
def test_nothing_is_left_after_any_end(who: str, number: int, user: str, unprotected: bool) -> None:
    """Any signal, to any process."""
    end(user, who, number, unprotected=unprotected)


@pytest.mark.parametrize("unprotected", [False, True])
def test_the_end_of_pid_1_is_told(unprotected: bool) -> None:
    """All questions fail with one sentence, and the guard can be closed."""

    def look(cage: guard.Guard) -> None:
        server = cage.start(["sleep", "306"])
        launcher = cage.launcher
        [child] = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        assert cage.alive()
        os.kill(launcher if unprotected else int(child), signal.SIGKILL)
        with pytest.raises(guard.GuardDiedError, match="PID 1 of the command's namespaces has ended"):
            server.wait(DEADLINE / 2)
        with pytest.raises(guard.GuardDiedError):
            cage.daemons()
        assert not cage.alive()
        cage.close()
        cage.close()

    with home_of("user") as home:
        guarded(look, "user", home, unprotected=unprotected)


@pytest.mark.parametrize("unprotected", [False, True])
def test_close_ends_it_also_if_forked_processes_go_on(unprotected: bool) -> None:
    """They have the socket to PID 1 too."""

    def trial() -> None:
        _net.enter_private_network()
        with guard.Guard(directory="/", home="/", unprotected=unprotected) as cage:
            server = cage.start(["sleep", "307"])
            if os.fork() == 0:
                signal.pause()
            init = cage.launcher
        assert not is_there(init)
        assert not is_there(server.outside)

    testing.in_child(trial)
