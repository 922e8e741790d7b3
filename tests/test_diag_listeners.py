# SPDX-License-Identifier: MIT
"""mptcp_diag(listening=True): the union of the kernel's two tables; what is withheld from whom."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import platform
import re
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt._border import listeners as room
from mptcp_sockopt._border import sock_diag

from .support import LOOPBACK, connections, in_private_network, inode, listen_at
from .test_sock_diag_parser import info_of

V4, V6 = socket.AF_INET, socket.AF_INET6
# From here on the kernel tells anybody what is MPTCP's.
TELLS_ANYBODY = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 15)


def listeners() -> list[mp.MPTCPDiagMsg]:
    return [row for row in mp.mptcp_diag(listening=True) if row.state == mp.TCPState.LISTEN]


@contextlib.contextmanager
def group(number: int, address: tuple[str, int], family: int = V4, **options: bool) -> Iterator[set[int]]:
    """The inodes of that many MPTCP listeners of one port."""
    with contextlib.ExitStack() as stack:
        yield {
            inode(
                stack.enter_context(
                    mp.create_server(address, family=family, reuse_port=True, fallback=False, **options)
                )
            )
            for _ in range(number)
        }


def become_nobody() -> None:
    with contextlib.suppress(PermissionError):  # then this is nobody already
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


# ----------------------------------------------------------------------------------------- real listeners


@pytest.mark.parametrize("number", [1, 2, 3, 5, 100])
def test_none_of_a_group_is_left_out(number: int, family: int) -> None:
    """Each once, with address, queue, backlog and uid, also beside TCP listeners and connections."""

    def look() -> None:
        host = LOOPBACK[socket.AddressFamily(family)]
        with (
            connections(3, family),
            socket.create_server((host, 5000), family=family, reuse_port=True),
            group(number, (host, 5000), family) as inodes,
            socket.create_server((host, 5000), family=family, reuse_port=True),
        ):
            found = mp.mptcp_diag(listening=True)
            assert found.missing is None
            rows = [row for row in found if row.local[1] == 5000]
            assert sorted(row.inode for row in rows) == sorted(inodes)
            facts = {
                (row.state, row.local[:2], row.remote[1], row.uid, row.rqueue, row.wqueue) for row in rows
            }
            assert facts == {(mp.TCPState.LISTEN, (host, 5000), 0, os.geteuid(), 0, 128)}
            assert {(row.info.token, row.fallback) for row in rows} == {(0, False)}
            assert len(found) == number + 7  # two ends each of the connections, and their listener
            assert mp.mptcp_diag().missing is None

    in_private_network(look)


def test_a_group_of_both_families(mptcp: None) -> None:
    """Dual-stack listeners are IPv6, once, beside IPv4 ones of the same port."""

    def look() -> None:
        with (
            group(5, ("::", 5000), V6, dualstack_ipv6=True) as dual,
            group(5, ("0.0.0.0", 5000)) as v4,
        ):
            found = [(row.inode, row.family, row.local[:2]) for row in listeners()]
            expected = [(n, V6, ("::", 5000)) for n in dual] + [(n, V4, ("0.0.0.0", 5000)) for n in v4]
            assert sorted(found) == sorted(expected)

    in_private_network(look)


def test_many_groups(mptcp: None) -> None:
    """More than a datagram holds, where the kernel's own dump tells some twice: each is told once."""

    def look() -> None:
        with contextlib.ExitStack() as stack:
            inodes: set[int] = set()
            for port in range(5000, 5040):
                inodes |= stack.enter_context(group(10, ("127.0.0.1", port)))
            assert sorted(row.inode for row in listeners()) == sorted(inodes)

    in_private_network(look)


def test_the_kernels_own_listener(family: int) -> None:
    """Of an endpoint with a port: with its address, and an inode that no process has."""

    def look() -> None:
        host = LOOPBACK[socket.AddressFamily(family)]
        listen_at(host, 7777)
        with group(3, (host, 5000), family) as inodes:
            found = {row.inode: row.local[:2] for row in listeners()}
            (own,) = found.keys() - inodes
            assert found[own] == (host, 7777)
            links = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]
            assert f"socket:[{own}]" not in links

    in_private_network(look)


