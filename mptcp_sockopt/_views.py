# SPDX-License-Identifier: MIT
"""The results of the readers: the kernel's structs as views, and one subflow as a record.

_fields.py defines how a view decodes. ``MPTCPInfo`` and ``TCPInfo`` have modules of their own.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

from . import _border
from . import _types as t
from ._border import layouts
from ._fields import View, refuse_turned, turned
from ._mptcp_info import IN_INFO
from ._mptcp_info import InfoFlag as InfoFlag
from ._mptcp_info import MPTCPInfo as MPTCPInfo
from ._records import Elsewhere, Record, Shown
from ._tcp_info import LIVE_STATES
from ._tcp_info import TCPInfo as TCPInfo
from ._tcp_info import TCPState as TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing


class SubflowAddrs(View):
    """``struct mptcp_subflow_addrs``: the two addresses of a subflow (Linux 5.16).

    Addresses are tuples, as ``socket.getsockname()`` returns them. The kernel leaves scope_id and flowinfo 0,
    even for link-local addresses. Subflows may have different families: on an IPv6 socket that uses IPv4, the
    initial subflow has v4-mapped addresses, while one added by the path manager may be plain IPv4.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _smallest = layouts.ADDRS_SIZE

    def _check(self) -> None:
        for family, place in zip(layouts.families(self), layouts.FAMILIES, strict=True):
            refuse_turned(type(self), family, place.size)

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        """Converts families and scope_ids; ports and flowinfo are big-endian on every machine."""
        raw = turned(raw, layouts.FAMILIES)
        return turned(raw, layouts.scope_ids(raw))

    @property
    def local(self) -> t.Address | None:
        """This side's address; None if the family is neither AF_INET nor AF_INET6."""
        return layouts.address(self, layouts.LOCAL)

    @property
    def remote(self) -> t.Address | None:
        """The peer's address, all zero on a listener; None as for local."""
        return layouts.address(self, layouts.REMOTE)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Both addresses by name."""
        return {"local": self.local, "remote": self.remote}

    def _rows(self) -> list[t.Row]:
        from ._shown import host_and_port

        return [("local", host_and_port(self.local), ""), ("remote", host_and_port(self.remote), "")]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(local={self.local}, remote={self.remote})"


_state = TCPInfo.fields["state"].number
_LIVE = frozenset(map(int, LIVE_STATES))  # a member of an enum is hashed by its name, which is slow


class Whole(metaclass=Shown):
    """Base class of results that contain an MPTCPInfo or TCPInfo. A misplaced attribute gets a hint."""

    #: The attributes of each part.
    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {}

    if not TYPE_CHECKING:
        __slots__ = ()
        vars().update({name: Elsewhere(name) for name in (*IN_INFO, *TCPInfo.fields)})


class Subflow(Record, Whole):
    """One path of a connection. Thread rule: immutable, use it anywhere."""

    __slots__ = {
        "id": "Its number in the connection. The initial subflow is 1, but 0 on a socket that connects again "
        "(after a failed connect(), or connect(AF_UNSPEC)) and after a reset. Never reused; a failed join "
        "leaves a gap; the peer has its own numbers. None before Linux 6.5, and on plain TCP.",
        "addrs": "Its two addresses (SubflowAddrs).",
        "tcp_info": "Its TCP state and counters (TCPInfo).",
    }

    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {"tcp_info": TCPInfo.fields}

    id: int | None
    """Its number in the connection. The initial subflow is 1, but 0 on a socket that connects again (after a
    failed connect(), or connect(AF_UNSPEC)) and after a reset. Never reused; a failed join leaves a gap; the
    peer has its own numbers. None before Linux 6.5, and on plain TCP."""
    addrs: SubflowAddrs
    """Its two addresses (SubflowAddrs)."""
    tcp_info: TCPInfo
    """Its TCP state and counters (TCPInfo)."""

    def __init__(self, id: int | None, addrs: SubflowAddrs, tcp_info: TCPInfo) -> None:
        _set_id(self, id)
        _set_addrs(self, addrs)
        _set_tcp_info(self, tcp_info)

    @property
    def local(self) -> t.Address | None:
        """This side's address, as getsockname() returns it."""
        return self.addrs.local

    @property
    def remote(self) -> t.Address | None:
        """The peer's address, as getpeername() returns it."""
        return self.addrs.remote

    @property
    def live(self) -> bool:
        """Whether it can carry data: its state is ESTABLISHED, FIN_WAIT1, FIN_WAIT2 or CLOSE_WAIT.

        That is, its handshake is complete and at most one end has closed it. False while it joins (SYN_SENT),
        in SYN_RECV (even if Fast Open has data there), on a listener, at its end (even if LAST_ACK or CLOSING
        still sends queued data), and if the answer is too short to contain the state. A path that went silent
        stays live until TCP gives up on it. See docs/subflows.md.
        """
        return _state(self.tcp_info) in _LIVE

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name. clean: see ``TCPInfo.asdict()``."""
        tcp_info = self.tcp_info.asdict(clean=clean)
        return {"id": self.id, "live": self.live, **self.addrs.asdict(), "tcp_info": tcp_info}

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(id={self.id}, local={self.local}, remote={self.remote}, live={self.live}, ...)"

    def __str__(self) -> str:
        from ._shown import table

        rows = [("id", self.id, ""), *self.addrs._rows(), ("live", self.live, ""), *self.tcp_info._rows()]
        return table(type(self).__name__, [row for row in rows if row[1] is not None])


_COLUMNS = ("state", "rtt", "bytes_acked", "bytes_received", "total_retrans")


def paths(subflows: t.Iterable[Subflow]) -> list[str]:
    """Lines of a table with one line for each subflow, after an empty line; [] without subflows."""
    from ._shown import host_and_port, listed, units_of

    rows = [
        [path.id, host_and_port(path.local), host_and_port(path.remote)]
        + [getattr(path.tcp_info, name) for name in _COLUMNS]
        for path in subflows
    ]
    head, units = ["id", "local", "remote", *_COLUMNS], ["", "", "", *units_of(TCPInfo.fields, _COLUMNS)]
    return ["", *listed(head, units, rows, left=(1, 2, 3))] if rows else []


_new_object = object.__new__
_trusted_info, _trusted_addrs, _trusted_tcp_info = MPTCPInfo._trusted, SubflowAddrs._trusted, TCPInfo._trusted
_set_id, _set_addrs, _set_tcp_info = Subflow._setters

_ADDRS_SIZE = layouts.ADDRS_SIZE
_INFO_AT = layouts.INFO_AT
_shape = layouts.full_info_shape
_subflow_id = layouts.subflow_id


def _can_be(path: Subflow) -> bool:
    """Whether both addresses are of one known family and the state is valid. If not, the layout is wrong."""
    local, remote = layouts.families(path.addrs)
    known = local == remote and local in layouts.KNOWN_FAMILIES
    return known and 0 < path.tcp_info.state <= _border.MOST_STATE


def _refuse_turned_head(view: type[View], full_info: t.Raw) -> None:
    refuse_turned(view, *layouts.small_number(full_info))


class MPTCPFullInfo(View, Whole):
    """``struct mptcp_full_info`` and its two arrays, from one call (Linux 6.5).

    The bytes are: the struct as the kernel wrote it, with the two user pointers zeroed; the
    ``mptcp_subflow_info`` elements; the ``tcp_info`` elements. The kernel fills both arrays under one socket
    lock, so they are of the same moment; ``info`` was taken just before.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {
        "info": IN_INFO,
        "subflows[n].tcp_info": TCPInfo.fields,
    }
    _smallest = _INFO_AT + MPTCPInfo._smallest

    def _check(self) -> None:
        _refuse_turned_head(type(self), self)
        fits = layouts.is_full_info(self)
        if fits:
            self.info._check()
            for path in self.subflows:
                path.addrs._check()
                path.tcp_info._check()
                fits = fits and _can_be(path)
        if not fits:
            raise ValueError(f"{type(self).__name__} of {len(self)} bytes: its header does not fit the data")

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        raw = turned(raw[:_INFO_AT], layouts.FULL_INFO.values()) + raw[_INFO_AT:]
        _refuse_turned_head(cls, raw)
        if not layouts.is_full_info(raw):
            raise ValueError(f"{cls.__name__} of {len(raw)} bytes: its header does not fit the data")
        at, count, element, addrs, tcp_info = _shape(raw)
        parts = [raw[:_INFO_AT], MPTCPInfo._turned(raw[_INFO_AT:at])]
        for start in range(at, at + count * element, element):
            one = turned(raw[start : start + element], [layouts.SUBFLOW_ID])
            parts += one[:addrs], SubflowAddrs._turned(one[addrs:])
        for start in range(at + count * element, len(raw), tcp_info):
            parts.append(TCPInfo._turned(raw[start : start + tcp_info]))
        return b"".join(parts)

    @property
    def num_subflows(self) -> int:
        """The kernel's count of all subflows, including a removed initial one."""
        return layouts.num_subflows(self)

    @property
    def live_count(self) -> int:
        """How many subflows are ``live``."""
        return sum(subflow.live for subflow in self.subflows)

    @property
    def info(self) -> MPTCPInfo:
        """The connection (MPTCPInfo)."""
        return _trusted_info(self[_INFO_AT : _shape(self)[0]])

    @property
    def subflows(self) -> tuple[Subflow, ...]:
        """All subflows: the initial one, then from oldest to newest. Decoded at each access."""
        return self._subflows(*_shape(self))

    def _flags_and_states(self) -> tuple[int, bytes]:
        """``info.flags``, and the TCP state of each subflow as one byte."""
        return layouts.flags_and_states(self, _shape(self))

    def _parts(self) -> tuple[int, bytes, MPTCPInfo, tuple[Subflow, ...]]:
        """_flags_and_states(), ``info`` and ``subflows``, decoding the header only once."""
        shape = _shape(self)
        flags, states = layouts.flags_and_states(self, shape)
        return flags, states, _trusted_info(self[_INFO_AT : shape[0]]), self._subflows(*shape)

    def _subflows(self, at: int, count: int, element: int, addrs: int, tcp_info: int) -> tuple[Subflow, ...]:
        addrs_at, infos_at = at + addrs, at + count * element
        found = []
        for _ in range(count):
            # Subflow(id, SubflowAddrs(...), TCPInfo(...)) without checks: the kernel wrote these bytes, or
            # __new__ checked them.
            subflow = _new_object(Subflow)
            _set_id(subflow, _subflow_id(self, at)[0])
            _set_addrs(subflow, _trusted_addrs(self[addrs_at : addrs_at + _ADDRS_SIZE]))
            _set_tcp_info(subflow, _trusted_tcp_info(self[infos_at : infos_at + tcp_info]))
            found.append(subflow)
            at += element
            addrs_at += element
            infos_at += tcp_info
        return tuple(found)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name. clean: see ``TCPInfo.asdict()``."""
        return {
            "num_subflows": self.num_subflows,
            "live_count": self.live_count,
            "info": self.info.asdict(clean=clean),
            "subflows": [subflow.asdict(clean=clean) for subflow in self.subflows],
        }

    def __repr__(self) -> str:
        from ._shown import short

        info = self.info
        vital = {
            name: getattr(info, name) for name in ("token", "bytes_sent", "bytes_acked", "bytes_received")
        }
        counts = {"num_subflows": self.num_subflows, "live_count": self.live_count}
        return short(type(self).__name__, counts | vital)

    def __str__(self) -> str:
        from ._shown import table

        return table(type(self).__name__, self.info._rows(), *paths(self.subflows))
