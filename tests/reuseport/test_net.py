# SPDX-License-Identifier: MIT
"""Networks with all ports, and children that hold no listener."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

from mptcp_sockopt import testing
from reuseport import _net

from ..support import DEADLINE


def test_a_private_network_has_all_ports() -> None:
    """And is another than the caller's."""

    def look() -> tuple[str, list[str]]:
        _net.enter_private_network()
        ports = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return os.readlink("/proc/self/ns/net"), ports

    name, ports = testing.in_child(look)
    assert name != os.readlink("/proc/self/ns/net")
    assert ports == ["1024", "65535"]


def test_a_child_that_drops_sockets_holds_no_listener() -> None:
    """One that is closed while the child lives is closed: the next connection is refused. Pipes stay."""
    inward, outward = os.pipe()

    def stay() -> None:
        _net.drop_tcp_sockets()
        os.write(outward, b"x")
        signal.pause()

    with socket.create_server(("127.0.0.1", 0)) as server, testing.Child(stay):
        assert os.read(inward, 1) == b"x"
        address = server.getsockname()
        server.close()
        with socket.socket() as sock:
            sock.settimeout(DEADLINE)
            assert sock.connect_ex(address) == errno.ECONNREFUSED
    os.close(inward)
    os.close(outward)
