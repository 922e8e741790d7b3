# SPDX-License-Identifier: MIT
"""python -m mptcp_sockopt.selftest, as people and scripts run it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_sockopt import _sandbox, selftest

from .support import has_full_info, in_private_network, rounds, run

COMMAND = (sys.executable, "-m", "mptcp_sockopt.selftest")
FLAG = {2: [], 10: ["-6"]}


def test_passes_here(family: int, tmp_path: Path) -> None:
    """In another folder; a plan, a line for every case in order, totals. Skips are of what 6.5 brought."""
    found = run(*COMMAND, *FLAG[family], cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout
    version, plan, *lines, totals = found.stdout.splitlines()
    assert version == "TAP version 13"
    count = len(lines)
    assert plan == f"1..{count}"
    assert [re.match(r"ok (\d+) \S", line)[1] for line in lines] == [str(n + 1) for n in range(count)]  # type: ignore[index]
    skips = [line for line in lines if "# SKIP" in line]
    assert all(re.search(r"# SKIP .*\(Linux 6\.5\)$", line) for line in skips), skips
    assert bool(skips) is not has_full_info()
    assert totals == f"# Totals: pass:{count - len(skips)} fail:0 xfail:0 xpass:0 skip:{len(skips)} error:0"


def test_lines_fit_a_terminal() -> None:
    """80 columns, a failing line included."""
    names = selftest.Plan().names
    assert max(len(f"not ok {len(names)} {name}") for name in names) < 80
    assert len(set(names)) == len(names)
    assert not [name for name in names if "#" in name or name[0].isdigit()]


def test_list_names_the_cases_and_runs_none() -> None:
    """One a line, as many as the plan."""
    found = run(*COMMAND, "--list")
    assert found.returncode == 0
    assert found.stdout.splitlines() == selftest.Plan().names


@pytest.mark.parametrize("words", [["--nonsense"], ["extra"], ["-7"]])
def test_usage_errors(words: list[str]) -> None:
    """Exit 2, and the usage on stderr."""
    found = run(*COMMAND, *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("usage: python -m mptcp_sockopt.selftest")


def test_help_states_the_exit_codes() -> None:
    """And fits 80 columns."""
    found = run(*COMMAND, "-h", env={**os.environ, "COLUMNS": "80"})
    assert found.returncode == 0
    assert "0 pass, 1 fail, 2 usage, 4 skip" in " ".join(found.stdout.split())
    assert max(map(len, found.stdout.splitlines())) <= 80


def switched_off(*words: str) -> tuple[int, str]:
    def look() -> tuple[int, str]:
        Path("/proc/sys/net/mptcp/enabled").write_text("0")
        found = run(*COMMAND, *words)
        return found.returncode, found.stdout

    return in_private_network(look)


def test_where_mptcp_is_switched_off_it_skips(mptcp: None) -> None:
    """Exit 4 with the reason; exit 1 under --strict."""
    code, output = switched_off()
    assert code == 4
    assert re.fullmatch(r"TAP version 13\n1\.\.0 # SKIP .*net\.mptcp\.enabled=0.*\n", output)
    code, output = switched_off("--strict")
    assert code == 1
    assert re.fullmatch(r"TAP version 13\n1\.\.1\nnot ok 1 .* # .*net\.mptcp\.enabled=0.*\n", output)


def test_without_a_loopback_it_skips(mptcp: None) -> None:
    """No IPv6 there: exit 4 with the reason."""

    def look() -> tuple[int, str]:
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        found = run(*COMMAND, "-6")
        return found.returncode, found.stdout

    code, output = in_private_network(look)
    assert code == 4
    assert "not even plain TCP works over ::1" in output


@pytest.mark.parametrize("family", [2, 10], ids=["v4", "v6"], indirect=False)
def test_subflow_endpoints_do_not_disturb(family: int) -> None:
    """As NetworkManager adds them by default: the connection under test gets a second subflow."""

    def look() -> list[str]:
        _sandbox.add_address("fd00::2")
        _sandbox.add_endpoint("127.0.0.2")
        _sandbox.add_endpoint("fd00::2")
        problems = []
        for _ in range(rounds(5)):
            found = run(*COMMAND, *FLAG[family])
            if found.returncode:
                problems.append(found.stdout)
        joins = re.findall(r"MPTcpExt: (.*)", Path("/proc/net/netstat").read_text())
        counts = dict(zip(joins[0].split(), joins[1].split(), strict=True))
        # Not every one is done before its connection ends.
        assert int(counts["MPJoinAckRx"]) >= 1, "no subflow came, so this test has shown nothing"
        return problems

    assert in_private_network(look) == []


def test_a_closed_pipe_ends_it_in_silence(tmp_path: Path, mptcp: None) -> None:
    """python -m mptcp_sockopt.selftest | head -n 1"""
    child = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.readline() == "TAP version 13\n"
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=30) == 128 + signal.SIGPIPE
    assert errors == ""
