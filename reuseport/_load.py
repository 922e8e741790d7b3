# SPDX-License-Identifier: MIT
"""Load on a server, the outcome of each connection, and the statistics of the counts.

The client speaks first. The answer is four bytes: the number of the process that served it, a native unsigned
integer. (If the server speaks first and closes, about one MPTCP connection in 70,000 gets stuck, as seen on
Linux 6.18. That is not a loss by a restart.)
"""

from __future__ import annotations

import contextlib
import enum
import errno
import math
import mmap
import os
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import mptcp_sockopt
from mptcp_sockopt import testing
from mptcp_sockopt.cli import CannotRun

from ._net import Reuse, drop_tcp_sockets, listen, open_socket

REQUEST = b"?"
REPLY = struct.Struct("=I")
PATIENCE = 5.0  # seconds without progress: stalled
SLOW = 0.5  # seconds; a SYN that has to be sent again takes one


class Kind(enum.Enum):
    """The outcome of a connection. All but SERVED are losses; EOF is an end before the whole answer."""

    SERVED = "served"
    REFUSED = "refused"
    RESET = "reset"
    EOF = "eof"
    STALLED = "stalled"
    FELL_BACK = "fell back"


#: The outcome by errno: the first error of any call decides.
KINDS = {
    errno.ECONNREFUSED: Kind.REFUSED,
    errno.ECONNRESET: Kind.RESET,
    errno.EPIPE: Kind.RESET,
    errno.ENOTCONN: Kind.RESET,
    errno.EAGAIN: Kind.STALLED,
    errno.EINPROGRESS: Kind.STALLED,  # connect(2) after SO_SNDTIMEO
    errno.ETIMEDOUT: Kind.STALLED,
}


def answer_as(number: int) -> Callable[[socket.socket], None]:
    """For a server: read the request of a connection, and answer with a number."""

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            if sock.recv(1):
                sock.sendall(REPLY.pack(number))

    return serve


def be_patient(listener: socket.socket) -> socket.socket:
    """Accepted sockets inherit the timeout: a silent client does not block a server for ever."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(PATIENCE))
    return listener


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


#: What to do on a connection: its outcome, and the number of who answered, or the HTTP status.
Exchange = Callable[[socket.socket], tuple[Kind, int | None]]


class Target(NamedTuple):
    """An address under load: clients connect to it, and servers listen on it."""

    address: tuple[str, int]
    family: int
    mptcp: bool

    def listen(self, reuse: Reuse = Reuse.PORT) -> socket.socket:
        """A listener of a server that no silent client can block."""
        return be_patient(listen(self.address, reuse, family=self.family, mptcp=self.mptcp))


class Tally:
    """Counts of one load. Add them up with +=. A served connection is slow after so many seconds."""

    def __init__(self, slow_after: float = SLOW) -> None:
        self.slow_after = slow_after
        #: Connections that open_loop() began. All other counts are of those that have ended.
        self.started = 0
        self.kinds: Counter[str] = Counter()
        #: By what the exchange returned: the number of a server, or an HTTP status.
        self.served_by: Counter[int] = Counter()
        #: Of the resets, how many were in an accept queue and how many in their handshake. TCP only.
        self.reset_where: Counter[str] = Counter()
        self.slow = 0
        self.slowest = 0.0

    def add(self, kind: Kind, server: int | None, seconds: float) -> None:
        self.kinds[kind.value] += 1
        if server is not None:
            self.served_by[server] += 1
        self.slow += kind is Kind.SERVED and seconds > self.slow_after
        self.slowest = max(self.slowest, seconds)

    def __iadd__(self, other: Tally) -> Tally:
        self.kinds += other.kinds
        self.served_by += other.served_by
        self.reset_where += other.reset_where
        self.slow += other.slow
        self.slowest = max(self.slowest, other.slowest)
        return self

    @property
    def total(self) -> int:
        return sum(self.kinds.values())

    @property
    def lost(self) -> int:
        return self.total - self.kinds[Kind.SERVED.value]

    def losses(self) -> dict[str, int]:
        return {kind.value: self.kinds[kind.value] for kind in Kind if kind is not Kind.SERVED}


def ask_who(sock: socket.socket) -> tuple[Kind, int | None]:
    """The number of the process that serves this connection."""
    sock.sendall(REQUEST)
    answer = sock.recv(REPLY.size, socket.MSG_WAITALL)
    # Nothing more will come, and a reset leaves nothing behind. Closed in order, MPTCP connections stay on
    # the server: after some ten thousand the kernel finds no token for a new one, which falls back.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    return (Kind.SERVED, *REPLY.unpack(answer)) if len(answer) == REPLY.size else (Kind.EOF, None)


def attempt(
    target: Target, tally: Tally, source: tuple[str, int] | None = None, *, exchange: Exchange = ask_who
) -> None:
    """Make one connection, and count its outcome. The first error of any call decides."""
    begun = time.monotonic()
    server: int | None = None
    with open_socket(target.family, mptcp=target.mptcp) as sock:
        for timeout in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, timeout, _timeval(PATIENCE))
        if source:
            sock.bind(source)
        try:
            sock.connect(target.address)
            kind, server = exchange(sock)
        except OSError as error:
            if error.errno not in KINDS:
                raise
            kind = KINDS[error.errno]
            if kind is Kind.RESET and not target.mptcp:
                tally.reset_where[_where(sock)] += 1
        else:
            if target.mptcp and not mptcp_sockopt.is_mptcp(sock):
                kind = Kind.FELL_BACK
    tally.add(kind, server, time.monotonic() - begun)


def _where(sock: socket.socket) -> str:
    """Where a connection was reset: in a queue if the server's kernel had acknowledged the request."""
    acked = mptcp_sockopt.snapshot(sock).subflows[0].tcp_info.bytes_acked
    return "queue" if acked is not None and acked > 1 else "handshake"


