# SPDX-License-Identifier: MIT
"""mptcp_diag(): the MPTCP connections in the network namespace; and mptcp_lookup(): one of them."""

from __future__ import annotations

import socket
import time as _time

from . import _types as t
from ._border import listeners, lookups, sock_diag
from ._connections import MPTCPConnection as MPTCPConnection
from ._connections import MPTCPConnections as MPTCPConnections
from ._connections import looked_up
from ._diag_rows import MPTCPDiag as MPTCPDiag
from ._diag_rows import MPTCPDiagMsg as MPTCPDiagMsg
from ._diag_subflow import DiagSubflow as DiagSubflow
from ._diag_subflow import SubflowFlag as SubflowFlag
from ._joined import Joined, belongs
from ._sockopt import Status
from ._tcp_info import TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing

_CONNECTIONS = 2**32 - 1 & ~(1 << TCPState.LISTEN)

if TYPE_CHECKING:

    @t.overload
    def mptcp_diag(
        *, subflows: t.Literal[False] = False, listening: bool = ..., port: int = ..., limit: int = ...
    ) -> MPTCPDiag: ...
    @t.overload
    def mptcp_diag(
        *, subflows: t.Literal[True], listening: bool = ..., port: int = ..., limit: int = ...
    ) -> MPTCPConnections: ...
    @t.overload
    def mptcp_diag(
        *, subflows: bool, listening: bool = ..., port: int = ..., limit: int = ...
    ) -> MPTCPDiag | MPTCPConnections: ...


def mptcp_diag(
    *, subflows: bool = False, listening: bool = False, port: int = 0, limit: int = sock_diag.LIMIT
) -> MPTCPDiag | MPTCPConnections:
    """Every MPTCP connection in the network namespace, of any process: sock_diag(7).

    Needs no privilege and no descriptor, and includes connections that fell back. It lists all IPv4 and IPv6
    MPTCP sockets with a token: connecting, connected, closing, waiting for accept(), or closed by their
    process but not finished yet (``inode`` 0). It does not list:

    - sockets before connect(), and connections that have completely ended;
    - handshakes that a listener has not completed;
    - plain TCP connections that an MPTCP listener accepted;
    - connections that fell back before their first packet, because the kernel had suspended MPTCP (sysctl
      net.mptcp.blackhole_timeout, Linux 6.12).

    With subflows, the result is MPTCPConnections: each connection with its paths, and also the last two of
    these, closing subflows whose connection is gone, and what ``docs/mptcp_diag.md`` says about them. That
    takes a second dump, of TCP's table.

    With port, only those with this local or remote port.

    With listening, it also lists listeners: all that share a port, and those that the kernel creates for
    endpoints with a port (no process has their ``inode``). The kernel then walks two more tables, which takes
    longer. Before Linux 6.15, some listeners can be missing unless the caller has CAP_NET_ADMIN. On any
    kernel, some can be missing if sockets keep changing during the dump. In both cases ``missing`` says so.

    Each row is consistent, but the kernel walks its table in steps, so the dump as a whole is not of one
    moment. A connection that starts or ends during the dump may be missing or, rarely, cause another to be
    missing or listed twice (by ``info.token``).

    ValueError for a port that there is not. UnsupportedOptionError if the kernel has no mptcp_diag. Otherwise
    OSError with

    - EAGAIN if each of several dumps was disturbed, ENOBUFS if each lost data;
    - EMSGSIZE if the rows, including listeners, take more than limit bytes, or if the subflows do;
    - EPROTO for an answer that no kernel gives;
    - any errno if a policy refuses netlink sockets.

    limit bounds the memory if the answer never ends. The default, 32 MiB, is enough for about 200,000
    connections (168 bytes each on Linux 7.3) or 85,000 subflows (392 bytes); raise it on a machine with more.
    While the memory grows, it is briefly half as much again; with listening, up to three times the rows. TCP
    listeners produce no rows, but are read too (80 bytes each): beyond limit or 32 MiB, whichever is more,
    they also cause EMSGSIZE.

    May be called from any thread, and lets other threads run during system calls.
    """
    time = _time.monotonic_ns()
    _check_port(port)
    if subflows:
        return _with_subflows(time, listening, port, limit)
    rows, info_length = sock_diag.dump(_CONNECTIONS, limit, port=port)
    if not listening:
        return MPTCPDiag(time, info_length, rows)
    rows, info_length, missing = listeners.listeners(info_length, limit, rows, port)
    return MPTCPDiag(time, info_length, rows, missing)


