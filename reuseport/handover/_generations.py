# SPDX-License-Identifier: MIT
"""One process of a server, seen from both sides: by its supervisor, and by itself."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ._retiring import Serve, accept

_READY, _RETIRED, _STOP = b"R", b"C", b"S"  # what the two ends of a line say


class Generation:
    """A process as its supervisor sees it: what it said, and what is done about it, when.

    Thread rule: its supervisor's.
    """

    def __init__(self, number: int, pid: int, line: socket.socket) -> None:
        self.number = number
        self.pid = pid
        #: Our end of a socket pair with the process.
        self.line = line
        self.line.setblocking(False)
        self.pidfd = os.pidfd_open(pid)
        #: Whether it said so: that it serves, and that its listeners are closed.
        self.ready = self.retired = False
        #: As of subprocess.Popen.returncode: None while it runs.
        self.status: int | None = None
        #: The time.monotonic() at which press() is due.
        self.deadline = math.inf
        self._pressure = [signal.SIGTERM, signal.SIGKILL]
        self._silent = False

    def __str__(self) -> str:
        return f"generation {self.number} (pid {self.pid})"

    def descriptors(self) -> list[int]:
        """Readable when there is something to look() at."""
        return [self.pidfd] if self._silent else [self.pidfd, self.line.fileno()]

    def look(self) -> None:
        """Take note of what it said, and of its end."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # it has ended, and SIGCHLD is ignored, or somebody else waited for it
            pid, status = self.pid, 0
        self._listen()  # after the question whether it ended: so nothing that it said is missed
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
            self.close()

    def _listen(self) -> None:
        try:
            while said := self.line.recv(64):
                # Who was told to go, because its time was over, is not ready any more.
                self.ready |= _READY in said and self.pressed is False
                self.retired |= _RETIRED in said
        except BlockingIOError:
            return
        except ConnectionError:
            pass
        self._silent = True

    @property
    def pressed(self) -> bool:
        """Whether it got a signal, because its time was over."""
        return len(self._pressure) < 2

    def stop(self, patience: float) -> None:
        """Tell it to stop, once: its stop descriptor becomes readable. It has so many seconds for it."""
        # A byte, and not just the end of file: a process that was forked meanwhile may have our end open too.
        with contextlib.suppress(OSError):
            self.line.send(_STOP)
        self.deadline = min(self.deadline, time.monotonic() + patience)

    def press(self, grace: float) -> str:
        """It did not end in time: send the next signal, SIGTERM or SIGKILL, and say which."""
        number = self._pressure.pop(0)
        self.deadline = time.monotonic() + grace if self._pressure else math.inf
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)
        return number.name

    def how_it_ended(self) -> str:
        if self.status is not None and self.status < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-self.status).name}"
        return f"exit status {self.status}"

    def close(self) -> None:
        """Our descriptors. In a forked child too: only its supervisor has them."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.line.close()


class Worker(NamedTuple):
    """The same process, as it sees itself: it says that it is ready, and serves until told to stop.

    Thread rule: any thread may use it.
    """

    number: int
    stop: int
    """A descriptor, its end of the socket pair: readable when it is time to stop, and when the supervisor is
    gone."""
    first: bool = False
    """Whether no other generation serves: this is the very first, or the one before it died."""

    def ready(self) -> None:
        """Say that this generation listens. Now the one before it is told to stop."""
        os.write(self.stop, _READY)

    def retired(self) -> None:
        """Say that the listeners are closed, and only established connections are left.

        Call it if these may live long: the next restart need not wait for their end.
        """
        with contextlib.suppress(OSError):  # the supervisor is gone
            os.write(self.stop, _RETIRED)

    def wait(self) -> None:
        """Wait until told to stop, in a program with threads."""
        watch = select.poll()
        watch.register(self.stop, select.POLLIN)
        watch.poll()

    async def wait_async(self) -> None:
        """The same for asyncio."""
        import asyncio  # not every worker has a loop

        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        loop.add_reader(self.stop, told.set)
        try:
            await told.wait()
        finally:
            loop.remove_reader(self.stop)

    def serve(
        self, listeners: Sequence[socket.socket], serve: Serve, *others: tuple[socket.socket, Serve]
    ) -> None:
        """Accept on listeners until told to stop; others, when readable, go to their own function."""
        actions: dict[int, Callable[[], object]] = {
            sock.fileno(): functools.partial(action, sock) for sock, action in others
        }
        for sock in listeners:
            sock.setblocking(False)
            # Not all that wait: the stop descriptor must be seen under any load.
            actions[sock.fileno()] = functools.partial(accept, sock, serve, 16)
        watch = select.poll()
        for fd in (self.stop, *actions):
            watch.register(fd, select.POLLIN)
        while True:
            for fd, _ in watch.poll():
                if fd == self.stop:
                    return
                actions[fd]()