# -------------------------------------------------------------------------------------- many connections


class ClosedLoop:
    """Processes that make one connection after the other, without a pause, until told to stop.

    The number done is live, in shared memory; the tallies come at the end. If a process dies, that is an
    error, not a loss.
    """

    def __init__(self, target: Target, *, in_flight: int) -> None:
        #: When the first process began, by time.monotonic(): maybe long before the last one.
        self.begun = time.monotonic()
        self._counts = memoryview(mmap.mmap(-1, 8 * in_flight)).cast("Q")
        self._over = memoryview(mmap.mmap(-1, 1))
        self._loaders = [testing.Child(partial(self._work, target, number)) for number in range(in_flight)]

    @property
    def done(self) -> int:
        """Connections that have ended so far."""
        return sum(self._counts)

    @property
    def failed(self) -> bool:
        """Whether a process has ended by itself: stop() raises its error."""
        return bool(self._over[0])

    def _work(self, target: Target, number: int) -> Tally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops it
        drop_tcp_sockets()
        os.nice(10)  # a server that gets no CPU restarts slowly
        tally = Tally()
        try:
            while not self._over[0]:
                attempt(target, tally)
                self._counts[number] += 1
        finally:
            self._over[0] = 1  # after an error the others need not go on
        return tally

    def __enter__(self) -> ClosedLoop:
        return self

    def __exit__(self, *_: object) -> None:
        for loader in self._loaders:
            loader.end()

    def stop(self) -> Tally:
        """End the processes and add up their tallies, or raise the error of one that failed."""
        self._over[0] = 1
        tally = Tally()
        for loader in self._loaders:
            tally += loader.result(within=4 * PATIENCE)
        return tally


def open_loop(
    target: Target,
    *,
    rate: float,
    until: Callable[[Tally], bool],
    exchange: Exchange = ask_who,
    slow_after: float = SLOW,
    at_once: int = 4096,
) -> Tally:
    """Connections at a rate per second, whatever their outcome; returns when all have ended.

    It waits while so many are open at once. until() is called at least every 10 ms. An error that is not a
    loss ends the load, and is raised.
    """
    tally, lock, slots = Tally(slow_after), threading.Lock(), threading.Semaphore(at_once)
    errors: list[Exception] = []

    def one() -> None:
        mine = Tally(slow_after)
        try:
            attempt(target, mine, exchange=exchange)
        except Exception as error:
            errors.append(error)
        with lock:
            nonlocal tally
            tally += mine
        slots.release()

    due = time.monotonic()
    with ThreadPoolExecutor(at_once) as threads:
        while not errors and not until(tally):
            early = due - time.monotonic()
            if early > 0:
                time.sleep(min(early, 0.01))
            elif slots.acquire(timeout=0.01):
                try:
                    threads.submit(one)
                except RuntimeError as error:  # what Python makes of pthread_create's EAGAIN
                    raise CannotRun(f"{error} ({tally.started} connections were begun)") from None
                tally.started += 1
                due = max(due + 1 / rate, time.monotonic() - 0.1)  # after a stall, no long burst
    if errors:
        raise errors[0]
    return tally


# ------------------------------------------------------------------------------------------ statistics


def bound_95(lost: int, total: int) -> float:
    """The upper limit of the loss rate, with 95 % confidence; 3/n if none of n was lost.

    Exact (Clopper-Pearson in its Poisson limit): the mean for which at most `lost` losses have odds of 5 %.
    """
    if total == 0:
        return 1.0
    low, high = 0.0, 10.0 + 3.0 * lost + 10.0 * math.sqrt(lost)
    for _ in range(60):
        mean = (low + high) / 2
        # P(X <= lost) of a Poisson variable is Q(lost + 1, mean).
        low, high = (mean, high) if _upper_gamma(lost + 1, mean) > 0.05 else (low, mean)
    return min(1.0, high / total)


def chi_square(counts: Sequence[int]) -> tuple[float, float]:
    """Pearson's statistic of counts against equal shares, and its p: the odds that chance is as uneven.

    Only for independent draws. Connections are independent if all their 4-tuples differ, because the kernel's
    hash sends the same 4-tuple to the same listener.
    """
    mean = sum(counts) / len(counts)
    statistic = sum((count - mean) ** 2 for count in counts) / mean
    return statistic, _upper_gamma((len(counts) - 1) / 2, statistic / 2)


def _upper_gamma(a: float, x: float) -> float:
    """Q(a, x), the regularized upper incomplete gamma function, where 2a is a whole number.

    Q(1, x) or Q(1/2, x), then Q(a + 1, x) = Q(a, x) + x^a exp(-x) / gamma(a + 1): DLMF 8.4.5, 8.4.6, 8.8.6.
    """
    if x <= 0:
        return 1.0
    at, found = (1.0, math.exp(-x)) if a % 1 == 0 else (0.5, math.erfc(math.sqrt(x)))
    while at < a:
        found += math.exp(at * math.log(x) - x - math.lgamma(at + 1))
        at += 1
    return min(1.0, found)
