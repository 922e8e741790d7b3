# SPDX-License-Identifier: MIT
"""Programs under ``mptcp-sockopt run``, and beside it without."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mptcp_sockopt import testing

from .. import support
from ..support import Missing, until

T = TypeVar("T")

RUN = (sys.executable, "-m", "mptcp_sockopt", "run")
PYTHON = sys.executable
VERBOSE, STRICT = ("--verbose",), ("--strict",)
# Prints SO_PROTOCOL of a TCP socket of each family.
PROTOCOLS = """
import socket
for family in socket.AF_INET, socket.AF_INET6:
    print(socket.socket(family).getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL))
"""
IPPROTO_MPTCP, IPPROTO_TCP = "262", "6"
_REPORT = re.compile(
    r"^mptcp-sockopt run: made (\d+), passed on (\d+) \(refused (\d+),\n"
    r"  other namespace (\d+), unreadable (\d+)\), caller gone (\d+)\n\Z",
    re.MULTILINE,
)
_COUNTERS = ("made", "passed on", "refused", "other namespace", "unreadable", "gone")


def under_run(*command: str, options: tuple[str, ...] = (), **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command under it to the end, which includes its children."""
    return support.run(*RUN, *options, "--", *command, **more)


def python(code: str, *, options: tuple[str, ...] = (), **more: Any) -> str:
    """What a Python program under it prints; it must succeed, and nothing be said on standard error."""
    done = under_run(PYTHON, "-c", code, options=options, **more)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def counted(stderr: str) -> dict[str, int]:
    """The report of --verbose, which is the end of what was said; counters that are not 0."""
    found = _REPORT.search(stderr)
    assert found, stderr
    numbers = dict(zip(_COUNTERS, map(int, found.groups()), strict=True))
    assert numbers["passed on"] == numbers["refused"] + numbers["other namespace"] + numbers["unreadable"]
    return {name: number for name, number in numbers.items() if number}


@functools.cache
def _fault() -> str:
    return under_run("true", options=("--strict",)).stderr.strip()


def needs_run() -> None:
    """This test is about what `run` does where it works."""
    if _fault():
        raise Missing(_fault())


def status_of(pid: int) -> dict[str, str]:
    """Of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def supervisor_of(pid: int) -> int:
    """The supervisor of the program with this PID, which is in its name."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            words = Path(f"/proc/{name}/cmdline").read_bytes().rstrip(b"\0")
            if words == b"mptcp-run %d" % pid:
                found.append(int(name))
    (supervisor,) = found
    return supervisor


def gone(pid: int) -> None:
    """Wait until this process has ended, whether or not anybody reaps it."""

    def ended() -> bool:
        try:
            return status_of(pid)["State"].startswith("Z")
        except (FileNotFoundError, ProcessLookupError):
            return True

    until(ended, f"the end of process {pid}")


def descriptors(pid: int) -> dict[int, str]:
    folder = f"/proc/{pid}/fd"
    return {int(number): os.readlink(f"{folder}/{number}") for number in os.listdir(folder)}


def foreign_listener(function: Callable[[], T]) -> T:
    """Call function in a forked process that has a listener already, and nobody of ours at it."""

    def inside() -> T:
        allow = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
        program = ctypes.create_string_buffer(allow, len(allow))
        head = struct.pack("@HP", 1, ctypes.addressof(program))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        if libc.syscall(support.calls()["seccomp"], 1, 8, head) < 0:  # SECCOMP_FILTER_FLAG_NEW_LISTENER
            raise Missing(f"seccomp with a listener: {os.strerror(ctypes.get_errno())}")
        return function()

    return testing.in_child(inside)
