# SPDX-License-Identifier: MIT
"""What each restart lost, and why: from the records of the load, the signals, and the end of the server.

Pure: it opens nothing. All times are in nanoseconds of one clock.

A restart has a window: from its signal until a little after it was complete. A connection counts for a
restart if it was lost in its window, or if it began before the window's end and was lost later. One that
stalled has no moment of its loss, only its last progress; it counts if that lies in the window, or a little
before the signal. (What had waited for long by then waited for a slow server, and not because of the signal.)

If the server had fallen behind before the signal, or if the load itself got little CPU, those who stalled are
not held against the restart. All other losses are quiet ones: they happened while nothing was restarted. If
quiet time is not clearly better than the time of restarts, the losses are the server's or the machine's, and
not the restarts'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

MS = 1_000_000
AFTER = 100 * MS  # after the last sign of the old generation: what it still does as it ends
SLACK = 250 * MS  # before a signal: a connection without progress since then is waiting for the same thing
FIRST = 50 * MS  # after a signal: if too little is begun in this time, the load has not seen the restart
BIN = 10 * MS  # of the counts of what was begun
ODDS = 0.01  # that chance alone makes restarts look worse than quiet time


class Restart(NamedTuple):
    """One restart: when it was asked for, and when none of the old generation accepted any more."""

    signal: int
    complete: int | None = None
    """None: never."""
    behind: bool = False
    """Whether the server had fallen behind before the signal."""
    begun: bool = False
    """Of one that was never complete: whether somebody new accepted, so that it was one."""

    @property
    def end(self) -> float:
        """The end of its window."""
        return math.inf if self.complete is None else self.complete + AFTER


class Event(NamedTuple):
    """Somebody who asked, and did not get a good answer."""

    begun: int
    at: int
    """When it was lost; of a stalled connection, its last progress."""
    kind: str
    """``reset``, ``status 503`` ..."""
    client: str = "plain"
    target: str = ""

    @property
    def stalled(self) -> bool:
        return self.kind == "stalled"


class Run(NamedTuple):
    """What happened, as seen from outside."""

    begun: int
    ended: int
    """When the last connection was begun."""
    restarts: tuple[Restart, ...]
    events: tuple[Event, ...]
    died: int | None = None
    """When the server was last seen alive, if it ended."""
    begun_at: Mapping[int, int] = {}
    """How many were begun in each BIN (its number)."""
    rate: float = 0.0
    """How many should have been, per second."""
    pauses: tuple[tuple[int, int], ...] = ()
    """When the load was late because its process got too little CPU."""
    respawned: bool = False
    """Whether nobody listens for a while in each restart: only what began before the signal is judged."""


class Evidence(NamedTuple):
    """What can be said."""

    losses: tuple[tuple[Event, ...], ...]
    """Of each restart that was asked for."""
    judged: tuple[int, ...]
    """The numbers of the restarts that can be judged: complete, and seen by the load or with losses; or never
    complete, and with losses."""
    quiet: tuple[Event, ...]
    """Lost while nothing was restarted."""
    waited: tuple[Event, ...]
    """Stalled in a restart, but of a server that had fallen behind before, or on a machine that was busy."""
    after_death: int
    """How many found nobody after the server had ended."""
    nobody: tuple[float, ...]
    """With --respawn: for how long nobody listened in each restart, in seconds."""
    unheard: int
    """How many found nobody in that time."""
    blind: int
    """How many restarts the load did not see, because its process got no CPU."""
    blamed: bool
    """Whether the losses in restarts are the restarts' doing, as far as quiet time tells."""


