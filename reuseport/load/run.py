# SPDX-License-Identifier: MIT
"""A plan at work: what its clients ask and count."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import NamedTuple

from .clients import Client, Plan
from .http import Answer
from .loop import SECOND, Loop
from .outcomes import Loss, Outcome, Tally, Where

PAUSE = 20_000_000  # ns: what is begun later than that was late through no fault of the server
BIN = 10_000_000  # ns of a histogram of begins
MOST_UNLIKE = 10_000


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
    """How many were not begun: too many were open, or a kept one had no answer yet. The server is slow."""
    skipped: int
    """How many were not begun because the loader was late: it got no CPU."""
    lag: float
    """The worst lateness of a begin, in seconds."""


class Run:
    """A plan at work."""

    def __init__(self, loop: Loop, plan: Plan, slow_after: float) -> None:
        self.loop = loop
        self.plan = plan
        self.tally = Tally(slow_after)
        self.wire = plan.request.wire(close=plan.client is not Client.KEEPALIVE)
        self.wait = round(plan.wait * SECOND)
        self.losses: list[Loss] = []
        self.unlike: list[Loss] = []
        self.begun_at: Counter[int] = Counter()
        self.held = self.skipped = self.lag = self.last_good = self.last_begun = 0
        self.ended = 0
        #: Whether nothing more is begun.
        self.stopped = False
        #: Whether the baseline is over.
        self.learned = False
        #: The length of the shortest answer that ended with its connection, by status.
        self._shortest: dict[int | None, int] = {}
        self._like = True
        self._places = itertools.cycle(range(len(plan.targets)))
        self._host, first = plan.source or ("", 0)
        self._ports = itertools.count(first)

    def next_place(self) -> int:
        return next(self._places)

    def next_source(self) -> tuple[str, int]:
        return self._host, next(self._ports)

    def new_answer(self) -> Answer:
        return Answer(head=self.plan.request.method == "HEAD")

    def is_like(self, answer: Answer) -> bool:
        """Whether an answer that only its end completes is as long as those of the baseline."""
        shortest = self._shortest.get(answer.status)
        if not self.learned:
            least = answer.length if shortest is None else min(answer.length, shortest)
            self._shortest[answer.status] = least
        elif shortest is None:
            self._like = False  # until it is counted, which is next
        else:
            return answer.length >= shortest
        return True

    def serve(self, begun: int, place: int, status: int | None, now: int) -> None:
        """Count what was served."""
        tally = self.tally
        self.ended += 1
        tally.serve((now - begun) / SECOND)
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
            found = Loss(
                self.plan.client, place, begun, now, now, Outcome.SERVED, Where.UNDER_WAY, status, lost=False
            )
            self.unlike.append(found)

    def lose(self, loss: Loss) -> None:
        """Count what was lost or cut."""
        self.ended += 1
        self.losses.append(loss)
        self.tally.lose(loss)

    @property
    def under_way(self) -> int:
        return self.tally.started - self.ended

    @property
    def may_begin(self) -> bool:
        return not self.stopped and (self.plan.total is None or self.tally.started < self.plan.total)

    @property
    def complete(self) -> bool:
        """Whether all that the plan has in mind was begun, and has ended."""
        return not self.may_begin and not self.under_way

    def begin(self, now: int) -> None:
        """Count what is begun."""
        self.tally.started += 1
        self.last_begun = now
        self.begun_at[now // BIN] += 1

    def late(self, due: int, now: int) -> int:
        """Note how late it is, and return it."""
        late = now - due
        self.lag = max(self.lag, late)
        if late > PAUSE:
            self.loop.pause(due, now)
        return late

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
