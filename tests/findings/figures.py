# SPDX-License-Identifier: MIT
"""How often each fault shows: measured here, with bounds, and on which kernels of tests/kernels."""

from __future__ import annotations

import json
import math
import platform
import re
from pathlib import Path
from typing import Any

from .programs import CANNOT, FINDINGS, FOLDER, RACES, SHOWN, run

FILE = FOLDER / "findings.json"
#: What a race printed: how often it was tried, the word for it, and how often it was lost.
_RACED = re.compile(r"(\d+) (restarts|connections),.* (\d+) (?:of them with a lost SYN|without the reply)")


def interval(shown: int, of: int) -> tuple[float, float]:
    """The bounds of a rate, by Clopper and Pearson: 95 % sure."""
    low = 0.0 if shown == 0 else _where(lambda rate: 1 - _at_most(shown - 1, of, rate) < 0.025)
    high = 1.0 if shown == of else _where(lambda rate: _at_most(shown, of, rate) > 0.025)
    return low, high


def _at_most(shown: int, of: int, rate: float) -> float:
    """The chance of seeing at most so many."""
    logs = [
        math.lgamma(of + 1) - math.lgamma(n + 1) - math.lgamma(of - n + 1) + n * math.log(rate)
        + (of - n) * math.log1p(-rate)
        for n in range(shown + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(one) for one in logs)


def _where(below: Any) -> float:
    """Where a condition on a rate, which holds for small ones, ends to hold."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return low


def measure(name: str, rounds: int = 20) -> dict[str, Any]:
    """How often it shows here. Of a race, one long run counts; of the others, each run is one."""
    first = run(name, *FINDINGS[name], within=3600)
    printed = first.text.splitlines()
    if name in RACES:
        found = _RACED.search(printed[-1])
        if found is None:
            raise RuntimeError(f"{name} ended with {first.status}: {first.text}")
        return {"shown": int(found[3]), "of": int(found[1]), "unit": found[2], "printed": printed}
    runs = [first, *(run(name, *FINDINGS[name]) for _ in range(rounds - 1))]
    unable = [seen.text for seen in runs if seen.status == CANNOT]
    if unable:
        raise RuntimeError(f"{name}: {unable[0]}")
    return {
        "shown": sum(seen.status == SHOWN for seen in runs),
        "of": rounds,
        "unit": "runs",
        "printed": printed,
    }


def load() -> dict[str, Any]:
    """Parts "kernel", "findings" and "kernels"."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def text_of(figures: dict[str, Any]) -> str:
    """As the file has it: an entry a line."""
    parts = [f'"schema": 1,\n"kernel": {json.dumps(figures["kernel"])}']
    for part in ("findings", "kernels"):
        rows = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in figures[part].items()]
        parts.append(f'"{part}": {{\n' + ",\n".join(rows) + "\n}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def remeasured(figures: dict[str, Any], names: list[str], rounds: int) -> dict[str, Any]:
    """The figures with some of them measured again."""
    series = ".".join(platform.release().split(".")[:2])
    if figures["kernel"] != series and len(names) < len(FINDINGS):
        raise ValueError(f"the other figures are of Linux {figures['kernel']}, and this is {series}")
    found = {**figures["findings"], **{name: measure(name, rounds) for name in names}}
    return {**figures, "kernel": series, "findings": {name: found[name] for name in FINDINGS}}


def with_kernels(figures: dict[str, Any], results: Path) -> dict[str, Any]:
    """The figures with the rows that a run of tests.kernels wrote with --json."""
    rows = {f"{row['arch']}-{row['series']}": row for row in json.loads(results.read_text())["rows"]}
    new = {
        name: {"release": row["release"], "not shown": row["findings"]}
        for name, row in rows.items()
        if row.get("findings") is not None
    }
    return {**figures, "kernels": dict(sorted({**figures["kernels"], **new}.items(), key=_by_release))}


def _by_release(row: tuple[str, Any]) -> tuple[str, list[int]]:
    arch, series = row[0].split("-")
    return arch, [int(number) for number in series.split(".")]
