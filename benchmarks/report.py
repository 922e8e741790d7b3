# SPDX-License-Identifier: MIT
"""What was measured, as JSON, as a table for a terminal, and as Markdown and a picture for the documents.

A document (JSON) holds ratios, and what they were measured on; no times: those are true of one machine.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mptcp_sockopt as mp

from .measure import TARGETS, Growth, Measured, Missing, Spread, Target, bound_of, usual, verdict

BEGIN, END = "<!-- python -m benchmarks --write: begin -->", "<!-- end -->"

# The rows of the README; docs/benchmarks.md has all.
OF_README = "T1 T2 T3 T6 T17x T10 T14".split()
COUNTED = {"subflows": "subflows", "connections": "sockets"}


class Document(NamedTuple):
    """A run. machine says where; missing and notes name what was not measured."""

    machine: dict[str, str]
    rounds: int
    measured: Measured

    def dump(self) -> str:
        """As JSON, with four digits of each ratio."""
        found = self.measured
        data: dict[str, Any] = {"schema": 1, "machine": self.machine, "rounds": self.rounds}
        data["ratios"] = {
            key: {"median": digits(median), "quartiles": [digits(low), digits(high)], "rounds": rounds}
            for key, (median, low, high, rounds) in found.ratios.items()
        }
        data["growth"] = {
            name: {"counts": counts, "lines": {line: [*map(digits, costs)] for line, costs in lines.items()}}
            for name, (counts, lines) in found.growth.items()
        }
        return json.dumps(data | {"missing": found.missing, "notes": found.notes}, indent=1) + "\n"


def digits(value: float | None) -> float | None:
    """Four of them; all of what was counted."""
    return value if value is None or isinstance(value, int) else float(f"{value:.4g}")


def load(text: str) -> Document:
    """What dump() wrote."""
    data: dict[str, Any] = json.loads(text)
    ratios = {
        key: Spread(found["median"], found["quartiles"][0], found["quartiles"][1], found["rounds"])
        for key, found in data["ratios"].items()
    }
    growth = {name: Growth(table["counts"], table["lines"]) for name, table in data["growth"].items()}
    measured = Measured(ratios, growth, data["missing"], data["notes"])
    return Document(data["machine"], data["rounds"], measured)


def machine() -> dict[str, str]:
    """The series of the kernel's release, the Python, the model of the CPU."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "kernel": "Linux " + ".".join(platform.release().split(".")[:2]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": model[1] if model else platform.machine(),
        "mptcp_sockopt": mp.__version__,
    }


# ---------------------------------------------------------------------------------------------- numbers


def number(value: float | None) -> str:
    """Three digits of it, more or less: 1.23, 12.3, 1,234."""
    if value is None:
        return ""
    if isinstance(value, int):  # a count
        return f"{value:,}"
    return f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def limit(target: Target, value: float | None) -> str:
    return "" if value is None else f"{'≥' if target.at_least else '≤'} {number(value)}"


def cells(target: Target, measured: Measured) -> list[str]:
    """The columns of a row, without the name."""
    found = measured.ratios.get(target.key)
    if found is None:
        ratio = quartiles = ""
    else:
        ratio = number(found.median)
        quartiles = f"{number(found.low)} to {number(found.high)}" if found.rounds > 1 else "counted"
    return [
        ratio,
        quartiles,
        limit(target, target.gate),
        limit(target, target.aim),
        number(bound_of(target, measured.ratios)),
        verdict(target, measured.ratios),
    ]


HEADS = ["ratio", "quartiles", "gate", "aim", "bound", "verdict"]


# ------------------------------------------------------------------------------------- for a terminal


