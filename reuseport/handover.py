# SPDX-License-Identifier: MIT
"""From one generation of a server to the next, and nobody is lost on the way.

retire() closes a listener that its successor shares a port with. The other way is to share the listener
itself: with a child (LISTEN_FDS, as systemd does it) or with any process (SCM_RIGHTS over a unix socket).
Supervisor runs generations as processes and replaces them in the order that loses nobody.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import _diag
from ._net import name
from ._programs import flush

LOOK = 0.002  # seconds between two looks at the handshakes in flight
_FIRST_LISTEN_FD = 3
_OUT_OF_THE_WAY = 64  # from there on a generation has its other descriptors

# The number of membarrier(2), by architecture.
_MEMBARRIER = {
    "x86_64": 324, "aarch64": 283, "riscv64": 283, "i686": 375, "armv7l": 389, "s390x": 356, "ppc64le": 365,
}  # fmt: skip
_MEMBARRIER_CMD_GLOBAL = 1
_SO_BINDTOIFINDEX = 62

Serve = Callable[[socket.socket], None]


# ---------------------------------------------------------------------------------------------- retiring


class RetireReport:
    """What retire() did. ``late`` handshakes were not over at the timeout, and may have been lost."""

    def __init__(self, drained: int, snapshot: int, late: int, seconds: float) -> None:
        self.drained = drained
        self.snapshot = snapshot
        self.late = late
        self.seconds = seconds

    def __repr__(self) -> str:
        return (
            f"RetireReport(drained={self.drained}, snapshot={self.snapshot}, late={self.late}, "
            f"seconds={self.seconds:.3f})"
        )


def settle() -> None:
    """Return when every packet that any CPU was at work on has been dealt with.

    The kernel looks a listener up and files the handshake in one RCU read section, so after a grace period
    no SYN is left that chose its listener before: membarrier(MEMBARRIER_CMD_GLOBAL), Linux 4.3. A pause of
    some ms is no substitute: a CPU can lose its own to a hypervisor for longer. Where membarrier is not to
    be had (nohz_full, an architecture that this does not know), it is all there is.
    """
    number = _MEMBARRIER.get(platform.machine())
    if number is None or ctypes.CDLL(None).syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0):
        time.sleep(0.05)


def step_aside(listener: socket.socket) -> None:
    """Let no lookup find the listener any more, while those that it has begun go on.

    A listener that closes leaves its group a moment before it leaves the table of listeners. A SYN that
    finds it there in between finds no group, takes the listener itself, and is lost: seen once in 800
    restarts on IPv6, where the oldest listener stands first. One that is bound to no interface there is
    does not match. Best effort: where the kernel refuses (before 5.1, or bound already) all is as it was.
    """
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, 2**31 - 1)


def drain(listener: socket.socket, serve: Serve) -> int:
    """Accept and serve until the queue is empty; how many there were. Loses every handshake in flight."""
    listener.setblocking(False)
    return _accept(listener, serve, sys.maxsize)


def _accept(listener: socket.socket, serve: Serve, most: int) -> int:
    """Accept and serve what a non-blocking listener has, so many at the most; how many there were."""
    served = 0
    for _ in range(most):
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            break
        except (ConnectionError, InterruptedError):
            continue  # that one had gone before it was accepted
        sock.setblocking(True)
        serve(sock)
        served += 1
    return served


def retire(
    listeners: socket.socket | Sequence[socket.socket],
    timeout: float,
    serve: Serve,
    *,
    steer: Callable[[], None] | None = None,
) -> RetireReport:
    """Close listeners of one port without losing anybody; the successor listens already.

    First steer new connections to the successor (steer(); nothing to do where newest_wins() is in force),
    then note the handshakes in flight, accept until none of those is left, empty the queues, close. Takes
    one round trip and a few ms. A silent client holds its handshake for 64 s: at the timeout (seconds) the
    listeners are closed all the same, and ``late`` says how many there were.
    """
    listeners = [listeners] if isinstance(listeners, socket.socket) else list(listeners)
    begun = time.monotonic()
    port = name(listeners[0])[1]
    if steer:
        steer()
    settle()
    pending = snapshot = _diag.syn_received(port)
    drained = 0
    while pending and time.monotonic() < begun + timeout:
        readable, _, _ = select.select(listeners, [], [], LOOK)
        drained += sum(drain(sock, serve) for sock in readable)
        pending &= _diag.syn_received(port)
    for sock in listeners:
        step_aside(sock)
    # A handshake leaves the table just before it enters the queue.
    settle()
    drained += sum(drain(sock, serve) for sock in listeners)
    for sock in listeners:
        sock.close()
    return RetireReport(drained, len(snapshot), len(pending), time.monotonic() - begun)


# ------------------------------------------------------------------------------------ handing a listener


def give_listen_fds(listeners: Sequence[socket.socket]) -> None:
    """In a child, before exec: pass listeners on as descriptors 3, 4, ... (sd_listen_fds(3)).

    The sockets are closed here: from now on they are those descriptors.
    """
    # Out of the way first: a listener may be 3 or 4 itself.
    lowest = _FIRST_LISTEN_FD + len(listeners)
    copies = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest) for sock in listeners]
    for sock in listeners:
        sock.close()
    for n, copy in enumerate(copies):
        os.dup2(copy, _FIRST_LISTEN_FD + n)
        os.close(copy)
    os.environ["LISTEN_FDS"] = str(len(listeners))
    os.environ["LISTEN_PID"] = str(os.getpid())


def take_listen_fds() -> list[socket.socket]:
    """The listeners that this process was started with; empty if it was started without."""
    if os.environ.pop("LISTEN_PID", None) != str(os.getpid()):
        return []
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    listeners = [socket.socket(fileno=_FIRST_LISTEN_FD + n) for n in range(count)]
    for sock in listeners:
        sock.set_inheritable(False)
    return listeners


def offer(address: str) -> socket.socket:
    """A unix socket where any process of this user may fetch a listener. Abstract if it begins with NUL."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(address)
    door.listen(1)
    return door


