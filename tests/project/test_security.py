# SPDX-License-Identifier: MIT
"""The threat model of SECURITY.md: each line has its tests, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THREATS = (ROOT / "SECURITY.md").read_text().partition("## What others can do to you")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in THREATS.splitlines()
    if line.startswith("| ")
][1:]


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_threat_has_tests(row: list[str]) -> None:
    """That exist, by file and name; without one, the line says that nothing is prevented."""
    threat, happens, tests = row
    assert threat
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
    assert tests == ", ".join(f"`{file}::{name}`" for file, name in named)
    assert bool(named) is not ("not prevented" in happens)
    assert [name for file, name in named if name not in functions_of(file)] == []


def test_every_command_that_is_named_is_there() -> None:
    """The commands of the first sentence; and each attack that the model is about has its lines."""
    from mptcp_sockopt import cli
    from reuseport import __main__ as reuseport

    commands = {command.name for program in (cli, reuseport) for command in program.COMMANDS}
    (sentence,) = re.findall(r"Suppose that you run (.*?) as root", THREATS, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) <= commands
    assert len(ROWS) >= 20
    text = " ".join(" ".join(row) for row in ROWS)
    for word in ("escape sequences", "link", "reads the recording", "socket", "Temporary", "PATH", "/proc"):
        assert word in text
