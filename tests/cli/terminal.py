# SPDX-License-Identifier: MIT
"""A terminal for tests of full-screen commands: a pty, a shell that stops and continues, what is shown."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ..support import DEADLINE

_CHOSEN = ("LANG", "LC_", "TERM", "NO_COLOR", "LINES", "COLUMNS")  # by each test
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_CHOSEN)}

# Runs a command as a shell does: in the foreground of a terminal, and with a parent that continues it.
_SHELL = """
import fcntl, os, signal, sys, termios
terminal, stdin = int(sys.argv[1]), sys.argv[2]
os.setsid()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if not pid:
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    for number in (0, 1, 2):
        os.dup2(terminal, number)
    if stdin:
        os.dup2(os.open(stdin, os.O_RDONLY), 0)
    os.execv(sys.argv[3], sys.argv[3:])
signal.signal(signal.SIGHUP, signal.SIG_IGN)
print(pid, flush=True)
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    if stopped:
        os.tcsetpgrp(terminal, os.getpgrp())
    print("stopped" if stopped else os.waitstatus_to_exitcode(status), flush=True)
    if not sys.stdin.readline():  # the test is over
        os.kill(pid, signal.SIGKILL) if stopped else None
        break
    os.tcsetpgrp(terminal, pid)
    os.killpg(pid, signal.SIGCONT)
