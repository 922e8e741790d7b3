# SPDX-License-Identifier: MIT
"""_screen: a terminal that is drawn on, read from, and put back, whatever ends the program."""

from __future__ import annotations

import functools
import re
import signal
import sys
import termios

import pytest

from .terminal import Terminal, terminal

# Draws the size, and the keys that came; "x" is an error, and "q" the end.
PROGRAM = """
import sys
from mptcp_sockopt.cli import entry
from mptcp_sockopt.cli._screen import Screen

def main():
    with Screen() as screen:
        keys = []
        while "q" not in keys:
            rows, columns = screen.size
            text = f"{rows}x{columns} unicode {screen.unicode} keys {' '.join(keys)}"
            lines = [(text[:columns].ljust(columns, "."), "title"), *[("", "")] * (rows - 2)]
            screen.draw([*lines, ("x" * columns, "trouble")])
            keys += screen.wait(None)
            1 / ("x" not in keys)
    return 0

sys.exit(entry(main, "program"))
"""
COMMAND = (sys.executable, "-c", PROGRAM)
SEQUENCE = re.compile(rb"\x1b\[[?\d;]*[A-Za-z]|\x1b[()]?.|[\x0e\x0f]")


def is_raw(it: Terminal) -> bool:
    """Neither echo nor whole lines."""
    return not it.modes[3] & (termios.ECHO | termios.ICANON)


def is_last(text: str, lines: list[str]) -> bool:
    return lines[-1] == text


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (50, 160), (5, 20)])
def test_every_cell_of_the_screen_is_drawn_on(rows: int, columns: int) -> None:
    """The last column of the last line too; nothing wraps, and nothing scrolls."""
    with terminal(*COMMAND, rows=rows, columns=columns) as it:
        first, *empty, last = it.shows("x" * columns)
        assert first == f"{rows}x{columns} unicode True keys "[:columns].ljust(columns, ".")
        assert (empty, last) == ([""] * (rows - 2), "x" * columns)
        assert not it.screen.wrapped, (rows, columns, it.raw[-400:])
        it.press("q")
        assert it.ended() == 0
        assert it.modes == it.before


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
        (signal.SIGQUIT, -signal.SIGQUIT),
    ],
)
def test_a_signal_that_ends_it_puts_the_terminal_back(number: int, code: int) -> None:
    """The modes are those before; the process ends as that signal ends others, without a word."""
    with terminal(*COMMAND) as it:
        it.shows("keys")
        assert is_raw(it)
        it.press({signal.SIGINT: "\x03", signal.SIGQUIT: "\x1c"}.get(signal.Signals(number), ""))
        if number in (signal.SIGTERM, signal.SIGHUP):
            it.kill(number)
        assert it.ended() == code
        assert it.modes == it.before
        assert "Traceback" not in it.raw.decode()


def test_a_traceback_is_printed_on_a_terminal_that_was_put_back() -> None:
    """Below what the shell had shown, and whole."""
    with terminal(*COMMAND) as it:
        it.shows("keys")
        it.press("x")
        assert it.ended() == 70
        assert it.modes == it.before
        assert "ZeroDivisionError: division by zero\r\n" in it.raw.decode()


def test_an_error_at_the_beginning_puts_the_terminal_back() -> None:
    """When curses has it already."""
    broken = PROGRAM.replace("def main", "import curses; curses.use_default_colors = None\ndef main")
    with terminal(sys.executable, "-c", broken, environ={"TERM": "xterm"}) as it:
        assert it.ended() == 70
        assert it.modes == it.before
        assert b"TypeError" in it.raw.rpartition(b"\x1b[?1049l")[2]


def test_it_stops_and_is_continued() -> None:
    """^Z gives the terminal back to the shell as it was; fg draws everything again, at the size of then."""
    with terminal(*COMMAND) as it:
        for rows in (10, 24):
            it.shows("keys")
            it.press("\x1a")
            it.stopped()
            assert it.modes == it.before
            it.resize(rows, 40)
            it.fg()
            it.shows(f"{rows}x40 ")
            assert is_raw(it)
        it.press("q")
        assert it.ended() == 0
        assert it.modes == it.before


