# SPDX-License-Identifier: MIT
"""mptcp-sockopt run on a terminal: an interactive session is the same with it and without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from .running import PYTHON, RUN, needs_run
from .terminal import terminal

STOPPED, FOREGROUND = "(stopped)", "(fg)"  # in the place of a pattern, and of keys
PROMPT = r"\$ \Z"


class Session(NamedTuple):
    """A command, and what is typed when the terminal got something after it was typed at last."""

    command: tuple[str, ...]
    steps: tuple[tuple[str, str], ...]
    code: int
    once: str
    """What the transcript has once."""


# What is typed is shown too: so that it is not taken for its output, it has a text in two parts.
SESSIONS = {
    "bash": Session(
        ("bash", "--norc", "-i"),
        (
            (PROMPT, "sh -c 'echo fir''st; read line; echo $line, sec''ond'\r"),
            ("first", "\x1a"),
            (f"Stopped.*{PROMPT}", "jobs; echo thi''rd; fg\r"),
            ("third.*read line", "word\r"),
            (f"word, second.*{PROMPT}", "sh -c 'echo fou''rth; exec sleep 600'\r"),
            ("fourth", "\x03"),
            (PROMPT, "echo rc=$?\r"),
            (f"rc=130.*{PROMPT}", "sleep 600 & kill %1; wait %1; echo rc=$?\r"),
            (f"rc=143.*{PROMPT}", "suspend\r"),
            (STOPPED, FOREGROUND),
            (PROMPT, "echo fif''th\r"),
            (f"fifth.*{PROMPT}", "exit 5\r"),
        ),
        5,
        "rc=143",
    ),
    "python": Session(
        # Without marks below the traceback's line: the ^C may come before print() returned.
        (PYTHON, "-q", "-i", "-X", "no_debug_ranges"),
        (
            (r">>> \Z", "import time; print('be' + 'gun'); time.sleep(600)\r"),
            (r"begun\r\n", "\x03"),
            (r"KeyboardInterrupt.*>>> \Z", "print(6 * 7)\r"),
            (r"42.*>>> \Z", "\x04"),
        ),
        0,
        "KeyboardInterrupt",
    ),
    "less": Session(("less", "TEXT"), (("line 1", " "), ("line 30", "q")), 0, "line 30"),
    "password": Session(
        (PYTHON, "-c", "import getpass; print('got', getpass.getpass())"),
        (("Password: ", "secret\r"),),
        0,
        "secret",
    ),
}


def typed(session: Session, command: list[str]) -> str:
    """What the terminal got to show. PIDs are left out; so is ^C, which is echoed after its signal is sent: a
    program may answer before."""
    environ = {"PS1": "$ ", "PYTHON_BASIC_REPL": "1", "HISTFILE": "", "LESSHISTFILE": "-"}
    with terminal(*command, environ=environ) as term:
        for pattern, keys in session.steps:
            if pattern == STOPPED:
                term.stopped()
            else:
                term.answers(pattern)
            term.fg() if keys == FOREGROUND else term.press(keys)
        assert term.ended() == session.code
        return re.sub(r"\[1\] \d+", "[1] PID", term.raw.decode().replace("^C", ""))


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_is_the_same(mptcp: None, name: str, tmp_path: Path) -> None:
    """Job control, a shell that suspends itself, one ^C, a pager, a password from /dev/tty."""
    needs_run()
    session = SESSIONS[name]
    program = shutil.which(session.command[0])
    if program is None:
        pytest.skip(f"no {session.command[0]} here")
    text = tmp_path / "text"
    text.write_text("".join(f"line {number}\n" for number in range(1, 200)))
    command = [program, *(str(text) if word == "TEXT" else word for word in session.command[1:])]
    bare, run = typed(session, command), typed(session, [*RUN, "--", *command])
    assert run == bare
    assert run.count(session.once) == 1
