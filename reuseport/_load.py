# SPDX-License-Identifier: MIT
"""The loader, what became of each connection, and what the counts allow to say.

A connection asks first and is answered by four bytes, the native unsigned number of whoever served it.
(A server that speaks first and closes leaves about one MPTCP connection in 70,000 stuck, seen on Linux
6.18: no fault of a restart.)
"""

from __future__ import annotations

import contextlib
import enum
import errno
import math
import mmap
import os
import pickle
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import mptcp_sockopt
from mptcp_sockopt.cli import CannotRun

from ._net import open_socket

REQUEST = b"?"
REPLY = struct.Struct("=I")
PATIENCE = 5.0  # seconds without progress: stalled
SLOW = 0.5  # seconds; a SYN that is sent again takes one


class Kind(enum.Enum):
    """What became of a connection. All but SERVED are losses; EOF is an end without the whole answer."""

    SERVED = "served"
    REFUSED = "refused"
    RESET = "reset"
    EOF = "eof"
    STALLED = "stalled"
    FELL_BACK = "fell back"


#: What the first error of any call makes of a connection.
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
    """What a server does with a connection: read the request, say who it is."""

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            if sock.recv(1):
                sock.sendall(REPLY.pack(number))

    return serve


def be_patient(listener: socket.socket) -> socket.socket:
    """Accepted sockets inherit it: a client that says nothing does not hold a server for ever."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(PATIENCE), 0))
    return listener


class Target:
    """Where a loader connects to, and how."""

    def __init__(self, address: tuple[str, int], *, family: int, mptcp: bool) -> None:
        self.address = address
        self.family = family
        self.mptcp = mptcp


class Tally:
    """Counts of one load. Add them up with +=."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.served_by: Counter[int] = Counter()
        #: Of the resets, those that the server's kernel had queued and those still in their handshake;
        #: MPTCP does not tell.
        self.reset_where: Counter[str] = Counter()
        self.slow = 0
        self.slowest = 0.0

    def add(self, kind: Kind, server: int | None, seconds: float) -> None:
        self.kinds[kind.value] += 1
        if server is not None:
            self.served_by[server] += 1
        self.slow += kind is Kind.SERVED and seconds > SLOW
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


