# SPDX-License-Identifier: MIT
"""How a restart is asked for: a signal to the right process, a command, or an end and a new start."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import NamedTuple

from mptcp_sockopt.cli import CannotRun

from . import family
from .guard import Guard, Process
from .listening import Place

SHELLS = frozenset("sh dash bash ash zsh ksh mksh fish busybox".split())


class GoneError(Exception):
    """The server has ended, so there is nobody to restart."""


class Way(NamedTuple):
    """How to restart."""

    signal: signal.Signals
    command: str | None = None
    """A shell's command, with the server's number in $PID."""
    respawn: bool = False
    """End the server by the signal, wait, and start it again."""

    def __str__(self) -> str:
        if self.command is not None:
            return repr(self.command)
        return f"{self.signal.name} and a new start" if self.respawn else self.signal.name


class Helper:
    """What goes on until a restart has been carried out: a command, or the end of the old server."""

    def __init__(self, guard: Guard, way: Way, words: Sequence[str], master: Process) -> None:
        self._guard, self._way, self._words, self._master = guard, way, words, master
        self._process: Process | None = None
        if way.command is not None:
            environment = {"PID": str(master.pid)}
            self._process = guard.start(["/bin/sh", "-c", way.command], environment, main=False)
        else:
            try:
                master.send_signal(way.signal)
            except ProcessLookupError:
                raise GoneError from None

    def is_done(self) -> bool:
        """Whether all has been asked for. Not to be called again, then. CannotRun if the command fails."""
        if self._process:
            code = self._process.poll()
            said = self._process.last_words()
            if code is not None:
                self._guard.forget(self._process)
            if code:
                raise CannotRun(f"--restart-with ended with status {code}{': ' if said else ''}{said}")
            return code is not None
        if self._way.respawn:
            if self._master.poll() is None:
                return False
            self._guard.start(self._words)
        return True


def master(guard: Guard, place: Place) -> Process:
    """Who is to be told to restart: the command itself; but if that is a wrapper, the server under it.

    A wrapper holds no listener, and has one child of another program, with all that hold one. GoneError if
    the server has ended, CannotRun if a shell has started several.
    """
    main = guard.main()
    if main is None:
        raise GoneError
    people = family.members(guard.proc, guard.processes())
    listening = family.holders(guard.proc, people, place.inodes())
    pid = main.pid
    if not _subtree(people, pid) & listening:
        # A daemon whose parent stays.
        daemons = [one.pid for one in guard.daemons() if _subtree(people, one.pid) & listening]
        pid = daemons[0] if len(daemons) == 1 else pid
    while pid not in listening:
        children = [child for child in family.below(people, pid) if _subtree(people, child) & listening]
        program = family.executable(guard.proc, pid)
        is_shell = os.path.basename(program) in SHELLS
        if len(children) == 1 and (is_shell or family.executable(guard.proc, children[0]) != program):
            pid = children[0]
        elif len(children) > 1 and is_shell:
            raise CannotRun(
                f"CMD is a shell with {len(children)} servers below it: which is to be restarted? "
                "Audit one of them, or name it by --restart-with"
            )
        else:
            break
    return main if pid == main.pid else guard.process(pid)


def _subtree(people: dict[int, family.Member], pid: int) -> set[int]:
    found, next_ones = {pid}, [pid]
    while next_ones:
        next_ones = [child for one in next_ones for child in family.below(people, one) if child not in found]
        found.update(next_ones)
    return found
