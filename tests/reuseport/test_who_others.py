# SPDX-License-Identifier: MIT
"""who: other programs and other sockets on a port, and what it notes of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from reuseport import _diag, _net, _programs

from ..support import Missing, in_private_network, until
from .test_who import PORT, V4, V6, another_process, become_nobody, group, needs_root, who

# ------------------------------------------------------------------------------------- other programs


@contextlib.contextmanager
def program(
    words: str = "", directory: str = "/", mptcp: bool = False, host: str = "127.0.0.1"
) -> Iterator[int]:
    """A process of its own command line that listens on the port; its pid."""
    code = (
        f"import socket, sys; s = socket.socket({int(V6 if ':' in host else V4)}, 1, int(sys.argv[1]));"
        f"s.setsockopt(1, 15, 1); s.bind(('{host}', {PORT})); s.listen(); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(262 if mptcp else 0), *filter(None, [words])]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=directory) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid  # it ends when its input does


@pytest.mark.parametrize("speaks", ["tcp", "mptcp"])
def test_strangers(mptcp: None, speaks: str, tmp_path: Path) -> None:
    """Two programs on one port: each is told of the other, whatever they speak."""
    is_mptcp = speaks == "mptcp"

    def look() -> tuple[int, str, list[int]]:
        with program("one", mptcp=is_mptcp) as one, program("two", str(tmp_path), is_mptcp) as two:
            return *who(str(PORT)), [one, two]

    code, out, (one, two) = in_private_network(look)
    assert code == 1
    assert out.splitlines()[-1] == "WHO: FAIL: TCP port 5000: STRANGERS"
    for pid in (one, two):
        assert f"STRANGERS: pid {pid} of another program" in out


def test_workers_are_no_strangers(tmp_path: Path) -> None:
    """Other words in one directory, the same words in two, and a fork: one program."""

    def look() -> list[tuple[int, str]]:
        found = []
        for others in (("one", "/"), ("two", "/")), (("one", "/"), ("one", str(tmp_path))):
            with program(*others[0]), program(*others[1]):
                found.append(who(str(PORT)))
        with group(), another_process(group):
            found.append(who(str(PORT)))
        return found

    for code, out in in_private_network(look):
        assert (code, out.splitlines()[-1]) == (0, "WHO: PASS: TCP port 5000: 2 listening, nothing wrong")


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("1:name=systemd:/system.slice/nginx.service/worker\n0::/\n", "nginx.service"),
        ("0::/system.slice/system-app.slice/app@2.service\n", "app@.service"),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/mine.service\n", "mine.service"),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/shell.scope\n", ""),
        ("0::/user.slice/user-7.slice/session-3.scope\n", ""),
        ("5:memory:/a.service\n0::/\n", ""),
        ("", ""),
    ],
)
def test_the_service_of_a_process(groups: str, unit: str) -> None:
    """As its control group is named; a session is none, and instances of a template are one."""
    assert _programs.unit_of(groups) == unit


def test_two_services_are_strangers() -> None:
    """With one executable in one directory, too; not if only one of them is a service."""
    one, other = (_programs.Program("/bin/a", "/", b"a", unit) for unit in ("one.service", "other.service"))
    assert _programs.are_strangers(one, other)
    assert not _programs.are_strangers(one, one)
    assert not _programs.are_strangers(one, other._replace(unit=""))
    assert str(other) == "a in /, other.service"


@needs_root
def test_strangers_at_two_addresses_share_nothing(tmp_path: Path) -> None:
    """And one that may not be looked at is not judged."""

    def look() -> list[str]:
        with program("one"):
            with group("127.0.0.2"):
                found = [who(str(PORT))[1]]
            with program("two", str(tmp_path)):
                become_nobody()
                return [*found, who(str(PORT))[1]]

    for out in in_private_network(look):
        assert "STRANGERS" not in out


# --------------------------------------------------------------------------- a port that nobody listens on


@contextlib.contextmanager
def bound(family: int, mptcp: bool) -> Iterator[str]:
    with _net.bind((_net.LOOPBACK[family], PORT), family=family, mptcp=mptcp) as sock:
        if not _diag.holders(PORT):
            raise Missing("a kernel that tells sockets that are bound only (Linux 6.8)")
        yield f"{_net.url(*_net.name(sock))} bound only: pid {os.getpid()} ("


@contextlib.contextmanager
def local_port_of_a_client(family: int, mptcp: bool) -> Iterator[str]:
    with (
        _net.listen((_net.LOOPBACK[family], PORT + 1), family=family, mptcp=mptcp) as server,
        _net.bind((_net.LOOPBACK[family], PORT), family=family, mptcp=mptcp) as client,
    ):
        client.connect(_net.name(server))
        ends = [_net.url(*_net.name(end)) for end in (client, server)]
        yield f"{ends[0]} connected to {ends[1]}: pid {os.getpid()} ("


@contextlib.contextmanager
def time_wait(family: int, mptcp: bool) -> Iterator[str]:
    with (
        _net.listen((_net.LOOPBACK[family], PORT), family=family, mptcp=mptcp) as server,
        socket.create_connection(_net.name(server), 5),
        server.accept()[0] as accepted,
    ):
        accepted.close()
    until(lambda: [x.state for x in _diag.holders(PORT)] == [mp.TCPState.TIME_WAIT], "TIME_WAIT")
    yield "1 in TIME_WAIT, for "


@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
@pytest.mark.parametrize("case", [bound, local_port_of_a_client, time_wait])
def test_what_has_the_port_is_named(
    mptcp: None, family: int, protocol: str, case: Callable[[int, bool], Any]
) -> None:
    """bind() fails although nobody listens: the verdict says so, and a line which socket of which process."""

    def look() -> tuple[int, str, str, Any]:
        with case(family, protocol == "mptcp") as expected:
            with pytest.raises(OSError, match="in use"):
                _net.bind((_net.LOOPBACK[family], PORT), family=family, mptcp=False)
            return *who(str(PORT)), expected, json.loads(who(str(PORT), "--json")[1])

    code, out, expected, data = in_private_network(look)
    line, verdict = out.splitlines()
    assert line.startswith(expected)
    assert (code, verdict) == (1, "WHO: FAIL: TCP port 5000: no listener, but other sockets have the port")
    assert len(data["held"]) == 1


def test_many_connections_are_not_all_listed() -> None:
    """Ten, and how many more; beside a listener only their number."""

    def look() -> list[str]:
        with contextlib.ExitStack() as stack:
            server = _net.listen(("127.0.0.1", PORT))
            for _ in range(25):
                stack.enter_context(socket.create_connection(("127.0.0.1", PORT), 5))
                stack.enter_context(server.accept()[0])
            found = [who(str(PORT))[1]]
            server.close()
            return [*found, who(str(PORT))[1]]

    beside, alone = (out.splitlines() for out in in_private_network(look))
    assert [line for line in beside if line.startswith("connected: 25 of pid")] != []
    assert len(beside) == 5
    assert len(alone) == 12
    assert alone[10] == "and 15 more"


def test_a_listener_does_not_hide_what_else_has_the_port() -> None:
    """A socket that is bound only, and a connection in TIME_WAIT."""

    def look() -> tuple[str, Any]:
        reuse = _net.Reuse.ADDR
        with _net.bind(("127.0.0.2", PORT), reuse), _net.listen(("0.0.0.0", PORT), reuse) as server:
            with socket.create_connection(("127.0.0.1", PORT), 5) as client, server.accept()[0] as accepted:
                accepted.close()
                assert client.recv(1) == b""
            until(lambda: mp.TCPState.TIME_WAIT in [x.state for x in _diag.holders(PORT)], "TIME_WAIT")
            return who(str(PORT))[1], json.loads(who(str(PORT), "--json")[1])

    out, data = in_private_network(look)
    lines = out.splitlines()
    assert re.fullmatch(r"127\.0\.0\.2:5000 bound only: pid \d+ \(\S+\)", lines[3])
    assert re.fullmatch(r"1 in TIME_WAIT, for \d+ s more", lines[4])
    assert lines[5] == "WHO: PASS: TCP port 5000: 1 listening, nothing wrong"
    kinds = {held["kind"]: held for held in data["held"]}
    assert set(kinds) == {"bound only", "closed"}
    assert kinds["bound only"]["options"]["reuseaddr"] is True
    assert kinds["bound only"]["owners"] != []
    assert 0 < kinds["closed"]["seconds"] <= 60


# ----------------------------------------------------------------------------------------------- notes


def test_the_ipv6_wildcard_takes_ipv4_too() -> None:
    """A note, and no failure; none with IPV6_V6ONLY."""

    def look() -> list[tuple[int, str]]:
        found = []
        for v6only in (False, True):
            with group("::", V6, v6only):
                found.append(who(str(PORT)))
        return found

    (dual, told), (v6only, nothing) = in_private_network(look)
    assert (dual, v6only) == (0, 0)
    assert "note: [::]:5000 takes IPv4 too: it is without IPV6_V6ONLY" in told
    assert "note:" not in nothing


@pytest.mark.parametrize("strangers", [True, False])
def test_one_name_of_two_programs(strangers: bool, tmp_path: Path) -> None:
    """localhost is ::1 first: a note, if another program is at 127.0.0.1."""

    def look() -> tuple[int, str, list[int]]:
        elsewhere = str(tmp_path) if strangers else "/"
        with program("one", host="::1") as one, program("two", elsewhere) as two:
            return *who(str(PORT)), [one, two]

    code, out, (one, two) = in_private_network(look)
    assert code == 0
    words = " ".join(out.split())
    told = re.search(
        r"note: (\S+, )*localhost(, \S+)* is two programs: ::1, which clients try first, "
        rf"is pid {one} \(\S+\); 127.0.0.1 is pid {two} \(",
        words,
    )
    assert bool(told) == strangers
