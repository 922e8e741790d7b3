# SPDX-License-Identifier: MIT
"""A recording: JSON lines, samples and events on one monotonic clock. docs/recordings.md has the format.

Writer writes them to a file, plain or compressed, or to standard output; read_recording() reads a file back.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import IO, Any, NamedTuple

import mptcp_sockopt as mp

from ._looks import FOR_NOW as FOR_NOW
from ._looks import Looks as Looks
from ._looks import Sample as Sample
from ._looks import fields
from ._outcome import CannotRun

SCHEMA = 1

# ----------------------------------------------------------------------------------------------- writing


class Writer:
    """Writes the lines of a recording, each whole, by write(bytes). OSError as write() raises it.

    Begin with header(). With compress, the bytes are those of a gzip file: a reader gets every line that was
    written, even if close() was never called. Belongs to one thread.
    """

    def __init__(self, write: Callable[[bytes], object], compress: bool = False) -> None:
        self._write = write
        gzip_header = 16 + zlib.MAX_WBITS
        self._compressor = zlib.compressobj(1, zlib.DEFLATED, gzip_header) if compress else None

    def header(
        self,
        *,
        interval: float,
        full: bool = False,
        port: int = 0,
        pid: int | None = None,
        missing: Iterable[str] = (),
    ) -> None:
        """What was recorded, where and since when."""
        self._line(
            {
                "schema": SCHEMA,
                "kind": "header",
                "version": mp.__version__,
                "kernel": os.uname().release,
                "time": time.time(),
                "monotonic": time.monotonic_ns(),
                "interval": interval,
                "full": full,
                "port": port or None,
                "pid": pid,
                "fields": fields(full),
                "missing": list(missing),
            }
        )

    def sample(self, sample: Sample) -> None:
        """The connections of one look."""
        self._line({"kind": "sample", "monotonic": sample.monotonic, "connections": sample.connections})

    def event(self, event: Mapping[str, Any]) -> None:
        """An event as event_record() gives it."""
        self._line(event)

    def missed(self, monotonic: int, samples: int) -> None:
        """So many samples before this time were not taken."""
        self._line({"kind": "missed", "monotonic": monotonic, "samples": samples})

    def close(self) -> None:
        """Write the end of a gzip file."""
        if self._compressor:
            self._write(self._compressor.flush())
            self._compressor = None

    def _line(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if self._compressor:
            line = self._compressor.compress(line) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._write(line)


def event_record(event: mp.MPTCPEvent) -> dict[str, Any]:
    """An event as a line of a recording: its kind by name, as "event"."""
    record = event.asdict()
    del record["kind"], record["time"]
    return {"kind": "event", "monotonic": event.time, "event": str(event.kind), **record}


# ----------------------------------------------------------------------------------------------- reading


class Recording(NamedTuple):
    """A recording that is being read."""

    header: dict[str, Any]
    lines: Generator[dict[str, Any], None, None]
    """Its samples, events and gaps ("missed"), as they are read. A recording that was cut off ends with its
    last whole line. CannotRun for a line in the middle that is broken. close() closes the file."""


_LONGEST_HEADER = 1 << 20
_LONGEST_LINE = 1 << 28  # 300,000 connections with all fields
_MAGIC = b"\x1f\x8b"
#: What each line has beside "monotonic".
_KINDS: dict[str, tuple[str, Any]] = {
    "sample": ("connections", list),
    "event": ("event", (str, int)),
    "missed": ("samples", int),
}


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a file that a Writer wrote, plain or compressed, line by line.

    CannotRun, with a sentence, if it cannot be read, is empty or no recording, or has a newer schema.
    """
    name = os.fspath(path)
    with contextlib.ExitStack() as opened:
        try:
            file: Any = opened.enter_context(open(path, "rb"))
            if file.peek(2)[:2] == _MAGIC:
                file = opened.enter_context(gzip.GzipFile(fileobj=file))
            first = _read(file, _LONGEST_HEADER)
        except (OSError, zlib.error) as error:
            raise _unreadable(name, error) from None
        header = _header(first, name)
        lines = _lines(file, name, opened.pop_all())
        next(lines)  # from now on it closes the file, even if nobody reads on
        return Recording(header, lines)


def _header(line: bytes, name: str) -> dict[str, Any]:
    if not line:
        raise CannotRun(f"{name} is empty")
    header = _parsed(line)
    if header is None or header.get("kind") != "header" or not isinstance(header.get("schema"), int):
        raise CannotRun(f"{name} is no recording of `mptcp-sockopt record`")
    if header["schema"] > SCHEMA:
        raise CannotRun(
            f"{name} was written by a newer version: its schema is {header['schema']}, and this version "
            f"({mp.__version__}) reads {SCHEMA}"
        )
    if not _is_header(header):
        raise CannotRun(f"{name} is no recording: its first line is damaged")
    return header


def _is_header(header: Mapping[str, Any]) -> bool:
    numbers = [header.get(name) for name in ("time", "monotonic", "interval")]
    return all(isinstance(number, (int, float)) for number in numbers) and all(
        isinstance(header.get(name), kind) for name, kind in (("fields", dict), ("missing", list))
    )


def _lines(file: IO[bytes], name: str, opened: contextlib.ExitStack) -> Generator[dict[str, Any], None, None]:
    number = 1
    with opened:
        yield {}
        while True:
            try:
                line = _read(file, _LONGEST_LINE)
            except (OSError, zlib.error) as error:
                raise _unreadable(name, error) from None
            if not line:
                return
            number += 1
            record = _parsed(line)
            if record is None or not _is_line(record):
                if _ends_here(file, line):
                    return
                raise CannotRun(f"{name}: line {number} is damaged")
            if record["kind"] in _KINDS:  # others may come with a later version
                yield record


def _read(file: IO[bytes], longest: int) -> bytes:
    """The next line; b"" at the end, and where a compressed file was cut off."""
    try:
        return file.readline(longest)
    except EOFError:
        return b""


def _ends_here(file: IO[bytes], line: bytes) -> bool:
    """Whether the recording was cut off in this line."""
    with contextlib.suppress(OSError, zlib.error):
        return not line.endswith(b"\n") and not _read(file, 1)
    return False


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _is_line(record: Mapping[str, Any]) -> bool:
    kind = record.get("kind")
    if not isinstance(kind, str):
        return False
    if kind not in _KINDS:
        return True
    part, of = _KINDS[kind]
    return isinstance(record.get("monotonic"), int) and isinstance(record.get(part), of)


def _unreadable(name: str, error: Exception) -> CannotRun:
    told = error.strerror if isinstance(error, OSError) and error.strerror else error
    return CannotRun(f"{name} cannot be read: {told}")
