# SPDX-License-Identifier: MIT
"""Replace one generation of a server by the next, and lose no connection.

retire() closes a listener whose successor listens on the same port. The other way is to share the listener
itself: with a child (LISTEN_FDS, as systemd does it) or with any process (SCM_RIGHTS over a unix socket).
Supervisor runs generations as processes, and replaces them in the order that loses no connection.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
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
from typing import NamedTuple, NoReturn

from . import _diag
from ._net import name

LOOK = 0.002  # seconds between two reads of the handshakes in flight
_FIRST_LISTEN_FD = 3
_OUT_OF_THE_WAY = 64  # the lowest number of a generation's other descriptors

# The number of membarrier(2), by architecture.
_MEMBARRIER = {
    "x86_64": 324, "aarch64": 283, "riscv64": 283, "i686": 375, "armv7l": 389, "s390x": 356, "ppc64le": 365,
}  # fmt: skip
_MEMBARRIER_CMD_GLOBAL = 1
_SO_BINDTOIFINDEX = 62

Serve = Callable[[socket.socket], object]


# ---------------------------------------------------------------------------------------------- retiring


class RetireReport(NamedTuple):
    """What retire() did."""

    drained: int
    """Connections served."""
    snapshot: int
    """Handshakes in flight when it began."""
    late: int
    """Of these, those not over at the timeout, which may have been lost."""
    seconds: float


def settle() -> None:
    """Wait until every packet that a CPU is processing has been dealt with.

    The kernel looks up a listener and stores the handshake in one RCU read section. So after a grace period
    no SYN is left that chose its listener before: membarrier(MEMBARRIER_CMD_GLOBAL), Linux 4.3. A pause of
    some ms is no substitute, for a hypervisor can stop a CPU for longer. It is used where membarrier is not
    available (nohz_full, or an architecture that this function does not know).
    """
    number = _MEMBARRIER.get(platform.machine())
    if number is None or ctypes.CDLL(None).syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0):
        time.sleep(0.05)


def step_aside(listener: socket.socket) -> None:
    """Hide the listener from new SYNs. Handshakes that it has begun go on.

    A listener that closes leaves its reuseport group a moment before it leaves the table of listeners. A SYN
    that arrives in between finds no group, takes the listener itself, and is lost: seen once in 800 restarts
    on IPv6, where the oldest listener comes first. So bind it to an interface that does not exist, and no SYN
    matches. Best effort: if the kernel refuses (before 5.1, or already bound), nothing changes.
    """
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, 2**31 - 1)


def drain(listener: socket.socket, serve: Serve) -> int:
    """Accept and serve until the queue is empty; returns how many. Handshakes in flight are lost on close."""
    listener.setblocking(False)
    return _accept(listener, serve, sys.maxsize)


def _accept(listener: socket.socket, serve: Serve, most: int) -> int:
    """Accept and serve what a non-blocking listener has, up to a number; returns how many."""
    served = 0
    for _ in range(most):
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            break
        except (ConnectionError, InterruptedError):
            continue  # that client had gone
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
    """Close the listeners of one port and lose no connection. The successor must already listen.

    It steers new connections to the successor (steer(); not needed where newest_wins() is in force), notes
    the handshakes in flight, accepts until none of those is left, empties the queues, and closes. That takes
    one round trip and a few ms. A silent client holds its handshake for 64 s: at the timeout (seconds) the
    listeners are closed anyway, and ``late`` counts such handshakes.
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

    The sockets are closed here; only those descriptors are left.
    """
    # To higher numbers first: a listener may itself be 3 or 4.
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
    """The listeners that this process was started with, or an empty list."""
    if os.environ.pop("LISTEN_PID", None) != str(os.getpid()):
        return []
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    listeners = [socket.socket(fileno=_FIRST_LISTEN_FD + n) for n in range(count)]
    for sock in listeners:
        sock.set_inheritable(False)
    return listeners


def offer(address: str) -> socket.socket:
    """A unix socket from which any process of this user may fetch a listener; abstract with a leading NUL."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(address)
    door.listen(1)
    return door


def hand_over(door: socket.socket, listener: socket.socket) -> bool:
    """Accept one process at the door and send it the listener; False if it is another user's."""
    visitor, _ = door.accept()
    with visitor:
        _, uid, _ = struct.unpack("=iII", visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            return False
        socket.send_fds(visitor, [b"L"], [listener.fileno()])
    return True


def fetch(address: str, timeout: float) -> socket.socket:
    """The listener that is offered at address."""
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


class Generation(NamedTuple):
    """One process of a server, as its supervisor sees it."""

    number: int
    pid: int
    line: socket.socket
    """Our end of a socket pair with the process."""

    def is_ready(self, timeout: float) -> bool:
        """Whether it said within the timeout that it is ready; False also if it died."""
        return self._speaks(timeout) and self.line.recv(1) == b"R"

    def retire(self) -> None:
        """Tell it to stop: its stop descriptor becomes readable."""
        # A byte, and not just the end of file: a process that was forked meanwhile may have our end open too.
        with contextlib.suppress(ConnectionError):
            self.line.send(b"S")

    def wait(self, timeout: float) -> bool:
        """Wait for its end. After the timeout, kill it and return False."""
        self.retire()
        # Only the process has the other end open, which closes when it ends.
        ended = self._speaks(timeout)
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.line.close()
        return ended

    def _speaks(self, timeout: float) -> bool:
        return bool(select.select([self.line], [], [], timeout)[0])


class Worker(NamedTuple):
    """The same process, as it sees itself: it says that it is ready, and serves until told to stop."""

    number: int
    stop: int
    """A descriptor, its end of the socket pair: readable when it is time to stop."""

    def ready(self) -> None:
        os.write(self.stop, b"R")

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
            actions[sock.fileno()] = functools.partial(_accept, sock, serve, 16)
        watch = select.poll()
        for fd in (self.stop, *actions):
            watch.register(fd, select.POLLIN)
        while True:
            for fd, _ in watch.poll():
                if fd == self.stop:
                    return
                actions[fd]()


class Supervisor:
    """Runs one generation at a time and replaces it: first the new one listens, then the old one retires.

    work(worker) is the whole life of a generation, in a forked process: it gets its listener, calls
    worker.ready(), serves until worker.stop is readable, retires, returns. If a successor dies before it is
    ready, the old generation goes on. Generation N+2 is not started before N has ended, which steering needs.
    Thread rule: one thread uses it.
    """

    def __init__(self, work: Callable[[Worker], None], *, patience: float = 30.0) -> None:
        self._work = work
        self._patience = patience
        self._next = 0
        self.current: Generation | None = None
        #: Successors that died before they were ready.
        self.failed = 0
        #: Seconds for which the last two generations both listened.
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
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= _OUT_OF_THE_WAY:
            # fcntl(2) would fail with EINVAL, and only in the child.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        ours, theirs = socket.socketpair()
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it is full, closed, or None
            sys.stdout.flush()  # or what it holds would be written twice
        pid = os.fork()
        if pid == 0:

            def live() -> None:
                ours.close()  # the supervisor's ends are its own: generations see when it is gone
                if self.current:
                    self.current.line.close()
                # Descriptors 3, 4, ... are where a child expects its listeners.
                line = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
                theirs.close()
                self._work(Worker(number, line))

            _live(live)
        theirs.close()
        return Generation(number, pid, ours)


def _live(life: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor stops it
        life()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)
