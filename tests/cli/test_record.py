# SPDX-License-Identifier: MIT
"""mptcp-sockopt record: samples and events of real connections in a file, and how a recording ends."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.cli._recording import read_recording

from ..support import DEADLINE, exchange, in_private_network, inode, mptcp_pair, run, until

ROOT = Path(__file__).parents[2]
INET = socket.AF_INET
COMMAND = (sys.executable, "-m", "mptcp_sockopt", "record")


@contextlib.contextmanager
def recording(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command beside the block; killed at its end if it still runs."""
    with subprocess.Popen(
        [*COMMAND, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(path: Path, kind: str = "sample") -> list[dict[str, Any]]:
    return [line for line in read_recording(path).lines if line["kind"] == kind]


def has_samples(path: Path, number: int) -> Callable[[], bool]:
    return lambda: path.exists() and path.stat().st_size > 0 and len(lines(path)) >= number


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it said when it had ended."""
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_samples_and_events_are_on_one_clock(tmp_path: Path, name: str, mptcp: None) -> None:
    """In order: a connection's first events before its first sample. Rates from the second sample on."""
    path = tmp_path / name

    def look() -> None:
        before = time.monotonic_ns()
        with recording("-o", str(path), "-i", "0.05") as process:
            until(has_samples(path, 2), "samples")
            with mptcp_pair(INET) as (client, accepted):
                exchange(client, accepted, 1000)
                count = len(lines(path))
                until(has_samples(path, count + 2), "samples")
                exchange(client, accepted, 5000)
                until(has_samples(path, count + 5), "samples")
                token, mine = mp.mptcp_info(client).token, inode(client)
            until(lambda: "CLOSED" in {line["event"] for line in lines(path, "event")}, "the end")
            process.send_signal(signal.SIGINT)
            err = ended(process)
        header, found = read_recording(path)
        records = list(found)
        times = [record["monotonic"] for record in records]
        assert times == sorted(times)
        assert before < header["monotonic"]
        assert abs(header["time"] - time.time()) < DEADLINE
        assert header["missing"] == []
        samples = [record for record in records if record["kind"] == "sample"]
        assert samples[0]["connections"] == []
        rows = [row for sample in samples for row in sample["connections"] if row["inode"] == mine]
        assert {row["token"] for row in rows} == {token}
        assert rows[0]["rates"] is None
        assert max(row["rates"]["bytes_sent"] for row in rows[1:]) > 0
        assert max(row["subflows"][0]["rates"]["bytes_received"] for row in rows[1:]) > 0
        events = [record for record in records if record["kind"] == "event" and record["token"] == token]
        assert [event["event"] for event in events][:2] == ["CREATED", "ESTABLISHED"]
        with_it = [sample["monotonic"] for sample in samples if sample["connections"]]
        assert events[0]["monotonic"] < with_it[0]
        assert events[0]["remote"] == rows[0]["remote"]
        told = re.fullmatch(r".*: (\d+) samples in [\d.]+ s, \d+ connections?, (\d+) events?, .*\n", err)
        assert told
        assert int(told[1]) == len(samples)

    in_private_network(look)


def test_samples_are_at_fixed_times(tmp_path: Path, mptcp: None) -> None:
    """Each one at the start plus a whole number of intervals, and those that are missed are counted."""
    path = tmp_path / "r"

    def look() -> None:
        with mptcp_pair(INET), recording("-o", str(path), "-i", "0.1", "--for", "1") as process:
            err = ended(process)
        found = [*read_recording(path).lines]
        samples = [record["monotonic"] for record in found if record["kind"] == "sample"]
        missed = sum(record["samples"] for record in found if record["kind"] == "missed")
        assert len(samples) + missed in (10, 11)
        assert f" {missed} sample{'s' * (missed != 1)} missed" in err
        late = [(at - samples[0]) % 100_000_000 for at in samples]
        assert sorted(late)[len(late) // 2] < 50_000_000

    in_private_network(look)


def test_a_stopped_recorder_says_what_it_missed(tmp_path: Path, mptcp: None) -> None:
    """And goes on at the next of its times. What it hears of then stands in its order."""
    path = tmp_path / "r"

    def look() -> None:
        with recording("-o", str(path), "-i", "0.05") as process:
            until(has_samples(path, 1), "a sample")
            process.send_signal(signal.SIGSTOP)
            begun, count = time.monotonic(), len(lines(path))
            with mptcp_pair(INET) as (client, accepted):
                exchange(client, accepted, 1000)
            until(lambda: time.monotonic() > begun + 0.4, "time")
            process.send_signal(signal.SIGCONT)
            until(has_samples(path, count + 2), "another sample")
            process.terminate()
            ended(process)
        missed = [record["samples"] for record in lines(path, "missed")]
        assert max(missed) >= 6
        assert "CLOSED" in {line["event"] for line in lines(path, "event")}
        times = [record["monotonic"] for record in read_recording(path)[1]]
        assert times == sorted(times)

    in_private_network(look)


def test_only_what_was_asked_for(tmp_path: Path, mptcp: None) -> None:
    """The connections and events of a port, all fields with --full, and the header says so."""
    path = tmp_path / "r"

    def look() -> None:
        with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
            port = server.getsockname()[1]
            with recording("-o", str(path), "-i", "0.05", "--port", str(port), "--full") as process:
                until(has_samples(path, 1), "a sample")
                with mptcp_pair(INET) as (other, _), mp.create_connection(server.getsockname()) as client:
                    unwanted, wanted = mp.mptcp_info(other).token, mp.mptcp_info(client).token
                    count = len(lines(path))
                    until(has_samples(path, count + 2), "a sample")
                until(lambda: wanted in closed(path), "the end")
                process.terminate()
                ended(process)
        header = read_recording(path).header
        assert (header["port"], header["full"]) == (port, True)
        rows = [row for sample in lines(path) for row in sample["connections"]]
        assert wanted in {row["token"] for row in rows}
        assert {port} <= {port for row in rows for port in (row["local"][1], row["remote"][1])}
        assert unwanted not in {row["token"] for row in rows}
        assert unwanted not in {event["token"] for event in lines(path, "event")}
        assert rows[0]["info"].keys() == set(header["fields"]["info"])
        assert rows[0]["subflows"][0]["tcp_info"].keys() == set(header["fields"]["tcp_info"])
        assert "map_seq" in rows[0]["subflows"][0]

    in_private_network(look)


def closed(path: Path) -> set[int]:
    return {event["token"] for event in lines(path, "event") if event["event"] == "CLOSED"}


@pytest.mark.parametrize("name", ["r", "r.gz"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_every_end_leaves_a_recording(tmp_path: Path, number: signal.Signals, name: str, mptcp: None) -> None:
    """Of all samples that were taken; in order by Ctrl-C and SIGTERM, with a summary."""
    path = tmp_path / name

    def look() -> None:
        with mptcp_pair(INET), recording("-o", str(path), "-i", "0.05") as process:
            until(has_samples(path, 3), "samples")
            process.send_signal(number)
            if number is signal.SIGKILL:
                process.wait(DEADLINE)
            else:
                assert f"{path}: " in ended(process)
        assert len(lines(path)) >= 3

    in_private_network(look)


@pytest.mark.parametrize("name", ["r", "r.gz"])
def test_a_full_disk_is_one_error(tmp_path: Path, name: str, mptcp: None) -> None:
    """Exit 3; what was written before is read."""
    path = tmp_path / name

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    def look() -> None:
        with (
            mptcp_pair(INET),
            mptcp_pair(INET),
            recording("-o", str(path), "-i", "0.001", preexec_fn=limited) as process,
        ):
            err = ended(process, code=3)
        assert err.count("\n") == 1
        assert err.startswith(f"mptcp-sockopt: cannot run here: {path}: File too large; written until then: ")
        assert path.stat().st_size == 9000
        assert len(lines(path)) >= 1

    in_private_network(look)


def test_a_full_device_is_told(mptcp: None) -> None:
    """The same for /dev/full, to which nothing can be written."""
    found = run(*COMMAND, "-o", "/dev/full", "--for", "1", cwd=ROOT)
    assert found.returncode == 3
    assert "/dev/full: No space left on device" in found.stderr


def test_nothing_is_overwritten(tmp_path: Path, mptcp: None) -> None:
    """A file with something in it is left alone, with a sentence; so is a folder that does not exist."""
    path = tmp_path / "precious"
    path.write_text("precious")
    found = run(*COMMAND, "-o", str(path), "--for", "1", cwd=ROOT)
    assert (found.returncode, path.read_text()) == (3, "precious")
    assert found.stderr.splitlines()[-1].endswith(f"{path} exists: choose another name, or remove it")
    found = run(*COMMAND, "-o", str(tmp_path / "none" / "r"), "--for", "1", cwd=ROOT)
    assert found.returncode == 3
    assert found.stderr.splitlines()[-1].endswith("r: No such file or directory")


def test_a_process_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    """A sentence, exit 3."""
    found = run(*COMMAND, "-o", str(tmp_path / "r"), "--pid", "4194303", cwd=ROOT)
    assert (found.returncode, found.stdout) == (3, "")
    assert found.stderr.endswith("there is no process 4194303\n")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("words", [[], ["-o", "f", "-i", "0"], ["-o", "f", "--for", "-1"], ["-o"]])
def test_usage_errors(words: list[str], tmp_path: Path) -> None:
    """Exit 2, and no file."""
    found = run(*COMMAND, *words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert found.returncode == 2
    assert [*tmp_path.iterdir()] == []


def test_without_privilege_there_are_samples(tmp_path: Path, mptcp: None) -> None:
    """And one sentence that events are missing, which the header has too."""
    path = tmp_path / "r"
    # In a user namespace of its own, root may not see the events of a network that is not of it.
    code = (
        "import ctypes, sys\n"
        "from mptcp_sockopt import cli\n"
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    found = run(
        *(sys.executable, "-c", code, "record", "-o", str(path), "--for", "0.1", "-i", "0.05"), cwd=ROOT
    )
    assert found.returncode == 0, found.stderr
    told = [line for line in found.stderr.splitlines() if "no events" in line]
    assert len(told) == 1
    header = read_recording(path).header
    assert [sentence for sentence in header["missing"] if "no events" in sentence] != []
    assert len(lines(path)) >= 2


def test_progress_is_for_terminals(tmp_path: Path, mptcp: None) -> None:
    """It is written over itself, and gone at the end, before the summary."""
    path = tmp_path / "r"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "-o", str(path), "-i", "0.1", "--for", "0.3"], cwd=ROOT, stderr=theirs
    ) as process:
        os.close(theirs)
        out = b""
        with contextlib.suppress(OSError):  # EIO: the other end was closed
            while part := os.read(ours, 65536):
                out += part
        os.close(ours)
        assert process.wait(DEADLINE) == 0
    progress, _, summary = out.decode().rpartition("\r\x1b[K")
    assert "samples" in progress
    assert summary.startswith(f"{path}: ")
