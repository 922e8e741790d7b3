# SPDX-License-Identifier: MIT
"""Which program a process runs, as /proc shows it, and whether two are the same; how one is started."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from typing import NamedTuple


def with_default_signals() -> None:
    """For preexec_fn: the command ignores and blocks no signal, whatever this process inherited."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Program(NamedTuple):
    """What distinguishes one program from another."""

    executable: str
    directory: str
    words: bytes
    """Its command line."""

    def __str__(self) -> str:
        words = b" ".join(self.words.split(b"\0")[:4]).decode(errors="replace").strip()
        return re.sub(r"[^ -~]", "?", f"{words[:40]} in {self.directory}")


def programs(pids: Iterable[int]) -> dict[int, Program]:
    """The programs of the processes that the caller may inspect: by its uid, or with CAP_SYS_PTRACE."""
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
    """Whether they are two programs: another executable, or another command line in another directory.

    (An interpreter runs many programs.) Workers that change their title, or that have a directory each, are
    one program.
    """
    return one.executable != other.executable or (
        one.words != other.words and one.directory != other.directory
    )
