# SPDX-License-Identifier: MIT
"""mptcp_lookup(): one connection, by the addresses of a path or by its token."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._border import lookups, sock_diag

from .causes import fallen
from .support import (
    LOOPBACK,
    exchange,
    fallback_pair,
    in_private_network,
    inode,
    mptcp_pair,
    tcp_pair,
    until,
)
from .test_connections import of, two_paths
from .test_connections_selected import withhold

NO_CONNECTION: dict[int, tuple[mp.Address, mp.Address]] = {
    socket.AF_INET: (("127.0.0.1", 1), ("127.0.0.1", 2)),
    socket.AF_INET6: (("::1", 1, 0, 0), ("::1", 2, 0, 0)),
}


@pytest.fixture(autouse=True)
def _mptcp(mptcp: None) -> None:
    """Every test here needs MPTCP."""


def no_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, a dump is a failure."""
    mp.mptcp_diag()  # where there is none, this test is skipped

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("a dump")

    for name in ("dump", "dump_subflows"):
        monkeypatch.setattr(sock_diag, name, fail)


def test_by_its_addresses_or_its_token(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as in a dump, but without one: its row and its path."""

    def look() -> None:
        with mptcp_pair(family) as (client, server):
            exchange(client, server)
            rows = {sock: of(sock) for sock in (client, server)}
            no_dump(monkeypatch)
            for sock, row in rows.items():
                ends = sock.getsockname(), sock.getpeername()
                for one in (mp.mptcp_lookup(*ends), mp.mptcp_lookup(token=row.token)):
                    assert one is not None
                    assert (one.inode, one.token, one.status) == (inode(sock), row.token, mp.Status.MPTCP)
                    assert (one.local, one.remote, one.complete, one.dead) == (*ends, False, False)
                    assert [path.local for path in one.subflows] == [sock.getsockname()]
                    assert one.subflows[0].flags == row.subflows[0].flags
                short = mp.mptcp_lookup(ends[0][:2], ends[1][:2], dump=False)
                assert short is not None
                assert short.token == row.token

    in_private_network(look)


def test_what_is_no_connection_of_mptcp(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, without a dump: nothing, TCP, and TCP at an MPTCP listener."""

    def look() -> None:
        host = LOOPBACK[socket.AddressFamily(family)]
        server = mp.create_server((host, 0), family=family, fallback=False)
        with (
            tcp_pair(family) as ends,
            server,
            socket.create_connection(server.getsockname()[:2], 5) as client,
            server.accept()[0] as accepted,
        ):
            no_dump(monkeypatch)
            for sock in (*ends, client, accepted):
                assert mp.mptcp_lookup(sock.getsockname(), sock.getpeername()) is None
            nothing = NO_CONNECTION[family]
            assert mp.mptcp_lookup(*nothing, dump=False) is None
            assert mp.mptcp_lookup(server.getsockname(), client.getsockname(), dump=False) is None
            # Whose listener it would be: the kernel answers with that.
            assert mp.mptcp_lookup(server.getsockname(), (host, 1), dump=False) is None
            monkeypatch.undo()
            assert mp.mptcp_lookup(token=1) is None
            assert mp.mptcp_lookup(*nothing) is None

    in_private_network(look)


def test_by_the_addresses_of_any_path(family: int) -> None:
    """A joined one is the only path of the answer."""

    def look() -> None:
        with two_paths(family) as (client, accepted):
            for sock in (client, accepted):
                row = of(sock)
                for path in row.subflows:
                    one = mp.mptcp_lookup(path.local, path.remote, dump=False)
                    assert one is not None
                    assert one.token == row.token
                    assert [(found.local, found.id) for found in one.subflows] == [(path.local, path.id)]

    in_private_network(look)


def test_where_the_initial_path_is_gone(family: int) -> None:
    """Its addresses, which are the connection's, take a dump; the token gives no path without one."""

    def look() -> None:
        with two_paths(family) as (client, _):
            ends = client.getsockname(), client.getpeername()
            testing.delete_initial_address(ends[0][0])
            until(lambda: len(of(client).subflows) == 1, "the end of the initial subflow")
            row = of(client)
            assert mp.mptcp_lookup(*ends, dump=False) is None
            alone = mp.mptcp_lookup(token=row.token, dump=False)
            assert alone is not None
            assert (alone.subflows, alone.status, alone.dead) == ((), mp.Status.MPTCP, False)
            for one in (mp.mptcp_lookup(*ends), mp.mptcp_lookup(token=row.token)):
                assert one is not None
                assert (one.token, one.complete) == (row.token, True)
                assert [path.local for path in one.subflows] == [path.local for path in row.subflows]

    in_private_network(look)


def test_what_is_bound_to_an_interface(family: int) -> None:
    """Found without its name, as a joined path of an endpoint with an interface is, and an initial one."""

    def look() -> None:
        with two_paths(family, interface="lo") as (client, accepted):
            bound = mp.create_socket(family, fallback=False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            with bound:
                bound.connect(accepted.getsockname())
                rows = [of(client), of(bound)]
                assert [path.ifindex > 0 for row in rows for path in row.subflows] == [False, True, True]
                for row in rows:
                    for path in row.subflows:
                        for one in (
                            mp.mptcp_lookup(path.local, path.remote, dump=False),
                            mp.mptcp_lookup(path.local, path.remote),
                        ):
                            assert one is not None
                            assert (one.token, len(one.subflows)) == (row.token, 1)
                alone = mp.mptcp_lookup(token=rows[1].token, dump=False)
                assert alone is not None
                assert len(alone.subflows) == 1

    in_private_network(look)


@contextlib.contextmanager
def link_local_pair() -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """A connection to a link-local address of this private network, and the number of its interface."""
    testing.add_address("fe80::9", "lo")
    scope = socket.if_nametoindex("lo")
    server = mp.create_server(("::", 0), family=socket.AF_INET6, fallback=False)
    client = mp.create_socket(socket.AF_INET6, fallback=False)
    with server, client:
        client.settimeout(5)
        there = "fe80::9", server.getsockname()[1], 0, scope
        until(lambda: client.connect_ex(there) == 0, "a route to the new address")
        with server.accept()[0] as accepted:
            yield client, accepted, scope


def test_a_link_local_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is bound to an interface, its connection is not. Found all the same, and not called dead."""

    def look() -> None:
        with link_local_pair() as (client, accepted, scope):
            for sock in (client, accepted):
                row = of(sock)
                assert row.row is not None
                assert (row.row.ifindex, [path.ifindex for path in row.subflows]) == (0, [scope])
                for one in (
                    mp.mptcp_lookup(token=row.token, dump=False),
                    mp.mptcp_lookup(sock.getsockname(), sock.getpeername(), dump=False),
                    mp.mptcp_lookup(row.subflows[0].local, row.subflows[0].remote, dump=False),
                ):
                    assert one is not None
                    assert (one.token, len(one.subflows)) == (row.token, 1)
            # As if they had come after TCP's table was read.
            monkeypatch.setattr(sock_diag, "dump_subflows", lambda *_: (memoryview(b""), 0))
            for sock in (client, accepted):
                later = of(sock)
                assert (later.dead, [path.ifindex for path in later.subflows]) == (False, [scope])
                tcp_info = later.subflows[0].tcp_info
                assert tcp_info is not None
                assert (tcp_info.state, later.subflows[0].local[:2]) == (1, sock.getsockname()[:2])

    in_private_network(look)


def test_any_path_where_the_kernel_withholds(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.15, for nobody: by a dump. The joined path has no port of the connection's own end."""

    def look() -> None:
        with two_paths(family) as (client, _):
            ends = [(path.local, path.remote) for path in of(client).subflows]
            withhold(monkeypatch)
            once = lookups.Asker.both

            def both(*of: Any) -> tuple[bytes | None, bytes | None]:
                found, _ = once(*of)
                return found and found[:72] + bytes(40) + found[112 : 112 + 248], None

            monkeypatch.setattr(lookups.Asker, "both", both)
            for local, remote in ends:
                one = mp.mptcp_lookup(local, remote)
                assert one is not None
                assert (one.inode, len(one.subflows)) == (inode(client), 2)
                assert mp.mptcp_lookup(local, remote, dump=False) is None

    in_private_network(look)


def in_full(address: str) -> str:
    return socket.inet_pton(socket.AF_INET6, address).hex(":", 2).upper()


def test_addresses_however_they_are_written() -> None:
    """Also those of a removed path: as lists, in full, and IPv4 as a dual-stack server has it."""

    def look() -> None:
        with two_paths(socket.AF_INET6) as (client, _):
            local, remote = client.getsockname(), client.getpeername()
            row = of(client)
            for gone in (False, True):
                if gone:
                    testing.delete_initial_address(local[0])
                    until(lambda: len(of(client).subflows) == 1, "the end of the initial subflow")
                full = [[in_full(end[0]), end[1]] for end in (local, remote)]
                one = mp.mptcp_lookup(*full)  # type: ignore[arg-type]
                assert one is not None
                assert one.token == row.token
        server = mp.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, fallback=False)
        client = mp.create_connection(("127.0.0.1", server.getsockname()[1]), 5, fallback=False)
        with server, client, server.accept()[0] as accepted:
            local, remote = accepted.getsockname(), accepted.getpeername()
            assert local[0] == "::ffff:127.0.0.1"
            for ends in ((local, remote), (client.getpeername(), client.getsockname())):
                one = mp.mptcp_lookup(*ends, dump=False)
                assert one is not None
                assert one.inode == inode(accepted)

    in_private_network(look)


def test_what_fell_back(family: int) -> None:
    """By its addresses and its token; made while MPTCP was suspended, it has neither token nor info."""

    def look() -> None:
        mp.mptcp_diag()  # where there is none, this test is skipped
        with fallback_pair(family) as (client, _):
            one = mp.mptcp_lookup(client.getsockname(), client.getpeername(), dump=False)
            assert one is not None
            assert one == mp.mptcp_lookup(token=one.token) or one.token
            assert (one.status, one.inode) == (mp.Status.FALLBACK, inode(client))
            assert one.fallback_reason is mp.FallbackReason.NO_OPTION_IN_ANSWER
        with fallen("suspended", family) as (client, _, _):
            one = mp.mptcp_lookup(client.getsockname(), client.getpeername(), dump=False)
            assert one is not None
            assert (one.status, one.token, one.info) == (mp.Status.FALLBACK, None, None)
            assert one.fallback_reason is mp.FallbackReason.SUSPENDED

    in_private_network(look)


def test_what_is_no_question() -> None:
    """A TypeError or a ValueError that says why."""
    there, here = NO_CONNECTION[socket.AF_INET]
    call: Any = mp.mptcp_lookup
    for arguments, options in (
        ((), {}),
        ((here,), {}),
        ((here, there), {"token": 1}),
        ((here,), {"token": 1}),
    ):
        with pytest.raises(TypeError, match="two addresses, or a token"):
            call(*arguments, **options)
    for wrong in (("localhost", 80), ("127.0.0.1", 65536), ("127.0.0.1", -1), ("::1", 80)):
        with pytest.raises(ValueError, match="not a pair of addresses"):
            call(here, wrong)
    for odd in (
        ("127.0.0.1", "80"),
        ("127.0.0.1",),
        (None, 80),
        ("::1", 80, 0),
        "127.0.0.1",
        5,
        (b"::1", 80),
    ):
        with pytest.raises(TypeError, match="an address is"):
            call(here, odd)
    with pytest.raises(ValueError, match="not a pair of addresses"):
        call(("::1", 1), ("::1", 80, 0, -1))
    for other in ("1", 1.5, True):
        with pytest.raises(TypeError, match="token must be an int"):
            call(token=other)
    for token in (-1, 2**32):
        with pytest.raises(ValueError, match="32 bits"):
            call(token=token)
