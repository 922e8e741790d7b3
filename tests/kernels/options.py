# SPDX-License-Identifier: MIT
"""docs/options.md: how each kernel answers to each socket option, and in which release that changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .rows import HERE
from .verdict import Outcome

DOCS = HERE.parent.parent / "docs"
PAGE, RESULTS = DOCS / "options.md", DOCS / "options.json"
BEGIN, END = "<!-- begin: written by python -m tests.kernels --ask --write-docs -->", "<!-- end -->"
STATES = ("fresh", "connected", "accepted", "listening")
#: In the page's order: a table each.
LEVELS = ("SOL_SOCKET", "IPPROTO_TCP", "IPPROTO_IP", "IPPROTO_IPV6", "SOL_MPTCP")

Answers = dict[str, list[Any]]  # by option its level, then how get and set end in each state


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text())["kernels"]
    return found


def text_of(kernels: dict[str, Any]) -> str:
    """As the file has it: a kernel a line."""
    rows = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(kernels.items(), key=_place)]
    return '{"schema": 1, "kernels": {\n' + ",\n".join(rows) + "\n}}\n"


def _place(row: tuple[str, Any]) -> tuple[str, list[int]]:
    arch, series = row[0].split("-")
    return arch, [int(number) for number in series.split(".")]


def different(outcome: Outcome, kernels: dict[str, Any]) -> list[str]:
    """Sentences, where the same release once answered otherwise."""
    known, found = kernels.get(outcome.row.name), outcome.options
    if not known or not found or known["release"] != outcome.figures["release"]:
        return []
    names = sorted(
        name for name in known["options"].keys() | found if known["options"].get(name) != found.get(name)
    )
    return [f"docs/options.json has another answer of {name}" for name in names]


def write_docs(outcomes: list[Outcome]) -> None:
    """Replace the rows that were asked; the others stay."""
    kernels = load()
    for outcome in outcomes:
        if outcome.options:
            row = {"release": outcome.figures["release"], "options": outcome.options}
            kernels[outcome.row.name] = row
    RESULTS.write_text(text_of(kernels))
    PAGE.write_text(rendered(PAGE.read_text(), kernels))


# ------------------------------------------------------------------------------------------------- the page


def words(answers: list[str | None]) -> str:
    """How a call ends in the four states, in one cell."""
    told = {state: word for state, word in zip(STATES, answers, strict=True) if word is not None}
    if not told:
        return "-"
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    by_word: dict[str, list[str]] = {}
    for state, word in told.items():
        by_word.setdefault(word, []).append(state)
    return ", ".join(f"{word} ({' '.join(states)})" for word, states in by_word.items())


def changes(series: dict[str, Answers], name: str, half: slice) -> str:
    """The cell of an option over all series, oldest first: the answer, and from which one on another."""
    parts: list[str] = []
    last = None
    for release, options in series.items():
        word = words(options[name][half]) if name in options else "-"
        if word != last:
            parts.append(f"from {release} {word}" if parts else word)
        last = word
    return "; ".join(parts)


def tables(kernels: dict[str, Any]) -> str:
    """A table for each level, of amd64 and of series that only another architecture has; below them, what
    others answer otherwise."""
    rows = sorted(kernels.items(), key=lambda row: _place(row)[::-1])
    ours = {name.split("-")[1]: row["options"] for name, row in rows if name.startswith("amd64-")}
    series = {}
    for name, row in rows:
        arch, release = name.split("-")
        if arch == "amd64" or release not in ours:
            series[release if arch == "amd64" else f"{release} ({arch})"] = row["options"]
    newest = list(series.values())[-1]
    lines = [f"Of Linux {', '.join(series)}.", ""]
    for level in LEVELS:
        lines += [f"## {level}", "", "| option | set | get |", "|---|---|---|"]
        for name in sorted(name for name, answers in newest.items() if answers[0] == level):
            get, set_ = (changes(series, name, half) for half in (slice(1, 5), slice(5, 9)))
            lines.append(f"| {name} | {set_} | {get} |")
        lines.append("")
    for name, row in rows:
        arch, release = name.split("-")
        if arch != "amd64" and release in ours:
            others = [
                option for option, answers in row["options"].items() if ours[release].get(option) != answers
            ]
            lines.append(f"- {arch} {release}: {', '.join(others) or 'as amd64'}")
    return "\n".join(["", *lines, ""])


def rendered(page: str, kernels: dict[str, Any]) -> str:
    """The page with its tables made anew."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"{Path(PAGE).name} does not have the marks around its tables, once")
    return pattern.sub(lambda match: f"{match[1]}{tables(kernels)}\n{match[2]}", page)
