# SPDX-License-Identifier: MIT
"""The result of Tracker.update(): an Update, with a SubflowDelta for each subflow."""

from __future__ import annotations

from . import _types as t
from ._growth import COUNTERS
from ._mptcp_info import IN_INFO
from ._records import Record
from ._shown import short, table
from ._sockopt import Snapshot, Status
from ._troubles import is_stalled
from ._views import Subflow, TCPInfo, Whole, paths


class _Delta(Record, Whole):
    """The common part of SubflowDelta and Update."""

    __slots__: t.ClassVar[t.Mapping[str, str]] = {}

    elapsed: int | None
    bytes_sent: int | None
    bytes_acked: int | None
    bytes_received: int | None
    bytes_retrans: int | None

    @property
    def bytes_sent_rate(self) -> float | None:
        """``bytes_sent`` in bytes/s; None if it is None, or if no time has passed."""
        return self.rate("bytes_sent")

    @property
    def bytes_acked_rate(self) -> float | None:
        """``bytes_acked`` in bytes/s; None if it is None, or if no time has passed."""
        return self.rate("bytes_acked")

    @property
    def bytes_received_rate(self) -> float | None:
        """``bytes_received`` in bytes/s; None if it is None, or if no time has passed."""
        return self.rate("bytes_received")

    @property
    def bytes_retrans_rate(self) -> float | None:
        """``bytes_retrans`` in bytes/s; None if it is None, or if no time has passed."""
        return self.rate("bytes_retrans")

    def rate(self, counter: t.Counter) -> float | None:
        """A delta in bytes/s: ``rate("bytes_acked")`` is ``bytes_acked_rate``.

        None if the delta is None, or if no time has passed. ValueError if counter is not one of the four.
        """
        if counter not in COUNTERS:
            raise ValueError(f"no counter {counter!r}: choose from {', '.join(COUNTERS)}")
        delta: int | None = getattr(self, counter)
        return delta * 1e9 / self.elapsed if delta is not None and self.elapsed else None

    def _counted(self) -> dict[str, int | None]:
        return {counter: getattr(self, counter) for counter in COUNTERS}

    def _rows(self) -> list[t.Row]:
        """Name, value and unit of everything that is known."""
        rates = {f"{counter}_rate": getattr(self, f"{counter}_rate") for counter in COUNTERS}
        rows: list[t.Row] = [("elapsed", self.elapsed, "ns")]
        rows += [(name, value, "bytes") for name, value in self._counted().items()]
        rows += [(name, None if rate is None else f"{rate:.0f}", "bytes/s") for name, rate in rates.items()]
        return [row for row in rows if row[1] is not None]

    def _deltas(self) -> dict[str, t.Any]:
        rates = {f"{counter}_rate": getattr(self, f"{counter}_rate") for counter in COUNTERS}
        return {counter: getattr(self, counter) for counter in COUNTERS} | rates


class SubflowDelta(_Delta):
    """What one live subflow did since the previous update.

    A path whose cable was cut stays live for minutes, until TCP gives up on it (net.ipv4.tcp_retries2). If
    this side has data to send on it, ``stalled`` is True long before.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "subflow": "The subflow now (Subflow).",
        "elapsed": "Time since the previous update, in ns; None at the first update.",
        "bytes_sent": "Growth of TCPInfo.bytes_sent, including retransmissions; None if unknown.",
        "bytes_acked": "Growth of TCPInfo.bytes_acked. For the connection, this data may be out of order.",
        "bytes_received": "Growth of TCPInfo.bytes_received.",
        "bytes_retrans": "Growth of TCPInfo.bytes_retrans.",
        "standing": "Time for which data has been outstanding (TCPInfo.unacked at every update) and "
        "bytes_acked has not changed, in ns, as far as known; 0 if it changed in this update, or if nothing "
        "was outstanding. None at the first update.",
    }

    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {"subflow.tcp_info": TCPInfo.fields}

    subflow: Subflow
    """The subflow now (Subflow)."""
    elapsed: int | None
    """Time since the previous update, in ns; None at the first update."""
    bytes_sent: int | None
    """Growth of TCPInfo.bytes_sent, including retransmissions; None if unknown."""
    bytes_acked: int | None
    """Growth of TCPInfo.bytes_acked. For the connection, this data may be out of order."""
    bytes_received: int | None
    """Growth of TCPInfo.bytes_received."""
    bytes_retrans: int | None
    """Growth of TCPInfo.bytes_retrans."""
    standing: int | None
    """Time for which data has been outstanding (TCPInfo.unacked at every update) and bytes_acked has not
    changed, in ns, as far as known; 0 if it changed in this update, or if nothing was outstanding. None at
    the first update."""

    def __init__(
        self,
        subflow: Subflow,
        elapsed: int | None,
        bytes_sent: int | None,
        bytes_acked: int | None,
        bytes_received: int | None,
        bytes_retrans: int | None,
        standing: int | None = None,
    ) -> None:
        _delta_subflow(self, subflow)
        _delta_elapsed(self, elapsed)
        _delta_sent(self, bytes_sent)
        _delta_acked(self, bytes_acked)
        _delta_received(self, bytes_received)
        _delta_retrans(self, bytes_retrans)
        _delta_standing(self, standing)

    @property
    def id(self) -> int | None:
        """The subflow's id."""
        return self.subflow.id

    @property
    def stalled(self) -> bool | None:
        """Whether data is outstanding and nothing has been acknowledged for max(200 ms, 2 rtt).

        ``is_stalled(subflow.tcp_info, standing)``: None if nothing is outstanding, as on a path that is idle
        or only receives, dead or not.
        """
        return is_stalled(self.subflow.tcp_info, self.standing)

    def asdict(self) -> dict[str, t.Any]:
        """The subflow's id, its deltas, its rates in bytes/s, and whether it stalled, by name."""
        return {"id": self.id, **self._deltas(), "standing": self.standing, "stalled": self.stalled}

    def __repr__(self) -> str:
        return short(type(self).__name__, {"id": self.id, "elapsed": self.elapsed, **self._counted()})

    def __str__(self) -> str:
        ends: list[t.Row] = [("id", self.id, "")] * (self.id is not None)
        ends += self.subflow.addrs._rows()
        stalled: list[t.Row] = [("stalled", self.stalled, "")] * (self.stalled is not None)
        return table(type(self).__name__, ends + self._rows() + stalled)


