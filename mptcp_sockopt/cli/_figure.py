# SPDX-License-Identifier: MIT
"""A picture as SVG or PNG, by matplotlib.

With one release of matplotlib, the same picture always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import itertools
import warnings
from typing import Any

from ._outcome import CannotRun
from ._panels import COLOURS, NOTE, Line, Panel, Picture, thinned

WIDTH, PANEL, INCH = 9.0, 1.55, 0.16  # inches: the figure's width, a panel's height, the height of text
LEFT = 0.012  # of the width: where text begins
MOST = 600  # values of each line: a panel is some 600 points wide
LISTED = 16  # events that are listed below the panels
OWN, OLD, FAINT = "#1c1c1c", "#b0b0b0", "#6b6b6b"
STYLE = {
    "svg.hashsalt": "mptcp-sockopt",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e6e6",
    "lines.linewidth": 1.1,
    "savefig.dpi": 150,
}


def need_matplotlib() -> None:
    """CannotRun if it is not installed."""
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise CannotRun(
            "svg and png need matplotlib: pip install 'mptcp-sockopt[plot]' (or write html, which needs "
            f"nothing): {error}"
        ) from None


def figure(picture: Picture, kind: str) -> bytes:
    """kind: "svg" or "png"."""
    need_matplotlib()
    matplotlib: Any = importlib.import_module("matplotlib")
    figures: Any = importlib.import_module("matplotlib.figure")
    out = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have characters that the font lacks
        matplotlib.rcdefaults()  # whatever this user's settings are
        matplotlib.rcParams.update(STYLE)
        drawn = _drawn(figures.Figure, thinned(picture, MOST))
        metadata = {"Date": None, "Description": digest(picture)} if kind == "svg" else {}
        drawn.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def digest(picture: Picture) -> str:
    """Stands in the svg, and tells what it was drawn from."""
    return f"sha256 of the series: {hashlib.sha256(repr(picture).encode()).hexdigest()}"


def _drawn(new_figure: Any, picture: Picture) -> Any:
    names, listed = ["the connection", *picture.paths], _listed(picture)
    columns = max(1, min(4, 110 // (max(map(len, names)) + 6)))
    head, foot = INCH * (5.3 + 1.15 * -(-len(names) // columns)), INCH * (3 + len(listed))
    height = head + PANEL * len(picture.panels) + foot
    drawn = new_figure(figsize=(WIDTH, height))
    axes = drawn.subplots(len(picture.panels), 1, sharex=True, squeeze=False)[:, 0]
    drawn.subplots_adjust(left=0.075, right=0.985, top=1 - head / height, bottom=foot / height, hspace=0.42)
    for one, panel in zip(axes, picture.panels, strict=True):
        _panel(one, panel, picture)
    axes[-1].set_xlabel("seconds", labelpad=2)
    axes[0].set_xlim(picture.time[0], max(picture.time[-1], picture.time[0] + 1e-3))
    _number_marks(axes[0], picture)

    def text(inches: float, words: str, **style: Any) -> Any:
        return drawn.text(LEFT, inches / height, words, va="top", **style)

    texts = [
        text(height - INCH, picture.title, fontsize=11, weight="bold"),
        text(height - 2.2 * INCH, f"{picture.subtitle}. {NOTE}", color=FAINT),
        *(text(foot - INCH * (2.8 + n), line, fontsize=7) for n, line in enumerate(listed)),
        *_legend(drawn, axes[0], names, columns, 1 - 3.5 * INCH / height),
    ]
    for one in texts:
        one.set_parse_math(False)  # a name with $ is no formula
    return drawn


def _legend(drawn: Any, axes: Any, names: list[str], columns: int, top: float) -> list[Any]:
    handles = [axes.plot([], [], color=_colour(n - 1))[0] for n in range(len(names))]
    legend = drawn.legend(
        handles, names, ncols=columns, loc="upper left", bbox_to_anchor=(LEFT, top),
        frameon=False, borderpad=0, borderaxespad=0,
    )  # fmt: skip
    return [*legend.get_texts()]


def _listed(picture: Picture) -> list[str]:
    marks = picture.marks
    lines = [f"{n}.  {mark.time:.2f} s  {mark.text}" for n, mark in enumerate(marks[:LISTED], 1)]
    if len(marks) > LISTED:
        lines[-1:] = [f"and {len(marks) - LISTED + 1} more"]
    return lines


def _number_marks(axes: Any, picture: Picture) -> None:
    room, labelled = (picture.time[-1] - picture.time[0]) / 60, float("-inf")
    for n, mark in enumerate(picture.marks, 1):
        if mark.time - labelled > room:
            axes.text(
                mark.time, 1.0, str(n), fontsize=7, color=FAINT, ha="center", va="bottom",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
            labelled = mark.time


def _panel(axes: Any, panel: Panel, picture: Picture) -> None:
    axes.set_title(f"{panel.title} ({panel.unit})", pad=9)
    moments = [mark.time for mark in picture.marks]
    upright = axes.get_xaxis_transform()  # from 0, the bottom, to 1, the top
    axes.vlines(moments, 0, 1, color="#8c8c8c", linewidth=0.7, linestyle=(0, (3, 3)), transform=upright)
    for line in panel.lines:
        _line(axes, panel, line, picture)
    top = max(axes.dataLim.y1, 0) * 1.06 or 1.0
    axes.set_ylim(-0.02 * top, top)  # a line at zero is seen


def _line(axes: Any, panel: Panel, line: Line, picture: Picture) -> None:
    flags = picture.stalled[line.path] if line.path >= 0 else bytes(len(line.values))
    style = {
        "linestyle": "--" if line.dashed else "-",
        "drawstyle": "steps-pre" if panel.steps else "default",
    }
    first = 0
    for old, group in itertools.groupby(flags):
        end = first + len([*group])
        piece = slice(max(first - 1, 0), end)  # from the value before
        times, colour = picture.time[piece], OLD if old else _colour(line.path)
        axes.plot(times, line.values[piece], color=colour, **style)
        if line.low is not None and line.high is not None:
            axes.fill_between(
                times, line.low[piece], line.high[piece], color=colour, alpha=0.25, linewidth=0,
                step="pre" if panel.steps else None,
            )  # fmt: skip
        first = end


def _colour(path: int) -> str:
    return COLOURS[path % len(COLOURS)][0] if path >= 0 else OWN
