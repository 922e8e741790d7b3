# SPDX-License-Identifier: MIT
"""sock_diag(7): dumps larger than a buffer, refused, disturbed."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
from typing import Any

import pytest
from _mptcp_sockopt import lib

import mptcp_sockopt as mp
from mptcp_sockopt._border import listeners, sock_diag

from .support import connections, in_private_network, where_refused


def test_families_one_by_one_give_the_same(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the request for all of them is refused (before 5.7), or its answer may be about TCP sockets."""
    ask = sock_diag.Dump.ask
    asked: list[int] = []
    sequences: list[int] = []
    refuse = True

    def note(dump: Any, fd: int, family: int, states: int) -> int:
        result = ask(dump, fd, family, states)
        asked.append(family)
        sequences.append(dump.c.sequence)
        return -errno.EINVAL if refuse and family == socket.AF_UNSPEC else result

    all_three = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]

    def look() -> None:
        nonlocal refuse
        with connections(2), connections(3, socket.AF_INET6) as ends:
            wanted = sorted(row.inode for row in mp.mptcp_diag())
            assert len(wanted) == 10
            info = len(mp.mptcp_info(ends[0]))
            monkeypatch.setattr(sock_diag.Dump, "ask", note)
            assert sorted(row.inode for row in mp.mptcp_diag()) == wanted
            assert asked == all_three
            refuse = False
            # An INET_DIAG_INFO of at least this length may be a tcp_info.
            for length, expected in ((info, all_three), (info + 1, all_three[:1])):
                asked.clear()
                monkeypatch.setattr(sock_diag, "_TCP_INFO", length)
                assert sorted(row.inode for row in mp.mptcp_diag()) == wanted
                assert asked == expected
            assert len(set(sequences)) == len(sequences) == 7  # no two requests are taken for one

    in_private_network(look)
    assert sock_diag._TCP_INFO == 232  # of Linux 5.7 and 5.8


