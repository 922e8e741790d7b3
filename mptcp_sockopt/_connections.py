# SPDX-License-Identifier: MIT
"""The result of mptcp_diag(subflows=True): MPTCPConnections, a sequence of MPTCPConnection.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import sys

from . import _types as t
from ._border import layouts, sock_diag
from ._diag_rows import MPTCPDiagMsg
from ._diag_subflow import DiagSubflow, SubflowFlag
from ._fields import unpickled
from ._mptcp_info import IN_INFO
from ._reasons import FallbackReason, reason_of
from ._records import Record
from ._shown import host_and_port, listed, short, table, units_of
from ._sockopt import Status
from ._views import InfoFlag, MPTCPInfo, TCPInfo, TCPState, Whole

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing

_FALLBACK, _KEY = int(InfoFlag.FALLBACK), int(InfoFlag.REMOTE_KEY_RECEIVED)
# What the program has not closed: in the FIN_WAITs, only with an inode.
_OPEN = (TCPState.ESTABLISHED, TCPState.CLOSE_WAIT)
_HALF_CLOSED = (TCPState.FIN_WAIT1, TCPState.FIN_WAIT2)
_PATH = ("state", "rtt", "bytes_acked", "bytes_received", "total_retrans")


class MPTCPConnection(Record, Whole):
    """One connection with its paths, as mptcp_diag(subflows=True) and mptcp_lookup() return it.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "row": "Its row in MPTCP's table (MPTCPDiagMsg). None if there is none: it is TCP, was made while "
        "MPTCP was suspended, or is gone (status CLOSING).",
        "subflows": "Its paths (DiagSubflow): the initial one, then by id, remote id and addresses. A path "
        "that ended is not among them, even the initial one.",
        "complete": "Whether subflows are all its paths; mptcp_lookup() has only the one that it found.",
    }

    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {
        "info": IN_INFO,
        "subflows[n].tcp_info": TCPInfo.fields,
    }

    row: MPTCPDiagMsg | None
    """Its row in MPTCP's table (MPTCPDiagMsg). None if there is none: it is TCP, was made while MPTCP was
    suspended, or is gone (status CLOSING)."""
    subflows: tuple[DiagSubflow, ...]
    """Its paths (DiagSubflow): the initial one, then by id, remote id and addresses. A path that ended is not
    among them, even the initial one."""
    complete: bool
    """Whether subflows are all its paths; mptcp_lookup() has only the one that it found."""

    def __init__(
        self, row: MPTCPDiagMsg | None, subflows: tuple[DiagSubflow, ...], complete: bool = True
    ) -> None:
        if len(subflows) > 1:
            subflows = tuple(sorted(subflows, key=order(row)))
        elif not subflows and row is None:
            raise ValueError("a connection has a row or a subflow")
        _set_row(self, row)
        _set_subflows(self, subflows)
        _set_complete(self, complete)

    @property
    def status(self) -> Status:
        """What it is (Status): MPTCP, FALLBACK, CONNECTING, CLOSED, LISTENING; TCP: accepted as TCP by an
        MPTCP listener; CLOSING: subflows that are still ending, whose connection is gone."""
        if self.row is None:
            path = self.subflows[0]
            if not path._is_mptcp:
                return Status.TCP
            return Status.CLOSING if path.token_local else Status.FALLBACK
        if self.row.state == TCPState.LISTEN:
            return Status.LISTENING
        flags = int(self.row.info.flags)
        if flags & _FALLBACK:
            return Status.FALLBACK
        if not flags & _KEY:
            return Status.CONNECTING
        return Status.CLOSED if self.row.state == TCPState.CLOSE or self._has_no_path else Status.MPTCP

    @property
    def _has_no_path(self) -> bool:
        return self.complete and all(path.state == TCPState.CLOSE for path in self.subflows)

    @property
    def info(self) -> MPTCPInfo | None:
        """The connection's counters (MPTCPInfo); None without ``row``."""
        return None if self.row is None else self.row.info

    @property
    def state(self) -> TCPState | int:
        """State of the MPTCP socket (TCPState); without a row of its own, that of its subflow."""
        return self._either.state

    @property
    def local(self) -> t.Address:
        """This side's address, as ``socket.getsockname()`` returns it."""
        return self._either.local

    @property
    def remote(self) -> t.Address:
        """The peer's address, as ``socket.getpeername()`` returns it; zero on a listener."""
        return self._either.remote

    @property
    def token(self) -> int | None:
        """Identifies it in this network namespace: ``info.token``. None if it has none, or nothing tells."""
        token = self.subflows[0].token_local if self.row is None else self.row.info.token
        return token or None

    @property
    def inode(self) -> int:
        """Inode number, as in os.fstat(); 0 before accept() and after close()."""
        return self._either.inode

    @property
    def uid(self) -> int:
        """User ID of the owner, as seen in the caller's user namespace."""
        return self._either.uid

    @property
    def rqueue(self) -> int:
        """Received, unread data, in bytes: as ``MPTCPDiagMsg.rqueue``; without that row, the subflow's."""
        return self._either.rqueue

    @property
    def fallback_reason(self) -> FallbackReason | None:
        """Why it fell back to TCP, as far as its rows tell. None if it did not, or nothing tells."""
        return reason_of(self.state, self.info, self.subflows)

    @property
    def live_count(self) -> int:
        """How many of ``subflows`` are ``live``."""
        return sum(path.live for path in self.subflows)

    @property
    def dead(self) -> bool:
        """Whether it is open but has no path left: send() still succeeds, and nothing arrives.

        A new path can still bring it back (net.mptcp.close_timeout, 60 s by default). False if
        mptcp_lookup() could not see all paths.
        """
        row = self.row
        if row is None or not self._has_no_path:
            return False
        return row.state in _OPEN or bool(row.state in _HALF_CLOSED and row.inode)

    @property
    def _either(self) -> MPTCPDiagMsg | DiagSubflow:
        return self.subflows[0] if self.row is None else self.row

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name; the state as a plain int, status and reason by their values. clean: see
        ``TCPInfo.asdict()``."""
        reason, info = self.fallback_reason, self.info
        return {
            "token": self.token,
            "status": self.status.value,
            "state": int(self.state),
            "fallback_reason": None if reason is None else reason.value,
            "local": self.local,
            "remote": self.remote,
            "inode": self.inode,
            "uid": self.uid,
            "rqueue": self.rqueue,
            "live_count": self.live_count,
            "dead": self.dead,
            "info": None if info is None else info.asdict(clean=clean),
            "subflows": [path.asdict(clean=clean) for path in self.subflows],
        }

    def __repr__(self) -> str:
        names = ("status", "local", "remote", "token", "live_count")
        return short(type(self).__name__, {name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        names = (
            "status",
            "state",
            "token",
            "inode",
            "uid",
            "rqueue",
            "fallback_reason",
            "live_count",
            "dead",
        )
        rows: list[t.Row] = [("local", host_and_port(self.local), "")]
        rows.append(("remote", host_and_port(self.remote), ""))
        rows += [(name, value, "") for name in names if (value := getattr(self, name)) is not None]
        info = self.info
        known = [] if info is None else [row for row in info._rows() if row[0] != "token"]
        return table(type(self).__name__, [*rows, *known], *_paths(self.subflows))


_set_row, _set_subflows, _set_complete = MPTCPConnection._setters


def looked_up(path: bytes | None, row: bytes | None) -> MPTCPConnection | None:
    """What was found by two addresses: a TCP socket, and its connection. Plain TCP has status TCP.

    None for a listener and for nothing, and if the kernel may have withheld that it is MPTCP.
    """
    subflow = None if path is None else DiagSubflow._trusted(path)
    if subflow is None or subflow.state == TCPState.LISTEN:
        return None
    token = subflow.token_local
    if token:
        return MPTCPConnection(None if row is None else MPTCPDiagMsg._trusted(row), (subflow,), False)
    # With MCAP_LOC: one that ends, and has forgotten its token.
    if token is not None and subflow._has(SubflowFlag.MCAP_LOC):
        return None
    return MPTCPConnection(None, (subflow,)) if token is not None or subflow._is_told else None


def order(row: MPTCPDiagMsg | None) -> t.Callable[[DiagSubflow], t.Any]:
    """What the paths of a connection are sorted by. Without ids, its own addresses tell the initial one."""
    first = None if row is None else (row.local[:2], row.remote[:2])
    return lambda path: (path.id is None and (path.local[:2], path.remote[:2]) != first, path._order)


def _paths(subflows: t.Iterable[DiagSubflow]) -> list[str]:
    rows = []
    for path in subflows:
        ends = [path.id, path.remote_id, host_and_port(path.local), host_and_port(path.remote)]
        rows.append([*ends, *(getattr(path.tcp_info, name, None) for name in _PATH)])
    head = ["id", "remote_id", "local", "remote", *_PATH]
    units = [""] * 4 + units_of(TCPInfo.fields, _PATH)
    return ["", *listed(head, units, rows, left=(2, 3, 4))] if rows else []


class MPTCPConnections:
    """The result of mptcp_diag(subflows=True): a sequence of MPTCPConnection.

    They are in the order of the kernel's table; those without a row in MPTCP's table come last. Created at
    each access. Can be pickled. Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "time": "time.monotonic_ns() just before the first dump.",
        "missing": "What could not be told, and why, as sentences; () if nothing.",
        "_info_length": "",
        "_rows": "",
        "_tcp_info_length": "",
        "_paths": "",
        "_index": "",
    }

    time: int
    """time.monotonic_ns() just before the first dump."""
    missing: tuple[str, ...]
    """What could not be told, and why, as sentences; () if nothing."""
    _info_length: int
    _rows: memoryview
    _tcp_info_length: int
    _paths: memoryview
    _index: t.Sequence[tuple[int, ...]]

    def __init__(
        self,
        time: int,
        info_length: int,
        rows: bytes | memoryview,
        tcp_info_length: int,
        paths: bytes | memoryview,
        index: t.Sequence[tuple[int, ...]],
        missing: tuple[str, ...] = (),
    ) -> None:
        """Called by mptcp_diag(). info_length, tcp_info_length: sizes of the structs in each record of rows
        and paths, in bytes. index: for each connection the number of its row (-1: none), and of its paths."""
        parts = time, missing, info_length, memoryview(rows), tcp_info_length, memoryview(paths), index
        for name, value in zip(type(self).__slots__, parts, strict=True):
            object.__setattr__(self, name, value)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name; each connection as its own ``asdict()``."""
        connections = [connection.asdict(clean=clean) for connection in self]
        return {"time": self.time, "missing": self.missing, "connections": connections}

    def __len__(self) -> int:
        return len(self._index)

    if TYPE_CHECKING:

        @t.overload
        def __getitem__(self, index: int) -> MPTCPConnection: ...
        @t.overload
        def __getitem__(self, index: slice) -> tuple[MPTCPConnection, ...]: ...

    def __getitem__(self, index: int | slice) -> MPTCPConnection | tuple[MPTCPConnection, ...]:
        if isinstance(index, slice):
            return tuple([self._made(entry) for entry in self._index[index]])
        try:
            return self._made(self._index[index])
        except IndexError:
            raise IndexError(f"connection {index} of {len(self)}") from None

    def __iter__(self) -> t.Iterator[MPTCPConnection]:
        return map(self._made, self._index)

    def _made(self, entry: tuple[int, ...]) -> MPTCPConnection:
        msg = None if entry[0] < 0 else self._row(entry[0])
        return MPTCPConnection(msg, tuple([self._path(number) for number in entry[1:]]))

    def _row(self, number: int) -> MPTCPDiagMsg:
        start = number * sock_diag.stride_of(self._info_length)
        return MPTCPDiagMsg._trusted(self._rows[start : start + layouts.DIAG_INFO_AT + self._info_length])

    def _path(self, number: int) -> DiagSubflow:
        start = number * sock_diag.subflow_stride_of(self._tcp_info_length)
        end = start + layouts.DIAG_TCP_INFO_AT + self._tcp_info_length
        return DiagSubflow._trusted(self._paths[start:end])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("MPTCPConnections cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("MPTCPConnections cannot be changed")

    def __reduce__(self) -> tuple[t.Any, ...]:
        rows = self._info_length, self._rows.tobytes(), self._tcp_info_length, self._paths.tobytes()
        return unpickled, (sys.byteorder, type(self), self.time, *rows, list(self._index), self.missing)

    def __repr__(self) -> str:
        missing = f", missing: {'; '.join(self.missing)}" if self.missing else ""
        return f"<MPTCPConnections: {len(self)}, time {self.time}{missing}>"

    def __str__(self) -> str:
        rows: list[list[object]] = []
        for one in self:
            ends = host_and_port(one.local), host_and_port(one.remote)
            live = f"{one.live_count}/{len(one.subflows)}"
            rows.append([one.status.value, *ends, one.state, one.inode, one.token, live])
        head = ["status", "local", "remote", "state", "inode", "token", "live"]
        return "\n".join([repr(self), *listed(head, [""] * len(head), rows, left=(0, 1, 2, 3))])


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (MPTCPConnection, MPTCPConnections):
    _public.__module__ = "mptcp_sockopt"
