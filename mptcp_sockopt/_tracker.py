# SPDX-License-Identifier: MIT
"""One connection over time: what came, what went, and how much was carried in between.

An Update is a pure function of two snapshots (_difference()); Tracker remembers the last one. What the
kernel does with counters and ids, as seen on 6.18, decides what may be compared with what:

    event                                   token    counters of the connection   initial subflow
    --------------------------------------  -------  ---------------------------  -------------------------
    its initial subflow is removed          stays    stay                         id 1, CLOSE, last counters
    both ends shut down, the peer closed    stays    stay                         may be id 0, CLOSE, zeros
    a fastclose came                        0        stay                         id 0, CLOSE, zeros
    connect(AF_UNSPEC)                      0        zero, and no key             id 0, CLOSE, zeros
    connected again                         another  from zero                    id 0, from zero
    both ends of a fallback closed          -        zero                         CLOSE, zeros

On 6.5.10 a removed initial subflow has id 0 and zeros too: what is known of it at last is what it had before.
Additional subflows leave the list as they go, and their counters with them (mptcp_net-next issue 385).
What is the same connection, and the same subflow, is decided in _growth.py.
"""

from __future__ import annotations

import os
import time

from . import _border
from . import _types as t
from ._growth import COUNTERS, UNKNOWN, connection_growth, counters, find, nothing_happened
from ._mptcp_info import IN_INFO
from ._records import Record
from ._shown import short, table
from ._sockopt import Snapshot, Status, snapshot
from ._views import Subflow, TCPInfo, Whole, paths

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from ._growth import Growth

_GONE = 1000
_FALLBACK = Status.FALLBACK  # found faster here than in its class
_CLOCK_MONOTONIC_COARSE = 6  # the time module has no name for it


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
        "bytes_sent": "Payload that TCP sent in it, retransmissions included; None where unknown. (bytes)",
        "bytes_acked": "Acknowledged by TCP, SYN and FIN as one byte each; perhaps out of order. (bytes)",
        "bytes_received": "Received by TCP, the peer's FIN as one byte. (bytes)",
        "bytes_retrans": "Payload that TCP retransmitted. (bytes)",
    }

    _elsewhere: t.ClassVar[t.Mapping[str, t.Container[str]]] = {"subflow.tcp_info": TCPInfo.fields}

    subflow: Subflow
    """The subflow now (Subflow)."""
    elapsed: int | None
    """Time since the previous update, in ns; None at the first."""
    bytes_sent: int | None
    """Payload that TCP sent in it, retransmissions included; None where unknown. (bytes)"""
    bytes_acked: int | None
    """Acknowledged by TCP, SYN and FIN as one byte each; perhaps out of order. (bytes)"""
    bytes_received: int | None
    """Received by TCP, the peer's FIN as one byte. (bytes)"""
    bytes_retrans: int | None
    """Payload that TCP retransmitted. (bytes)"""

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
        "comes before any data looks the same (Status.FALLBACK).",
        "bytes_sent": "Payload sent; None before Linux 6.5. (bytes)",
        "bytes_acked": "Payload that the peer acknowledged, our own DATA_FIN as one byte. (bytes)",
        "bytes_received": "Payload received in order; before Linux 6.5 with the peer's DATA_FIN. (bytes)",
        "bytes_retrans": "Payload sent again on another subflow; None before Linux 6.5. (bytes)",
        "added": "Subflows in use now that were not: all of them at the first update.",
        "removed": "Subflows that were in use and are not, with the last counters that could be read.",
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
    the same (Status.FALLBACK)."""
    bytes_sent: int | None
    """Payload sent; None before Linux 6.5. (bytes)"""
    bytes_acked: int | None
    """Payload that the peer acknowledged, our own DATA_FIN as one byte. (bytes)"""
    bytes_received: int | None
    """Payload received in order; before Linux 6.5 with the peer's DATA_FIN. (bytes)"""
    bytes_retrans: int | None
    """Payload sent again on another subflow; None before Linux 6.5. (bytes)"""
    added: tuple[Subflow, ...]
    """Subflows in use now that were not: all of them at the first update."""
    removed: tuple[Subflow, ...]
    """Subflows that were in use and are not, with the last counters that could be read."""
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


