# SPDX-License-Identifier: MIT
"""One connection over time: which subflows came and went, and how many bytes were carried in between.

An Update is a pure function of two snapshots (_difference()); a Tracker remembers the last one. What may be
compared depends on what the kernel does with counters and ids, here on Linux 6.18:

    event                                   token    counters of the connection   initial subflow
    --------------------------------------  -------  ---------------------------  -------------------------
    its initial subflow is removed          stays    stay                         id 1, CLOSE, last counters
    both ends shut down, the peer closed    stays    stay                         may be id 0, CLOSE, zeros
    a fastclose arrives                     0        stay                         id 0, CLOSE, zeros
    connect(AF_UNSPEC)                      0        zero, and no key             id 0, CLOSE, zeros
    connected again                         another  from zero                    id 0, from zero
    both ends of a fallback closed          -        zero                         CLOSE, zeros

On 6.5.10 a removed initial subflow also has id 0 and zeros, so only its last snapshot has its counters.
Additional subflows leave the kernel's list when they end, with their counters (mptcp_net-next issue 385). The
exception is one with a non-empty receive queue: it stays, in CLOSE, with its last counters
(docs/subflows.md). _growth.py decides which connection and which subflow is the same.
"""

from __future__ import annotations

import os
import time
from operator import is_

from . import _border
from . import _types as t
from ._growth import UNKNOWN, connection_growth, counters, find, nothing_happened
from ._sockopt import Snapshot, Status, snapshot
from ._troubles import is_resending
from ._updates import SubflowDelta, Update
from ._views import Subflow, TCPInfo

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from ._growth import Growth

    #: A subflow, which of those before it continues, and its growth.
    _Found: TypeAlias = tuple[Subflow, Subflow | None, Growth | None]

_GONE = 1000
_FALLBACK = Status.FALLBACK  # a global is looked up faster
_unacked = TCPInfo.fields["unacked"].number
_CLOCK_MONOTONIC_COARSE = 6  # missing in the time module


class Tracker:
    """``Tracker(sock).update()``: follow a TCP or MPTCP connection over time, on any kernel.

    A Tracker keeps sock and asks for its descriptor at each update: once it is closed, update() raises
    ValueError. If you pass a number, the number is kept; if another socket gets that number, it is a new
    connection. A subflow that comes and goes between two updates is not seen. Plain TCP, also after a
    fallback, is treated as a connection with one subflow, and the deltas are those of its TCP flow.

    If an MPTCP connection is replaced by another between two updates, the Tracker always notices. With plain
    TCP or after a fallback there is one exception, in which all of the following hold:

    - The same socket went through connect(AF_UNSPEC), kept its bound port, and connected to the same peer
      with the same TCP options. (The peer is not compared while a socket connects, nor once it is closed;
      after a fallback, the second FIN closes it.)
    - By every counter in TCP_INFO except AccECN's, the new connection did at least as much since the last
      update as the old one in its whole life. (If a counter is equal, its age tells, from 50 ms on.)
    - The new connection is in the same TCP state as the old one, or in a later one.

    A signal handler or finalizer that calls update() in the middle of an update() gets RuntimeError, and
    nothing changes.

    Thread rule: one thread at a time; what it returns is immutable.
    """

    __slots__ = ("_seen", "_sock", "_updating")

    def __init__(self, sock: t.SocketLike) -> None:
        _border.descriptor(sock)  # refuses anything that is not a socket
        self._sock = sock
        # The last update, the inode of its socket, the time of the next clock tick, and every subflow that
        # is gone.
        self._seen: tuple[Update | None, int, int, tuple[Subflow, ...]] = None, 0, 0, ()
        self._updating: tuple[Tracker, int] | None = None

    def update(self) -> Update:
        """Take a snapshot(), and report what has changed since the previous one.

        Raises as snapshot(), and RuntimeError in the middle of another update(). The next update then
        compares with the last successful one.
        """
        here = self, os.getpid()  # a copy, or a forked child, is not in the middle of that update
        if self._updating == here:
            raise RuntimeError("Tracker.update() was called in the middle of an update() of the same Tracker")
        self._updating = here
        try:
            last, inode, since, gone = self._seen
            before = None if last is None else last.snapshot
            start = time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)
            fd = _border.descriptor(self._sock)
            now = snapshot(fd)
            inode_now = os.fstat(fd).st_ino
            end = time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)
            same = inode == inode_now
            update = _difference(before, now, same_socket=same, passed=start - since, last=last)
            self._seen = update, inode_now, end, (gone + update.removed)[-_GONE:]
            return update
        finally:
            self._updating = None

    @property
    def gone(self) -> tuple[Subflow, ...]:
        """Every subflow that an update found removed, the most recent last; at most 1,000.

        ids are unique within a connection. If the socket connected again, this has subflows of both
        connections.
        """
        return self._seen[3]

    def __repr__(self) -> str:
        return f"Tracker({self._sock!r})"


