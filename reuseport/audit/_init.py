# SPDX-License-Identifier: MIT
"""PID 1 of the namespaces of a command: it starts, adopts and reaps processes, and answers the auditor.

    auditor      asks through a socket; it has its own mounts
      launcher   makes the namespaces, and waits: after unshare(CLONE_NEWPID), a child is PID 1
        PID 1    does the mounts, then serves requests until the socket ends
          CMD    and all that it starts

When one of the upper three ends, the next one down is killed, and with PID 1 the kernel ends everything
inside. Unprotected, there are no namespaces: the launcher itself serves, as a subreaper, and kills its
descendants at its end.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from .._net import receive_fds
from .._programs import with_default_signals
from . import _mounts, _syscalls
from ._ids import Ids

#: How a process ended whose parent is inside, so that nobody else was told.
UNKNOWN = -1000

PACKET = 1 << 18
KEPT = 1 << 24  # bytes of an output: beyond that, only its end
_TAIL = 1 << 16
DAEMONS = 100  # the kernel sends no more than 253 descriptors at once
_REMEMBERED = 1000  # ends of adopted processes
_FATAL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Orders(NamedTuple):
    """What the launcher is to make."""

    protected: bool
    ids: Ids | None
    """None: there is privilege enough, and no new user namespace."""
    directories: list[_mounts.Wanted]
    """Those to get overlays."""
    directory: str
    """The working directory."""


class Ready(NamedTuple):
    """The first answer of PID 1. With it come descriptors of /proc and, protected, of the overlays' tmpfs."""

    pid: int
    mounted: _mounts.Mounted | None


def launch(orders: Orders) -> tuple[int, socket.socket]:
    """Start the launcher: its pid, and the socket to ask PID 1, which sends Ready or an OSError first."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    auditor = os.getpid()
    for stream in (sys.stdout, sys.stderr):  # or it would be written twice
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    # Blocked, because a child must not run the handlers of this process.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _launcher(orders, theirs, auditor)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid, ours


def _launcher(orders: Orders, control: socket.socket, auditor: int) -> NoReturn:
    try:
        with_default_signals()
        _close_all_but({control.fileno()})
        if not orders.protected:
            _syscalls.become_subreaper()
            if orders.ids:
                _new_namespaces(orders.ids, 0)
            _serve(orders, control, signal.SIGTERM, lambda: os.getppid() == auditor)
        else:
            _new_namespaces(
                orders.ids, _syscalls.CLONE_NEWNS | _syscalls.CLONE_NEWPID | _syscalls.CLONE_NEWIPC
            )
            _syscalls.die_with_parent(signal.SIGKILL)
            if os.getppid() == auditor:
                _wait_for_init(orders, control)
    except OSError as error:
        with contextlib.suppress(OSError):
            control.send(pickle.dumps(error))
    finally:
        os._exit(0)


def _new_namespaces(ids: Ids | None, flags: int) -> None:
    _syscalls.unshare(flags | (_syscalls.CLONE_NEWUSER if ids else 0))
    if ids:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", "{} {} 1".format(*ids.uid)),
            ("gid_map", "{} {} 1".format(*ids.gid)),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _wait_for_init(orders: Orders, control: socket.socket) -> None:
    alive, lifeline = os.pipe()  # PID 1 has no parent that it could see
    pid = os.fork()
    if pid == 0:
        os.close(lifeline)
        _serve(orders, control, signal.SIGKILL, lambda: not _hung_up(alive))
    control.close()
    os.waitpid(pid, 0)


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def _serve(
    orders: Orders, control: socket.socket, death: signal.Signals, has_parent: Callable[[], bool]
) -> NoReturn:
    """The life of PID 1 or, unprotected, of the process in its place."""
    try:
        try:
            _syscalls.die_with_parent(death)
            if has_parent():
                # PID 1 gets only those signals for which it has handlers, except for SIGKILL.
                wake = _wake_at((signal.SIGCHLD, *(() if orders.protected else _FATAL)))
                server = _Server(orders, control)
                server.run(wake)
        except Exception as error:
            if not isinstance(error, OSError):  # a bug here
                error = RuntimeError(traceback.format_exc())
            with contextlib.suppress(OSError):
                control.send(pickle.dumps(error))
        if not orders.protected:
            _end_children()
    finally:
        os._exit(0)


def _wake_at(numbers: Iterable[signal.Signals]) -> int:
    """A pipe that gets the numbers of signals."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # of the auditor's end
    return read


