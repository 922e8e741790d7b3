# SPDX-License-Identifier: MIT
"""What Tracker.update() returns: an Update, and in it a SubflowDelta for each path."""

from __future__ import annotations

from . import _types as t
from ._growth import COUNTERS
from ._mptcp_info import IN_INFO
from ._records import Record
from ._shown import short, table
from ._sockopt import Snapshot, Status
from ._views import Subflow, TCPInfo, Whole, paths


class _Delta(Record, Whole):
    """What SubflowDelta and Update have in common."""

    __slots__: t.ClassVar[t.Mapping[str, str]] = {}

    elapsed: int | None
    bytes_sent: int | None
    bytes_acked: int | None
    bytes_received: int | None
    bytes_retrans: int | None

    @property
    def bytes_sent_rate(self) -> float | None:
        """``bytes_sent`` in bytes/s; None where that is None, or no time has passed."""
        return self.rate("bytes_sent")

    @property
    def bytes_acked_rate(self) -> float | None:
        """``bytes_acked`` in bytes/s; None where that is None, or no time has passed."""
        return self.rate("bytes_acked")

    @property
    def bytes_received_rate(self) -> float | None:
        """``bytes_received`` in bytes/s; None where that is None, or no time has passed."""
        return self.rate("bytes_received")

    @property
    def bytes_retrans_rate(self) -> float | None:
        """``bytes_retrans`` in bytes/s; None where that is None, or no time has passed."""
        return self.rate("bytes_retrans")

    def rate(self, counter: t.Counter) -> float | None:
        """That delta in bytes/s: ``rate("bytes_acked")`` is ``bytes_acked_rate``.

        None where the delta is None, or no time has passed. ValueError for a name that is no counter's.
        """
        if counter not in COUNTERS:
            raise ValueError(f"no counter {counter!r}: there are {', '.join(COUNTERS)}")
        delta: int | None = getattr(self, counter)
        return delta * 1e9 / self.elapsed if delta is not None and self.elapsed else None

    def _counted(self) -> dict[str, int | None]:
        return {counter: getattr(self, counter) for counter in COUNTERS}

    def _rows(self) -> list[t.Row]:
        """Name, value and unit of what is known."""
        rates = {f"{counter}_rate": getattr(self, f"{counter}_rate") for counter in COUNTERS}
        rows: list[t.Row] = [("elapsed", self.elapsed, "ns")]
        rows += [(name, value, "bytes") for name, value in self._counted().items()]
        rows += [(name, None if rate is None else f"{rate:.0f}", "bytes/s") for name, rate in rates.items()]
        return [row for row in rows if row[1] is not None]

    def _deltas(self) -> dict[str, t.Any]:
        rates = {f"{counter}_rate": getattr(self, f"{counter}_rate") for counter in COUNTERS}
        return {counter: getattr(self, counter) for counter in COUNTERS} | rates


