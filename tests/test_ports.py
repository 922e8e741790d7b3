# SPDX-License-Identifier: MIT
"""Listeners and sockets of a port: TCP's table, and what it says of MPTCP."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes
from mptcp_sockopt._border import listeners as room
from mptcp_sockopt._border import sock_diag

from .support import DEADLINE, LOOPBACK, in_private_network, inode, listen_at, mptcp_pair, tcp_pair, until


def listen(address: tuple[str, int], *, mptcp: bool = False, **options: Any) -> socket.socket:
    """A member of a group that shares a port."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = mp.create_socket(family, fallback=False) if mptcp else socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.get("v6only", True))
    sock.bind(address)
    sock.listen(options.get("backlog", 100))
    return sock


def test_listeners_of_both_families_and_protocols(mptcp: None) -> None:
    """Each with its own address, protocol, backlog, uid, inode and cookie; IPv4 first."""

    def look() -> None:
        v4, v6 = socket.AF_INET, socket.AF_INET6
        sockets = [
            listen(("::1", 5000), backlog=10),
            listen(("::", 5000), mptcp=True, backlog=11),
            listen(("127.0.0.1", 5000), backlog=7),
            listen(("127.0.0.1", 5000), mptcp=True, backlog=8),
            listen(("0.0.0.0", 5000), backlog=9),
            listen(("::", 5002), v6only=False, backlog=12),
        ]
        found = processes.listeners(5000)
        assert [one.family for one in found] == [v4] * 3 + [v6] * 2
        found = tuple(sorted(found, key=lambda one: one.backlog))
        assert [(x.family, x.host, x.port, x.mptcp, x.backlog, x.v6only) for x in found] == [
            (v4, "127.0.0.1", 5000, False, 7, None),
            (v4, "127.0.0.1", 5000, True, 8, None),
            (v4, "0.0.0.0", 5000, False, 9, None),
            (v6, "::1", 5000, False, 10, True),
            (v6, "::", 5000, True, 11, True),
        ]
        assert [x.inode for x in found] == [inode(sockets[i]) for i in (2, 3, 4, 0, 1)]
        assert {x.uid for x in found} == {os.getuid()}
        assert {x.queue for x in found} == {x.interface for x in found} == {0}
        assert {x.unknown for x in found} == {None}
        assert len({x.cookie for x in found}) == 5
        assert [x.v6only for x in processes.listeners(5002)] == [False]
        assert len(processes.listeners(0)) == 6
        assert processes.listeners(5001) == ()

    in_private_network(look)


def test_the_queue_of_a_listener(family: int) -> None:
    """The connections that nobody accepted yet; its backlog stays."""
    address = (LOOPBACK[socket.AddressFamily(family)], 0)
    with socket.create_server(address, family=family, backlog=9) as listener, contextlib.ExitStack() as stack:
        port = listener.getsockname()[1]
        for _ in range(3):
            stack.enter_context(socket.create_connection(listener.getsockname()[:2], DEADLINE))
        until(lambda: [x.queue for x in processes.listeners(port)] == [3], "three connections in the queue")
        listener.accept()[0].close()
        assert [(x.queue, x.backlog) for x in processes.listeners(port)] == [(2, 9)]


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port(port: int) -> None:
    """ValueError, before the kernel is asked for another."""
    for look in (processes.listeners, processes.tcp_sockets):
        with pytest.raises(ValueError, match="is not a port number"):
            look(port)


@pytest.mark.parametrize("pair", [mptcp_pair, tcp_pair])
def test_sockets_of_a_port(mptcp: None, family: int, pair: Callable[[int], Any]) -> None:
    """In the states that were asked for; a subflow has the inode of its connection."""

    def look() -> None:
        with pair(family) as (_, server):
            local, remote = server.getsockname(), server.getpeername()
            found = processes.tcp_sockets(local[1], mp.TCPState.ESTABLISHED)
            assert [(x.state, x.local, x.remote, x.inode, x.ifindex, x.v6only) for x in found] == [
                (mp.TCPState.ESTABLISHED, local, remote, inode(server), 0, None)
            ]
            states = {x.state for x in processes.tcp_sockets(local[1])}
            assert states == {mp.TCPState.LISTEN, mp.TCPState.ESTABLISHED}
            assert {x.local[1] for x in processes.tcp_sockets(0)} == {local[1], remote[1]}

    in_private_network(look)


@pytest.mark.parametrize("pair", [mptcp_pair, tcp_pair])
def test_the_socket_of_two_addresses(mptcp: None, family: int, pair: Callable[[int], Any]) -> None:
    """As in the table; the other end is another socket; once it has ended there is none."""
    with pair(family) as (client, server):
        ends = client.getsockname(), client.getpeername()
        found = processes.tcp_lookup(*ends)
        assert found is not None
        assert (found.state, found.local, found.remote) == (mp.TCPState.ESTABLISHED, *ends)
        (dumped,) = (one for one in processes.tcp_sockets(ends[0][1]) if one.remote == ends[1])
        assert found == dumped
        other = processes.tcp_lookup(*ends[::-1])
        assert other is not None
        assert (found.inode, other.inode) == (inode(client), inode(server))
    until(lambda: processes.tcp_lookup(*ends[::-1]) is None, "the server's end to end")


