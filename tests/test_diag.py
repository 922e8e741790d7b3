# SPDX-License-Identifier: MIT
"""mptcp_diag(): what is in a dump, and what is not; the sequence that it returns."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import pickle
import resource
import socket
import struct
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._border import sock_diag

from .support import (
    LOOPBACK,
    Missing,
    at_work,
    connections,
    exchange,
    fallback_pair,
    in_private_network,
    inode,
    mptcp_pair,
    tcp_pair,
    until,
)

AGES = {"last_data_sent", "last_data_recv", "last_ack_recv"}


def row_of(sock: socket.socket) -> mp.MPTCPDiagMsg:
    (row,) = [row for row in mp.mptcp_diag() if row.inode == inode(sock)]
    return row


def without_ages(info: mp.MPTCPInfo) -> dict[str, Any]:
    return {name: value for name, value in info.asdict().items() if name not in AGES}


# ------------------------------------------------------------------------------------------- real sockets


def test_a_row_is_what_the_socket_says(mptcp: None) -> None:
    """Of every connection of both families, both ends: the same facts as from the descriptor, no row more."""

    def look() -> None:
        so_cookie = 57
        with connections(5) as v4, connections(5, socket.AF_INET6) as v6:
            for number, (client, server) in enumerate(zip(*[iter(v4 + v6)] * 2, strict=True)):
                exchange(client, server, 100 + number)
            socks = {inode(sock): sock for sock in v4 + v6}
            found = mp.mptcp_diag()
            assert sorted(row.inode for row in found) == sorted(socks)
            for row in found:
                sock = socks[row.inode]
                assert (row.local, row.remote) == (sock.getsockname(), sock.getpeername())
                assert (row.family, row.state) == (sock.family, mp.TCPState.ESTABLISHED)
                assert (row.uid, row.ifindex, row.fallback) == (os.geteuid(), 0, False)
                assert row.cookie == struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, so_cookie, 8))[0]
                info = mp.mptcp_info(sock)
                assert without_ages(row.info) == without_ages(info)
                assert len(row.info) == len(info)
                assert 100 <= (info.bytes_sent or 100) < 110

    in_private_network(look)


def test_this_kernel_lists_its_sockets_or_says_that_it_cannot(mptcp: None) -> None:
    """ENOENT where it was built without mptcp_diag or the module is not there."""
    try:
        in_private_network(mp.mptcp_diag)
    except Missing:
        with pytest.raises(mp.UnsupportedOptionError, match="CONFIG_INET_MPTCP_DIAG") as caught:
            mp.mptcp_diag()
        assert (caught.value.errno, caught.value.option) == (errno.ENOENT, "mptcp_diag")


def test_a_connection_that_fell_back_is_told(family: int) -> None:
    """Where getsockopt refuses. Its peer, a plain TCP socket, is not told."""

    def look() -> None:
        with fallback_pair(family) as (client, server):
            exchange(client, server, 123)
            with pytest.raises(mp.NotMPTCPError):
                mp.mptcp_info(client)
            (row,) = mp.mptcp_diag()
            assert (row.inode, row.fallback) == (inode(client), True)
            assert row.info.bytes_sent in (123, None)  # None before 6.5
            assert (row.local, row.remote) == (client.getsockname(), client.getpeername())

    in_private_network(look)


def test_what_is_not_there(family: int) -> None:
    """No fresh socket, no bound one, no listener unless asked for, no TCP, nothing of another namespace."""

    def look() -> None:
        with mp.create_socket(family) as fresh, tcp_pair(family):
            assert list(mp.mptcp_diag(listening=True)) == []
            fresh.bind((LOOPBACK[socket.AddressFamily(family)], 0))
            assert list(mp.mptcp_diag(listening=True)) == []
            fresh.listen(7)
            assert list(mp.mptcp_diag()) == []
            with socket.create_connection(fresh.getsockname()[:2]):  # a plain TCP peer
                accepted, _ = fresh.accept()
                with accepted:
                    assert mp.status(accepted) is mp.Status.TCP
                    (row,) = mp.mptcp_diag(listening=True)
        assert (row.state, row.local[1] > 0, row.remote[1]) == (mp.TCPState.LISTEN, True, 0)
        assert (row.rqueue, row.wqueue, row.info.token, row.fallback) == (0, 7, 0, False)

    with mptcp_pair(family):
        in_private_network(look)


def test_listeners_come_on_request(family: int) -> None:
    """Beside the connections."""

    def look() -> None:
        with (
            mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family) as server,
            mp.create_connection(server.getsockname()[:2], fallback=False) as client,
        ):
            until(lambda: len(mp.mptcp_diag()) == 2, "the server's end")
            found = mp.mptcp_diag(listening=True)
            assert len(found) == 3
            (listener,) = [row for row in found if row.state == mp.TCPState.LISTEN]
            assert (listener.local, listener.rqueue) == (server.getsockname(), 1)  # one waits for accept()
            (waiting,) = [row for row in mp.mptcp_diag() if row.inode == 0]
            assert waiting.remote == client.getsockname()
            with server.accept()[0] as accepted:
                assert row_of(accepted).info.token == waiting.info.token

    in_private_network(look)


def test_a_connection_is_there_until_its_end(family: int) -> None:
    """Connecting, then half closed; without an inode when the process closed it; gone when both ends did."""

    def look() -> None:
        with mptcp_pair(family) as (client, server):
            exchange(client, server)
            client.shutdown(socket.SHUT_WR)
            until(lambda: row_of(client).state == mp.TCPState.FIN_WAIT2, "FIN_WAIT2")
            assert row_of(server).state == mp.TCPState.CLOSE_WAIT
            token = mp.mptcp_info(client).token
            client.close()
            (row,) = [row for row in mp.mptcp_diag() if row.info.token == token]
            assert (row.inode, row.timer) == (0, 2)
            assert 0 < row.expires <= 60_000
        until(lambda: len(mp.mptcp_diag()) == 0, "the end")

    def connect() -> None:
        with contextlib.ExitStack() as stack:
            deaf = stack.enter_context(socket.socket())
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            for _ in range(3):  # a full accept queue answers no SYN
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(deaf.getsockname())
            sock = stack.enter_context(mp.create_socket(fallback=False))
            sock.setblocking(False)
            assert sock.connect_ex(deaf.getsockname()) == errno.EINPROGRESS
            row = row_of(sock)
            assert (row.state, row.info.flags) == (mp.TCPState.SYN_SENT, 0)

    in_private_network(look)
    in_private_network(connect)


def test_addresses_of_every_kind(mptcp: None) -> None:
    """Link-local ones have the scope of the interface that the socket is bound to; mapped ones are IPv6."""

    def look() -> None:
        testing.add_address("fe80::1")
        lo = socket.if_nametoindex("lo")
        with mp.create_socket(socket.AF_INET6, fallback=False) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            server.bind(("fe80::1", 0, 0, lo))
            server.listen()
            (row,) = mp.mptcp_diag(listening=True)
            assert (row.local, row.ifindex) == (server.getsockname(), lo)
            assert row.local[2:] == (0, lo)
            assert row.remote == ("::", 0, 0, 0)
        testing.add_address("fec0::1")  # of the deprecated site-local ones: these have no scope
        with mp.create_socket(socket.AF_INET6, fallback=False) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            server.bind(("fec0::1", 0))
            server.listen()
            (row,) = mp.mptcp_diag(listening=True)
            assert (row.local, row.ifindex) == (server.getsockname(), lo)
            assert row.local[2:] == (0, 0)
        with (
            mp.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
            mp.create_socket(socket.AF_INET6, fallback=False) as client,
        ):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
            row = row_of(client)
            assert (row.local, row.remote) == (client.getsockname(), client.getpeername())
            assert (row.remote[0], row.ifindex) == ("::ffff:127.0.0.1", lo)
            listeners = [row for row in mp.mptcp_diag(listening=True) if row.state == mp.TCPState.LISTEN]
            assert [row.local for row in listeners] == [server.getsockname()]

    in_private_network(look)


def test_a_dump_is_larger_than_a_buffer(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a datagram, and more than the room: nothing is lost or told twice."""
    sizes: list[int] = []
    use = sock_diag.Dump._use

    def count(dump: Any, records: Any) -> None:
        use(dump, records)
        sizes.append(dump.c.size)

    monkeypatch.setattr(sock_diag, "_free", [])
    monkeypatch.setattr(sock_diag, "_FIRST_SIZE", 1 << 15)
    monkeypatch.setattr(sock_diag, "_MOST_KEPT", 1 << 15)
    monkeypatch.setattr(sock_diag.Dump, "_use", count)

    def look() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        with connections(150) as v4, connections(100, socket.AF_INET6) as v6:
            socks = {inode(sock): sock for sock in v4 + v6}
            found = mp.mptcp_diag()
            assert sizes == [1 << 15, 1 << 16, 1 << 17][: len(sizes)]
            assert len(sizes) > 1
            assert found.column("inode").readonly
            assert found._rows.readonly
            assert not isinstance(found._rows.obj, bytes)  # what is large is not copied
            assert sorted(row.inode for row in found) == sorted(socks)
            assert all(row.local == socks[row.inode].getsockname() for row in found)
            assert {row.info.token for row in found} == {mp.mptcp_info(sock).token for sock in v4 + v6}

    in_private_network(look)