class SubflowDelta(_Delta):
    """What one subflow in use did since the previous update.

    A path whose cable was cut is in use for minutes: until TCP gives it up (net.ipv4.tcp_retries2). What
    tells, while there is something to send: ``bytes_acked_rate`` is 0, and in ``subflow.tcp_info``
    ``unacked`` is not 0, ``backoff`` grows from 0, and ``last_ack_recv`` grows with the clock.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "subflow": "The subflow now (Subflow).",
        "elapsed": "Time since the previous update, in ns; None at the first.",
        "bytes_sent": "Growth of TCPInfo.bytes_sent, retransmissions included; None where unknown.",
        "bytes_acked": "Of TCPInfo.bytes_acked; to the connection perhaps out of order.",
        "bytes_received": "Of TCPInfo.bytes_received.",
        "bytes_retrans": "Of TCPInfo.bytes_retrans.",
    }

    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {"subflow.tcp_info": TCPInfo.fields}

    subflow: Subflow
    """The subflow now (Subflow)."""
    elapsed: int | None
    """Time since the previous update, in ns; None at the first."""
    bytes_sent: int | None
    """Growth of TCPInfo.bytes_sent, retransmissions included; None where unknown."""
    bytes_acked: int | None
    """Of TCPInfo.bytes_acked; to the connection perhaps out of order."""
    bytes_received: int | None
    """Of TCPInfo.bytes_received."""
    bytes_retrans: int | None
    """Of TCPInfo.bytes_retrans."""

    def __init__(
        self,
        subflow: Subflow,
        elapsed: int | None,
        bytes_sent: int | None,
        bytes_acked: int | None,
        bytes_received: int | None,
        bytes_retrans: int | None,
    ) -> None:
        set_subflow, set_elapsed, set_sent, set_acked, set_received, set_retrans = SubflowDelta._setters
        set_subflow(self, subflow)
        set_elapsed(self, elapsed)
        set_sent(self, bytes_sent)
        set_acked(self, bytes_acked)
        set_received(self, bytes_received)
        set_retrans(self, bytes_retrans)

    @property
    def id(self) -> int | None:
        """The subflow's id."""
        return self.subflow.id

    def asdict(self) -> dict[str, t.Any]:
        """The deltas by name, rates in bytes/s among them, and the subflow's id."""
        return {"id": self.id, **self._deltas()}

    def __repr__(self) -> str:
        return short(type(self).__name__, {"id": self.id, "elapsed": self.elapsed, **self._counted()})

    def __str__(self) -> str:
        ends: list[t.Row] = [("id", self.id, "")] * (self.id is not None)
        ends += self.subflow.addrs._rows()
        return table(type(self).__name__, ends + self._rows())


