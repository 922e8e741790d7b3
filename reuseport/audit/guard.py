# SPDX-License-Identifier: MIT
"""Run a command where it cannot harm the live system, and where nothing of it can stay behind.

The command has PID, mount and IPC namespaces of its own, besides the network namespace of the caller. It
writes to memory in a few directories, and everything else is read-only. So a pid file, a log or a unix socket
of a live server with the same configuration stays as it is, and a pid file of a live server names nobody.
This guards against accidents, not against malice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from mptcp_sockopt.cli import CannotRun, escaped

from .._net import receive_fds
from . import _init, _mounts, family
from ._ids import allow_low_ports, needed
from ._written import Change as Change
from ._written import Written as Written
from ._written import written

UNKNOWN = _init.UNKNOWN
UNPROTECTED_HELP = (
    "let CMD write to the live system's files, and see its processes, where they cannot be protected"
)
# Without privilege, an overlay does not copy a file of another user or group: EOVERFLOW.
_REFUSALS = (errno.EROFS, errno.EOVERFLOW)
_COVERED = ("/run", "/var", "/tmp", "/dev/shm")


class GuardDiedError(OSError):
    """PID 1 of the namespaces is gone, and everything that was inside.

    Thread rule: for the thread that caught it.
    """


class Protection(NamedTuple):
    """How the live system is protected from the command."""

    protected: bool
    overlays: tuple[str, ...]
    """The directories in which the command writes to memory."""
    read_only: tuple[tuple[str, str], ...]
    """Those that should be among them but stayed read-only, and why."""
    unsealed: str
    """Why everything else is not read-only; empty if it is."""

    @property
    def sentence(self) -> str:
        """For a report."""
        if not self.protected:
            return "CMD was unprotected: what it wrote is in the live system's files"
        elsewhere = (
            f"; elsewhere to files, for {self.unsealed}" if self.unsealed else "; all else was read-only"
        )
        inside = (
            f"CMD wrote to memory in {', '.join(self.overlays)}"
            if self.overlays
            else "CMD could write nothing"
        )
        return f"{inside}{elsewhere}"

    def asdict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "read_only": dict(self.read_only), "sentence": self.sentence}


def refusal(words: str, protection: Protection) -> str:
    """Why the command met a read-only file, if its last words say that it did; else nothing."""
    if not protection.protected or not any(os.strerror(number) in words for number in _REFUSALS):
        return ""
    where = ", ".join(protection.overlays) or "no directory"
    why = "".join(f"; {path} is read-only: {reason}" for path, reason in protection.read_only)
    return f"CMD may write in {where} only, so that live files are unharmed{why}. --unprotected lets it write"


class Process:
    """A process of the command. Guard makes it.

    Thread rule: for the thread that made the guard.
    """

    def __init__(self, guard: Guard, pid: int, fd: int, output: int) -> None:
        self.pid = pid
        self._guard, self._fd, self.output_fd = guard, fd, output
        self._code: int | None = None
        with open(f"/proc/self/fdinfo/{fd}") as file:
            self.outside = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))

    def fileno(self) -> int:
        """The pidfd, readable once the process has ended."""
        return self._fd

    def send_signal(self, number: int) -> None:
        """ProcessLookupError if it has ended."""
        signal.pidfd_send_signal(self._fd, number)

    def has_ended(self) -> bool:
        """Whether it has ended, without a word with PID 1."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def poll(self) -> int | None:
        """None while it lives, then its exit status, or -N if signal N killed it, or UNKNOWN."""
        return self._ended(0)

    def wait(self, within: float) -> int:
        """What poll() says at its end. TimeoutError if it takes more than within seconds."""
        code = self._ended(within)
        if code is None:
            raise TimeoutError(f"process {self.pid} has not ended after {within:g} s")
        return code

    def _ended(self, within: float) -> int | None:
        if self._code is None:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            poll.register(self._guard, 0)  # the end of PID 1; unprotected, the command lives on
            if poll.poll(within * 1000):
                self._code = self._guard.status_of(self.pid)
        return self._code

    def output(self) -> bytes:
        """What it and its descendants wrote to stdout and stderr; of more than 16 MB, only the end."""
        return os.pread(self.output_fd, _init.KEPT + (1 << 20), 0)

    def last_words(self, size: int = 1000) -> str:
        """The end of that, as text for any terminal."""
        length = os.fstat(self.output_fd).st_size
        return escaped(os.pread(self.output_fd, size, max(0, length - size)).decode(errors="replace")).strip()

    def close(self) -> None:
        """Close the pidfd."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Guard:
    """``with Guard() as guard:`` namespaces for a command; ``guard.start(words)`` runs it there.

    When the block ends, so does everything inside, and nothing is left: no process, namespace, mount or
    file. The same happens when this process dies. CannotRun if the live system cannot be protected.

    Thread rule: for one thread, which must outlive it. Processes forked from it may read ``proc`` and what
    reach() returned.
    """

    def __init__(
        self, *, unprotected: bool = False, directory: str | None = None, home: str | None = None
    ) -> None:
        self._fds: list[int] = []
        self._processes: dict[int, Process] = {}
        self._over: list[Process] = []  # their pids are others' now
        self._reached: dict[str, str] = {}
        self._main: Process | None = None
        ids = needed()
        if ids:
            allow_low_ports()
        directory = directory or _working_directory()
        home = os.environ.get("HOME", "") if home is None else home
        covered = (*_COVERED, os.environ.get("TMPDIR", ""), home, directory)
        wanted = [] if unprotected else _mounts.wanted(covered, privileged=ids is None)
        orders = _init.Orders(not unprotected, ids, wanted, directory)
        #: The pid, as seen here, of the process whose descendants all of them are.
        self.launcher, self._control = _init.launch(orders)
        try:
            self._control.settimeout(60)
            try:
                ready, fds = self._hear()
            except (OSError, RuntimeError) as error:
                if unprotected:
                    raise
                raise _cannot(_reason(error)) from error
            self._fds += fds
            self.protection = _protection(ready)
        except BaseException:
            self.close()
            raise
        self._ready: _init.Ready = ready
        self._output = self._new_output()  # of the command that was started last
        #: Where to look at the command's processes; valid in this process and those that it forks.
        self.proc = "/proc" if unprotected else f"/proc/self/fd/{fds[0]}"

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything inside, and wait for that. May be called again."""
        launcher, self.launcher = self.launcher, 0
        if not launcher:
            return
        with contextlib.suppress(OSError):  # it has ended
            self._control.shutdown(socket.SHUT_RDWR)  # not only close(): forked processes may have it too
        self._control.close()
        with contextlib.suppress(ChildProcessError):  # somebody ignores SIGCHLD
            os.waitpid(launcher, 0)
        for process in (*self._processes.values(), *self._over):
            process.close()
        for fd in self._fds:
            os.close(fd)

    # ------------------------------------------------------------------------------------------ processes

    def start(
        self, words: Sequence[str], environment: Mapping[str, str] | None = None, *, main: bool = True
    ) -> Process:
        """Run a command, with additions to the environment. CannotRun if there is no such program.

        It gets a session of its own, no input, and the default action of every signal. main=False is for a
        command that restarts the other one.
        """
        output = self._new_output()
        try:
            pid, fds = self._ask("start", list(words), dict(environment or {}), fds=[output])
        except GuardDiedError:
            raise
        except OSError as error:
            raise CannotRun(f"{words[0]}: {error.strerror}") from None
        process = self._known(pid, fds[0], output)
        if main:
            if self._main:  # it was started again
                self.forget(self._main)
            self._main, self._output = process, output
        return process

    @property
    def command(self) -> Process | None:
        """The command, as it was started last."""
        return self._main

    def forget(self, process: Process) -> None:
        """Close what belongs to a process that has ended: nobody asks about it any more."""
        if self._processes.get(process.pid) is process:
            del self._processes[process.pid]
        process.close()
        if process.output_fd in self._fds and not any(
            other.output_fd == process.output_fd for other in self._processes.values()
        ):
            self._fds.remove(process.output_fd)
            os.close(process.output_fd)

    def _new_output(self) -> int:
        output = os.memfd_create("output")
        self._fds.append(output)
        return output

    def main(self) -> Process | None:
        """The command if it lives, else the oldest of the daemons that it left."""
        if self._main and self._main.poll() is None:
            return self._main
        while daemons := self.daemons():
            if living := [daemon for daemon in daemons if daemon.poll() is None]:
                return living[0]
        return None

    def daemons(self) -> list[Process]:
        """Processes whose parents have ended, the oldest first. One that ended just now may be among them."""
        pids, fds = self._ask("daemons")
        return [self._known(pid, fd, self._output) for pid, fd in zip(pids, fds, strict=True)]

    def process(self, pid: int) -> Process:
        """A process, by its pid inside."""
        _, fds = self._ask("process", pid)
        return self._known(pid, fds[0], self._output)

    def _known(self, pid: int, fd: int, output: int) -> Process:
        known = self._processes.get(pid)
        if known and not known.has_ended():
            os.close(fd)
            return known
        self._processes[pid] = process = Process(self, pid, fd, output)
        if known:
            self._over.append(known)
        return process

    def processes(self) -> list[int]:
        """The pids, inside, of all processes of the command."""
        if self.protection.protected:
            return sorted(int(name) for name in os.listdir(self.proc) if name.isdecimal() and name != "1")
        return sorted(family.descendants(self._ready.pid))

    def status_of(self, pid: int) -> int:
        """How a process ended."""
        status: int = self._ask("status", pid)[0]
        return status

    def fileno(self) -> int:
        """The descriptor that shows a hang-up (POLLHUP) when PID 1 has ended."""
        return self._control.fileno()

    def alive(self) -> bool:
        """Whether PID 1 lives."""
        poll = select.poll()
        poll.register(self, 0)
        return not poll.poll(0)

    # ---------------------------------------------------------------------------------------------- files

    def reach(self, path: str) -> str:
        """A path by which this process opens, or connects to, what the command sees at path."""
        directory, name = os.path.split(path)
        if directory not in self._reached:
            _, fds = self._ask("open", directory or ".")
            self._fds += fds
            self._reached[directory] = f"/proc/self/fd/{fds[0]}"
        return f"{self._reached[directory]}/{name}"

    def written(self, limit: int = 1000) -> Written:
        """What the command wrote to memory so far, sorted by path."""
        mounted = self._ready.mounted
        if not mounted:
            return Written([], 0)
        memory = f"/proc/self/fd/{self._fds[1]}"
        layers = ((f"{memory}/{overlay.upper}", overlay.directory) for overlay in mounted.overlays)
        return written(layers, limit)

    # ------------------------------------------------------------------------------------------- questions

    def _ask(self, question: str, *arguments: object, fds: Sequence[int] = ()) -> tuple[Any, list[int]]:
        try:
            socket.send_fds(self._control, [pickle.dumps((question, *arguments))], fds)
        except ConnectionError:
            raise _died() from None
        return self._hear()

    def _hear(self) -> tuple[Any, list[int]]:
        try:
            packet, fds = receive_fds(self._control, _init.PACKET, _init.DAEMONS)
        except ConnectionError:
            raise _died() from None
        if not packet:
            raise _died()
        answer = pickle.loads(packet)
        if isinstance(answer, Exception):
            raise answer
        return answer, fds


# -------------------------------------------------------------------------------------------------- looking


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed
        return "/"


def _died() -> GuardDiedError:
    return GuardDiedError(errno.ECHILD, "PID 1 of the command's namespaces has ended, and everything inside")


def _cannot(why: str) -> CannotRun:
    return CannotRun(
        f"the live system cannot be protected from CMD here: {why}; --unprotected runs CMD all the same"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        if error.errno == errno.ENOSPC:
            return f"{error.strerror}: a limit on namespaces is reached (user.max_*_namespaces)"
        if error.strerror.startswith("mount /proc:"):
            return f"{error.strerror} (as in containers, which cover parts of /proc)"
        return error.strerror
    return str(error)


def _protection(ready: _init.Ready) -> Protection:
    mounted = ready.mounted
    if not mounted:
        return Protection(protected=False, overlays=(), read_only=(), unsealed="")
    if mounted.unsealed and mounted.refused:
        raise _cannot(
            ", and ".join([mounted.unsealed, *(f"{path}: {why}" for path, why in mounted.refused[:1])])
        )
    overlays = tuple(overlay.directory for overlay in mounted.overlays)
    return Protection(True, overlays, mounted.refused, mounted.unsealed)
