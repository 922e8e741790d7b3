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
Additional subflows leave the list as they go, and their counters with them (mptcp_net-next issue 385); but
one whose receive queue is not empty stays, in CLOSE with its last counters (docs/subflows.md).
What is the same connection, and the same subflow, is decided in _growth.py.
"""

from __future__ import annotations

import os
import time

from . import _border
from . import _types as t
from ._growth import UNKNOWN, connection_growth, counters, find, nothing_happened
from ._sockopt import Snapshot, Status, snapshot
from ._updates import SubflowDelta, Update
from ._views import Subflow

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from ._growth import Growth

_GONE = 1000
_FALLBACK = Status.FALLBACK  # found faster here than in its class
_CLOCK_MONOTONIC_COARSE = 6  # the time module has no name for it


class Tracker:
    """``Tracker(sock).update()``: a connection over time, of any TCP-family socket on any kernel.

    sock is kept, and asked anew at each update: once it is closed, update() raises ValueError. A number is
    kept as a number; if another socket gets it, that is a new connection. A subflow that came and went
    between two updates is not seen. On plain TCP, and after a fallback, the connection is its one TCP flow,
    and the deltas are that flow's.

    An MPTCP connection that was replaced between two updates is never continued. One of plain TCP, or that
    fell back, is in one case. The same socket went through connect(AF_UNSPEC), kept the port that it was
    bound to, and connected again, to the same peer, with the same options; and since the last update the new
    connection did, by every counter in TCP_INFO but those of AccECN, at least what the old one had done in
    all, and is as far or farther in the order of TCP's states. (Where a counter is only equal, its age tells,
    from 50 ms on.) The kernel names no peer while a socket connects and once it is closed, after a fallback
    with the second FIN: there the peer is not compared.

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
Tracker.__module__ = "mptcp_sockopt"
