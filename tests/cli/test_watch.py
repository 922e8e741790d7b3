# SPDX-License-Identifier: MIT
"""mptcp-sockopt watch: the screen, recordings, JSON lines, and how it ends."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli
from mptcp_sockopt.cli._looks import Sample
from mptcp_sockopt.cli._recording import Writer

from ..support import BUFFERINGS, exchange, in_private_network, mptcp_pair, run, started
from .records import Record, connection
from .terminal import terminal

COMMAND = (sys.executable, "-m", "mptcp_sockopt", "watch")
RATES = {"bytes_sent": 2e6, "bytes_acked": 2e6, "bytes_received": 1000.0}
EVENT = {"kind": "event", "event": "SUB_CLOSED", "token": 0x77, "error": 110, "id": None}
EVENT |= {"local": ["10.9.1.1", 40000], "remote": ["10.9.1.2", 443]}


def recording(file: Path, number: int, *gaps: float, connections: list[Record] | None = None) -> str:
    """A recording with so many samples, with gaps of so many seconds between them, the last one again and
    again. The connection of sample n is to port n. An event comes before the last sample."""
    with open(file, "wb") as out:
        writer, at = Writer(out.write), time.monotonic_ns()
        writer.header(interval=gaps[-1], missing=["the processes of others"])
        for n in range(1, number + 1):
            if n == number:
                writer.event({"monotonic": at - 1, **EVENT})
            found = connections or [connection(remote=["10.9.0.2", n], rates=RATES)]
            writer.sample(Sample(time.time(), at, found, []))
            at += int(gaps[min(n, len(gaps)) - 1] * 1e9)
    return str(file)


def is_last(text: str, lines: list[str]) -> bool:
    return lines[-1].startswith(text)


def test_a_recording_is_shown_at_its_own_speed(tmp_path: Path) -> None:
    """The last sample stays, with the events before it, until q."""
    begin = time.monotonic()
    with terminal(*COMMAND, recording(tmp_path / "r", 4, 0.3)) as it:
        lines = it.shows(" 00000077 path 10.9.1.1:40000 to 10.9.1.2:443 ended: ETIMEDOUT")
        assert time.monotonic() - begin >= 0.9
        assert "(its end)" in lines[0]
        assert lines[2:4] == ["2.0 MB/s sent, 1.0 kB/s received", "the processes of others"]
        assert lines[4].startswith("MPTCP to 10.9.0.2:4  python/19913")
        assert lines[4].endswith("  2.0 MB/s")
        assert not it.screen.wrapped
        it.press("q")
        assert it.ended() == 0
        assert it.modes == it.before


def test_what_happened_between_samples(tmp_path: Path) -> None:
    """Events of connections with the port, by token or by an address, and of no others; samples that are not
    there. The last three."""
    file = tmp_path / "r"
    with open(file, "wb") as out:
        writer, begin = Writer(out.write), time.monotonic_ns()
        writer.header(interval=1)
        writer.sample(
            Sample(
                time.time(),
                begin,
                [connection(token=5), connection(token=6, remote=["::1", 9], subflows=[])],
                [],
            )
        )
        for token in (5, 6):
            writer.event({"kind": "event", "monotonic": begin, "event": "CLOSED", "token": token})
        for port in (443, 444):
            ends = {"local": ["10.9.9.9", 1], "remote": ["10.9.9.8", port]}
            writer.event({"kind": "event", "monotonic": begin, "event": "CREATED", "token": port, **ends})
        writer.missed(begin, 12)
        writer.sample(Sample(time.time(), begin + 1, [], []))
    with terminal(*COMMAND, str(file), "--port", "443") as it:
        lines = it.shows("12 samples were missed")[21:]
        assert [line[9:] for line in lines] == [
            "00000005 closed (10.9.0.1:40000 to 10.9.0.2:443)",
            "000001bb connected 10.9.9.9:1 to 10.9.9.8:443",
            "12 samples were missed",
        ]


def test_a_recording_is_paused_and_stepped_through(tmp_path: Path) -> None:
    """Then it goes on from there, with the time that is between the samples."""
    with terminal(*COMMAND, recording(tmp_path / "r", 100, 1000, 1000, 1000, 0.5, 1000)) as it:
        it.shows("10.9.0.2:1 ")
        it.press(" ")
        it.shows("PAUSED")
        for n in (2, 3, 4):
            it.press("n")
            it.shows(f"10.9.0.2:{n} ")
        begin = time.monotonic()
        it.press("p")
        it.shows("10.9.0.2:5 ")
        assert time.monotonic() - begin >= 0.5
        assert "PAUSED" not in it.screen.lines[0]


def test_n_and_i_of_a_recording(tmp_path: Path) -> None:
    """So many samples, so far apart: 1,000 s of it are over in no time."""
    file = recording(tmp_path / "r", 20, 1000)
    with terminal(*COMMAND, file, "-i", "0.01", "-n", "5") as it:
        assert it.ended() == 0
        assert "MPTCP to 10.9.0.2:5 " in "".join(it.screen.lines)
        assert it.modes == it.before


def test_keys(tmp_path: Path) -> None:
    """A filter that is typed, the order, help, scrolling to the end; sizes down to 20x5 and up again."""
    connections = [connection(token=n, remote=["10.9.0.2", n], rates=RATES) for n in range(1, 101)]
    with terminal(*COMMAND, recording(tmp_path / "r", 2, 1000, connections=connections)) as it:
        it.shows("1-8 of 100")
        it.press("s")
        it.shows("sort: rate")
        it.press("G")
        it.shows("93-100 of 100")
        it.press("/2:42")
        it.shows("filter: 2:42_")
        it.press("\r")
        it.shows("── 1-1 of 1 ──")
        assert "filter: 2:42 " in it.screen.lines[0]
        assert it.screen.lines[1].startswith("1 connection: ")
        assert it.screen.lines[4].startswith("MPTCP to 10.9.0.2:42  ")
        it.press("?")
        it.shows("q quit")
        for rows, columns in ((5, 20), (50, 160), (24, 80)):
            it.resize(rows, columns)
            it.until(functools.partial(is_last, "s sort  / filter"), "the help line")
            assert not it.screen.wrapped
            assert it.screen.lines[4 if rows > 9 else 2].startswith("MPTCP to 10.9.0.2:42")
        it.press("q")
        assert it.ended() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1)]
)
def test_signals(tmp_path: Path, number: int, code: int) -> None:
    """The terminal is as it was before, and nothing was said."""
    with terminal(*COMMAND, recording(tmp_path / "r", 2, 1000)) as it:
        it.shows("1 connection")
        it.kill(number)
        assert it.ended() == code
        assert it.modes == it.before
        assert b"Traceback" not in it.raw


def test_stopped_and_continued(tmp_path: Path) -> None:
    """^Z and fg: it goes on, and does not hurry through what it would have shown."""
    with terminal(*COMMAND, recording(tmp_path / "r", 100, 0.3)) as it:
        it.shows("1 connection")
        it.press("\x1a")
        it.stopped()
        assert it.modes == it.before
        it.screen.resize(24, 80)
        it.fg()
        it.shows("1 connection")
        it.press("q")
        assert it.ended() == 0
        assert it.modes == it.before


@pytest.mark.parametrize(
    "broken",
    [
        {"subflows": None},
        {"subflows": [{}]},
        {"rates": {"bytes_acked": "x", "bytes_received": 1}},
        {"remote": []},
        {"token": [1]},
        {"troubles": 5},
        {"status": ["\x1b"]},
    ],
    ids=str,
)
def test_records_that_nobody_can_show(tmp_path: Path, broken: Record) -> None:
    """A sentence and exit code 3, on a terminal that was put back."""
    file = recording(tmp_path / "r", 2, 1000, connections=[{**connection(), **broken}])
    with terminal(*COMMAND, file) as it:
        assert it.ended() == 3
        assert it.modes == it.before
        assert b"has a line that cannot be shown" in it.raw
        assert b"Traceback" not in it.raw


@pytest.mark.parametrize("at", [2**62, -(2**62), 10**400, 0], ids=["far", "past", "endless", "zero"])
def test_times_that_nobody_can_wait_for(tmp_path: Path, at: int) -> None:
    """It waits, or says so; a key is answered."""
    file = tmp_path / "r"
    recording(file, 1, 1)
    header, event, sample = file.read_text().splitlines()
    second = json.dumps({**json.loads(sample), "monotonic": at})
    file.write_text("\n".join([header, event, sample, second]) + "\n")
    with terminal(*COMMAND, str(file), "--sort", "peer") as it:
        if at != 10**400:
            it.shows("sort: peer")
            it.press("q")
        assert it.ended() in (0, 3)
        assert b"Traceback" not in it.raw


def test_ascii(tmp_path: Path) -> None:
    """With LANG=C nothing else is written."""
    file = recording(tmp_path / "r", 3, 0.1, connections=[connection(rates=RATES)])
    with terminal(*COMMAND, file, environ={"LANG": "C"}) as it:
        it.shows("###  2.0 MB/s")
        assert it.screen.lines[20].startswith("-- 1-1 of 1 ---")
        assert it.raw.isascii()


@pytest.mark.parametrize("module", ["curses", "_curses"])
def test_a_python_without_curses(tmp_path: Path, module: str) -> None:
    """A sentence, exit code 3."""
    code = f"import sys; sys.modules[{module!r}] = None; from mptcp_sockopt.cli import main; sys.exit(main())"
    with terminal(sys.executable, "-c", code, "watch", recording(tmp_path / "r", 2, 1)) as it:
        assert it.ended() == 3
        assert it.raw.startswith(b"mptcp-sockopt: cannot run here: this Python was built without curses")


# ------------------------------------------------------------------------------------------------ JSON lines


def as_records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_of_a_recording(tmp_path: Path) -> None:
    """As it has them, up to sample N, with a port only."""
    file = recording(tmp_path / "r", 5, 1)
    assert run(*COMMAND, file).stdout == Path(file).read_text()
    found = as_records(run(*COMMAND, file, "-n", "3", "--port", "2").stdout)
    assert [record["kind"] for record in found] == ["header", "sample", "sample", "sample"]
    assert [len(record["connections"]) for record in found[1:]] == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "told"),
    [("", " is empty"), ("x\n", " is no recording"), ('{"kind": "header", "schema": 99}\n', "newer version")],
)
def test_files_that_cannot_be_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    """A sentence and exit code 3, on a terminal and without one."""
    file = tmp_path / "file"
    file.write_text(text)
    assert cli.main(["watch", str(file)]) == 3
    out, err = capsys.readouterr()
    assert (out, told in err) == ("", True)
    with terminal(*COMMAND, str(file)) as it:
        assert it.ended() == 3
        assert told in it.raw.decode()
    assert cli.main(["watch", str(tmp_path / "none")]) == 3


def test_a_recording_without_samples(tmp_path: Path) -> None:
    """There is nothing to draw."""
    file = recording(tmp_path / "file", 0, 1)
    with terminal(*COMMAND, file) as it:
        assert it.ended() == 3
        assert b"has no samples" in it.raw


@pytest.mark.parametrize("words", [["-i", "1e-9"], ["-n", "0"], ["--sort", "x"], ["--port", "0"], ["a", "b"]])
def test_usage_errors(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """Exit 2."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(["watch", *words])
    out, err = capsys.readouterr()
    assert (out, err.startswith("usage: mptcp-sockopt watch ")) == ("", True)


