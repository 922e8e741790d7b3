# SPDX-License-Identifier: MIT
"""roll: how many connections rolling restarts under load lose."""

from __future__ import annotations

import argparse
import contextlib
import functools
import mmap
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mptcp_sockopt import cli, testing
from mptcp_sockopt.cli import CANNOT, FAIL, PASS, CannotRun

from . import _net, handover, steer
from ._net import ANY, LOOPBACK, Reuse
from ._report import add_json, add_numbers, add_sockets, finish
from ._statistics import Restarts
from .handover import Worker
from .load import (
    PATIENCE,
    Client,
    Loader,
    Outcome,
    Plan,
    Report,
    Target,
    Where,
    answer_as,
    attribute,
    be_patient,
)

PORT = 80  # in a private namespace, below the ports of clients


class Options(NamedTuple):
    command: str
    strategy: str
    mptcp: bool
    family: socket.AddressFamily
    conns: int
    restarts: int
    in_flight: int
    rtt: float | None
    """In milliseconds."""
    rate: float
    seconds: float
    json: bool


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    names = [*STRATEGIES, "all"]
    parser.add_argument("--strategy", choices=names, default="all", help="how to restart (default: all)")
    add_sockets(parser)
    number, real = cli.positive(int), cli.between(float, 0.1, 10**5)
    many, day = cli.between(int, 1, 10_000), cli.positive(float, 86_400)
    add_numbers(
        parser,
        ("--conns", number, 10_000, "N", "make at least so many connections"),
        ("--restarts", number, 20, "N", "restart at least so many times"),
        ("--in-flight", many, 16, "N", "clients that connect at the same time, without --rtt"),
        ("--rate", real, 500, "N", "connections per second, with --rtt"),
        ("--seconds", day, 120, "S", "give up a strategy after so many seconds"),
    )
    parser.add_argument(
        "--rtt",
        type=cli.between(float, 0.1, 2000),
        metavar="MS",
        help="round trip to the clients (default: none)",
    )
    add_json(parser)
    parser.epilog = (
        "Exit status: 0 nothing was lost, 1 something was, 2 usage, 3 cannot run here, or nothing proven. "
        "With --strategy all, the naive restart is expected to lose connections: 0 and 1 are about the "
        "others, and 3 means that the naive one lost none."
    )


# ------------------------------------------------------------------------------------------- strategies

Work = Callable[[Worker], None]
RETIRE_TIMEOUT = 5.0