# --------------------------------------------------------------------------------------- the pure core


def _difference(
    before: Snapshot | None,
    now: Snapshot,
    *,
    same_socket: bool = True,
    passed: int = 0,
    last: Update | None = None,
) -> Update:
    """same_socket: both snapshots are of one socket. passed: the least time between them, in ns.

    last: the update that ended with before; what has stood still since then is counted on.
    """
    growth: Growth | None = None
    known: tuple[Subflow, ...] = ()  # what may still exist: in another connection nothing, whatever its id
    was: list[Subflow] = []
    if before is not None:
        if last is None:
            was = [subflow for subflow in before.subflows if subflow.live]
        else:
            was = [delta.subflow for delta in last.subflows]
        if now.info is None:  # plain TCP, or fell back: the flow may be the same
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
    added, gone = _changes(found, live, was)
    elapsed = None if before is None else now.time - before.time
    return Update(
        now,
        elapsed,
        continues,
        now.status is _FALLBACK and not (same_socket and _fell_before(before, now, continues)),
        *(growth or UNKNOWN),
        added,
        gone,
        tuple(
            [
                # A new subflow did everything since the last update.
                SubflowDelta(
                    new,
                    elapsed,
                    *(grown or (counters(new.tcp_info) if continues else UNKNOWN)),
                    None if grown is None else 0 if grown[1] else _standing(old, elapsed, last),
                )
                for new, old, grown in live
            ]
        ),
        growth is not None and not growth[1] and _resending(growth, before, now, last, live),
    )


def _changes(
    found: Sequence[_Found], live: Sequence[_Found], was: Sequence[Subflow]
) -> tuple[tuple[Subflow, ...], tuple[Subflow, ...]]:
    """Which subflows are live now and were not before, and which were and are not."""
    if len(live) == len(was) and all(map(is_, [old for _, old, _ in live], was)):
        return (), ()  # the usual case
    # By id(), because hashing a subflow is slow.
    latest = {id(old): new for new, old, _ in found if old is not None}
    going_on = {id(old) for _, old, _ in live}
    was_live = {id(old) for old in was}
    added = [new for new, old, _ in live if id(old) not in was_live]
    return tuple(added), tuple([latest.get(id(old), old) for old in was if id(old) not in going_on])


def _standing(old: Subflow | None, elapsed: int | None, last: Update | None) -> int:
    """For how long data has been outstanding on a subflow; in an update in which none was acknowledged."""
    if old is None or elapsed is None or not _unacked(old.tcp_info):
        return 0
    for delta in () if last is None else last.subflows:
        if delta.subflow is old and delta.standing:
            return elapsed + delta.standing
    # It had been outstanding at that update already, and no ACK had come, for so many ms.
    return elapsed + 1_000_000 * min(old.tcp_info.last_ack_recv, old.tcp_info.last_data_sent)


def _resending(
    growth: Growth, before: Snapshot | None, now: Snapshot, last: Update | None, live: Sequence[_Found]
) -> bool:
    """Whether this side repeats data; in an update in which none was acknowledged."""
    resent = last is not None and last.resending
    if not (growth[3] or resent) or before is None or before.info is None or now.info is None or not live:
        return False
    tcp_infos = [new.tcp_info for new, _, _ in live]
    return (resent and bool(now.info.unacked_bytes)) or is_resending(before.info, now.info, tcp_infos)


def _fell_before(before: Snapshot | None, now: Snapshot, continues: bool) -> bool:
    """Whether this fallback was seen before. Once both of its ends have closed, its counters are zero."""
    if before is None or before.status is not _FALLBACK:
        return False
    return continues or all(map(nothing_happened, now.subflows))


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
Tracker.__module__ = "mptcp_sockopt"
