# SPDX-License-Identifier: MIT
"""mptcp_diag(subflows=True): what is asked of the kernel, and who may know what."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._border import layouts, sock_diag

from .net import destroy
from .support import (
    LOOPBACK,
    become_nobody,
    connected,
    connections,
    exchange,
    fallback_pair,
    in_private_network,
    inode,
    mptcp_pair,
    run,
    tcp_pair,
    until,
    where_refused,
)
from .test_connections import MAPPING, of, two_paths

State, Status = mp.TCPState, mp.Status


@pytest.fixture(autouse=True)
def _mptcp(mptcp: None) -> None:
    """Every test here needs MPTCP."""


# ------------------------------------------------------------------------------------------- the selection


def test_of_one_port(family: int) -> None:
    """Connections with this port at either end, the same as without a filter; by mptcp_diag() too."""

    def look() -> None:
        with (
            mptcp_pair(family) as (client, server),
            mptcp_pair(family),
            fallback_pair(family),
            tcp_pair(family),
        ):
            exchange(client, server)
            for port in (client.getpeername()[1], client.getsockname()[1]):
                wanted = sorted(inode(sock) for sock in (client, server))
                found = mp.mptcp_diag(subflows=True, port=port)
                assert sorted(one.inode for one in found) == wanted
                assert sorted(row.inode for row in mp.mptcp_diag(port=port)) == wanted
                assert all(len(one.subflows) == 1 for one in found)
            assert len(mp.mptcp_diag(subflows=True)) == 5
        with pytest.raises(ValueError, match="limit must be at least"):
            mp.mptcp_diag(subflows=True, limit=1)
        for wrong, error in ((-1, ValueError), (65536, ValueError), ("80", TypeError), (True, TypeError)):
            with pytest.raises(error, match="port must be"):
                mp.mptcp_diag(subflows=True, port=wrong)  # type: ignore[arg-type]

    in_private_network(look)


def test_a_path_to_another_port_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was joined at an address that was announced with a port of its own: TCP's table is read whole."""

    def look() -> None:
        with (
            two_paths(socket.AF_INET, port=7777) as (client, accepted),
            mp.create_server(("127.0.0.1", 0), fallback=False) as server,
            socket.create_connection(server.getsockname(), 5),
            server.accept()[0],  # as TCP, at a port that was not asked for
        ):
            assert {one.status for one in mp.mptcp_diag(subflows=True)} == {Status.MPTCP, Status.TCP}
            assert len(mp.mptcp_diag(subflows=True, port=accepted.getsockname()[1])) == 2
            for sock in (client, accepted):
                one = of(sock, port=accepted.getsockname()[1])
                # Each end may have joined at the address that the other announced.
                assert 2 <= len(one.subflows) <= 3
                assert 7777 in {end[1] for path in one.subflows for end in (path.local, path.remote)}
            # Of the connection itself, neither end has that port.
            assert len(mp.mptcp_diag(subflows=True, port=7777)) == len(mp.mptcp_diag(port=7777)) == 0
        testing.flush_endpoints()
        asked = watched(monkeypatch)
        with mptcp_pair(socket.AF_INET) as (client, accepted):
            of(client, port=accepted.getsockname()[1])
            assert asked == [accepted.getsockname()[1]]  # where none is missing, it is not

    in_private_network(look)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports by which all of TCP's table is asked for from now on."""
    asked: list[int] = []
    once = sock_diag.dump_subflows

    def note(states: int, limit: int, port: int, inodes: Any) -> Any:
        if states & 1 << State.ESTABLISHED:
            asked.append(port)
        return once(states, limit, port, inodes)

    monkeypatch.setattr(sock_diag, "dump_subflows", note)
    return asked


