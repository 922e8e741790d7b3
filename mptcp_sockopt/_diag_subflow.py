# SPDX-License-Identifier: MIT
"""DiagSubflow: one path of a connection, as TCP's table has it.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum

from . import _border
from . import _types as t
from ._border import layouts
from ._fields import Field, FieldOf, View, always, named, turned
from ._records import ShownByName
from ._shown import host_and_port, short
from ._tcp_info import LIVE_STATES, STATES, TCPInfo, TCPState
from ._troubles import is_stalled
from ._views import Whole

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing

_FLAGS = dict(sorted(_border.numbers("MPTCP_SUBFLOW_FLAG_").items(), key=lambda flag: flag[1]))


class SubflowFlag(ShownByName, enum.IntFlag):
    """Bits of ``DiagSubflow.flags``; ``str()`` gives their names.

    REM: the peer did it; LOC: this side. MCAP: MP_CAPABLE, in the handshake of the initial subflow. JOIN:
    MP_JOIN, in that of any other. BKUP: the backup bit. FULLY_ESTABLISHED: the peer has confirmed MPTCP with
    data or an acknowledgement. MAPVALID: data is arriving within a mapping.

    Thread rule: immutable, use it anywhere.
    """

    MCAP_REM = _FLAGS["MCAP_REM"]
    MCAP_LOC = _FLAGS["MCAP_LOC"]
    JOIN_REM = _FLAGS["JOIN_REM"]
    JOIN_LOC = _FLAGS["JOIN_LOC"]
    BKUP_REM = _FLAGS["BKUP_REM"]
    BKUP_LOC = _FLAGS["BKUP_LOC"]
    FULLY_ESTABLISHED = _FLAGS["FULLY_ESTABLISHED"]
    CONNECTED = _FLAGS["CONNECTED"]
    MAPVALID = _FLAGS["MAPVALID"]

    def __str__(self) -> str:
        rest, names = int(self), []
        for name, bit in _FLAGS.items():
            if rest & bit:
                names.append(name)
                rest ^= bit
        return "|".join(names + [hex(rest)] * bool(rest)) or "0"


class _Told(Field):
    """A field that the kernel may leave out: a bit of the record tells."""

    def __set_name__(self, owner: type[View], name: str) -> None:
        super().__set_name__(owner, name)
        number, bit, told = self.number, layouts.TOLD[_KERNELS[name]], layouts.told
        self.number = lambda view: number(view) if told(view) & bit else None
        property.__init__(self, self.number, doc=self.__doc__)


#: The kernel's names of the fields, in capitals as in MPTCP_SUBFLOW_ATTR_...
_KERNELS = {
    "id": "ID_LOC",
    "remote_id": "ID_REM",
    "token_local": "TOKEN_LOC",
    "token_remote": "TOKEN_REM",
    "relwrite_seq": "RELWRITE_SEQ",
    "map_seq": "MAP_SEQ",
    "map_sfseq": "MAP_SFSEQ",
    "ssn_offset": "SSN_OFFSET",
    "map_datalen": "MAP_DATALEN",
}
_PLACES = {
    **layouts.DIAG_SUBFLOW,
    **{name: layouts.DIAG_SUBFLOW[kernels.lower()] for name, kernels in _KERNELS.items()},
}


def _told(doc: str, unit: str, kind: t.Kind) -> FieldOf[int | None]:
    return _Told(doc, unit, "5.6", kind)  # type: ignore[return-value]


_Flag = SubflowFlag
_JOINED = int(_Flag.JOIN_REM | _Flag.JOIN_LOC)
_OURS = int(_Flag.MCAP_LOC | _Flag.JOIN_LOC)
_THEIRS = int(_Flag.MCAP_REM | _Flag.JOIN_REM)
_TCP_INFO_AT = layouts.DIAG_TCP_INFO_AT


class DiagSubflow(View, Whole):
    """One path: a row of TCP's table, with what the kernel says about MPTCP in it (Linux 5.6).

    ``id``, ``remote_id``, ``flags`` and the tokens are None on a TCP socket without MPTCP, and before Linux
    6.15 also for a caller without CAP_NET_ADMIN. On any kernel, the fields of the current mapping
    (``relwrite_seq`` to ``map_datalen``) are for callers with CAP_NET_ADMIN.

    An id is no key: two paths of a server can both have 0. Their addresses are one.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = _PLACES
    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {"tcp_info": TCPInfo.fields}
    _smallest = _TCP_INFO_AT
    _aligned = 4

    id: FieldOf[int | None] = _told("Address ID of this end (RFC 8684); 0: initial.", "id", "label")
    """Address ID of this end (RFC 8684); 0: initial. (id; Linux 5.6)"""
    remote_id: FieldOf[int | None] = _told("Address ID of the peer's end.", "id", "label")
    """Address ID of the peer's end. (id; Linux 5.6)"""
    family: FieldOf[int] = always("AF_INET or AF_INET6.", "family", "2.6", "label")
    """AF_INET or AF_INET6. (family; Linux 2.6)"""
    state: FieldOf[TCPState | int] = named("TCP state (TCPState).", "state", "2.6", STATES)
    """TCP state (TCPState). (state; Linux 2.6)"""
    ifindex: FieldOf[int] = always("Interface that it is bound to, or 0.", "index", "2.6", "label")
    """Interface that it is bound to, or 0. (index; Linux 2.6)"""
    token_local: FieldOf[int | None] = _told(
        "Token of the connection at this end: `info.token`. 0 if MPTCP was suspended when it connected.",
        "token",
        "label",
    )
    """Token of the connection at this end: `info.token`. 0 if MPTCP was suspended when it connected. (token;
    Linux 5.6)"""
    token_remote: FieldOf[int | None] = _told(
        "Token of the connection at the peer's end; known only on a subflow that this end joined, otherwise "
        "0.",
        "token",
        "label",
    )
    """Token of the connection at the peer's end; known only on a subflow that this end joined, otherwise 0.
    (token; Linux 5.6)"""
    relwrite_seq: FieldOf[int | None] = _told(
        "Sequence number of the next byte to be mapped, relative to the subflow's start.",
        "bytes",
        "sequence",
    )
    """Sequence number of the next byte to be mapped, relative to the subflow's start. (bytes; Linux 5.6)"""
    map_seq: FieldOf[int | None] = _told(
        "Connection sequence number at which the mapping of arriving data begins.", "bytes", "sequence"
    )
    """Connection sequence number at which the mapping of arriving data begins. (bytes; Linux 5.6)"""
    map_sfseq: FieldOf[int | None] = _told(
        "Subflow sequence number at which this mapping begins.", "bytes", "sequence"
    )
    """Subflow sequence number at which this mapping begins. (bytes; Linux 5.6)"""
    ssn_offset: FieldOf[int | None] = _told(
        "TCP sequence number that subflow sequence numbers count from.", "bytes", "sequence"
    )
    """TCP sequence number that subflow sequence numbers count from. (bytes; Linux 5.6)"""
    map_datalen: FieldOf[int | None] = _told("Length of this mapping.", "bytes", "gauge")
    """Length of this mapping. (bytes; Linux 5.6)"""
    rqueue: FieldOf[int] = always(
        "Received data that MPTCP has not taken yet; on a listener, the length of its accept queue.",
        "bytes",
        "2.6",
        "gauge",
    )
    """Received data that MPTCP has not taken yet; on a listener, the length of its accept queue. (bytes;
    Linux 2.6)"""
    wqueue: FieldOf[int] = always(
        "Data not acknowledged, sent or not; on a listener, its backlog.", "bytes", "2.6", "gauge"
    )
    """Data not acknowledged, sent or not; on a listener, its backlog. (bytes; Linux 2.6)"""
    retrans: FieldOf[int] = always(
        "Timeouts in a row, as tcp_info.retransmits; while it connects, SYNs sent again.",
        "timeouts",
        "2.6",
        "gauge",
    )
    """Timeouts in a row, as tcp_info.retransmits; while it connects, SYNs sent again. (timeouts; Linux
    2.6)"""
    uid: FieldOf[int] = always("User ID, as that of the connection.", "uid", "2.6", "label")
    """User ID, as that of the connection. (uid; Linux 2.6)"""
    inode: FieldOf[int] = always(
        "Inode number of the connection; 0 before accept() and after close().", "inode", "2.6", "label"
    )
    """Inode number of the connection; 0 before accept() and after close(). (inode; Linux 2.6)"""

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        kernels = layouts.DIAG_SUBFLOW.values()
        head = turned(raw[:_TCP_INFO_AT], [*kernels, *layouts.COOKIE])
        return head + TCPInfo._turned(raw[_TCP_INFO_AT:])

    @property
    def local(self) -> t.Address:
        """This side's address, as ``socket.getsockname()`` returns it."""
        return layouts.diag_end(self, remote=False)

    @property
    def remote(self) -> t.Address:
        """The peer's address, as ``socket.getpeername()`` returns it; flowinfo is 0."""
        return layouts.diag_end(self, remote=True)

    @property
    def flags(self) -> SubflowFlag | None:
        """What was agreed on it (SubflowFlag)."""
        flags = layouts.subflow_flags(self)
        return None if flags is None else SubflowFlag(flags)

    @property
    def opened_by(self) -> t.Literal["local", "remote"] | None:
        """Which end connected it: this one, or the peer. None if the flags do not tell: they are None, or it
        fell back before the peer answered with MPTCP."""
        flags = layouts.subflow_flags(self) or 0
        return "local" if flags & _OURS else "remote" if flags & _THEIRS else None

    @property
    def backup_local(self) -> bool | None:
        """Whether this end asked that it be used only as a backup."""
        return self._has(SubflowFlag.BKUP_LOC)

    @property
    def backup_remote(self) -> bool | None:
        """Whether the peer asked that it be used only as a backup."""
        return self._has(SubflowFlag.BKUP_REM)

    @property
    def live(self) -> bool:
        """Whether it can carry data: its state is ESTABLISHED, FIN_WAIT1, FIN_WAIT2 or CLOSE_WAIT, as
        ``Subflow.live``."""
        return self.state in LIVE_STATES

    @property
    def stalled(self) -> bool | None:
        """Whether sent data is not acknowledged: a retransmission timeout, or no acknowledgement for longer
        than 200 ms and two round-trip times. None if nothing is outstanding: a path that is idle or only
        receives shows nothing when it dies."""
        tcp_info = self.tcp_info
        return None if tcp_info is None else is_stalled(tcp_info)

    @property
    def tcp_info(self) -> TCPInfo | None:
        """Its TCP state and counters (TCPInfo)."""
        return TCPInfo._trusted(self[_TCP_INFO_AT:]) if len(self) > _TCP_INFO_AT else None

    def _has(self, flag: SubflowFlag) -> bool | None:
        flags = layouts.subflow_flags(self)
        return None if flags is None else bool(flags & int(flag))

    @property
    def _is_mptcp(self) -> bool:
        """Whether the kernel says so."""
        return bool(layouts.told(self) & layouts.TOLD_MPTCP)

    @property
    def _is_told(self) -> bool:
        """Whether it is sure what ``_is_mptcp`` says."""
        return layouts.is_told(self)

    @property
    def _order(self) -> tuple[t.Any, ...]:
        """The initial subflow first, then by id, remote id and addresses."""
        joined = bool((layouts.subflow_flags(self) or 0) & _JOINED)
        return joined, self.id or 0, self.remote_id or 0, self.local, self.remote

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name; flags and state as plain ints. clean: see ``TCPInfo.asdict()``."""
        tcp_info = self.tcp_info
        return {
            "id": self.id,
            "remote_id": self.remote_id,
            "local": self.local,
            "remote": self.remote,
            "opened_by": self.opened_by,
            "backup_local": self.backup_local,
            "backup_remote": self.backup_remote,
            **super().asdict(clean=clean),
            "live": self.live,
            "stalled": self.stalled,
            "flags": layouts.subflow_flags(self),
            "tcp_info": None if tcp_info is None else tcp_info.asdict(clean=clean),
        }

    def _rows(self) -> list[t.Row]:
        told = {
            "local": host_and_port(self.local),
            "remote": host_and_port(self.remote),
            "live": self.live,
            "flags": self.flags,
            "opened_by": self.opened_by,
            "backup_local": self.backup_local,
            "backup_remote": self.backup_remote,
            "stalled": self.stalled,
        }
        rows: list[t.Row] = [(name, value, "") for name, value in told.items() if value is not None]
        tcp_info = self.tcp_info
        more = [] if tcp_info is None else [row for row in tcp_info._rows() if row[0] != "state"]
        return [*rows[:2], *super()._rows(), *rows[2:], *more]

    def __repr__(self) -> str:
        names = ("id", "local", "remote", "state", "live", "stalled")
        return short(type(self).__name__, {name: getattr(self, name) for name in names})


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (DiagSubflow, SubflowFlag):
    _public.__module__ = "mptcp_sockopt"
