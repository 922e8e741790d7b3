# SPDX-License-Identifier: MIT
"""who: what it sees of listeners and owners, and what it says of the rest; for root and for nobody."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes
from reuseport import _diag, _net, _programs

from ..support import Missing, child, in_private_network, listen_at, until, where_refused
from ..test_ports import withhold
from ..test_processes import leaderless, only
from .test_who import PORT, V4, V6, another_process, become_nobody, group, needs_root, who


@needs_root
def test_what_cannot_be_seen_is_blank_and_said() -> None:
    """As another user: listeners and queues, no owner, no option; the verdict is about the rest."""

    def look() -> tuple[int, str]:
        with another_process(group):
            become_nobody()
            return who(str(PORT))

    code, out = in_private_network(look)
    _, row, *note, verdict = out.splitlines()
    assert row.split() == ["127.0.0.1:5000", "tcp", "0/4096", "0"]
    assert re.match(
        r"1 of 1: owner not seen: no process in /proc is seen to have it; "
        r"this user may not examine \d+ of \d+ processes \(no ptrace permission\)$",
        " ".join(" ".join(note).split()),
    )
    assert (code, verdict) == (3, "WHO: TCP port 5000: 1 listening, 1 not seen whole: NOT PROVEN")


def test_a_listener_of_no_process(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own of an endpoint with a port: for root, no lack of rights is the reason."""

    def look() -> tuple[str, Any]:
        listen_at("127.0.0.1", PORT)
        only(monkeypatch, os.getpid())
        return who(str(PORT))[1], json.loads(who(str(PORT), "--json")[1])

    out, data = in_private_network(look)
    _, row, note, verdict = out.splitlines()
    assert row.split() == ["127.0.0.1:5000", "mptcp", "0/1024", "0"]
    assert re.fullmatch(r" +the kernel's own, for the MPTCP endpoint \d+", note)
    assert verdict == "WHO: TCP port 5000: 1 listening, nothing wrong: PASS"
    (listener,) = data["listeners"]
    assert (listener["protocol"], listener["owners"], listener["options"]) == ("mptcp", [], None)
    assert (listener["unseen"], listener["kernel"]) == (None, note.strip())


