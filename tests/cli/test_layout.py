# SPDX-License-Identifier: MIT
"""_layout: what `watch` shows, line by line, for a sample, a view and a size."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mptcp_sockopt.cli import _blocks, _layout
from mptcp_sockopt.cli._layout import Frame, Goodputs, View
from mptcp_sockopt.cli._looks import Sample

from .records import FELL_BACK, OVER_IPV6, Record, connection, path

AT = 1_700_000_000.0
CLOCK = time.strftime("%H:%M:%S", time.localtime(AT))
RATES = {"bytes_sent": 2e6, "bytes_acked": 2e6, "bytes_received": 1000.0}
PATH_RATES = {"bytes_acked": 1e6, "bytes_received": 500.0}
PATHS = [
    path(id=0, rates=PATH_RATES),
    path(id=2, local=["10.9.1.1", 40001], interface="path1", stalled=True, rates=PATH_RATES),
    path(id=3, local=["10.9.2.1", 40002], interface="path2", state="CLOSE", live=False, rates=PATH_RATES),
]
BUSY = connection(rates=RATES, troubles=["stalled"], subflows=PATHS)
QUIET = connection(token=7, local=["10.9.0.1", 40007], processes=[{"pid": 7, "name": "curl", "fd": 3}])


def several(number: int) -> list[Record]:
    """Healthy connections to port 1, 2, 3 and so on, two lines each."""
    return [connection(token=port, remote=["10.9.0.2", port]) for port in range(1, number + 1)]


def shown(connections: list[Record], rows: int = 24, columns: int = 80, **more: Any) -> Frame:
    """The frame of one look."""
    sample = Sample(AT, 1, connections, more.pop("missing", []))
    view, goodputs = more.pop("view", View()), more.pop("goodputs", Goodputs())
    return _layout.frame(sample, view, goodputs, more.pop("events", []), rows, columns, **more)


def texts(frame: Frame) -> list[str]:
    return [text for text, _ in frame.lines]


def history(*goodputs: float | None) -> Goodputs:
    """What BUSY is remembered for."""
    found = Goodputs()
    for goodput in goodputs:
        rates = None if goodput is None else RATES | {"bytes_acked": goodput, "bytes_received": 0.0}
        found.add([connection(rates=rates)])
    return found


def test_a_screen_of_24_lines_of_80() -> None:
    """Title, totals, blocks, a rule, three events; a sparkline and the goodput at the end of the line."""
    frame = shown(
        [QUIET, BUSY],
        events=["one", "two", "three", "four"],
        pace="every 1 s",
        goodputs=history(None, 0, 1e6, 2e6),
    )
    assert texts(frame) == [
        f"{CLOCK}  sort: trouble  every 1 s                                        ? help",
        "2 connections: 2 MPTCP; 4 paths, 1 stalled",
        "2.0 MB/s sent, 1.0 kB/s received",
        "MPTCP to 10.9.0.2:443  python/19913                                ▁▅█  2.0 MB/s",
        "  0 10.9.0.1  path0                          9.9 ms  1.0 MB/s   500 B/s ok",
        "  2 10.9.1.1  path1                          9.9 ms  1.0 MB/s   500 B/s stalled",
        "  3 10.9.2.1  path2                          9.9 ms  1.0 MB/s   500 B/s dead",
        "MPTCP to 10.9.0.2:443  curl/7                                                  -",
        "  1  10.9.0.1  path0                          9.9 ms  68.1 kB   3.0 kB  ok",
        *[""] * 11,
        f"── 1-2 of 2 {'─' * 68}",
        "two",
        "three",
        "four",
    ]
    styles = [style for _, style in frame.lines]
    assert styles[:9] == ["title", "", "", "trouble", "", "grey", "grey", "heading", ""]
    assert styles[20:] == ["grey", "", "", ""]


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (50, 160), (5, 20), (10, 40), (1, 1), (3, 200)])
@pytest.mark.parametrize("unicode", [True, False])
def test_every_line_fits_and_every_row_has_one(rows: int, columns: int, unicode: bool) -> None:
    """With addresses, sentences and lists of any length; without Unicode all of it is ASCII."""
    connections = [OVER_IPV6, BUSY, FELL_BACK, *several(50)]
    more: dict[str, Any] = {"missing": ["m" * 300], "events": ["e" * 300], "pace": "p" * 100}
    for view in (View(help=True), View(typing="t" * 300), View(filter="10", paused=True)):
        frame = shown(connections, rows, columns, view=view, goodputs=history(1, 2), unicode=unicode, **more)
        assert len(frame.lines) == rows
        assert max(map(len, texts(frame))) <= columns
        assert len(frame.lines[0][0]) == columns
        assert unicode or "".join(texts(frame)).isascii()


def test_a_screen_of_5_lines_of_20() -> None:
    """The clock, the totals, and the worst connection; no events."""
    assert texts(shown([QUIET, BUSY], 5, 20, events=["one"])) == [
        f"{CLOCK}      ? help",
        "2 connections: 2 MPT",
        "MPTCP to 10.9.0.2:44",
        "     python/19913",
        "  0 10.9.0.1",
    ]


def test_nothing_to_show() -> None:
    """It says so, and whether a filter is why."""
    assert texts(shown([]))[1:4] == ["0 connections; 0 paths, 0 stalled", "", "no MPTCP connections"]
    assert texts(shown([QUIET], view=View(filter="x")))[3] == "no connection has this in it"
    assert shown([], view=View(scroll=5)).top == (0, 0)


def test_what_is_missing_has_a_line() -> None:
    """All of it in one."""
    line = shown([QUIET], missing=["one thing", "another"]).lines[3]
    assert line == ("one thing; another", "grey")
    line = shown([QUIET], missing=["m" * 81]).lines[3]
    assert line == ("m" * 76 + " ...", "grey")


def test_the_title_says_what_was_chosen() -> None:
    """As much as fits, in the order of how much it matters."""
    view = View(sort="rate", filter="curl", paused=True)
    (title, _), *_ = shown([QUIET], view=view, pace="every 1 s").lines
    assert title == f"{CLOCK}  PAUSED  sort: rate  filter: curl  every 1 s".ljust(74) + "? help"
    (title, _), *_ = shown([QUIET], columns=40, view=view).lines
    assert title == f"{CLOCK}  PAUSED  sort: rate".ljust(34) + "? help"


def test_a_sparkline_is_in_proportion_to_its_highest_value() -> None:
    """The newest to the right; what is not known is a gap; more than nothing is not shown as nothing."""
    marks = history(None, 0, 1, 50, 100).spark(BUSY, 6, True)
    assert marks == "  ▁▂▅█"
    assert history(None, 0, 1, 50, 100).spark(BUSY, 3, False) == ".=#"
    assert history(1, None, 2).spark(BUSY, 3, False) == "= #"
    assert history(0, 0).spark(BUSY, 2, False) == "__"
    assert Goodputs().spark(BUSY, 2, True) == "  "


def test_goodputs_of_connections_that_are_gone_are_forgotten() -> None:
    """Memory stays flat; another connection begins anew."""
    goodputs = history(*range(1000))
    assert len(goodputs.spark(BUSY, 1000, True).strip()) == 24
    goodputs.add([QUIET])
    assert goodputs.spark(BUSY, 24, True).strip() == ""


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("trouble", "4 1 2 3"),
        ("rate", "2 1 3 4"),
        ("volume", "3 1 2 4"),
        ("rtt", "1 4 2 3"),
        ("peer", "4 3 2 1"),
        ("process", "2 3 4 1"),
    ],
)
def test_orders(sort: str, order: str) -> None:
    """Worst, fastest, largest and slowest first; names and addresses from A to Z. Numbers are numbers."""
    none: dict[str, Any] = {"bytes_acked": 0, "bytes_received": 0}
    process = {"fd": 3, "pid": 1}
    connections = [
        connection(
            token=1,
            rates=RATES,
            info={"bytes_acked": 90},
            remote=["10.9.0.2", 1000],
            subflows=[path(tcp_info={"rtt": 90_000})],
            processes=[{**process, "name": "d"}],
        ),
        connection(
            token=2,
            rates=RATES | {"bytes_received": 9e6},
            info={"bytes_acked": 0, "bytes_received": 80},
            remote=["10.9.0.2", 999],
            subflows=[path(tcp_info={"rtt": 8}), path(live=False, tcp_info={"rtt": 99_000})],
            processes=[{**process, "name": "a"}],
        ),
        connection(
            token=3,
            rates=RATES | {"bytes_acked": 1.0},
            info={"bytes_acked": 5_000_000},
            remote=["10.9.0.2", 80],
            subflows=[path(tcp_info=None)],
            processes=[{**process, "name": "b"}],
        ),
        connection(
            token=4,
            troubles=["stalled"],
            info=none,
            remote=["10.9.0.1", 5],
            processes=[{**process, "name": "c"}],
        ),
    ]
    assert [str(one["token"]) for one in _layout.SORTS[sort](connections)] == order.split()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CURL", True),
        ("curl/7", True),
        ("10.9.0.2:443", True),
        (":40000", True),
        ("mptcp", True),
        ("curl/8", False),
    ],
)
def test_a_filter_is_a_text_in_addresses_processes_and_status(text: str, found: bool) -> None:
    """Of the connection and of its paths, in small letters or capitals."""
    assert _layout.matches(QUIET, text) == found
    frame = shown([BUSY, QUIET], view=View(filter="CURL"))
    assert texts(frame)[1].startswith("1 connection: ")
    assert "python" not in "".join(texts(frame))


def test_processes_that_are_not_known_match_nothing() -> None:
    """None and an empty list, as records have them."""
    for processes in (None, ()):
        assert not _layout.matches(connection(processes=processes, local=["::1", 1], subflows=[]), "python")


def press(view: View, *keys: str) -> View:
    for key in keys:
        view.press(key, 10)
    return view


def test_keys() -> None:
    """s, p, space, ? and the filter, which takes every character until Enter, or Esc."""
    assert press(View(), "s").sort == "rate"
    assert press(View(), *"ssssss").sort == "trouble"
    assert press(View(), "p").paused
    assert not press(View(), "p", " ").paused
    assert press(View(), "?").help
    view = press(View(filter="old", top=(3, 0)), "/", "^U", *"sp?qx", "KEY_BACKSPACE")
    assert (view.typing, view.filter, view.sort, view.paused) == ("sp?q", "old", "trouble", False)
    press(view, "KEY_UP", "^J")
    assert (view.typing, view.filter, view.top) == (None, "sp?q", (0, 0))
    assert press(View(filter="old"), "f", "x", "^[").filter == "old"
    assert press(View(filter="old"), "f").typing == "old"


def test_scrolling() -> None:
    """Line by line, by pages, to both ends, and not beyond."""
    connections, view = several(30), View()

    def after(*keys: str) -> tuple[str, str]:
        """The first and the last line of blocks."""
        frame = shown(connections, 13, view=view)
        for key in keys:
            view.press(key, frame.page)
        frame = shown(connections, 13, view=view)
        view.top, view.scroll = frame.top, 0
        assert frame.page == 7
        first, rule = texts(frame)[3], texts(frame)[10]
        assert rule.startswith("── ")
        return first.split()[0] + first.split(":")[-1][:3].strip(), rule

    assert after()[0] == "MPTCP1"
    assert after("KEY_DOWN", "KEY_DOWN")[0] == "MPTCP2"
    assert after("KEY_UP")[0].startswith("1")
    assert after("KEY_HOME", "KEY_NPAGE", "KEY_DOWN")[0] == "MPTCP5"
    assert after("KEY_PPAGE", "KEY_UP")[0] == "MPTCP1"
    assert after("KEY_UP")[0] == "MPTCP1"
    assert after("KEY_END")[1].startswith("── 27-30 of 30 ──")
    assert after("KEY_DOWN")[1].startswith("── 27-30 of 30 ──")
    assert after("g", "G", "KEY_UP")[1].startswith("── 27-30 of 30 ──")
    del connections[5:]
    assert after()[1].startswith("── 2-5 of 5 ──")


def test_only_what_is_visible_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10,000 connections, in the middle of them."""
    laid_out, real = [], _blocks.lines

    def lines(record: Record, width: int) -> Any:
        laid_out.append(record["token"])
        return real(record, width)

    monkeypatch.setattr(_blocks, "lines", lines)
    frame = shown(several(10_000), view=View(top=(5000, 1), scroll=18))
    assert frame.top == (5009, 1)
    assert len(set(laid_out)) == len(laid_out) < 50
