# SPDX-License-Identifier: MIT
"""A test's own network: packets that are lost, connections that are aborted, sysctls, counters."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from pathlib import Path
from typing import Any

from mptcp_sockopt._border import netlink as _netlink

from .support import Missing, needs, run


def counters() -> dict[str, int]:
    """The kernel's MPTcpExt counters of this network namespace, by name."""
    lines = Path("/proc/self/net/netstat").read_text().splitlines()
    names, numbers = [line.split()[1:] for line in lines if line.startswith("MPTcpExt:")]
    return dict(zip(names, map(int, numbers), strict=True))


def lose(rule: str) -> None:
    """Drop in this network, which is the test's own, what comes and fits a rule of nft(8)."""
    alter(f"{rule} drop")


def alter(rule: str) -> None:
    """Have this rule of nft(8) for what comes into this network, which is the test's own."""
    program = needs("nft", "nftables")
    chain = "add chain inet t lost { type filter hook input priority 0; }"
    for command in ("add table inet t", chain, f"add rule inet t lost {rule}"):
        found = run(program, command)
        if found.returncode:
            raise Missing(f"nft that filters: {found.stderr}")


def destroy(local: tuple[Any, ...], remote: tuple[Any, ...], device: str = "") -> None:
    """``ss -K``: the kernel aborts the TCP socket of these ends, which sends a RST."""
    sock_diag, sock_destroy, all_states, no_cookie = 4, 21, 0xFFFFFFFF, b"\xff" * 8
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    ident = struct.pack("!HH", local[1], remote[1])
    ident += b"".join(socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (local, remote))
    ident += struct.pack("=I", socket.if_nametoindex(device) if device else 0) + no_cookie
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, all_states) + ident
    with _netlink.connected(sock_diag) as netlink:
        try:
            _netlink.call(netlink, sock_destroy, request)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            raise Missing("a kernel that destroys sockets (CONFIG_INET_DIAG_DESTROY)") from None


def without_cookies() -> None:
    """TCP Fast Open in this network, of both sides."""
    try:
        Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("1543")
    except OSError as error:
        raise Missing(f"a namespace's own tcp_fastopen: {error}") from None


def set_mtu(interface: str, size: int) -> None:
    """``ip link set INTERFACE mtu SIZE``, in bytes."""
    set_interface_mtu = 0x8922
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, set_interface_mtu, struct.pack("16si20x", interface.encode(), size))
