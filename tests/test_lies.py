# SPDX-License-Identifier: MIT
"""A kernel that lies (tests/lies): each reader gives a right value or an OSError, in time and memory."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .lies import __main__ as lies
from .lies.__main__ import Outcome
from .lies.readers import READERS, VARIATIONS
from .support import Missing

ROOT = Path(__file__).resolve().parent.parent


def table(*options: str, timeout: float) -> dict[str, dict[str, Outcome]]:
    """What became of each pair."""
    command = [sys.executable, "-m", "tests.lies", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode == lies.MISSING:
        raise Missing(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {lie: {reader: Outcome(*outcome) for reader, outcome in row.items()} for lie, row in rows}


def check(found: dict[str, dict[str, Outcome]], readers: set[str]) -> None:
    pairs = [(lie, reader, outcome) for lie, row in found.items() for reader, outcome in row.items()]
    assert [pair for pair in pairs if pair[2].kind not in lies.RIGHT] == []
    assert {outcome.kind for outcome in found["nothing"].values()} == {"value", "OSError"}
    assert set(found["nothing"]) == readers
    # Each reader was lied to, and refused to believe some of it.
    for reader in readers:
        kinds = {outcome.kind for lie, asked, outcome in pairs if asked == reader}
        assert "OSError" in kinds, reader


def test_no_lie_misleads_a_reader(mptcp: None) -> None:
    """Of the short table: no other value, exception, crash, hang or stale byte."""
    check(table("--short", "--first", timeout=300), set(READERS) - set(VARIATIONS))


@pytest.mark.slow
def test_no_lie_of_all_misleads_a_reader(mptcp: None) -> None:
    """Of the whole table."""
    check(table(timeout=1800), set(READERS))


def test_help_runs_no_lie() -> None:
    """It shows the options; a word that is no option is a usage error."""
    command = [sys.executable, "-m", "tests.lies"]
    shown = subprocess.run(
        [*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert [option for option in lies.Options._fields if f"  --{option} " not in shown.stdout] == []
    assert "pairs:" not in shown.stdout
    wrong = subprocess.run([*command, "--all"], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert wrong.returncode == 2


def test_what_is_wrong_is_seen() -> None:
    """Another value, another errno, one who believes what is to be refused, another exception."""
    truth = Outcome("value", [1])
    assert lies.judge("recvmsg: NOOP once", "mptcp_diag", Outcome("value", [1]), truth).kind == "value"
    for lie, found in (
        ("recvmsg: NOOP once", Outcome("value", [2])),
        ("recvmsg: NOOP once", Outcome("OSError", errno.EPROTO)),
        ("recvmsg: MSG_TRUNC", Outcome("OSError", errno.EPROTO)),
        ("recvmsg: MSG_TRUNC", truth),
        ("recvmsg: mptcp_info of 40", Outcome("value", [2])),
        ("recvmsg: DONE at once", Outcome("value", [2])),
        ("MPTCP_INFO: another token", Outcome("WRONG", "ValueError: planted")),
    ):
        assert lies.judge(lie, "mptcp_diag", found, truth).kind == "WRONG", lie


def test_limits_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of memory, CPU time and wall time; and a crash."""

    monkeypatch.setattr(lies, "SECONDS", 0.2)
    monkeypatch.setattr(lies, "CPU_DEADLINE", 1)

    def bloat() -> Outcome:
        assert len(b"x" * (lies.BYTES + (16 << 20)))
        return Outcome("value")

    def work() -> Outcome:
        start = time.process_time()
        while time.process_time() - start < lies.SECONDS * 1.1:
            pass
        return Outcome("value")

    def never_end() -> Outcome:
        while True:
            pass

    def wait() -> Outcome:
        signal.pause()
        return Outcome("value")

    def crash() -> Outcome:
        os.kill(os.getpid(), signal.SIGKILL)
        return Outcome("value")

    assert lies.in_child(lambda: Outcome("value", 1)) == Outcome("value", 1)
    assert lies.in_child(crash).kind == "CRASH"
    if not lies.under_asan():
        assert (found := lies.in_child(work)).kind == "WRONG", found
        assert (found := lies.in_child(bloat)).kind == "WRONG", found
        assert lies.in_child(never_end).kind == "HANG"
    monkeypatch.setattr(lies, "DEADLINE", 0.2)
    assert lies.in_child(wait).kind == "HANG"