def test_json_lines_of_the_kernel(mptcp: None) -> None:
    """A header, and a sample at each tick with every connection, as a recording has them; then it ends."""

    def watch() -> list[dict[str, Any]]:
        with mptcp_pair(2) as (client, server):
            exchange(client, server)
            found = run(*COMMAND, "-i", "0.2", "-n", "4")
            assert (found.returncode, found.stderr) == (0, "")
            tokens = {mp.mptcp_info(end).token for end in (client, server)}
        header, *others = as_records(found.stdout)
        samples = [record for record in others if record["kind"] == "sample"]  # not "missed": it was busy
        for sample in samples:
            assert {one["token"] for one in sample["connections"]} == tokens
        return [header, *samples]

    header, *samples = in_private_network(watch)
    assert (header["kind"], header["interval"], len(samples)) == ("header", 0.2, 4)
    assert samples[3]["monotonic"] - samples[0]["monotonic"] >= 0.4e9
    assert samples[0]["connections"][0]["rates"] is None
    assert samples[1]["connections"][0]["rates"] is not None


def test_a_sample_is_written_when_it_was_taken(mptcp: None) -> None:
    """Not when a buffer is full, or an hour later with the next."""
    with started(*COMMAND, "-i", "3600", stdout=subprocess.PIPE, env=BUFFERINGS[0]) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["kind"] == "header"
        assert json.loads(process.stdout.readline())["kind"] == "sample"


