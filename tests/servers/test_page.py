# SPDX-License-Identifier: MIT
"""docs/servers.md is what docs/servers.json makes, and both are of these set-ups."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from . import measured, page
from .setups import FILES, SETUPS, TODO, SetUp

FOUND = page.load()
ROWS: dict[str, dict[str, Any]] = FOUND["rows"]


def test_the_page_is_made_from_the_figures() -> None:
    """Nobody writes into it by hand; `python -m tests.servers --page` makes it again."""
    assert page.PAGE.read_text() == page.page(FOUND)


def test_every_set_up_has_its_row() -> None:
    """With the reason, if there are no figures; and the sentence that explains what was seen is written."""
    assert list(ROWS) == [setup.name for setup in SETUPS]
    assert len(set(ROWS)) == len(SETUPS)
    assert [name for name, row in ROWS.items() if "missing" in row and not row["missing"].strip()] == []
    assert [setup.name for setup in SETUPS if TODO in setup.why] == []
    assert [s.name for s in SETUPS if not re.fullmatch(r"[A-Z].*[^.]\.", s.why) or not s.known] == []


@pytest.mark.parametrize("setup", SETUPS, ids=[setup.name for setup in SETUPS])
def test_a_row_was_measured_as_it_is_shown(setup: SetUp) -> None:
    """With this command and these files, all of which the page has."""
    row, text = ROWS[setup.name], page.PAGE.read_text()
    if "missing" in row:
        assert f"Not measured: {row['missing']}" in text
        return
    assert row["command"] == measured.command(setup, row["audit"])
    assert row["files"] == page.digest(setup)
    assert f"```sh\n{row['command']}\n```" in text
    assert shlex.split(row["command"])
    for name in setup.files:
        assert (FILES / name).read_text().rstrip().splitlines()[-1] in text


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "missing" not in row])
def test_a_verdict_follows_from_the_losses(name: str) -> None:
    """PASS: nothing lost at five restarts or more. FAIL: something was, or the server ended. Else 3."""
    row = ROWS[name]
    lost = sum(client["lost"] for client in row["clients"].values())
    refused = row["exit"] == 3 and row["said"][-1].startswith("reuseport: cannot run here: ")
    assert refused or row["said"][0].startswith(f"AUDIT: {page.verdict(row)}: ")
    if row["exit"] == 0:
        assert lost == 0
        assert min(client["restarts"]["judged"] for client in row["clients"].values()) >= 5
    elif row["exit"] == 1:
        assert lost
    for client in row["clients"].values():
        restarts = client["restarts"]
        assert restarts["judged"] == len(restarts["losses"]) <= restarts["asked"]
        assert restarts["losing"] == sum(map(bool, restarts["losses"]))


def test_a_cell_has_the_restarts_and_their_bound() -> None:
    """Rule of three for none; both ends else."""
    none = {"asked": 60, "losses": [0] * 60}
    some = {"asked": 60, "losses": [3] * 7 + [0] * 53}
    row = {"clients": {"plain": {"restarts": none}, "slow": {"restarts": some}}}
    assert page._cells(row) == ["0 of 60 (at most 4.9 %)", "", "", "**7 of 60** (4.8-23 %)"]


def test_what_cannot_be_had_is_a_row_with_the_reason() -> None:
    """In the table and in its section."""
    found = {**FOUND, "rows": {**ROWS, "nginx": {"missing": "nobody has it"}}}
    text = page.page(found)
    assert "| nginx |  |  |  |  |  | not had |\n" in text
    assert "## nginx\n\nNot measured: nobody has it.\n" in text
