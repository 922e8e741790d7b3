# SPDX-License-Identifier: MIT
"""mptcp_diag(subflows=True): what MPTCP's table lacks, or no longer has."""

from __future__ import annotations

import contextlib
import socket

import pytest

import mptcp_sockopt as mp

from .boxes import Box, Segment
from .causes import CAUSES, fallen, network
from .support import (
    LOOPBACK,
    exchange,
    in_private_network,
    inode,
    until,
)
from .test_connections import of

State, Status = mp.TCPState, mp.Status


@pytest.fixture(autouse=True)
def _mptcp(mptcp: None) -> None:
    """Every test here needs MPTCP."""


def test_a_connection_that_an_mptcp_listener_accepted_as_tcp(family: int) -> None:
    """With status TCP. Not what a TCP listener accepted at another address of the same port, nor a client."""

    def look() -> None:
        host = LOOPBACK[socket.AddressFamily(family)]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(mp.create_server((host, 0), family=family, fallback=False))
            port = listener.getsockname()[1]
            plain = stack.enter_context(socket.create_server(("127.0.0.2", port)))
            for server in (listener, plain):
                client = stack.enter_context(socket.create_connection(server.getsockname()[:2], 5))
                accepted = stack.enter_context(server.accept()[0])
                client.sendall(b"x")
                accepted.recv(1)
                if server is listener:
                    first, its = accepted, client
            (one,) = mp.mptcp_diag(subflows=True)
            assert (one.status, one.inode, one.info, one.token) == (Status.TCP, inode(first), None, None)
            assert (one.local, one.remote) == (first.getsockname(), its.getsockname())
            (path,) = one.subflows
            assert (path.flags, path.id, path.opened_by) == (None, None, None)
            assert path.tcp_info is not None
            assert path.tcp_info.bytes_received == 1
            assert [other.inode for other in mp.mptcp_diag(subflows=True, port=port)] == [inode(first)]
            assert len(mp.mptcp_diag(subflows=True, port=1)) == 0
            # One that has not received anything is told, too.
            stack.enter_context(socket.create_connection(listener.getsockname()[:2], 5))
            stack.enter_context(listener.accept()[0])
            assert [other.status for other in mp.mptcp_diag(subflows=True)] == [Status.TCP] * 2

    in_private_network(look)


def test_a_connection_made_while_mptcp_was_suspended(family: int) -> None:
    """It is in no dump of MPTCP sockets, and told as a fallback, also where it is the only one."""

    def look() -> None:
        with fallen("suspended", family) as (client, _, _):
            assert not [row for row in mp.mptcp_diag() if row.inode == inode(client)]
            one = of(client)
            assert (one.status, one.info, one.token) == (Status.FALLBACK, None, None)
            assert one.fallback_reason is mp.FallbackReason.SUSPENDED
            assert (one.state, one.dead, one.live_count) == (State.ESTABLISHED, False, 1)
            assert (one.local, one.remote) == (client.getsockname(), client.getpeername())
            until(
                lambda: [one.inode for one in mp.mptcp_diag(subflows=True)] == [inode(client)],
                "the first's end",
            )
            assert of(client, client.getpeername()[1]).inode == inode(client)

    in_private_network(look)


@pytest.mark.parametrize("cause", ["tcp_listener", "server_stripped", "payload_altered"])
def test_a_connection_that_fell_back(cause: str, family: int) -> None:
    """Its row has the reason that its cause belongs to."""

    def look() -> None:
        with fallen(cause, family) as (client, _, _):
            one = of(client)
            assert (one.status, one.fallback_reason) == (Status.FALLBACK, CAUSES[cause].reason)
            assert one.asdict()["fallback_reason"] == one.fallback_reason
            assert len(one.subflows) == 1

    in_private_network(look)


def no_fin(segment: Segment) -> bool:
    """Lose what ends a subflow."""
    return not segment.flags & 1


def test_a_subflow_whose_connection_is_gone() -> None:
    """Both ends closed the connection; the FIN of the subflow gets no answer."""

    def look() -> None:
        with network("sound", serving=False) as made, made.client:
            client = mp.create_connection(made.address, timeout=5, fallback=False)
            accepted, _ = made.listener.accept()
            exchange(client, accepted)
            (before,) = mp.mptcp_diag(subflows=True)
            made.paths.alter(0, Box(no_fin))
            client.close()
            accepted.close()
            until(lambda: not len(mp.mptcp_diag()), "the end of the connection")
            (one,) = mp.mptcp_diag(subflows=True)
            assert (one.status, one.info, one.token) == (Status.CLOSING, None, before.token)
            assert (one.state, one.live_count, one.dead, one.inode) == (State.FIN_WAIT1, 1, False, 0)
            assert (one.local, one.fallback_reason) == (before.local, None)
            assert mp.mptcp_lookup(token=before.token) is None
            gone = mp.mptcp_lookup(before.local, before.remote)
            assert gone is not None
            assert gone.status is Status.CLOSING

    in_private_network(look)
