# SPDX-License-Identifier: MIT
"""Outcomes for people and for scripts: a line while it runs, Markdown and JSON afterwards, recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .guest import LEFT_OUT
from .rows import ARCHES, HERE
from .verdict import OK, Outcome

DOCS = HERE.parent.parent / "docs"
PAGE, RESULTS = DOCS / "kernels.md", DOCS / "kernels.json"
BEGIN, END = "<!-- begin: written by python -m tests.kernels --write-docs -->", "<!-- end -->"

Columns = list[tuple[str, str]]  # title, and the name in a record

WORKS: Columns = [
    ("arch", "arch"),
    ("kernel", "release"),
    ("self test", "selftest"),
    ("fallback", "fallen_back"),
    ("subflows", "subflows"),
    ("diag", "mptcp_diag"),
    ("passed", "passed"),
    ("skipped", "skipped"),
]
ANSWERS: Columns = [
    ("arch", "arch"),
    ("Linux", "series"),
    ("info", "mptcp_info"),
    ("tcp_info", "tcp_info"),
    ("full_info", "full_info"),
    ("subflow_info", "subflow_info"),
    ("options", "options"),
    ("TCP_IS_MPTCP", "tcp_is_mptcp"),
]
OUTSIDE: Columns = [
    ("arch", "arch"),
    ("Linux", "series"),
    ("paths", "told_paths"),
    ("ids", "told_ids"),
    ("by addresses", "told_by_addresses"),
    ("by token", "told_by_token"),
    ("reason", "told_reason"),
    ("events", "told_events"),
    ("of listeners", "told_listeners"),
]
TABLES = (WORKS, ANSWERS, OUTSIDE)  # in the page's order


def who(told: dict[str, Any] | None, answered: Callable[[dict[str, Any]], bool]) -> str | None:
    """Who is told: all, root alone, or none."""
    users = [user for user in ("root", "nobody") if told and answered(told[user])]
    return "all" if len(users) == 2 else "".join(users) or None


def outside_of(told: dict[str, Any] | None) -> dict[str, str | None]:
    """By what there is to be told, who is."""
    return {
        "told_paths": who(told, lambda one: one["dump"][:2] == [2, 4]),
        "told_ids": who(told, lambda one: one["dump"][2:] == [4]),
        "told_by_addresses": who(told, lambda one: one["by addresses"] is True),
        "told_by_token": who(told, lambda one: one["by token"] is True),
        "told_reason": who(told, lambda one: one["reason"] == "NO_OPTION_IN_ANSWER"),
        "told_events": who(told, lambda one: "SUB_ESTABLISHED" in one["events"]),
        "told_listeners": who(told, lambda one: "LISTENER_CREATED" in one["events"]),
    }


def record_of(outcome: Outcome) -> dict[str, Any]:
    """A row as the JSON has it: no times, no mirrors, nothing of this machine."""
    figures = outcome.figures
    record: dict[str, Any] = {
        "arch": outcome.row.arch,
        "series": outcome.row.series,
        "required": outcome.row.required,
        "verdict": outcome.verdict,
        "reasons": outcome.reasons,
        "package_version": outcome.version,
    }
    if not figures:
        return record
    sockets = figures["sockets"] if isinstance(figures["sockets"], dict) else {}
    record |= {
        name: figures.get(name)
        for name in ("release", "is_supported", "options", "mptcp_info", "tcp_info", "full_info")
    }
    record |= {
        "subflow_info": figures.get("subflow_info"),
        "tcp_is_mptcp": (figures["tcp_is_mptcp"] or [None])[0],
        "selftest": [code for code, _ in figures.get("selftest", [])],
        "fallen_back": (sockets.get("fallen back") or [None])[0],
        "subflows": (figures.get("subflows") or {}).get("count"),
        "mptcp_diag": "yes" if isinstance(figures.get("mptcp_diag"), int) else None,
        **outside_of(figures.get("outside")),
        "findings": figures.get("findings"),
        "passed": figures.get("passed"),
        "skipped": figures.get("skipped"),
    }
    return record


def cell(value: Any) -> str:
    if value is None or value in ([], ""):
        return "-"
    if isinstance(value, dict):
        return str(sum(value.values()))
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def line(outcome: Outcome) -> str:
    """One line for a row that has just been done."""
    record = record_of(outcome)
    text = f"{outcome.row.arch:7} {outcome.row.series:5} {outcome.verdict:6}"
    if outcome.figures:
        parts = [
            f"{record['release'] or '-':30}",
            "sizes " + "/".join(cell(record[name]) for name in ("mptcp_info", "tcp_info", "full_info")),
            f"self test {cell(record['selftest'])}",
            f"{cell(record['passed'])} passed, {cell(record['skipped'])} skipped",
            f"{outcome.seconds:.0f} s",
        ]
        text += " " + "  ".join(parts)
    if outcome.verdict != OK:
        text += "".join(f"\n       {reason}" for reason in outcome.reasons)
    return text


def markdown(records: list[dict[str, Any]], columns: Columns) -> str:
    """A table that fits 80 columns: releases are without the flavour of the kernel. A row that has no figures
    is named with its verdict."""
    lines = ["| " + " | ".join(title for title, _ in columns) + " |", "|" + "---|" * len(columns)]
    for record in records:
        if "release" in record:
            release = record["release"] or ""
            shown = {**record, "release": release.removesuffix(ARCHES[record["arch"]].flavour)}
            lines.append("| " + " | ".join(cell(shown[key]) for _, key in columns) + " |")
        else:
            lines.append(
                f"| {record['arch']} | {record['series']}: {record['verdict']} |" + " |" * (len(columns) - 2)
            )
    return "\n".join(lines) + "\n"


def rendered(page: str, records: list[dict[str, Any]]) -> str:
    """The page with its tables made anew."""
    tables = iter(TABLES)
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if len(pattern.findall(page)) != len(TABLES):
        raise ValueError("docs/kernels.md does not have the marks around each of its tables")
    return pattern.sub(lambda match: f"{match[1]}\n{markdown(records, next(tables))}\n{match[2]}", page)


def left_out(outcomes: list[Outcome]) -> str:
    """Every test that did not run, by its reason: whole files, then skips with the rows that they are of."""
    lines = ["Not run in guests:"]
    lines += [f"    {pattern}: {reason}" for pattern, reason in LEFT_OUT.items()]
    skips: dict[tuple[str, int], list[str]] = {}
    for outcome in outcomes:
        for reason, count in outcome.figures.get("skipped", {}).items():
            skips.setdefault((reason, count), []).append(outcome.row.name)
    lines += [f"    {count} tests: {reason} ({', '.join(rows)})" for (reason, count), rows in skips.items()]
    return "\n".join(lines) + "\n"


def to_json(records: list[dict[str, Any]]) -> str:
    """One row a line."""
    rows = ",\n".join("  " + json.dumps(record) for record in records)
    return f'{{"schema": 1, "rows": [\n{rows}\n]}}\n'


def write_docs(records: list[dict[str, Any]]) -> None:
    RESULTS.write_text(to_json(records))
    PAGE.write_text(rendered(PAGE.read_text(), records))


def write_vectors(outcome: Outcome, folder: Path) -> None:
    """What tests/test_recorded.py decodes: ARCH-SERIES.json."""
    if outcome.vectors is None:
        return
    vectors = outcome.vectors
    lines = [
        f'"release": {json.dumps(outcome.figures["release"])}',
        f'"byteorder": {json.dumps(vectors["byteorder"])}',
        f'"bits": {vectors["bits"]}',
        *(f'"{name}": {json.dumps(value)}' for name, value in vectors["found"].items()),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{outcome.row.name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
