# SPDX-License-Identifier: MIT
"""mptcp_diag(subflows=True): connections with their paths, and what becomes of both."""

from __future__ import annotations

import contextlib
import json
import pickle
import socket
from collections.abc import Iterator

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .net import destroy
from .support import (
    LOOPBACK,
    connected,
    connections,
    exchange,
    in_private_network,
    inode,
    mptcp_pair,
    rounds,
    until,
)

State, Status, Flag = mp.TCPState, mp.Status, mp.SubflowFlag
MAPPING = ("relwrite_seq", "map_seq", "map_sfseq", "ssn_offset", "map_datalen")


@pytest.fixture(autouse=True)
def _mptcp(mptcp: None) -> None:
    """Every test here needs MPTCP."""


def of(sock: socket.socket, port: int = 0) -> mp.MPTCPConnection:
    (found,) = [one for one in mp.mptcp_diag(subflows=True, port=port) if one.inode == inode(sock)]
    return found


@contextlib.contextmanager
def two_paths(
    family: int, port: int = 0, interface: str = ""
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection over loopback with a joined subflow; with port, it was joined there, with
    interface, it is bound to that."""
    known = socket.AddressFamily(family)
    first, second = {socket.AF_INET: ("127.0.9.1", "127.0.9.2"), socket.AF_INET6: ("fd09::1", "fd09::2")}[
        known
    ]
    testing.set_limits(2, 2)
    for address in (first, second):
        testing.add_address(address)
    testing.add_endpoint(second, interface, signal=bool(port), port=port)
    client = mp.create_socket(family, fallback=False)
    client.bind((first, 0))
    with connected(mp.create_server((LOOPBACK[known], 0), family=family, fallback=False), client) as ends:
        client, accepted = ends
        exchange(client, accepted)
        until(
            lambda: min(of(sock).live_count for sock in ends) >= 2,
            "the second subflow",
        )
        yield client, accepted


# -------------------------------------------------------------------------------------- what is told of it


def test_both_ends_of_a_connection(family: int) -> None:
    """Addresses, owner, counters and the one path of each: the client opened it."""

    def look() -> None:
        with mptcp_pair(family) as (client, server):
            exchange(client, server, 1000)
            for sock, opened_by, asked in ((client, "local", True), (server, "remote", False)):
                one = of(sock)
                assert (one.status, one.state) == (Status.MPTCP, State.ESTABLISHED)
                assert (one.dead, one.complete) == (False, True)
                assert one.info is not None
                assert (one.token, one.uid, one.rqueue) == (mp.mptcp_info(sock).token, 0, 0)
                assert (one.info.token, one.info.bytes_sent) in [(one.token, 1000), (one.token, None)]
                assert one.fallback_reason is None
                (path,) = one.subflows
                for part in (one, path):
                    assert (part.local, part.remote) == (sock.getsockname(), sock.getpeername())
                    assert part.inode == inode(sock)
                assert (path.id, path.remote_id, path.ifindex, path.uid) == (0, 0, 0, 0)
                assert (path.opened_by, path.live, path.state) == (opened_by, True, State.ESTABLISHED)
                assert (path.backup_local, path.backup_remote, path.stalled) == (False, False, None)
                assert (path.token_local, path.token_remote) == (one.token, 0)
                assert path.flags is not None
                assert (Flag.MCAP_REM in path.flags, Flag.MCAP_LOC in path.flags) == (True, asked)
                assert Flag.FULLY_ESTABLISHED | Flag.CONNECTED in path.flags
                assert path.tcp_info is not None
                assert path.tcp_info.bytes_received == 1000
                assert None not in [getattr(path, name) for name in MAPPING]

    in_private_network(look)


def test_a_joined_subflow(family: int) -> None:
    """The initial one comes first. Ids are those of both ends; the client knows the peer's token."""

    def look() -> None:
        with two_paths(family) as (client, accepted):
            mine, its = of(client), of(accepted)
            first, second = mine.subflows
            assert (first.id, first.flags is not None and Flag.JOIN_LOC in first.flags) == (0, False)
            assert (second.id != 0, second.remote_id, second.opened_by) == (True, 0, "local")
            assert second.flags is not None
            assert Flag.JOIN_LOC | Flag.JOIN_REM in second.flags
            assert (second.token_local, second.token_remote) == (mine.token, its.token)
            assert [path.remote_id for path in its.subflows] == [0, second.id]
            assert [path.opened_by for path in its.subflows] == ["remote", "remote"]
            ends = {(path.local, path.remote) for path in its.subflows}
            assert ends == {(path.remote, path.local) for path in mine.subflows}
            assert {(path.inode, path.token_local) for path in its.subflows} == {(its.inode, its.token)}
            assert [len(mp.mptcp_tcpinfo(sock)) for sock in (client, accepted)] == [2, 2]

    in_private_network(look)


def test_a_backup_path() -> None:
    """The bit of the end that asked for it, at both ends."""

    def look() -> None:
        testing.set_limits(2, 2)
        testing.add_endpoint("127.0.9.2", backup=True)
        with mptcp_pair(socket.AF_INET) as (client, accepted):
            exchange(client, accepted)
            until(lambda: of(client).live_count == of(accepted).live_count == 2, "the second subflow")
            mine, its = of(client).subflows, of(accepted).subflows
            assert [(path.backup_local, path.backup_remote) for path in mine] == [
                (False, False),
                (True, False),
            ]
            assert [(path.backup_local, path.backup_remote) for path in its] == [
                (False, False),
                (False, True),
            ]

    in_private_network(look)


def test_ipv4_at_a_dual_stack_server() -> None:
    """Its end is an IPv6 socket with v4-mapped addresses."""

    def look() -> None:
        server = mp.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, fallback=False)
        address = "127.0.0.1", server.getsockname()[1]
        with (
            server,
            mp.create_connection(address, timeout=5, fallback=False) as client,
            server.accept()[0] as accepted,
        ):
            exchange(client, accepted)
            (path,) = of(accepted).subflows
            assert (path.local, path.remote) == (accepted.getsockname(), accepted.getpeername())
            assert path.local[0] == "::ffff:127.0.0.1"
            assert of(client).subflows[0].local == client.getsockname()

    in_private_network(look)


