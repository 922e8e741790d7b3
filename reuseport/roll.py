# SPDX-License-Identifier: MIT
"""roll: who is lost at rolling restarts under load."""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mptcp_sockopt import cli, testing
from mptcp_sockopt.cli import CANNOT, FAIL, PASS, CannotRun

from . import _net, handover, steer
from ._load import PATIENCE, ClosedLoop, Tally, Target, answer_as, be_patient, bound_95, open_loop
from ._net import ANY, LOOPBACK, Reuse, listen
from ._report import finish
from .handover import Worker

PORT = 80  # in a namespace of our own, below the ports that clients get


class Options(NamedTuple):
    """The words of the command."""

    command: str
    strategy: str
    mptcp: bool
    ipv6: bool
    conns: int
    restarts: int
    in_flight: int
    rtt: float | None
    """In milliseconds."""
    rate: float
    seconds: float
    json: bool


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    number, real = cli.positive(int), cli.positive(float)
    parser.add_argument(
        "--strategy", choices=[*STRATEGIES, "all"], default="all", help="how to restart, all by default"
    )
    parser.add_argument("--mptcp", action="store_true", help="MPTCP listeners and clients")
    parser.add_argument("-6", dest="ipv6", action="store_true", help="IPv6")
    parser.add_argument(
        "--conns",
        type=number,
        default=10_000,
        metavar="N",
        help="at least so many connections, 10000 by default",
    )
    parser.add_argument(
        "--restarts", type=number, default=20, metavar="N", help="at least so many restarts, 20 by default"
    )
    parser.add_argument(
        "--in-flight", type=number, default=16, metavar="N", help="clients side by side, 16 by default"
    )
    parser.add_argument(
        "--rtt", type=real, metavar="MS", help="round-trip time to the clients; none by default"
    )
    parser.add_argument(
        "--rate", type=real, default=500, metavar="N", help="connections/s with --rtt, 500 by default"
    )
    parser.add_argument(
        "--seconds", type=real, default=120, metavar="S", help="time cap of a strategy, 120 by default"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


# ------------------------------------------------------------------------------------------- strategies


class Site:
    """Where the server of a roll listens."""

    def __init__(self, host: str, *, family: int, mptcp: bool) -> None:
        self.address = (host, PORT)
        self.family = family
        self.mptcp = mptcp

    def listen(self, reuse: Reuse = Reuse.PORT) -> socket.socket:
        return be_patient(listen(self.address, reuse, family=self.family, mptcp=self.mptcp))


Work = Callable[[Worker], None]


class Errors:
    """The first OSError of any generation: one that cannot do its work proves nothing about it.

    In shared memory, because a generation puts its listener where any descriptor may be.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 4096)

    def of(self, work: Work) -> Work:
        """The same work, its errors noted here."""

        def noted(worker: Worker) -> None:
            try:
                work(worker)
            except OSError as error:
                words = (error.strerror or str(error) or repr(error)).encode()[:1000]
                _ERROR.pack_into(self._page, 0, error.errno or 0, words)
                raise SystemExit(1) from None  # it is told: no traceback

        return noted

    def check(self) -> None:
        """Raise it."""
        number, words = _ERROR.unpack_from(self._page)
        if said := words.rstrip(b"\0").decode(errors="replace"):
            raise OSError(number, said) if number else OSError(said)


_ERROR = struct.Struct("=i1000s")
RETIRE_TIMEOUT = 5.0


@contextlib.contextmanager
def naive(site: Site) -> Iterator[Work]:
    """The successor listens, the old one closes at once."""

    def work(worker: Worker) -> None:
        with site.listen() as listener:
            worker.ready()
            worker.serve([listener], answer_as(worker.number))

    yield work


@contextlib.contextmanager
def drain(site: Site) -> Iterator[Work]:
    """The successor listens, the old one accepts until its queue is empty and closes."""

    def work(worker: Worker) -> None:
        with site.listen() as listener:
            worker.ready()
            worker.serve([listener], answer_as(worker.number))
            handover.drain(listener, answer_as(worker.number))

    yield work


@contextlib.contextmanager
def inherit(site: Site) -> Iterator[Work]:
    """One listener; every generation is a child that is given it (LISTEN_FDS)."""
    with site.listen(Reuse.NONE) as listener:

        def work(worker: Worker) -> None:
            handover.give_listen_fds([listener])
            with handover.take_listen_fds()[0] as mine:
                worker.ready()
                worker.serve([mine], answer_as(worker.number))

        yield work


@contextlib.contextmanager
def pass_on(site: Site) -> Iterator[Work]:
    """One listener; each generation fetches it from the one before, of which it is no child (SCM_RIGHTS)."""
    prefix = f"\0reuseport-roll-{os.getpid()}-"

    def work(worker: Worker) -> None:
        number = worker.number
        with handover.offer(f"{prefix}{number}") as door:
            listener = (
                site.listen(Reuse.NONE) if number == 0 else handover.fetch(f"{prefix}{number - 1}", PATIENCE)
            )

            def hand_over(door: socket.socket) -> None:
                handover.hand_over(door, listener)

            with listener:
                worker.ready()
                worker.serve([listener], answer_as(number), (door, hand_over))

    yield work


@contextlib.contextmanager
def newest(site: Site) -> Iterator[Work]:
    """A listener a generation; classic BPF sends new connections to the newest, the old one retires."""

    def work(worker: Worker) -> None:
        if worker.number == 0:
            with steer.newest_wins(site.address, family=site.family):
                listener = site.listen()
        else:
            listener = site.listen()
        serve = answer_as(worker.number)
        worker.ready()
        worker.serve([listener], serve)
        handover.retire(listener, RETIRE_TIMEOUT, serve)

    yield work


@contextlib.contextmanager
def incpu(site: Site) -> Iterator[Work]:
    """A listener a CPU and generation; the old ones give their CPUs up and retire (SO_INCOMING_CPU)."""
    if not steer.cpu_steering_works(family=site.family, mptcp=site.mptcp):
        raise CannotRun("this kernel does not heed SO_INCOMING_CPU among reuseport listeners (Linux 6.2)")

    def work(worker: Worker) -> None:
        listeners = steer.listen_per_cpu(site.address, family=site.family, mptcp=site.mptcp)
        for listener in listeners:
            be_patient(listener)
        serve = answer_as(worker.number)
        worker.ready()
        worker.serve(listeners, serve)
        handover.retire(listeners, RETIRE_TIMEOUT, serve, steer=lambda: steer.leave_cpus(listeners))

    yield work


STRATEGIES: dict[str, Callable[[Site], contextlib.AbstractContextManager[Work]]] = {
    "naive": naive,
    "drain": drain,
    "inherit": inherit,
    "pass": pass_on,
    "newest": newest,
    "incpu": incpu,
}
SAFE = ("inherit", "pass", "newest", "incpu")


class Result:
    """One strategy, rolled."""

    def __init__(self, strategy: str, tally: Tally, restarts: int, seconds: float) -> None:
        self.strategy = strategy
        self.tally = tally
        self.restarts = restarts
        self.seconds = seconds
        #: With a round-trip time: how many the drain should lose.
        self.predicted: float | None = None

    def asdict(self) -> dict[str, object]:
        tally = self.tally
        return {
            "strategy": self.strategy,
            "connections": tally.total,
            "restarts": self.restarts,
            "seconds": round(self.seconds, 3),
            "lost": tally.lost,
            "losses": tally.losses(),
            "reset_where": dict(tally.reset_where),
            "slow": tally.slow,
            "slowest_seconds": round(tally.slowest, 3),
            "bound_95": bound_95(tally.lost, tally.total),
            "predicted": self.predicted,
        }

    def line(self) -> str:
        tally = self.tally
        text = f"{self.strategy:<8}lost {tally.lost:,} of {tally.total:,} in {self.restarts} restarts"
        if self.predicted is not None:
            text += f", predicted {self.predicted:.1f}"
        text += f", {tally.total / self.seconds:,.0f}/s; below {bound_95(tally.lost, tally.total):.1e} (95 %)"
        kinds = [f"{kind} {count:,}" for kind, count in tally.losses().items() if count]
        kinds += [f"{count:,} of the resets in the {where}" for where, count in tally.reset_where.items()]
        kinds += [f"slow {tally.slow:,}"] if tally.slow else []
        return text + "".join(f"\n          {kind}" for kind in kinds)


def run(options: Options) -> int:
    family = socket.AF_INET6 if options.ipv6 else socket.AF_INET
    names = list(STRATEGIES) if options.strategy == "all" else [options.strategy]

    def roll_one(strategy: str) -> Result:
        _net.enter_private_network()
        if options.rtt:
            return roll_over_wire(strategy, family, options, options.rtt / 1000)
        return roll_on_loopback(strategy, family, options)

    results = []
    for strategy in names:
        results.append(testing.in_child(lambda s=strategy: roll_one(s), within=options.seconds + 30))  # type: ignore[misc]
        if not options.json:
            print(results[-1].line(), flush=True)
    code, sentence = judge(results, control=options.strategy == "all" and not options.rtt)
    found = {
        "mptcp": options.mptcp,
        "family": 6 if options.ipv6 else 4,
        "rtt_ms": options.rtt,
        "strategies": [result.asdict() for result in results],
    }
    return finish(options, found, [], sentence, code)


def judge(results: list[Result], *, control: bool) -> tuple[int, str]:
    """0 nobody was lost; 1 somebody was; 3 if the control lost nobody either, which proves nothing."""
    lost = {result.strategy: result.tally.lost for result in results}
    if not control:
        total = sum(lost.values())
        return (FAIL, f"lost {total:,}") if total else (PASS, "lost nobody")
    guilty = [name for name in SAFE if lost[name]]
    if guilty:
        return FAIL, f"{', '.join(guilty)} lost somebody"
    if not lost["naive"]:
        return CANNOT, "the naive restart lost nobody either; more connections are needed"
    return PASS, f"{', '.join(SAFE)} lost nobody; the naive restart lost {lost['naive']:,}"


@contextlib.contextmanager
def supervised(work: Work) -> Iterator[tuple[handover.Supervisor, Errors]]:
    """A supervisor whose generations' errors end the block, at its end at the latest."""
    errors = Errors()
    try:
        with handover.Supervisor(errors.of(work)) as supervisor:
            yield supervisor, errors
    except RuntimeError:  # the first generation died
        errors.check()
        raise
    errors.check()


def roll_on_loopback(strategy: str, family: int, options: Options) -> Result:
    """Restarts spread over the connections of a closed loop."""
    site = Site(LOOPBACK[family], family=family, mptcp=options.mptcp)
    target = Target(site.address, family=family, mptcp=options.mptcp)
    restarts = 0
    with (
        STRATEGIES[strategy](site) as work,
        supervised(work) as (supervisor, errors),
        ClosedLoop(target, in_flight=options.in_flight) as load,
    ):
        while not load.failed and (restarts < options.restarts or load.done < options.conns):
            errors.check()
            if time.monotonic() - load.begun > options.seconds:
                done = f"{load.done:,} connections and {restarts} restarts"
                raise CannotRun(f"in {options.seconds:g} s it came to {done}: see --seconds")
            if restarts < options.restarts and load.done >= restarts * options.conns / options.restarts:
                restarts += supervisor.restart()
            else:
                time.sleep(0.001)
        tally = load.stop()
        seconds = time.monotonic() - load.begun  # all that the tally counts was done in it
    return Result(strategy, tally, restarts, seconds)


def roll_over_wire(strategy: str, family: int, options: Options, rtt: float) -> Result:
    """Restarts spread over the connections of an open loop, with a round trip in every handshake."""
    duration = max(options.conns / options.rate, options.restarts * 3 * rtt)
    if duration > options.seconds:
        raise CannotRun(
            f"{options.conns} connections at {options.rate:g}/s take {duration:.0f} s: see --seconds"
        )
    at_old = 0.0
    with testing.Paths(1, delay=rtt / 2, family=family) as paths, paths.server:
        site = Site(ANY[family], family=family, mptcp=options.mptcp)
        target = Target((paths.server_addresses[0], PORT), family=family, mptcp=options.mptcp)

        def load() -> Tally:
            _net.drop_tcp_sockets()
            _net.allow_all_ports()
            end = time.monotonic() + duration
            return open_loop(target, rate=options.rate, until=lambda: time.monotonic() > end)

        with STRATEGIES[strategy](site) as work, supervised(work) as (supervisor, errors):
            begun = time.monotonic()
            with paths.client:
                loader = testing.Child(load)
            with loader:
                for n in range(options.restarts):
                    due = begun + (n + 0.7) * duration / options.restarts
                    time.sleep(max(0.0, due - time.monotonic()))
                    while not supervisor.restart():
                        errors.check()
                    at_old += share_of_old(supervisor.overlap, rtt)
                tally = loader.result(duration + 4 * PATIENCE)
            seconds = time.monotonic() - begun
    result = Result(strategy, tally, options.restarts, seconds)
    # At the rate that was reached: a busy machine does not keep up with the one that was asked for.
    result.predicted = tally.total / duration * at_old if strategy == "drain" else None
    return result


def share_of_old(overlap: float, rtt: float) -> float:
    """Seconds' worth of handshakes that are in flight at the old listener when it closes: all of the last
    round trip, but half of those that came while two listeners shared the port."""
    return max(0.0, rtt - overlap) + min(rtt, overlap) / 2
