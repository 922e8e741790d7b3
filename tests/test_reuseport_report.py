# SPDX-License-Identifier: MIT
"""What reuseport's commands have in common: the verdict line, the version."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from reuseport import _report

from .support import BUFFERINGS, run

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("code", "word"), [(_report.PASS, "PASS"), (_report.FAIL, "FAIL"), (_report.CANNOT, "NOT PROVEN")]
)
def test_the_verdict_line_has_one_form(code: int, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """NAME: sentence: word, as the last line and in JSON; the exit code goes with the word."""
    line = f"ROLL: lost nobody: {word}"
    options = argparse.Namespace(command="roll", json=False)
    assert _report.finish(options, {}, ["first"], "lost nobody", code) == code
    assert capsys.readouterr().out == f"first\n{line}\n"
    options.json = True
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


WORDS = ["--help", "--version", "matrix --help", "matrix"]
by_buffering = pytest.mark.parametrize("env", BUFFERINGS, ids=["buffered", "unbuffered"])


@by_buffering
@pytest.mark.parametrize("words", WORDS)
def test_a_closed_pipe_is_no_traceback(words: str, env: dict[str, str]) -> None:
    """128 + SIGPIPE, and nothing on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        command = [sys.executable, "-m", "reuseport", *words.split()]
        found = subprocess.run(
            command, stdout=closed, stderr=subprocess.PIPE, env=env, timeout=60, check=False, cwd=ROOT
        )
    assert (found.returncode, found.stderr) == (128 + signal.SIGPIPE, b"")


@by_buffering
@pytest.mark.parametrize("words", WORDS)
def test_a_full_disk_is_told(words: str, env: dict[str, str]) -> None:
    """Exit 3 and one sentence on stderr; nothing where that is full too, but the exit code."""
    command = (sys.executable, "-m", "reuseport", *words.split())
    for redirected, lines in ((">/dev/full", 1), ("&>/dev/full", 0)):
        found = run("bash", "-c", f'exec "$@" {redirected}', "bash", *command, env=env, cwd=ROOT)
        assert (found.returncode, len(found.stderr.splitlines())) == (3, lines), found.stderr
        assert ("[Errno 28] No space left on device" in found.stderr) is bool(lines)


@by_buffering
def test_a_usage_error_that_cannot_be_said_is_one(env: dict[str, str]) -> None:
    """Exit 2."""
    command = (sys.executable, "-m", "reuseport", "--nonsense")
    assert run("bash", "-c", 'exec "$@" 2>/dev/full', "bash", *command, env=env, cwd=ROOT).returncode == 2