def test_a_removed_initial_subflow(family: int) -> None:
    """It is not among the paths; the other one is, and the connection is not dead."""

    def look() -> None:
        with two_paths(family) as (client, _):
            testing.delete_initial_address(client.getsockname()[0])
            until(lambda: len(of(client).subflows) == 1, "the end of the initial subflow")
            (path,) = of(client).subflows
            assert (path.id != 0, path.live, of(client).dead) == (True, True, False)
            assert of(client).local == client.getsockname()
            assert [one.local for one in of(client, client.getpeername()[1]).subflows] == [path.local]

    in_private_network(look)


def test_a_connection_whose_paths_all_died(family: int) -> None:
    """dead; closed, it is not."""

    def look() -> None:
        with mptcp_pair(family) as (client, server):
            exchange(client, server)
            destroy(client.getsockname(), client.getpeername())
            until(lambda: not (of(client).subflows or of(server).subflows), "the end of both")
            for sock in (client, server):
                one = of(sock)
                assert (one.status, one.dead, one.live_count) == (Status.CLOSED, True, 0)
                assert one.state == State.ESTABLISHED
                assert mp.status(sock) is Status.CLOSED
            client.close()
            assert [one.inode for one in mp.mptcp_diag(subflows=True) if one.dead] == [inode(server)]

    in_private_network(look)


