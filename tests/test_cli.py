# SPDX-License-Identifier: MIT
"""mptcp-sockopt and python -m mptcp_sockopt: the table of commands, versions, how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli

from .support import BUFFERINGS, Missing, run

MODULE = (sys.executable, "-m", "mptcp_sockopt")
SCRIPT = (str(Path(sys.executable).with_name("mptcp-sockopt")),)


@pytest.mark.parametrize("door", [MODULE, SCRIPT], ids=["module", "script"])
def test_both_doors_open(door: Sequence[str]) -> None:
    """The same program: the version, and a command with its words."""
    if not Path(door[0]).exists():
        raise Missing(f"the script {door[0]}: the package was not installed by an installer")
    told = run(*door, "--version")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"mptcp-sockopt {mp.__version__}\n", "")
    listed = run(*door, "selftest", "--list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert len(listed.stdout.splitlines()) >= 88


def test_a_command_gets_its_words_and_gives_its_exit_code() -> None:
    """Help of its own, and its own usage errors."""
    helped = run(*MODULE, "selftest", "--help")
    assert helped.returncode == 0
    assert "--strict" in helped.stdout
    assert run(*MODULE, "selftest", "--nonsense").returncode == 2


@pytest.mark.parametrize("words", [[], ["nonsense"], ["--nonsense"]], ids=" ".join)
def test_usage_errors(words: list[str]) -> None:
    """Exit 2, nothing on stdout, and the commands that there are on stderr."""
    found = run(*MODULE, *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("usage: mptcp-sockopt ")
    last = found.stderr.splitlines()[-1]
    assert last.startswith("mptcp-sockopt: error: ")
    assert words or last.endswith(": COMMAND")


def test_help_names_every_command_and_fits() -> None:
    """80 columns."""
    found = run(*MODULE, "--help", env={**os.environ, "COLUMNS": "80"})
    assert found.returncode == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    for name, _, purpose in cli.COMMANDS:
        assert f"  {name}  {purpose}\n" in found.stdout


def test_no_command_is_imported_before_it_is_chosen() -> None:
    """--version is quick, whatever the rooms of the commands need."""
    code = (
        "import sys; from mptcp_sockopt import cli\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({module for _, module, _ in cli.COMMANDS} & set(sys.modules)))"
    )
    found = run(sys.executable, "-c", code)
    assert found.stdout.splitlines()[-1] == "[]", found.stderr


WORDS = ["--help", "--version", "selftest --help", "selftest --version", "selftest --list"]


@pytest.mark.parametrize("env", BUFFERINGS, ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", WORDS)
def test_a_closed_pipe_is_no_traceback(words: str, env: dict[str, str]) -> None:
    """As of any other program: 128 + SIGPIPE, and nothing on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        command = [*MODULE, *words.split()]
        found = subprocess.run(
            command, stdout=closed, stderr=subprocess.PIPE, env=env, timeout=60, check=False
        )
    assert (found.returncode, found.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("env", BUFFERINGS, ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", WORDS)
def test_a_full_disk_is_told(words: str, env: dict[str, str]) -> None:
    """Exit 3 and one sentence on stderr; nothing where that is full too, but the exit code."""
    told = "Bail out! [Errno 28] No space left on device\n"
    for redirected, errors in ((">/dev/full", told), ("&>/dev/full", "")):
        found = run("bash", "-c", f'exec "$@" {redirected}', "bash", *MODULE, *words.split(), env=env)
        assert (found.returncode, found.stderr) == (3, errors)


@pytest.mark.parametrize("env", BUFFERINGS, ids=["buffered", "unbuffered"])
def test_a_usage_error_that_cannot_be_said_is_one(env: dict[str, str]) -> None:
    """Exit 2; or 3, where an older argparse (Python 3.11.2) lets out that it could not write."""
    for words in (["--nonsense"], ["selftest", "--nonsense"]):
        code = run("bash", "-c", 'exec "$@" 2>/dev/full', "bash", *MODULE, *words, env=env).returncode
        assert code in (2, 3)
