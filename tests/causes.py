# SPDX-License-Identifier: MIT
"""Every cause for which a connection falls back to TCP, made on purpose. No program, and no root, is needed.

Inside in_private_network(),

    with network("syn_stripped", socket.AF_INET6) as made, made.client:
        ...  # connect to made.address: it falls back for this reason, CAUSES["syn_stripped"].reason

gives two network namespaces, a path between them with a middlebox on it, and a server on the other side that
sends back what it receives. Causes that need data on a sound connection first (``later``), and both ends
connecting at once, do not happen by connecting alone; fallen() makes such a connection, of any cause:

    with fallen("stripped_later") as (client, accepted, grown):
        ...  # client's row in mptcp_diag() is that of a connection that fell back

OTHERS has what looks like a cause and is none, for network(). The middlebox is on the veth path, because
loopback does not notice that an option is gone.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import FallbackReason, testing

from .boxes import Box, alter_payload, drop, drop_data, lengthen, misplace, refuse, shorten, strip
from .net import counters
from .support import DEADLINE, Missing, exchange, until

ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
Ends = tuple[socket.socket, socket.socket]

# ------------------------------------------------------------------------------------------------- causes


class Cause(NamedTuple):
    """How a connection comes to fall back, and the class that its row is in."""

    reason: FallbackReason | None
    box: Box | None = None
    later: Box | None = None  # once data has crossed
    sysctls: dict[str, int] = {}  # noqa: RUF012  # of net.mptcp, on both sides; never changed
    tcp: bool = False  # the server's listener
    resets: bool = False  # the server, at once
    suspended: bool = False  # an earlier connection lost its SYNs
    crossed: bool = False  # both ends connect


_SOON = {"syn_retrans_before_tcp_fallback": 0}  # after one SYN instead of three: in one second
_CHECKSUM = {"checksum_enabled": 1}
_DROP_SYN = Box(drop, to_server=True, syn=True)

#: By name, in the order of docs/fallback.md.
CAUSES = {
    "tcp_listener": Cause(FallbackReason.NO_OPTION_IN_ANSWER, tcp=True),
    "syn_stripped": Cause(FallbackReason.NO_OPTION_IN_ANSWER, Box(strip, to_server=True, syn=True)),
    "synack_stripped": Cause(FallbackReason.NO_OPTION_IN_ANSWER, Box(strip, to_server=False, syn=True)),
    "syn_dropped": Cause(FallbackReason.SYN_LOST_OR_CROSSED, _DROP_SYN, sysctls=_SOON),
    "syn_dropped_unremembered": Cause(
        FallbackReason.SYN_LOST_OR_CROSSED, _DROP_SYN, sysctls={**_SOON, "blackhole_timeout": 0}
    ),
    "both_connect": Cause(FallbackReason.SYN_LOST_OR_CROSSED, crossed=True),
    "suspended": Cause(FallbackReason.SUSPENDED, sysctls=_SOON, suspended=True),
    "client_stripped": Cause(FallbackReason.FIRST_DATA, Box(strip, to_server=True, syn=False)),
    "server_stripped": Cause(FallbackReason.FIRST_DATA, Box(strip, to_server=False, syn=False)),
    "reset_before_data": Cause(FallbackReason.RESET_BEFORE_DATA, resets=True),
    "stripped_later": Cause(FallbackReason.MID_CONNECTION, later=Box(strip)),
    "client_stripped_later": Cause(FallbackReason.MID_CONNECTION, later=Box(strip, to_server=True)),
    "server_stripped_later": Cause(FallbackReason.MID_CONNECTION, later=Box(strip, to_server=False)),
    "mapping_shortened": Cause(FallbackReason.MID_CONNECTION, later=Box(shorten, to_server=True)),
    "mapping_lengthened": Cause(FallbackReason.MID_CONNECTION, later=Box(lengthen, to_server=True)),
    "mapping_misplaced": Cause(FallbackReason.MID_CONNECTION, later=Box(misplace, to_server=True)),
    "payload_altered": Cause(
        FallbackReason.MID_CONNECTION, later=Box(alter_payload, to_server=True), sysctls=_CHECKSUM
    ),
    "stripped_later_with_checksum": Cause(
        FallbackReason.MID_CONNECTION, later=Box(strip, to_server=True), sysctls=_CHECKSUM
    ),
}

#: What is no fallback: connect() gets no answer, is refused, or succeeds and no data crosses.
OTHERS = {
    "sound": Cause(None),
    "synack_dropped": Cause(None, Box(drop, to_server=False, syn=True)),
    "syn_refused": Cause(None, Box(refuse, to_server=False, syn=True)),
    "data_dropped": Cause(None, Box(drop_data, syn=False)),
}


class Network(NamedTuple):
    """What network() gives."""

    paths: testing.Paths
    listener: socket.socket
    address: tuple[str, int]  # of the listener, for connect()

    @property
    def client(self) -> testing.PrivateNetwork:
        return self.paths.client

    @property
    def server(self) -> testing.PrivateNetwork:
        return self.paths.server

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """The kernel's MPTcpExt counters of the client and of the server."""
        with self.client:
            of_client = counters()
        with self.server:
            return of_client, counters()


