# SPDX-License-Identifier: MIT
"""mptcp-sockopt events: words, lines of JSON, which events, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli
from mptcp_sockopt.cli import _event_words as words
from mptcp_sockopt.cli import events as command
from mptcp_sockopt.cli._recording import event_record

from ..support import (
    DEADLINE,
    become_nobody,
    exchange,
    in_private_network,
    mptcp_pair,
    needs_root,
    started,
)
from ..test_events import Kind, listened, privately, subscribed

ROOT = Path(__file__).parents[2]
MODULE = (sys.executable, "-m", "mptcp_sockopt", "events")
PAGE = (ROOT / "docs" / "events.md").read_text()
ONE, OTHER, THIRD = ("10.9.0.1", 36708), ("10.9.0.2", 443), ("fd00::1", 80, 0, 0)


@contextlib.contextmanager
def following(*options: str) -> Iterator[subprocess.Popen[str]]:
    """The command, subscribed."""
    with started(*MODULE, *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr
        first = process.stderr.readline()
        if "cannot run here" in first:
            mp.mptcp_events().close()  # says why
        assert first == "mptcp-sockopt events: Ctrl-C ends it\n"
        yield process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, out, errors


# ----------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (mp.MPTCPEvent(1, 0, 1, local=ONE, remote=OTHER), "connected 10.9.0.1:36708 to 10.9.0.2:443"),
        (
            mp.MPTCPEvent(1, 0, 1, local=OTHER, remote=THIRD, server_side=True, flags=2),
            "accepted [fd00::1]:80 at 10.9.0.2:443",
        ),
        (
            mp.MPTCPEvent(1, 0, 1, local=ONE, remote=OTHER, flags=1),
            "connected 10.9.0.1:36708 to 10.9.0.2:443, whose initial address takes no joins",
        ),
        (mp.MPTCPEvent(2, 0, 1, local=ONE, remote=OTHER), "confirmed by the peer"),
        (mp.MPTCPEvent(3, 0, 1), "closed (10.9.0.1:36708 to 10.9.0.2:443)"),
        (
            mp.MPTCPEvent(6, 0, 1, remote=THIRD, remote_id=7),
            "peer announced [fd00::1]:80, id 7 (of 10.9.0.2:443)",
        ),
        (mp.MPTCPEvent(7, 0, 1, remote_id=7), "peer withdrew its address with id 7 (of 10.9.0.2:443)"),
        (mp.MPTCPEvent(10, 0, 1, local=ONE, remote=OTHER), "path 10.9.0.1:36708 to 10.9.0.2:443 joined"),
        (
            mp.MPTCPEvent(10, 0, 1, local=ONE, remote=OTHER, backup=True, ifindex=3),
            "path 10.9.0.1:36708 to 10.9.0.2:443 joined as backup, bound to interface 3",
        ),
        (mp.MPTCPEvent(11, 0, 1, local=ONE, remote=OTHER), "path 10.9.0.1:36708 to 10.9.0.2:443 ended"),
        (
            mp.MPTCPEvent(
                11, 0, 1, local=ONE, remote=OTHER, error=errno.ECONNRESET, reset_reason=6, reset_flags=0
            ),
            "path 10.9.0.1:36708 to 10.9.0.2:443 ended: ECONNRESET, reset: middlebox interference",
        ),
        (
            mp.MPTCPEvent(11, 0, 1, local=ONE, remote=OTHER, error=250, reset_reason=99, reset_flags=1),
            "path 10.9.0.1:36708 to 10.9.0.2:443 ended: 250, reset: reason 99 (transient)",
        ),
        (
            mp.MPTCPEvent(13, 0, 1, local=ONE, remote=OTHER, backup=True),
            "path 10.9.0.1:36708 to 10.9.0.2:443: peer made it a backup",
        ),
        (
            mp.MPTCPEvent(13, 0, 1, local=ONE, remote=OTHER, backup=False),
            "path 10.9.0.1:36708 to 10.9.0.2:443: peer made it no backup any more",
        ),
        (mp.MPTCPEvent(15, 0, local=OTHER), "listening at 10.9.0.2:443"),
        (mp.MPTCPEvent(16, 0, local=OTHER), "no longer listening at 10.9.0.2:443"),
        (mp.MPTCPEvent(99, 0, 1), "event 99, which is not known here"),
        (mp.MPTCPEvent(-1, 0), "events were lost here: they came faster than they were read"),
    ],
    ids=lambda part: part.replace(" ", "_") if isinstance(part, str) else "",
)
def test_every_event_has_words(event: mp.MPTCPEvent, told: str) -> None:
    """One line, which says no more than was told."""
    record = json.loads(json.dumps(event_record(event)))
    assert words.in_words(record, (ONE, OTHER)) == told
    assert words.token_of(record) == ("00000001" if event.token else "-")


def test_every_kind_and_reason_has_words() -> None:
    """Those of this version; RFC 8684 has reasons 0 to 6."""
    for kind in Kind:
        assert "not known here" not in words.in_words(event_record(mp.MPTCPEvent(kind, 0)))
    assert list(words.RESET_REASONS) == list(range(7))
    assert all(
        f"{number} {reason}" in " ".join(PAGE.split())
        for number, reason in words.RESET_REASONS.items()
        if number
    )


@pytest.mark.parametrize("kind", [*(kind.name for kind in Kind), "NEW\x1b[2J", 99])
def test_a_record_of_a_file_may_be_anything(kind: object) -> None:
    """Parts that are missing, or of another type; control characters are escaped."""
    odd = {
        "local": ["\x1b[2J", "\n"],
        "remote": None,
        "error": "\r",
        "reset_reason": "\0",
        "reset_flags": "x",
    }
    for record in (
        {"event": kind},
        {"event": kind, **odd},
        {"event": kind, "remote": ["a\tb", 1], "token": "1"},
    ):
        assert words.in_words(record, (("\x07", 1), ("b", 2))).isprintable()
        assert words.token_of(record) == "-"


# ----------------------------------------------------------------------------------------------- lines


@privately
def test_a_line_for_each_event(mptcp: None) -> None:
    """Clock, token and words; flushed at once, though the output is a pipe."""
    with subscribed(), following() as process:
        assert process.stdout
        ((_, port), _) = listened()
        for told in ("listening at", "no longer listening at"):
            line = process.stdout.readline()
            assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}} -        {told} 127\.0\.0\.1:{port}\n", line), line
        with mptcp_pair(socket.AF_INET) as (client, server):
            exchange(client, server)
            ends = [":".join(map(str, end)) for end in (client.getsockname(), client.getpeername())]
            token = f"{mp.mptcp_info(client).token:08x}"
        lines = [process.stdout.readline() for _ in range(8)]
        mine = [line.split(" ", 2)[2].strip() for line in lines if line.split()[1] == token]
        assert mine == [
            f"connected {ends[0]} to {ends[1]}",
            "confirmed by the peer",
            f"closed ({ends[0]} to {ends[1]})",
        ]
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "", "")


@privately
def test_lines_of_json(mptcp: None) -> None:
    """The parts of an event by name, the clock of the wall and the monotonic one."""
    with subscribed() as events, following("--json", "-n", "2") as process:
        told = listened()
        code, out, errors = ended(process)
        found = events.read()
    assert (code, errors) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == [kind.name for kind, _ in told]
    for line, event in zip(lines, found, strict=True):
        assert line.keys() == {"schema", "time", "kind", "event", "monotonic", *event.asdict()}
        assert (line["schema"], line["kind"]) == (1, "event")
        assert abs(line["time"] - os.stat("/proc/self").st_atime) < 3600
        assert line["local"] == list(event.local or ())
        assert (line["token"], line["family"]) == (None, event.family)


@privately
def test_one_port(mptcp: None) -> None:
    """Its connections, also the older ones, whose end has no address, and its listeners."""
    with (
        subscribed(),
        mptcp_pair(socket.AF_INET) as (client, server),
        mptcp_pair(socket.AF_INET) as (other, _),
    ):
        exchange(client, server)
        port = client.getpeername()[1]
        tokens = {mp.mptcp_info(sock).token for sock in (client, server)}
        with following("--json", "--port", str(port), "-n", "2") as process:
            other.close()
            listened()
            client.close()
            server.close()
            code, out, errors = ended(process)
    assert (code, errors) == (0, "")
    assert {json.loads(line)["token"] for line in out.splitlines()} == tokens
    assert {json.loads(line)["event"] for line in out.splitlines()} == {"CLOSED"}


def test_a_loss_is_told(
    mptcp: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where it was, whatever the port; and the connections are looked for again."""
    looked: list[bool] = []

    def look(_: object) -> None:
        looked.append(True)
        listened(50 * (len(looked) == 1))

    events = mp.mptcp_events
    monkeypatch.setattr(command._Connections, "look", look)

    def follow() -> int:
        with subscribed():
            pass
        monkeypatch.setattr(mp, "mptcp_events", lambda: events(buffer=4096))
        code = cli.main(["events", "-n", "1", "--port", "1"])
        assert len(looked) == 2
        return code

    assert in_private_network(follow) == 0
    told = capfd.readouterr()
    assert told.out.endswith(" -        events were lost here: they came faster than they were read\n")
    assert told.out.count("\n") == 1


