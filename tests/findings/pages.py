# SPDX-License-Identifier: MIT
"""What the pages of docs/findings say of figures: a block in each, and the table of the index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .figures import interval
from .programs import CANNOT, FINDINGS, FOLDER, NOT_SHOWN, RACES, SHOWN

INDEX = FOLDER / "index.md"
BEGIN, END = "<!-- begin: written by python -m tests.findings --write -->", "<!-- end -->"
_BLOCK = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
_ANSWERS = {SHOWN: "it shows", NOT_SHOWN: "it does not show", CANNOT: "it cannot be seen"}


def page(name: str) -> Path:
    return FOLDER / f"{name}.md"


def title(name: str) -> str:
    """The first line of its page."""
    return page(name).read_text().splitlines()[0].removeprefix("# ")


def percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def rate(row: dict[str, Any]) -> str:
    """Counted, and the bounds."""
    low, high = (percent(bound) for bound in interval(row["shown"], row["of"]))
    return f"{row['shown']:,} of {row['of']:,} {row['unit']} (95 %: {low.removesuffix(' %')} to {high})"


def kernels(name: str, figures: dict[str, Any]) -> dict[int, list[str]]:
    """By answer, the kernels that gave it: of amd64 the series alone."""
    found: dict[int, list[str]] = {}
    for row, told in figures["kernels"].items():
        arch, series = row.split("-")
        status = told["not shown"].get(name, SHOWN)
        found.setdefault(status, []).append(series if arch == "amd64" else f"{series} ({arch})")
    return {} if name in RACES else found


def block(name: str, figures: dict[str, Any]) -> str:
    """What a run prints, and the table of kernels."""
    row = figures["findings"][name]
    command = " ".join(["$ python", f"{name}.py", *FINDINGS[name]])
    lines = ["```text", command, *row["printed"], "```", "", "| Linux | measured |", "|---|---|"]
    lines.append(f"| {figures['kernel']} | it shows in {rate(row)} |")
    for status, series in sorted(kernels(name, figures).items(), key=lambda one: one[0] != SHOWN):
        lines.append(f"| {', '.join(series)} | {_ANSWERS[status]} |")
    return "\n".join(["", *lines, "", ""])


def table(figures: dict[str, Any]) -> str:
    """Of the index."""
    head = f"| finding | Linux {figures['kernel']} | shows on | not on |"
    lines = [head, "|---|---|---|---|"]
    for name in FINDINGS:
        row, found = figures["findings"][name], kernels(name, figures)
        cells = [", ".join(found.get(status, ["-"])) for status in (SHOWN, NOT_SHOWN)]
        counted = f"{row['shown']:,} of {row['of']:,}" + (f" {row['unit']}" if name in RACES else "")
        lines.append(f"| [{title(name)}]({name}.md) | {counted} | {' | '.join(cells)} |")
    return "\n".join(["", *lines, "", ""])


def rendered(text: str, made: str) -> str:
    """A page with its block made anew."""
    if len(_BLOCK.findall(text)) != 1:
        raise ValueError("the page does not have the marks around its figures, once")
    return _BLOCK.sub(lambda match: f"{match[1]}{made}{match[2]}", text)


def all_pages(figures: dict[str, Any]) -> dict[Path, str]:
    """Every page as it is to be."""
    made = {page(name): rendered(page(name).read_text(), block(name, figures)) for name in FINDINGS}
    return {INDEX: rendered(INDEX.read_text(), table(figures)), **made}
