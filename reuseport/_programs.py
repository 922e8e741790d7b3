# SPDX-License-Identifier: MIT
"""Which program a process runs, as /proc shows it, and whether two are the same; how one is started."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mptcp_sockopt.processes import Owner


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
    unit: str = ""
    """The systemd service that it belongs to: ``nginx.service``, ``app@.service`` for each instance."""

    def __str__(self) -> str:
        words = b" ".join(self.words.split(b"\0")[:4]).decode(errors="replace").strip()
        unit = f", {self.unit}" if self.unit else ""
        return re.sub(r"[^ -~]", "?", f"{words[:40]} in {self.directory}{unit}")


def programs(pids: Iterable[int]) -> dict[int, Program]:
    """The programs of the processes that the caller may inspect: by its uid, or with CAP_SYS_PTRACE."""
    found = {}
    for pid in set(pids):
        try:
            executable = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                directory = os.readlink(f"/proc/{pid}/cwd")
                found[pid] = Program(executable, directory, file.read(), unit_of(_groups(pid)))
        except OSError:
            pass  # not allowed, or it ended meanwhile
    return found


def _groups(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""  # a kernel without control groups


def unit_of(groups: str) -> str:
    """The service in the text of /proc/PID/cgroup, or "". A session's or a user's manager is none."""
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controllers == "name=systemd":
            names = [name for name in path.split("/") if name.endswith(".service")]
            if names and not names[-1].startswith("user@"):
                return re.sub(r"@.*\.service$", "@.service", names[-1])
    return ""


def are_strangers(one: Program, other: Program) -> bool:
    """Whether they are two programs: another executable or service, or other words in another directory.

    (An interpreter runs many programs.) Workers that change their title, or that have a directory each, are
    one program, and so are the instances of one template of services.
    """
    return (
        one.executable != other.executable
        or bool(one.unit and other.unit and one.unit != other.unit)
        or (one.words != other.words and one.directory != other.directory)
    )


def stranger(
    mine: Iterable[Owner], theirs: Iterable[Owner], programs: Mapping[int, Program]
) -> tuple[int, Program] | None:
    """The first of theirs, with its pid, if each of them is a stranger to each of mine."""
    ours = [programs[owner.pid] for owner in mine if owner.pid in programs]
    others = {owner.pid: programs[owner.pid] for owner in theirs if owner.pid in programs}
    if ours and others and all(are_strangers(x, y) for x in ours for y in others.values()):
        return min(others.items())
    return None