@pytest.mark.parametrize("where", ["in flight", "gone from /proc"])
def test_for_root_too_the_reason_is_true(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a listener in a message that waits, and of one that no process has: no lack of rights is said."""

    def look() -> tuple[int, str]:
        only(monkeypatch, os.getpid())
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        if where == "in flight":
            with group() as listener:
                socket.send_fds(ends[0], [b"x"], [listener.fileno()])
            return who(str(PORT))
        with another_process(group):
            return who(str(PORT))

    code, out = in_private_network(look)
    words = " ".join(out.split())
    assert "owner not seen: no process in /proc is seen to have it; " in words
    flying = re.search(
        r"it may be among the descriptors on their way to pid \d+ \(.*\): 1 wait in its unix", words
    )
    assert bool(flying) == (where == "in flight")
    assert ("it is the kernel's own, on its way through a unix socket" in words) == (not flying)
    assert "permission" not in words
    assert (code, out.splitlines()[-1]) == (
        3,
        "WHO: TCP port 5000: 1 listening, 1 not seen whole: NOT PROVEN",
    )


def test_a_listener_of_another_pid_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, what is outside is not in /proc, and that is the reason that is given."""

    def look() -> str:
        monkeypatch.setattr(processes, "_pids", lambda: [os.getpid()])
        monkeypatch.setattr(processes, "_FIRST_PID_NAMESPACE", "pid:[1]")
        with another_process(group):
            return " ".join(who(str(PORT))[1].split())

    out = in_private_network(look)
    assert "no process in /proc is seen to have it; processes outside this PID namespace are not in" in out
    assert "kernel's own" not in out


def mount_over_proc(kind: bytes, options: bytes) -> None:
    """In a mount namespace of its own, which ends with the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec_private = 0x20000, 0x4000 | 0x40000
    if (
        libc.unshare(clone_newns)
        or libc.mount(None, b"/", None, ms_rec_private, None)
        or libc.mount(kind, b"/proc", kind, 0, options)
    ):
        raise Missing(f"a /proc mounted anew: {os.strerror(ctypes.get_errno())}")


@needs_root
@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (b"proc", b"hidepid=2", "/proc hides processes from this user (hidepid=invisible)"),
        (b"proc", b"hidepid=4", "/proc hides processes from this user (hidepid=ptraceable)"),
        (b"tmpfs", b"", "/proc is not mounted"),
    ],
)
def test_a_proc_that_does_not_show_processes_is_said(kind: bytes, options: bytes, words: str) -> None:
    """And no other reason is given for an owner that is not seen, unless a process changes meanwhile."""

    def look() -> str:
        with another_process(group):
            assert "hides" not in (processes.owners([]).missing or "")
            mount_over_proc(kind, options)
            os.setgroups([])  # hidepid=2 hides nothing from the group of its option gid=, 0 by default
            os.setresgid(65534, 65534, 65534)
            become_nobody()
            return who(str(PORT))[1]

    out = in_private_network(look)
    found = " ".join(out.split()).partition("1 of 1: owner not seen: ")[2].partition(" WHO: ")[0].split("; ")
    first, reason, *others = found
    assert (first, reason) == ("no process in /proc is seen to have it", words)
    assert [other for other in others if not re.match(r"this user may not examine \d+ of \d+ ", other)] == []


def test_options_that_may_not_be_read_are_said() -> None:
    """In the words of the kernel, once for all of them."""

    def look() -> str:
        with group(), group():
            return who(str(PORT))[1]

    def refused() -> str:
        return where_refused([("pidfd_getfd", {}, errno.EPERM)], look)

    out = in_private_network(refused)
    assert "2 of 2: options not seen: pidfd_getfd: Operation not permitted" in out


def test_a_listener_whose_main_thread_has_ended(mptcp: None) -> None:
    """Another thread of the process has it still."""

    def look() -> tuple[int, int, int, str]:
        with child(leaderless) as it:
            number, fd, _ = it.hear()
            (port,) = [found.port for found in processes.listeners(0) if found.inode == number]
            return os.getuid(), it.pid, fd, who(str(port))[1]  # it may be root of that namespace

    uid, pid, fd, out = in_private_network(look)
    row = out.splitlines()[1].split()
    assert (row[1:5], row[-1]) == (["mptcp", "0/128", str(uid), str(pid)], str(fd))


def test_the_options_of_a_listener_with_so_linger_are_read() -> None:
    """Its close() never waits."""

    def look() -> str:
        with group() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3))
            return who(str(PORT))[1]

    assert "REUSEPORT=1" in in_private_network(look)


@contextlib.contextmanager
def workers(kind: str, number: int, plain: int) -> Iterator[None]:
    """That many MPTCP listeners of one port, and that many of TCP among them."""
    host, family, v6only = {
        "v4": ("127.0.0.1", V4, True),
        "v6": ("::1", V6, True),
        "dual": ("::", V6, False),
    }[kind]
    with contextlib.ExitStack() as stack:
        for index in range(number + plain):
            stack.enter_context(group(host, family, v6only, mptcp=not index % 2 or index >= 2 * plain))
        yield


@pytest.mark.parametrize("user", ["root", pytest.param("nobody", marks=needs_root)])
@pytest.mark.parametrize("kind", ["v4", "v6", "dual"])
@pytest.mark.parametrize(("number", "plain"), [(3, 0), (5, 1), (100, 3)])
def test_many_mptcp_workers(mptcp: None, kind: str, number: int, plain: int, user: str) -> None:
    """All are called MPTCP; a TCP listener among them is found out, and counted right, by anybody."""

    def look() -> tuple[int, str]:
        with workers(kind, number, plain), another_process(contextlib.nullcontext):
            if user == "nobody":
                become_nobody()
            return who(str(PORT))

    code, out = in_private_network(look)
    protocols = [line.split()[1] for line in out.splitlines() if ":5000 " in line and "/" in line]
    assert sorted(protocols) == ["mptcp"] * number + ["tcp"] * plain
    flagged = f"MIXED-PROTO: {plain} of the {number + plain} listeners at this address are plain TCP"
    assert out.count(flagged) == (number + plain if plain else 0)
    assert "MIXED-PROTO" not in out.replace(flagged, "").splitlines()[-2 if plain else -1]
    assert code == (1 if plain else 0)


def test_what_a_kernel_withholds_is_never_called_tcp(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "?", with the reason, and no flag for it; the socket itself is asked where that is allowed."""

    def as_another() -> tuple[int, str]:
        with workers("v4", 3, 1):
            withhold(monkeypatch, 2)
            monkeypatch.setattr(processes, "_pids", list)
            return who(str(PORT))

    code, out = in_private_network(as_another)
    assert sorted(line.split()[1] for line in out.splitlines() if "0/4096" in line) == [
        "?",
        "?",
        "mptcp",
        "mptcp",
    ]
    assert "2 of 4: MPTCP or TCP is not known: before Linux 6.15, only CAP_NET_ADMIN" in out
    assert "MIXED-PROTO" not in out
    assert (code, out.splitlines()[-1].split(": ")[-2]) == (3, "4 listening, 4 not seen whole")

    def as_its_owner() -> tuple[int, str]:
        with workers("v4", 3, 1):
            withhold(monkeypatch, 2)
            return who(str(PORT))

    monkeypatch.undo()
    code, out = in_private_network(as_its_owner)
    assert "MIXED-PROTO: 1 of the 4 listeners at this address are plain TCP" in out
    assert "not known" not in out


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
    assert out.splitlines()[-1] == "WHO: TCP port 5000: STRANGERS: FAIL"
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
        assert (code, out.splitlines()[-1]) == (0, "WHO: TCP port 5000: 2 listening, nothing wrong: PASS")


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
    assert (code, verdict) == (1, "WHO: TCP port 5000: no listener, but other sockets have the port: FAIL")
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
    assert lines[5] == "WHO: TCP port 5000: 1 listening, nothing wrong: PASS"
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
