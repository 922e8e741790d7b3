# SPDX-License-Identifier: MIT
"""Paths between two network namespaces, each with a rate and a delay. They can be cut and restored."""

from __future__ import annotations

import contextlib
import math
import pickle
import socket
import time

from .._border import netlink, packets
from ._children import Child
from ._network import PrivateNetwork, needing
from ._wire import Alter, Shape, carry

_FAMILIES = {socket.AF_INET: ("10.9.{}.{}", 24), socket.AF_INET6: ("fd09:a{}::{}", 64)}
_MOST = 9  # the initial subflow, plus the largest number that the path manager allows
_AT_ONCE = 8  # the largest limit of the path manager


class Paths:
    """``with Paths(2, rate=20e6, delay=0.010) as paths:`` creates two namespaces with two paths between them.

    ``paths.client`` and ``paths.server`` are PrivateNetworks: whatever you open in ``with paths.client:`` is
    on that side. Path n goes from ``paths.client_addresses[n]`` to ``paths.server_addresses[n]``. rate is in
    bits per second in each direction, by default unlimited. delay is in seconds in each direction, so it adds
    twice that to the round trip. With several paths, the server announces its other addresses and the client
    accepts them: a connection to ``server_addresses[0]`` gets a subflow over each path if the listener is
    bound to all addresses ("0.0.0.0" or "::").

    For path n, each side has an interface ``path<n>`` (veth, MTU 1500, offloads on), and a process carries
    the frames between them in order. A frame that would have to queue for longer than 20 ms is dropped, which
    is how TCP finds the rate. Unless you are root, the real delay is about 0.1 ms longer, and more on a busy
    machine.

    Use it inside in_private_network(), or as root. UnavailableError names what this machine lacks.

    Thread rule: one thread at a time; the networks may be entered by any thread.
    """

    client: PrivateNetwork
    """One side. Valid inside the ``with`` block."""
    server: PrivateNetwork
    """The other side."""
    client_addresses: tuple[str, ...]
    """The client's address on path 0, 1, ..."""
    server_addresses: tuple[str, ...]
    """The server's address on path 0, 1, ..."""

    def __init__(
        self, count: int = 2, *, rate: float = math.inf, delay: float = 0.0, family: int = socket.AF_INET
    ) -> None:
        if not 1 <= count <= _MOST:
            raise ValueError(f"count must be from 1 to {_MOST}, not {count}")
        pattern, self._prefix = _FAMILIES[socket.AddressFamily(family)]
        self.client_addresses = tuple(pattern.format(n, 1) for n in range(count))
        self.server_addresses = tuple(pattern.format(n, 2) for n in range(count))
        self._family = family
        self._shapes = [_checked(Shape(rate, delay))] * count

    def __enter__(self) -> Paths:
        with contextlib.ExitStack() as held:
            self.client, self.server = PrivateNetwork(), PrivateNetwork()
            held.callback(self.client.close)
            held.callback(self.server.close)
            with needing("paths between network namespaces"):
                self._build(held)
            self._held = held.pop_all()
        return self

    def _build(self, held: contextlib.ExitStack) -> None:
        between, sides = PrivateNetwork(), (self.client, self.server)
        ends = []
        with contextlib.ExitStack() as ours:  # then only the wire has them; it ends with the networks
            ours.callback(between.close)
            self._control, far = map(held.enter_context, socket.socketpair(type=socket.SOCK_SEQPACKET))
            ours.callback(far.close)
            for n in range(len(self._shapes)):
                with between, needing("a veth interface"):
                    for name, side in zip(("client", "server"), sides, strict=True):
                        netlink.add_veth(f"{name}{n}", f"path{n}", side.fileno())
                with between, needing("a packet socket"):
                    one, other = [
                        ours.enter_context(packets.opened(f"{name}{n}")) for name in ("client", "server")
                    ]
                    ends.append((one, other))
            self._wire = held.enter_context(Child(lambda: carry(ends, far)))
        for side, addresses in zip(sides, (self.client_addresses, self.server_addresses), strict=True):
            with side:
                for n, address in enumerate(addresses):
                    netlink.add_address(address, f"path{n}", self._prefix)
                    netlink.bring_up(f"path{n}")
                if len(addresses) > 1:
                    with needing("the path manager of MPTCP"):
                        netlink.set_limits(_AT_ONCE, _AT_ONCE)
                        for address in addresses[1:] if side is self.server else ():
                            netlink.add_endpoint(address, signal=True)
        for n in range(len(self._shapes)):
            self._await_passage(n)
            self._tell(n, self._shapes[n])

    def _await_passage(self, n: int) -> None:
        """Wait until a datagram has gone there and back.

        The kernel finishes setting up interfaces and addresses some time after the request. A SYN lost to
        that would delay a client by a second.
        """
        deadline = time.monotonic() + 10
        with contextlib.ExitStack() as ours:
            with self.server:
                server = ours.enter_context(socket.socket(self._family, socket.SOCK_DGRAM))
            with self.client:
                client = ours.enter_context(socket.socket(self._family, socket.SOCK_DGRAM))
            server.bind((self.server_addresses[n], 0))
            server.setblocking(False)
            client.settimeout(0.005)
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):  # no route yet
                    client.sendto(b"?", server.getsockname())
                with contextlib.suppress(OSError):  # nor a datagram
                    server.sendto(b"!", server.recvfrom(1)[1])
                with contextlib.suppress(OSError):
                    client.recv(1)
                    return
        raise TimeoutError("no datagram passes")

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def cut(self, path: int) -> None:
        """Drop every frame on this path from now on, even those on their way. Neither side is notified."""
        self._bend(path, self._shapes[path]._replace(cut=True))

    def restore(self, path: int) -> None:
        """Let a path that was cut carry frames again."""
        self._bend(path, self._shapes[path]._replace(cut=False))

    def shape(self, path: int, *, rate: float | None = None, delay: float | None = None) -> None:
        """Change a path's rate (bits per second; math.inf: unlimited), delay (seconds one way), or both."""
        old = self._shapes[path]
        rate, delay = old.rate if rate is None else rate, old.delay if delay is None else delay
        self._bend(path, old._replace(rate=rate, delay=delay))

    def alter(self, path: int, function: Alter | None) -> None:
        """Be a middlebox on this path: pass every frame through function from now on. None ends that.

        function(frame, to_server) gets a frame as bytes, from its Ethernet header on, and whether the client
        sent it. What it returns is carried instead: the same number of bytes, or None to drop the frame. A
        frame may hold up to 64 KiB of TCP data. Its checksums are left to hardware, so a change needs no new
        one. The function runs in another process. It must be picklable: defined in a module, or an instance
        of a class that is.
        """
        self._bend(path, self._shapes[path]._replace(alter=function))

    def _bend(self, path: int, shape: Shape) -> None:
        self._tell(path, _checked(shape))
        self._shapes[path] = shape

    def _tell(self, path: int, shape: Shape) -> None:
        """The change is in effect when this returns."""
        order, answer = pickle.dumps((range(len(self._shapes))[path], shape)), b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(order)
            answer = self._control.recv(1)
        if not answer:
            self._wire.result(within=10)  # raises: the wire has ended, and has printed why


def _checked(shape: Shape) -> Shape:
    if not shape.rate > 0:
        raise ValueError(f"rate must be above 0 (bits per second), not {shape.rate}")
    if not 0 <= shape.delay < math.inf:
        raise ValueError(f"delay must be a finite number of seconds, 0 or more, not {shape.delay}")
    return shape