"""


class Shown:
    """What a VT100 of this size shows: the sequences that curses sends to one, and no others."""

    _PARTS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b[()].|\x1b.|[\x00-\x1f]|([^\x00-\x1f]+)", re.DOTALL)

    def __init__(self, rows: int, columns: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """An empty screen of this size."""
        self.rows, self.columns, self.row, self.column = rows, columns, 0, 0
        self.cells = [[" "] * columns for _ in range(rows)]
        self.wrapped = False
        self._saved, self._region = (0, 0), (0, rows - 1)  # the lines that scroll

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    def feed(self, data: bytes) -> None:
        text = self._rest + self._decoder.decode(data)
        # The beginning of a sequence waits for its end.
        broken = re.search(r"\x1b(\[[?\d;]*|[()])?$", text)
        self._rest = text[broken.start() :] if broken else ""
        for found in self._PARTS.finditer(text[: broken.start()] if broken else text):
            if found[3]:
                for character in found[3]:
                    self._print(character)
            elif found[2]:
                self._control(found[1], found[2])
            else:
                self._move(found[0])

    def _print(self, character: str) -> None:
        if self.column == self.columns:
            self.wrapped, self.column = True, 0
            self._down()
        self.cells[self.row][self.column] = character
        self.column += 1

    def _down(self) -> None:
        self._scroll(self._region[1], self._region[0], 1)

    def _scroll(self, at: int, other: int, by: int) -> None:
        """Move the cursor by a line; at that end of the region, move its lines instead."""
        if self.row == at:
            del self.cells[other]
            self.cells.insert(at, [" "] * self.columns)
        else:
            self.row = min(max(self.row + by, 0), self.rows - 1)

    def _move(self, character: str) -> None:
        if character == "\n":
            self._down()
        elif character == "\t":
            self.column = min(self.column // 8 * 8 + 8, self.columns - 1)
        elif character in "\r\b":
            self.column = 0 if character == "\r" else max(0, min(self.column, self.columns - 1) - 1)
        elif character == "\x1bM":
            self._scroll(*self._region, -1)
        elif character == "\x1b7":
            self._saved = self.row, self.column
        elif character == "\x1b8":
            self.row, self.column = self._saved

    def _control(self, parameters: str, letter: str) -> None:
        numbers = [int(word) if word.isdigit() else 0 for word in parameters.split(";")]
        by = max(1, numbers[0])
        if letter == "H":
            row, column = (*numbers, 0)[:2]
            self.row = min(max(row, 1), self.rows) - 1
            self.column = min(max(column, 1), self.columns) - 1
        elif letter in "ABCD":
            self.row = min(max(self.row + by * ((letter == "B") - (letter == "A")), 0), self.rows - 1)
            self.column = min(
                max(self.column + by * ((letter == "C") - (letter == "D")), 0), self.columns - 1
            )
        elif letter == "r":
            self._region = numbers[0] - 1, numbers[-1] - 1
            self.row, self.column = 0, 0
        elif letter in "JK":
            self._erase(letter, numbers[0])

    def _erase(self, letter: str, how: int) -> None:
        if how != 1:
            self.cells[self.row][self.column :] = [" "] * (self.columns - min(self.column, self.columns))
        else:
            self.cells[self.row][: self.column + 1] = [" "] * min(self.column + 1, self.columns)
        if letter == "J":
            below = range(self.row + 1, self.rows) if how != 1 else range(self.row)
            for row in below:
                self.cells[row] = [" "] * self.columns


class Terminal:
    """A command in the foreground of a terminal. ``pid`` is the command's."""

    def __init__(
        self, *command: str, rows: int, columns: int, stdin: str, environ: Mapping[str, str]
    ) -> None:
        self.master, self._slave = pty.openpty()
        self.screen = Shown(rows, columns)
        self.raw = b""
        self.seen = 0  # of raw: what came before keys were pressed
        self._has_ended = False
        self._set_size(rows, columns)
        self.before = self.modes
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _SHELL, str(self._slave), stdin, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[self._slave],
            env={**_ENVIRONMENT, "TERM": "vt100", "LANG": "C.UTF-8", **environ},
        )
        self.pid = int(self._heard())

    @property
    def modes(self) -> list[Any]:
        """What tcgetattr(3) says of it."""
        return termios.tcgetattr(self.master)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        """As a user does: the kernel sends SIGWINCH."""
        self.read()
        self.screen.resize(rows, columns)
        self._set_size(rows, columns)

    def press(self, keys: str) -> None:
        self.seen = len(self.raw)
        os.write(self.master, keys.encode())

    def read(self, seconds: float = 0) -> None:
        """Let the screen show what was written."""
        while select.select([self.master], [], [], seconds)[0]:
            data = os.read(self.master, 65536)
            self.raw += data
            self.screen.feed(data)
            seconds = 0

    def until(self, truth: Callable[[list[str]], object], what: str) -> list[str]:
        """Wait until it holds for the lines that are shown: those lines."""
        deadline = time.monotonic() + DEADLINE / 2
        while not truth(self.screen.lines):
            if time.monotonic() > deadline:
                pytest.fail("\n".join([f"waited in vain for {what}; shown is:", *self.screen.lines]))
            self.read(0.05)
        return self.screen.lines

    def shows(self, text: str) -> list[str]:
        """Wait until a line has this text: all lines."""
        return self.until(lambda lines: any(text in line for line in lines), repr(text))

    def _heard(self) -> str:
        assert self._shell.stdout is not None
        deadline = time.monotonic() + DEADLINE
        while not select.select([self._shell.stdout], [], [], 0.02)[0]:
            if self.master >= 0:
                self.read()  # or the command waits
            if time.monotonic() > deadline:
                pytest.fail("the command neither ended nor stopped")
        return self._shell.stdout.readline().strip()

    def answers(self, pattern: str) -> None:
        """Wait until it fits what came since keys were pressed."""
        self.until(lambda _: re.search(pattern, self.raw[self.seen :].decode(), re.DOTALL), pattern)

    def stopped(self) -> None:
        """Wait until the command is stopped."""
        assert self._heard() == "stopped"
        self.read()

    def fg(self) -> None:
        """Continue it in the foreground."""
        assert self._shell.stdin is not None
        self._shell.stdin.write("\n")
        self._shell.stdin.flush()

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Wait until the command has ended: its exit code, or minus the signal that ended it."""
        code = int(self._heard())
        self._has_ended = True
        if self.master >= 0:
            self.read()
        return code

    def hang_up(self) -> None:
        """The terminal is gone, and the shell lets nobody know."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        if not self._has_ended:
            with contextlib.suppress(ProcessLookupError):
                self.kill(signal.SIGKILL)
        self._shell.communicate(timeout=DEADLINE)
        if self.master >= 0:
            os.close(self.master)
        os.close(self._slave)


@contextlib.contextmanager
def terminal(
    *command: str,
    rows: int = 24,
    columns: int = 80,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """A Terminal of this size, closed after the block. TERM is vt100 and LANG is C.UTF-8 unless chosen.

    stdin is a file in the place of the terminal as standard input.
    """
    it = Terminal(*command, rows=rows, columns=columns, stdin=stdin, environ=environ or {})
    try:
        yield it
    finally:
        it.close()