def test_an_answer_of_several_kinds_is_left_alone(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of TCP sockets, in the middle: that netlink socket is busy, and another is used."""
    ask = sock_diag.Dump.ask

    def leave(dump: Any, fd: int, family: int, states: int) -> int:
        if family == socket.AF_UNSPEC:
            assert lib.mptcp_diag_request(fd, dump.c, family, states) == 0
            return -errno.EPROTO
        return ask(dump, fd, family, states)

    def look() -> None:
        with connections(100):
            monkeypatch.setattr(sock_diag.Dump, "ask", leave)
            assert len(mp.mptcp_diag()) == 200

    in_private_network(look)


def test_nothing_found_proves_nothing(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without mptcp_diag may have found no TCP socket: asked by family, it says so."""
    ask = sock_diag.Dump.ask

    def refuse(dump: Any, fd: int, family: int, states: int) -> int:
        return ask(dump, fd, family, states) if family == socket.AF_UNSPEC else -errno.ENOENT

    def look() -> None:
        assert len(mp.mptcp_diag()) == 0
        monkeypatch.setattr(sock_diag.Dump, "ask", refuse)
        with pytest.raises(mp.UnsupportedOptionError):
            mp.mptcp_diag()
        with connections(1):
            assert len(mp.mptcp_diag()) == 2

    in_private_network(look)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_kernel_without_mptcp_diag(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """UnsupportedOptionError that names what is missing."""
    monkeypatch.setattr(sock_diag.Dump, "ask", lambda *arguments: -number)
    with pytest.raises(mp.UnsupportedOptionError, match="CONFIG_INET_MPTCP_DIAG") as caught:
        mp.mptcp_diag()
    assert (caught.value.errno, caught.value.option) == (number, "mptcp_diag")


def test_a_kernel_without_sock_diag() -> None:
    """Says so at socket(2); what a sandbox forbids is no statement about the kernel, and told as it is."""

    def ask() -> tuple[type, int, str]:
        try:
            mp.mptcp_diag()
        except OSError as error:
            return type(error), error.errno or 0, str(error.strerror)
        return type(None), 0, ""

    for number, kind, words in (
        (errno.EPROTONOSUPPORT, mp.UnsupportedOptionError, "CONFIG_INET_MPTCP_DIAG"),
        (errno.EPERM, PermissionError, "socket(AF_NETLINK): Operation not permitted"),
        (errno.EACCES, PermissionError, "socket(AF_NETLINK): Permission denied"),
        (errno.EAFNOSUPPORT, OSError, "socket(AF_NETLINK): Address family not supported by protocol"),
        (errno.ENOSYS, OSError, "socket(AF_NETLINK): Function not implemented"),
    ):
        refusal = ("socket", {0: int(socket.AF_NETLINK)}, number)
        found = where_refused([refusal], ask)
        assert found[:2] == (kind, number)
        assert words in found[2]


@pytest.mark.parametrize(
    ("result", "number"), [(0, errno.EAGAIN), (-errno.EAGAIN, errno.EAGAIN), (-errno.ENOBUFS, errno.ENOBUFS)]
)
def test_a_disturbed_dump_is_made_again(
    result: int, number: int, mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few times; then it is an OSError. 0 stands for NLM_F_DUMP_INTR."""
    attempt, left = sock_diag.attempt, [3]

    def disturb(states: int, *families: int, made: sock_diag.Dump) -> tuple[int, Any]:
        answer, found = attempt(states, *families, made=made)
        if left[0]:
            left[0] -= 1
            found.c.interrupted = 1
            return result, found
        return answer, found

    monkeypatch.setattr(sock_diag, "attempt", disturb)
    mp.mptcp_diag()
    assert left == [0]
    left[0] = 1000
    with pytest.raises(OSError, match=r"mptcp_diag\(\): ") as caught:
        mp.mptcp_diag()
    assert caught.value.errno == number
    assert left[0] > 900


def test_any_other_errno_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, as the OSError that it is."""
    monkeypatch.setattr(sock_diag.Dump, "ask", lambda *arguments: -errno.ENOMEM)
    with pytest.raises(OSError, match=r"mptcp_diag\(\)") as caught:
        mp.mptcp_diag()
    assert caught.value.errno == errno.ENOMEM


def test_what_is_no_row_does_not_count(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listeners of plain TCP are looked at, and never kept; they have a bound of their own."""
    monkeypatch.setattr(sock_diag, "_FIRST_SIZE", 1 << 15)
    monkeypatch.setattr(listeners, "LIMIT", 1 << 15)

    def look() -> None:
        with contextlib.ExitStack() as stack:
            number = 450
            for port in range(1000, 1000 + number):
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", port))
                sock.listen()
            assert len(mp.mptcp_diag(listening=True, limit=number * 80)) == 0
            with pytest.raises(OSError, match="TCP's listeners take more than") as caught:
                mp.mptcp_diag(listening=True, limit=number * 80 - 1)
            assert caught.value.errno == errno.EMSGSIZE
            assert len(mp.mptcp_diag(limit=1 << 15)) == 0
            # The larger of limit and the default: a caller who wants few rows does not miss a listener.
            monkeypatch.setattr(listeners, "LIMIT", number * 80)
            assert len(mp.mptcp_diag(listening=True, limit=1 << 15)) == 0

    in_private_network(look)


def test_a_dump_has_a_largest_size(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in words, and not taken for a table that changed. The caller may raise it."""
    monkeypatch.setattr(sock_diag, "_free", [])
    monkeypatch.setattr(sock_diag, "_FIRST_SIZE", 1 << 15)
    small = (1 << 16) + 7

    def look() -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        with connections(1):
            assert len(mp.mptcp_diag(limit=small)) == 2
        with connections(200):
            rows = len(mp.mptcp_diag()) * sock_diag.stride_of(len(mp.mptcp_diag()[0].info))
            assert rows > 1 << 15
            for listening, take in ((False, rows), (True, rows + rows // 400)):
                with pytest.raises(OSError, match="the sockets take more than") as caught:
                    mp.mptcp_diag(listening=listening, limit=take - 1)
                assert len(mp.mptcp_diag(listening=listening, limit=take)) == 400 + listening
            # What was found before counts while the next dump runs, not only at its end.
            established = 1 << mp.TCPState.ESTABLISHED
            assert len(sock_diag.dump(established, 2 * rows, rows)[0]) == rows
            with pytest.raises(OSError, match="the sockets take more than"):
                sock_diag.dump(established, 2 * rows, rows + 1)
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(ValueError, match=r"limit must be at least [0-9]+ bytes, not 32767"):
            mp.mptcp_diag(limit=(1 << 15) - 1)
        return str(caught.value)

    in_private_network(look)
    assert lib.MOST_RECORDS >= 100_000 * 168
