# SPDX-License-Identifier: MIT
"""fair: how evenly do processes share the connections of a port?

Every connection has a 4-tuple of its own, because a reuseport group sends the same 4-tuple to the same
listener: counting repeats would make an even hash look uneven.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mptcp_sockopt import cli, testing
from mptcp_sockopt.cli import FAIL, PASS, USAGE, CannotRun

from . import _net
from ._load import Tally, Target, Threads, answer_as, attempt, be_patient, chi_square
from ._net import LOOPBACK, Reuse, listen
from ._report import finish

PORT = 80  # in a namespace of our own, below the ports of clients
FIRST_PORT = 10_000  # of the clients: one after the other, so that no 4-tuple comes twice
DELAYED = 0.1  # seconds; with a stopped worker

Loop = Callable[[socket.socket, Callable[[socket.socket], None]], None]


# -------------------------------------------------------------------------------- how workers wait


def by_blocking_accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        serve(listener.accept()[0])


def by_epoll(listener: socket.socket, serve: Callable[[socket.socket], None], flags: int = 0) -> None:
    listener.setblocking(False)
    with select.epoll() as events:
        events.register(listener, select.EPOLLIN | flags)
        while True:
            events.poll()
            with contextlib.suppress(BlockingIOError):
                sock, _ = listener.accept()
                sock.setblocking(True)
                serve(sock)


def by_exclusive_epoll(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    by_epoll(listener, serve, select.EPOLLEXCLUSIVE)


#: How they wait, and whether each worker has a listener of its own.
MODES: dict[str, tuple[Loop, bool]] = {
    "reuseport": (by_blocking_accept, True),
    "fork": (by_blocking_accept, False),
    "epoll": (by_epoll, False),
    "exclusive": (by_exclusive_epoll, False),
}


@contextlib.contextmanager
def workers(mode: str, count: int, *, family: int, mptcp: bool) -> Iterator[list[int]]:
    """Processes that serve until the block ends; their pids."""
    loop, own = MODES[mode]
    address = (LOOPBACK[family], PORT)
    reuse = Reuse.PORT if own else Reuse.NONE
    listeners = [
        be_patient(listen(address, reuse, family=family, mptcp=mptcp)) for _ in range(count if own else 1)
    ]
    pids: list[int] = []
    try:
        for number in range(count):
            pid = os.fork()
            if pid == 0:
                serve_for_ever(loop, listeners, number)
            pids.append(pid)
        for listener in listeners:
            listener.close()
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def serve_for_ever(loop: Loop, listeners: Sequence[socket.socket], number: int) -> None:
    try:
        mine = listeners[number % len(listeners)]
        # A listener that is held and not served is a black hole for its share.
        for listener in listeners:
            if listener is not mine:
                listener.close()
        loop(mine, answer_as(number))
    finally:
        os._exit(1)


# ------------------------------------------------------------------------------------------ the measure


class Shares:
    """Who served how many, and what that is worth."""

    def __init__(self, mode: str, counts: list[int]) -> None:
        self.mode = mode
        self.counts = counts
        self.chi_square, self.p = chi_square(counts)
        self.delayed: tuple[int, int] | None = None

    @property
    def top(self) -> float:
        """The largest share, in means."""
        return max(self.counts) * len(self.counts) / sum(self.counts)

    @property
    def verdict(self) -> str:
        if self.p < 1e-6 and self.top > 1.5:
            return "SKEWED"
        return "ROUND-ROBIN-FAIR" if self.p > 1 - 1e-6 else "RANDOM-FAIR"

    def asdict(self) -> dict[str, object]:
        return {
            "mode": self.mode,
            "shares": self.counts,
            "chi_square": self.chi_square,
            "degrees_of_freedom": len(self.counts) - 1,
            "p": self.p,
            "max_over_min": max(self.counts) / min(self.counts) if min(self.counts) else None,
            "top_over_mean": self.top,
            "delayed": self.delayed[0] if self.delayed else None,
            "delayed_of": self.delayed[1] if self.delayed else None,
            "verdict": self.verdict,
        }

    def lines(self) -> list[str]:
        least = min(self.counts)
        ratio = f"{max(self.counts) / least:.2f}" if least else "inf"
        lines = [
            f"{self.mode:<10}{self.verdict:<17}chi2 {self.chi_square:,.1f} on {len(self.counts) - 1} df, "
            f"p {self.p:.3g}, max/min {ratio}",
            f"          {' '.join(map(str, self.counts))}",
        ]
        if self.delayed:
            lines.append("          one worker stopped: {:,} of {:,} delayed > 100 ms".format(*self.delayed))
        return lines


def measure(mode: str, options: Options) -> Shares:
    """In a private namespace: connections one after the other, each from a port of its own."""
    _net.enter_private_network()
    family = options.family
    target = Target((LOOPBACK[family], PORT), family=family, mptcp=options.mptcp)
    with workers(mode, options.workers, family=family, mptcp=options.mptcp) as pids:
        tally = Tally()
        for n in range(options.conns):
            attempt(target, tally, (LOOPBACK[family], FIRST_PORT + n))
        if tally.lost:
            raise CannotRun(f"connections were lost: {tally.losses()}")
        shares = Shares(mode, [tally.served_by[number] for number in range(options.workers)])
        if options.stall:
            shares.delayed = stall(target, pids[0])
    return shares


def stall(target: Target, pid: int) -> tuple[int, int]:
    """Stop one worker for a second, connect 2,000 times in that second: how many waited, of how many."""
    waits: list[float] = []

    def one() -> None:
        begun = time.monotonic()
        attempt(target, Tally())
        waits.append(time.monotonic() - begun)

    with Threads() as threads:
        os.kill(pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            for n in range(2000):
                time.sleep(max(0.0, begun + n / 2000 - time.monotonic()))
                threads.start(one)
        finally:
            os.kill(pid, signal.SIGCONT)
    return sum(wait > DELAYED for wait in waits), len(waits)


# --------------------------------------------------------------------------------------------- the door


class Options(NamedTuple):
    """The words of the command."""

    command: str
    mode: str
    mptcp: bool
    ipv6: bool
    workers: int
    conns: int
    stall: bool
    json: bool

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if self.ipv6 else socket.AF_INET


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    number = cli.positive(int)
    parser.add_argument("--mode", choices=[*MODES, "all"], default="reuseport", help="how the workers share")
    parser.add_argument("--mptcp", action="store_true", help="MPTCP listeners and clients")
    parser.add_argument("-6", dest="ipv6", action="store_true", help="IPv6")
    parser.add_argument("--workers", type=number, default=8, metavar="N", help="processes, 8 by default")
    parser.add_argument(
        "--conns", type=number, default=10_000, metavar="N", help="connections, 10000 by default"
    )
    parser.add_argument("--stall", action="store_true", help="stop a worker for a second, too")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(options: Options) -> int:
    if options.conns > 50_000 or options.workers < 2 or options.conns < 5 * options.workers:
        print("reuseport fair: 2 workers at least, 5 connections each, 50000 in all", file=sys.stderr)
        return USAGE
    found = []
    for mode in MODES if options.mode == "all" else [options.mode]:
        found.append(testing.in_child(lambda m=mode: measure(m, options), within=120))  # type: ignore[misc]
        if not options.json:
            print(*found[-1].lines(), sep="\n", flush=True)
    skewed = [shares.mode for shares in found if shares.verdict == "SKEWED"]
    even = found[-1].verdict if len(found) == 1 else f"{len(found)} modes, none skewed"
    sentence = f"SKEWED {', '.join(skewed)}" if skewed else even
    return finish(options, {"modes": [s.asdict() for s in found]}, [], sentence, FAIL if skewed else PASS)
