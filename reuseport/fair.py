# SPDX-License-Identifier: MIT
"""fair: how evenly processes share the connections of a port.

Every connection has a 4-tuple of its own. A reuseport group sends the same 4-tuple to the same listener, so
repeats would make an even hash look uneven.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from mptcp_sockopt import cli, testing
from mptcp_sockopt.cli import FAIL, PASS, USAGE, CannotRun

from . import _net
from ._net import LOOPBACK, Reuse
from ._report import add_json, add_numbers, add_sockets, finish
from ._statistics import chi_square
from .load import Client, Loader, Plan, Target, answer_as, run_here

PORT = 80  # in a private namespace, below the ports of clients
FIRST_PORT = 10_000  # of the clients; each has the next one, so that no 4-tuple comes twice
DELAYED = 0.1  # seconds, with a stopped worker

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


#: How workers wait, and whether each has its own listener.
MODES: dict[str, tuple[Loop, bool]] = {
    "reuseport": (by_blocking_accept, True),
    "fork": (by_blocking_accept, False),
    "epoll": (by_epoll, False),
    "exclusive": (functools.partial(by_epoll, flags=select.EPOLLEXCLUSIVE), False),
}


def start_workers(mode: str, count: int, target: Target) -> list[int]:
    """Fork processes that serve until in_child(), which called this, ends them; their pids."""
    loop, own = MODES[mode]
    listeners = [target.listen(Reuse.PORT if own else Reuse.NONE) for _ in range(count if own else 1)]
    pids = []
    for number in range(count):
        pids.append(os.fork())
        if pids[-1] == 0:
            serve_for_ever(loop, listeners, number)
    for listener in listeners:
        listener.close()
    return pids


def serve_for_ever(loop: Loop, listeners: list[socket.socket], number: int) -> None:
    try:
        mine = listeners.pop(number % len(listeners))
        for other in listeners:  # open and not accepted from, it is a black hole for its share
            other.close()
        loop(mine, answer_as(number))
    finally:
        os._exit(1)


# ------------------------------------------------------------------------------------------ the measure


class Shares:
    """How many connections each worker served, and how even that is."""

    def __init__(self, mode: str, counts: list[int]) -> None:
        self.mode = mode
        self.counts = counts
        self.chi_square, self.p = chi_square(counts)
        self.delayed: tuple[int, int] | None = None

    @property
    def top(self) -> float:
        """The largest share, as a multiple of the mean."""
        return max(self.counts) * len(self.counts) / sum(self.counts)

    @property
    def verdict(self) -> str:
        if self.p < 1e-6 and self.top > 1.5:
            return "SKEWED"
        return "ROUND-ROBIN-FAIR" if self.p > 1 - 1e-6 else "RANDOM-FAIR"

    def asdict(self) -> dict[str, object]:
        delayed, delayed_of = self.delayed or (None, None)
        return {
            "mode": self.mode,
            "shares": self.counts,
            "chi_square": self.chi_square,
            "degrees_of_freedom": len(self.counts) - 1,
            "p": self.p,
            "max_over_min": max(self.counts) / min(self.counts) if min(self.counts) else None,
            "top_over_mean": self.top,
            "delayed": delayed,
            "delayed_of": delayed_of,
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
    """In a private namespace: one connection after the other, each from its own port."""
    _net.enter_private_network()
    host = LOOPBACK[options.family]
    target = Target((host, PORT), options.family, options.mptcp)
    pids = start_workers(mode, options.workers, target)
    plan = Plan(Client.WHO, (target,), None, at_once=1, total=options.conns, source=(host, FIRST_PORT))
    tally = run_here([plan]).tally
    if tally.lost:
        raise CannotRun(f"connections were lost: {tally.losses()}")
    shares = Shares(mode, [tally.statuses[number] for number in range(options.workers)])
    if options.stall:
        shares.delayed = stall(target, pids[0])
    return shares


def stall(target: Target, pid: int) -> tuple[int, int]:
    """Stop one worker for a second and connect 2,000 times meanwhile: how many waited, of how many."""
    plan = Plan(Client.WHO, (target,), rate=2000, total=2000)
    os.kill(pid, signal.SIGSTOP)
    with Loader([plan], slow_after=DELAYED) as loader:
        while not loader.failed and loader.live().started < 2000:
            time.sleep(0.005)
        os.kill(pid, signal.SIGCONT)
        tally = loader.stop().tally
    return tally.slow, tally.total


# --------------------------------------------------------------------------------------------- the door


class Options(NamedTuple):
    command: str
    mode: str
    mptcp: bool
    family: socket.AddressFamily
    workers: int
    conns: int
    stall: bool
    json: bool


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    modes = [*MODES, "all"]
    parser.add_argument(
        "--mode", choices=modes, default="reuseport", help="how to share (default: reuseport)"
    )
    add_sockets(parser)
    number = cli.positive(int)
    add_numbers(
        parser,
        ("--workers", number, 8, "N", "processes that accept, 2 or more"),
        ("--conns", number, 10_000, "N", "connections to make, from 5 for each worker to 50000"),
    )
    parser.add_argument("--stall", action="store_true", help="also stop one worker for a second")
    add_json(parser)
    parser.epilog = """p: chi-square test against equal shares. SKEWED: p < 1e-6, and one worker has over 1.5
times the mean. ROUND-ROBIN-FAIR: p > 1 - 1e-6, more even than chance. RANDOM-FAIR: all else. Exit status:
0 no mode is SKEWED, 1 one is, 2 usage, 3 cannot run here."""


def run(options: Options) -> int:
    if options.conns > 50_000 or options.workers < 2 or options.conns < 5 * options.workers:
        print("reuseport fair: error: --workers or --conns is out of bounds (see --help)", file=sys.stderr)
        return USAGE
    found = []
    for mode in MODES if options.mode == "all" else [options.mode]:
        found.append(testing.in_child(functools.partial(measure, mode, options), within=120))
        if not options.json:
            print(*found[-1].lines(), sep="\n", flush=True)
    skewed = [shares.mode for shares in found if shares.verdict == "SKEWED"]
    even = found[-1].verdict if len(found) == 1 else f"{len(found)} modes, none skewed"
    sentence = f"SKEWED {', '.join(skewed)}" if skewed else even
    return finish(options, {"modes": [s.asdict() for s in found]}, [], sentence, FAIL if skewed else PASS)
