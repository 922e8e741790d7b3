# SPDX-License-Identifier: MIT
"""Which program a process runs, as far as /proc shows it; whether two are the same; how one is started."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterable
from typing import NamedTuple


def with_default_signals() -> None:
    """For preexec_fn: no signal is ignored or blocked in the command, whatever this process inherited."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Program(NamedTuple):
    """What tells one program from another."""

    executable: str
    directory: str
    words: bytes
    """Its command line."""

    def __str__(self) -> str:
        words = b" ".join(self.words.split(b"\0")[:4]).decode(errors="replace").strip()
        return re.sub(r"[^ -~]", "?", f"{words[:40]} in {self.directory}")


def programs(pids: Iterable[int]) -> dict[int, Program]:
    """Those that may be looked at: a process wants the caller's uid, or the caller CAP_SYS_PTRACE."""
    found = {}
    for pid in set(pids):
        try:
            executable = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found[pid] = Program(executable, os.readlink(f"/proc/{pid}/cwd"), file.read())
        except OSError:
            pass  # not allowed, or it ended meanwhile
    return found


def are_strangers(one: Program, other: Program) -> bool:
    """Another executable; or another command line in another directory: an interpreter runs many programs.

    Workers that change their title, or a directory for each, are no strangers.
    """
    return one.executable != other.executable or (
        one.words != other.words and one.directory != other.directory
    )


def flush() -> None:
    """Before a fork: what is buffered would be written twice. Python has None for a stream that is closed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
