# SPDX-License-Identifier: MIT
"""mptcp-sockopt and python -m mptcp_sockopt: the table of commands, versions, how they end."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli

from ..support import BUFFERINGS, Missing, run

ROOT = Path(__file__).parents[2]
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


def test_every_room_is_a_command_with_a_test_and_a_page() -> None:
    """The table has each, and none twice; its test has its name; the README or a page shows the call; the
    changelog names it."""
    rooms = {f"mptcp_sockopt.cli.{path.stem}" for path in (ROOT / "mptcp_sockopt/cli").glob("[!_]*.py")}
    assert rooms <= {command.module for command in cli.COMMANDS}
    names = [command.name for command in cli.COMMANDS]
    assert sorted(names) == sorted(set(names))
    shown = "".join(path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for name in names:
        assert [*(ROOT / "tests").rglob(f"test_{name}.py")], f"tests/cli/test_{name}.py is missing"
        assert f"mptcp-sockopt {name}" in shown, name
        assert re.search(rf"`(mptcp-sockopt )?{name}`", changelog), f"{name} is not in CHANGELOG.md"


def test_help_names_every_command_and_fits() -> None:
    """80 columns."""
    found = run(*MODULE, "--help", env={**os.environ, "COLUMNS": "80"})
    assert found.returncode == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    for name, _, purpose in cli.COMMANDS:
        assert re.search(rf"^  {name} +{re.escape(purpose)}$", found.stdout, re.MULTILINE)


@pytest.mark.parametrize("word", ["--version", "--help", "nonsense"])
@pytest.mark.parametrize("door", ["mptcp_sockopt.cli", "reuseport.__main__"])
def test_no_command_is_imported_before_it_is_chosen(door: str, word: str) -> None:
    """--help is quick, whatever the rooms of the commands need."""
    code = (
        f"import sys; from {door} import COMMANDS, main\n"
        f"try: main(['{word}'])\n"
        "except SystemExit: pass\n"
        "print(len(COMMANDS), sorted({command.module for command in COMMANDS} & set(sys.modules)))"
    )
    found = run(sys.executable, "-c", code, cwd=ROOT)
    assert re.fullmatch(r"\d+ \[\]", found.stdout.splitlines()[-1]), found


WORDS = ["--help", "--version", "selftest --help", "selftest --version", "selftest --list"]
by_buffering = pytest.mark.parametrize("env", BUFFERINGS, ids=["buffered", "unbuffered"])


@by_buffering
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


@by_buffering
@pytest.mark.parametrize("words", WORDS)
def test_a_full_disk_is_told(words: str, env: dict[str, str]) -> None:
    """Exit 3 and one sentence on stderr, in TAP's words by the self test; nothing where that is full too, but
    the exit code."""
    begin = "Bail out!" if "selftest" in words else "mptcp-sockopt: cannot run here: standard output:"
    told = f"{begin} [Errno 28] No space left on device\n"
    for redirected, errors in ((">/dev/full", told), ("&>/dev/full", "")):
        found = run("bash", "-c", f'exec "$@" {redirected}', "bash", *MODULE, *words.split(), env=env)
        assert (found.returncode, found.stderr) == (3, errors)


@by_buffering
def test_a_usage_error_that_cannot_be_said_is_one(env: dict[str, str]) -> None:
    """Exit 2; or 3, where an older argparse (Python 3.11.2) lets out that it could not write."""
    for words in (["--nonsense"], ["selftest", "--nonsense"]):
        code = run("bash", "-c", 'exec "$@" 2>/dev/full', "bash", *MODULE, *words, env=env).returncode
        assert code in (2, 3)


# ------------------------------------------------------------------------------------------ the outcome


def test_every_end_has_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """What main() returns, and what it raises; nothing but a usage error gets past entry()."""

    def raising(problem: BaseException) -> Callable[[], int]:
        def main() -> int:
            raise problem

        return main

    assert [cli.entry(lambda code=code: code, "x") for code in (0, 1, 126)] == [0, 1, 126]  # type: ignore[misc]
    assert cli.entry(raising(KeyboardInterrupt()), "x") == 130
    assert capsys.readouterr() == ("", "")
    assert cli.entry(raising(cli.CannotRun("the program ip")), "x") == cli.CANNOT == 3
    assert capsys.readouterr() == ("", "x: cannot run here: the program ip\n")
    assert cli.entry(raising(OSError(errno.ENOENT, "no /proc")), "x") == cli.CANNOT
    assert capsys.readouterr() == ("", "x: cannot run here: [Errno 2] no /proc\n")
    assert cli.entry(raising(ValueError("a mistake")), "x") == cli.BUG == 70
    assert capsys.readouterr().err.splitlines()[-1] == "ValueError: a mistake"
    with pytest.raises(SystemExit):
        cli.entry(raising(SystemExit(2)), "x")


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (cli.port, {"1": 1, "65535": 65535}, ["0", "65536", "-1", "http", "", "1.5"]),
        (cli.positive(int), {"1": 1, "10000000": 10**7}, ["0", "-1", "x", "1.5"]),
        (cli.positive(float, 60), {"0.5": 0.5, "60": 60.0}, ["0", "-1", "nan", "inf", "60.5", ""]),
        (cli.between(int, 0, 3), {"0": 0, "3": 3}, ["-1", "4", "x"]),
        (cli.between(float, 0, 3600), {"0": 0.0, "1e3": 1000.0}, ["-0.1", "3600.1", "nan", "soon"]),
    ],
    ids=["port", "positive int", "positive float", "between int", "between float"],
)
def test_what_a_word_may_be(parse: Callable[[str], float], good: dict[str, float], bad: list[str]) -> None:
    """A number, or a sentence that repeats the word."""
    assert {text: parse(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
            parse(text)


def test_there_is_one_home_for_how_a_command_ends() -> None:
    """Of all commands that are not a seed, only _outcome.py and the self test, whose codes are the kernel's,
    catch Ctrl-C or a closed pipe at their end."""
    files = [
        path
        for folder in ("mptcp_sockopt", "reuseport", "benchmarks", "tests/kernels")
        for path in (ROOT / folder).rglob("*.py")
        if "128 + signal.SIGPIPE" in path.read_text()
    ]
    assert {path.relative_to(ROOT).as_posix() for path in files} == {
        "mptcp_sockopt/cli/_outcome.py",
        "mptcp_sockopt/selftest/_ktap.py",
    }
