# SPDX-License-Identifier: MIT
"""What else the kernel shows of a port, without privilege: handshakes in flight, queues, who holds it."""

from __future__ import annotations

from typing import NamedTuple

from mptcp_sockopt import TCPState, processes

Address = tuple[str, int]


class Handshake(NamedTuple):
    """A connection in state SYN_RECV: the SYN was answered, the ACK is awaited."""

    local: Address
    remote: Address


class Holder(NamedTuple):
    """A socket that has a local port and does not listen."""

    state: int
    """A number of TCPState; CLOSE is bound and no more."""
    local: Address
    remote: Address
    seconds: float
    """In TIME_WAIT: until its end."""
    inode: int
    """0: no process has it any more."""


def holders(port: int) -> list[Holder]:
    """What else has a local port: sockets bound only (from Linux 6.8), connected, or in TIME_WAIT."""
    return [
        Holder(sock.state, sock.local[:2], sock.remote[:2], sock.expires / 1000, sock.inode)
        for sock in processes.tcp_sockets(port)
        if sock.state != TCPState.LISTEN
    ]


def syn_received(port: int) -> frozenset[Handshake]:
    """The handshakes in flight to a local port, of both families and protocols.

    A handshake leaves this set when its connection has come into the accept queue, when it was reset, or
    when the kernel gave it up (63 s with the default of tcp_synack_retries). IPv4 clients of a dual-stack
    listener are ``::ffff:`` addresses. SYN cookies leave no trace here. OSError where sock_diag is not to
    be had.
    """
    found = processes.tcp_sockets(port, TCPState.SYN_RECV)
    return frozenset(Handshake(sock.local[:2], sock.remote[:2]) for sock in found)


def unaccepted(port: int) -> frozenset[int]:
    """The cookies of the connections that wait in the accept queues of a port: they have no inode yet.

    Those that were reset while they waited are in a queue still, but not here.
    """
    found = processes.tcp_sockets(port, TCPState.ESTABLISHED, TCPState.CLOSE_WAIT)
    return frozenset(sock.cookie for sock in found if not sock.inode)


def accepted(port: int, client: Address) -> int | None:
    """The inode of the server's end of a client's connection; None until somebody has accepted it."""
    ends = client, (f"::ffff:{client[0]}", client[1])
    for sock in processes.tcp_sockets(port, TCPState.ESTABLISHED):
        if sock.inode and sock.remote[:2] in ends:
            return sock.inode
    return None