@contextlib.contextmanager
def network(
    name: str, family: int = socket.AF_INET, *, delay: float = 0.0, serving: bool = True
) -> Iterator[Network]:
    """A network in which connections from client to address fall back by this cause of CAUSES or OTHERS.

    It has one path, with this delay in seconds each way. The server sends back what it receives; without
    serving, nobody accepts.
    """
    cause = {**CAUSES, **OTHERS}[name]
    with testing.Paths(1, family=family, delay=delay) as paths, contextlib.ExitStack() as held:
        for side in (paths.client, paths.server):
            with side:
                for sysctl, value in cause.sysctls.items():
                    set_sysctl(sysctl, value)
        with paths.server:
            listener = held.enter_context(_listener(family, tcp=cause.tcp))
        made = Network(paths, listener, (paths.server_addresses[0], listener.getsockname()[1]))
        if cause.suspended:
            paths.alter(0, _DROP_SYN)
            with paths.client, mp.create_connection(made.address, timeout=DEADLINE) as first:
                assert mp.status(first) is mp.Status.FALLBACK
            listener.accept()[0].close()
        if serving:
            held.enter_context(_serving(listener, resets=cause.resets))
        paths.alter(0, cause.box)
        yield made


def set_sysctl(name: str, value: int) -> None:
    """net.mptcp.NAME of this network, which is the test's own."""
    path = Path("/proc/sys/net/mptcp") / name
    if not path.exists():
        raise Missing(f"a kernel with net.mptcp.{name}")
    path.write_text(str(value))


def _listener(family: int, *, tcp: bool) -> socket.socket:
    address = (ANY[socket.AddressFamily(family)], 0)
    if tcp:
        return socket.create_server(address, family=family)
    return mp.create_server(address, family=family, fallback=False)


@contextlib.contextmanager
def _serving(listener: socket.socket, *, resets: bool) -> Iterator[None]:
    """Answer every connection, from threads, which end with the block."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def answer(sock: socket.socket) -> None:
        sock.settimeout(0.05)
        with sock:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    data = sock.recv(1 << 16)
                    if not data:
                        return
                    sock.sendall(data)

    def begin(work: Callable[..., None], *arguments: object) -> None:
        threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        threads[-1].start()

    def accept() -> None:
        listener.settimeout(0.05)
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = listener.accept()
                if resets:
                    _reset(sock)
                else:
                    begin(answer, sock)

    begin(accept)
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(DEADLINE)


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# ------------------------------------------------------------------------------------------- a connection

Grown = tuple[dict[str, int], dict[str, int]]


@contextlib.contextmanager
def fallen(
    name: str, family: int = socket.AF_INET
) -> Iterator[tuple[socket.socket, socket.socket, Callable[[], Grown]]]:
    """A connection that fell back by a cause of CAUSES: the client's end and the server's.

    The third is a function: by how much it has grown the counters of the client's network and the server's.
    """
    cause = CAUSES[name]
    with network(name, family, serving=False, delay=0.02 if cause.crossed else 0.0) as made:
        before = made.counters()

        def grown() -> Grown:
            of_client, of_server = (
                {name: number - was[name] for name, number in now.items()}
                for now, was in zip(made.counters(), before, strict=True)
            )
            return of_client, of_server

        ends = _crossed if cause.crossed else _connected
        with ends(made) as (client, accepted):
            if cause.resets:
                _reset(accepted)
            elif not cause.crossed:  # the first byte of each would be lost (seen on Linux 6.18)
                exchange(client, accepted)
                exchange(client, accepted)
            if cause.later:
                made.paths.alter(0, cause.later)
                _talk_until_it_falls_back(client, accepted)
            until(lambda: mp.status(client) is mp.Status.FALLBACK, "a fallback")
            yield client, accepted, grown


@contextlib.contextmanager
def _connected(made: Network) -> Iterator[Ends]:
    with made.client, mp.create_socket(made.listener.family, fallback=False) as client:
        client.settimeout(DEADLINE / 2)
        client.connect(made.address)
        accepted, _ = made.listener.accept()
        with accepted:
            accepted.settimeout(DEADLINE / 2)
            yield client, accepted


@contextlib.contextmanager
def _crossed(made: Network) -> Iterator[Ends]:
    """Two that connect to each other: their SYNs cross."""
    with contextlib.ExitStack() as held:
        ends = []
        for side, address in (
            (made.client, made.paths.client_addresses[0]),
            (made.server, made.paths.server_addresses[0]),
        ):
            with side:
                sock = held.enter_context(mp.create_socket(made.listener.family, fallback=False))
            sock.bind((address, 0))
            sock.setblocking(False)
            ends.append(sock)
        client, other = ends
        for sock, peer in ((client, other), (other, client)):
            with contextlib.suppress(BlockingIOError):
                sock.connect(peer.getsockname()[:2])
        for sock in ends:
            assert select.select([], [sock], [], DEADLINE)[1] == [sock]
        with made.client:
            yield client, other


def _talk_until_it_falls_back(client: socket.socket, accepted: socket.socket) -> None:
    """Send a little both ways, and read what comes: it may be less than was sent, or more."""

    def talk() -> bool:
        for sock in (client, accepted):
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.send(b"x" * 100)
            with contextlib.suppress(BlockingIOError):
                sock.recv(1 << 16)
        return mp.status(client) is mp.Status.FALLBACK

    until(talk, "a fallback")
    talk()  # so that the other end notices
