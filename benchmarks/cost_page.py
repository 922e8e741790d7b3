# SPDX-License-Identifier: MIT
"""What cost.py measured, as tables for a terminal, and as docs/cost.md and its picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from .cost_networks import KINDS
from .measure import Spread
from .report import Document, aligned, between_markers, digest, load, markdown_table, number

BEGIN = "<!-- python -m benchmarks cost --write: begin -->"
NETWORKS = {"loopback": "loopback", "paths": "two paths"}
PROGRAMS = ("C", "Python")
WHATS = {
    "latency": "request",
    "throughput": "throughput",
    "transfer": "CPU of a byte",
    "opening": "opening",
    "connection": "CPU of a connection",
}
SOCKETS = ("TCP", "MPTCP")  # the kernel's names of the caches
QUIET = 0.1  # how far A/A may be from 1 on a machine that does nothing else


def key(network: str, program: str, what: str, kind: str) -> str:
    return f"{network} {program} {what} {kind}"


# ------------------------------------------------------------------------------------------------ tables


def cell(found: Spread | None, noise: Spread | None = None) -> str:
    """The median and its quartiles; in italics what A/A cannot be told from."""
    if found is None:
        return ""
    shown = f"{number(found.median)} ({number(found.low)} to {number(found.high)})"
    return f"*{shown}*" if noise and noise.low <= found.median <= noise.high else shown


def table(document: Document, network: str, program: str) -> list[list[str]]:
    """A row for each kind, a column for each thing that was measured."""
    rows = [["", *WHATS.values()]]
    for kind, (words, *_) in KINDS.items():
        if kind != "tcp":
            row = [words]
            for what in WHATS:
                found, noise = [
                    document.measured.ratios.get(key(network, program, what, one)) for one in (kind, "again")
                ]
                row.append(cell(found, None if kind == "again" else noise))
            rows.append(row)
    return rows


def measured_by(document: Document, network: str, program: str) -> bool:
    return key(network, program, "latency", "again") in document.measured.ratios


def memory(document: Document) -> list[list[str]]:
    """Objects and bytes of both ends of a connection."""
    ratios = document.measured.ratios
    rows = [["", "TCP sockets", "MPTCP sockets", "bytes", "ratio"]]
    for kind, (words, *_) in KINDS.items():
        if f"bytes {kind}" in ratios:
            counts = [ratios.get(f"objects {kind} {cache}") for cache in SOCKETS]
            shown = [number(int(one.median)) if one else "0" for one in counts]
            size = number(int(ratios[f"bytes {kind}"].median))
            rows.append([words, *shown, size, number(ratios[f"memory {kind}"].median)])
    if "bytes tcp" in ratios:
        each = (ratios["bytes mptcp 4"].median - ratios["bytes mptcp 1"].median) / 3
        ratio = each / ratios["bytes tcp"].median
        rows.append(["each further subflow", "", "", number(round(each)), number(ratio)])
    return rows


def nagle(document: Document) -> list[list[str]]:
    rows = [["", "with Nagle's algorithm / without"]]
    for kind in ("tcp", "mptcp 1"):
        if found := document.measured.ratios.get(f"nagle {kind}"):
            rows.append([KINDS[kind].words, cell(found)])
    return rows


def noise(document: Document) -> float:
    """How far A/A was from 1 on loopback, in the worst of its quartiles."""
    found = [
        document.measured.ratios[key("loopback", program, what, "again")]
        for program in PROGRAMS
        for what in WHATS
        if measured_by(document, "loopback", program)
    ]
    return max((abs(math.log(max(edge, 1e-3))) for one in found for edge in (one.low, one.high)), default=0.0)


def origin(document: Document) -> str:
    run = document.machine
    lines = [
        f"{run['kernel']}, {run['python']}, {run['cpu']}: medians of {document.rounds} interleaved rounds, "
        "with quartiles."
    ]
    if noise(document) > math.log1p(QUIET):
        lines.append(
            "**This run was noisy, as the A/A rows show. "
            "These figures are to be measured again on a quiet machine.**"
        )
    lines += [f"Not measured: {note}." for note in document.measured.notes if not note.startswith("memory")]
    return "\n".join(lines)


def text(document: Document) -> str:
    """All tables, for a terminal."""
    blocks = [[origin(document).replace("**", "")]]
    for network, words in NETWORKS.items():
        for program in PROGRAMS:
            if measured_by(document, network, program):
                rows = [[each.strip("*") for each in row] for row in table(document, network, program)]
                blocks.append([f"{words}, {program}, against TCP to TCP", *aligned(rows)])
    blocks += [aligned(nagle(document)), aligned(memory(document))]
    return "\n\n".join("\n".join(block) for block in blocks)


def for_docs(document: Document) -> list[str]:
    """What stands between the markers of docs/cost.md."""
    found = [origin(document)]
    for network in NETWORKS:
        for program in PROGRAMS:
            shown = measured_by(document, network, program)
            rows = markdown_table(table(document, network, program))
            found.append(rows if shown else f"Programs in {program} were not measured.")
    doubtful = [note for note in document.measured.notes if note.startswith("memory")]
    counted = "\n".join([markdown_table(memory(document)), *(f"\nNot counted: {note}." for note in doubtful)])
    return [*found, markdown_table(nagle(document)), counted]


def write(root: Path, document: Document) -> None:
    """docs/cost.json, and all that is rendered from it."""
    document = load(document.dump())  # as anybody else will see it
    page = root / "docs" / "cost.md"
    written = between_markers(page.read_text(), *for_docs(document), begin=BEGIN)
    page.write_text(written)
    (root / "docs" / "cost.json").write_text(document.dump())
    (root / "docs" / "cost.svg").write_text(svg(document))


# ------------------------------------------------------------------------------------------- the picture

# Each can be read on white and on black: the picture has no ground of its own.
INK, BLUE, ORANGE = "#767676", "#2c82b8", "#c4661f"
COLOURS = {"C": BLUE, "Python": ORANGE}
TITLES = {
    "latency": "time of a small request (less is better)",
    "throughput": "throughput (more is better)",
    "transfer": "CPU time of a byte",
    "opening": "time until a connection is open",
    "connection": "CPU time of a connection",
}
SHOWN = ("listener", "mptcp 1", "mptcp 2", "mptcp 4")
WIDTH, LEFT, RIGHT, ROW, GAP = 480, 168, 20, 16, 48


def position(ratio: float, low: int, high: int) -> float:
    """On an axis of powers of two."""
    part = (math.log2(ratio) - low) / (high - low)
    return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, part)), 1)


def limits(document: Document) -> tuple[int, int]:
    """The powers of two around all medians, at least a half to two, and at most an eighth to 16."""
    found = [
        document.measured.ratios[name].median
        for network in NETWORKS
        for program in PROGRAMS
        for what in WHATS
        for kind in SHOWN
        if (name := key(network, program, what, kind)) in document.measured.ratios
    ]
    found += [one.median for kind in SHOWN if (one := document.measured.ratios.get(f"memory {kind}"))]
    low, high = math.floor(math.log2(max(min(found), 1e-3))), math.ceil(math.log2(max(found)))
    return max(-3, min(-1, low)), min(4, max(1, high))


def svg(document: Document) -> str:
    """docs/cost.svg: a panel for each thing that was measured on each network."""
    low, high = limits(document)
    body = [*legend()]
    top = 64
    for network, words in NETWORKS.items():
        for what, title in TITLES.items():
            body += panel(document, f"{words}: {title}", top, low, high, network, what)
            top += GAP + ROW * len(SHOWN)
    body += memory_panel(document, top, low, high)
    top += GAP + ROW * len(SHOWN) + 4
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}" role="img">'
    )
    said = "<title>What MPTCP costs, against TCP to TCP</title>"
    return "\n".join([head, said, f"<desc>{digest(document)}</desc>", *body, "</svg>"]) + "\n"


def legend() -> Iterator[str]:
    yield label(0, 14, "Against TCP to TCP = 1. Lines: quartiles.", weight="bold")
    x = 8
    for program in PROGRAMS:
        yield mark(program, x, 32)
        yield label(x + 10, 36, f"program in {program}")
        x += 140
    yield f'<rect x="{x}" y="26" width="12" height="12" fill="{INK}" fill-opacity="0.25"/>'
    yield label(x + 18, 36, "noise: TCP again (A/A)")


def label(x: float, y: float, said: str, *, weight: str = "normal", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}" text-anchor="{anchor}">{escape(said)}</text>'


def mark(program: str, x: float, y: float) -> str:
    """C is a disc and Python a ring: not told by colour alone."""
    colour = COLOURS[program]
    fill = colour if program == "C" else "none"
    return f'<circle cx="{x}" cy="{y}" r="3.5" fill="{fill}" stroke="{colour}" stroke-width="1.8"/>'


def frame(title: str, top: float, low: int, high: int) -> Iterator[str]:
    """The title, a line at each power of two, the names of the rows."""
    yield label(0, top, title, weight="bold")
    bottom = top + 8 + ROW * len(SHOWN)
    for power in range(low, high + 1):
        x = position(2.0**power, low, high)
        yield f'<path d="M{x} {top + 8}V{bottom}" stroke="{INK}" stroke-width="{0.4 if power else 1.4}"/>'
        yield label(x, bottom + 12, f"1/{2**-power}" if power < 0 else f"{2**power}", anchor="middle")
    for n, kind in enumerate(SHOWN):
        yield label(0, top + 20 + ROW * n, KINDS[kind].words)


def panel(
    document: Document, title: str, top: float, low: int, high: int, network: str, what: str
) -> Iterator[str]:
    yield from frame(title, top, low, high)
    ratios = document.measured.ratios
    again = [one for name in PROGRAMS if (one := ratios.get(key(network, name, what, "again")))]
    if again:
        left, right = [
            position(max(edge, 1e-3), low, high)
            for edge in (min(one.low for one in again), max(one.high for one in again))
        ]
        yield (
            f'<rect x="{left}" y="{top + 8}" width="{round(right - left, 1)}" height="{ROW * len(SHOWN)}" '
            f'fill="{INK}" fill-opacity="0.25"/>'
        )
    for n, kind in enumerate(SHOWN):
        for program, shift in zip(PROGRAMS, (12, 20), strict=True):
            if found := ratios.get(key(network, program, what, kind)):
                yield from point(found, program, top + shift + ROW * n, low, high)


def point(found: Spread, program: str, y: float, low: int, high: int) -> Iterator[str]:
    begin, middle, end = [
        position(max(one, 1e-3), low, high) for one in (found.low, found.median, found.high)
    ]
    yield f'<path d="M{begin} {y}H{end}" stroke="{COLOURS[program]}" stroke-width="1.6"/>'
    yield mark(program, middle, y)


def memory_panel(document: Document, top: float, low: int, high: int) -> Iterator[str]:
    yield from frame("kernel memory of a connection", top, low, high)
    for n, kind in enumerate(SHOWN):
        if found := document.measured.ratios.get(f"memory {kind}"):
            x = position(found.median, low, high)
            yield f'<circle cx="{x}" cy="{top + 16 + ROW * n}" r="3.5"/>'