def test_as_nobody(family: int) -> None:
    """All of them, from Linux 6.15 on. Before, some, and how many more may be MPTCP's is said."""

    def look() -> None:
        host = LOOPBACK[socket.AddressFamily(family)]
        listen_at(host, 7777)
        with (
            group(20, (host, 5000), family) as inodes,
            socket.create_server((host, 5001), family=family),
        ):
            as_root = listeners()
            assert len(as_root) == 21
            become_nobody()
            found = mp.mptcp_diag(listening=True)
            rows = {row.inode for row in found}
            assert len(rows) == len(found)
            assert rows <= {row.inode for row in as_root}
            if TELLS_ANYBODY or found.missing is None:
                assert found.missing is None
                assert rows - {row.inode for row in as_root} == set()
                assert inodes < rows
                assert len(rows) == 21
            else:
                assert f"whether {22 - len(rows)} more TCP listeners" in found.missing
                assert "CAP_NET_ADMIN" in found.missing
            # The addresses come from TCP's table, which anybody may read.
            assert {row.local[:2] for row in found} == {(host, 5000), (host, 7777)}

    in_private_network(look)


def test_nobody_is_not_alarmed_where_there_is_nothing(family: int) -> None:
    """Only TCP listeners: nothing is missing, if this kernel could tell."""

    def look() -> None:
        with socket.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family):
            assert mp.mptcp_diag(listening=True).missing is None
            become_nobody()
            found = mp.mptcp_diag(listening=True)
            assert len(found) == 0
            assert found.missing is None or (not TELLS_ANYBODY and "whether 1 more" in found.missing)

    in_private_network(look)


def test_a_cookie_is_that_of_the_mptcp_socket(mptcp: None) -> None:
    """As SO_COOKIE gives it, or None of those that only TCP's table told: it has another one."""
    so_cookie = 57

    def look() -> None:
        with contextlib.ExitStack() as stack:
            socks = {}
            for _ in range(10):
                sock = mp.create_server(("127.0.0.1", 5000), reuse_port=True, fallback=False)
                socks[inode(stack.enter_context(sock))] = sock
            told = 0
            for row in listeners():
                cookie = struct.unpack("=Q", socks[row.inode].getsockopt(socket.SOL_SOCKET, so_cookie, 8))[0]
                assert row.cookie in (cookie, None)
                assert row.asdict()["cookie"] == row.cookie
                told += row.cookie is not None
            assert told > 0 or not TELLS_ANYBODY  # before 5.19 the kernel has no dump of MPTCP listeners

    in_private_network(look)


# ------------------------------------------------------------------------------------------ what is withheld

Table = list[tuple[int, bool, bool, int]]  # inode, is_mptcp, privileged, bytes of tcp_info


def believe(monkeypatch: pytest.MonkeyPatch, told: list[int], table: Table | None) -> None:
    """The kernel's dump of MPTCP listeners has these inodes, TCP's table these rows."""
    rows = b"".join(struct.pack("=BB66xI", V4, mp.TCPState.LISTEN, number) + bytes(48) for number in told)
    monkeypatch.setattr(room, "dump", lambda *_: (memoryview(rows), 48 if told else 0))
    records = table and b"".join(
        struct.pack("=BB2sH62xIBBHI", V4, mp.TCPState.LISTEN, b"", number, number, mptcp, full, info, 0)
        for number, mptcp, full, info in table
    )
    listed = None if records is None else memoryview(records or b"")
    monkeypatch.setattr(room, "_tcp_listeners", partial(bring, listed))


def bring(listed: memoryview | None, limit: int, union: Any, port: int) -> bool:
    """As _tcp_listeners(), in two batches; None: the kernel cannot."""
    if listed is not None:
        for batch in (listed[:80], listed[80:]):
            union.take(batch)
    return listed is not None


