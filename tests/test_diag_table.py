# SPDX-License-Identifier: MIT
"""What mptcp_diag() tells and what it does not: the table of docs/mptcp_diag.md, a test a row."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .net import counters, destroy, lose, without_cookies
from .support import (
    LOOPBACK,
    Missing,
    exchange,
    fallback_pair,
    in_private_network,
    inode,
    listen_at,
    mptcp_pair,
    reset,
    tcp_pair,
    until,
)

State = mp.TCPState


def states(*, listening: bool = False) -> list[tuple[int, int]]:
    """Inode and state of every row."""
    return sorted((row.inode, row.state) for row in mp.mptcp_diag(listening=listening))


def server_of(family: int, **options: bool) -> socket.socket:
    address = (LOOPBACK[socket.AddressFamily(family)], 0)
    return mp.create_server(address, family=family, fallback=False, **options)


@contextlib.contextmanager
def connecting_to_a_full_queue() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP listener that answers no SYN, as its accept queue is full, and an MPTCP client of it."""
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        stack.enter_context(socket.create_connection(deaf.getsockname(), 5))
        client = stack.enter_context(mp.create_socket(fallback=False))
        client.setblocking(False)
        assert client.connect_ex(deaf.getsockname()) == errno.EINPROGRESS
        yield deaf, client


def connected(family: int) -> None:
    with mptcp_pair(family) as (client, server):
        exchange(client, server)
        assert states() == sorted((inode(sock), State.ESTABLISHED) for sock in (client, server))
        client.shutdown(socket.SHUT_WR)
        until(lambda: (inode(client), State.FIN_WAIT2) in states(), "FIN_WAIT2")
        assert (inode(server), State.CLOSE_WAIT) in states()


def connecting(family: int) -> None:
    with connecting_to_a_full_queue() as (_, client):
        assert states() == [(inode(client), State.SYN_SENT)]


def waiting_for_accept(family: int) -> None:
    with server_of(family) as server, mp.create_connection(server.getsockname()[:2], 5) as client:
        until(lambda: states() == [(0, State.ESTABLISHED), (inode(client), State.ESTABLISHED)], "the queue")
        with server.accept()[0] as accepted:
            assert inode(accepted) in dict(states())


def fell_back(family: int) -> None:
    with fallback_pair(family) as (client, server):
        exchange(client, server)
        (row,) = mp.mptcp_diag()
        assert (row.inode, row.fallback) == (inode(client), True)


def connected_while_mptcp_was_given_up(family: int) -> None:
    kernel = Path("/proc/sys/net/mptcp")
    if not (kernel / "blackhole_timeout").exists():
        raise Missing("this kernel has no blackhole detection (Linux 6.12)")
    with server_of(family) as server, connecting_to_a_full_queue() as (deaf, client):
        lost = 2  # SYNs are repeated so often before one has no MPTCP option
        with contextlib.suppress(OSError):
            (kernel / "syn_retrans_before_tcp_fallback").write_text("0")
            lost = 0
        until(lambda: mp.mptcp_tcpinfo(client)[0].retransmits >= lost, "SYNs")
        with deaf.accept()[0]:
            until(lambda: counters()["Blackhole"], "the answer to a SYN without the option")
            assert mp.status(client) is mp.Status.FALLBACK
            assert [row.inode for row in mp.mptcp_diag()] == [inode(client)]
            with (
                mp.create_connection(server.getsockname()[:2], 5, fallback=False) as late,
                server.accept()[0] as accepted,
            ):
                exchange(late, accepted)
                assert (mp.status(late), mp.status(accepted)) == (mp.Status.FALLBACK, mp.Status.TCP)
                assert [row.inode for row in mp.mptcp_diag()] == [inode(client)]


def closed_and_still_ending(family: int) -> None:
    with mptcp_pair(family) as (client, server):
        exchange(client, server)
        token = mp.mptcp_info(client).token
        client.close()
        (row,) = [row for row in mp.mptcp_diag() if row.info.token == token]
        assert (row.inode, row.timer) == (0, 2)
        assert 0 < row.expires <= 60_000


def listening(family: int) -> None:
    with server_of(family) as server, mp.create_connection(server.getsockname()[:2], 5) as client:
        until(lambda: len(mp.mptcp_diag()) == 2, "the server's end")
        assert inode(server) not in dict(states())
        (row,) = [row for row in mp.mptcp_diag(listening=True) if row.inode == inode(server)]
        assert (row.state, row.local, row.remote[1]) == (State.LISTEN, server.getsockname(), 0)
        assert (row.rqueue, row.wqueue) == (1, 128)  # create_server()'s backlog
        assert inode(client) in dict(states(listening=True))


def sharing_a_port(family: int) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(server_of(family, reuse_port=True))
        group = {inode(first)}
        for _ in range(4):
            other = mp.create_server(
                first.getsockname()[:2], family=family, reuse_port=True, fallback=False, backlog=7
            )
            group.add(inode(stack.enter_context(other)))
        assert states(listening=True) == sorted((number, State.LISTEN) for number in group)


def the_kernels_own(family: int) -> None:
    address = LOOPBACK[socket.AddressFamily(family)]
    listen_at(address, 7777)
    (row,) = mp.mptcp_diag(listening=True)
    assert (row.state, row.local[:2]) == (State.LISTEN, (address, 7777))


def fresh_or_bound(family: int) -> None:
    with mp.create_socket(family, fallback=False) as sock:
        assert states(listening=True) == []
        sock.bind((LOOPBACK[socket.AddressFamily(family)], 0))
        assert states(listening=True) == []