def test_connecting_and_ended(family: int) -> None:
    """A SYN without an answer; and what both ends closed, but not its process."""

    def look() -> None:
        with contextlib.ExitStack() as stack:
            deaf = stack.enter_context(socket.socket())
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            stack.enter_context(socket.create_connection(deaf.getsockname(), 5))
            client = stack.enter_context(mp.create_socket(fallback=False))
            client.setblocking(False)
            client.connect_ex(deaf.getsockname())
            one = of(client)
            assert (one.status, one.state, one.dead) == (Status.CONNECTING, State.SYN_SENT, False)
            assert [path.state for path in one.subflows] == [State.SYN_SENT]
            ends = stack.enter_context(mptcp_pair(family))
            for sock in ends:
                sock.shutdown(socket.SHUT_WR)
            until(lambda: all(of(sock).state == State.CLOSE for sock in ends), "the end")
            assert [(of(sock).status, of(sock).dead) for sock in ends] == [(Status.CLOSED, False)] * 2

    in_private_network(look)


# --------------------------------------------------------------------------------------------- the results


def test_the_result_is_a_sequence() -> None:
    """Of equal, immutable connections, whichever way to them; it can be pickled and made JSON."""

    def look() -> None:
        with connections(2):
            found = mp.mptcp_diag(subflows=True)
            assert len(found) == 4
            assert tuple(found) == found[:] == tuple(found[n] for n in range(4)) == found[-4:]
            assert found[-1] in found
            with pytest.raises(IndexError, match="connection 4 of 4"):
                found[4]
            with pytest.raises(AttributeError, match="cannot be changed"):
                found.time = 0
            with pytest.raises(AttributeError, match="cannot be changed"):
                del found.missing
            copy = pickle.loads(pickle.dumps(found))
            assert (copy[:], copy.time, copy.missing) == (found[:], found.time, ())
            assert pickle.loads(pickle.dumps(found[0])) == found[0]
            assert len({*found, *copy}) == 4
            clean = json.loads(json.dumps(found.asdict(clean=True)))
            one = clean["connections"][0]
            assert (one["status"], one["state"], one["dead"]) == ("mptcp", 1, False)
            assert one["subflows"][0]["tcp_info"]["max_pacing_rate"] is None
            assert one["subflows"][0]["flags"] == int(found[0].subflows[0].flags or 0)
            assert "4," in repr(found)
            assert "127.0.0.1" in str(found)
            for shown in (found[0], found[0].subflows[0]):
                assert str(found[0].local[1]) in repr(shown)
                assert "ESTABLISHED" in str(shown)

    in_private_network(look)


def test_a_connection_has_a_row_or_a_subflow() -> None:
    with pytest.raises(ValueError, match="a row or a subflow"):
        mp.MPTCPConnection(None, ())


def test_flags_are_named() -> None:
    """Those that we do not know as a number."""
    assert str(Flag.MCAP_REM | Flag.CONNECTED) == "MCAP_REM|CONNECTED"
    assert f"{Flag(1 << 12 | 1)}" == "MCAP_REM|0x1000"
    assert f"{Flag(0)} {Flag.MAPVALID:d}" == "0 256"


@pytest.mark.parametrize("dumps", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_under_churn_nothing_is_called_dead(dumps: int) -> None:
    """Connections come and go, some by a reset, while dumps are made: none is dead, TCP or suspended."""
    in_private_network(lambda: churn(rounds(dumps)))


def churn(dumps: int) -> None:
    server = mp.create_server(("127.0.0.1", 0), fallback=False)

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError), server.accept()[0] as accepted:
                accepted.recv(1)
                accepted.send(b"y")
                accepted.recv(1)

    def connect() -> None:
        number = 0
        while True:
            with mp.create_connection(server.getsockname(), fallback=False) as client:
                client.send(b"x")
                client.recv(1)
                number += 1
                if number % 4 == 0:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with contextlib.ExitStack() as stack:
        for work in (serve, serve, connect, connect):
            stack.enter_context(testing.Child(work))
        until(lambda: len(mp.mptcp_diag()), "connections")
        found = done = 0
        while done < dumps or found <= dumps:  # on a slow machine, many find nothing
            done += 1
            for one in mp.mptcp_diag(subflows=True):
                found += 1
                assert not one.dead, one
                assert one.status is not Status.TCP, one
                assert one.fallback_reason is None, one