def test_tcps_table_is_not_read_where_there_is_no_mptcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be large. With a connection or a listener of MPTCP, it is."""

    def look() -> None:
        asked = watched(monkeypatch)
        with tcp_pair(socket.AF_INET), mp.create_socket(fallback=False) as sock:
            assert len(mp.mptcp_diag(subflows=True)) == 0
            assert asked == []
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            assert len(mp.mptcp_diag(subflows=True)) == 0
            assert asked == [0]
        with mptcp_pair(socket.AF_INET):
            assert len(mp.mptcp_diag(subflows=True)) == 2
            assert asked == [0, 0]

    in_private_network(look)


def test_with_listeners(family: int) -> None:
    """Last, without paths."""

    def look() -> None:
        server = mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family, fallback=False)
        with connected(server, mp.create_socket(family, fallback=False)):
            found = mp.mptcp_diag(subflows=True, listening=True)
            assert [one.status for one in found] == [Status.MPTCP, Status.MPTCP, Status.LISTENING]
            assert (found[2].inode, found[2].subflows, found[2].token) == (inode(server), (), None)
            assert (found[2].local, found[2].dead) == (server.getsockname(), False)
            (only,) = mp.mptcp_diag(subflows=True, listening=True, port=server.getsockname()[1])[2:]
            assert only.inode == inode(server)
            assert not mp.mptcp_diag(subflows=True, listening=True, port=1)[:]

    in_private_network(look)


# -------------------------------------------------------------------------------------- who may know what


def test_as_nobody() -> None:
    """All but the mapping, from Linux 6.15 on. Before, paths without ids; missing says so."""

    def look() -> None:
        with two_paths(socket.AF_INET) as (client, accepted):
            as_root = of(client)
            become_nobody()
            found = mp.mptcp_diag(subflows=True)
            assert len(found) == 2
            one = of(client)
            assert [path.local for path in one.subflows] == [path.local for path in as_root.subflows]
            assert {getattr(path, name) for path in one.subflows for name in MAPPING} == {None}
            if found.missing:
                assert "6.15" in found.missing[0]
                assert {path.id for path in one.subflows} == {None}
            else:
                assert [path.flags for path in one.subflows] == [path.flags for path in as_root.subflows]
                assert [path.id for path in one.subflows] == [path.id for path in as_root.subflows]
            assert one.token == mp.mptcp_info(client).token
            for ends in ((client.getsockname(), client.getpeername()), (None, None)):
                there = mp.mptcp_lookup(*ends) if ends[0] else mp.mptcp_lookup(token=one.token)
                assert there is not None
                assert there.token == one.token
            assert accepted.fileno() > 0

    in_private_network(look)


def withhold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 6.15 for nobody: TCP's table says nothing of MPTCP. tcp_info is as long as in 6.2."""
    once, whole = sock_diag.dump_subflows, mp.TCPInfo.fields["rehash"].place.end

    def dump(states: int, limit: int, port: int, inodes: Any) -> tuple[memoryview, int]:
        rows, length = once(states, limit, port, inodes)
        stride, kept = sock_diag.subflow_stride_of(length), bytearray()
        for at in range(0, len(rows), stride):
            row = bytearray(rows[at : at + 112 + min(length, whole)])
            row[72:112] = bytes(40)
            if row[1] == State.LISTEN or int.from_bytes(row[68:72], sys.byteorder) in set(inodes):
                kept += row
        return memoryview(bytes(kept)), min(length, whole)

    monkeypatch.setattr(sock_diag, "dump_subflows", dump)


def test_what_a_kernel_withholds_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are found by the inode, without id and flags; missing says what cannot be told."""

    def look() -> None:
        with two_paths(socket.AF_INET) as (client, accepted), fallback_pair(socket.AF_INET) as (other, _):
            withhold(monkeypatch)
            found = mp.mptcp_diag(subflows=True)
            assert len(found.missing) == 1
            assert "CAP_NET_ADMIN" in found.missing[0]
            assert [len(of(sock).subflows) for sock in (client, accepted, other)] == [2, 2, 1]
            (first, _) = of(client).subflows
            assert (first.id, first.flags, first.backup_local, first.opened_by) == (None, None, None, None)
            assert first.live
            assert (of(other).status, of(other).fallback_reason) == (Status.FALLBACK, None)
        until(lambda: not mp.mptcp_diag()[:], "their end")
        assert mp.mptcp_diag(subflows=True).missing == ()

    in_private_network(look)


def test_without_ids_the_initial_path_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the addresses of the connection, whichever they are."""

    def look() -> None:
        with two_paths(socket.AF_INET) as (client, _):
            withhold(monkeypatch)
            one = of(client)
            for path in one.subflows:
                assert one.row is not None
                row = mp.MPTCPDiagMsg(path[: layouts.DIAG_INFO_AT] + one.row.info.raw)
                for paths in (one.subflows, one.subflows[::-1]):
                    assert mp.MPTCPConnection(row, paths).subflows[0] == path
                    length, tcp_length = len(row.info), len(path) - layouts.DIAG_TCP_INFO_AT
                    stride, far = sock_diag.stride_of(length), sock_diag.subflow_stride_of(tcp_length)
                    records = b"".join(bytes(part).ljust(far, b"\0") for part in paths)
                    table = bytes(row).ljust(stride, b"\0")
                    found = mp.MPTCPConnections(0, length, table, tcp_length, records, [(0, 0, 1)])
                    (picked,) = mp.ConnectionPicker()(found)
                    assert picked["subflows"][0]["local"] == list(path.local)

    in_private_network(look)


