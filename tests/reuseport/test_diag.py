# SPDX-License-Identifier: MIT
"""Handshakes in flight, accept queues and holders of real sockets."""

from __future__ import annotations

import array
import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from mptcp_sockopt import processes
from reuseport import _diag, _net

from ..support import DEADLINE, LOOPBACK, in_private_network, until


@contextlib.contextmanager
def deferring(family: int, mptcp: bool = False) -> Iterator[tuple[str, int]]:
    """A listener that leaves a connection in SYN_RECV until the client has spoken (TCP_DEFER_ACCEPT)."""
    with _net.listen((LOOPBACK[socket.AddressFamily(family)], 0), family=family, mptcp=mptcp) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        yield _net.name(listener)


def connect(family: int, address: tuple[str, int], mptcp: bool = False) -> socket.socket:
    client = _net.open_socket(family, mptcp=mptcp)
    client.settimeout(DEADLINE)
    client.connect(address)
    return client


@pytest.mark.parametrize("kind", ["tcp", "mptcp"])
def test_unaccepted(family: int, kind: str) -> None:
    """Those in the accept queue, also when their client has closed; not those that were accepted."""
    where, mptcp = (LOOPBACK[socket.AddressFamily(family)], 0), kind == "mptcp"
    with _net.listen(where, family=family, mptcp=mptcp) as listener, contextlib.ExitStack() as stack:
        address = _net.name(listener)
        first, _ = (stack.enter_context(connect(family, address, mptcp)) for _ in range(2))
        until(lambda: len(_diag.unaccepted(address[1])) == 2, "two in the queue")
        before = _diag.unaccepted(address[1])
        first.close()
        assert _diag.unaccepted(address[1]) == before
        with listener.accept()[0]:
            assert len(_diag.unaccepted(address[1]) & before) == 1


@pytest.mark.parametrize("kind", ["tcp", "mptcp"])
def test_handshakes_in_flight(family: int, kind: str) -> None:
    """They are in the set until they are in the accept queue, and only those of the port."""
    multipath = kind == "mptcp"
    with deferring(family, multipath) as address, deferring(family, multipath) as other:
        assert _diag.syn_received(address[1]) == frozenset()
        with connect(family, address, multipath) as one, connect(family, address, multipath) as two:
            with connect(family, other, multipath):
                both = {(address, _net.name(client)) for client in (one, two)}
                assert _diag.syn_received(address[1]) == both
            one.send(b"x")
            rest = {(address, _net.name(two))}
            until(lambda: _diag.syn_received(address[1]) == rest, "the first handshake to end")
            assert [x.queue for x in processes.listeners(address[1])] == [1]


def test_a_handshake_whose_ack_never_comes(family: int) -> None:
    """Here the client's filter drops every SYN-ACK; when the client lets one in, the handshake ends."""
    in_private_network(lambda: handshake_without_ack(family))  # some kernels ask privilege for a filter


def handshake_without_ack(family: int) -> None:
    so_attach_filter, so_detach_filter = 26, 27
    drop_all = array.array("B", struct.pack("=HBBI", 0x06, 0, 0, 0))  # ret #0
    where = (LOOPBACK[socket.AddressFamily(family)], 0)
    with _net.listen(where, family=family) as listener, _net.open_socket(family, mptcp=False) as client:
        program = struct.pack("HP", 1, drop_all.buffer_info()[0])
        client.setsockopt(socket.SOL_SOCKET, so_attach_filter, program)
        client.setblocking(False)
        assert client.connect_ex(_net.name(listener)) == errno.EINPROGRESS
        address = _net.name(listener)
        expected = {(address, _net.name(client))}
        until(lambda: _diag.syn_received(address[1]) == expected, "the handshake")
        assert [x.queue for x in processes.listeners(address[1])] == [0]
        client.setsockopt(socket.SOL_SOCKET, so_detach_filter, 0)
        until(lambda: not _diag.syn_received(address[1]), "a retransmitted SYN to be answered")
        assert [x.queue for x in processes.listeners(address[1])] == [1]


def test_an_ipv4_client_of_a_dual_stack_listener_is_a_mapped_address() -> None:
    """::ffff:127.0.0.1 at both ends."""

    def look() -> None:
        with _net.listen(("::", 5000), family=socket.AF_INET6, v6only=False) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
            with connect(socket.AF_INET, ("127.0.0.1", 5000)) as client:
                remote = ("::ffff:127.0.0.1", _net.name(client)[1])
                expected = {(("::ffff:127.0.0.1", 5000), remote)}
                assert _diag.syn_received(5000) == expected

    in_private_network(look)


def test_more_handshakes_than_one_buffer_holds() -> None:
    """800 of them, each exactly once."""

    def look() -> None:
        with deferring(socket.AF_INET) as address, contextlib.ExitStack() as clients:
            names = set()
            for _ in range(800):
                client = clients.enter_context(connect(socket.AF_INET, address))
                names.add((address, _net.name(client)))
            assert _diag.syn_received(address[1]) == names

    in_private_network(look)
