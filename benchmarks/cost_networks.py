# SPDX-License-Identifier: MIT
"""The connections that cost.py compares, on loopback and over two paths with a rate."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from . import fixtures
from .measure import Missing

RATE = 100  # Mbit/s of each path
_PATHS = 2


class Kind(NamedTuple):
    """How the two programs open their sockets."""

    words: str
    client: int  # the protocol
    listener: int
    subflows: int = 1


KINDS = {
    "tcp": Kind("TCP to TCP", socket.IPPROTO_TCP, socket.IPPROTO_TCP),
    "again": Kind("TCP to TCP, again (A/A)", socket.IPPROTO_TCP, socket.IPPROTO_TCP),
    "listener": Kind("TCP to an MPTCP listener", socket.IPPROTO_TCP, mp.IPPROTO_MPTCP),
    **{
        f"mptcp {count}": Kind(
            f"MPTCP, {count} subflow{'s' * (count > 1)}", mp.IPPROTO_MPTCP, mp.IPPROTO_MPTCP, count
        )
        for count in (1, 2, 4)
    },
}


class Network(NamedTuple):
    """Where the two ends are. A connection to address gets up to three more subflows, as its limits allow."""

    client: AbstractContextManager[object]
    server: AbstractContextManager[object]
    address: str

    def listening(self) -> dict[int, socket.socket]:
        """A listener of each protocol; both answer at once (TCP_NODELAY)."""
        found = {}
        with self.server:
            for protocol in (socket.IPPROTO_TCP, mp.IPPROTO_MPTCP):
                sock = found[protocol] = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.bind(("0.0.0.0", 0))  # subflows come to other addresses
                sock.listen(1024)
        return found

    def target(self, listener: socket.socket) -> tuple[str, int]:
        """What to connect to."""
        return self.address, listener.getsockname()[1]

    def allow(self, kind: Kind) -> None:
        """So many subflows for the connections that come; the server refuses more, too."""
        for side in (self.client, self.server):
            with side:
                testing.set_limits(kind.subflows - 1, kind.subflows - 1)

    def pair(self, kind: Kind, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
        """A connection with all its subflows, the client's end and the server's."""
        self.allow(kind)
        with self.client:
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, kind.client)
            client.settimeout(fixtures.PATIENCE)
            client.connect(self.target(listener))
            client.settimeout(None)
        accepted, _ = listener.accept()
        for one, other in ((client, accepted), (accepted, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.sendall(b"x")
            other.recv(1)
        check(kind, client, wait=True)
        return client, accepted


def check(kind: Kind, sock: mp.SocketLike, *, wait: bool = False) -> None:
    """That a client's connection is what it should be."""
    wanted = mp.Status.MPTCP if kind.client == kind.listener == mp.IPPROTO_MPTCP else mp.Status.TCP
    if wanted is mp.Status.MPTCP and wait:
        fixtures.await_subflows(sock, kind.subflows)
    shot = mp.snapshot(sock)
    if (shot.status, shot.live_count) != (wanted, kind.subflows):
        raise RuntimeError(f"{kind.words}: it is {shot.status.value} with {shot.live_count} subflows")


def loopback() -> Network:
    """All of it in this network namespace."""
    for number in range(2, 5):
        testing.add_endpoint(f"127.0.9.{number}")
    here = contextlib.nullcontext()
    return Network(here, here, "127.0.0.1")


@contextlib.contextmanager
def shaped() -> Iterator[Network]:
    """Two network namespaces; veth between them, with a token bucket (tbf) at both ends of each path."""
    for command in ("ip", "tc"):
        if shutil.which(command) is None:
            raise Missing(f"no {command} (iproute2)")
    with contextlib.ExitStack() as kept:
        client, server = [kept.enter_context(contextlib.closing(testing.PrivateNetwork())) for _ in "ab"]
        far = server.fileno()
        with client:
            for n in range(_PATHS):
                run(f"ip link add path{n} type veth peer name path{n} netns /proc/self/fd/{far}", far)
        for end, side in enumerate((client, server), 1):
            with side:
                for n in range(_PATHS):
                    # Each path has two addresses of the server: there may be two subflows over it.
                    for host in (end, end + 2):
                        run(f"ip address add 10.9.{n}.{host}/24 dev path{n}")
                    run(f"ip link set path{n} up")
                    run(f"tc qdisc add dev path{n} root tbf rate {RATE}mbit burst 64kb limit 256kb")
        with server:
            for address in ("10.9.1.2", "10.9.0.4", "10.9.1.4"):  # the second subflow takes the second path
                testing.add_endpoint(address, signal=True)
        yield Network(client, server, "10.9.0.2")


def run(command: str, *descriptors: int) -> None:
    done = subprocess.run(command.split(), pass_fds=descriptors, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{command}: {done.stderr.strip()}")