def attempt(target: Target, tally: Tally, source: tuple[str, int] | None = None) -> None:
    """One connection: connect, ask, be answered. The first error of any call decides what became of it."""
    begun = time.monotonic()
    server: int | None = None
    with open_socket(target.family, mptcp=target.mptcp) as sock:
        patience = struct.pack("@ll", int(PATIENCE), 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        if source:
            sock.bind(source)
        try:
            sock.connect(target.address)
            sock.sendall(REQUEST)
            answer = sock.recv(REPLY.size, socket.MSG_WAITALL)
        except OSError as error:
            if error.errno not in KINDS:
                raise
            kind = KINDS[error.errno]
            if kind is Kind.RESET and not target.mptcp:
                tally.reset_where[_where(sock)] += 1
        else:
            kind = Kind.SERVED if len(answer) == REPLY.size else Kind.EOF
            if kind is Kind.SERVED:
                (server,) = REPLY.unpack(answer)
            if target.mptcp and not mptcp_sockopt.is_mptcp(sock):
                kind = Kind.FELL_BACK
            # All is said: a reset leaves nothing behind. Closed in order, MPTCP connections linger on the
            # server, and after some ten thousand the kernel finds no token for a new one, which falls back.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    tally.add(kind, server, time.monotonic() - begun)


def _where(sock: socket.socket) -> str:
    """Whether the server's kernel had acknowledged the request: then it was queued, else in its handshake."""
    acked = mptcp_sockopt.snapshot(sock).subflows[0].tcp_info.bytes_acked
    return "queue" if acked is not None and acked > 1 else "handshake"


# ------------------------------------------------------------------------------------------ many of them


class ClosedLoop:
    """Processes that connect one after the other, each as soon as the last is done, until told to stop.

    Counts are live in shared memory; the tallies come at the end. A loader that dies is an error, not a loss.
    """

    def __init__(self, target: Target, *, in_flight: int) -> None:
        #: When the first loader began, by time.monotonic(); some do long before the last is forked.
        self.begun = time.monotonic()
        self._shared = mmap.mmap(-1, 8 * (in_flight + 1))
        self._words = memoryview(self._shared).cast("Q")
        self._children: list[tuple[int, int]] = []
        for index in range(in_flight):
            inward, outward = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(inward)
                self._work(target, index + 1, outward)
            os.close(outward)
            self._children.append((pid, inward))

    @property
    def done(self) -> int:
        """Connections that have ended so far."""
        return sum(self._words[1:])

    @property
    def failed(self) -> bool:
        """Whether a loader has ended of an error that is no loss: stop() raises it."""
        return bool(self._words[0])

    def _work(self, target: Target, slot: int, pipe: int) -> None:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
            # Of the server's descriptors nothing: a listener that is held and not served is a black hole.
            os.closerange(3, pipe)
            os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
            os.nice(10)  # a server that gets no CPU restarts slowly
            tally = Tally()
            try:
                while not self._words[0] and os.getppid() != 1:
                    attempt(target, tally)
                    self._words[slot] += 1
            except OSError as error:
                self._words[0] = 1  # nothing is proven any more
                _send(pipe, error)
            else:
                _send(pipe, tally)
            code = 0
        finally:
            os._exit(code)

    def __enter__(self) -> ClosedLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> Tally:
        """End the loaders and add up what they saw. OSError, that of a loader, if it could not go on."""
        self._words[0] = 1
        tally = Tally()
        for _, pipe in self._children:
            tally += _receive(pipe)
        self.close()
        return tally

    def close(self) -> None:
        """End them, whatever they do."""
        for pid, pipe in self._children:
            os.close(pipe)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._children = []


def open_loop(target: Target, *, rate: float, until: Callable[[], bool]) -> Tally:
    """Connections at a fixed rate a second, whatever becomes of them; returns when all have ended."""
    tally, lock = Tally(), threading.Lock()

    def one() -> None:
        mine = Tally()
        attempt(target, mine)
        with lock:
            nonlocal tally
            tally += mine

    with Threads() as threads:
        begun = time.monotonic()
        while not until():
            due = begun + threads.started / rate
            time.sleep(max(0.0, due - time.monotonic()))
            threads.start(one)
    return tally


class Threads:
    """Started one by one, waited for at the end of the block. An OSError of one ends the block with it."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[OSError] = []

    @property
    def started(self) -> int:
        return len(self._threads)

    def start(self, function: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                function()
            except OSError as error:  # else it would be printed, and forgotten
                self._errors.append(error)

        if self._errors:
            raise self._errors[0]
        thread = threading.Thread(target=guarded)
        try:
            thread.start()
        except RuntimeError as error:  # what Python makes of pthread_create's EAGAIN
            raise CannotRun(f"{error} ({self.started} were started)") from None
        self._threads.append(thread)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for thread in self._threads:
            thread.join()
        if self._errors and kind is None:
            raise self._errors[0]


def _send(pipe: int, outcome: Tally | OSError) -> None:
    with os.fdopen(pipe, "wb") as out:
        pickle.dump(outcome, out)


def _receive(pipe: int) -> Tally:
    with os.fdopen(pipe, "rb", closefd=False) as read:
        data = read.read()
    if not data:
        raise CannotRun("a loader died: it was killed, or memory ran out")
    outcome: Tally | OSError = pickle.loads(data)
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


# ------------------------------------------------------------------------------- what the counts allow


def bound_95(lost: int, total: int) -> float:
    """The rate of loss that is not exceeded with 95 % confidence; 3/n when none of n was lost.

    Exact (Clopper-Pearson in its Poisson limit): the mean at which seeing at most `lost` has odds of 5 %.
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
    """Pearson's statistic of counts against equal shares, and its p: the odds of chance being as uneven.

    Only for independent draws: of connections, those with 4-tuples that are all different, because the
    kernel's hash sends the same 4-tuple to the same listener.
    """
    mean = sum(counts) / len(counts)
    statistic = sum((count - mean) ** 2 for count in counts) / mean
    return statistic, _upper_gamma((len(counts) - 1) / 2, statistic / 2)


def _upper_gamma(a: float, x: float) -> float:
    """Q(a, x), the regularized upper incomplete gamma function (DLMF 8.7.1, 8.9.2)."""
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while term > total * 1e-16:
            n += 1
            term *= x / n
            total += term
        return max(0.0, 1 - scale * total)
    # Lentz's algorithm.
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    fraction = d
    for i in range(1, 1000):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return scale * fraction
