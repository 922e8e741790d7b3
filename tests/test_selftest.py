# SPDX-License-Identifier: MIT
"""python -m mptcp_sockopt.selftest, as people and scripts run it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._version import KERNEL
from mptcp_sockopt.selftest import __main__ as selftest

from .net import counters, set_mtu
from .support import (
    Missing,
    has_full_info,
    in_private_network,
    rounds,
    run,
    where_refused,
)

ROOT = Path(__file__).parent.parent
COMMAND = (sys.executable, "-m", "mptcp_sockopt.selftest")
FLAG = {2: [], 10: ["-6"]}


def test_passes_here(family: int, tmp_path: Path) -> None:
    """In another folder; a plan, a line for every case in order, totals. Skips are of what a kernel lacks."""
    found = run(*COMMAND, *FLAG[family], cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout
    version, plan, *lines, totals = found.stdout.splitlines()
    assert version == "TAP version 13"
    count = len(lines)
    assert plan == f"1..{count}"
    assert [re.match(r"ok (\d+) \S", line)[1] for line in lines] == [str(n + 1) for n in range(count)]  # type: ignore[index]
    skips = [line for line in lines if "# SKIP" in line]
    reasons = {re.search(r"# SKIP .*\((.*)\)$", line)[1] for line in skips}  # type: ignore[index]
    assert all(re.fullmatch(r"Linux \d+\.\d+|CONFIG_INET_MPTCP_DIAG", reason) for reason in reasons), reasons
    assert ("Linux 6.5" in reasons) is not has_full_info()
    assert totals == f"# Totals: pass:{count - len(skips)} fail:0 xfail:0 xpass:0 skip:{len(skips)} error:0"


def test_lines_fit_a_terminal() -> None:
    """80 columns, a failing line included; and no name is there twice, over both families either."""
    names = selftest.Plan().names
    assert max(len(f"not ok {len(names)} {name}") for name in names) < 80
    both = run(*COMMAND, "-4", "-6", "--list").stdout.splitlines()
    assert len(set(both)) == len(both) == 2 * len(names)
    assert not [name for name in names if "#" in name or name[0].isdigit()]


def test_list_names_the_cases_and_runs_none() -> None:
    """One a line, as many as the plan."""
    found = run(*COMMAND, "--list")
    assert found.returncode == 0
    assert found.stdout.splitlines() == selftest.Plan().names


def test_without_docstrings_it_is_the_same() -> None:
    """python -OO: the names, the help, a run."""
    command = (sys.executable, "-OO", "-m", "mptcp_sockopt.selftest")
    for words in (["--list"], ["--help"]):
        found, usual = run(*command, *words), run(*COMMAND, *words)
        assert (found.returncode, found.stdout, found.stderr) == (0, usual.stdout, "")


def test_without_docstrings_it_passes(mptcp: None) -> None:
    """And says which case was which."""
    found = run(sys.executable, "-OO", "-m", "mptcp_sockopt.selftest")
    assert (found.returncode, found.stderr) == (0, "")
    assert f"\nok 1 {selftest.Plan().names[0]}\n" in found.stdout


def test_both_families(mptcp: None) -> None:
    """-4 is the default; -4 -6, in any order and number, is one plan of both."""
    both = run(*COMMAND, "-6", "-4", "-6")
    assert (both.returncode, both.stderr) == (0, ""), both.stdout
    names = re.findall(r"^ok \d+ (.*?)(?: # SKIP .*)?$", both.stdout, re.MULTILINE)
    alone = selftest.Plan().names
    assert names == [f"{word}, {name}" for word in ("IPv4", "IPv6") for name in alone]
    assert run(*COMMAND, "-4", "-4", "--list").stdout == run(*COMMAND, "--list").stdout


def test_both_families_where_one_is_not_there(mptcp: None) -> None:
    """Its cases are skipped, with the reason; under --strict they fail."""

    def look() -> list[tuple[int, str]]:
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        found = [run(*COMMAND, "-4", "-6", *words) for words in ([], ["--strict"])]
        return [(one.returncode, one.stdout) for one in found]

    (code, output), (strict, failures) = in_private_network(look)
    count = len(selftest.Plan().names)
    assert code == 0, output
    assert len(re.findall("^ok .* IPv6, .* # SKIP not even plain TCP works over ::1", output, re.M)) == count
    assert strict == 1
    assert len(re.findall("^not ok .* IPv6, ", failures, re.M)) == count


def test_the_version_names_the_kernel() -> None:
    """Ours, and the release whose checks are made."""
    found = run(*COMMAND, "--version")
    expected = f"mptcp-sockopt {mp.__version__}, self test as of Linux {KERNEL}\n"
    assert (found.returncode, found.stdout, found.stderr) == (0, expected, "")


def test_prove_runs_it(tmp_path: Path, mptcp: None) -> None:
    """perl's prove(1), as docs/selftest.md shows: where MPTCP is on, and where it is off."""
    if not shutil.which("prove"):
        raise Missing("prove of perl")
    page = (ROOT / "docs" / "selftest.md").read_text()
    (line,) = re.findall(r"^(prove .*)$", page, re.MULTILINE)
    words = [
        sys.executable if word == "python" else word
        for word in shlex.split(line.replace("'python ", f"'{sys.executable} "))
    ]
    for off, verdict in ((False, "Result: PASS"), (True, "Result: NOTESTS")):

        def look(off: bool = off) -> tuple[int, str]:
            if off:
                Path("/proc/sys/net/mptcp/enabled").write_text("0")
            found = run(*words, cwd=tmp_path)
            return found.returncode, found.stdout + found.stderr

        code, output = in_private_network(look)
        assert code == 0, output
        assert verdict in output
    code, output = switched_off("--exit-zero-on-skip")
    assert (code, output.splitlines()[1][:11]) == (0, "1..0 # SKIP")
    assert switched_off("--exit-zero-on-skip", "--strict")[0] == 1