def ended_and_open(family: int) -> None:
    with mptcp_pair(family) as (client, server):
        exchange(client, server)
        tokens = {inode(sock): mp.mptcp_info(sock).token for sock in (client, server)}
        client.shutdown(socket.SHUT_RDWR)
        assert server.recv(1) == b""
        server.shutdown(socket.SHUT_RDWR)
        until(lambda: {state for _, state in states()} == {State.CLOSE}, "the end")
        assert {row.inode: row.info.token for row in mp.mptcp_diag()} == tokens


def only_path_reset(family: int) -> None:
    with mptcp_pair(family) as (client, server):
        exchange(client, server)
        listed = states()
        destroy(client.getsockname(), client.getpeername())
        until(lambda: {mp.status(sock) for sock in (client, server)} == {mp.Status.CLOSED}, "the RST")
        assert [number for number, _ in states()] == [number for number, _ in listed]
        assert State.CLOSE not in dict(states()).values()


def only_path_reset_and_closed(family: int) -> None:
    with mptcp_pair(family) as (client, server):
        exchange(client, server)
        assert len(states()) == 2
        destroy(client.getsockname(), client.getpeername())
        until(lambda: {mp.status(sock) for sock in (client, server)} == {mp.Status.CLOSED}, "the RST")
        client.close()
        server.close()
        until(lambda: states() == [], "the end")


def ended(family: int) -> None:
    with mptcp_pair(family) as (client, server):
        exchange(client, server)
        client.close()
        server.close()
        until(lambda: states() == [], "the end")


def was_reset(family: int) -> None:
    with mptcp_pair(family) as (client, server):
        exchange(client, server)
        reset(client, server)
        until(lambda: [state for _, state in states() if state != State.CLOSE] == [], "the reset")
        server.close()
        until(lambda: states() == [], "the end")


def handshake_in_flight(family: int) -> None:
    with server_of(family) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        with mp.create_connection(server.getsockname()[:2], 5, fallback=False) as client:
            assert states() == [(inode(client), State.ESTABLISHED)]


def fast_open_in_flight(family: int) -> None:
    without_cookies()
    with server_of(family) as server, mp.create_socket(family, fallback=False) as client:
        try:
            server.setsockopt(socket.SOL_TCP, socket.TCP_FASTOPEN, 16)
        except OSError as error:
            raise Missing(f"TCP Fast Open of MPTCP listeners: {error}") from None
        lose(f"tcp dport {server.getsockname()[1]} tcp flags & syn != syn")
        assert client.sendto(b"hello", socket.MSG_FASTOPEN, server.getsockname()) == 5
        with server.accept()[0] as accepted:
            assert accepted.recv(5) == b"hello"
            assert mp.status(accepted) is mp.Status.CONNECTING
            (path,) = mp.snapshot(accepted).subflows
            assert (path.tcp_info.state, path.live) == (State.SYN_RECV, False)
            assert states() == sorted((inode(sock), State.ESTABLISHED) for sock in (client, accepted))


def accepted_from_tcp(family: int) -> None:
    with (
        server_of(family) as server,
        socket.create_connection(server.getsockname()[:2], 5),
        server.accept()[0] as accepted,
    ):
        assert mp.status(accepted) is mp.Status.TCP
        assert states() == []


def plain_tcp(family: int) -> None:
    with tcp_pair(family), socket.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family):
        assert states(listening=True) == []


def of_another_namespace(family: int) -> None:
    with server_of(family) as server, mp.create_connection(server.getsockname()[:2], 5):
        until(lambda: len(states(listening=True)) == 3, "the server's end")
        testing.enter_private_network()
        assert states(listening=True) == []


YES, NO = True, False
# The table's words of a socket, whether it is told, and the proof.
ROWS: dict[str, tuple[bool, Callable[[int], None]]] = {
    "connected, half closed": (YES, connected),
    "connecting (SYN sent)": (YES, connecting),
    "waiting for accept()": (YES, waiting_for_accept),
    "fell back to TCP": (YES, fell_back),
    "closed by its process, still ending": (YES, closed_and_still_ending),
    "listening": (YES, listening),
    "listening, one of several on a port (SO_REUSEPORT)": (YES, sharing_a_port),
    "listening for an endpoint with a port": (YES, the_kernels_own),
    "fresh, or bound only": (NO, fresh_or_bound),
    "ended at both sides, not closed by its process": (YES, ended_and_open),
    "ended and closed at both sides": (NO, ended),
    "its only path reset (RST), not closed by its process": (YES, only_path_reset),
    "its only path reset (RST), and closed": (NO, only_path_reset_and_closed),
    "reset as a whole (SO_LINGER 0: MP_FASTCLOSE)": (NO, was_reset),
    "handshake not completed: the last ACK is missing": (NO, handshake_in_flight),
    "the same, with data in the SYN (TCP Fast Open)": (YES, fast_open_in_flight),
    "fell back before its first packet": (NO, connected_while_mptcp_was_given_up),
    "accepted by an MPTCP listener from a plain TCP peer": (NO, accepted_from_tcp),
    "plain TCP": (NO, plain_tcp),
    "of another network namespace": (NO, of_another_namespace),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_table(row: str, family: int) -> None:
    """Real sockets of that kind, in a network namespace of their own, are told or not as the row says."""
    in_private_network(lambda: ROWS[row][1](family))
