# SPDX-License-Identifier: MIT
"""The terminal: lines of styled text by curses, keys and signals; put back as it was, however it ends."""

from __future__ import annotations

import contextlib
import curses
import locale
import math
import os
import select
import signal
from collections.abc import Iterable
from types import FrameType, TracebackType

from ._outcome import CannotRun

REDRAW = "redraw"  # stands among the keys: the terminal has another size, or lost what was drawn
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_NOTED = (*_ENDS, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
_STANDARD_INPUT, _STANDARD_OUTPUT = 0, 1
_LONGEST = 86_400.0  # seconds; poll(2) takes no more than 24 days


class _EndedBySignal(SystemExit):
    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class Screen:
    """``with Screen() as screen``: the terminal of standard output, full screen.

    Signals that end or stop a program are noted, and wait() acts on them: the terminal is never left in the
    middle of drawing. One that ends it is raised again when the terminal is as it was before, so that the
    caller's shell sees it. CannotRun for a terminal that curses cannot draw on. ``unicode`` is whether it
    shows more than ASCII.

    Thread rule: for the main thread, which gets the signals.
    """

    def __init__(self) -> None:
        self._before: dict[int, object] = {}

    def __enter__(self) -> Screen:
        _check_terminal()
        self._note_signals()
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if isinstance(error, _EndedBySignal):
            signal.raise_signal(error.number)  # has its old handler again: ends this process, as a rule

    # ------------------------------------------------------------------------------------- begin and end

    def _note_signals(self) -> None:
        self._woken, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        for number in _NOTED:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # as under nohup
                self._before[number] = before
                signal.signal(number, _noted)

    def _begin(self) -> None:
        if not os.isatty(_STANDARD_INPUT):
            os.dup2(_STANDARD_OUTPUT, _STANDARD_INPUT)  # keys come from where the lines go
        curses.set_escdelay(50)  # ms until Esc is a key, not the beginning of one
        self._window = curses.initscr()
        curses.noecho()
        curses.cbreak()
        self._window.keypad(True)
        self._window.nodelay(True)
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        self._styles = _styles()
        self.unicode = _draws_unicode()
        self._fit()

    def _end(self) -> None:
        with contextlib.suppress(curses.error):  # initscr() was not reached
            curses.endwin()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what getsignal() gave
        os.close(self._woken)
        os.close(self._waking)

    # ---------------------------------------------------------------------------------------------- draw

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._window.getmaxyx()

    def draw(self, lines: Iterable[tuple[str, str]]) -> None:
        """Show these lines, each a text and its style, from the top. What is beyond the screen is cut off."""
        self._window.erase()
        rows, columns = self.size
        for row, (text, style) in zip(range(rows), lines, strict=False):
            # curses draws the last cell of the last row, and then finds no place for the cursor.
            with contextlib.suppress(curses.error):
                self._window.addnstr(row, 0, text, columns, self._styles.get(style, curses.A_NORMAL))
        self._window.refresh()

    def _fit(self) -> None:
        """Take the size that the terminal has now; LINES and COLUMNS of the environment may be of another."""
        columns, rows = os.get_terminal_size(_STANDARD_OUTPUT)
        if rows and columns and (rows, columns) != self.size:
            curses.resizeterm(rows, columns)
        self._window.clearok(True)

    # ---------------------------------------------------------------------------------------------- wait

    def wait(self, seconds: float | None, also: Iterable[int] = ()) -> list[str]:
        """The keys that were pressed, by curses' names ("q", "^J", "KEY_UP"), and REDRAW.

        Waits for one of them, until one of the descriptors in also can be read, or for so many seconds, but
        no more than a day. Ctrl-L draws everything anew.
        """
        poll = select.poll()
        for fd in (_STANDARD_INPUT, self._woken, *also):
            poll.register(fd, select.POLLIN)
        ready = dict(poll.poll(None if seconds is None else math.ceil(1000 * min(seconds, _LONGEST))))
        keys = self._act_on_signals() if self._woken in ready else []
        if _STANDARD_INPUT in ready:
            while (code := self._window.getch()) != -1:
                keys.append(REDRAW if code == curses.KEY_RESIZE else curses.keyname(code).decode())
                if keys[-1] == "^L":
                    self._window.clearok(True)
            if ready[_STANDARD_INPUT] & ~select.POLLIN:  # the terminal is gone
                raise _EndedBySignal(signal.SIGHUP)
        return keys

    def _act_on_signals(self) -> list[str]:
        numbers = os.read(self._woken, 4096)
        for number in numbers:
            if number in _ENDS:
                raise _EndedBySignal(number)
        if signal.SIGTSTP in numbers:
            curses.endwin()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # returns when it is continued
            signal.signal(signal.SIGTSTP, _noted)
        if signal.SIGCONT in numbers:  # a shell had the terminal in between
            curses.reset_prog_mode()
        self._fit()
        return [REDRAW]


def _noted(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has the signal's number; a handler has to be there, or it is not written."""


def _check_terminal() -> None:
    name = os.environ.get("TERM", "")
    try:
        curses.setupterm(fd=_STANDARD_OUTPUT)
        able = curses.tigetstr("cup") is not None
    except curses.error:  # no such entry, or no terminfo at all
        able = False
    if not able:
        raise CannotRun(
            f"TERM is {name!r}, a terminal that curses does not know or cannot draw on; "
            "`mptcp-sockopt show` needs none, and `mptcp-sockopt watch | cat` prints JSON lines"
        )


def _styles() -> dict[str, int]:
    """curses' attributes by style. NO_COLOR leaves bold, dim and reverse: they are no colours."""
    red = curses.A_BOLD
    if curses.has_colors() and not os.environ.get("NO_COLOR"):
        curses.start_color()
        curses.use_default_colors()
        curses.init_pair(1, curses.COLOR_RED, -1)
        red |= curses.color_pair(1)
    return {"title": curses.A_REVERSE, "heading": curses.A_BOLD, "trouble": red, "grey": curses.A_DIM}


def _draws_unicode() -> bool:
    """Whether the user's locale is a UTF-8 one.

    In the locale C, Python sets LC_CTYPE to C.UTF-8 by itself (PEP 538), so that value alone says nothing.
    """
    chosen, ctype = os.environ.get("LC_ALL"), os.environ.get("LC_CTYPE")
    if not chosen and ctype != "C.UTF-8":
        chosen = ctype
    chosen = chosen or os.environ.get("LANG") or "C"
    is_utf8 = chosen.upper().replace("-", "").partition("@")[0].endswith("UTF8")
    return is_utf8 and locale.nl_langinfo(locale.CODESET) == "UTF-8"
