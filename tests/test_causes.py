# SPDX-License-Identifier: MIT
"""Every cause of a fallback, made: the class that the client's row tells, and what the page says of it."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import FallbackReason, _reasons

from .causes import CAUSES, fallen
from .support import in_private_network, inode, until

INET, INET6 = socket.AF_INET, socket.AF_INET6
#: One second each, for a SYN that is lost.
PATIENT = {
    name for name, cause in CAUSES.items() if cause.sysctls.keys() & {"syn_retrans_before_tcp_fallback"}
}


class Path(NamedTuple):
    flags: int | None
    token_local: int | None


def attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def paths_of(sock: socket.socket) -> list[Path]:
    """By a dump of TCP sockets, as sock_diag(7) has it."""
    found: list[Path] = []
    with socket.socket(16, socket.SOCK_RAW, 4) as netlink:
        request = struct.pack("=BBBBI", sock.family, socket.IPPROTO_TCP, 2, 0, 0xFFFFFFFF) + bytes(48)
        netlink.send(struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0) + request)
        while True:
            data, at = netlink.recv(1 << 18), 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind == 3:
                    return found
                row = data[at + 16 : at + length]
                if struct.unpack_from("=I", row, 68) == (inode(sock),):
                    ulp = attributes(attributes(attributes(row[72:]).get(19, b"")).get(3, b""))
                    numbers = [struct.unpack("=I", ulp[n])[0] if n in ulp else None for n in (8, 2)]
                    found.append(Path(*numbers))
                at += length + 3 & ~3


def reason_of(sock: socket.socket) -> FallbackReason | None:
    """Why a connection of this namespace fell back."""
    rows = [row for row in mp.mptcp_diag() if row.inode == inode(sock)]
    row = rows[0] if rows else None
    state = row.state if row else mp.TCPState.ESTABLISHED
    return _reasons.reason_of(state, row.info if row else None, paths_of(sock))


def reason_when_it_falls_back(name: str, family: int) -> FallbackReason | None:
    with fallen(name, family) as (client, _, _):
        until(lambda: reason_of(client), "a reason")
        return reason_of(client)


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_in_its_class(name: str, mptcp: None) -> None:
    """By the client's row alone."""
    assert in_private_network(lambda: reason_when_it_falls_back(name, INET)) is CAUSES[name].reason


@pytest.mark.parametrize("name", CAUSES.keys() - PATIENT)
def test_a_cause_is_in_its_class_over_ipv6(name: str, mptcp: None) -> None:
    """The same flags."""
    assert in_private_network(lambda: reason_when_it_falls_back(name, INET6)) is CAUSES[name].reason


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_always_in_its_class(name: str, family: int) -> None:
    """20 of 20."""
    found = [in_private_network(lambda: reason_when_it_falls_back(name, family)) for _ in range(20)]
    assert found == [CAUSES[name].reason] * 20