(
    _delta_subflow, _delta_elapsed, _delta_sent, _delta_acked, _delta_received, _delta_retrans,
    _delta_standing,
) = SubflowDelta._setters  # fmt: skip


class Update(_Delta):
    """What a connection did since the previous update.

    Deltas are those of the connection, never the sum of its subflows. They are None if unknown: at the first
    update, and whenever ``continues`` is False. Goodput is ``bytes_acked_rate`` for data that this side
    sends, and ``bytes_received_rate`` for data that it receives.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "snapshot": "The socket now (Snapshot).",
        "elapsed": "Time from the previous snapshot to this one, in ns; None at the first update.",
        "continues": "Whether the counters continue from the previous update. False at the first update, "
        "without a connection, on another connection (the socket connected again, or another socket has its "
        "number), in the update with fell_back, and if the kernel reset the counters.",
        "fell_back": "Whether this update is the first to see plain TCP on an MPTCP socket: True once for "
        "each connection that fell back; at the first update, if it fell back in its handshake. A reset "
        "before any data looks the same, and so does a SYN without an answer: see Status.FALLBACK, and "
        "tcp_info.state.",
        "bytes_sent": "Growth of MPTCPInfo.bytes_sent. On plain TCP and after a fallback, of "
        "TCPInfo.bytes_sent, including retransmissions. None on MPTCP before Linux 6.5, as bytes_retrans.",
        "bytes_acked": "Growth of MPTCPInfo.bytes_acked, or of TCPInfo.bytes_acked.",
        "bytes_received": "Growth of MPTCPInfo.bytes_received (before Linux 6.5, the peer's DATA_FIN counts "
        "as one byte), or of TCPInfo.bytes_received (its FIN counts as one byte).",
        "bytes_retrans": "Growth of MPTCPInfo.bytes_retrans, which can grow even with one path and no loss, "
        "or of TCPInfo.bytes_retrans.",
        "added": "Subflows that are ``live`` now and were not before; at the first update, all live "
        "subflows.",
        "removed": "Subflows that were live and are not any more, with the last counters that could be "
        "read. What they did since the previous update is in no SubflowDelta. Nor is what plain TCP, or a "
        "connection that fell back, still sends in LAST_ACK or CLOSING: only the deltas of the Update "
        "include it.",
        "subflows": "A SubflowDelta for each live subflow, in the kernel's order. A path whose cable was "
        "cut stays here for minutes; its SubflowDelta.stalled tells.",
        "resending": "Whether this side repeats data that TCP says has arrived. As a rule, the peer fell "
        "back and this side did not: the peer gets the same bytes again and again. True while is_resending() "
        "is, and then until data is acknowledged.",
    }

    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {
        "snapshot.info": IN_INFO,
        "subflows[n].subflow.tcp_info": TCPInfo.fields,
    }

    snapshot: Snapshot
    """The socket now (Snapshot)."""
    elapsed: int | None
    """Time from the previous snapshot to this one, in ns; None at the first update."""
    continues: bool
    """Whether the counters continue from the previous update. False at the first update, without a
    connection, on another connection (the socket connected again, or another socket has its number), in the
    update with fell_back, and if the kernel reset the counters."""
    fell_back: bool
    """Whether this update is the first to see plain TCP on an MPTCP socket: True once for each connection
    that fell back; at the first update, if it fell back in its handshake. A reset before any data looks the
    same, and so does a SYN without an answer: see Status.FALLBACK, and tcp_info.state."""
    bytes_sent: int | None
    """Growth of MPTCPInfo.bytes_sent. On plain TCP and after a fallback, of TCPInfo.bytes_sent, including
    retransmissions. None on MPTCP before Linux 6.5, as bytes_retrans."""
    bytes_acked: int | None
    """Growth of MPTCPInfo.bytes_acked, or of TCPInfo.bytes_acked."""
    bytes_received: int | None
    """Growth of MPTCPInfo.bytes_received (before Linux 6.5, the peer's DATA_FIN counts as one byte), or of
    TCPInfo.bytes_received (its FIN counts as one byte)."""
    bytes_retrans: int | None
    """Growth of MPTCPInfo.bytes_retrans, which can grow even with one path and no loss, or of
    TCPInfo.bytes_retrans."""
    added: tuple[Subflow, ...]
    """Subflows that are ``live`` now and were not before; at the first update, all live subflows."""
    removed: tuple[Subflow, ...]
    """Subflows that were live and are not any more, with the last counters that could be read. What they did
    since the previous update is in no SubflowDelta. Nor is what plain TCP, or a connection that fell back,
    still sends in LAST_ACK or CLOSING: only the deltas of the Update include it."""
    subflows: tuple[SubflowDelta, ...]
    """A SubflowDelta for each live subflow, in the kernel's order. A path whose cable was cut stays here for
    minutes; its SubflowDelta.stalled tells."""
    resending: bool
    """Whether this side repeats data that TCP says has arrived. As a rule, the peer fell back and this side
    did not: the peer gets the same bytes again and again. True while is_resending() is, and then until data
    is acknowledged."""

    def __init__(
        self,
        snapshot: Snapshot,
        elapsed: int | None,
        continues: bool,
        fell_back: bool,
        bytes_sent: int | None,
        bytes_acked: int | None,
        bytes_received: int | None,
        bytes_retrans: int | None,
        added: tuple[Subflow, ...],
        removed: tuple[Subflow, ...],
        subflows: tuple[SubflowDelta, ...],
        resending: bool = False,
    ) -> None:
        _set_snapshot(self, snapshot)
        _set_elapsed(self, elapsed)
        _set_continues(self, continues)
        _set_fell_back(self, fell_back)
        _set_sent(self, bytes_sent)
        _set_acked(self, bytes_acked)
        _set_received(self, bytes_received)
        _set_retrans(self, bytes_retrans)
        _set_added(self, added)
        _set_removed(self, removed)
        _set_subflows(self, subflows)
        _set_resending(self, resending)

    @property
    def status(self) -> Status:
        """The status of the snapshot."""
        return self.snapshot.status

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name, including rates in bytes/s. clean: see ``TCPInfo.asdict()``."""
        return {
            "snapshot": self.snapshot.asdict(clean=clean),
            "elapsed": self.elapsed,
            "continues": self.continues,
            "fell_back": self.fell_back,
            **self._deltas(),
            "added": [subflow.id for subflow in self.added],
            "removed": [subflow.asdict(clean=clean) for subflow in self.removed],
            "subflows": [delta.asdict() for delta in self.subflows],
            "resending": self.resending,
        }

    def _changes(self) -> dict[str, list[int | None] | None]:
        """The ids of added and removed subflows."""
        changes = {"added": self.added, "removed": self.removed}
        return {name: [path.id for path in paths] or None for name, paths in changes.items()}

    def __repr__(self) -> str:
        known = {"status": self.status, "elapsed": self.elapsed, "continues": self.continues}
        return short(type(self).__name__, {**known, **self._counted(), **self._changes()})

    def __str__(self) -> str:
        rows: list[t.Row] = [("status", self.status.value, ""), ("continues", self.continues, "")]
        rows += [("fell_back", self.fell_back, ""), *self._rows()]
        rows += [("resending", True, "")] * self.resending
        rows += [(name, ids, "") for name, ids in self._changes().items() if ids is not None]
        return table(type(self).__name__, rows, *paths(delta.subflow for delta in self.subflows))


(
    _set_snapshot, _set_elapsed, _set_continues, _set_fell_back, _set_sent, _set_acked, _set_received,
    _set_retrans, _set_added, _set_removed, _set_subflows, _set_resending,
) = Update._setters  # fmt: skip

# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (SubflowDelta, Update):
    _public.__module__ = "mptcp_sockopt"
