# SPDX-License-Identifier: MIT
"""What `watch` shows: from a sample, what the user chose and a size, to lines of (text, style). Pure."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from . import _blocks
from ._looks import Sample

Connection = Mapping[str, Any]
Line = tuple[str, str]  # text and style: "title", "heading", "trouble", "grey" or ""
Top = tuple[int, int]  # the first line shown: the number of its connection, and of the line in its block

EVENTS = 3  # lines of events
_HELP = "s sort  / filter  p pause  n next  arrows PgUp PgDn Home End  ? help  q quit"
_GREY = ("stalled", "dead", "closing")  # words of paths that carry nothing
_UNICODE, _ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"
_SPARK_MOST, _SPARK_LEAST = 24, 4  # columns of a sparkline

# ------------------------------------------------------------------------------------------------- order


def goodput(connection: Connection) -> float | None:
    """Bytes per second, both directions; None at the first look."""
    rates = connection["rates"]
    if not rates:
        return None
    sent, received = rates["bytes_acked"], rates["bytes_received"]
    return received if sent is None else sent + (received or 0)  # type: ignore[no-any-return]


def _volume(connection: Connection) -> int:
    info = connection["info"] or {}
    return sum(info.get(name) or 0 for name in ("bytes_acked", "bytes_received"))


def _slowest(connection: Connection) -> int:
    """The longest rtt of its live paths, in microseconds."""
    return max(
        ((path["tcp_info"] or {}).get("rtt") or 0 for path in connection["subflows"] if path["live"]),
        default=0,
    )


def _processes(connection: Connection) -> str:
    return " ".join(f"{process['name']}/{process['pid']}" for process in connection["processes"] or ())


def _by(key: Callable[[Connection], Any]) -> Callable[[Sequence[Connection]], Sequence[Connection]]:
    return lambda connections: sorted(connections, key=key)


# By --sort KEY, in the order of the key s.
SORTS: dict[str, Callable[[Sequence[Connection]], Sequence[Connection]]] = {
    "trouble": _blocks.troubled_first,
    "rate": _by(lambda connection: -(goodput(connection) or 0)),
    "volume": _by(lambda connection: -_volume(connection)),
    "rtt": _by(lambda connection: -_slowest(connection)),
    "peer": _by(lambda connection: (connection["remote"][0], connection["remote"][1])),
    "process": _by(_processes),
}


def matches(connection: Connection, text: str) -> bool:
    """Whether a text stands in its addresses (10.0.1.2:443), its processes (curl/123) or its status."""
    ends = [connection, *connection["subflows"]]
    addresses = [f"{host}:{port}" for end in ends for host, port, *_ in (end["local"], end["remote"])]
    words = [connection["status"], *connection["troubles"], *addresses, _processes(connection)]
    return text.lower() in " ".join(words).lower()


# -------------------------------------------------------------------------------------------- what is chosen


@dataclasses.dataclass
class View:
    """What the user chose by keys and options."""

    sort: str = "trouble"
    filter: str = ""
    typing: str | None = None
    """The filter that is being typed."""
    paused: bool = False
    help: bool = False
    top: Top = (0, 0)
    scroll: int = 0
    """Lines to go down from top (up if negative) in the next frame."""

    def press(self, key: str, page: int) -> None:
        """Take a key; page is how many lines of blocks a screen has."""
        if self.typing is not None:
            self._type(key)
        elif key in _SCROLLS:
            self.scroll += _SCROLLS[key](page)
        elif key in ("KEY_HOME", "g"):
            self.top, self.scroll = (0, 0), 0
        elif key in ("KEY_END", "G"):
            self.top, self.scroll = (sys.maxsize, 0), 0
        elif key == "s":
            names = list(SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
            self.top = (0, 0)
        elif key in ("/", "f"):
            self.typing = self.filter
        elif key in ("p", " "):
            self.paused = not self.paused
        elif key == "?":
            self.help = not self.help

    def _type(self, key: str) -> None:
        assert self.typing is not None
        if key in ("^J", "^M", "KEY_ENTER"):
            self.filter, self.typing, self.top = self.typing, None, (0, 0)
        elif key == "^[":
            self.typing = None
        elif key in ("KEY_BACKSPACE", "^?", "^H"):
            self.typing = self.typing[:-1]
        elif key == "^U":
            self.typing = ""
        elif len(key) == 1:
            self.typing += key


_SCROLLS: dict[str, Callable[[int], int]] = {
    "KEY_DOWN": lambda page: 1,
    "KEY_UP": lambda page: -1,
    "KEY_NPAGE": lambda page: page,
    "KEY_PPAGE": lambda page: -page,
}

# ------------------------------------------------------------------------------------------------- goodput


class Goodputs:
    """The last goodputs of each connection, for its sparkline."""

    def __init__(self) -> None:
        self._of: dict[object, deque[float | None]] = {}

    def add(self, connections: Iterable[Connection]) -> None:
        """Remember the goodput of each, and forget those that are gone."""
        before, self._of = self._of, {}
        for connection in connections:
            key = _key(connection)
            values = before.get(key)
            self._of[key] = values = deque(maxlen=_SPARK_MOST) if values is None else values
            values.append(goodput(connection))

    def spark(self, connection: Connection, columns: int, unicode: bool) -> str:
        """As many of the last goodputs as fit, in proportion to the highest one."""
        values = list(self._of.get(_key(connection), ()))[-columns:]
        highest = max((value for value in values if value), default=1)
        levels = _UNICODE if unicode else _ASCII
        marks = [" " if value is None else levels[min(7, -int(-7 * value // highest))] for value in values]
        return "".join(marks).rjust(columns)


def _key(connection: Connection) -> tuple[Any, ...]:
    return connection["token"], *connection["local"], *connection["remote"]


# --------------------------------------------------------------------------------------------------- frame


class Frame(NamedTuple):
    """A screen of lines, and what View needs of it."""

    lines: list[Line]
    top: Top
    page: int


def frame(
    sample: Sample,
    view: View,
    goodputs: Goodputs,
    events: Iterable[str],
    rows: int,
    columns: int,
    *,
    pace: str = "",
    unicode: bool = True,
) -> Frame:
    """Lays out the blocks that are visible, and no others. A small screen has less above and below them."""
    shown = [c for c in sample.connections if matches(c, view.filter)] if view.filter else sample.connections
    told = min(EVENTS, max(0, (rows - 6) // 3))  # lines of events
    above = [(_title(sample, view, pace, columns), "title"), *_totals(shown)[: 2 if told else 1]]
    if sample.missing and told:
        above.append((_shortened("; ".join(sample.missing), columns), "grey"))
    below = _prompt(view)
    page = max(0, rows - len(above) - len(below) - (told + 1 if told else 0))
    blocks = _Blocks(SORTS[view.sort](shown), columns, goodputs, unicode)
    top = blocks.scrolled(view.top, view.scroll, page)
    body, end = blocks.page(top, page)
    if not shown:
        body = [("no connection has this in it" if view.filter else "no MPTCP connections", "")][:page]
    body += [("", "")] * (page - len(body))
    if told:
        last = [*events][-told:]
        body.append((_rule(top[0], end, len(shown), columns, unicode), "grey"))
        body += [(_shortened(text, columns), "") for text in last + [""] * (told - len(last))]
    return Frame([(text[:columns], style) for text, style in [*above, *body, *below][:rows]], top, page)


class _Blocks:
    """The blocks of connections as one long list of lines, of which only those asked for are laid out."""

    def __init__(
        self, connections: Sequence[Connection], columns: int, goodputs: Goodputs, unicode: bool
    ) -> None:
        self._connections, self._columns = connections, columns
        self._goodputs, self._unicode = goodputs, unicode
        self._cache: dict[int, list[Line]] = {}

    def lines(self, number: int) -> list[Line]:
        if number not in self._cache:
            self._cache[number] = self._lay_out(self._connections[number])
        return self._cache[number]

    def page(self, top: Top, rows: int) -> tuple[list[Line], int]:
        """The lines from top on that fit, and the number of the connection behind the last of them."""
        number, skipped = top
        found: list[Line] = []
        while number < len(self._connections) and len(found) < rows:
            found += self.lines(number)[skipped:]
            number, skipped = number + 1, 0
        return found[:rows], number

    def scrolled(self, top: Top, by: int, rows: int) -> Top:
        """top, so many lines further down (or up), but no further than needed to show the last line."""
        last = self._up((len(self._connections), 0), rows)
        top = min(top, last)
        if by < 0:
            return self._up(top, -by)
        while by and top < last:
            number, skipped = top
            left = len(self.lines(number)) - skipped
            top = (number, skipped + by) if by < left else (number + 1, 0)
            by -= min(by, left)
        return min(top, last)

    def _up(self, top: Top, by: int) -> Top:
        number, skipped = top
        while by > skipped and number:
            by -= skipped
            number -= 1
            skipped = len(self.lines(number))
        return number, max(0, skipped - by)

    def _lay_out(self, connection: Connection) -> list[Line]:
        found = []
        for text, kind, word in _blocks.lines(connection, self._columns):
            style = "grey" if word in _GREY else ""
            if kind == "connection":
                style = "trouble" if connection["troubles"] else "heading"
                rate = f" {_blocks.rate(goodput(connection)):>9}"
                room = min(_SPARK_MOST, self._columns - len(text) - 2 - len(rate))
                if room >= _SPARK_LEAST:
                    spark = self._goodputs.spark(connection, room, self._unicode)
                    text = text.ljust(self._columns - room - len(rate)) + spark + rate
            found.append((text, style))
        return found


def _title(sample: Sample, view: View, pace: str, columns: int) -> str:
    """The clock, and as much of what was chosen as fits; to the end of the line, for it is drawn reversed."""
    parts = [time.strftime("%H:%M:%S", time.localtime(sample.time))]
    parts += ["PAUSED"] * view.paused + [f"sort: {view.sort}"]
    parts += [f"filter: {view.filter}"] * bool(view.filter) + [pace]
    title = parts[0]
    for part in parts[1:]:
        if len(title) + 2 + len(part) > columns:
            break
        title += f"  {part}"
    hint = "? help"
    if len(title) + 2 + len(hint) <= columns:
        title = title.ljust(columns - len(hint)) + hint
    return title.ljust(columns)


def _totals(connections: Sequence[Connection]) -> list[Line]:
    """Numbers and rates on lines of their own, so that no line appears or goes when a rate is longer."""
    *numbers, rates = _blocks.totals(connections).split("; ")
    if "/s " not in rates:
        numbers, rates = [*numbers, rates], ""
    return [("; ".join(numbers), ""), (rates, "")]


def _shortened(text: str, columns: int) -> str:
    """A sentence that may be longer than a line."""
    return text if len(text) <= columns else f"{text[: max(0, columns - 4)]} ..."


def _prompt(view: View) -> list[Line]:
    """The line at the bottom: the filter that is being typed, or the keys."""
    if view.typing is not None:
        return [(f"filter: {view.typing}_", "")]
    return [(_HELP, "")] if view.help else []


def _rule(first: int, end: int, number: int, columns: int, unicode: bool) -> str:
    dash = "─" if unicode else "-"
    text = f"{dash}{dash} {first + 1}-{end} of {number:,} " if number else ""
    return text.ljust(columns, dash)
