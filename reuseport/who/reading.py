# SPDX-License-Identifier: MIT
"""What a socket says of itself, through a duplicate of its owner's descriptor."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from mptcp_sockopt import IPPROTO_MPTCP, getsockopt_into, processes

from .. import _net

T = TypeVar("T")


class SocketOptions(NamedTuple):
    """Options that sock_diag does not report, or not to everybody."""

    reuseaddr: bool
    reuseport: bool
    incoming_cpu: int | None
    defer_accept: int
    """Seconds; a connection stays in SYN_RECV until its client has spoken."""
    mptcp: bool
    """By SO_PROTOCOL, which is right for a listener: only connections fall back."""


def from_owners(owners: Sequence[processes.Owner], read: Callable[[int], T]) -> T:
    """read(descriptor) of the first owner whose descriptor may be borrowed, or the last one's OSError."""
    for owner in owners:
        try:
            with processes.borrow(owner) as fd:
                return read(fd)
        except OSError as error:
            refused = error
    raise refused


def options_of(fd: int) -> SocketOptions:
    cpu = _value(fd, _net.SO_INCOMING_CPU)
    return SocketOptions(
        reuseaddr=bool(_value(fd, socket.SO_REUSEADDR)),
        reuseport=bool(_value(fd, socket.SO_REUSEPORT)),
        incoming_cpu=None if cpu < 0 else cpu,
        defer_accept=_value(fd, socket.TCP_DEFER_ACCEPT, socket.IPPROTO_TCP),
        mptcp=_value(fd, socket.SO_PROTOCOL) == IPPROTO_MPTCP,
    )


def is_v6only(fd: int) -> bool:
    """OSError for an IPv4 socket."""
    return bool(_value(fd, socket.IPV6_V6ONLY, socket.IPPROTO_IPV6))


def _value(fd: int, option: int, level: int = socket.SOL_SOCKET) -> int:
    buffer = bytearray(4)
    getsockopt_into(fd, level, option, buffer)
    return int.from_bytes(buffer, sys.byteorder, signed=True)
