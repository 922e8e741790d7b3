# SPDX-License-Identifier: MIT
"""What is drawn: the panels of a picture, in the units that they show, thinned to what can be seen.

Both the page and the figure draw a Picture. It names everything in words, so that they only draw.
"""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from ._blocks import printable
from ._series import NAN, Mark, Path, Series, Values

#: From a path to one of its series.
Column: TypeAlias = Callable[[Path], Values]


NOTE = "Grey: no ACKs, so the values are old. Numbered lines: events."
#: Of the paths, on white and on black. The connection is black or white, old values are grey.
COLOURS = (
    ("#0072b2", "#4aa8e8"),
    ("#d55e00", "#ff8a3d"),
    ("#009e73", "#2ecc9a"),
    ("#b5489a", "#e68ac8"),
    ("#8a6d00", "#d8b637"),
    ("#5b4bc4", "#a397ff"),
    ("#2f9fd0", "#8fd8ff"),
    ("#7b4b2a", "#c79a73"),
    ("#c2185b", "#ff6f9c"),
)


class Line(NamedTuple):
    """One line of a panel."""

    name: str
    path: int
    """Its place in Picture.paths; -1: the connection's own."""
    dashed: bool
    values: Values
    low: Values | None = None
    """The smallest of the values that each of these is the mean of; None: of one."""
    high: Values | None = None


class Panel(NamedTuple):
    """One diagram. Above zero only; all panels share the time axis."""

    title: str
    unit: str
    steps: bool
    """Values hold since the sample before (rates), not only at their own time."""
    lines: tuple[Line, ...]


class Picture(NamedTuple):
    """All that is drawn of one connection."""

    title: str
    subtitle: str
    time: Values
    """Seconds, of each value."""
    panels: tuple[Panel, ...]
    paths: tuple[str, ...]
    """Their names."""
    stalled: tuple[bytearray, ...]
    """For each path: 1 where its values are drawn in grey."""
    marks: tuple[Mark, ...]


def picture_of(series: Series) -> Picture:
    """The panels that this connection needs: those of a sender only if it sent more than requests."""
    found, paths = series.found, series.paths
    goodput = [Line("sent", -1, False, series.sent), Line("received", -1, False, series.received)]
    sends = found.sent >= found.received
    if not sends:
        goodput.reverse()
    both = min(found.sent, found.received) * 100 >= found.moved > 0
    lines = [goodput[0], goodput[1]._replace(dashed=True)] if both else goodput[:1]
    panels = []
    if any(value == value for value in lines[0].values):  # else an older kernel, which does not count it
        panels.append(_rates(f"Goodput of the connection, {lines[0].name}", lines))
    if sends:
        on_paths = _lines(paths, lambda path: path.acked)
        panels.append(_rates("Each path: acknowledged on it, resent data included", on_paths))
    else:
        on_paths = _lines(paths, lambda path: path.received)
        panels.append(_rates("Each path: received on it, resent data included", on_paths))
    if sends or both:
        panels += [
            _panel("Round-trip time", _lines(paths, lambda path: path.rtt), _TIMES),
            _panel("Congestion window", _lines(paths, lambda path: path.cwnd), _SIZES),
            _panel("Unsent bytes on the path", _lines(paths, lambda path: path.unsent), _SIZES),
        ]
    else:
        rtt = _lines(paths, lambda path: path.rcv_rtt)
        panels.append(_panel("Round-trip time, the receiver's estimate", rtt, _TIMES))
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(series.start))
    token = f"token {found.identity:#010x}, " if isinstance(found.identity, int) else ""
    return Picture(
        found.name,
        f"{_STATUS.get(found.status) or printable(found.status)}, {token}time 0 is {began}",
        series.time,
        tuple(panels),
        names_of(paths),
        tuple(path.stalled for path in paths),
        series.marks,
    )


_STATUS = {"mptcp": "MPTCP", "fallback": "fell back to TCP", "tcp": "TCP"}


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Id and local address; the remote address where it differs, and ports where nothing else does."""
    remotes = {path.remote[0] for path in paths}
    seen = [(path.id, path.local[0], path.remote[0]) for path in paths]
    names = []
    for path, place in zip(paths, seen, strict=True):
        ports = seen.count(place) > 1
        ends = [path.local] if len(remotes) == 1 and not ports else [path.local, path.remote]
        shown = [f"{host} port {port}" if ports else host for host, port in ends]
        names.append(printable(f"{'' if path.id is None else path.id}  {' -> '.join(shown)}".strip()))
    return tuple(names)


# ---------------------------------------------------------------------------------------------- panels

_RATES = (("bit/s", 1.0), ("kbit/s", 1e3), ("Mbit/s", 1e6), ("Gbit/s", 1e9))
_SIZES = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9))
_TIMES = (("µs", 1.0), ("ms", 1e3), ("s", 1e6))


def _lines(paths: Sequence[Path], column: Column) -> list[Line]:
    names = names_of(paths)
    return [Line(names[n], n, False, column(path)) for n, path in enumerate(paths)]


def _rates(title: str, lines: list[Line]) -> Panel:
    bits = [line._replace(values=_scaled(line.values, 8)) for line in lines]
    return _panel(title, bits, _RATES)


def _panel(title: str, lines: list[Line], units: Sequence[tuple[str, float]]) -> Panel:
    """In the unit that suits the largest value."""
    top = max((value for line in lines for value in line.values if value == value), default=0.0)
    unit, size = [one for one in units if one[1] <= max(top, 1)][-1]
    scaled = tuple(line._replace(values=_scaled(line.values, 1 / size)) for line in lines)
    return Panel(title, unit, units is _RATES, scaled)


def _scaled(values: Values, factor: float) -> Values:
    return array("d", [value * factor for value in values])


# --------------------------------------------------------------------------------------------- thinning


def thinned(picture: Picture, most: int) -> Picture:
    """About this many values in each line: means, with the smallest and the largest value of each piece.

    Gaps are kept. Where any value is stalled, all of its piece is.
    """
    time, length = picture.time, len(picture.time)
    if length <= 2 * most:
        return picture
    gaps = [n for n in range(1, length) if time[n] == time[n - 1]]
    edges = {length * n // most for n in range(most + 1)}
    if len(gaps) < most:
        edges |= {n + after for n in gaps for after in (0, 1)}
    pieces = [slice(*ends) for ends in itertools.pairwise(sorted(edges))]
    panels = [
        panel._replace(lines=tuple(_thinned(line, pieces) for line in panel.lines))
        for panel in picture.panels
    ]
    return picture._replace(
        time=array("d", [time[piece.stop - 1] for piece in pieces]),
        panels=tuple(panels),
        stalled=tuple(bytearray(max(path[piece]) for piece in pieces) for path in picture.stalled),
    )


def _thinned(line: Line, pieces: Sequence[slice]) -> Line:
    values, low, high = array("d"), array("d"), array("d")
    for piece in pieces:
        all_ = line.values[piece]
        there = [value for value in all_ if value == value]
        known = 2 * len(there) > len(all_)
        values.append(sum(there) / len(there) if known else NAN)
        low.append(min(there) if known else NAN)
        high.append(max(there) if known else NAN)
    return line._replace(values=values, low=low, high=high)
