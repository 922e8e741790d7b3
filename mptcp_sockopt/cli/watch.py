# SPDX-License-Identifier: MIT
"""``mptcp-sockopt watch``: every connection with its paths and their rates, full screen; or a recording."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import mptcp_sockopt as mp

from . import _layout
from ._blocks import printable
from ._event_words import in_words, token_of
from ._outcome import PASS, CannotRun, Parser, between_samples, need_streams, port, positive, writing
from ._recording import FOR_NOW, Looks, Sample, Writer, event_record, read_recording
from ._table import parsed

# What a recording that somebody else wrote may raise where it is drawn.
_NOT_AS_WRITTEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
_QUIET = 0.1  # seconds after drawing in which events wait, so that many of them do not draw as often


_DESCRIPTION = """\
Show every MPTCP connection of this network namespace with its paths and their
rates, full screen. If standard output is not a terminal, print JSON lines: a
header, then a line for each sample, as `record` writes them."""
_EPILOG = """\
keys:
  s                  sort by the next KEY
  / or f             filter by a text: an address, a process, a status
  p or space         pause, and go on
  n                  take the next sample at once, also in a pause
  arrows, PgUp, PgDn, Home, End
                     scroll
  ?                  show the keys
  q                  quit

Exit status: 0 after q or N samples; 3 if it cannot run here."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = Parser(
        prog="mptcp-sockopt watch",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-i",
        "--interval",
        type=between_samples,
        metavar="S",
        help="seconds between two samples (1, or as recorded)",
    )
    parser.add_argument("-n", "--samples", type=positive(int), metavar="N", help="end after N samples")
    parser.add_argument(
        "--sort",
        choices=list(_layout.SORTS),
        default="trouble",
        metavar="KEY",
        help=f"what comes first: {', '.join(_layout.SORTS)} (%(default)s)",
    )
    parser.add_argument("--port", type=port, default=0, metavar="P", help="only connections with port P")
    parser.add_argument("file", nargs="?", metavar="FILE", help="a recording, shown at its own speed")
    return parser


def main(argv: Sequence[str]) -> int:
    """Watch until q, Ctrl-C or -n; returns the exit code."""
    need_streams("stdout")
    options = parsed(parser(), argv)
    on_screen = sys.stdout.isatty()
    if options.file is None:
        return _watch(_Live(options), options) if on_screen else _print_samples(options)
    try:
        return _watch(_Replay(options), options) if on_screen else _print_recording(options)
    except _NOT_AS_WRITTEN as error:
        raise CannotRun(f"{options.file} has a line that cannot be shown: {error!r}") from error


