# SPDX-License-Identifier: MIT
"""The loop in which all plans run: one process, one epoll, and nothing else that it waits for."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .clients import Client, Plan
from .exchanges import KINDS, Exchange, KeepAlive
from .http import Answer, NotHTTPError
from .outcomes import PATIENCE, SLOW, Loss, Outcome, Tally, Where
from .streams import NoTLSError

SECOND = 1_000_000_000
TURN = 10_000_000  # ns: the loop looks at its orders at least so often
SWEEP = 100_000_000  # ns between two looks for what stalls
PAUSE = 20_000_000  # ns: what is begun later than that was late through no fault of the server
LATEST = 100_000_000  # ns: what is later is not begun: after a pause, no long burst
BURST = 64  # begun by a plan in one turn, at most; then answers are read
BIN = 10_000_000  # ns of a histogram of begins
MOST_UNLIKE = 10_000

now_ns = time.monotonic_ns


class Orders:
    """What the loop is told from outside, and how it is doing. All is read in every turn."""

    stop = False
    """Begin nothing more, and end when all has ended."""
    learned = False
    """The baseline is over."""

    def publish(self, engine: Engine, now: int) -> None:
        """Show how it is doing."""


class PlanReport(NamedTuple):
    """What became of a plan."""

    plan: Plan
    tally: Tally
    losses: tuple[Loss, ...]
    unlike: tuple[Loss, ...]
    """What was served with another status than expected, or unlike the baseline: the first 10,000."""
    begun_at: dict[int, int]
    """How many were begun, by the 10 ms (ns // 10,000,000)."""
    rate: float
    """What was achieved, per second."""
    held: int
    """How many were not begun because too many were open: the server is slow."""
    skipped: int
    """How many were not begun because the loader was late: it got no CPU."""
    lag: float
    """The worst lateness of a begin, in seconds."""


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


class Run:
    """A plan at work."""

    def __init__(self, engine: Engine, plan: Plan, now: int, slow_after: float) -> None:
        self.engine = engine
        self.plan = plan
        self.tally = Tally(slow_after)
        self.wire = plan.request.wire(close=plan.client is not Client.KEEPALIVE)
        self.wait = round(plan.wait * SECOND)
        self.losses: list[Loss] = []
        self.unlike: list[Loss] = []
        self.begun_at: Counter[int] = Counter()
        self.held = self.skipped = self.lag = self.last_good = self.last_begun = 0
        self.ended = 0
        #: The length of the shortest answer that ended with its connection, by status.
        self._shortest: dict[int | None, int] = {}
        self._like = True
        self._places = itertools.cycle(range(len(plan.targets)))
        self._ports = itertools.count(plan.source[1] if plan.source else 0)
        self._interval = round(SECOND / plan.rate) if plan.rate else 0
        self._due = now
        if plan.client is Client.KEEPALIVE:
            population = max(len(plan.targets), plan.population if plan.rate else plan.at_once)
            for number in range(population):
                engine.wake_at(now + self.wait * number // population, KeepAlive(self))

    # ---- for the exchanges

    def next_place(self) -> int:
        return next(self._places)

    def next_source(self) -> tuple[str, int] | None:
        return (self.plan.source[0], next(self._ports)) if self.plan.source else None

    def new_answer(self) -> Answer:
        return Answer(head=self.plan.request.method == "HEAD")

    def is_like(self, answer: Answer) -> bool:
        """Whether an answer that only its end completes is as long as those of the baseline."""
        shortest = self._shortest.get(answer.status)
        if not self.engine.orders.learned:
            least = answer.length if shortest is None else min(answer.length, shortest)
            self._shortest[answer.status] = least
        elif shortest is None:
            self._like = False  # until it is counted, which is next
        else:
            return answer.length >= shortest
        return True

    def serve(self, exchange: Exchange, status: int | None, now: int) -> None:
        """Count what was served."""
        tally = self.tally
        self.ended += 1
        tally.serve((now - exchange.begun) / SECOND)
        if status is not None:
            tally.statuses[status] += 1
        like, self._like = self._like, True
        if self.plan.client is Client.WHO or status is None or self.plan.is_good(status):
            tally.good += 1
            self.last_good = now
            if like:
                return
        else:
            tally.other += 1
        if len(self.unlike) < MOST_UNLIKE:
            begun, place = exchange.begun, exchange.place
            found = Loss(
                self.plan.client, place, begun, now, now, Outcome.SERVED, Where.UNDER_WAY, status, lost=False
            )
            self.unlike.append(found)

    def lose(self, loss: Loss) -> None:
        """Count what was lost or cut."""
        self.ended += 1
        self.losses.append(loss)
        self.tally.lose(loss)

    # ---- for the engine

    @property
    def under_way(self) -> int:
        return self.tally.started - self.ended

    @property
    def complete(self) -> bool:
        """Whether all that the plan has in mind was begun, and has ended."""
        return self._is_complete() and not self.under_way

    def _is_complete(self) -> bool:
        return self.plan.total is not None and self.tally.started >= self.plan.total

    def begin_due(self, now: int) -> int:
        """Begin what is due; when the next one is."""
        plan = self.plan
        if plan.client is Client.KEEPALIVE:
            return now + TURN  # they wake by themselves
        kind = KINDS[plan.client]
        if not plan.rate:
            for _ in range(plan.at_once - self.under_way):
                if self._is_complete():
                    break
                self._begin(kind(self), now_ns())
            return now if self.under_way < plan.at_once and not self._is_complete() else now + TURN
        for _ in range(BURST):
            if self._due > now or self._is_complete():
                break
            now = now_ns()
            self._late(self._due, now)
            late = now - self._due
            if late > LATEST:
                skipped = (late - LATEST) // self._interval + 1
                self.skipped += skipped
                self._due += skipped * self._interval
            if self.under_way < plan.at_once:
                self._begin(kind(self), now)
            else:
                self.held += 1
            self._due += self._interval
        return self._due

    def _late(self, due: int, now: int) -> None:
        late = now - due
        self.lag = max(self.lag, late)
        if late > PAUSE:
            self.engine.pause(due, now)

    def ask(self, member: KeepAlive, now: int) -> None:
        """The next request of a connection that is kept alive."""
        if not self.engine.orders.stop and not self._is_complete():
            self._late(member.alarm, now)
            self._count(now)
            self.engine.guarded(member.ask, member, now)

    def _begin(self, exchange: Exchange, now: int) -> None:
        self._count(now)
        self.engine.guarded(exchange.begin, exchange, now)

    def _count(self, now: int) -> None:
        self.tally.started += 1
        self.last_begun = now
        self.begun_at[now // BIN] += 1

    def report(self, seconds: float) -> PlanReport:
        self.tally.unfinished = self.under_way
        rate = self.tally.started / seconds if seconds > 0 else 0.0
        return PlanReport(
            self.plan,
            self.tally,
            tuple(self.losses),
            tuple(self.unlike),
            dict(self.begun_at),
            rate,
            self.held,
            self.skipped,
            self.lag / SECOND,
        )


class Engine:
    """Runs plans until it is told to stop, or until all have begun what they have in mind."""

    def __init__(
        self, plans: Sequence[Plan], orders: Orders, *, patience: float = PATIENCE, slow_after: float = SLOW
    ) -> None:
        self.orders = orders
        self.patience = round(patience * SECOND)
        #: What is connected or about to be, by its descriptor.
        self.open: dict[int, Exchange] = {}
        self.pauses: list[tuple[int, int]] = []
        self._poll = select.epoll()
        self._alarms: list[tuple[int, int, Exchange]] = []
        self._numbers = itertools.count()
        self.begun = now_ns()
        self.runs = [Run(self, plan, self.begun, slow_after) for plan in plans]

    # ---- for the exchanges

    def watch(self, exchange: Exchange, events: int) -> None:
        stream = exchange.stream
        if not stream.watched:
            self._poll.register(stream.sock, events)
        elif stream.watched != events:
            self._poll.modify(stream.sock, events)
        stream.watched = events

    def unwatch(self, exchange: Exchange) -> None:
        self._poll.unregister(exchange.stream.sock)
        exchange.stream.watched = 0

    def wake_at(self, when: int, exchange: Exchange) -> None:
        """Instead of the time before, if there is one."""
        exchange.alarm = when
        heapq.heappush(self._alarms, (when, next(self._numbers), exchange))

    def guarded(self, call: Callable[[int], None], exchange: Exchange, now: int) -> None:
        """What a call raises is the outcome of its exchange."""
        try:
            call(now)
        except (OSError, NotHTTPError, NoTLSError) as error:
            exchange.fail(error, now_ns())

    def pause(self, due: int, now: int) -> None:
        """The loader came too late."""
        if self.pauses and due <= self.pauses[-1][1]:
            due = min(due, self.pauses.pop()[0])
        self.pauses.append((due, now))

    # ---- the loop

    def run(self) -> Report:
        """Until orders.stop, or until every plan is complete."""
        cpu = time.process_time()
        swept = self.begun
        stopped = 0
        patience = self.patience + max(run.wait for run in self.runs)
        with self._poll:
            while True:
                now = now_ns()
                following = now + TURN
                if self.orders.stop:
                    stopped = stopped or now
                    if now - stopped > patience or not any(run.under_way for run in self.runs):
                        break
                else:
                    for run in self.runs:
                        following = min(following, run.begin_due(now))
                    if all(run.complete for run in self.runs):
                        break
                following = min(following, self._wake(now_ns()))
                if now - swept > SWEEP:
                    self._sweep(now)
                    swept = now
                wait = max(0, following - now_ns()) / SECOND
                for number, events in self._poll.poll(wait):
                    self._ready(self.open[number], events)
                self.orders.publish(self, now)
            ended = stopped or now_ns()
            for exchange in list(self.open.values()):
                exchange.close()
            seconds = (ended - self.begun) / SECOND
            reports = tuple(run.report(seconds) for run in self.runs)
            self.orders.publish(self, now_ns())
        return Report(reports, self.begun, ended, time.process_time() - cpu, tuple(self.pauses))

    def _ready(self, exchange: Exchange, events: int) -> None:
        now = now_ns()
        try:
            exchange.ready(events, now)
        except (OSError, NotHTTPError, NoTLSError) as error:
            exchange.fail(error, now)

    def _wake(self, now: int) -> int:
        """Those whose time has come; when the next one's is."""
        alarms = self._alarms
        while alarms:
            when, _, exchange = alarms[0]
            if when > now:
                return when
            heapq.heappop(alarms)
            if exchange.alarm == when:
                self.guarded(exchange.wake, exchange, now_ns())
        return now + TURN

    def _sweep(self, now: int) -> None:
        """End what has made no progress for too long."""
        oldest = now - self.patience
        for exchange in [one for one in self.open.values() if one.progress < oldest]:
            exchange.lose(Outcome.STALLED, now)