def _with_subflows(time: int, listening: bool, port: int, limit: int) -> MPTCPConnections:
    joined = Joined(port, limit)
    joined.read()
    rows, info_length, index, missing = joined.rows, joined.info_length, joined.index, joined.missing
    if listening:
        count = len(rows) // sock_diag.stride_of(info_length)
        rows, info_length, sentence = listeners.listeners(info_length, limit, rows, port)
        index += [(number,) for number in range(count, len(rows) // sock_diag.stride_of(info_length))]
        missing += [sentence] if sentence else []
    return MPTCPConnections(
        time, info_length, rows, joined.tcp_info_length, joined.paths, index, tuple(missing)
    )


def _check_port(port: int) -> None:
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"port must be an int, not {type(port).__name__}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be between 0 and 65535, not {port}")


def mptcp_lookup(
    local: t.Address | None = None,
    remote: t.Address | None = None,
    *,
    token: int | None = None,
    dump: bool = True,
) -> MPTCPConnection | None:
    """The connection that has a path with these two addresses, or this token; None if there is none.

    Needs no privilege and no descriptor, and takes as long with ten connections as with thousands.
    ``local`` and ``remote`` are as ``getsockname()`` and ``getpeername()`` return them: (host, port), or with
    flowinfo and scope_id. Those of any path will do. Its ``subflows`` are only the path that was found: the
    one with these addresses, or for a token the initial one.

    Where the initial path is gone, its addresses are found only in a dump, as mptcp_diag(subflows=True)
    makes, and so are the other paths. Addresses that no connection has take a dump, too. dump=False answers
    without: None for the addresses of such a path, and no ``subflows`` for its token. Before Linux 6.18, any
    addresses may take a dump unless the caller has CAP_NET_ADMIN, because the kernel may not have told what
    belongs to MPTCP.

    A plain TCP connection is None, also if an MPTCP listener accepted it; so is a listener. One that was made
    while MPTCP was suspended has status FALLBACK, and no ``info``.

    TypeError without a token or both addresses, and for what is neither in its form; ValueError for what is
    no address and no token. Else as
    mptcp_diag(). May be called from any thread.
    """
    if token is not None and local is None and remote is None:
        if not isinstance(token, int) or isinstance(token, bool):
            raise TypeError(f"token must be an int, not {type(token).__name__}")
        if not 0 <= token < 2**32:
            raise ValueError(f"token must be a number of 32 bits, not {token}")
        with lookups.Asker() as asker:
            found = asker.connection(token)
            if found is not None:
                return _with_path(asker, found, dump)
        sock_diag.dump(_CONNECTIONS, first=True)  # a kernel without mptcp_diag answers alike, but fails here
        return None
    if token is not None or local is None or remote is None:
        raise TypeError("mptcp_lookup() takes two addresses, or a token")
    ends = _checked(local), _checked(remote)
    port = ends[0][1]
    with lookups.Asker() as asker:
        path, found = asker.both_of_any(*ends)
    one = looked_up(path, found)
    if one is not None:
        return None if one.row is None and one.status is Status.TCP else one
    subflow = None if path is None else DiagSubflow._trusted(path)
    if subflow is not None and subflow.state != TCPState.LISTEN:
        if subflow._is_told:
            return None
        port = 0  # its connection may have another
    return _searched(*ends, port) if dump else None


def _checked(end: t.Address) -> t.Address:
    """As a tuple. Whether its numbers fit is found out later."""
    match end:
        case (str(), int()) | (str(), int(), int(), int()):
            checked: t.Any = tuple(end)
            return checked  # type: ignore[no-any-return]
    raise TypeError(f"an address is (host, port) or (host, port, flowinfo, scope_id), not {end!r}")


def _with_path(asker: lookups.Asker, found: bytes, dump: bool) -> MPTCPConnection | None:
    """With its initial path, or all of them if that is gone."""
    msg = MPTCPDiagMsg._trusted(found)
    path = asker.initial(found)
    subflow = None if path is None else DiagSubflow._trusted(path)
    if subflow is not None and belongs(subflow, msg):
        return MPTCPConnection(msg, (subflow,), False)
    if dump:
        for one in mptcp_diag(subflows=True, port=msg.local[1]):
            if one.token == msg.info.token:
                return one
        return None
    return MPTCPConnection(msg, (), False)


def _searched(local: t.Address, remote: t.Address, port: int) -> MPTCPConnection | None:
    """Among those with this port (0: any), by the addresses of the connection or of a path."""
    wanted = _plain(local), _plain(remote)
    for one in mptcp_diag(subflows=True, port=port):
        ends = [(one.local, one.remote), *((path.local, path.remote) for path in one.subflows)]
        if one.info is not None and wanted in [(_plain(a), _plain(b)) for a, b in ends]:
            return one
    return None


def _plain(end: t.Address) -> tuple[bytes, int]:
    """However it is written, also as an IPv4 address in IPv6."""
    host = end[0].partition("%")[0]
    return socket.inet_pton(socket.AF_INET6, host if ":" in host else f"::ffff:{host}"), end[1]


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (mptcp_diag, mptcp_lookup):
    _public.__module__ = "mptcp_sockopt"