def hand_over(door: socket.socket, listener: socket.socket) -> bool:
    """Accept one process at the door and send it the listener; False if it was somebody else's."""
    visitor, _ = door.accept()
    with visitor:
        credentials = visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, uid, _ = struct.unpack("=iII", credentials)
        if uid != os.getuid():
            return False
        socket.send_fds(visitor, [b"L"], [listener.fileno()])
    return True


def fetch(address: str, timeout: float) -> socket.socket:
    """The listener of whoever offers one at address."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(timeout)
        visitor.connect(address)
        data, descriptors, _, _ = socket.recv_fds(visitor, 1, 1)
    if data != b"L" or len(descriptors) != 1:
        for fd in descriptors:
            os.close(fd)
        raise ConnectionError("no listener was handed over")
    return socket.socket(fileno=descriptors[0])


# ------------------------------------------------------------------------------------------- supervising


class Generation:
    """One process of a server, as its supervisor sees it."""

    def __init__(self, number: int, pid: int, ready: int, stop: int) -> None:
        self.number = number
        self.pid = pid
        self._ready = ready
        self._stop = stop

    def is_ready(self, timeout: float) -> bool:
        """Whether it said so within timeout; False also if it died."""
        readable, _, _ = select.select([self._ready], [], [], timeout)
        return bool(readable) and os.read(self._ready, 1) == b"R"

    def retire(self) -> None:
        """Tell it to go: its stop descriptor becomes readable."""
        if self._stop >= 0:
            # A byte, and not just the end of the pipe: a process that was forked meanwhile may hold that.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._stop, b"S")
            os.close(self._stop)
            self._stop = -1

    def wait(self, timeout: float) -> bool:
        """Wait for its end; after the timeout it is killed, and the answer is False."""
        self.retire()
        # The pipe is held by the process alone: it ends with it.
        ended = bool(select.select([self._ready], [], [], timeout)[0])
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._ready)
        return ended


class Worker:
    """The same process, as itself sees it: say that you listen, serve until you may stop."""

    def __init__(self, number: int, ready: int, stop: int) -> None:
        self.number = number
        self.stop = stop
        self._ready = ready

    def ready(self) -> None:
        os.write(self._ready, b"R")

    def serve(
        self, listeners: Sequence[socket.socket], serve: Serve, *others: tuple[socket.socket, Serve]
    ) -> None:
        """Accept on listeners until told to stop; others are watched too, and served as they are."""
        watch = select.poll()
        watch.register(self.stop, select.POLLIN)
        doors = {sock.fileno(): (sock, action) for sock, action in others}
        accepting = {sock.fileno(): sock for sock in listeners}
        for fd in (*accepting, *doors):
            watch.register(fd, select.POLLIN)
        for sock in listeners:
            sock.setblocking(False)
        while True:
            for fd, _ in watch.poll():
                if fd == self.stop:
                    return
                if fd in accepting:
                    # Not all there are: the stop descriptor must be seen under any load.
                    _accept(accepting[fd], serve, 16)
                else:
                    sock, action = doors[fd]
                    action(sock)


class Supervisor:
    """Runs one generation at a time and replaces it: first the new one listens, then the old one retires.

    work(worker) is the whole life of a generation, in a forked process: it gets its listener, says
    worker.ready(), serves until worker.stop is readable, retires, returns. A successor that dies before it
    is ready changes nothing: the old generation serves on. Generation N+2 is not started before N has
    ended, which steering needs. Not for several threads.
    """

    def __init__(self, work: Callable[[Worker], None], *, patience: float = 30.0) -> None:
        self._work = work
        self._patience = patience
        self._next = 0
        self.current: Generation | None = None
        #: Successors that died before they were ready.
        self.failed = 0
        #: Seconds that the last two generations lived side by side, both listening.
        self.overlap = 0.0

    def __enter__(self) -> Supervisor:
        if not self.restart():
            raise RuntimeError("the first generation died before it was ready")
        return self

    def __exit__(self, *_: object) -> None:
        if self.current:
            self.current.wait(self._patience)
            self.current = None

    def restart(self) -> bool:
        """Start the next generation and, once it listens, retire the current one; False if it died first."""
        successor = self._fork(self._next)
        self._next += 1
        if not successor.is_ready(self._patience):
            successor.wait(0)
            self.failed += 1
            return False
        begun = time.monotonic()
        old, self.current = self.current, successor
        if old:
            old.wait(self._patience)
        self.overlap = time.monotonic() - begun
        return True

    def _fork(self, number: int) -> Generation:
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _OUT_OF_THE_WAY + 2:
            # fcntl(2) would say EINVAL, and to the child alone.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        ready, say_ready = os.pipe()
        stop, say_stop = os.pipe()
        flush()
        pid = os.fork()
        if pid == 0:

            def live() -> None:
                # What a generation does not serve it must not hold: a leaked listener is a black hole.
                os.close(ready)
                os.close(say_stop)
                if self.current:
                    os.close(self.current._ready)
                    os.close(self.current._stop)
                # Descriptors 3, 4, ... are where a child expects its listeners.
                mine = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for fd in (say_ready, stop)]
                os.close(say_ready)
                os.close(stop)
                self._work(Worker(number, *mine))

            _live(live)
        os.close(say_ready)
        os.close(stop)
        return Generation(number, pid, ready, say_stop)


def _live(life: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides
        life()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)
