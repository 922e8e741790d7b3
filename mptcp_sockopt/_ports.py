# SPDX-License-Identifier: MIT
"""TCP's table of sockets, by local port: listeners(), tcp_sockets(). Users import them from ``processes``."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from . import _types as t
from ._border import listeners as _border_listeners
from ._border import sock_diag
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
    """The queue is full when it is longer than this."""
    uid: int
    """Owner, as the caller's user namespace numbers it."""
    inode: int
    """As os.fstat() gives it; 0 while it is being closed."""
    cookie: int
    """SO_COOKIE of the TCP socket (of an MPTCP listener: of the one inside)."""
    interface: int
    """Index of the interface it is bound to (SO_BINDTODEVICE), or 0."""
    v6only: bool | None
    """IPV6_V6ONLY. None for IPv4."""
    mptcp: bool | None = None
    """None: not known, see unknown."""
    unknown: str | None = None
    """Why mptcp is not known, a sentence. None if it is."""


class TCPSocket(NamedTuple):
    """A socket in TCP's table. The subflows of MPTCP connections are there too, and have the inode of their
    connection.

    Names are those of the kernel's inet_diag_msg without ``idiag_``. Thread rule: immutable, use it anywhere.
    """

    state: int
    """A number of TCPState. SYN_RECV is a handshake in flight; CLOSE a socket that is bound and no more."""
    local: t.Address
    """As ``socket.getsockname()`` gives it."""
    remote: t.Address
    """As ``socket.getpeername()`` gives it; zero without a peer."""
    ifindex: int
    """Interface it is bound to, or 0."""
    expires: int
    """ms until its timer fires: in TIME_WAIT, until its end."""
    rqueue: int
    """Bytes received and not read; of a listener, connections in its accept queue."""
    wqueue: int
    """Bytes written and not acknowledged; of a listener, its backlog."""
    uid: int
    inode: int
    """0: no process has it, before accept() or after close()."""
    cookie: int
    """SO_COOKIE."""
    v6only: bool | None
    """IPV6_V6ONLY of a socket that listens or is bound and no more. None: IPv4, or not told."""


_EVERY_STATE = 0x3FFF  # the last is that of sockets that are bound and no more, told since Linux 6.8


def tcp_sockets(port: int, *states: int) -> tuple[TCPSocket, ...]:
    """The TCP sockets of the network namespace with this local port (0: with any): sock_diag(7).

    In these states (numbers of TCPState), or in every state. Without privilege. The kernel picks them, so few
    sockets among many are found soon. OSError with the kernel's errno where it has no tcp_diag, and as
    mptcp_diag() raises them.
    """
    mask = sum({1 << state for state in states}) or _EVERY_STATE
    return tuple(TCPSocket(**{name: row[name] for name in TCPSocket._fields}) for row in _rows(port, mask))


def listeners(port: int) -> tuple[Listener, ...]:
    """The TCP and MPTCP listeners of the network namespace on this port (0: on any): sock_diag(7).

    Without privilege; IPv4 first. The kernel's own listeners, of MPTCP endpoints with a port, are among them.

    From Linux 6.15 on, the kernel tells anybody whether one is MPTCP; before, callers with CAP_NET_ADMIN. For
    others it comes from the kernel's dump of MPTCP listeners (5.19), which can leave some out: ``mptcp`` is
    then None, and ``unknown`` says why. A listener that comes or goes during the look may be left out, and is
    never called what it is not. OSError as tcp_sockets().
    """
    rows = _rows(port, 1 << TCPState.LISTEN)
    if not rows or any(row["is_mptcp"] or row["privileged"] for row in rows):
        return tuple(_listener(row, row["is_mptcp"], None) for row in rows)
    try:
        mptcp, reason = _border_listeners.mptcp_listeners()
    except UnsupportedOptionError:
        mptcp, reason = frozenset(), "this kernel cannot list its MPTCP sockets"
    # What was there before and after was there when MPTCP's were listed.
    still = {row["cookie"] for row in _rows(port, 1 << TCPState.LISTEN)}
    return tuple(
        _listener(row, True if row["inode"] in mptcp else None if reason else False, reason)
        for row in rows
        if row["cookie"] in still
    )


def _rows(port: int, states: int) -> list[dict[str, Any]]:
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is no port, 0 to 65535")
    return sorted(sock_diag.tcp_sockets(states, port), key=lambda row: int(row["family"] != socket.AF_INET))


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
