# SPDX-License-Identifier: MIT
"""Commands in a guard, as root and as a user; and a program that waits in one, to be killed."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mptcp_sockopt import testing
from reuseport import _net
from reuseport.audit import _syscalls, guard

from ..support import DEADLINE, NOBODY, Missing, become_nobody, needs_root

T = TypeVar("T")
USERS = ("root", "user")
_PR_SET_DUMPABLE = 4


def become(user: str) -> None:
    """Root stays so. The user is nobody, or whoever runs the tests."""
    if user == "root":
        needs_root()
    elif os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        become_nobody()
        # Else /proc/self is root's, as it is not for somebody who logged in.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        _syscalls.die_with_parent(signal.SIGKILL)  # as Child has it; other ids reset it


def guarded(
    work: Callable[[guard.Guard], T],
    user: str,
    directory: str,
    *,
    before: Callable[[], object] = lambda: None,
    home: str | None = None,
    unprotected: bool = False,
) -> T:
    """Call work in another process, with a guard whose working directory, and HOME, this is."""

    def trial() -> T:
        before()
        become(user)
        _net.enter_private_network()
        with guard.Guard(directory=directory, home=home or directory, unprotected=unprotected) as cage:
            return work(cage)

    return testing.in_child(trial, within=DEADLINE)


def shell(cage: guard.Guard, script: str) -> str:
    """What a script says, to its end; its exit status comes last."""
    process = cage.start(["sh", "-c", script])
    code = process.wait(DEADLINE / 2)
    return f"{process.output().decode()}{code}"


def python(user: str) -> str:
    """A Python that the user may execute."""
    if user == "root" or os.getuid():
        return sys.executable
    path = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if path is None:
        raise Missing("a Python that everybody may execute")
    return path


@contextlib.contextmanager
def home_of(user: str) -> Iterator[str]:
    """A directory of the user's own."""
    with tempfile.TemporaryDirectory(prefix="guard-") as path:
        if user != "root" and os.getuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        yield path


def own_mounts() -> None:
    """Mounts that are made now are seen by this process and its children only."""
    needs_root()
    _syscalls.unshare(_syscalls.CLONE_NEWNS)
    _syscalls.mount("none", "/", flags=_syscalls.MS_REC | _syscalls.MS_PRIVATE)


def mount_tmpfs(path: Path | str, mode: int = 0o755) -> None:
    _syscalls.mount("tmpfs", str(path), "tmpfs", 0, f"mode={mode:o}")


def wait_in_a_guard(mark: str, user: str, directory: str, unprotected: bool) -> None:
    """Print the pids of all that is at work, and wait for the end of the command, which does not come."""
    auditor = os.getpid()

    def work(cage: guard.Guard) -> None:
        daemon = f"(setsid sh -c 'sleep 600; : {mark}' &)"
        script = f"touch /tmp/{mark} ~/{mark}; {daemon}; trap exit INT HUP QUIT; sleep 600 & echo up; wait"
        server = cage.start(["sh", "-c", script], {"HOME": directory})
        while b"up" not in server.output():
            signal.sigtimedwait((), 0.01)
        launcher = cage.launcher
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        pids = {
            "auditor": auditor,
            "keeper": os.getppid(),
            "trial": os.getpid(),
            "launcher": launcher,
            "init": int(launcher if unprotected else children[0]),
            "cmd": server.outside,
        }
        print(json.dumps(pids), flush=True)
        server.wait(DEADLINE)

    guarded(work, user, directory, unprotected=unprotected)
