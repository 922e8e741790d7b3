# SPDX-License-Identifier: MIT
"""Recordings: what a Writer wrote is what is read, however the file ends; other files are refused."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mptcp_sockopt import cli
from mptcp_sockopt.cli._recording import SCHEMA, Recording, Sample, Writer, read_recording

from .records import FELL_BACK, OVER_IPV6, connection

SAMPLES = [
    Sample(1.0, 10, [connection(), FELL_BACK], []),
    Sample(2.0, 20, [OVER_IPV6], []),
    Sample(3.0, 30, [], []),
]
EVENT = {"kind": "event", "monotonic": 15, "event": "SUB_CLOSED", "token": 0x1234, "error": 110}


def write(path: Path, compress: bool = False) -> list[dict[str, Any]]:
    """A recording with all kinds of lines; those after the header."""
    with open(path, "wb") as file:
        writer = Writer(file.write, compress)
        writer.header(interval=0.1, port=443, missing=["something"])
        writer.sample(SAMPLES[0])
        writer.event(EVENT)
        writer.sample(SAMPLES[1])
        writer.missed(30, 7)
        writer.sample(SAMPLES[2])
        writer.close()
    one, two, three = (
        {"kind": "sample", "monotonic": sample.monotonic, "connections": sample.connections}
        for sample in SAMPLES
    )
    return [one, EVENT, two, {"kind": "missed", "monotonic": 30, "samples": 7}, three]


def plain(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw


@pytest.mark.parametrize("compress", [False, True])
def test_what_was_written_is_read(tmp_path: Path, compress: bool) -> None:
    """Header and lines, from a plain and a compressed file, whatever its name is."""
    path = tmp_path / "any-name"
    written = write(path, compress)
    header, lines = read_recording(path)
    assert list(lines) == written
    assert header["schema"] == SCHEMA
    assert (header["interval"], header["port"], header["pid"]) == (0.1, 443, None)
    assert (header["full"], header["missing"]) == (False, ["something"])
    assert set(header["fields"]["tcp_info"]) == set(OVER_IPV6["subflows"][0]["tcp_info"])
    assert set(header["fields"]["info"]) == set(OVER_IPV6["info"])
    assert header["kernel"] == os.uname().release


def test_every_line_is_json_and_the_file_ends_with_one(tmp_path: Path) -> None:
    """For jq and the like."""
    path = tmp_path / "r"
    write(path)
    assert path.read_bytes().endswith(b"}\n")
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == [
        *("header", "sample", "event", "sample", "missed", "sample")
    ]


@pytest.mark.parametrize("compress", [False, True])
def test_it_may_be_cut_off_anywhere(tmp_path: Path, compress: bool) -> None:
    """Then it ends with the last whole line; a header that is not whole is no recording."""
    path = tmp_path / "whole"
    written = write(path, compress)
    raw, cut = path.read_bytes(), tmp_path / "cut"
    lengths: list[int] = []
    for length in range(1, len(raw), 7):
        cut.write_bytes(raw[:length])
        try:
            recording = read_recording(cut)
        except cli.CannotRun:
            assert not lengths, length
            continue
        found = list(recording.lines)
        assert found == written[: len(found)], length
        lengths.append(len(found))
    assert lengths == sorted(lengths)
    assert set(lengths) >= set(range(len(written)))


def test_a_compressed_recording_is_whole_up_to_its_last_line_at_any_time(tmp_path: Path) -> None:
    """Each line is flushed: it can be read while it is written."""
    path = tmp_path / "r.gz"
    with open(path, "wb", buffering=0) as file:
        writer = Writer(file.write, compress=True)
        writer.header(interval=1)
        for number, sample in enumerate(SAMPLES, 1):
            writer.sample(sample)
            assert len(list(read_recording(path).lines)) == number


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    """As /dev/stdin may be one."""
    path, pipe = tmp_path / "r", tmp_path / "pipe"
    written = write(path, compress=True)
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True)
    thread.start()
    assert list(read_recording(pipe).lines) == written
    thread.join(30)


def refused(path: Path) -> str:
    """The sentence about a file that is no recording."""
    with pytest.raises(cli.CannotRun) as raised:
        list(read_recording(path).lines)
    told = str(raised.value)
    assert told.startswith(str(path))
    return told.removeprefix(str(path)).strip()


HEADER = {
    "schema": 1,
    "kind": "header",
    "time": 1,
    "monotonic": 1,
    "interval": 1,
    "fields": {},
    "missing": [],
}


def lines_of(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (b"hello\nworld\n", "is no recording of `mptcp-sockopt record`"),
        (b"\0" * 5000, "is no recording of `mptcp-sockopt record`"),
        (b"[" * 100_000, "is no recording of `mptcp-sockopt record`"),
        (b"7\n", "is no recording of `mptcp-sockopt record`"),
        (b'{"schema": 1}\n', "is no recording of `mptcp-sockopt record`"),
        (b'{"schema": "1", "kind": "header"}\n', "is no recording of `mptcp-sockopt record`"),
        (b'{"schema": 1, "kind": "header"}\n', "is no recording: its first line is damaged"),
        (lines_of({**HEADER, "schema": 2}), "was written by a newer version: its schema is 2"),
        (b"\x1f\x8bnot gzip at all", "cannot be read: "),
    ],
    ids=lambda content: str(content[:40]) if isinstance(content, bytes) else "",
)
def test_other_files_are_refused_in_words(tmp_path: Path, content: bytes, told: str) -> None:
    """Empty, something else, of a newer schema, damaged."""
    path = tmp_path / "file"
    path.write_bytes(content)
    assert refused(path).startswith(told)


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """A missing file, and a folder."""
    assert refused(tmp_path / "none") == "cannot be read: No such file or directory"
    assert refused(tmp_path) == "cannot be read: Is a directory"


@pytest.mark.parametrize(
    "damage",
    [
        b"{]\n",
        b"\n",
        b"7\n",
        b'{"kind": 7}\n',
        b'{"kind": "sample", "monotonic": 1}\n',
        b'{"kind": "sample", "monotonic": "1", "connections": []}\n',
        b'{"kind": "missed", "monotonic": 1, "samples": "many"}\n',
    ],
)
def test_a_damaged_line_in_the_middle_is_told(tmp_path: Path, damage: bytes) -> None:
    """It is no end that a crash or a full disk makes; the lines before it are read."""
    path = tmp_path / "file"
    sample = {"kind": "sample", "monotonic": 1, "connections": []}
    path.write_bytes(lines_of(HEADER, sample) + damage + lines_of(sample))
    lines = read_recording(path).lines
    assert next(lines) == sample
    with pytest.raises(cli.CannotRun, match="line 3 is damaged"):
        next(lines)


def test_a_line_of_an_unknown_kind_is_passed_over(tmp_path: Path) -> None:
    """A later version of the same schema may write it."""
    path = tmp_path / "file"
    sample = {"kind": "sample", "monotonic": 1, "connections": []}
    path.write_bytes(lines_of(HEADER, {"kind": "remark", "text": "hello"}, sample))
    assert list(read_recording(path).lines) == [sample]


def test_a_compressed_file_that_was_altered_is_told(tmp_path: Path) -> None:
    """Its lines are not taken for others."""
    path = tmp_path / "file"
    write(path, compress=True)
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1  # the checksum
    path.write_bytes(raw)
    assert refused(path).startswith("cannot be read: ")


def test_a_huge_recording_takes_little_memory(tmp_path: Path) -> None:
    """It is read line by line."""
    path = tmp_path / "file"
    line = lines_of({"kind": "sample", "monotonic": 1, "connections": [connection()] * 20})
    path.write_bytes(lines_of(HEADER) + line * 200)

    def read(recording: Recording) -> int:
        return sum(len(record["connections"]) for record in recording.lines)

    assert path.stat().st_size > 3e6
    assert read(read_recording(path)) == 4000
    assert most_memory(lambda: read(read_recording(path))) < 1e6


def most_memory(function: Callable[[], object]) -> int:
    import tracemalloc

    tracemalloc.start()
    function()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most
