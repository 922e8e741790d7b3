# SPDX-License-Identifier: MIT
"""``mptcp-sockopt record``: samples and events of the machine's connections, into a file."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import select
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mptcp_sockopt as mp

from ._blocks import counted, size_of
from ._files import create
from ._outcome import PASS, CannotRun, Parser, between_samples, escaped, need_streams, port, positive
from ._recording import FOR_NOW, Looks, Sample, Writer, event_record
from ._table import parsed


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = Parser(
        prog="mptcp-sockopt record",
        description="Record the MPTCP connections of this network namespace, and the events of the path "
        "manager, as JSON lines. Show the file with `mptcp-sockopt plot` or `watch`. Ctrl-C ends the "
        "recording. Events need CAP_NET_ADMIN in the network namespace.",
        epilog="Exit status: 0 if the recording was ended by Ctrl-C, SIGTERM or --for; 3 if this machine "
        "cannot make one, or the file cannot be written (what was written before is readable).",
    )
    parser.add_argument(
        "-o",
        dest="file",
        required=True,
        metavar="FILE",
        help="where to write; compressed if it ends in .gz; must not exist",
    )
    parser.add_argument("--port", type=port, default=0, metavar="P", help="only connections with port P")
    parser.add_argument("--pid", type=positive(int), metavar="N", help="only connections of process N")
    parser.add_argument(
        "-i",
        dest="interval",
        type=between_samples,
        default=1.0,
        metavar="S",
        help="seconds between samples (default: 1)",
    )
    parser.add_argument(
        "--for", dest="seconds", type=positive(float), metavar="S", help="end after so many seconds"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="every field that the kernel reports: twice as long",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    need_streams("stderr")
    options = parsed(parser(), argv)
    looks = Looks(options.port, options.pid, full=options.full)
    with contextlib.ExitStack() as stack:
        missing: list[str] = []
        try:
            events: mp.MPTCPEvents | None = stack.enter_context(mp.mptcp_events())
        except OSError as error:
            events = None
            missing.append(f"There are no events in this recording: {error.strerror or error}")
        stop = stack.enter_context(_Stop())
        first = looks.look()  # if this cannot be answered, there is no file
        file = stack.enter_context(_File(options.file))
        recorder = _Recorder(looks, events, file, options)
        for sentence in missing:
            print(f"mptcp-sockopt record: {escaped(sentence)}", file=sys.stderr)
        try:
            recorder.run(first, stop, missing)
        except _NotWrittenError as error:
            raise CannotRun(f"{error}; written until then: {recorder.told()}") from None
        print(f"{escaped(options.file)}: {recorder.told()}", file=sys.stderr)
    return PASS


class _Recorder:
    """Takes samples at a fixed grid of times, and writes them with the events between them."""

    def __init__(self, looks: Looks, events: Any, file: _File, options: argparse.Namespace) -> None:
        self._looks, self._events, self._file, self._options = looks, events, file, options
        self._writer = Writer(file.write, compress=options.file.endswith(".gz"))
        self._wanted = _Wanted(options.port) if options.port or options.pid is not None else None
        self._waiting: list[Any] = []  # events
        self._gaps: deque[tuple[int, int]] = deque()  # when how many samples were missed
        self._begun = self._last = 0
        self._samples = self._missed = self._told_events = self._connections = 0

    def run(self, first: Sample, stop: _Stop, missing: list[str]) -> None:
        """Record until it is time to stop."""
        interval, options = round(self._options.interval * 1e9), self._options
        self._writer.header(
            interval=options.interval,
            full=options.full,
            port=options.port,
            pid=options.pid,
            missing=[*first.missing, *missing],
        )
        self._begun = first.monotonic
        end = self._begun + options.seconds * 1e9 if options.seconds else math.inf
        number = 0
        with _progress(self.told) as progress:
            self._write(first)
            while True:
                number += 1
                due = self._begun + number * interval
                if not self._wait(min(due, end), stop) or due > end:
                    break
                late = (time.monotonic_ns() - due) // interval
                if late > 0:
                    number += late
                    self._miss(late)
                try:
                    self._write(self._looks.look())
                except OSError as error:
                    if error.errno not in FOR_NOW:
                        raise
                    self._miss(1)
                progress()
            self._write_events()
            self._writer.close()

    def _miss(self, samples: int) -> None:
        self._missed += samples
        self._gaps.append((time.monotonic_ns(), samples))

    def _wait(self, until: float, stop: _Stop) -> bool:
        """Collect events until then; False if it is time to stop."""
        while True:
            left = (until - time.monotonic_ns()) / 1e9
            if stop.wait(max(left, 0), self._events):
                return False
            if self._events is not None:
                self._waiting += self._events.read()
            if left <= 0:
                return True

    def _write(self, sample: Sample) -> None:
        if self._wanted:
            self._wanted.learn(sample)
        self._write_events(before=sample.monotonic)
        self._writer.sample(sample)
        self._samples += 1
        self._last = sample.monotonic
        self._connections = len(sample.connections)

    def _write_events(self, before: float = math.inf) -> None:
        """Those of the connections that are recorded, which are known only after the sample. And, in their
        place among them, what was missed."""
        later = []
        for event in self._waiting:
            if event.time >= before:
                later.append(event)
            elif not self._wanted or event in self._wanted:
                self._write_gaps(event.time)
                self._writer.event(event_record(event))
                self._told_events += 1
        self._waiting = later
        self._write_gaps(before)

    def _write_gaps(self, before: float) -> None:
        while self._gaps and self._gaps[0][0] < before:
            self._writer.missed(*self._gaps.popleft())

    def told(self) -> str:
        """What was recorded so far, in a sentence."""
        seconds = (self._last - self._begun) / 1e9
        parts = [f"{counted(self._samples, 'sample')} in {seconds:.1f} s"]
        parts.append(counted(self._connections, "connection"))
        if self._events is not None:
            parts.append(counted(self._told_events, "event"))
        parts.append(f"{counted(self._missed, 'sample')} missed")
        return ", ".join([*parts, size_of(self._file.written)]) + "."


class _Wanted:
    """Which events are of the connections that are recorded."""

    def __init__(self, port: int) -> None:
        self._port, self._tokens = port, set[int]()

    def learn(self, sample: Sample) -> None:
        """These connections are recorded."""
        self._tokens |= {connection["token"] for connection in sample.connections} - {None}

    def __contains__(self, event: Any) -> bool:
        kind = getattr(event.kind, "name", "")  # a newer kernel may tell more kinds
        if event.token in self._tokens:
            if kind == "CLOSED":
                self._tokens.remove(event.token)
            return True
        if self._has_port(event):
            if event.token is not None:
                self._tokens.add(event.token)  # later events may have the token only
            return True
        return bool(kind == "LOST")

    def _has_port(self, event: Any) -> bool:
        ends = [end for end in (event.local, event.remote) if end]
        return bool(self._port) and any(end[1] == self._port for end in ends)


# ------------------------------------------------------------------------------------------ what it needs


class _NotWrittenError(Exception):
    """The file, and why it cannot be written."""


class _File:
    """A new file, written without a buffer: what was written is there, whatever comes.

    Only its owner can read it: root sees more than others, as the processes of every connection.
    """

    def __init__(self, path: str) -> None:
        self.written = 0
        self._path = path
        try:
            self._file = create(path)
        except FileExistsError:
            raise CannotRun(f"{path} exists: choose another name, or remove it") from None
        except OSError as error:
            raise CannotRun(f"{path}: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                count = self._file.write(rest)
            except OSError as error:
                raise _NotWrittenError(f"{self._path}: {error.strerror}") from None
            self.written += count
            rest = rest[count:]

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Stop:
    """Ctrl-C and SIGTERM, as something to wait for. The second Ctrl-C interrupts at once."""

    def __enter__(self) -> _Stop:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._before: Mapping[int, Any] = {
            number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._asked = False
        return self

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        os.write(self._writing, b"x")

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def wait(self, seconds: float, events: Any = None) -> bool:
        """Wait until it is time to stop (True), there are events, or the time is over."""
        watched = [self._reading] if events is None else [self._reading, events]
        ready, _, _ = select.select(watched, [], [], seconds)
        return self._reading in ready


@contextlib.contextmanager
def _progress(told: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """A line on stderr that is written again every second, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    next_time = time.monotonic()

    def progress() -> None:
        nonlocal next_time
        if time.monotonic() >= next_time:
            next_time = time.monotonic() + 1
            columns = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{told()[: columns - 1]}", end="", file=sys.stderr, flush=True)

    try:
        yield progress
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
