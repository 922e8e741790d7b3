# SPDX-License-Identifier: MIT
"""What people see of results: a short repr() and an aligned table. Loaded when somebody looks at one."""

from __future__ import annotations

from . import _types as t


def short(name: str, parts: t.Mapping[str, object], more: str = ", ...") -> str:
    """A repr() of what matters. What is absent is left out; enums are shown by their names."""
    shown = [
        f"{part}={value if hasattr(value, 'name') else repr(value)}"
        for part, value in parts.items()
        if value is not None
    ]
    return f"{name}({', '.join(shown)}{more})"


def host_and_port(address: t.Address | None) -> str:
    """As people write it."""
    if address is None:
        return "-"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def aligned(rows: t.Iterable[t.Iterable[object]], left: t.Iterable[int]) -> list[str]:
    """Rows of cells as indented lines; these columns begin at the left, the others end at the right."""
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
    """Of these fields, where they have one that says more than the name."""
    return ["" if fields[name].kind == "label" else fields[name].unit for name in names]


def listed(
    head: t.Iterable[object],
    units: t.Iterable[object],
    rows: t.Iterable[t.Iterable[object]],
    left: t.Iterable[int],
) -> list[str]:
    """Rows below their names and units. What is absent is a dash."""
    return aligned([head, units, *(["-" if cell is None else cell for cell in row] for row in rows)], left)


def table(title: str, rows: t.Iterable[t.Row], *more: str) -> str:
    """Names, values and units, one below the other, and more lines behind them."""
    return "\n".join([title, *aligned(rows, left=(0, 2)), *more])
