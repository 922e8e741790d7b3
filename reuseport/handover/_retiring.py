# SPDX-License-Identifier: MIT
"""Close a listener, and lose none of the connections that it already has."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mptcp_sockopt import TCPState, processes

from .. import _diag
from .._net import name

LOOK = 0.002  # seconds between two reads of the handshakes in flight

# The number of membarrier(2), by architecture.
_MEMBARRIER = {
    "x86_64": 324, "aarch64": 283, "riscv64": 283, "i686": 375, "armv7l": 389, "s390x": 356, "ppc64le": 365,
}  # fmt: skip
_MEMBARRIER_CMD_GLOBAL = 1
_SO_BINDTOIFINDEX = 62
_INET = (socket.AF_INET, socket.AF_INET6)

Serve = Callable[[socket.socket], object]


class HasFileno(Protocol):
    """A listener: a socket, or what an event loop shows of one, such as asyncio's TransportSocket."""

    def fileno(self) -> int: ...


class RetireReport(NamedTuple):
    """What retire() did."""

    drained: int
    """Connections that it accepted and served itself."""
    snapshot: int
    """Handshakes in flight when it began."""
    late: int
    """Of these, those not over at the timeout, which may have been lost."""
    seconds: float
    unserved: bool = False
    """Whether connections still waited to be accepted when its time was over."""


# -------------------------------------------------------------------------------------- what the kernel does


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


def has_successor(listeners: Sequence[socket.socket]) -> bool:
    """Whether another listener gets the new connections when these close: of the same address, or a wildcard.

    A listener that another process has too is one of these, and not another.
    """
    ours = {os.fstat(sock.fileno()).st_ino for sock in listeners}
    for sock in listeners:
        host, port = name(sock)
        for row in processes.tcp_sockets(port, TCPState.LISTEN):
            if row.inode not in ours and _covers(row, host):
                return True
    return False


def _covers(row: processes.TCPSocket, host: str) -> bool:
    """Whether a listener also gets the connections to a host, on the same port."""
    if row.local[0] == "::":
        return ":" in host or not row.v6only
    return row.local[0] == host or (row.local[0] == "0.0.0.0" and ":" not in host)


# ------------------------------------------------------------------------------------------------ accepting


def drain(listener: socket.socket, serve: Serve) -> int:
    """Accept and serve until the queue is empty; returns how many. Handshakes in flight are lost on close."""
    listener.setblocking(False)
    return accept(listener, serve, sys.maxsize)


def accept(listener: socket.socket, serve: Serve, most: int, until: float = float("inf")) -> int:
    """Accept and serve what a non-blocking listener has; returns how many.

    It stops at a number, and at a time.monotonic().
    """
    served = 0
    while served < most and time.monotonic() < until:
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


def readable(listeners: Sequence[socket.socket], timeout: float) -> list[socket.socket]:
    """Those on which somebody waits."""
    watch = select.poll()  # select() takes no descriptor above 1023
    for sock in listeners:
        watch.register(sock, select.POLLIN)
    found = {fd for fd, event in watch.poll(timeout * 1000) if event & select.POLLIN}
    return [sock for sock in listeners if sock.fileno() in found]


# ------------------------------------------------------------------------------------------------- retiring


def as_list(listeners: HasFileno | Sequence[HasFileno]) -> list[HasFileno]:
    return list(listeners) if isinstance(listeners, Sequence) else [listeners]


@contextlib.contextmanager
def as_sockets(listeners: Sequence[HasFileno]) -> Iterator[list[socket.socket]]:
    """Sockets that can accept. A loop's are duplicated, and these duplicates are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield [
            one
            if isinstance(one, socket.socket)
            else stack.enter_context(socket.socket(fileno=os.dup(one.fileno())))
            for one in listeners
        ]


class Retirement:
    """The steps of retire() that do not depend on who accepts: a thread, a loop, or retire() itself."""

    def __init__(self, listeners: Sequence[socket.socket], timeout: float) -> None:
        # Unix sockets have no handshake, and nobody else finds them.
        self._inet = [sock for sock in listeners if sock.family in _INET]
        self._ports = {name(sock)[1] for sock in self._inet}
        self._timeout = timeout
        self._begun = time.monotonic()
        self.until = self._begun + timeout
        self._snapshot: frozenset[object] = frozenset()
        self._pending: frozenset[object] = frozenset()

    def _handshakes(self) -> frozenset[object]:
        return frozenset().union(*map(_diag.syn_received, self._ports))

    def note_handshakes(self) -> None:
        self._pending = self._snapshot = self._handshakes()

    def has_handshakes(self) -> bool:
        """Whether some of those that were noted are still in flight, and there is time."""
        self._pending &= self._handshakes()
        return bool(self._pending) and time.monotonic() < self.until

    def step_aside(self, shared: bool | None) -> None:
        """From here on, time for what is in the queues."""
        if shared is False or (shared is None and has_successor(self._inet)):
            for sock in self._inet:
                step_aside(sock)
        self.until = time.monotonic() + self._timeout

    def report(self, drained: int, unserved: bool) -> RetireReport:
        seconds = time.monotonic() - self._begun
        return RetireReport(drained, len(self._snapshot), len(self._pending), seconds, unserved)


def retire(
    listeners: HasFileno | Sequence[HasFileno],
    timeout: float,
    serve: Serve | None = None,
    *,
    steer: Callable[[], None] | None = None,
    shared: bool | None = None,
) -> RetireReport:
    """Close listeners and lose no connection. The successor must already listen.

    It steers new connections to the successor (steer(); not needed where newest_wins() is in force), notes
    the handshakes in flight, accepts until none of those is left, empties the queues, and closes. That takes
    one round trip and a few ms.

    serve: is called with each connection. Without it, somebody else accepts, such as ``serve_forever()`` in
    another thread: retire() waits, and leaves the listeners open. So it does in the thread of a running event
    loop, whose server closes them. retire_server() does not block the loop.

    timeout: a silent client holds its handshake for 64 s. After so many seconds, retire() no longer waits for
    handshakes, and ``late`` counts these. Then it takes at most as long again, and the last call of serve(),
    for the queues; ``unserved`` if that was not enough.

    shared: True if another process has these listeners too. Then all that wait are served there, and this
    only closes. By default, the kernel is asked if another listener gets the new connections. If none does,
    these may be shared and are not hidden before they close. (A SYN at that very moment may be lost.)
    """
    given = as_list(listeners)
    drained, unserved = 0, False
    with as_sockets(given) as socks:
        retirement = Retirement(socks, timeout)
        if steer:
            steer()
        if not shared:
            for sock in socks if serve else ():
                sock.setblocking(False)
            settle()
            retirement.note_handshakes()
            while retirement.has_handshakes():
                drained += _serve(socks, serve, LOOK, retirement.until)
            retirement.step_aside(shared)
            # A handshake leaves the table just before it enters the queue.
            settle()
            while (unserved := bool(readable(socks, 0))) and time.monotonic() < retirement.until:
                drained += _serve(socks, serve, 0, retirement.until)
    if serve and not _in_event_loop():
        for one in given:
            if isinstance(one, socket.socket):
                one.close()
    return retirement.report(drained, unserved)


def _serve(listeners: Sequence[socket.socket], serve: Serve | None, pause: float, until: float) -> int:
    """Serve what waits; without serve, let others do so."""
    if serve is None:
        time.sleep(LOOK)
        return 0
    return sum(accept(sock, serve, sys.maxsize, until) for sock in readable(listeners, pause))


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # where it is not imported, no loop runs
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
