# SPDX-License-Identifier: MIT
"""The processes of the audited command, as a /proc that shows them has them: who they are, what they hold."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """A program in a process. execve(2) keeps the pid, but the process gets another start of its stack."""

    pid: int
    started: int
    stack: int


class Member(NamedTuple):
    """A process of the command."""

    identity: Identity
    parent: int
    ended: bool


def member(proc: str, pid: int) -> Member | None:
    """None if it is gone."""
    try:
        with open(f"{proc}/{pid}/stat", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        identity = Identity(pid, int(fields[19]), int(fields[25]))
        return Member(identity, int(fields[1]), fields[0] in "ZXx")
    except (OSError, IndexError, ValueError):
        return None


def members(proc: str, pids: Iterable[int]) -> dict[int, Member]:
    """Those of these processes that live."""
    found = {pid: member(proc, pid) for pid in pids}
    return {pid: one for pid, one in found.items() if one and not one.ended}


def chain(people: Mapping[int, Member], pid: int) -> tuple[Identity, ...]:
    """A process and its ancestors among these, the nearest first."""
    found: list[Identity] = []
    while pid in people and people[pid].identity not in found:
        found.append(people[pid].identity)
        pid = people[pid].parent
    return tuple(found)


def below(people: Mapping[int, Member], pid: int) -> list[int]:
    """Its children."""
    return sorted(child for child, one in people.items() if one.parent == pid)


def descendants(pid: int) -> Iterator[int]:
    """All processes below one, as this process's own /proc has them."""
    try:
        children = [
            int(child)
            for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield child
        yield from descendants(child)


def executable(proc: str, pid: int) -> str:
    try:
        return os.readlink(f"{proc}/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def inodes(proc: str, pid: int) -> Iterator[int]:
    """The sockets that it holds; none, or not all, if it ends meanwhile."""
    try:
        folder = os.open(f"{proc}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            for name in os.listdir(folder):
                link = ""
                with contextlib.suppress(OSError):  # it was closed
                    link = os.readlink(name, dir_fd=folder)
                if link.startswith("socket:["):
                    yield int(link[len("socket:[") : -1])
    finally:
        os.close(folder)


def holder(proc: str, pids: Iterable[int], inode: int) -> int | None:
    """The first of these processes that holds a socket."""
    return next((pid for pid in pids if inode in inodes(proc, pid)), None)


def holders(proc: str, pids: Iterable[int], wanted: Collection[int]) -> set[int]:
    """Those of these processes that hold one of the sockets."""
    return {pid for pid in pids if any(inode in wanted for inode in inodes(proc, pid))}


def inside(pid: int) -> int:
    """The number of a process in its own PID namespace."""
    with open(f"/proc/{pid}/status", errors="replace") as file:
        (numbers,) = re.findall(r"^NSpid:\s*(.*)$", file.read(), re.MULTILINE)
    return int(numbers.split()[-1])
