# SPDX-License-Identifier: MIT
"""docs/benchmarks.svg, drawn with matplotlib (pip install '.[bench]') from docs/benchmarks.json alone."""

from __future__ import annotations

import hashlib
import importlib
import io
from typing import Any

from .measure import Growth, Missing
from .report import Document

OURS, OTHERS = "#0b6e99", "#8c8c8c"
MARKS = "osDv^Px*"


def digest(document: Document) -> str:
    """Stands in the picture, and tells what it was drawn from."""
    return f"sha256 of the figures: {hashlib.sha256(document.dump().encode()).hexdigest()}"


def svg(document: Document) -> str:
    """Missing where there is no matplotlib."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError as error:
        raise Missing(f"matplotlib is not installed (pip install '.[bench]'): {error}") from None
    matplotlib.use("svg")
    style = {
        "svg.hashsalt": "mptcp-sockopt",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.grid": True,
        "axes.axisbelow": True,
    }
    style |= {"grid.color": "#e6e6e6", "axes.spines.top": False, "axes.spines.right": False}
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
        one_call(axes[0], document)
        lines(axes[1], document.measured.growth["subflows"], "subflows", "a call")
        lines(axes[2], document.measured.growth["connections"], "sockets", "a socket")
        axes[2].set_xscale("log")
        for one in axes[1:]:
            one.set_yscale("log", base=2)
            one.yaxis.set_major_formatter("{x:g}")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Description": digest(document)})
        pyplot.close(figure)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def one_call(axes: Any, document: Document) -> None:
    """MPTCP_INFO of one socket."""
    names = {
        "C": None,
        "socket.getsockopt + unpack": "stdlib / C",
        "mptcp_info()": "info / C",
        "ctypes": "ctypes / C",
    }
    costs = [document.measured.ratios[key].median if key else 1.0 for key in names.values()]
    colours = [OURS if name.startswith("mptcp") else OTHERS for name in names]
    bars = axes.barh(list(names), costs, color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title("MPTCP_INFO of one socket")
    axes.set_xlabel("CPU time, in C calls of MPTCP_INFO")


def lines(axes: Any, table: Growth, counted: str, unit: str) -> None:
    for (name, found), mark in zip(table.lines.items(), MARKS, strict=False):
        ours = "mptcp_" in name or "Sampler" in name
        points = [(count, cost) for count, cost in zip(table.counts, found, strict=True) if cost is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=OURS if ours else OTHERS, marker=mark, markersize=4,
                      linewidth=1.2, label=name.replace("`", ""))  # fmt: skip
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.45, -0.15))
    axes.set_title(f"Against {counted}")
    axes.set_xlabel(counted)
    axes.set_ylabel(f"CPU time of {unit}, in C calls of MPTCP_INFO")