def text(document: Document, targets: Iterable[Target]) -> str:
    measured = document.measured
    rows = [[target.key, target.what.replace("`", ""), *cells(target, measured)] for target in targets]
    lines = ["  ".join([*document.machine.values(), f"{document.rounds} rounds"])]
    if rows:
        lines += aligned([["", "", *HEADS], *rows])
    if not usual(measured.ratios):
        lines.append("No verdicts: system calls do not cost here what they usually do (S1, S2).")
    for name, table in measured.growth.items():
        lines += ["", f"by number of {COUNTED[name]}, in C calls of MPTCP_INFO"]
        lines += aligned(
            [
                ["", *map(str, table.counts)],
                *([line.replace("`", ""), *map(number, found)] for line, found in table.lines.items()),
            ]
        )
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


# ----------------------------------------------------------------------------------- for the documents


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def origin(document: Document) -> str:
    run = document.machine
    return (
        f"{run['kernel']}, {run['python']}, {run['cpu']}: medians of {document.rounds} interleaved rounds. "
        "Ratios of CPU time unless the row says otherwise."
    )


def for_readme(document: Document) -> list[str]:
    chosen = [target for key in OF_README for target in TARGETS if target.key == key]
    rows = [[target.what, *cells(target, document.measured)[:1]] for target in chosen]
    return [f"{markdown_table([['what', 'ratio'], *rows])}\n\n{origin(document)}"]


def for_docs(document: Document) -> list[str]:
    """Where it was measured; a table of each group; the tables of growth."""
    groups: dict[str, list[list[str]]] = {}
    for target in TARGETS:
        row = [target.key, target.what, *cells(target, document.measured)]
        groups.setdefault(target.group, [["", "what", *HEADS]]).append(row)
    for name, table in document.measured.growth.items():
        groups[name] = [["", *(f"{count:,}" for count in table.counts)]]
        groups[name] += [[line, *map(number, found)] for line, found in table.lines.items()]
    return [origin(document), *map(markdown_table, groups.values())]


def between_markers(page: str, *generated: str, begin: str = BEGIN) -> str:
    """The page with these between its pairs of markers. ValueError where there are more or fewer pairs."""
    pattern = re.compile(f"(?<={re.escape(begin)}\n).*?(?=\n{re.escape(END)})", re.DOTALL)
    if len(pattern.findall(page)) != len(generated):
        raise ValueError(f"the page does not have {len(generated)} pairs of markers")
    texts = iter(generated)
    return pattern.sub(lambda _: next(texts), page)


#: The documents that show what docs/benchmarks.json holds.
PAGES = {"README.md": for_readme, "docs/benchmarks.md": for_docs}


def write(root: Path, document: Document) -> None:
    """docs/benchmarks.json, and all that is rendered from it. Missing where there is no matplotlib."""
    document = load(document.dump())  # as anybody else will see it
    drawn = svg(document)
    (root / "docs" / "benchmarks.json").write_text(document.dump())
    (root / "docs" / "benchmarks.svg").write_text(drawn)
    for name, render in PAGES.items():
        page = root / name
        page.write_text(between_markers(page.read_text(), *render(document)))


# ------------------------------------------------------------------------------------------- the picture

OURS, OTHERS = "#0b6e99", "#8c8c8c"
MARKS = "osDv^Px*"


def digest(document: Document) -> str:
    """Stands in the picture, and tells what it was drawn from."""
    return f"sha256 of the figures: {hashlib.sha256(document.dump().encode()).hexdigest()}"


def svg(document: Document) -> str:
    """docs/benchmarks.svg. Missing where there is no matplotlib."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError as error:
        raise Missing(f"matplotlib is not installed (pip install '.[bench]'): {error}") from None
    matplotlib.use("svg")
    style = {"svg.hashsalt": "mptcp-sockopt", "svg.fonttype": "none", "font.size": 9, "grid.color": "#e6e6e6"}
    style |= dict.fromkeys(("axes.grid", "axes.axisbelow"), True)
    style |= dict.fromkeys(("axes.spines.top", "axes.spines.right"), False)
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
        one_call(axes[0], document)
        curves(axes[1], document.measured.growth["subflows"], "subflows", "a call")
        curves(axes[2], document.measured.growth["connections"], "sockets", "a socket")
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


def curves(axes: Any, table: Growth, counted: str, unit: str) -> None:
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
