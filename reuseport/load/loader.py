# SPDX-License-Identifier: MIT
"""A load in a process of its own, which nothing that its parent does can delay."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import signal
from collections.abc import Sequence
from typing import NamedTuple

from mptcp_sockopt import testing

from .._net import drop_tcp_sockets
from .clients import Plan
from .engine import Engine, Orders, Report
from .outcomes import PATIENCE, SLOW
from .run import Run

STOP, LEARNED, FAILED, DONE, BEAT, PID, HEADER = range(7)  # places in shared memory, 8 bytes each


class Live(NamedTuple):
    """How a load is doing at this moment; times are of time.monotonic_ns()."""

    started: int
    ended: int
    served: int
    lost: int
    good: int
    """Served, with an expected status."""
    other: int
    """Served, with another status."""
    last_good: int
    """When the last good answer was whole; 0: there was none."""
    idle_ended: int
    last_begun: int
    lag: int
    """The worst lateness of a begin so far, in ns."""
    beat: int
    """When the loader last turned round. Long ago: it gets no CPU."""


FIELDS = len(Live._fields) - 1  # of each plan; the beat is common


class Shared(Orders):
    """Orders and figures in shared memory. Each is eight aligned bytes, so none is seen half written."""

    def __init__(self, plans: int) -> None:
        self.page = memoryview(mmap.mmap(-1, 8 * (HEADER + FIELDS * plans))).cast("Q")

    @property
    def stop(self) -> bool:
        return bool(self.page[STOP])

    @property
    def learned(self) -> bool:
        return bool(self.page[LEARNED])

    def publish(self, runs: Sequence[Run], now: int) -> None:
        page, place = self.page, HEADER
        for run in runs:
            tally = run.tally
            page[place] = tally.started
            page[place + 1] = run.ended
            page[place + 2] = tally.served
            page[place + 3] = len(run.losses) - tally.retried
            page[place + 4] = tally.good
            page[place + 5] = tally.other
            page[place + 6] = run.last_good
            page[place + 7] = tally.idle_ended
            page[place + 8] = run.last_begun
            page[place + 9] = run.lag
            place += FIELDS
        page[BEAT] = now


class Loader:
    """``with Loader(plans) as loader:`` runs them in a child, in the namespaces that this process is in now.

    The figures are live. The load ends with the block; its report comes from stop().
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        patience: float = PATIENCE,
        slow_after: float = SLOW,
    ) -> None:
        self.plans = tuple(plans)
        self._patience = patience
        self._shared = Shared(len(plans))

        def work() -> Report:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops it
            self._shared.page[PID] = os.getpid()
            drop_tcp_sockets()
            gc.freeze()  # what the parent had is not looked at again
            allow_descriptors()
            try:
                engine = Engine(self.plans, self._shared, patience=patience, slow_after=slow_after)
                report = engine.run()
                self._shared.page[DONE] = 1
            except BaseException:
                self._shared.page[FAILED] = 1
                raise
            return report

        self._child = testing.Child(work)

    def live(self, plan: int | None = None) -> Live:
        """Of one plan, or of all: sums, the latest of times, the worst lag. The load does not notice."""
        page = self._shared.page
        chosen = range(len(self.plans)) if plan is None else [plan]
        rows = [page[HEADER + FIELDS * n : HEADER + FIELDS * (n + 1)].tolist() for n in chosen]
        found = [*map(sum, zip(*rows, strict=True)), page[BEAT]]
        for name in ("last_good", "last_begun", "lag"):
            place = Live._fields.index(name)
            found[place] = max(row[place] for row in rows)
        return Live(*found)

    @property
    def pid(self) -> int:
        """Of the process that loads, as it sees itself; 0 before it has begun."""
        return int(self._shared.page[PID])

    @property
    def failed(self) -> bool:
        """Whether it has ended by an error: stop() raises it."""
        return bool(self._shared.page[FAILED])

    @property
    def done(self) -> bool:
        """Whether all that the plans have in mind was begun, and has ended."""
        return bool(self._shared.page[DONE])

    def learned(self) -> None:
        """The baseline is over: from now on, answers are compared with those until now."""
        self._shared.page[LEARNED] = 1

    def stop(self) -> Report:
        """Begin nothing more, wait for what is under way, and report. Raises the error of a failed load."""
        self._shared.page[STOP] = 1
        wait = max(plan.wait for plan in self.plans)
        return self._child.result(within=2 * (self._patience + wait) + 10)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()


def run_here(plans: Sequence[Plan], *, patience: float = PATIENCE, slow_after: float = SLOW) -> Report:
    """Run plans in this process, until all that they have in mind is over: each has a total."""
    return Engine(plans, Orders(), patience=patience, slow_after=slow_after).run()


def allow_descriptors() -> None:
    """As many as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
