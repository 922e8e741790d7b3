# SPDX-License-Identifier: MIT
"""How results are shown: a short repr() and an aligned table. Imported when a result is first printed."""

from __future__ import annotations

from . import _types as t


def short(name: str, parts: t.Mapping[str, object], more: str = ", ...") -> str:
    """A repr() of the most important parts. Absent ones are left out; enums are shown by name."""
    shown = [
        f"{part}={value if hasattr(value, 'name') else repr(value)}"
        for part, value in parts.items()
        if value is not None
    ]
    return f"{name}({', '.join(shown)}{more})"


def host_and_port(address: t.Address | None) -> str:
    """An address in its usual notation."""
    if address is None:
        return "-"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def aligned(rows: t.Iterable[t.Iterable[object]], left: t.Iterable[int]) -> list[str]:
    """Rows of cells as indented lines. The columns in left are left-aligned, the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = set(left)
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"  {'  '.join(padded)}".rstrip())
    return lines


def units_of(fields: t.Mapping[str, t.Any], names: t.Iterable[str]) -> list[str]:
    """The units of these fields; empty for a label, whose unit adds nothing."""
    return ["" if fields[name].kind == "label" else fields[name].unit for name in names]


def listed(
    head: t.Iterable[object],
    units: t.Iterable[object],
    rows: t.Iterable[t.Iterable[object]],
    left: t.Iterable[int],
) -> list[str]:
    """Rows below a line of names and a line of units. Absent values are dashes."""
    return aligned([head, units, *(["-" if cell is None else cell for cell in row] for row in rows)], left)


def table(title: str, rows: t.Iterable[t.Row], *more: str) -> str:
    """One line each for name, value and unit, followed by more lines."""
    return "\n".join([title, *aligned(rows, left=(0, 2)), *more])
