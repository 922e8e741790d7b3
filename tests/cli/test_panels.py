# SPDX-License-Identifier: MIT
"""cli/_panels.py: which panels a connection gets, their units, and what remains when they are thinned."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import pytest

from mptcp_sockopt.cli import _panels

from .recorded import Record, connection, many_paths, path, sample
from .test_series import NAN, read, shown

SENDER = ["Round-trip time", "Congestion window", "Unsent bytes on the path"]


def picture(lines: Sequence[Record]) -> _panels.Picture:
    return _panels.picture_of(read(lines))


def moving(sent: int, received: int) -> list[Record]:
    return [
        sample(n / 10, connection(n * sent, n * received, path(0, n * sent, n * received))) for n in range(3)
    ]


def test_a_sender_has_five_panels() -> None:
    """The connection alone in its own; each path in the others."""
    drawn = picture(moving(1_000_000, 0))
    assert [panel.title for panel in drawn.panels] == [
        "Goodput of the connection, sent",
        "Each path: acknowledged on it, resent data included",
        *SENDER,
    ]
    assert [panel.unit for panel in drawn.panels] == ["Mbit/s", "Mbit/s", "ms", "kB", "B"]
    assert [panel.steps for panel in drawn.panels] == [True, True, False, False, False]
    assert [[line.path for line in panel.lines] for panel in drawn.panels] == [[-1], [0], [0], [0], [0]]
    assert shown(drawn.panels[0].lines[0].values) == [NAN, 80, 80]
    assert shown(drawn.panels[2].lines[0].values) == [20, 20, 20]
    assert drawn.subtitle == "MPTCP, token 0x1f2e3d4c, time 0 is 2027-01-15 08:00:00 UTC"


def test_a_receiver_has_no_panels_of_a_sender() -> None:
    """Its window and its round-trip time as a sender say nothing about what it receives."""
    drawn = picture(moving(9, 1_000))
    assert [panel.title for panel in drawn.panels] == [
        "Goodput of the connection, received",
        "Each path: received on it, resent data included",
        "Round-trip time, the receiver's estimate",
    ]
    assert shown(drawn.panels[2].lines[0].values) == [21, 21, 21]
    assert drawn.panels[0].unit == "kbit/s"


def test_the_other_direction_is_dashed() -> None:
    """Where it is a hundredth of all or more; the larger one is that of the paths."""
    drawn = picture(moving(10, 990))
    assert [(line.name, line.dashed) for line in drawn.panels[0].lines] == [
        ("received", False),
        ("sent", True),
    ]
    assert drawn.panels[1].title.startswith("Each path: received")
    assert [panel.title for panel in drawn.panels[2:]] == SENDER


def test_goodput_that_is_not_known_has_no_panel() -> None:
    """On a kernel that does not count it."""
    drawn = picture([sample(n / 10, connection(None, None, path(0, n))) for n in range(3)])
    assert drawn.panels[0].title.startswith("Each path")


def test_what_became_of_it_is_told() -> None:
    """Whatever a recording calls it."""
    for status, told in (("fallback", "fell back to TCP"), ("tcp", "TCP"), ("\x1b", "\\x1b")):
        lines = [sample(n / 10, connection(0, 0, path(0), status=status if n else "mptcp")) for n in range(2)]
        assert picture(lines).subtitle.startswith(f"{told}, token")


def test_names_of_paths() -> None:
    """The remote address where it differs, ports where nothing else does; control characters escaped."""
    other = ("10.0.0.2", 443)

    def names(*paths: Record) -> list[str]:
        return [*picture([sample(n, connection(0, 0, *paths)) for n in range(2)]).paths]

    assert names(path(0), path(1, remote=other)) == ["0  10.0.0.1", "1  10.0.1.1"]
    assert names(path(0), path(1)) == ["0  10.0.0.1 -> 10.0.0.2", "1  10.0.1.1 -> 10.0.1.2"]
    assert names(path(0), path(1, id=0, local=("10.0.0.1", 5), remote=other)) == [
        "0  10.0.0.1 port 40000 -> 10.0.0.2 port 443",
        "0  10.0.0.1 port 5 -> 10.0.0.2 port 443",
    ]
    nameless = {**path(0, local=("\x1b", 1)), "id": None}
    assert names(nameless) == ["\\x1b"]


# --------------------------------------------------------------------------------------------- thinning


def test_thinned_values_are_means_with_their_range() -> None:
    """Of equal pieces; a single spike is still seen, and the sum of a rate stays."""
    lines = [
        sample(n / 10, connection(n * 1000 + 10**6 * (n > 501), 0, path(0, stalled=n == 300)))
        for n in range(1000)
    ]
    whole = picture(lines)
    assert _panels.thinned(whole, 500) is whole
    thin = _panels.thinned(whole, 100)
    assert len(thin.time) == 100
    assert thin.time[-1] == whole.time[-1]
    full, (line,) = whole.panels[0].lines[0], thin.panels[0].lines
    assert line.low is not None
    assert line.high is not None
    assert max(line.high) == max(full.values[1:])
    assert sum(line.values[1:]) * 10 == pytest.approx(sum(full.values[10:]))
    assert all(low <= mean * 1.000001 for low, mean in zip(line.low, line.values, strict=True))
    assert [n for n, flag in enumerate(thin.stalled[0]) if flag] == [30]


def test_a_gap_stays_when_thinned() -> None:
    """However short it is."""
    lines = [
        sample(n / 10, connection(n * 1000, 0, path(0, n * 1000))) for n in range(1000) if n not in (400, 401)
    ]
    lines.insert(400, {"kind": "missed", "monotonic": 1, "samples": 2})
    thin = _panels.thinned(picture(lines), 100)
    (empty,) = [n for n, value in enumerate(thin.panels[2].lines[0].values) if math.isnan(value)]
    assert thin.time[empty] == pytest.approx(39.9)


def test_a_path_that_is_there_half_of_a_piece_is_shown() -> None:
    """And not where it was there for less."""
    line = _panels.Line("x", 0, False, array("d", [1, math.nan, 3, 4, math.nan, math.nan]))
    thin = _panels._thinned(line, [slice(0, 3), slice(3, 6)])
    assert shown(thin.values) == [2, NAN]


def test_nine_paths() -> None:
    """Each has a colour of its own."""
    drawn = picture([*many_paths(9, 40)])
    assert len(drawn.paths) == len(set(_panels.COLOURS)) == 9
    assert [len(panel.lines) for panel in drawn.panels] == [1, 9, 9, 9, 9]
    marks = ["path 0 is a backup", "path 8: no ACKs", "path 8: ACKs again"]
    assert [text for _, text in drawn.marks] == marks