def test_it_is_continued_after_a_stop_that_it_could_not_see() -> None:
    """SIGSTOP; the shell then sets its own modes."""
    with terminal(*COMMAND) as it:
        it.shows("keys")
        it.kill(signal.SIGSTOP)
        it.stopped()
        termios.tcsetattr(it.master, termios.TCSANOW, it.before)
        it.screen.resize(24, 80)
        it.fg()
        it.shows("24x80 ")
        assert is_raw(it)
        it.press("q")
        assert it.ended() == 0


def test_it_follows_the_size_of_the_terminal() -> None:
    """Down to 20x5 and back; nothing wraps."""
    with terminal(*COMMAND) as it:
        it.shows("x" * 80)
        for rows, columns in ((5, 20), (50, 160), (2, 1), (24, 80)):
            it.resize(rows, columns)
            it.until(functools.partial(is_last, "x" * columns), f"{rows} lines")
            assert not it.screen.wrapped, (rows, columns, it.raw[-400:])


def test_keys_have_the_names_of_curses() -> None:
    """Arrows, Enter, Esc, Backspace, letters; several at once, and one that comes in pieces."""
    with terminal(*COMMAND) as it:
        it.shows("keys")
        it.press("s\x1bOA\x1bOB \r\x7f")
        it.shows("keys s KEY_UP KEY_DOWN   ^J ")
        it.press("\x1b")
        it.shows("^[")


def test_only_what_changed_is_written() -> None:
    """So that nothing flickers: a key costs a few bytes, not a screen."""
    with terminal(*COMMAND) as it:
        it.shows("x" * 80)
        before = len(it.raw)
        it.press("a")
        it.shows("keys a")
        assert len(it.raw) - before < 60


def test_control_l_draws_everything_anew() -> None:
    """What another program wrote over the screen is gone."""
    with terminal(*COMMAND) as it:
        it.shows("x" * 80)
        it.screen.feed(b"\x1b[5;1Hoverwritten")
        it.press("\x0c")
        it.until(lambda lines: "keys ^L" in lines[0] and not any(lines[1:-1]), "a clean screen")


@pytest.mark.parametrize(
    ("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)], ids=str
)
def test_colours(environ: dict[str, str], coloured: bool) -> None:
    """Where the terminal has some, unless NO_COLOR has a value; troubles are bold either way."""
    with terminal(*COMMAND, environ={"TERM": "xterm", **environ}) as it:
        it.shows("x" * 80)
        chosen = re.findall(rb"\x1b\[([\d;]*)m", it.raw)
        assert any(b"31" in numbers.split(b";") for numbers in chosen) == coloured
        assert any(b"1" in numbers.split(b";") for numbers in chosen)


@pytest.mark.parametrize("name", ["", "dumb", "nonsense"])
def test_a_terminal_that_it_cannot_draw_on(name: str) -> None:
    """A sentence, and exit code 3; nothing else was written, and no mode changed."""
    with terminal(*COMMAND, environ={"TERM": name}) as it:
        assert it.ended() == 3
        text = it.raw.decode()
        assert text.startswith(f"program: cannot run here: TERM is {name!r}, ")
        assert not SEQUENCE.search(it.raw)
        assert it.modes == it.before


def test_standard_input_is_no_terminal() -> None:
    """The keys come from the terminal that is drawn on."""
    with terminal(*COMMAND, stdin="/dev/null") as it:
        it.shows("keys")
        it.press("q")
        assert it.ended() == 0


@pytest.mark.parametrize(
    ("environ", "unicode"),
    [
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, True),
        ({"LANG": "xx_XX.UTF-8", "LC_ALL": "xx_XX.UTF-8"}, False),
        ({"LANG": ""}, False),
    ],
    ids=str,
)
def test_whether_it_shows_more_than_ascii(environ: dict[str, str], unicode: bool) -> None:
    """As the user's locale says, not what Python makes of the locale C. One that is not installed is C."""
    with terminal(*COMMAND, environ=environ) as it:
        it.shows(f"unicode {unicode}")


def test_environment_with_another_size() -> None:
    """LINES and COLUMNS that a shell exported are not believed."""
    with terminal(*COMMAND, environ={"LINES": "30", "COLUMNS": "200"}) as it:
        it.shows("24x80 ")


def test_the_terminal_goes_away() -> None:
    """The program ends as by SIGHUP, which not every shell sends: it does not spin."""
    with terminal(*COMMAND) as it:
        it.shows("keys")
        it.hang_up()
        assert it.ended() == -signal.SIGHUP