class _Server:
    def __init__(self, orders: Orders, control: socket.socket) -> None:
        self._control = control
        self._started: set[int] = set()
        self._ended: dict[int, int] = {}
        self._outputs: dict[int, int] = {}  # the pipe that a command writes to, and where it is kept
        self._poll = select.poll()
        mounted, fds = None, []
        if orders.protected:
            mounted, memory = _mounts.protect(orders.directories)
            fds.append(memory)
        with contextlib.suppress(OSError):  # by its path, for the old descriptor leads below the overlay
            os.chdir(orders.directory)
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self._answer(Ready(os.getpid(), mounted), proc, *fds)
        for fd in (proc, *fds):
            os.close(fd)

    def run(self, wake: int) -> None:
        for fd in (wake, self._control.fileno()):
            self._poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in self._poll.poll()]
            if wake in ready and set(os.read(wake, 1000)) - {signal.SIGCHLD}:
                return
            self._reap()
            # Before the questions: an answer that a command has ended comes after its last words.
            for pipe in self._outputs.keys() & set(ready):
                self._keep(pipe)
            if self._control.fileno() in ready and not self._serve_one():
                return

    def _serve_one(self) -> bool:
        packet, fds = receive_fds(self._control, PACKET, 1)
        if not packet:
            return False
        question, *arguments = pickle.loads(packet)
        try:
            answer, *sent = getattr(self, f"answer_{question}")(*arguments, *fds)
        except OSError as error:
            answer, sent = error, []
        self._answer(answer, *sent)
        for fd in sent:
            os.close(fd)
        return True

    def _answer(self, answer: object, *fds: int) -> None:
        socket.send_fds(self._control, [pickle.dumps(answer)], fds)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended.pop(ended[0], None)
                self._ended[ended[0]] = os.waitstatus_to_exitcode(ended[1])
        for pid in [pid for pid in self._ended if pid not in self._started][:-_REMEMBERED]:
            del self._ended[pid]

    def _keep(self, pipe: int) -> None:
        """Keep what a command wrote: once, all that the pipe holds, as a command may never pause. After the
        last writer has ended, the pipe is not needed any more."""
        output = self._outputs[pipe]
        with contextlib.suppress(BlockingIOError):
            if data := os.read(pipe, PACKET):
                os.write(output, data)
                _shorten(output)
            else:
                self._poll.unregister(pipe)
                del self._outputs[pipe]
                os.close(pipe)
                os.close(output)

    # What can be asked, and the answer: a value, and descriptors.

    def answer_start(self, words: list[str], environment: dict[str, str], output: int) -> tuple[Any, ...]:
        null = os.open(os.devnull, os.O_RDONLY)
        pipe, writer = os.pipe()  # a file would be truncated by those who open /dev/stdout
        os.fchmod(writer, 0o666)  # by any user
        os.set_blocking(pipe, False)
        try:
            pid = os.posix_spawnp(
                words[0],
                words,
                {**os.environ, **environment},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((null, writer, writer))],
                setsid=True,
                setsigdef=(signal.SIGPIPE,),
            )
        except OSError:
            os.close(pipe)
            raise
        finally:
            os.close(null)
            os.close(writer)
        self._started.add(pid)
        self._ended.pop(pid, None)
        self._outputs[pipe] = output
        self._poll.register(pipe, select.POLLIN)
        return pid, os.pidfd_open(pid)

    def answer_process(self, pid: int) -> tuple[Any, ...]:
        return pid, os.pidfd_open(pid)

    def answer_status(self, pid: int) -> tuple[Any, ...]:
        self._reap()
        return (self._ended.get(pid, UNKNOWN),)

    def answer_daemons(self) -> tuple[Any, ...]:
        """Adopted processes, the oldest first.

        Some may have ended just now: a daemon forks twice. Without them, there would be nobody at times.
        """
        self._reap()
        pids = sorted(set(_children()) - self._started, key=_start_time)[:DAEMONS]
        return pids, *map(os.pidfd_open, pids)  # none of them was reaped meanwhile

    def answer_open(self, directory: str) -> tuple[Any, ...]:
        return directory, os.open(directory, os.O_PATH | os.O_DIRECTORY)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _start_time(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def _shorten(output: int) -> None:
    """Keep the end of a long output."""
    size = os.fstat(output).st_size
    if size > KEPT:
        tail = os.pread(output, _TAIL, size - _TAIL)
        os.ftruncate(output, 0)
        os.lseek(output, 0, os.SEEK_SET)
        os.write(output, tail)


def _close_all_but(kept: set[int]) -> None:
    """A listener that stayed open here would never accept."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):  # listdir()'s own descriptor
                os.close(int(name))


def _end_children() -> None:
    while pids := _children():  # orphans of one round are our children in the next
        for pid in pids:
            with contextlib.suppress(PermissionError):  # a set-uid program, and we are not root
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        time.sleep(0)