# ------------------------------------------------------------------------------------------ how it ends


@privately
def test_it_ends_after_its_time(mptcp: None) -> None:
    """With 0, whether there was an event or not."""
    with following("--for", "0.05") as process:
        assert ended(process) == (0, "", "")


@privately
def test_it_ends_when_nobody_reads(mptcp: None) -> None:
    """At once, without waiting for an event; nothing is said."""
    with following() as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(DEADLINE) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


@privately
def test_a_full_disk_is_told(mptcp: None) -> None:
    """Exit 3 and one sentence."""
    with subscribed():
        shell = ("bash", "-c", 'exec "$@" >/dev/full', "bash", *MODULE)
        with started(*shell, stderr=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stderr
            process.stderr.readline()
            listened()
            _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 3
    assert errors == "mptcp-sockopt: cannot run here: standard output: [Errno 28] No space left on device\n"


@privately
def test_it_goes_on_where_nothing_can_be_said(mptcp: None) -> None:
    """Standard error is full: the events are written."""
    with subscribed():
        shell = ("bash", "-c", 'exec "$@" 2>/dev/full', "bash", *MODULE, "--for", "0.05")
        with started(*shell, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.communicate(timeout=DEADLINE)[0] == ""
    assert process.returncode == 0


def test_nobody_is_told_who_may(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 3, a sentence, and nothing on stdout."""
    needs_root()

    def as_nobody() -> int:
        mp.mptcp_events().close()
        become_nobody()
        return cli.main(["events"])

    assert in_private_network(as_nobody) == 3
    told = capfd.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"mptcp-sockopt: cannot run here: mptcp_events\(\): only root, or .*\n", told.err)


@pytest.mark.parametrize(
    "options", ["--port 0", "--port http", "--for 0", "--for nan", "-n 0", "-n x", "--nonsense", "word"]
)
def test_usage_errors(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and a sentence on stderr."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["events", *options.split()])
    told = capsys.readouterr()
    assert (caught.value.code, told.out) == (2, "")
    assert told.err.splitlines()[-1].startswith("mptcp-sockopt events: error: ")


def test_help_fits() -> None:
    """79 columns."""
    assert max(map(len, command.parser().format_help().splitlines())) <= 79


def test_the_lines_of_the_page() -> None:
    """Are such lines: each comes from the words of its event."""
    lines = re.findall(r"^\d\d:\d\d:\d\d\.\d{3} [0-9a-f]{8} (.*)$", PAGE, re.MULTILINE)
    path: dict[str, Any] = {"local": ("10.9.1.1", 40871), "remote": ("10.9.1.2", 443)}
    shown = [
        mp.MPTCPEvent(1, 0, local=ONE, remote=OTHER),
        mp.MPTCPEvent(2, 0),
        mp.MPTCPEvent(6, 0, remote=path["remote"], remote_id=1),
        mp.MPTCPEvent(10, 0, **path),
        mp.MPTCPEvent(11, 0, **path, error=errno.ETIMEDOUT),
        mp.MPTCPEvent(3, 0),
    ]
    assert lines == [words.in_words(event_record(event), (ONE, OTHER)) for event in shown]
    assert max(map(len, lines)) + 22 <= 79