class Errors:
    """The first OSError of any generation: if one cannot work, nothing is proven.

    It is in shared memory, because a generation may put a listener in place of any descriptor.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 1 << 16)

    def of(self, work: Work) -> Work:
        """The same work, with its errors noted here."""

        def noted(worker: Worker) -> None:
            try:
                work(worker)
            except OSError as error:
                pickled = pickle.dumps(error)
                self._page[: len(pickled)] = pickled
                raise SystemExit(1) from None  # without a traceback

        return noted

    def check(self) -> None:
        """Raise it, if there is one."""
        if self._page[0]:
            raise pickle.loads(self._page)


def independent(work: Callable[[Target, Worker], None]) -> Callable[[Target], Work]:
    """A strategy whose generations share nothing from before the first one."""
    return lambda target: functools.partial(work, target)


@independent
def naive(target: Target, worker: Worker) -> None:
    """The successor listens, the old one closes at once."""
    with target.listen() as listener:
        worker.ready()
        worker.serve([listener], answer_as(worker.number))


@independent
def drain(target: Target, worker: Worker) -> None:
    """The successor listens, the old one accepts until its queue is empty and closes."""
    with target.listen() as listener:
        worker.ready()
        worker.serve([listener], answer_as(worker.number))
        handover.drain(listener, answer_as(worker.number))


@independent
def pass_on(target: Target, worker: Worker) -> None:
    """One listener; each generation fetches it from the one before, which is not its parent (SCM_RIGHTS)."""
    doors = [f"\0reuseport-roll-{os.getppid()}-{number}" for number in (worker.number - 1, worker.number)]
    with handover.offer(doors[1]) as door:
        listener = handover.fetch(doors[0], PATIENCE) if worker.number else target.listen(Reuse.NONE)
        with listener:
            worker.ready()
            hand_over = functools.partial(handover.hand_over, listener=listener)
            worker.serve([listener], answer_as(worker.number), (door, hand_over))


@independent
def newest(target: Target, worker: Worker) -> None:
    """One listener per generation; classic BPF sends new connections to the newest, the old one retires."""
    first = worker.number == 0
    with steer.newest_wins(target.inet, family=target.family) if first else contextlib.nullcontext():
        listener = target.listen()
    serve = answer_as(worker.number)
    worker.ready()
    worker.serve([listener], serve)
    handover.retire(listener, RETIRE_TIMEOUT, serve)


def incpu(target: Target) -> Work:
    """One listener per CPU and generation; the old ones give up their CPUs and retire (SO_INCOMING_CPU)."""
    if not steer.cpu_steering_works(family=target.family, mptcp=target.mptcp):
        raise CannotRun("SO_INCOMING_CPU does not steer reuseport listeners here: it takes Linux 6.2")

    def work(worker: Worker) -> None:
        listeners = steer.listen_per_cpu(target.inet, family=target.family, mptcp=target.mptcp)
        for listener in listeners:
            be_patient(listener)
        serve = answer_as(worker.number)
        worker.ready()
        worker.serve(listeners, serve)
        handover.retire(listeners, RETIRE_TIMEOUT, serve, steer=lambda: steer.leave_cpus(listeners))

    return work


def inherit(target: Target) -> Work:
    """One listener; every generation is a child that is given it (LISTEN_FDS)."""
    listener = target.listen(Reuse.NONE)

    def work(worker: Worker) -> None:
        handover.give_listen_fds([listener])
        with handover.take_listen_fds()[0] as mine:
            worker.ready()
            worker.serve([mine], answer_as(worker.number))

    return work


#: Each prepares itself, and returns the life of a generation. What it opens is closed with the process.
STRATEGIES: dict[str, Callable[[Target], Work]] = {
    "naive": naive,
    "drain": drain,
    "inherit": inherit,
    "pass": pass_on,
    "newest": newest,
    "incpu": incpu,
}
SAFE = ("inherit", "pass", "newest", "incpu")


class Result(NamedTuple):
    """What one strategy lost."""

    strategy: str
    report: Report
    moments: tuple[int, ...]
    """When each restart began (ns)."""
    asked: int
    predicted: float | None = None
    """With a round-trip time: how many connections drain should lose."""

    @property
    def lost(self) -> int:
        return self.report.tally.lost

    @property
    def restarts(self) -> Restarts:
        """Each lost what was lost before the next one."""
        losses = attribute(self.report.plans[0].losses, self.moments)
        return Restarts(self.asked, tuple(map(len, losses[1:])))

    def asdict(self) -> dict[str, object]:
        tally = self.report.tally
        return {
            "strategy": self.strategy,
            "connections": tally.total,
            "restarts": self.restarts.asdict(),
            "seconds": round(self.report.seconds, 3),
            "lost": tally.lost,
            "losses": tally.losses(),
            "reset_where": self._where(),
            "slow": tally.slow,
            "slowest_seconds": round(tally.slowest, 3),
            "predicted": self.predicted,
        }

    def _where(self) -> dict[str, int]:
        """Of the resets. These servers answer at once, so what was acknowledged waited to be accepted."""
        found = [loss.where for loss in self.report.plans[0].losses if loss.outcome is Outcome.RESET]
        counts = {where.value: found.count(where) for where in (Where.QUEUE, Where.HANDSHAKE)}
        return {where: count for where, count in counts.items() if count}

    def line(self) -> str:
        tally = self.report.tally
        text = f"{self.strategy:<8}{self.restarts.sentence()}"
        rate = f"{tally.total / self.report.seconds:,.0f}/s"
        text += f"\n        {tally.lost:,} of {tally.total:,} connections, {rate}"
        if self.predicted is not None:
            text += f"; predicted {self.predicted:.1f}"
        kinds = [f"{kind} {count:,}" for kind, count in tally.losses().items() if count]
        kinds += [f"{count:,} of the resets in the {where}" for where, count in self._where().items()]
        kinds += [f"slow {tally.slow:,}"] if tally.slow else []
        return text + "".join(f"\n          {kind}" for kind in kinds)


def run(options: Options) -> int:
    results = []
    for strategy in STRATEGIES if options.strategy == "all" else [options.strategy]:
        measure = functools.partial(roll, strategy, options)
        results.append(testing.in_child(measure, within=options.seconds + 30))
        if not options.json:
            print(results[-1].line(), flush=True)
    code, sentence = judge(results, control=options.strategy == "all" and not options.rtt)
    found = {
        "mptcp": options.mptcp,
        "family": 6 if options.family == socket.AF_INET6 else 4,
        "rtt_ms": options.rtt,
        "strategies": [result.asdict() for result in results],
    }
    return finish(options, found, [], sentence, code)


def roll(strategy: str, options: Options) -> Result:
    """Measure one strategy. This process does not leave its private namespace again."""
    _net.enter_private_network()
    if options.rtt:
        return roll_over_wire(strategy, options, options.rtt / 1000)
    return roll_on_loopback(strategy, options)


def judge(results: list[Result], *, control: bool) -> tuple[int, str]:
    """0 if nothing was lost, 1 if something was, 3 if the control lost nothing: that proves nothing."""
    lost = {result.strategy: result.lost for result in results}
    if not control:
        total = sum(lost.values())
        sentence = results[0].restarts.sentence() if len(results) == 1 else f"lost {total or 'nobody'}"
        return FAIL if total else PASS, sentence
    guilty = [name for name in SAFE if lost[name]]
    if guilty:
        return FAIL, f"{', '.join(guilty)} lost somebody"
    if not lost["naive"]:
        return CANNOT, "the naive restart lost nobody either; more connections are needed"
    return PASS, f"{', '.join(SAFE)} lost nobody; the naive restart lost {lost['naive']:,}"


@contextlib.contextmanager
def supervised(work: Work) -> Iterator[tuple[handover.Supervisor, Errors]]:
    """A supervisor. An error of a generation ends the block, at the latest when the block ends."""
    errors = Errors()
    try:
        with handover.Supervisor(errors.of(work)) as supervisor:
            yield supervisor, errors
    except RuntimeError:  # the first generation died
        errors.check()
        raise
    errors.check()


def roll_on_loopback(strategy: str, options: Options) -> Result:
    """Restarts spread over the connections of a closed loop."""
    target = Target((LOOPBACK[options.family], PORT), options.family, options.mptcp)
    plan = Plan(Client.WHO, (target,), rate=None, at_once=options.in_flight)
    moments: list[int] = []
    with (
        supervised(STRATEGIES[strategy](target)) as (supervisor, errors),
        Loader([plan]) as load,
    ):
        begun = time.monotonic()
        while not load.failed and (len(moments) < options.restarts or load.live().ended < options.conns):
            errors.check()
            ended = load.live().ended
            if time.monotonic() - begun > options.seconds:
                done = f"{ended:,} connections and {len(moments)} restarts"
                raise CannotRun(f"in {options.seconds:g} s it came to {done}: see --seconds")
            due = (len(moments) + 0.5) * options.conns / options.restarts
            if len(moments) < options.restarts and ended >= due:
                restart(supervisor, moments)
            else:
                time.sleep(0.001)
        return Result(strategy, load.stop(), tuple(moments), options.restarts)


def roll_over_wire(strategy: str, options: Options, rtt: float) -> Result:
    """Restarts spread over the connections of an open loop, with a round trip in every handshake."""
    duration = max(options.conns / options.rate, options.restarts * 3 * rtt)
    if duration > options.seconds:
        raise CannotRun(
            f"{options.conns} connections at {options.rate:g}/s take {duration:.0f} s: see --seconds"
        )
    at_old = 0.0
    moments: list[int] = []
    with testing.Paths(1, delay=rtt / 2, family=options.family) as paths, paths.server:
        here = Target((ANY[options.family], PORT), options.family, options.mptcp)
        target = here._replace(address=(paths.server_addresses[0], PORT))
        plan = Plan(Client.WHO, (target,), options.rate)
        with supervised(STRATEGIES[strategy](here)) as (supervisor, errors):
            with paths.client:
                _net.allow_all_ports()
                loader = Loader([plan])
            with loader:
                begun = time.monotonic()
                for n in range(options.restarts):
                    sleep_until(begun + (n + 0.7) * duration / options.restarts)
                    while not restart(supervisor, moments):
                        errors.check()
                    at_old += share_of_old(supervisor.overlap, rtt)
                sleep_until(begun + duration)
                report = loader.stop()
    # At the rate that was reached: a busy machine may not reach the one that was asked for.
    predicted = report.plans[0].rate * at_old if strategy == "drain" else None
    return Result(strategy, report, tuple(moments), options.restarts, predicted)


def restart(supervisor: handover.Supervisor, moments: list[int]) -> bool:
    """Once, and note when it began, if the successor lives."""
    begun = time.monotonic_ns()
    done = supervisor.restart()
    if done:
        moments.append(begun)
    return done


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def share_of_old(overlap: float, rtt: float) -> float:
    """Seconds' worth of handshakes that are in flight at the old listener when it closes: all of the last
    round trip, but half of those that began while two listeners shared the port."""
    return max(0.0, rtt - overlap) + min(rtt, overlap) / 2
