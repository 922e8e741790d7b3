# SPDX-License-Identifier: MIT
"""Begins what the plans say when it is due, in one process with one epoll, whatever becomes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from .clients import Client, Plan
from .exchanges import Exchange, Late, Plain, Raw, Slow, Who
from .keepalive import KeepAlive
from .loop import SECOND, TURN, Loop, now_ns
from .outcomes import PATIENCE, SLOW, Tally
from .run import PlanReport, Run

SWEEP = 100_000_000  # ns between two looks for what stalls
LATEST = 100_000_000  # ns: what is later is not begun: after a pause, no long burst
BURST = 64  # begun by a plan in one turn, at most; then answers are read

KINDS: dict[Client, type[Exchange]] = {
    Client.WHO: Who,
    Client.PLAIN: Plain,
    Client.RAW: Raw,
    Client.LATE: Late,
    Client.SLOW: Slow,
    Client.KEEPALIVE: KeepAlive,
}


class Orders:
    """What the engine is told from outside, and how it is doing. It looks in every turn."""

    @property
    def stop(self) -> bool:
        """Begin nothing more, and end when all has ended."""
        return False

    @property
    def learned(self) -> bool:
        """The baseline is over."""
        return False

    def publish(self, runs: Sequence[Run], now: int) -> None:
        """How it is doing."""


class Report(NamedTuple):
    """What became of a load. Times are of time.monotonic_ns()."""

    plans: tuple[PlanReport, ...]
    begun: int
    ended: int
    """When it was told to stop: nothing was begun later."""
    cpu: float
    """Seconds of CPU of the loader."""
    pauses: tuple[tuple[int, int], ...]
    """Spans in which the loader had something to begin, and got no CPU."""

    @property
    def tally(self) -> Tally:
        """The sum of all plans."""
        total = Tally(self.plans[0].tally.slow_after)
        for plan in self.plans:
            total += plan.tally
        return total

    @property
    def seconds(self) -> float:
        return (self.ended - self.begun) / SECOND


class Starter:
    """Begins what one plan says."""

    def __init__(self, run: Run, now: int) -> None:
        self._run = run
        self._kind = KINDS[run.plan.client]
        self._interval = round(SECOND / run.plan.rate) if run.plan.rate else 0
        self._due = now
        if run.plan.client is Client.KEEPALIVE:
            population = max(len(run.plan.targets), run.plan.population)
            for number in range(population):
                run.loop.wake_at(now + run.wait * number // population, self._kind(run))

    def begin_due(self, now: int) -> int:
        """Begin what is due; when the next one is."""
        run = self._run
        if run.plan.client is Client.KEEPALIVE:
            return now + TURN  # each wakes by itself
        if not self._interval:
            return self._fill_up(now)
        for _ in range(BURST):
            if self._due > now or not run.may_begin:
                break
            now = now_ns()
            late = run.late(self._due, now)
            if late > LATEST:
                skipped = (late - LATEST) // self._interval + 1
                run.skipped += skipped
                self._due += skipped * self._interval
            if run.under_way < run.plan.at_once:
                self._begin(now)
            else:
                run.held += 1
            self._due += self._interval
        return self._due

    def _fill_up(self, now: int) -> int:
        """A closed loop: as many as may be open."""
        run = self._run
        for _ in range(run.plan.at_once - run.under_way):
            if not run.may_begin:
                break
            self._begin(now_ns())
        return now if run.may_begin and run.under_way < run.plan.at_once else now + TURN

    def _begin(self, now: int) -> None:
        run, exchange = self._run, self._kind(self._run)
        run.begin(now)
        run.loop.guarded(exchange.begin, exchange, now)


class Engine:
    """Runs plans until it is told to stop, or until all have begun what they have in mind."""

    def __init__(
        self, plans: Sequence[Plan], orders: Orders, *, patience: float = PATIENCE, slow_after: float = SLOW
    ) -> None:
        self._orders = orders
        self._loop = Loop(round(patience * SECOND))
        self._begun = now_ns()
        self._runs = [Run(self._loop, plan, slow_after) for plan in plans]
        self._starters = [Starter(run, self._begun) for run in self._runs]

    def run(self) -> Report:
        cpu = time.process_time()
        runs, loop, orders = self._runs, self._loop, self._orders
        swept, stopped = self._begun, 0
        patience = loop.patience + max(run.wait for run in runs)
        while True:
            now = now_ns()
            until = now + TURN
            if not stopped and orders.stop:
                stopped = now
                for run in runs:
                    run.stopped = True
            if orders.learned:
                for run in runs:
                    run.learned = True
            if not stopped:
                for starter in self._starters:
                    until = min(until, starter.begin_due(now))
            if all(run.complete for run in runs) or (stopped and now - stopped > patience):
                break
            loop.turn(until)
            if now - swept > SWEEP:
                loop.sweep()
                swept = now
            orders.publish(runs, now)
        ended = stopped or now_ns()
        loop.close()
        seconds = (ended - self._begun) / SECOND
        report = Report(
            tuple(run.report(seconds) for run in runs),
            self._begun,
            ended,
            time.process_time() - cpu,
            tuple(loop.pauses),
        )
        orders.publish(runs, now_ns())
        return report
