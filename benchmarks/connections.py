# SPDX-License-Identifier: MIT
"""The sockets that are measured, in network namespaces of their own."""

from __future__ import annotations

import contextlib
import gc
import resource
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .measure import Missing

T = TypeVar("T")

MOST_SUBFLOWS = 9  # the initial one, and eight of the in-kernel path manager
PATIENCE = 10.0  # seconds, for what the kernel has under way


def apart(function: Callable[[], T], seconds: float) -> T:
    """Call function in a forked child, in a network namespace of its own, without garbage collection.

    Missing where there is no MPTCP or no such namespace.
    """
    support = mp.is_supported()
    if not support:
        raise Missing(f"no MPTCP here: {support.value}")

    def inside() -> T:
        gc.collect()
        gc.disable()
        return function()

    try:
        return testing.in_private_network(inside, within=seconds)
    except testing.UnavailableError as error:
        raise Missing(str(error)) from None


def listen(address: str = "127.0.0.1") -> socket.socket:
    return mp.create_server((address, 0), backlog=1024, fallback=False)


def pair(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A connection that has carried a byte each way: it is fully established then."""
    client = mp.create_connection(server.getsockname(), timeout=PATIENCE, fallback=False)
    accepted, _ = server.accept()
    for one, other in ((client, accepted), (accepted, client)):
        one.sendall(b"x")
        other.recv(1)
    return client, accepted


@contextlib.contextmanager
def of_subflows(counts: range) -> Iterator[dict[int, tuple[socket.socket, socket.socket]]]:
    """Connections with that many subflows each, side by side: the client's and the server's end."""
    with contextlib.ExitStack() as kept:
        # Endpoints first: one that comes later would give the connections that are there a subflow too.
        for number in range(2, MOST_SUBFLOWS + 1):
            testing.add_endpoint(f"127.0.9.{number}")
        server = kept.enter_context(listen())  # stays open: MP_JOIN needs it
        pairs = {}
        for count in counts:
            testing.set_limits(count - 1, 0)
            pairs[count] = pair(server)
            for sock in pairs[count]:
                kept.enter_context(sock)
            await_subflows(pairs[count][0], count)
        for count, (client, _) in pairs.items():
            await_subflows(client, count)
        yield pairs


@contextlib.contextmanager
def without_mptcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection of plain TCP, and one of an MPTCP socket that fell back: each the client's end."""
    with contextlib.ExitStack() as kept:
        server = kept.enter_context(socket.create_server(("127.0.0.1", 0)))
        clients = []
        for connect in (socket.create_connection, mp.create_connection):
            client = kept.enter_context(connect(server.getsockname(), timeout=PATIENCE))
            accepted = kept.enter_context(server.accept()[0])
            client.sendall(b"x")
            accepted.recv(1)
            clients.append(client)
        tcp, fallen = clients
        yield tcp, fallen


def await_subflows(client: socket.socket, count: int) -> None:
    try:
        testing.wait_for(client, subflows=count, within=PATIENCE)
    except TimeoutError as error:
        raise Missing(str(error)) from None


def allow_descriptors(count: int) -> None:
    """Missing where this process may not have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 64
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Missing(f"{needed} descriptors: the hard limit is {hard} (ulimit -Hn)")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Many:
    """Exactly so many connected MPTCP sockets in this namespace, and nothing else: both ends of each
    connection are here. grow() makes them more."""

    def __init__(self) -> None:
        self.socks: list[socket.socket] = []

    def grow(self, count: int) -> list[socket.socket]:
        allow_descriptors(count)
        with listen() as server:
            while len(self.socks) < count:
                self.socks += pair(server)
        return self.socks
