# SPDX-License-Identifier: MIT
"""What each restart lost: records of loads as they may be, without a socket."""

from __future__ import annotations

import random
from typing import Any

import pytest

from reuseport.audit.evidence import FIRST, Event, Evidence, Restart, Run, weigh

S = 1_000_000_000  # a second


def at(seconds: float) -> int:
    return round(seconds * S)


def lost(begun: float, when: float, kind: str = "reset") -> Event:
    return Event(at(begun), at(when), kind)


#: A control of 2 s, a restart every 2 s that takes 0.5 s, and quiet time.
RESTARTS = tuple(Restart(at(second), at(second + 0.5)) for second in (2, 4, 6, 8, 10))
BINS = dict.fromkeys(range(1500), 10)


def weighed(*events: Event, restarts: tuple[Restart, ...] = RESTARTS, **more: Any) -> Evidence:
    run = Run(begun=0, ended=at(14), restarts=restarts, events=events, begun_at=BINS, rate=1000.0)
    return weigh(run._replace(**more))


@pytest.mark.parametrize(
    ("event", "number"),
    [
        (lost(4.1, 4.2), 1),
        (lost(3.9, 4.1), 1),  # begun before the signal, lost after it
        (lost(3.9, 3.95), None),
        (lost(4.55, 4.57), 1),  # the old one ends a little later than it is seen to
        (lost(4.7, 4.8), None),
        (lost(4.3, 5.5), 1),  # an old worker that waits before it cuts
        (lost(3.0, 4.2), 1),  # late clients connect long before
        (lost(3.0, 6.1), 2),
        (lost(1.0, 1.2), None),
        (lost(4.2, 4.2, "stalled"), 1),
        (lost(3.9, 3.9, "stalled"), 1),  # a SYN or request that the signal overtook
        (lost(3.2, 3.2, "stalled"), None),  # waited long before the signal, and so not because of it
        (lost(4.7, 4.7, "stalled"), None),
        (lost(3.7, 4.2, "stalled"), 1),  # connected, spoke after the signal, and heard nothing
        (lost(4.2, 4.2, "status 503"), 1),
    ],
    ids=str,
)
def test_whose_loss_it_is(event: Event, number: int | None) -> None:
    """A restart's, by its number, or nobody's."""
    found = weighed(event)
    where = [place for place, events in enumerate(found.losses) if events]
    assert where == ([] if number is None else [number])
    assert found.quiet == (() if where else (event,))
    assert len(found.judged) == 5


def test_a_restart_that_never_ends_has_all_that_follows() -> None:
    """It cannot be judged, but its losses are its own."""
    restarts = (*RESTARTS[:2], Restart(at(6)))
    found = weighed(lost(12, 12.1), restarts=restarts)
    assert [len(events) for events in found.losses] == [0, 0, 1]
    assert found.judged == (0, 1)


def test_what_came_after_a_death_is_apart() -> None:
    """Those who find nobody were not lost by a restart; those who were being served were."""
    found = weighed(
        lost(6.05, 6.1), lost(6.3, 6.3, "refused"), restarts=(*RESTARTS[:2], Restart(at(6))), died=at(6.2)
    )
    assert [len(events) for events in found.losses] == [0, 0, 1]
    assert found.after_death == 1
    assert found.blamed


def test_with_respawn_who_comes_after_the_signal_is_apart() -> None:
    """How long nobody listened is said of each restart."""
    refused = [lost(4 + n / 100, 4 + n / 100, "refused") for n in range(1, 31)]
    found = weighed(lost(3.99, 4.01), *refused, respawned=True)
    assert [len(events) for events in found.losses] == [0, 1, 0, 0, 0]
    assert found.unheard == 30
    assert found.nobody == pytest.approx((0, 0.29, 0, 0, 0))


def test_losses_of_quiet_time_acquit_restarts() -> None:
    """A server that loses as often without a restart is sick; one in quiet time is little against many."""
    everywhere = [lost(second / 10, second / 10 + 0.01) for second in range(140)]
    found = weighed(*everywhere)
    assert sum(map(len, found.losses)) > 20
    assert not found.blamed
    assert weighed(*(event for event in everywhere if weighed(event).quiet == ()), lost(1, 1.1)).blamed
    assert weighed(lost(4.1, 4.2)).blamed
    assert not weighed(lost(1.0, 1.1)).blamed
    assert not weighed().blamed


def test_a_server_that_falls_behind_is_not_blamed_for_restarts() -> None:
    """From 5 s on everything stalls, in restarts and between them."""
    found = weighed(*(lost(5 + n / 50, 5 + n / 50, "stalled") for n in range(450)))
    assert sum(map(len, found.losses)) > 50
    assert not found.blamed


def test_who_waits_for_a_slow_server_is_not_lost_by_a_restart() -> None:
    """It had fallen behind before the signal, or the load itself got no CPU. But who was reset was reset."""
    stalled = [lost(4 + n / 50, 4 + n / 50, "stalled") for n in range(20)]
    for found in (
        weighed(*stalled, restarts=(RESTARTS[0], RESTARTS[1]._replace(behind=True), *RESTARTS[2:])),
        weighed(*stalled, pauses=((at(4.1), at(4.4)),)),
    ):
        assert (len(found.waited), found.judged) == (20, (0, 2, 3, 4))
        assert not found.blamed
    found = weighed(*stalled, pauses=((at(4.1), at(4.3)),))
    assert (len(found.losses[1]), found.blamed) == (20, True)
    found = weighed(*stalled, lost(4.1, 4.2), pauses=((at(4.1), at(4.4)),))
    assert (len(found.losses[1]), found.judged) == (1, (0, 1, 2, 3, 4))


def test_chance_rarely_blames() -> None:
    """Losses at random moments, without regard to restarts: of 1,000 servers hardly more than 1 % are blamed,
    among those that lost somebody in quiet time."""
    rng = random.Random(14)
    blamed = 0
    for _ in range(1000):
        moments = [rng.uniform(0, 14) for _ in range(rng.randint(2, 40))]
        found = weighed(*(lost(moment, moment + 0.005) for moment in moments))
        blamed += found.blamed and bool(found.quiet)
    assert blamed <= 25


def test_what_the_load_did_not_see_is_not_judged() -> None:
    """Nothing was begun after the signal; but a loss is a loss."""
    first = range(at(4) // 10_000_000, (at(4) + FIRST) // 10_000_000 + 1)
    bins = {number: count for number, count in BINS.items() if number not in first}
    found = weighed(begun_at=bins)
    assert (found.judged, found.blind) == ((0, 2, 3, 4), 1)
    found = weighed(lost(3.99, 4.01), begun_at=bins)
    assert (found.judged, found.blind) == ((0, 1, 2, 3, 4), 0)
    assert weighed(begun_at=dict.fromkeys(BINS, 3)).blind == 0
    assert weighed(begun_at={}, rate=10.0).blind == 0  # too few to tell
