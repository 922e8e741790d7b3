# SPDX-License-Identifier: MIT
"""The rows of a dump of MPTCP sockets, MPTCPDiagMsg, and all of them: MPTCPDiag."""

from __future__ import annotations

import struct
import sys
from itertools import starmap

from . import _types as t
from ._border import layouts, sock_diag
from ._fields import FieldOf, View, always, named, turned, unpickled
from ._fields import column as _column
from ._mptcp_info import IN_INFO
from ._shown import host_and_port, listed, short, units_of
from ._tcp_info import STATES
from ._views import InfoFlag, MPTCPInfo, TCPState, Whole

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing

_INFO_AT = layouts.DIAG_INFO_AT
#: Fields of the connection that str() shows.
_SHOWN = ("token", "subflows", "bytes_sent", "bytes_received")
_flags, _FALLBACK = MPTCPInfo.fields["flags"].number, int(InfoFlag.FALLBACK)


class MPTCPDiagMsg(View, Whole):
    """``struct inet_diag_msg`` and ``struct mptcp_info``: one MPTCP socket in a dump (Linux 5.9).

    Attributes have the names of inet_diag_msg's fields without ``idiag_``, except ``ifindex``, because ``if``
    is a keyword. ``info`` has the fields of the connection.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = layouts.DIAG_MSG
    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {"info": IN_INFO}
    _smallest = _INFO_AT + MPTCPInfo._smallest

    family: FieldOf[int] = always("AF_INET or AF_INET6.", "family", "5.9", "label")
    """AF_INET or AF_INET6. (family; Linux 5.9)"""
    state: FieldOf[TCPState | int] = named("State of the MPTCP socket (TCPState).", "state", "5.9", STATES)
    """State of the MPTCP socket (TCPState). (state; Linux 5.9)"""
    timer: FieldOf[int] = always(
        "0: none. 2: the timer that ends a socket closed on this side.", "timer", "5.9", "label"
    )
    """0: none. 2: the timer that ends a socket closed on this side. (timer; Linux 5.9)"""
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
        "Memory used by received, unread data, which is more than its payload; on a listener, the length of "
        "its accept queue.",
        "bytes",
        "5.9",
        "gauge",
    )
    """Memory used by received, unread data, which is more than its payload; on a listener, the length of its
    accept queue. (bytes; Linux 5.9)"""
    wqueue: FieldOf[int] = always(
        "Always 0 on a connection, even with unacknowledged data (see `info.unacked_bytes`); on a listener, "
        "its backlog.",
        "bytes",
        "5.9",
        "gauge",
    )
    """Always 0 on a connection, even with unacknowledged data (see `info.unacked_bytes`); on a listener, its
    backlog. (bytes; Linux 5.9)"""
    uid: FieldOf[int] = always(
        "User ID of the owner, as seen in the caller's user namespace.", "uid", "5.9", "label"
    )
    """User ID of the owner, as seen in the caller's user namespace. (uid; Linux 5.9)"""
    inode: FieldOf[int] = always(
        "Inode number, as in os.fstat(); 0 before accept() and after close().", "inode", "5.9", "label"
    )
    """Inode number, as in os.fstat(); 0 before accept() and after close(). (inode; Linux 5.9)"""

    def _check(self) -> None:
        MPTCPInfo(self[_INFO_AT:])

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        message = turned(raw[:_INFO_AT], [*cls._places.values(), *layouts.COOKIE])
        return message + MPTCPInfo._turned(raw[_INFO_AT:])

    @property
    def cookie(self) -> int | None:
        """SO_COOKIE, a number since boot; None for a listener that is only in TCP's table.

        Do not use it as a key: once a listener's cookie was read or dumped (as here, with listening), the
        sockets that it accepts have the same cookie (seen on Linux 6.18).
        """
        return layouts.cookie(self)

    @property
    def local(self) -> t.Address:
        """This side's address, as ``socket.getsockname()`` returns it."""
        return layouts.diag_end(self, remote=False)

    @property
    def remote(self) -> t.Address:
        """The peer's address, as ``socket.getpeername()`` returns it; zero on a listener. flowinfo is 0."""
        return layouts.diag_end(self, remote=True)

    @property
    def info(self) -> MPTCPInfo:
        """The connection, as mptcp_info() returns it; also after a fallback, where mptcp_info() raises.

        After a fallback, bytes_sent, bytes_acked and snd_una count what was passed to TCP: they do not
        measure progress.
        """
        return MPTCPInfo._trusted(self[_INFO_AT:])

    @property
    def fallback(self) -> bool:
        """Whether the connection fell back to TCP (RFC 8684, section 3.7).

        Also True for a connection that was reset before its first data; its ``state`` is CLOSE.
        """
        return bool(_flags(self.info) & _FALLBACK)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name. clean: see ``MPTCPInfo.asdict()``."""
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
    """The result of mptcp_diag(): a sequence of MPTCPDiagMsg, in the order of the kernel's tables.

    Rows are created at each access. Can be pickled. Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "time": "time.monotonic_ns() just before the dump.",
        "missing": "Why listeners may be missing, as a sentence. None if none is, or without listening=True.",
        "_info_length": "",
        "_rows": "",
        "_stride": "",
    }

    time: int
    """time.monotonic_ns() just before the dump."""
    missing: str | None
    """Why listeners may be missing, as a sentence. None if none is, or without listening=True."""
    _info_length: int
    _rows: memoryview
    _stride: int

    def __init__(
        self, time: int, info_length: int, rows: bytes | memoryview, missing: str | None = None
    ) -> None:
        """Called by mptcp_diag(). info_length: the size of mptcp_info in each record of rows, in bytes."""
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

        name is a field of MPTCPDiagMsg (``cookie`` is not a field) or of MPTCPInfo; they have no name in
        common. ValueError for any other name, and for a field that this kernel does not report.
        """
        info_length = self._info_length or layouts.MPTCP_INFO_SIZE  # today's size if there are no rows
        if name in MPTCPDiagMsg.fields:
            return _column(MPTCPDiagMsg, name, self._rows, self._stride, 0, _INFO_AT + info_length)
        if name not in MPTCPInfo.fields:
            raise ValueError(f"neither MPTCPDiagMsg nor MPTCPInfo has a field {name!r}")
        return _column(MPTCPInfo, name, self._rows, self._stride, _INFO_AT, info_length)

    def columns(self) -> dict[str, memoryview]:
        """column() for every field that this kernel reports, by name."""
        columns = {}
        for name in [*MPTCPDiagMsg.fields, *MPTCPInfo.fields]:
            try:
                columns[name] = self.column(name)
            except ValueError:
                continue
        return columns

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name; each row as its own ``asdict()``."""
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


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (MPTCPDiag, MPTCPDiagMsg):
    _public.__module__ = "mptcp_sockopt"