def test_nothing_is_withheld_where_there_is_nothing() -> None:
    """No path is left, and TCP's table is empty, or has sockets of TCP: nobody is alarmed."""

    def look() -> None:
        with contextlib.ExitStack() as stack:
            with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
                client = stack.enter_context(mp.create_connection(server.getsockname(), 5, fallback=False))
                accepted = stack.enter_context(server.accept()[0])
            exchange(client, accepted)
            destroy(client.getsockname(), client.getpeername())
            until(lambda: of(client).dead and of(accepted).dead, "the end of the path")
            assert mp.mptcp_diag(subflows=True).missing == ()
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            has_told = mp.mptcp_diag(subflows=True).missing == ()
            assert has_told
            if len(mp.snapshot(listener).subflows[0].tcp_info) >= layouts.TCP_INFO_OF_6_18:
                become_nobody()
                assert mp.mptcp_diag(subflows=True).missing == ()

    in_private_network(look)


def test_the_first_of_two_dumps() -> None:
    """Where IPv4 has a connection, IPv6 is not asked: the kernel may still be busy with the first."""

    def look() -> None:
        with connections(300):
            mp.mptcp_diag()  # where there is none, this test is skipped
            made = sock_diag.Dump(sock_diag.LIMIT, first=True)
            result, found = sock_diag.attempt(2**32 - 1, socket.AF_INET, socket.AF_INET6, made=made)
            assert (result, found.c.used) == (0, found.c.stride)

    in_private_network(look)


def test_a_row_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended during the dump, and gets no path: TCP's listeners have no token, either."""

    def look() -> None:
        with mptcp_pair(socket.AF_INET) as (client, _), socket.create_server(("127.0.0.1", 0)):
            once, at = sock_diag.dump, layouts.DIAG_INFO_AT + mp.MPTCPInfo.fields["token"].place.offset

            def dump(*of: Any, **options: Any) -> tuple[memoryview, int]:
                rows, length = once(*of, **options)
                row = bytearray(rows[: sock_diag.stride_of(length)])
                row[at : at + 4] = bytes(4)
                return memoryview(bytes(row) + rows), length

            assert of(client).subflows
            monkeypatch.setattr(sock_diag, "dump", dump)
            found = mp.mptcp_diag(subflows=True)
            assert [len(one.subflows) for one in found] == [1, 1]
            assert None not in [one.token for one in found]

    in_private_network(look)


def test_a_codec_is_not_needed() -> None:
    """After a chroot, none can be loaded."""

    def look() -> None:
        with mp.create_server(("127.0.0.1", 0), fallback=False):
            code = (
                "import sys, os, mptcp_sockopt as mp; mp.mptcp_diag; sys.path.clear(); sys.meta_path.clear();"
            )
            code += "print(len(mp.mptcp_diag(subflows=True)))"
            done = run(sys.executable, "-c", code)
            assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr

    in_private_network(look)


def test_a_kernel_or_a_policy_that_refuses() -> None:
    """As mptcp_diag(): it is said who was asked."""
    refusal = ("socket", {0: int(socket.AF_NETLINK)}, errno.EPERM)
    for call in (lambda: mp.mptcp_diag(subflows=True), lambda: mp.mptcp_lookup(token=1)):
        with pytest.raises(PermissionError, match=r"mptcp_\w+\(\): socket\(AF_NETLINK\)"):
            where_refused([refusal], call)