def test_a_buffer_is_given_back_after_it_was_read(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result does not change when the next call takes the buffer."""
    free: list[Any] = []
    monkeypatch.setattr(sock_diag, "_free", free)

    def look() -> None:
        with connections(2):
            for _ in range(3):
                found = mp.mptcp_diag()
                rows = list(found)
                for n in range(len(free[0])):
                    free[0][n] = 2**64 - 1
                assert list(found) == rows
                assert len(rows) == 4
            assert len(free) == 1

    in_private_network(look)


def test_as_anybody(mptcp: None) -> None:
    """Sockets of another user too, with their uid; nothing is asked of root."""

    def look() -> None:
        with mptcp_pair(socket.AF_INET) as (client, server):
            owner, wanted = os.geteuid(), sorted(map(inode, (client, server)))
            with contextlib.suppress(PermissionError):  # then this is anybody already
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            assert os.geteuid() != 0 or owner == 0
            assert sorted(row.inode for row in mp.mptcp_diag()) == wanted
            assert {row.uid for row in mp.mptcp_diag()} == {owner}

    in_private_network(look)


def test_no_descriptor_is_left_open(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an answer, a refusal, and Ctrl-C."""

    def interrupt(*arguments: object) -> int:
        raise KeyboardInterrupt

    before = os.listdir("/proc/self/fd")
    mp.mptcp_diag()
    assert os.listdir("/proc/self/fd") == before
    monkeypatch.setattr(sock_diag.Dump, "ask", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mp.mptcp_diag()
    monkeypatch.setattr(sock_diag.Dump, "ask", lambda *arguments: -errno.ENOENT)
    with pytest.raises(mp.UnsupportedOptionError):
        mp.mptcp_diag()
    assert os.listdir("/proc/self/fd") == before


def test_threads_do_not_disturb_each_other(mptcp: None) -> None:
    """Each has a netlink socket and memory of its own."""

    def look() -> None:
        with connections(30):
            wanted = sorted(row.inode for row in mp.mptcp_diag())
            found: list[list[int]] = []

            def ask() -> None:
                found.extend(sorted(row.inode for row in mp.mptcp_diag()) for _ in range(100))

            with contextlib.ExitStack() as threads:
                for _ in range(4):
                    threads.enter_context(at_work(ask))
            assert found == [wanted] * 400

    in_private_network(look)


# ---------------------------------------------------------------------------------------------- the result

# offset and size of what a message holds, from <linux/inet_diag.h>
MESSAGE = {
    "family": (0, 1), "state": (1, 1), "timer": (2, 1), "retrans": (3, 1), "ifindex": (40, 4),
    "expires": (52, 4), "rqueue": (56, 4), "wqueue": (60, 4), "uid": (64, 4), "inode": (68, 4),
}  # fmt: skip


def test_the_reflected_message_is_the_kernel_s() -> None:
    """Offsets and sizes typed by hand; cookie, ports and addresses by value."""
    raw = bytes(range(1, 73)) + bytes(96)
    row = mp.MPTCPDiagMsg(b"\x02" + raw[1:])
    assert list(row.fields) == list(MESSAGE)
    for name, (offset, size) in MESSAGE.items():
        assert getattr(row, name) == int.from_bytes(
            row[offset : offset + size], "little" if LITTLE else "big"
        )
    assert row.local == ("9.10.11.12", 0x0506)
    assert row.remote == ("25.26.27.28", 0x0708)
    low, high = struct.unpack_from("=II", raw, 44)
    assert row.cookie == low | high << 32
    with pytest.raises(ValueError, match="the smallest is 112"):
        mp.MPTCPDiagMsg(raw[:111])


LITTLE = struct.pack("=H", 1) == b"\1\0"


def test_a_column_is_that_field_of_all_rows(mptcp: None) -> None:
    """Of the message and of the connection; their names are different."""
    assert not mp.MPTCPDiagMsg.fields.keys() & mp.MPTCPInfo.fields.keys()

    def look() -> None:
        with connections(3) as ends:
            for sock in ends:
                sock.sendall(b"x" * (sock.fileno() + 1))
            found = mp.mptcp_diag()
            for name in mp.MPTCPDiagMsg.fields:
                assert found.column(name).tolist() == [getattr(row, name) for row in found], name
            for name in mp.MPTCPInfo.fields:
                if getattr(found[0].info, name) is not None:
                    assert found.column(name).tolist() == [getattr(row.info, name) for row in found], name
            assert len(set(found.column("token"))) == len(ends)
            assert found.column("token").readonly
            for name in ("cookie", "local", "info", "nonsense"):
                with pytest.raises(
                    ValueError, match=f"neither MPTCPDiagMsg nor MPTCPInfo has a field '{name}'"
                ):
                    found.column(name)

    in_private_network(look)


class Kin(mp.MPTCPDiag):
    """A subclass."""


def test_it_is_an_immutable_sequence(mptcp: None) -> None:
    """Of rows that can be indexed, sliced, iterated, compared and pickled."""

    def look() -> None:
        assert (len(mp.mptcp_diag()), list(mp.mptcp_diag()), mp.mptcp_diag()[:]) == (0, [], ())
        for name in ("inode", "token", "last_ack_recv"):
            assert mp.mptcp_diag().column(name).tolist() == []
        with connections(2):
            found = mp.mptcp_diag()
            rows = list(found)
            assert (len(found), len(rows), found[-1], found[1:3]) == (4, 4, rows[3], tuple(rows[1:3]))
            assert found[::-1] == tuple(rows[::-1])
            for index in (4, -5):
                with pytest.raises(IndexError, match=f"row {index} of 4"):
                    found[index]
            again = pickle.loads(pickle.dumps(found))
            assert (again.time, list(again)) == (found.time, rows)
            assert type(copy.copy(Kin(found.time, len(rows[0].info), b""))) is Kin
            assert repr(found) == f"<MPTCPDiag of 4 sockets, time {found.time}>"
            with pytest.raises(AttributeError, match="cannot be changed"):
                found.time = 0
            with pytest.raises(AttributeError, match="cannot be changed"):
                del found._rows
            assert mp.mptcp_diag().time > found.time
            assert isinstance(found._rows.obj, bytes)  # and no larger buffer behind it
            row = rows[0]
            assert row.asdict()["info"] == row.info.asdict()
            assert row.asdict()["remote"] == row.remote
            assert f"local={row.local}" in repr(row)

    in_private_network(look)
