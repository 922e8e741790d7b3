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
from collections.abc import Iterator
from typing import Any

import pytest

from mptcp_sockopt import processes

from ..support import Missing, child, in_private_network, listen_at, where_refused
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
    assert (code, verdict) == (3, "WHO: NOT PROVEN: TCP port 5000: 1 listening, 1 not seen whole")


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
    assert verdict == "WHO: PASS: TCP port 5000: 1 listening, nothing wrong"
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
        "WHO: NOT PROVEN: TCP port 5000: 1 listening, 1 not seen whole",
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
    assert (code, out.splitlines()[-1].split(": ")[-1]) == (3, "4 listening, 4 not seen whole")

    def as_its_owner() -> tuple[int, str]:
        with workers("v4", 3, 1):
            withhold(monkeypatch, 2)
            return who(str(PORT))

    monkeypatch.undo()
    code, out = in_private_network(as_its_owner)
    assert "MIXED-PROTO: 1 of the 4 listeners at this address are plain TCP" in out
    assert "not known" not in out
