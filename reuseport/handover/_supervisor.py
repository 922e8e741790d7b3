# SPDX-License-Identifier: MIT
"""Run generations of a server as processes, and replace them in the order that loses no connection."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NoReturn

from ._generations import Generation, Worker
from ._systemd import notify

_log = logging.getLogger(__package__)
_OUT_OF_THE_WAY = 64  # the lowest number of a generation's other descriptors
_AT_MOST_EVERY = 1.0  # seconds between two that replace one which died

# A plan waits by yielding the time.monotonic() at which it is to go on, unless something happens before.
Plan = Generator[float, None, bool]


class Supervisor:
    """Runs one generation at a time and replaces it: first the new one listens, then the old one retires.

    work(worker) is the whole life of a generation, in a forked process: it gets its listener, calls
    worker.ready(), serves until worker.stop is readable, retires, returns. It may run an event loop or
    threads. The supervisor itself has neither, and what work() imports is loaded anew by each generation.

    run() is the main loop of a service. Without it, ``with Supervisor(work) as supervisor:`` starts the first
    generation, restart() replaces it, and the end of the block ends all.

    If a successor dies before it is ready, or is not ready after ``timeout`` seconds, the old generation goes
    on. Otherwise the old one is told to stop, and has ``patience`` seconds to end. A generation whose
    connections live long calls worker.retired() once its listeners are closed, and is left alone with them
    while newer ones come and go. Generation N+2 is not started before N has retired or ended, which steering
    needs, for at most ``timeout`` seconds. Who does not end in time gets SIGTERM, and after ``grace`` seconds
    SIGKILL.

    What happens is logged, as "reuseport.handover". Thread rule: one thread uses it.
    """

    def __init__(
        self,
        work: Callable[[Worker], None],
        *,
        patience: float = 30.0,
        timeout: float = 30.0,
        grace: float = 5.0,
    ) -> None:
        self._work = work
        self._patience, self._timeout, self._grace = patience, timeout, grace
        self._next = 0
        self._alive: list[Generation] = []
        self._wakeup: tuple[socket.socket, ...] = ()
        self._asked = False
        self.current: Generation | None = None
        #: Successors that died, or took too long, before they were ready.
        self.failed = 0
        #: Seconds for which the last two generations both listened.
        self.overlap = 0.0

    @property
    def generations(self) -> tuple[Generation, ...]:
        """All that run, the oldest first: the current one, and those that still have connections."""
        return tuple(self._alive)

    def __enter__(self) -> Supervisor:
        if not self.restart():
            raise RuntimeError("the first generation died before it was ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def restart(self) -> bool:
        """Start the next generation and, once it is ready, retire the current one; False if it was not."""
        plan = self._replace()
        try:
            until = next(plan)
            while True:
                self._step(until)
                until = plan.send(None)
        except StopIteration as done:
            return bool(done.value)

    def run(self) -> None:
        """The main loop of a service, in the main thread: serve until SIGTERM or SIGINT, restart at SIGHUP.

        The end is in order too: all generations retire, and have the patience to end. A second SIGTERM or
        SIGINT ends the patience. A generation that dies is replaced, at most once a second. RuntimeError if
        the first one is never ready.

        systemd or another manager is told of each change (sd_notify(3): READY, RELOADING, STOPPING, STATUS).
        """
        try:
            with self._signals() as signals:
                plan = self._serve()
                for until in plan:
                    self._step(until, signals)
                    arrived = _received(signals)
                    if arrived & {signal.SIGTERM, signal.SIGINT}:
                        break
                    self._asked |= signal.SIGHUP in arrived
                plan.close()
                self._end(signals)
        finally:
            self._end()

    # ------------------------------------------------------------------------------------------ plans

    def _serve(self) -> Plan:
        """The life of a service, which only a signal ends."""
        if not (yield from self._replace()):
            raise RuntimeError("the first generation died before it was ready")
        began = time.monotonic()
        self._tell("READY=1")
        while True:
            if self.current and not self._asked:
                yield math.inf
                continue
            while not self.current and time.monotonic() < began + _AT_MOST_EVERY:
                yield began + _AT_MOST_EVERY
            self._asked = False
            began = time.monotonic()
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                yield from self._replace()
            except OSError as error:  # no more processes or descriptors: the old one goes on
                self.failed += 1
                _log.error("no new generation: %s", error)
            self._tell("READY=1")

    def _replace(self) -> Plan:
        successor = self._start()
        while successor.status is None and not successor.ready:
            yield math.inf  # at the latest, its deadline comes
        if successor.status is not None:
            self.failed += 1
            _log.error("%s was never ready (%s)", successor, successor.how_it_ended())
            return False
        successor.deadline = math.inf
        old, self.current = self.current, successor
        _log.info("%s is ready", successor)
        begun = time.monotonic()
        if old:
            old.stop(self._patience)
            limit = begun + self._timeout
            while old.status is None and not old.retired and time.monotonic() < limit:
                yield limit
            if old.status is None and not old.retired:
                _log.warning("%s has not retired in %g s", old, self._timeout)
        self.overlap = time.monotonic() - begun
        return True

    def _end(self, signals: socket.socket | None = None) -> None:
        """End all that run, in order."""
        if self._alive and signals:
            self._tell("STOPPING=1")
        for one in self._alive:
            starts = one is not self.current and not one.ready
            one.stop(0 if starts else self._patience)
        while self._alive:
            self._step(math.inf, signals)
            if signals and _received(signals) & {signal.SIGTERM, signal.SIGINT}:
                for one in self._alive:
                    one.deadline = min(one.deadline, time.monotonic())

    # ------------------------------------------------------------------------------------- what happens

    def _step(self, until: float, signals: socket.socket | None = None) -> None:
        """Wait until something happens, or until a time, and deal with it."""
        watch = select.poll()
        for one in self._alive:
            for fd in one.descriptors():
                watch.register(fd, select.POLLIN)
        if signals:
            watch.register(signals, select.POLLIN)
        until = min([until, *(one.deadline for one in self._alive)])
        left = max(0.0, until - time.monotonic())
        watch.poll(None if left == math.inf else math.ceil(min(left, 86400) * 1000))
        for one in tuple(self._alive):
            one.look()
            if one.status is not None:
                self._has_ended(one)
            elif time.monotonic() >= one.deadline:
                _log.warning("%s did not end in time: %s", one, one.press(self._grace))

    def _has_ended(self, one: Generation) -> None:
        self._alive.remove(one)
        if one is self.current:
            self.current = None
            if one.deadline == math.inf:  # nobody told it to
                _log.error("%s ended by itself (%s)", one, one.how_it_ended())

    def _tell(self, *lines: str) -> None:
        others = len(self._alive) - bool(self.current)
        serves = f"generation {self.current.number} serves" if self.current else "no generation serves"
        notify(*lines, f"STATUS={serves}, {others} older have connections, {self.failed} were never ready")

    # ------------------------------------------------------------------------------------------ processes

    def _start(self) -> Generation:
        number = self._next
        self._next += 1
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= _OUT_OF_THE_WAY:
            # fcntl(2) would fail with EINVAL, and only in the child.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            _flush()  # or what is buffered would be written twice
            # The child must not run our handlers, which write to our wakeup.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                pid = os.fork()
                if pid == 0:
                    _live(lambda: self._work(self._become(number, ours, theirs)), mask)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            try:
                successor = Generation(number, pid, ours.dup())
            except OSError:  # no descriptor is left
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
        successor.deadline = time.monotonic() + self._timeout
        self._alive.append(successor)
        return successor

    def _become(self, number: int, ours: socket.socket, theirs: socket.socket) -> Worker:
        """In the child: the supervisor's ends are its own, so that generations see when it is gone."""
        for sock in (ours, *self._wakeup):
            sock.close()
        for one in self._alive:
            one.close()
        # Descriptors 3, 4, ... are where a child expects its listeners.
        line = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        theirs.close()
        return Worker(number, line, self.current is None)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """The signals that arrive, each a byte to read."""
        reader, writer = self._wakeup = socket.socketpair()
        with reader, writer:
            reader.setblocking(False)
            writer.setblocking(False)
            wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            handlers = {
                number: signal.signal(number, lambda *_: None)
                for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
            }
            try:
                yield reader
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)
                signal.set_wakeup_fd(wakeup)
                self._wakeup = ()


def _received(signals: socket.socket) -> set[int]:
    with contextlib.suppress(BlockingIOError):
        return set(signals.recv(4096))
    return set()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it is full, closed, or None
            stream.flush()


def _live(life: Callable[[], None], mask: Iterable[int]) -> NoReturn:
    code = 1
    try:
        with contextlib.suppress(ValueError):  # not the main thread, so none was set
            signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the supervisor stops it
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        life()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else end.code is not None
    except Exception:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)
