# SPDX-License-Identifier: MIT
"""What reuseport's commands have in common: the verdict line, the version."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.cli import CANNOT, FAIL, PASS
from reuseport import _report, fair, roll
from reuseport.__main__ import main

from ..support import BUFFERINGS, run, where_refused

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("code", "word"), [(PASS, "PASS"), (FAIL, "FAIL"), (CANNOT, "NOT PROVEN")])
def test_the_verdict_line_has_one_form(code: int, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """NAME: word: sentence, as the last line and in JSON; the exit code goes with the word."""
    line = f"ROLL: {word}: lost nobody"
    options = roll.Options("roll", "all", False, socket.AF_INET, 1, 1, 1, None, 1.0, 1.0, json=False)
    assert _report.finish(options, {}, ["first"], "lost nobody", code) == code
    assert capsys.readouterr().out == f"first\n{line}\n"
    options = options._replace(json=True)
    assert _report.finish(options, {"n": 1}, ["first"], "lost nobody", code) == code
    shown = {"schema": 1, "command": "roll", "verdict": line, "n": 1}
    assert json.loads(capsys.readouterr().out) == shown


def test_no_room_writes_a_verdict_of_its_own() -> None:
    """The words of verdicts stand in _report.py alone."""
    for path in (ROOT / "reuseport").rglob("*.py"):
        if path.name != "_report.py":
            assert not re.search("(PASS|FAIL|PROVEN): ", path.read_text()), path.name


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_do_not_reach_the_terminal_as_they_are(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, an interface or a server's last words may have escape sequences, and bytes that are no text."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", out)
    _report.show("caf\xe9\t\x1b]0;title\x07\r\x9b31m \udcff \u20ac\nlast")
    letters = {"ascii": "??", "latin-1": "\xe9?", "utf-8": "\xe9\u20ac"}[encoding]
    escapes = r"\t\x1b]0;title\x07\r\x9b31m \udcff "
    assert out.buffer.getvalue().decode(encoding) == f"caf{letters[0]}{escapes}{letters[1]}\nlast\n"


def reuseport(*words: str, shell: str = "") -> tuple[int, str, str]:
    """Exit status, stdout, stderr of a command; shell is put before it, as a limit, or after, as `>&-`."""
    before, after = (f"{shell}; ", "") if shell.startswith("ulimit") else ("", shell)
    done = run("bash", "-c", f'{before}exec "$0" "$@" {after}', sys.executable, "-m", "reuseport", *words)
    return done.returncode, done.stdout, done.stderr


FAIR = ("fair", "--workers", "2", "--conns", "10")


@pytest.mark.parametrize(
    ("closed", "words", "code"),
    [
        (">&-", FAIR, 3),
        (">&-", ("lesson", "client"), 3),
        ("2>&-", ("client", "--count", "1"), 3),
        ("<&- >&- 2>&-", FAIR, 3),
        (">&-", ("client", "--count", "0"), 0),
        ("2>&-", FAIR, 0),
        ("<&-", FAIR, 0),
        ("<&- 2>&-", ("roll", "--strategy", "inherit", "--conns", "20", "--restarts", "2"), 0),
    ],
)
def test_a_closed_stream_matters_where_the_answer_goes(
    closed: str, words: tuple[str, ...], code: int
) -> None:
    """Exit 3, and one sentence on the stream that is left. Without another there is nothing to say."""
    ended, out, err = reuseport(*words, shell=closed)
    assert (ended, "Traceback" in out + err) == (code, False)
    if code and "<&-" not in closed:
        assert (out + err).endswith("is closed, so the result cannot be written\n")
        assert (out + err).count("\n") == 1
    if ended == 0 and words[0] != "client":
        assert ": PASS: " in out.splitlines()[-1]


def test_the_exit_code_tells_where_nothing_can_be_said() -> None:
    """Standard error is full."""
    assert reuseport("audit", "--", "/no/such/program", shell="2>/dev/full") == (3, "", "")


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (7, FAIR),
        (40, ("fair", "--workers", "60", "--conns", "300")),
        (40, ("fair", "--workers", "2", "--conns", "10", "--stall")),
        (24, ("roll", "--strategy", "inherit")),
        (100, ("roll", "--strategy", "inherit", "--in-flight", "150")),
        (40, ("audit", "--", sys.executable, "-m", "http.server", "8000")),
        (8, ("lesson", "all")),
    ],
)
def test_a_want_of_descriptors_is_told(limit: int, words: tuple[str, ...]) -> None:
    """Exit 3 and one sentence, which names the limit."""
    code, out, err = reuseport(*words, shell=f"ulimit -n {limit}")
    assert (code, err.count("\n")) == (3, 1), err
    assert err.startswith("reuseport: cannot run here: ")
    assert err.endswith(f": `ulimit -n` is {limit}, and more are needed\n")
    assert "PASS" not in out


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (socket.AF_INET6, ("fair", "-6")),
        (socket.AF_INET6, ("roll", "-6", "--strategy", "inherit")),
        (socket.AF_INET6, ("lesson", "server", "-6")),
        (socket.AF_INET6, ("lesson", "client", "-6")),
        (socket.AF_INET6, ("serve", "--nofork", "-6")),
        (socket.AF_INET6, ("client", "-6")),
        (socket.AF_NETLINK, ("audit", "--", sys.executable, "-m", "http.server", "8000")),
        (socket.AF_NETLINK, ("roll", "--strategy", "newest", "--conns", "20", "--restarts", "2")),
        (socket.AF_NETLINK, ("who", "1")),
    ],
)
def test_a_family_that_is_refused_is_told(refused: int, words: tuple[str, ...]) -> None:
    """Exit 3 and one sentence: as under RestrictAddressFamilies= of systemd. Nothing is a verdict."""
    refusal = ("socket", {0: refused}, errno.EAFNOSUPPORT)
    code, out, err = where_refused([refusal], lambda: reuseport(*words))
    assert code == 3, err
    told = [line for line in err.splitlines() if not line.startswith("[")]
    assert len(told) == 1
    assert told[0].startswith("reuseport: cannot run here: ")
    name = socket.AddressFamily(refused).name
    assert f"socket({name}): {os.strerror(errno.EAFNOSUPPORT)}" in told[0]
    assert "PASS" not in out


def test_a_fault_of_its_own_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 70, with the traceback; what the system refuses is 3, in one line, also without words."""
    errors: list[BaseException] = [
        KeyError("a fault"),
        FileNotFoundError(errno.ENOENT, "no /proc"),
        MemoryError(),
    ]
    ends: list[tuple[int, str]] = []

    def fail(options: fair.Options) -> int:
        raise errors[len(ends)]

    monkeypatch.setattr(fair, "run", fail)
    for _ in errors:
        ends.append((main(["fair"]), capsys.readouterr().err))
    (bug, trace), *others = ends
    assert (bug, trace.splitlines()[-1]) == (70, "KeyError: 'a fault'")
    assert trace.startswith("Traceback")
    assert others == [
        (3, "reuseport: cannot run here: [Errno 2] no /proc\n"),
        (3, "reuseport: cannot run here: MemoryError\n"),
    ]


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
    """Exit 2; or 3, where an older argparse (Python 3.11.2) lets out that it could not write."""
    command = (sys.executable, "-m", "reuseport", "--nonsense")
    code = run("bash", "-c", 'exec "$@" 2>/dev/full', "bash", *command, env=env, cwd=ROOT).returncode
    assert code in (2, 3)