def test_a_listener_is_not_looked_up_and_accept_gives_the_inode() -> None:
    """An IPv4 client of an IPv6 listener is found by its IPv4 addresses."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        address = ("127.0.0.1", listener.getsockname()[1])
        assert processes.tcp_lookup(address, ("127.0.0.1", 9)) is None
        with socket.create_connection(address) as client:
            found = processes.tcp_lookup(address, client.getsockname())
            assert found is not None
            assert found.inode == 0
            with listener.accept()[0] as server:
                found = processes.tcp_lookup(address, client.getsockname())
                assert found is not None
                assert found.inode == inode(server)
    with pytest.raises(ValueError, match="not a pair of addresses"):
        processes.tcp_lookup(("here", 1), ("there", 2))


def test_the_kernel_is_asked_for_one_port(family: socket.AddressFamily) -> None:
    """It does not report the others, of which a busy machine has many: they would only be dropped later."""

    def look() -> None:
        host = LOOPBACK[family]
        with listen((host, 0)) as one, listen((host, 0)):
            port = one.getsockname()[1]
            rows = sock_diag.tcp_sockets(1 << mp.TCPState.LISTEN, port)
            assert [row["local"][1] for row in rows] == [port]
            assert len(sock_diag.tcp_sockets(1 << mp.TCPState.LISTEN, 0)) == 2

    in_private_network(look)


def test_sockets_that_are_only_bound() -> None:
    """In state CLOSE, if it is asked for as well as if none is, and of that port alone; listed since 6.8."""

    def look() -> None:
        with socket.socket() as sock:
            sock.bind((LOOPBACK[socket.AF_INET], 0))
            port = sock.getsockname()[1]
            every = processes.tcp_sockets(port)
            assert {x.state for x in every} <= {mp.TCPState.CLOSE}
            assert processes.tcp_sockets(port, mp.TCPState.CLOSE) == every
            assert processes.tcp_sockets(port, mp.TCPState.LISTEN) == ()
            other = port % 60_000 + 1
            assert processes.tcp_sockets(other) == processes.tcp_sockets(other, mp.TCPState.CLOSE) == ()
            assert processes.tcp_sockets(0) == every

    in_private_network(look)


def withhold(monkeypatch: pytest.MonkeyPatch, told: int) -> None:
    """As before Linux 6.15 to nobody: that many of the MPTCP listeners, and no ULP in TCP's table."""
    attempt, dump = sock_diag.attempt, sock_diag.dump

    def without_ulp(*arguments: Any, made: sock_diag.Dump, **others: Any) -> Any:
        sink = made.sink

        def take(table: memoryview) -> None:
            rows = bytearray(table)
            for start in range(0, len(rows), 80):
                rows[start + 72 : start + 74] = b"\0\0"  # is_mptcp, privileged
            assert sink is not None
            sink.take(memoryview(rows))

        if sink is not None:
            made.sink = SimpleNamespace(take=take)
        return attempt(*arguments, made=made, **others)

    def some(*arguments: Any) -> tuple[memoryview, int]:
        rows, info = dump(*arguments)
        return rows[: told * sock_diag.stride_of(info)], info

    monkeypatch.setattr(sock_diag, "attempt", without_ulp)
    monkeypatch.setattr(room, "dump", some)


def test_what_a_kernel_withholds_is_not_known(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, with the reason, for the MPTCP listener that was not told and the TCP one alike."""

    def look() -> tuple[processes.Listener, ...]:
        with contextlib.ExitStack() as stack:
            for is_mptcp in (False, True, True):
                stack.enter_context(listen(("127.0.0.1", 5000), mptcp=is_mptcp))
            withhold(monkeypatch, 1)
            return processes.listeners(5000)

    found = in_private_network(look)
    told = [x for x in found if x.mptcp]  # none before Linux 5.19, where it takes TCP's table to find one
    assert len(found) == 3
    assert len(told) <= 1
    assert not [x for x in found if x.mptcp is False]
    for one in found:
        assert (one.unknown is None) == (one.mptcp is not None)
        assert one.mptcp or "CAP_NET_ADMIN" in (one.unknown or "")


def test_a_kernel_without_mptcp_diag_leaves_the_protocol_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, not False, and the reason."""

    def refuse(*arguments: Any) -> NoReturn:
        raise mp.UnsupportedOptionError(errno.ENOENT, "no mptcp_diag")

    withhold(monkeypatch, 0)
    monkeypatch.setattr(room, "dump", refuse)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (found,) = processes.listeners(listener.getsockname()[1])
    assert found.mptcp is None
    assert "this kernel cannot list its MPTCP sockets" in (found.unknown or "")


def test_who_comes_or_goes_during_the_look(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is left out: of neither was it seen whether MPTCP's table has it."""

    def look() -> list[bool | None]:
        one, two = listen(("127.0.0.1", 5000)), listen(("127.0.0.1", 5000), mptcp=True)
        ask = room.mptcp_listeners

        def meanwhile() -> tuple[frozenset[int], str | None]:
            two.close()
            found = ask()
            others.append(listen(("127.0.0.1", 5000), mptcp=True))
            return found

        others: list[socket.socket] = []
        withhold(monkeypatch, 9)
        monkeypatch.setattr(room, "mptcp_listeners", meanwhile)
        with one:
            return [x.mptcp for x in processes.listeners(5000)]

    assert in_private_network(look) in ([False], [None])


def test_the_kernels_own_listener(mptcp: None) -> None:
    """Of an endpoint with a port: MPTCP, and no process has it."""

    def look() -> tuple[tuple[processes.Listener, ...], processes.Owners]:
        listen_at("127.0.0.1", 5000)
        found = processes.listeners(5000)
        return found, processes.owners(x.inode for x in found)

    (found,), owners = in_private_network(look)
    assert (found.host, found.mptcp) == ("127.0.0.1", True)
    assert not owners[found.inode]