@pytest.mark.parametrize(
    ("told", "table", "inodes", "in_doubt"),
    [
        # The kernel tells the ULP, to anybody.
        ([1], [(1, True, False, 280), (2, True, False, 280), (3, False, False, 280)], [1, 2], 0),
        # To root, also where there is no MPTCP listener, and before the dump of them.
        ([1], [(1, True, True, 232), (2, False, True, 232)], [1], 0),
        ([], [(1, True, True, 232), (2, False, True, 232)], [1], 0),
        ([], [(1, False, True, 232)], [], 0),
        # Not to nobody: one is told, so others may be hidden.
        ([1], [(1, False, False, 248), (2, False, False, 248), (3, False, False, 248)], [1], 2),
        ([1], [(1, False, False, 248)], [1], 0),
        # None is told, so there is none; before the dump of them that means nothing.
        ([], [(1, False, False, 240), (2, False, False, 240)], [], 0),
        ([], [(1, False, False, 232), (2, False, False, 232)], [], 2),
        # One ended, another began to listen between the two.
        ([1], [(2, True, False, 280)], [1, 2], 0),
        # One ended between the two, on a kernel that is known to tell the ULP: no reason for doubt.
        ([1], [(2, False, False, 280), (3, False, False, 280)], [1], 0),
        # One that was told is there without its name: the kernel withholds it, however new it looks.
        ([1], [(1, False, False, 280), (2, False, False, 280)], [1], 1),
        ([], [], [], 0),
        # The kernel tells the same one twice.
        ([1, 1, 2], [(2, True, False, 280), (1, True, False, 280)], [1, 2], 0),
        # What a process is closing has no inode.
        ([0], [(0, True, False, 280), (0, True, False, 280)], [], 0),
    ],
)
def test_what_is_missing_is_said(
    told: list[int], table: Table, inodes: list[int], in_doubt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how many it may be; no listener is called MPTCP's on a guess, and none left out silently."""
    believe(monkeypatch, told, table)
    records, info, missing = room.listeners(48)
    found = mp.MPTCPDiag(0, info, records, missing)
    assert [row.inode for row in found] == inodes
    if in_doubt:
        assert f"whether {in_doubt} more TCP listeners" in (found.missing or "")
        assert "CAP_NET_ADMIN" in repr(found)
    else:
        assert found.missing is None
        assert "missing" not in repr(found)
    assert pickle.loads(pickle.dumps(found)).missing == found.missing


def test_tcps_table_says_what_a_listener_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address, state and queue; the MPTCP socket of the kernel's own may have none. Its cookie stays."""
    message = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
    any_host, one_host = bytes(16), b"\1" * 16
    mine = message.pack(V6, 7, 0, 0, b"\0\0", b"", any_host, b"", 0, 1, 2, 0, 0, 0, 0, 9) + info_of(48)
    its = message.pack(V6, 10, 0, 0, b"\0P", b"", one_host, b"", 3, 8, 8, 0, 4, 5, 6, 9)
    its += struct.pack("=BBHI", 1, 0, 280, 0)
    monkeypatch.setattr(room, "dump", lambda states, limit, before, port: (memoryview(mine), 48))
    monkeypatch.setattr(room, "_tcp_listeners", partial(bring, memoryview(its)))
    records, info, _ = room.listeners(0)
    (row,) = mp.MPTCPDiag(0, info, records)
    assert (row.state, row.local, row.ifindex) == (10, (socket.inet_ntop(V6, one_host), 80, 0, 0), 3)
    assert (row.rqueue, row.wqueue, row.uid, row.inode) == (4, 5, 6, 9)
    assert (row.cookie, bytes(row.info)) == (1 | 2 << 32, info_of(48))


@pytest.mark.parametrize(
    ("result", "number"),
    [(-errno.ENOMEM, errno.ENOMEM), (-errno.ENOBUFS, errno.ENOBUFS), (-errno.EAGAIN, errno.EAGAIN), (0, 11)],
)
def test_a_disturbed_dump_of_tcps_table(
    result: int, number: int, mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError, of mptcp_diag(listening=True) alone. 0 stands for NLM_F_DUMP_INTR."""
    attempt, tries = sock_diag.attempt, []

    def disturb(states: int, *families: int, made: sock_diag.Dump, **others: Any) -> tuple[int, Any]:
        answer, found = attempt(states, *families, made=made, **others)
        if made.sink:
            tries.append(made.sink)
            found.c.interrupted = 1
            return result, found
        return answer, found

    monkeypatch.setattr(sock_diag, "attempt", disturb)
    mp.mptcp_diag()
    with pytest.raises(OSError, match=r"mptcp_diag\(\): ") as caught:
        mp.mptcp_diag(listening=True)
    assert caught.value.errno == number
    assert len(tries) == (1 if number == errno.ENOMEM else 10)