class Update(_Delta):
    """What a connection did since the previous update.

    Deltas are the connection's own, never a sum of its subflows', and None where they are not known: at the
    first update, and whenever ``continues`` is False. Goodput is ``bytes_acked_rate`` of what this
    side sends, ``bytes_received_rate`` of what it receives.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "snapshot": "The socket now (Snapshot).",
        "elapsed": "From the previous snapshot's time to this one's, in ns; None at the first update.",
        "continues": "Whether the counters go on from the previous update. False at the first one, without a "
        "connection, in another connection (the socket connected again, or another socket has its number), "
        "in the update with fell_back, and where the kernel reset the counters.",
        "fell_back": "Whether this update is the first that saw plain TCP on an MPTCP socket: True once for "
        "each connection that fell back, at the first update if that was in its handshake. A reset that "
        "comes before any data looks the same, and so does a SYN that nobody answers (Status.FALLBACK): "
        "that no answer came yet is told by tcp_info.state.",
        "bytes_sent": "Growth of MPTCPInfo.bytes_sent; of TCPInfo.bytes_sent, with retransmissions, on plain "
        "TCP and after a fallback. None of MPTCP before Linux 6.5, as bytes_retrans.",
        "bytes_acked": "Of MPTCPInfo.bytes_acked, or of TCPInfo.bytes_acked.",
        "bytes_received": "Of MPTCPInfo.bytes_received, before Linux 6.5 with the peer's DATA_FIN as one "
        "byte; or of TCPInfo.bytes_received, with its FIN as one.",
        "bytes_retrans": "Of MPTCPInfo.bytes_retrans, also with one path and no loss; or of "
        "TCPInfo.bytes_retrans.",
        "added": "Subflows in use now (``live``) that were not: all of them at the first update.",
        "removed": "Subflows that were in use and are not, with the last counters that could be read. What "
        "they did since the previous update is in no SubflowDelta, nor is what plain TCP, or a connection "
        "that fell back, sends on in LAST_ACK or CLOSING: that is in the deltas of the Update alone.",
        "subflows": "A SubflowDelta for every subflow in use now, in the kernel's order. A path whose cable "
        "was cut is among them for minutes; SubflowDelta says what tells.",
    }

    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {
        "snapshot.info": IN_INFO,
        "subflows[n].subflow.tcp_info": TCPInfo.fields,
    }

    snapshot: Snapshot
    """The socket now (Snapshot)."""
    elapsed: int | None
    """From the previous snapshot's time to this one's, in ns; None at the first update."""
    continues: bool
    """Whether the counters go on from the previous update. False at the first one, without a connection, in
    another connection (the socket connected again, or another socket has its number), in the update with
    fell_back, and where the kernel reset the counters."""
    fell_back: bool
    """Whether this update is the first that saw plain TCP on an MPTCP socket: True once for each connection
    that fell back, at the first update if that was in its handshake. A reset that comes before any data looks
    the same, and so does a SYN that nobody answers (Status.FALLBACK): that no answer came yet is told by
    tcp_info.state."""
    bytes_sent: int | None
    """Growth of MPTCPInfo.bytes_sent; of TCPInfo.bytes_sent, with retransmissions, on plain TCP and after a
    fallback. None of MPTCP before Linux 6.5, as bytes_retrans."""
    bytes_acked: int | None
    """Of MPTCPInfo.bytes_acked, or of TCPInfo.bytes_acked."""
    bytes_received: int | None
    """Of MPTCPInfo.bytes_received, before Linux 6.5 with the peer's DATA_FIN as one byte; or of
    TCPInfo.bytes_received, with its FIN as one."""
    bytes_retrans: int | None
    """Of MPTCPInfo.bytes_retrans, also with one path and no loss; or of TCPInfo.bytes_retrans."""
    added: tuple[Subflow, ...]
    """Subflows in use now (``live``) that were not: all of them at the first update."""
    removed: tuple[Subflow, ...]
    """Subflows that were in use and are not, with the last counters that could be read. What they did since
    the previous update is in no SubflowDelta, nor is what plain TCP, or a connection that fell back, sends on
    in LAST_ACK or CLOSING: that is in the deltas of the Update alone."""
    subflows: tuple[SubflowDelta, ...]
    """A SubflowDelta for every subflow in use now, in the kernel's order. A path whose cable was cut is among
    them for minutes; SubflowDelta says what tells."""

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
    ) -> None:
        (
            set_snapshot, set_elapsed, set_continues, set_fell_back, set_sent, set_acked, set_received,
            set_retrans, set_added, set_removed, set_subflows,
        ) = Update._setters  # fmt: skip
        set_snapshot(self, snapshot)
        set_elapsed(self, elapsed)
        set_continues(self, continues)
        set_fell_back(self, fell_back)
        set_sent(self, bytes_sent)
        set_acked(self, bytes_acked)
        set_received(self, bytes_received)
        set_retrans(self, bytes_retrans)
        set_added(self, added)
        set_removed(self, removed)
        set_subflows(self, subflows)

    @property
    def status(self) -> Status:
        """The snapshot's."""
        return self.snapshot.status

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All of it by name, rates in bytes/s among it; clean as in ``TCPInfo.asdict()``."""
        return {
            "snapshot": self.snapshot.asdict(clean=clean),
            "elapsed": self.elapsed,
            "continues": self.continues,
            "fell_back": self.fell_back,
            **self._deltas(),
            "added": [subflow.id for subflow in self.added],
            "removed": [subflow.asdict(clean=clean) for subflow in self.removed],
            "subflows": [delta.asdict() for delta in self.subflows],
        }

    def _changes(self) -> dict[str, list[int | None] | None]:
        """The ids of subflows that came and that went."""
        changes = {"added": self.added, "removed": self.removed}
        return {name: [path.id for path in paths] or None for name, paths in changes.items()}

    def __repr__(self) -> str:
        known = {"status": self.status, "elapsed": self.elapsed, "continues": self.continues}
        return short(type(self).__name__, {**known, **self._counted(), **self._changes()})

    def __str__(self) -> str:
        rows: list[t.Row] = [("status", self.status.value, ""), ("continues", self.continues, "")]
        rows += [("fell_back", self.fell_back, ""), *self._rows()]
        rows += [(name, ids, "") for name, ids in self._changes().items() if ids is not None]
        return table(type(self).__name__, rows, *paths(delta.subflow for delta in self.subflows))


# As mptcp_sockopt/__init__.py does for what it imports at once.
for _public in (SubflowDelta, Update):
    _public.__module__ = "mptcp_sockopt"
