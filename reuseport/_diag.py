# SPDX-License-Identifier: MIT
"""What else the kernel shows of a port, without privilege: handshakes, accept queues, other sockets."""

from __future__ import annotations

from mptcp_sockopt import TCPState, processes

Address = tuple[str, int]


def holders(port: int) -> list[processes.TCPSocket]:
    """The other sockets with a local port: bound only (from Linux 6.8), connected, or in TIME_WAIT."""
    return [sock for sock in processes.tcp_sockets(port) if sock.state != TCPState.LISTEN]


def syn_received(port: int) -> frozenset[tuple[Address, Address]]:
    """The handshakes in flight to a local port, of both families and protocols: the addresses of both ends.

    The SYN was answered, and the ACK has not come. A handshake leaves this set when its connection enters the
    accept queue, when it is reset, or when the kernel gives up (63 s with the default of tcp_synack_retries).
    IPv4 clients of a dual-stack listener have ``::ffff:`` addresses. Handshakes with SYN cookies are not
    seen. OSError if sock_diag is not available.
    """
    found = processes.tcp_sockets(port, TCPState.SYN_RECV)
    return frozenset((sock.local[:2], sock.remote[:2]) for sock in found)


def unaccepted(port: int) -> frozenset[int]:
    """The cookies of the connections that wait in the accept queues of a port: they have no inode yet.

    A connection that was reset while it waited is still in its queue, but not here.
    """
    found = processes.tcp_sockets(port, TCPState.ESTABLISHED, TCPState.CLOSE_WAIT)
    return frozenset(sock.cookie for sock in found if not sock.inode)


def accepted(port: int, client: Address) -> int | None:
    """The inode of the server's end of a client's connection; None until it is accepted."""
    ends = client, (f"::ffff:{client[0]}", client[1])
    for sock in processes.tcp_sockets(port, TCPState.ESTABLISHED):
        if sock.inode and sock.remote[:2] in ends:
            return sock.inode
    return None
