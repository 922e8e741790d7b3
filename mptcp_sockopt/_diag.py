# SPDX-License-Identifier: MIT
"""mptcp_diag(): every MPTCP socket of the network namespace, and MPTCPDiag, what it returns."""

from __future__ import annotations

import struct
import sys
import time as _time
from itertools import starmap

from . import _types as t
from ._border import layouts, listeners, sock_diag
from ._fields import FieldOf, View, always, named, turned, unpickled
from ._fields import column as _column
from ._mptcp_info import IN_INFO
from ._shown import host_and_port, listed, short, units_of
from ._tcp_info import STATES
from ._views import InfoFlag, MPTCPInfo, TCPState, Whole

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing

_INFO_AT = layouts.DIAG_INFO_AT
#: Of the connection, in a row of str().
_SHOWN = ("token", "subflows", "bytes_sent", "bytes_received")
_flags, _FALLBACK = MPTCPInfo.fields["flags"].number, int(InfoFlag.FALLBACK)


class MPTCPDiagMsg(View, Whole):
    """``struct inet_diag_msg`` and ``struct mptcp_info``: one MPTCP socket in a dump (Linux 5.9).

    Its own fields are those of inet_diag_msg under the kernel's names without ``idiag_``; ``if``, a word of
    Python, is ``ifindex``. Those of the connection are in ``info``.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = layouts.DIAG_MSG
    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {"info": IN_INFO}
    _smallest = _INFO_AT + MPTCPInfo._smallest

    family: FieldOf[int] = always("AF_INET or AF_INET6.", "family", "5.9", "label")
    """AF_INET or AF_INET6. (family; Linux 5.9)"""
    state: FieldOf[TCPState | int] = named(
        "A number of TCPState, of the MPTCP socket.", "state", "5.9", STATES
    )
    """A number of TCPState, of the MPTCP socket. (state; Linux 5.9)"""
    timer: FieldOf[int] = always(
        "0: none; 2: that which ends a socket closed on this side.", "timer", "5.9", "label"
    )
    """0: none; 2: that which ends a socket closed on this side. (timer; Linux 5.9)"""
    retrans: FieldOf[int] = always(
        "Always 0: MPTCP counts in `info.retransmits`.", "timeouts", "5.9", "gauge"
    )
    """Always 0: MPTCP counts in `info.retransmits`. (timeouts; Linux 5.9)"""
    ifindex: FieldOf[int] = always(
        "Interface that the socket is bound to (SO_BINDTODEVICE), or 0.", "index", "5.9", "label"
    )
    """Interface that the socket is bound to (SO_BINDTODEVICE), or 0. (index; Linux 5.9)"""
    expires: FieldOf[int] = always("Time until the timer fires.", "ms", "5.9", "gauge")
    """Time until the timer fires. (ms; Linux 5.9)"""
    rqueue: FieldOf[int] = always(
        "Memory of what was received and not read, more than its payload; on a listener the length of its "
        "accept queue.",
        "bytes",
        "5.9",
        "gauge",
    )
    """Memory of what was received and not read, more than its payload; on a listener the length of its accept
    queue. (bytes; Linux 5.9)"""
    wqueue: FieldOf[int] = always(
        "Always 0 on a connection, whatever waits (`info.unacked_bytes` tells); on a listener its backlog.",
        "bytes",
        "5.9",
        "gauge",
    )
    """Always 0 on a connection, whatever waits (`info.unacked_bytes` tells); on a listener its backlog.
    (bytes; Linux 5.9)"""
    uid: FieldOf[int] = always("Owner, as the caller's user namespace numbers it.", "uid", "5.9", "label")
    """Owner, as the caller's user namespace numbers it. (uid; Linux 5.9)"""
    inode: FieldOf[int] = always(
        "As os.fstat() gives it; 0 before accept() and after close().", "inode", "5.9", "label"
    )
    """As os.fstat() gives it; 0 before accept() and after close(). (inode; Linux 5.9)"""

    def _check(self) -> None:
        MPTCPInfo(self[_INFO_AT:])

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        message = turned(raw[:_INFO_AT], [*cls._places.values(), *layouts.COOKIE])
        return message + MPTCPInfo._turned(raw[_INFO_AT:])

    @property
    def cookie(self) -> int | None:
        """SO_COOKIE, a number since boot. No key: where a listener's was asked for or dumped (as here, with
        listening), the sockets that it accepts from then on have the same (seen on 6.18).

        None: not told, of a listener that only TCP's table told.
        """
        return layouts.cookie(self)

    @property
    def local(self) -> t.Address:
        """This side's address, as ``socket.getsockname()`` gives it."""
        return layouts.diag_end(self, remote=False)

    @property
    def remote(self) -> t.Address:
        """The peer's address, as ``socket.getpeername()`` gives it, flowinfo 0; zero on a listener."""
        return layouts.diag_end(self, remote=True)

    @property
    def info(self) -> MPTCPInfo:
        """The connection, as mptcp_info() would tell, and also where that is refused: after a fallback.

        Then bytes_sent, bytes_acked and snd_una say what was handed to TCP: no measure of progress.
        """
        return MPTCPInfo._trusted(self[_INFO_AT:])

    @property
    def fallback(self) -> bool:
        """Whether the connection fell back to TCP (RFC 8684, section 3.7).

        True too for one that was reset before its first data: ``state`` is CLOSE then.
        """
        return bool(_flags(self.info) & _FALLBACK)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All of it by name; clean as in ``MPTCPInfo.asdict()``."""
        return {
            **super().asdict(clean=clean),
            "cookie": self.cookie,
            "local": self.local,
            "remote": self.remote,
            "fallback": self.fallback,
            "info": self.info.asdict(clean=clean),
        }

    def _rows(self) -> list[t.Row]:
        ends = ("local", host_and_port(self.local), ""), ("remote", host_and_port(self.remote), "")
        told = ("cookie", self.cookie, ""), ("fallback", self.fallback, "")
        return [*ends, *super()._rows(), *(row for row in told if row[1] is not None), *self.info._rows()]

    def __repr__(self) -> str:
        names = ("local", "remote", "state", "fallback", "inode")
        return short(type(self).__name__, {name: getattr(self, name) for name in names})


class MPTCPDiag:
    """What mptcp_diag() found: a sequence of MPTCPDiagMsg, in the order of the kernel's tables.

    They are made at each access. Can be pickled. Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "time": "time.monotonic_ns() just before the dump.",
        "missing": "Why listeners may be missing: a sentence. None: none is, or they were not asked for.",
        "_info_length": "",
        "_rows": "",
        "_stride": "",
    }

    time: int
    """time.monotonic_ns() just before the dump."""
    missing: str | None
    """Why listeners may be missing: a sentence. None: none is, or they were not asked for."""
    _info_length: int
    _rows: memoryview
    _stride: int

    def __init__(
        self, time: int, info_length: int, rows: bytes | memoryview, missing: str | None = None
    ) -> None:
        """Made by mptcp_diag(). info_length: bytes of mptcp_info in each record of rows."""
        stride = sock_diag.stride_of(info_length)
        for name, value in (
            ("time", time),
            ("missing", missing),
            ("_info_length", info_length),
            ("_rows", memoryview(rows)),
            ("_stride", stride),
        ):
            object.__setattr__(self, name, value)

    def column(self, name: str) -> memoryview:
        """One field of all rows, without copying: a read-only memoryview of native unsigned ints.

        name is a field of MPTCPDiagMsg (not ``cookie``, which is no field) or of MPTCPInfo; no name is in
        both. ValueError for any other, and for a field that this kernel does not report.
        """
        info_length = self._info_length or layouts.MPTCP_INFO_SIZE  # of today, where nothing was found
        if name in MPTCPDiagMsg.fields:
            return _column(MPTCPDiagMsg, name, self._rows, self._stride, 0, _INFO_AT + info_length)
        if name not in MPTCPInfo.fields:
            raise ValueError(f"neither MPTCPDiagMsg nor MPTCPInfo has a field {name!r}")
        return _column(MPTCPInfo, name, self._rows, self._stride, _INFO_AT, info_length)

    def columns(self) -> dict[str, memoryview]:
        """column() of every field that this kernel reports, by name."""
        columns = {}
        for name in [*MPTCPDiagMsg.fields, *MPTCPInfo.fields]:
            try:
                columns[name] = self.column(name)
            except ValueError:
                continue
        return columns

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All of it by name: the rows as of their own ``asdict()``."""
        rows = [row.asdict(clean=clean) for row in self]
        return {"time": self.time, "missing": self.missing, "rows": rows}

    def __len__(self) -> int:
        return len(self._rows) // self._stride

    if TYPE_CHECKING:

        @t.overload
        def __getitem__(self, index: int) -> MPTCPDiagMsg: ...
        @t.overload
        def __getitem__(self, index: slice) -> tuple[MPTCPDiagMsg, ...]: ...

    def __getitem__(self, index: int | slice) -> MPTCPDiagMsg | tuple[MPTCPDiagMsg, ...]:
        if isinstance(index, slice):
            return tuple([self._row(i) for i in range(*index.indices(len(self)))])
        try:
            return self._row(range(len(self))[index])
        except IndexError:
            raise IndexError(f"row {index} of {len(self)}") from None

    def _row(self, index: int) -> MPTCPDiagMsg:
        start = index * self._stride
        return MPTCPDiagMsg._trusted(self._rows[start : start + _INFO_AT + self._info_length])

    def __iter__(self) -> t.Iterator[MPTCPDiagMsg]:
        length = _INFO_AT + self._info_length
        records = struct.Struct(f"{length}s{self._stride - length}x").iter_unpack(self._rows)
        return starmap(MPTCPDiagMsg._trusted, records)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("MPTCPDiag cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("MPTCPDiag cannot be changed")

    def __reduce__(self) -> tuple[t.Any, ...]:
        parts = type(self), self.time, self._info_length, self._rows.tobytes(), self.missing
        return unpickled, (sys.byteorder, *parts)

    def __repr__(self) -> str:
        missing = f", missing: {self.missing}" if self.missing else ""
        return f"<MPTCPDiag of {len(self)} sockets, time {self.time}{missing}>"

    def __str__(self) -> str:
        rows = [
            [host_and_port(row.local), host_and_port(row.remote), row.state, row.fallback, row.inode]
            + [getattr(row.info, name) for name in _SHOWN]
            for row in self
        ]
        head = ["local", "remote", "state", "fallback", "inode", *_SHOWN]
        units = [""] * 5 + units_of(MPTCPInfo.fields, _SHOWN)
        return "\n".join([repr(self), *listed(head, units, rows, left=(0, 1, 2, 3))])


_CONNECTIONS = 2**32 - 1 & ~(1 << TCPState.LISTEN)


def mptcp_diag(*, listening: bool = False, limit: int = sock_diag.LIMIT) -> MPTCPDiag:
    """Every MPTCP connection of the network namespace, of any process: sock_diag(7).

    Without privilege. No descriptor is needed, and a connection that fell back is told too. All IPv4 and
    IPv6 sockets with a token are there: connecting, connected, closing, waiting for accept(), or closed by
    their process and still ending (``inode`` 0). Not there are sockets before connect() and after the last
    trace of a connection, handshakes that a listener has not finished, what a listener accepted from a plain
    TCP peer, and connections that fell back before their first packet: those made while the kernel has given
    MPTCP up (sysctl net.mptcp.blackhole_timeout, Linux 6.12).

    With listening, listeners too: all of those that share a port, and the kernel's own for an endpoint with
    a port, whose ``inode`` no process has. Before Linux 6.15 some can be missing unless the caller has
    CAP_NET_ADMIN; ``missing`` then says so, and on any kernel where the tables did not stay the same for as
    long as it takes to tell. The kernel walks two more tables for them, which takes longer.

    The kernel walks its table in steps: a row is of one moment, the whole is not, and a connection that
    comes or goes meanwhile may be missing or, rarely, make another one missing or told twice (by
    ``info.token``). UnsupportedOptionError where the kernel has no mptcp_diag; OSError with EAGAIN if each
    of several dumps was disturbed, ENOBUFS if each lost something, EMSGSIZE if the rows, listeners included,
    take more than limit bytes, EPROTO for an answer that no kernel gives, and any errno where a policy
    refuses netlink sockets. May be called from any thread, and lets other threads run while the kernel works.

    limit is for the answer that never ends. The default of 32 MiB is enough for some 200,000 connections
    (168 bytes each on Linux 7.3); a machine that has more wants more. For a moment the memory is half as
    much again while it grows, with listening up to three times the rows. TCP's listeners are no rows: as
    many are looked at as take limit bytes or, if that is more, 32 MiB (80 bytes each), and beyond that it is
    EMSGSIZE too.
    """
    time = _time.monotonic_ns()
    rows, info_length = sock_diag.dump(_CONNECTIONS, limit)
    if not listening:
        return MPTCPDiag(time, info_length, rows)
    rows, info_length, missing = listeners.listeners(info_length, limit, rows)
    return MPTCPDiag(time, info_length, rows, missing)


# As mptcp_sockopt/__init__.py does for what it imports at once.
for _public in (MPTCPDiag, MPTCPDiagMsg, mptcp_diag):
    _public.__module__ = "mptcp_sockopt"