def test_nobody_reads(mptcp: None) -> None:
    """A closed pipe ends it without a word."""
    with started(*COMMAND, "-i", "0.1", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(30) == 128 + signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_ticks_do_not_drift() -> None:
    """Each tick is a multiple of the interval after the first; those that passed are left out."""
    from mptcp_sockopt.cli import watch

    ticks = watch._Ticks(1000)
    first = ticks.due
    for n in range(1, 4):
        ticks.advance()
        assert ticks.due == first + 1000 * n
    ticks = watch._Ticks(0.001)
    first = ticks.due
    while time.monotonic() < first + 0.0105:
        pass
    ticks.advance()
    assert ticks.due >= first + 0.011
    assert abs((ticks.due - first) / 0.001 - round((ticks.due - first) / 0.001)) < 1e-6


# ---------------------------------------------------------------------------------------------- the kernel's


def test_the_kernels_connections_and_events(mptcp: None) -> None:
    """Live: a connection, its rates, an event as it happens, and its end."""

    def watch() -> None:
        with terminal(*COMMAND, "-i", "0.1") as it:
            it.shows("no MPTCP connections")
            with mptcp_pair(2) as (client, server):
                exchange(client, server)
                port = server.getsockname()[1]
                it.shows(f"MPTCP to 127.0.0.1:{port}  ")
                it.shows(f"MPTCP from 127.0.0.1:{client.getsockname()[1]} to :{port}  ")
                it.shows(" confirmed by the peer")  # the last that happens, and so among the last three
            it.shows("no MPTCP connections")
            it.shows(" closed (127.0.0.1:")
            it.press("q")
            assert it.ended() == 0

    in_private_network(watch)
