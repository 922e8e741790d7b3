# SPDX-License-Identifier: MIT
"""TCP's table of sockets: listeners(), tcp_sockets(), tcp_lookup(). ``processes`` exports them."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from . import _types as t
from ._border import listeners as _border_listeners
from ._border import lookups, sock_diag
from ._errors import UnsupportedOptionError
from ._tcp_info import TCPState


class Listener(NamedTuple):
    """A socket in state LISTEN. Thread rule: immutable, use it anywhere."""

    family: int
    """AF_INET or AF_INET6."""
    host: str
    port: int
    queue: int
    """Established connections that wait for accept()."""
    backlog: int
    """The accept queue is full when it is longer than this."""
    uid: int
    """User ID of the owner, as seen in the caller's user namespace."""
    inode: int
    """Inode number, as in os.fstat(); 0 while it is being closed."""
    cookie: int
    """SO_COOKIE of the TCP socket. (An MPTCP listener contains one.)"""
    interface: int
    """Index of the interface that it is bound to (SO_BINDTODEVICE), or 0."""
    v6only: bool | None
    """IPV6_V6ONLY; None for IPv4."""
    mptcp: bool | None = None
    """None if this is not known: see unknown."""
    unknown: str | None = None
    """Why mptcp is not known, as a sentence. None if it is known."""


class TCPSocket(NamedTuple):
    """A socket in TCP's table. Subflows of MPTCP connections are included, with their connection's inode.

    Fields have the names of the kernel's inet_diag_msg, without ``idiag_``.

    Thread rule: immutable, use it anywhere.
    """

    state: int
    """A number of TCPState. SYN_RECV: a handshake in progress. CLOSE: a socket that is only bound."""
    local: t.Address
    """As ``socket.getsockname()`` returns it."""
    remote: t.Address
    """As ``socket.getpeername()`` returns it; all zero without a peer."""
    ifindex: int
    """Interface that it is bound to, or 0."""
    expires: int
    """Time in ms until its timer fires; in TIME_WAIT, until that state ends."""
    rqueue: int
    """Bytes received but not read; on a listener, connections in its accept queue."""
    wqueue: int
    """Bytes written but not acknowledged; on a listener, its backlog."""
    uid: int
    inode: int
    """0 if no process has it: before accept() or after close()."""
    cookie: int
    """SO_COOKIE."""
    v6only: bool | None
    """IPV6_V6ONLY of a socket that listens or is only bound. None for IPv4, and where the kernel does not
    report it."""


_BOUND = 1 << 13  # sockets that are only bound: asked for by a state of their own since 6.8, listed in CLOSE
_EVERY_STATE = 2 * _BOUND - 1


def tcp_sockets(port: int, *states: int) -> tuple[TCPSocket, ...]:
    """The TCP sockets in the network namespace with this local port (0: any port): sock_diag(7).

    states: numbers of TCPState; without any, sockets in every state. Needs no privilege. The kernel filters,
    so a few sockets among many are found quickly. OSError with the kernel's errno if it has no tcp_diag;
    otherwise raises as mptcp_diag().
    """
    mask = sum({1 << state for state in states}) or _EVERY_STATE
    if TCPState.CLOSE in states:
        mask |= _BOUND
    return tuple(TCPSocket(v6only=row["v6only"], **_named(row)) for row in _rows(port, mask))


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in TCPSocket._fields if name != "v6only"}


def tcp_lookup(local: t.Address, remote: t.Address) -> TCPSocket | None:
    """The TCP socket in the network namespace with these two addresses, or None: sock_diag(7).

    Needs no privilege, and takes as long with ten sockets as with thousands. The addresses are as
    ``getsockname()`` and ``getpeername()`` return them. Of both ends of a connection inside this machine, it
    is the one whose own address is ``local``. IPv4 addresses also find the IPv6 socket that an IPv6 listener
    accepted. A listener is not found.

    Until accept(), ``inode`` is 0. ``v6only`` is None. ValueError for what is no pair of addresses. OSError
    as tcp_sockets().
    """
    found = lookups.tcp_socket(local, remote)
    return None if found is None else TCPSocket(v6only=None, **_named(found))


def listeners(port: int) -> tuple[Listener, ...]:
    """The TCP and MPTCP listeners in the network namespace on this port (0: any port): sock_diag(7).

    Needs no privilege. IPv4 comes first. Includes the kernel's own listeners for MPTCP endpoints with a port.

    From Linux 6.15 on, the kernel tells every caller whether a listener is MPTCP; before, only callers with
    CAP_NET_ADMIN. For others, the kernel's list of MPTCP listeners (5.19) is used, which can be incomplete:
    ``mptcp`` is None if it cannot be determined, and ``unknown`` says why. A listener that is opened or
    closed during the call may be left out, but is never misreported. OSError as tcp_sockets().
    """
    rows = _rows(port, 1 << TCPState.LISTEN)
    if not rows or any(row["is_mptcp"] or row["privileged"] for row in rows):
        return tuple(_listener(row, row["is_mptcp"], None) for row in rows)
    try:
        mptcp, reason = _border_listeners.mptcp_listeners()
    except UnsupportedOptionError:
        mptcp, reason = frozenset(), "this kernel cannot list its MPTCP sockets"
    # Sockets that existed before and after also existed while MPTCP's were listed.
    still = {row["cookie"] for row in _rows(port, 1 << TCPState.LISTEN)}
    return tuple(
        _listener(row, True if row["inode"] in mptcp else None if reason else False, reason)
        for row in rows
        if row["cookie"] in still
    )


def _rows(port: int, states: int) -> list[dict[str, Any]]:
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is not a port number (0 to 65535)")
    # The kernel does not compare the port of sockets that are only bound.
    rows = [row for row in sock_diag.tcp_sockets(states, port) if port in (0, row["local"][1])]
    return sorted(rows, key=lambda row: int(row["family"] != socket.AF_INET))


def _listener(row: dict[str, Any], mptcp: bool | None, reason: str | None) -> Listener:
    return Listener(
        family=row["family"],
        host=row["local"][0],
        port=row["local"][1],
        queue=row["rqueue"],
        backlog=row["wqueue"],
        uid=row["uid"],
        inode=row["inode"],
        cookie=row["cookie"],
        interface=row["ifindex"],
        v6only=row["v6only"],
        mptcp=mptcp,
        unknown=f"MPTCP or TCP is not known: {reason}" if mptcp is None else None,
    )