class _Ticks:
    """Times that are an interval apart, on the monotonic clock, so that a late sample delays no other."""

    def __init__(self, interval: float) -> None:
        self.interval, self.due = interval, time.monotonic()

    def advance(self) -> int:
        """On to the next tick that has not passed: how many were left out."""
        left_out = int(max(0.0, time.monotonic() - self.due) // self.interval)
        self.due += self.interval * (1 + left_out)
        return left_out


# ------------------------------------------------------------------------------------------------ JSON lines


def _print_samples(options: argparse.Namespace) -> int:
    looks, ticks, writer = Looks(port=options.port), _Ticks(options.interval or 1.0), Writer(_write)
    sample = looks.look()
    writer.header(interval=ticks.interval, port=options.port, missing=sample.missing)
    writer.sample(sample)
    for _ in range(options.samples - 1) if options.samples else itertools.count():
        missed = ticks.advance()
        time.sleep(max(0.0, ticks.due - time.monotonic()))
        if missed:
            writer.missed(time.monotonic_ns(), missed)
        writer.sample(looks.look())
    return PASS


def _print_recording(options: argparse.Namespace) -> int:
    header, lines = read_recording(options.file)
    samples = 0
    with contextlib.closing(lines):
        for record in itertools.chain([header], lines):
            if record["kind"] == "sample":
                samples += 1
                record["connections"] = _with_port(record["connections"], options.port)
            _write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
            if samples == options.samples:
                break
    return PASS


def _write(line: bytes) -> None:
    with writing():
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def _with_port(connections: list[dict[str, Any]], port: int) -> list[dict[str, Any]]:
    """Those that have the port, at either end or on a path."""

    def has_it(connection: dict[str, Any]) -> bool:
        ends = [connection, *connection["subflows"]]
        return any(port in (end["local"][1], end["remote"][1]) for end in ends)

    return [connection for connection in connections if has_it(connection)] if port else connections


# ---------------------------------------------------------------------------------------------------- screen


class _Source:
    """Where samples come from, and events."""

    due: float | None
    """When to take the next sample, by time.monotonic(); None: there is none."""
    pace: str
    """What the title says of it."""
    descriptors: Sequence[int] = ()
    """One of them can be read when read_events() has something to read."""

    def __init__(self, port: int) -> None:
        self.events: deque[str] = deque(maxlen=_layout.EVENTS)
        self.due = time.monotonic()
        self._port = port
        self._ends: dict[int | None, tuple[Any, Any]] = {}

    def take(self) -> Sample:
        """The next sample."""
        raise NotImplementedError

    def go_on(self) -> None:
        """After a pause, or a sample out of turn: count the time from now."""
        raise NotImplementedError

    def read_events(self) -> None:
        """Read what can be read now."""

    def close(self) -> None:
        """Give back what it has open."""

    def _learn(self, sample: Sample) -> None:
        """Know the connections of this sample by token: most events tell no more than that."""
        self._ends = {one["token"]: (one["local"], one["remote"]) for one in sample.connections}

    def _tell(self, records: Iterable[tuple[float, dict[str, Any]]]) -> None:
        """Show the last of these events, each with its time in seconds since the epoch."""
        for at, record in deque(filter(self._concerns, records), _layout.EVENTS):
            clock = time.strftime("%H:%M:%S", time.localtime(at))
            if record["kind"] == "missed":
                self.events.append(f"{clock} {printable(record['samples'])} samples were missed")
            else:
                told = in_words(record, self._ends.get(record.get("token")))
                self.events.append(f"{clock} {token_of(record)} {told}")

    def _concerns(self, told: tuple[float, dict[str, Any]]) -> bool:
        """Whether it is of a connection with the port, or of all."""
        record = told[1]
        if not self._port or record["kind"] == "missed" or record.get("token") in self._ends:
            return True
        return any(end[1] == self._port for end in (record.get("local"), record.get("remote")) if end)


def _watch(source: _Source, options: argparse.Namespace) -> int:
    with contextlib.closing(source):
        return _show(source, _layout.View(sort=options.sort), options.samples)


def _show(source: _Source, view: _layout.View, samples: int | None) -> int:
    try:
        from ._screen import Screen
    except ModuleNotFoundError as error:
        raise CannotRun(
            f"this Python was built without curses ({error}); `mptcp-sockopt show` needs none, and "
            "`mptcp-sockopt watch | cat` prints JSON lines"
        ) from None
    goodputs, sample = _layout.Goodputs(), source.take()
    goodputs.add(sample.connections)
    left = samples
    with Screen() as screen:
        while True:
            frame = _layout.frame(
                sample, view, goodputs, source.events, *screen.size, pace=source.pace, unicode=screen.unicode
            )
            view.top, view.scroll = frame.top, 0
            screen.draw(frame.lines)
            due = None if view.paused else source.due
            keys = screen.wait(_until(due, _QUIET)) or screen.wait(_until(due), source.descriptors)
            source.read_events()
            was_paused, wanted = view.paused, False
            for key in keys:
                if view.typing is None and key == "q":
                    return PASS
                wanted = wanted or (view.typing is None and key == "n" and source.due is not None)
                view.press(key, frame.page)
            if was_paused and not view.paused:
                source.go_on()
            if wanted or (not view.paused and source.due is not None and source.due <= time.monotonic()):
                if left == 1:
                    return PASS
                left = left and left - 1
                sample = source.take()
                goodputs.add(sample.connections)
                if wanted:
                    source.go_on()


def _until(due: float | None, most: float | None = None) -> float | None:
    """Seconds until then, but at most so many."""
    if due is None:
        return most
    left = max(0.0, due - time.monotonic())
    return left if most is None else min(left, most)


class _Live(_Source):
    """The kernel's connections, and its events where this user may read them."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.port)
        self._looks = Looks(port=options.port, drawn=True)
        self._ticks = _Ticks(options.interval or 1.0)
        self.pace = f"every {self._ticks.interval:g} s"
        self._shown: Sample | None = None
        self._source: mp.MPTCPEvents | None = None
        try:
            self._source = mp.mptcp_events()
            self.descriptors = [self._source.fileno()]
        except PermissionError:
            self.events.append("no events: they need CAP_NET_ADMIN in this network namespace")
        except OSError as error:
            self.events.append(f"no events: {error.strerror or error}")

    def take(self) -> Sample:
        try:
            self._shown = self._looks.look()
        except OSError as error:
            if self._shown is None or error.errno not in FOR_NOW:
                raise
        self._learn(self._shown)
        self._ticks.advance()
        self.due = self._ticks.due
        return self._shown

    def go_on(self) -> None:
        self._ticks = _Ticks(self._ticks.interval)
        self._ticks.advance()
        self.due = self._ticks.due

    def read_events(self) -> None:
        if self._source is not None:
            begin = time.time() - time.monotonic_ns() / 1e9
            self._tell((begin + event.time / 1e9, event_record(event)) for event in self._source.read())

    def close(self) -> None:
        if self._source is not None:
            self._source.close()


class _Replay(_Source):
    """A recording: its samples with the time between them that they had, and its events with them."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.port)
        self._header, self._lines = read_recording(options.file)
        self._interval = options.interval
        self.pace = self._name = printable(os.path.basename(options.file))
        self._between: list[tuple[float, dict[str, Any]]] = []
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            self._next = self._read()
            if self._next is None:
                raise CannotRun(f"{options.file} has no samples")
            failed.pop_all()
        self._shown = self._next

    def take(self) -> Sample:
        assert self._next is not None
        assert self.due is not None
        self._shown = self._next
        self._tell(self._between)
        self._learn(self._shown)
        self._next = self._read()
        if self._next is None:
            self.due, self.pace = None, f"{self._name} (its end)"
        else:
            self.due = max(self.due + self._gap(), time.monotonic())  # later if this process was stopped
        return self._shown

    def go_on(self) -> None:
        if self._next is not None:
            self.due = time.monotonic() + self._gap()

    def close(self) -> None:
        self._lines.close()

    def _gap(self) -> float:
        assert self._next is not None
        return self._interval or (self._next.monotonic - self._shown.monotonic) / 1e9

    def _read(self) -> Sample | None:
        self._between = []
        for line in self._lines:
            at = self._header["time"] + (line["monotonic"] - self._header["monotonic"]) / 1e9
            if line["kind"] == "sample":
                connections = _with_port(line["connections"], self._port)
                return Sample(at, line["monotonic"], connections, self._header["missing"])
            self._between.append((at, line))
        return None
