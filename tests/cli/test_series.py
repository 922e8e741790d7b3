# SPDX-License-Identifier: MIT
"""cli/_series.py: what the series of a recorded connection are, from lines made for it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from mptcp_sockopt.cli import _series

from .recorded import EPOCH, TOKEN, Record, connection, event, header, missed, path, sample

NAN = None  # as shown() shows it


def shown(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 6) for value in values]


def read(lines: Sequence[Record], number: int = 1, **fields: Any) -> _series.Series:
    found = _series.survey(lines)[number - 1]
    return _series.series_of(found, header(**fields), lines)


def test_goodput_is_the_connections() -> None:
    """Paths that carry some bytes twice add up to more."""
    lines = [
        sample(0.0, connection(100, 0, path(0, 60), path(1, 40))),
        sample(0.1, connection(150, 0, path(0, 100), path(1, 60))),
        sample(0.2, connection(250, 0, path(0, 150), path(1, 120))),
    ]
    series = read(lines)
    assert shown(series.time) == [0, 0.1, 0.2]
    assert shown(series.sent) == [NAN, 500, 1000]
    assert [shown(one.acked) for one in series.paths] == [[NAN, 400, 500], [NAN, 200, 600]]
    assert (series.found.sent, series.found.received, series.found.samples) == (150, 0, 3)
    assert series.start == EPOCH


def test_time_begins_with_the_connection() -> None:
    """Not with the recording."""
    lines = [sample(0.0), *(sample(when, connection(0, 0, path(0))) for when in (2.0, 2.1))]
    series = read(lines)
    assert shown(series.time) == [0, 0.1]
    assert series.start == EPOCH + 2


def test_gauges_of_a_path() -> None:
    """The window in bytes; nan for what is not measured, not reported, or of a path that is not live."""
    gauges: list[dict[str, Any]] = [
        {},
        {"rtt": 0, "rcv_rtt": 0, "snd_mss": None, "notsent_bytes": None},
        {"notsent_bytes": 9},
    ]
    lines = [
        sample(n / 10, connection(0, 0, path(0, live=n < 3, **gauge)))
        for n, gauge in enumerate([*gauges, {}])
    ]
    (one,) = read(lines).paths
    assert shown(one.rtt) == [20_000, NAN, 20_000, NAN]
    assert shown(one.rcv_rtt) == [21_000, NAN, 21_000, NAN]
    assert shown(one.cwnd) == [14_000, NAN, 14_000, NAN]
    assert shown(one.unsent) == [0, NAN, 9, NAN]


def test_after_a_fallback_goodput_is_that_of_tcp() -> None:
    """mptcp_info.bytes_acked then counts what was queued."""
    fallen: dict[str, Any] = {"status": "fallback", "troubles": ["fell_back"]}
    lines = [
        sample(0.0, connection(100, 0, path(0, 100))),
        sample(0.1, connection(200, 0, path(0, 200))),
        sample(0.2, connection(9_000, 0, path(0, 250), **fallen)),
        sample(0.3, connection(20_000, 0, path(0, 300), **fallen)),
    ]
    series = read(lines)
    assert shown(series.sent) == [NAN, 1000, 500, 500]
    assert [*series.marks] == [(0.2, "fell back to TCP")]
    assert series.found.sent == 200


def test_a_connection_without_token_and_info() -> None:
    """One that an MPTCP listener accepted as TCP is known by its addresses."""
    one: dict[str, Any] = {"token": None, "info": None, "status": "tcp"}
    lines = [
        sample(0.0, connection(0, 0, path(0, 0, 10), **one), connection(0, 0)),
        sample(0.1, connection(0, 0, path(0, 0, 30), **one), connection(0, 0)),
    ]
    series = read(lines)
    assert series.found.identity == ("10.0.0.1", 40_000, "10.0.0.2", 443)
    assert shown(series.received) == [NAN, 200]


def test_a_kernel_without_counters_of_the_connection() -> None:
    """Before Linux 6.5: no goodput, but the paths are drawn, and tell which connection is the busiest."""
    paths = [[path(0, n * 5), path(1, n * 7)][: n + 1] for n in range(3)]
    series = read([sample(n / 10, connection(None, None, *paths[n])) for n in range(3)])
    assert shown(series.sent) == [NAN] * 3
    assert shown(series.paths[0].acked) == [NAN, 50, 50]
    assert series.found.sent == 24


def test_a_counter_that_runs_back_is_no_rate() -> None:
    """connect(AF_UNSPEC) and connected again: it begins anew."""
    lines = [sample(n / 10, connection(acked, 0, path(0, acked))) for n, acked in enumerate((9, 12, 3, 4))]
    assert shown(read(lines).sent) == [NAN, 30, NAN, 10]


# ------------------------------------------------------------------------------------------------- gaps


@pytest.mark.parametrize(
    "between",
    [[missed(0.15)], [sample(0.15)], []],
    ids=["missed", "without the connection", "late"],
)
def test_where_samples_are_missing_is_a_gap(between: list[Record]) -> None:
    """No rate over it, and no line through it: a row without values stands between."""
    after = 0.2 if between else 0.5
    lines = [
        sample(0.0, connection(0, 0, path(0, 0))),
        sample(0.1, connection(10, 0, path(0, 10))),
        *between,
        sample(after, connection(20, 0, path(0, 20), path(1, 5))),
        sample(after + 0.1, connection(30, 0, path(0, 30), path(1, 7))),
    ]
    series = read(lines)
    assert shown(series.time) == [0, 0.1, 0.1, after, round(after + 0.1, 6)]
    assert shown(series.sent) == [NAN, 100, NAN, NAN, 100]
    assert shown(series.paths[0].acked) == [NAN, 100, NAN, NAN, 100]
    assert shown(series.paths[0].rtt) == [20_000, 20_000, NAN, 20_000, 20_000]
    assert shown(series.paths[1].acked) == [NAN, NAN, NAN, NAN, 20]
    assert len(series.paths[0].stalled) == len(series.time)


def test_samples_that_come_late_are_no_gap() -> None:
    """Machines are busy: up to three intervals."""
    lines = [sample(when, connection(0, 0, path(0))) for when in (0.0, 0.29, 0.4)]
    assert len(read(lines).time) == 3
    assert len(read(lines, interval=0.09).time) == 4


def test_missed_before_it_began_is_nothing() -> None:
    """There is no line yet that could have a gap."""
    lines = [missed(0.0), *(sample(n, connection(0, 0, path(0))) for n in (0.1, 0.2))]
    assert shown(read(lines).time) == [0, 0.1]


# ------------------------------------------------------------------------------------------------ paths


def test_a_path_that_comes_later_began_at_zero() -> None:
    """What it carried since the sample before is its rate; the first sample of all has none."""
    lines = [
        sample(0.0, connection(0, 0, path(0, 100))),
        sample(0.1, connection(0, 0, path(0, 100), path(1, 30))),
        sample(0.2, connection(0, 0, path(1, 50))),
        sample(0.3, connection(0, 0, path(1, 50))),
    ]
    one, other = read(lines).paths
    assert shown(one.acked) == [NAN, 0, NAN, NAN]
    assert shown(other.acked) == [NAN, 300, 200, 0]
    assert [*read(lines).marks] == [(0.1, "path 1 is new"), (0.2, "path 0 is gone")]


def test_a_path_that_comes_back_goes_on() -> None:
    """From another port, with the same addresses and id; its counters begin anew, even with no gap."""
    again = ("10.0.1.1", 40_001)
    lines = [
        sample(0.0, connection(0, 0, path(0), path(1, 100))),
        sample(0.1, connection(0, 0, path(0))),
        sample(0.2, connection(0, 0, path(0), path(1, 20, local=again))),
        sample(0.3, connection(0, 0, path(0), path(1, 900, local=("10.0.1.1", 40_002)))),
    ]
    series = read(lines)
    assert len(series.paths) == 2
    assert shown(series.paths[1].acked) == [NAN, NAN, 200, 9000]


def test_paths_with_one_id_are_two() -> None:
    """Addresses tell them apart, and ports where those are equal too."""
    lines = [
        sample(n / 10, connection(0, 0, path(0), path(1, n, id=0), path(2, id=0, local=("10.0.1.1", 5),
                                  remote=("10.0.1.2", 443))))
        for n in range(2)
    ]  # fmt: skip
    series = read(lines)
    assert [(one.id, one.local) for one in series.paths] == [
        (0, ("10.0.0.1", 40_000)),
        (0, ("10.0.1.1", 40_000)),
        (0, ("10.0.1.1", 5)),
    ]
    assert shown(series.paths[1].acked) == [NAN, 10]


# ------------------------------------------------------------------------------------------------ marks


def test_a_stalled_path_is_marked() -> None:
    """By flags for each value, and when it begins and ends; None is not stalled."""
    flags = [None, True, True, False, True, None]
    lines = [sample(n / 10, connection(0, 0, path(2, stalled=flag))) for n, flag in enumerate(flags)]
    series = read(lines)
    assert [*series.paths[0].stalled] == [0, 1, 1, 0, 1, 0]
    assert [*series.marks] == [
        (0.1, "path 2: no ACKs"),
        (0.3, "path 2: ACKs again"),
        (0.4, "path 2: no ACKs"),
        (0.5, "path 2: ACKs again"),
    ]


def test_a_stall_begins_with_the_first_sample_without_an_ack() -> None:
    """It is told only later. An idle time before is none: nothing was sent that could be acknowledged."""
    seen = [(10, 5, None), (10, 0, None), (20, 3, False), (20, 3, False), (20, 3, False), (20, 3, True)]
    lines = [
        sample(n / 10, connection(0, 0, path(1, acked, stalled=flag, unacked=unacked)))
        for n, (acked, unacked, flag) in enumerate(seen)
    ]
    series = read(lines)
    assert [*series.paths[0].stalled] == [0, 0, 0, 1, 1, 1]
    assert [*series.marks] == [(0.3, "path 1: no ACKs")]


def test_troubles_of_the_connection_are_marked() -> None:
    """When they begin; not those that it had from the start."""
    troubles = [
        ["fell_back"],
        ["fell_back"],
        ["no_path", "stalled"],
        ["no_path"],
        [],
        ["no_path", "resending"],
    ]
    lines = [sample(n / 10, connection(0, 0, path(0), troubles=words)) for n, words in enumerate(troubles)]
    assert [*read(lines).marks] == [
        (0.2, "no path is left"),
        (0.5, "no path is left"),
        (0.5, "the same bytes are sent again and again"),
    ]


def test_events_of_this_connection_in_words() -> None:
    """And those that were lost; none of others, nor from before. They replace what samples tell of paths."""
    lines = [
        event(-1.0, "CREATED"),
        sample(0.0, connection(0, 0, path(0))),
        event(0.01, "SUB_ESTABLISHED", id=1),
        event(0.02, "SUB_ESTABLISHED", id=9, token=3),
        event(0.03, "ANNOUNCED", remote=["fd00::2", 80]),
        event(0.04, "SUB_CLOSED", id=1, error=110),
        event(0.05, "SUB_CLOSED", id=1, error=None),
        event(0.06, "LOST", token=None),
        event(0.07, "SUB_PRIORITY", id=0, backup=False),
        event(0.08, "NEW\n"),
        event(0.09, 99),  # type: ignore[arg-type]
        sample(0.1, connection(0, 0, path(0), path(1))),
    ]
    assert [text for _, text in read(lines).marks] == [
        "path 1 joined",
        "the peer announced [fd00::2]:80",
        f"path 1 closed: {os.strerror(110)}",
        "path 1 closed",
        "events were lost",
        "path 0 is no backup",
        "NEW\\n",
        "99",
    ]


# ----------------------------------------------------------------------------------------------- survey


def test_the_busiest_comes_first() -> None:
    """By what moved in the recording, in both directions; those of one sample last."""
    idle = connection(7, 7, token=5)
    lines = [
        sample(
            0.0, connection(5, 0, token=3), connection(10**9, 0, token=1), connection(0, 0, token=2), idle
        ),
        sample(0.1, connection(10**9 + 5, 0, token=1), connection(0, 9, token=2), idle),
    ]
    found = _series.survey(lines)
    assert [one.identity for one in found] == [2, 1, 5, 3]
    assert [(one.sent, one.received, one.samples) for one in found[:2]] == [(0, 9, 2), (5, 0, 2)]


def test_names_are_escaped() -> None:
    """What other processes are called is not printed as it is."""
    owners = [{"pid": 1, "name": "a\x1b[31m\u202e", "fd": 3}, {"pid": 2, "name": "b", "fd": 3}]
    hostile = connection(0, 0, processes=owners, local=["fd00::1", 4])
    assert _series.name_of(hostile) == "[fd00::1]:4 -> 10.0.0.2:443  a\\x1b[31m\\u202e/1, b/2"
    assert _series.name_of(connection(0, 0, processes=None)) == "10.0.0.1:40000 -> 10.0.0.2:443"


def test_token_of_the_samples() -> None:
    """The tests' own."""
    assert _series.identity_of(connection(0, 0)) == TOKEN
