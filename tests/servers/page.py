# SPDX-License-Identifier: MIT
"""docs/servers.md, made from docs/servers.json and the set-ups."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reuseport._statistics import Restarts, percent

from .setups import FILES, SETUPS, SetUp

DOCS = Path(__file__).parents[2] / "docs"
JSON, PAGE = DOCS / "servers.json", DOCS / "servers.md"
COLUMNS = {"plain": "plain", "late": "late", "keepalive": "keep-alive", "slow": "slow"}
VERDICTS = {0: "PASS", 1: "FAIL", 3: "NOT PROVEN"}
HEAD = Path(__file__).with_name("head.md")  # what stands before the table


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(JSON.read_text())
    return found


def write(found: dict[str, Any]) -> None:
    """Both files. A row is a line of the JSON."""
    rows = (f"  {json.dumps(name)}: {json.dumps(found['rows'][name])}" for name in _in_order(found))
    head = ",\n".join(f' "{key}": {json.dumps(found[key])}' for key in ("schema", "measured"))
    JSON.write_text("{\n" + head + ',\n "rows": {\n' + ",\n".join(rows) + "\n }\n}\n")
    PAGE.write_text(page(found))


def _in_order(found: dict[str, Any]) -> list[str]:
    return [setup.name for setup in SETUPS if setup.name in found["rows"]]


def digest(setup: SetUp) -> str:
    """Of the files that a row was measured with."""
    data = b"\0".join((FILES / name).read_bytes() for name in setup.files)
    return hashlib.sha256(data).hexdigest()[:16]


def page(found: dict[str, Any]) -> str:
    rows = [(setup, found["rows"][setup.name]) for setup in SETUPS if setup.name in found["rows"]]
    head = HEAD.read_text().format(**found["measured"])
    return head + "\n".join([*_table(rows), "", *_sections(rows), *_files()])


def _table(rows: Iterable[tuple[SetUp, dict[str, Any]]]) -> Iterable[str]:
    yield f"| server | version | {' | '.join(COLUMNS.values())} | verdict |"
    yield "|---" * (len(COLUMNS) + 3) + "|"
    for setup, row in rows:
        yield f"| {' | '.join([setup.title, row.get('version', ''), *_cells(row), verdict(row)])} |"


def _cells(row: dict[str, Any]) -> list[str]:
    clients = row.get("clients", {})
    return [_cell(clients[client]["restarts"]) if client in clients else "" for client in COLUMNS]


def _cell(restarts: dict[str, Any]) -> str:
    found = Restarts(restarts["asked"], tuple(restarts["losses"]))
    if not found.judged:
        return "none judged"
    if not found.losing:
        return f"0 of {found.judged} (at most {percent(found.at_most)} %)"
    low, high = found.interval
    return f"**{found.losing} of {found.judged}** ({percent(low)}-{percent(high)} %)"


def verdict(row: dict[str, Any]) -> str:
    return "not had" if "missing" in row else VERDICTS[row["exit"]]


def _sections(rows: Iterable[tuple[SetUp, dict[str, Any]]]) -> Iterable[str]:
    for setup, row in rows:
        yield from (f"## {setup.title}", "")
        if "missing" in row:
            yield from (f"Not measured: {row['missing']}.", "")
            continue
        yield from ("```sh", row["command"], "```", "", "```", *row["said"], "```", "")
        if row["exit"] != 3:
            yield from (_wrapped(_counts(row)), "")
        yield from (_wrapped(f"{setup.why} ({setup.known})"), "")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _counts(row: dict[str, Any]) -> str:
    clients = {title: row["clients"].get(client) for client, title in COLUMNS.items()}
    parts = [f"{title} {_lost(client)}" for title, client in clients.items() if client]
    took = f" A restart took {row['seconds']:.2g} s (median)." if row["seconds"] else ""
    return f"Requests lost: {'; '.join(parts)}.{took}"


def _lost(client: dict[str, Any]) -> str:
    words = [f"{count:,} {kind}" for kind, count in client["kinds"].items()]
    if client["idle_ended"]:
        words.append(f"{client['idle_ended']:,} connections ended in order while idle")
    if client["retried"]:
        words.append(f"{client['retried']:,} cut before an answer, and served when asked again")
    beside = f" ({', '.join(words)})" if words else ""
    return f"{client['lost']:,} of {client['conns']:,}{beside}"


def _files() -> Iterable[str]:
    yield from ("## The files", "")
    yield "Each command runs in a folder with these, and with `index.html` (`ok`) and `slow` (64 kB)."
    yield ""
    for name in dict.fromkeys(name for setup in SETUPS for name in setup.files):
        text = (FILES / name).read_text().removeprefix("# SPDX-License-Identifier: MIT\n").rstrip()
        yield from (f"`{name}`:", "", "```", text, "```", "")
