# SPDX-License-Identifier: MIT
"""What reuseport's commands have in common: the verdict line, the version."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.cli import CANNOT, FAIL, PASS
from reuseport import _report, roll

from ..support import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("code", "word"), [(PASS, "PASS"), (FAIL, "FAIL"), (CANNOT, "NOT PROVEN")])
def test_the_verdict_line_has_one_form(code: int, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """NAME: sentence: word, as the last line and in JSON; the exit code goes with the word."""
    line = f"ROLL: lost nobody: {word}"
    options = roll.Options("roll", "all", False, False, 1, 1, 1, None, 1.0, 1.0, json=False)
    assert _report.finish(options, {}, ["first"], "lost nobody", code) == code
    assert capsys.readouterr().out == f"first\n{line}\n"
    options = options._replace(json=True)
    assert _report.finish(options, {"n": 1}, ["first"], "lost nobody", code) == code
    shown = {"schema": 1, "command": "roll", "verdict": line, "n": 1}
    assert json.loads(capsys.readouterr().out) == shown


def test_no_room_writes_a_verdict_of_its_own() -> None:
    """The words of verdicts stand in _report.py alone."""
    for path in (ROOT / "reuseport").glob("*.py"):
        if path.name != "_report.py":
            assert ": PASS" not in path.read_text(), path.name
            assert ': FAIL"' not in path.read_text(), path.name


def test_the_version_is_told() -> None:
    """That of the package, on stdout."""
    found = run(sys.executable, "-m", "reuseport", "--version", cwd=ROOT)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"reuseport of mptcp-sockopt {mp.__version__}\n"