@pytest.mark.parametrize("limit", [8, *range(12, 18)])
def test_with_few_descriptors_nothing_fails(limit: int, mptcp: None) -> None:
    """It passes, or bails out."""
    shell = 'ulimit -n "$0" && exec "$@" </dev/null'
    found = run("bash", "-c", shell, str(limit), *COMMAND)
    assert "not ok" not in found.stdout
    assert (found.returncode == 3) is ("\nBail out! " in f"\n{found.stdout}{found.stderr}")
    assert found.returncode in (0, 3)
    assert "Traceback" not in found.stderr


def test_without_ports_nothing_fails(mptcp: None) -> None:
    """Three are not enough for all that goes on at once."""

    def look() -> tuple[int, str]:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40002")
        found = run(*COMMAND)
        return found.returncode, found.stdout

    code, output = in_private_network(look)
    assert "not ok" not in output
    assert (code, "Bail out! " in output) == (3, True)


@pytest.mark.parametrize("words", [["--nonsense"], ["extra"], ["-7"]])
def test_usage_errors(words: list[str]) -> None:
    """Exit 2, and the usage on stderr."""
    found = run(*COMMAND, *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("usage: mptcp-sockopt selftest")


def test_help_states_the_exit_codes() -> None:
    """And fits 80 columns."""
    found = run(*COMMAND, "-h", env={**os.environ, "COLUMNS": "80"})
    assert found.returncode == 0
    text = " ".join(found.stdout.split())
    assert "0 pass, 1 fail, 2 usage, 4 skip" in text
    assert f"as of Linux {KERNEL}" in text
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


def test_where_mptcp_falls_back_it_skips(mptcp: None) -> None:
    """Exit 4 (1 under --strict) where no MPTCP option gets through, and where the kernel has given MPTCP up
    for that, though it would get through again."""

    def look() -> list[tuple[int, str]]:
        set_mtu("lo", 68)  # no room for a SYN-ACK with the option
        found = [run(*COMMAND)]
        set_mtu("lo", 65536)
        found += [run(*COMMAND), run(*COMMAND, "--strict")]
        with contextlib.suppress(OSError):
            Path("/proc/sys/net/mptcp/blackhole_timeout").write_text("3600")
        found += [run(*COMMAND, "--exit-zero-on-skip")]
        return [(one.returncode, one.stdout) for one in found]

    (code, output), given_up, strict, again = in_private_network(look)
    why = r"(MPTCP connections fall back to TCP|no MPTCP connection can be made) over 127\.0\.0\.1: .*"
    assert re.fullmatch(rf"TAP version 13\n1\.\.0 # SKIP {why}\n", output), output
    assert code == 4
    assert again[0] == 0
    assert "\nok 1 " in again[1]
    if not Path("/proc/sys/net/mptcp/blackhole_timeout").exists():
        raise Missing("blackhole detection (Linux 6.12)")
    why = (
        r"MPTCP connections fall back to TCP: blackhole detection is active .*net\.mptcp\.blackhole_timeout.*"
    )
    assert re.fullmatch(rf"TAP version 13\n1\.\.0 # SKIP {why}\n", given_up[1]), given_up[1]
    assert re.fullmatch(rf"TAP version 13\n1\.\.1\nnot ok 1 .* # {why}\n", strict[1]), strict[1]
    assert (given_up[0], strict[0]) == (4, 1)


@pytest.mark.parametrize(
    ("call", "arguments", "name"),
    [
        ("getsockname", {}, "getsockname()"),
        ("getpeername", {}, "getpeername()"),
        ("getsockopt", {1: socket.SOL_SOCKET, 2: socket.SO_ERROR}, "getsockopt(SO_ERROR)"),
    ],
    ids=lambda value: value if isinstance(value, str) and "(" not in value else "",
)
def test_a_call_that_is_refused_is_named(
    call: str, arguments: dict[int, int], name: str, mptcp: None
) -> None:
    """By seccomp: exit 4, as no connection can be had without it."""
    found = where_refused([(call, arguments, errno.EPERM)], lambda: run(*COMMAND))
    reason = f"not even plain TCP works over 127.0.0.1: [Errno 1] {name}: Operation not permitted"
    assert (found.returncode, found.stdout) == (4, f"TAP version 13\n1..0 # SKIP {reason}\n")


@pytest.mark.parametrize("size", [8192, 4096, 2304, 1000, 100])
@pytest.mark.parametrize("buffer", ["rmem", "wmem"])
def test_small_buffers_fail_nothing(buffer: str, size: int, mptcp: None) -> None:
    """Of whatever size in bytes: what the cases send, and do not read at once, is less."""

    def look() -> list[str]:
        Path(f"/proc/sys/net/ipv4/tcp_{buffer}").write_text(f"{size} {size} {size}")
        found = [run(*COMMAND) for _ in range(2)]
        return [one.stdout for one in found if one.returncode]

    assert in_private_network(look) == []


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EPERM])
def test_without_netlink_its_cases_are_skipped(number: int, mptcp: None) -> None:
    """As under systemd's RestrictAddressFamilies=: with the true reason, and all others pass."""
    refusal = ("socket", {0: int(socket.AF_NETLINK)}, number)
    found = where_refused([refusal], lambda: run(*COMMAND))
    skips = re.findall(r"^ok \d+ (.*) # SKIP (.*)$", found.stdout, re.M)
    reason = (
        f"no netlink socket can be created here: [Errno {number}] socket(AF_NETLINK): {os.strerror(number)}"
    )
    assert [name for name, why in skips if why == reason] == [
        "sock_diag: a token finds its connection",
        *(name for name, _ in selftest.SANDBOX),
    ]
    assert (found.returncode, " fail:0 " in found.stdout) == (0, True), found.stdout


@pytest.mark.parametrize("family", [2, 10], ids=["v4", "v6"], indirect=False)
def test_subflow_endpoints_do_not_disturb(family: int) -> None:
    """As NetworkManager adds them by default: the connection under test gets a second subflow."""

    def look() -> list[str]:
        testing.add_address("fd00::2")
        testing.add_endpoint("127.0.0.2")
        testing.add_endpoint("fd00::2")
        problems = []
        for _ in range(rounds(2)):
            found = run(*COMMAND, *FLAG[family])
            if found.returncode:
                problems.append(found.stdout)
        # Not every one is done before its connection ends.
        assert counters()["MPJoinAckRx"] >= 1, "no subflow came, so this test has shown nothing"
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