def weigh(run: Run) -> Evidence:
    """Sort the losses, and compare the time of restarts with quiet time."""
    losses: list[list[Event]] = [[] for _ in run.restarts]
    refused: list[list[Event]] = [[] for _ in run.restarts]
    waited: list[list[Event]] = [[] for _ in run.restarts]
    hampered = [_is_hampered(restart, run.pauses) for restart in run.restarts]
    quiet = []
    after_death = 0
    for event in run.events:
        if run.died is not None and event.begun >= run.died:
            after_death += 1
            continue
        number = _restart_of(event, run.restarts)
        if number is None:
            quiet.append(event)
        elif run.respawned and event.begun >= run.restarts[number].signal:
            refused[number].append(event)
        elif event.stalled and hampered[number]:
            waited[number].append(event)
        else:
            losses[number].append(event)
    blind = {number for number, restart in enumerate(run.restarts) if _is_blind(restart, run)}
    judged = tuple(
        number
        for number, restart in enumerate(run.restarts)
        if _is_judged(restart, losses[number], number not in blind and not waited[number])
    )
    return Evidence(
        losses=tuple(map(tuple, losses)),
        judged=judged,
        quiet=tuple(quiet),
        waited=tuple(event for events in waited for event in events),
        after_death=after_death,
        nobody=tuple(_spans(refused, run.restarts)) if run.respawned else (),
        unheard=sum(map(len, refused)),
        blind=len(blind - set(judged)),
        blamed=_is_worse([event for events in losses for event in events], quiet, run),
    )


def _restart_of(event: Event, restarts: Sequence[Restart]) -> int | None:
    """The number of the last restart whose window the event touches.

    One that stalled long before the signal had no progress since, but not because of the signal.
    """
    latest = event.at + SLACK if event.stalled else event.at
    found = None
    for number, restart in enumerate(restarts):
        if restart.signal > latest:
            break
        if event.begun <= restart.end:
            found = number
    return found


def _is_hampered(restart: Restart, pauses: Iterable[tuple[int, int]]) -> bool:
    """Whether who stalls may have waited for a slow server, or for a CPU."""
    if restart.behind or restart.complete is None:
        return restart.behind
    spans = [min(end, restart.complete) - max(begin, restart.signal) for begin, end in pauses]
    return 2 * sum(span for span in spans if span > 0) > restart.complete - restart.signal


def _is_judged(restart: Restart, losses: Sequence[Event], seen: bool) -> bool:
    """One that was never complete has lost somebody, or shows nothing."""
    return bool(losses) and restart.begun if restart.complete is None else bool(losses) or seen


def _is_blind(restart: Restart, run: Run) -> bool:
    """Whether less than a quarter of what should be was begun when the signal came."""
    first, last = restart.signal // BIN, (restart.signal + FIRST) // BIN
    begun = sum(run.begun_at.get(number, 0) for number in range(first, last + 1))
    return begun < run.rate * FIRST / 1e9 / 4 - 1


def _spans(refused: Sequence[Sequence[Event]], restarts: Sequence[Restart]) -> Iterable[float]:
    for events, restart in zip(refused, restarts, strict=True):
        if restart.complete is not None:
            first = min((event.begun for event in events if not event.stalled), default=None)
            last = max((event.begun for event in events if not event.stalled), default=None)
            yield 0.0 if first is None or last is None else (last - first) / 1e9


def _is_worse(in_restarts: Sequence[Event], in_quiet: Sequence[Event], run: Run) -> bool:
    """Whether restarts lose more than quiet time does, in proportion to their time."""
    if not in_restarts or not in_quiet:
        return bool(in_restarts)
    both = [*in_restarts, *in_quiet]
    # A window catches what began so long before it.
    reach = sum(SLACK if event.stalled else event.at - event.begun for event in both) / len(both)
    end = float(run.ended if run.died is None else min(run.ended, run.died))
    busy, last = 0.0, float(run.begun)
    for restart in run.restarts:
        begin = min(max(restart.signal - reach, last), end)
        last = max(begin, min(restart.end, end))
        busy += last - begin
    share = min(1.0, busy / max(1.0, end - run.begun))
    return _at_least(len(in_restarts), len(both), share) < ODDS


def _at_least(hits: int, trials: int, odds: float) -> float:
    """The probability of so many hits or more."""
    if odds in (0.0, 1.0):
        return float(odds == 1.0 or hits == 0)
    one, none = math.log(odds), math.log1p(-odds)
    return sum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * one
            + (trials - k) * none
        )
        for k in range(hits, trials + 1)
    )