class Tracker:
    """``Tracker(sock).update()``: a connection over time, of any TCP-family socket on any kernel.

    sock is kept, and asked anew at each update: once it is closed, update() raises ValueError. A number is
    kept as a number; if another socket gets it, that is a new connection. A subflow that came and went
    between two updates is not seen. On plain TCP, and after a fallback, the connection is its one TCP flow,
    and the deltas are that flow's.

    An MPTCP connection that was replaced between two updates is never continued. One of plain TCP, or that
    fell back, is in one case. The same socket went through connect(AF_UNSPEC), kept the port that it was
    bound to, and connected again, to the same peer, with the same options; and since the last update the new
    connection did, by every counter in TCP_INFO, at least what the old one had done in all. (Where a counter
    is only equal, its age tells, from 50 ms on.) Nothing that the kernel answers tells these two apart. It
    names no peer while a TCP socket connects and once it is closed: there the peer is not compared.

    A signal handler or a finalizer that calls update() in the middle of an update() gets RuntimeError, and
    changes nothing.
    Thread rule: one thread at a time; what it returns is immutable.
    """

    __slots__ = ("_seen", "_sock", "_updating")

    def __init__(self, sock: t.SocketLike) -> None:
        _border.descriptor(sock)  # what is none is refused here
        self._sock = sock
        # The last snapshot, its socket's inode, the time of the tick after it; every subflow that is gone.
        self._seen: tuple[Snapshot | None, int, int, tuple[Subflow, ...]] = None, 0, 0, ()
        self._updating: tuple[Tracker, int] | None = None

    def update(self) -> Update:
        """Take a snapshot(), and say what has changed since the previous one.

        Raises as snapshot(), and RuntimeError in the middle of another update(). The next update then
        compares with the last that succeeded.
        """
        here = self, os.getpid()  # a copy, or a forked child's, is not in the middle of that update
        if self._updating == here:
            raise RuntimeError("Tracker.update() was called in the middle of an update() of the same Tracker")
        self._updating = here
        try:
            before, inode, since, gone = self._seen
            start = time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)
            fd = _border.descriptor(self._sock)
            now = snapshot(fd)
            inode_now = os.fstat(fd).st_ino
            end = time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)
            update = _difference(before, now, same_socket=inode == inode_now, passed=start - since)
            self._seen = now, inode_now, end, (gone + update.removed)[-_GONE:]
            return update
        finally:
            self._updating = None

    @property
    def gone(self) -> tuple[Subflow, ...]:
        """Every subflow that an update saw removed, the latest last; at most the latest 1,000.

        ids are unique within a connection. A socket that connected again has subflows of both here.
        """
        return self._seen[3]

    def __repr__(self) -> str:
        return f"Tracker({self._sock!r})"


# --------------------------------------------------------------------------------------- the pure core


def _difference(
    before: Snapshot | None, now: Snapshot, *, same_socket: bool = True, passed: int = 0
) -> Update:
    """same_socket is of the two; passed are the ns that certainly lie between them, by the kernel's ticks."""
    growth: Growth | None = None
    known: tuple[Subflow, ...] = ()  # what may still be there: in another connection nothing, whatever its id
    was: list[Subflow] = []
    if before is not None:
        was = [subflow for subflow in before.subflows if subflow.live]
        if now.info is None:  # plain TCP, from the start or from now on: the flow may be the same
            known = before.subflows if same_socket else ()
        elif before.info is not None:
            growth = connection_growth(before.info, now.info)
            known = before.subflows if growth is not None else ()
    passed //= 1_000_000
    found = [(new, *find(new, known, passed)) for new in now.subflows]
    if before is not None and before.info is None and now.info is None and len(before.subflows) == 1:
        growth = next((grown for new, _, grown in found if not nothing_happened(new)), None)
    continues = growth is not None
    live = [row for row in found if row[0].live]
    # By id(): to hash a subflow is slow.
    latest = {id(old): new for new, old, _ in found if old is not None}
    going_on = {id(old) for _, old, _ in live}
    was_live = {id(old) for old in was}
    gone = [latest.get(id(old), old) for old in was if id(old) not in going_on]
    elapsed = None if before is None else now.time - before.time
    return Update(
        now,
        elapsed,
        continues,
        now.status is _FALLBACK and not (same_socket and _fell_before(before, now, continues)),
        *(growth or UNKNOWN),
        tuple([new for new, old, _ in live if id(old) not in was_live]),
        tuple(gone),
        tuple(
            [
                # A subflow that was not there did all that it did since.
                SubflowDelta(new, elapsed, *(grown or (counters(new.tcp_info) if continues else UNKNOWN)))
                for new, _, grown in live
            ]
        ),
    )


def _fell_before(before: Snapshot | None, now: Snapshot, continues: bool) -> bool:
    """Whether this fallback was seen before. Once both its ends have closed, its counters are zeros."""
    if before is None or before.status is not _FALLBACK:
        return False
    return continues or all(map(nothing_happened, now.subflows))


# As mptcp_sockopt/__init__.py does for what it imports at once.
for _public in (SubflowDelta, Tracker, Update):
    _public.__module__ = "mptcp_sockopt"
