# SPDX-License-Identifier: MIT
"""MPTCP for a program as it is: the door to csrc/seccomp_run.h."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .abi import ffi, lib

# What was refused, as a sentence; where the errno adds something, it follows.
_WITH_ERRNO = {
    lib.RUN_CLONE: "no process could be started to make MPTCP sockets",
    lib.RUN_FILTER: "this system refuses a seccomp filter with a listener",
    lib.RUN_SETTLE: "the process that makes MPTCP sockets could not be set up",
    lib.RUN_LOST: "the seccomp listener was lost, and sockets now fail",
}
_ALONE = {
    lib.RUN_MACHINE: "no seccomp filter is known for this processor",
    lib.RUN_SOCKETCALL: "the C library of this processor makes sockets by socketcall(2), which a seccomp "
    "filter cannot follow",
    lib.RUN_KERNEL: "this kernel's seccomp cannot give a program a socket: Linux 5.14 is needed",
    lib.RUN_LISTENER: "something else already answers for this process's system calls by seccomp, "
    "as some containers do",
    lib.RUN_PROC: "the /proc of this PID namespace is needed, and not mounted here",
}


class BrokenError(OSError):
    """A filter is installed, and nobody answers: the sockets of this process fail with ENOSYS."""


def begin(*, strict: bool = False, report: int = -1) -> bool:
    """``seccomp_run_begin()``: the TCP sockets of this thread and of what it starts are MPTCP from now on.

    report is a descriptor, or negative: what was done is written to it when the last of these programs has
    ended. False if an earlier call, in an ancestor of this process, already does that. OSError if it cannot
    be done here; then nothing has changed, unless it is a BrokenError.
    """
    result: int = lib.seccomp_run_begin(strict, report)
    if result >= 0:
        return result != lib.RUN_NESTED
    what, number = -result >> 12, -result & lib.MOST_ERRNO
    sentence = _ALONE.get(what) or f"{_WITH_ERRNO[what]}: {os.strerror(number)}"
    raise (BrokenError if what == lib.RUN_LOST else OSError)(number, sentence)


def execute(command: Sequence[str]) -> OSError:
    """``execvp(3)``: become this program. If that fails, returns why.

    SIGPIPE and SIGXFSZ, which Python ignores, get their default actions: what they had before is not known.
    """
    words = [ffi.new("char[]", os.fsencode(word)) for word in command]
    number = -lib.seccomp_run_exec(ffi.new("char *[]", [*words, ffi.NULL]))
    return OSError(number, os.strerror(number), command[0])
