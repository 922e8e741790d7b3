# SPDX-License-Identifier: MIT
"""Tally: what connections did, added up look by look, so that it stays when they are gone. For metrics.py.

At each look, what a connection's counters grew by is added to totals. So totals never go backwards. What has
not changed since the last look is compared and passed over: that is most of a machine with many connections.
"""

from __future__ import annotations

import collections
from operator import add, itemgetter
from typing import TYPE_CHECKING

from . import _types as t
from ._border import layouts
from ._bounded import RTT_BOUNDS, SHARE_BOUNDS, Histogram, Labels
from ._connections import MPTCPConnections
from ._diag_subflow import SubflowFlag
from ._reasons import FallbackReason
from ._remembered import (
    CONNECTION_COUNTERS,
    ENDS,
    FLAGS,
    INODE,
    NOT_YET,
    PATH_COUNTERS,
    STATE,
    TOKEN,
    TOLD,
    ConnectionKind,
    Known,
    KnownPath,
    Last,
    PathKind,
    Shape,
    ends_of,
    grown_by,
    join,
)
from ._sockopt import Status
from ._tcp_info import LIVE_STATES, TCPState

if TYPE_CHECKING:
    from ._remembered import Compared, Groups

#: In the place of a port: no MPTCP listener has it, so that this end connected.
OUTGOING = "outgoing"
#: In the place of a class: the row tells none.
UNKNOWN = "unknown"

_FLAGS_TOLD = layouts.TOLD["FLAGS"]
_BACKUP = int(SubflowFlag.BKUP_LOC | SubflowFlag.BKUP_REM)
_OPENING = frozenset({TCPState.SYN_SENT, TCPState.SYN_RECV, TCPState.NEW_SYN_RECV})
#: What marks a connection whose counters are those of its paths: MPTCP's own measure no progress.
_AS_TCP = frozenset({Status.FALLBACK.value, Status.TCP.value})
_STALLED = "stalled"
_MOST_KINDS = 4096  # combinations of flags and states that are remembered
_MOST_FORMER = 16  # paths of a connection that ended, whose counters are remembered


class Tally:
    """Totals and present numbers of the connections with one of these ports; of all, if there is none.

    Belongs to one thread at a time.
    """

    def __init__(self, ports: t.Iterable[int] = ()) -> None:
        self._wanted = frozenset(ports)
        #: Keys of connections that have other ports.
        self._unwanted: set[t.Any] = set()
        self.seen: collections.Counter[tuple[str, str]] = collections.Counter()
        self.as_tcp: collections.Counter[tuple[str, str]] = collections.Counter()
        self.fallbacks: collections.Counter[tuple[str, str, str]] = collections.Counter()
        #: By name of the field. What this kernel does not report stays empty.
        self.connection_bytes: dict[str, collections.Counter[tuple[str, str]]]
        self.path_bytes: dict[str, collections.Counter[tuple[str, str]]]
        self.connection_bytes = {name: collections.Counter() for name in CONNECTION_COUNTERS}
        self.path_bytes = {name: collections.Counter() for name in PATH_COUNTERS}
        self.rtt: dict[tuple[str, str], Histogram] = {}
        self.share: dict[tuple[str, str], Histogram] = {}
        #: At the last look; 0 of kinds that there were once.
        self.connections: collections.Counter[ConnectionKind] = collections.Counter()
        self.paths: collections.Counter[PathKind] = collections.Counter()
        self.ports, self._addresses = Labels(), Labels()
        #: Of rows by token, of paths by their ends.
        self._rows, self._paths = Last(), Last()
        #: By token; without one, by the ends of the path.
        self._known: dict[t.Any, Known] = {}
        #: By how much counters grew in this look, of each connection and of each path.
        self._grown_of_rows: Groups = {}
        self._grown_of_paths: Groups = {}
        #: Keys of those with outstanding data, which may stall although nothing changes.
        self._restless: set[t.Any] = set()
        #: Those that were not in the last look: a dump may miss one, which is in the next again.
        self._gone: dict[t.Any, Known] = {}
        self._kinds: dict[t.Any, tuple[str, str, bool]] = {}
        self._shape = Shape(0, 0)
        self._reported = frozenset(CONNECTION_COUNTERS)
        self._begin(OUTGOING, [*map(str, FallbackReason), UNKNOWN])

    def has_seen(self, token: int) -> bool:
        """Whether a connection was in one of the last two looks."""
        return token in self._known or token in self._gone

    def _begin(self, port: str, reasons: t.Iterable[str]) -> None:
        """Counters begin at 0: a rate does not count what a series has when it first appears."""
        for family in ("ipv4", "ipv6"):
            self.seen[family, port] += 0
            for reason in reasons:
                self.fallbacks[reason, family, port] += 0
            if port != OUTGOING:
                self.as_tcp[family, port] += 0

    def look(self, found: MPTCPConnections, listening: set[int]) -> None:
        """Add up what happened since the last look. listening: ports of MPTCP listeners."""
        for number in listening:
            self._begin(self.ports.of(str(number)), [str(FallbackReason.MID_CONNECTION)])
        lengths = found._info_length, found._tcp_info_length
        if lengths != self._shape.lengths:
            self._shape = Shape(*lengths)
            if found._info_length:
                self._reported = frozenset(self._shape.row_names)
        rows = list(self._shape.rows.iter_unpack(found._rows))
        paths = list(self._shape.paths.iter_unpack(found._paths))
        tokens, ends = list(map(self._shape.token_of, rows)), list(map(ends_of, paths))
        entries = _by_key(found, tokens, paths)
        changed = self._changed(
            found, entries, self._rows.compare(tokens, rows), self._paths.compare(ends, paths)
        )
        self._restless = set()
        self._grown_of_rows, self._grown_of_paths = {}, {}
        self._unwanted &= entries.keys()
        for key in (changed & entries.keys()) - self._unwanted:
            entry = entries[key]
            known = self._known.get(key) or self._gone.get(key)
            if known is None:
                known = self._new(found, entry, listening)
                if known is None:
                    self._unwanted.add(key)
                    continue
            kind, marks = known.kind, known.marks
            row = rows[entry[0]] if entry[0] >= 0 else None
            self._add(known, found, entry, row, [paths[number] for number in entry[1:]])
            if known.is_restless:
                self._restless.add(key)
            if key not in self._known:
                self._known[key] = known
            elif kind == known.kind and marks == known.marks:
                continue  # what nearly all of them are
            else:
                self._leave(kind, marks)
            self.connections[known.kind] += 1
            self.paths.update(known.marks)
        self._add_up()
        self._gone = {}
        if len(self._known) > len(entries) - len(self._unwanted):
            self._gone = {key: self._known.pop(key) for key in self._known.keys() - entries.keys()}
        for known in self._gone.values():
            self._leave(known.kind, known.marks)

    def _changed(
        self,
        found: MPTCPConnections,
        entries: dict[t.Any, tuple[int, ...]],
        rows: Compared,
        paths: Compared,
    ) -> set[t.Any]:
        """The keys of connections that are not as they were at the last look."""
        if found.missing:  # it may not be told to which connection a path belongs
            return set(entries)
        changed: set[t.Any] = entries.keys() - self._known.keys()
        changed.update([token for token, _ in rows[0]])
        for path in [*[path for _, path in paths[0]], *paths[1]]:
            changed.add(path[TOKEN] if path[TOKEN] in entries else path[ENDS])
        changed |= self._restless
        return changed

    def _new(
        self, found: MPTCPConnections, entry: tuple[int, ...], listening: t.Container[int]
    ) -> Known | None:
        """None for a connection that has none of the ports."""
        one = found._made(entry)
        local = one.local
        if self._wanted and not self._wanted & {local[1], one.remote[1]}:
            return None
        port = self.ports.of(str(local[1])) if local[1] in listening else OUTGOING
        return Known(_family(_host(local)), port)

    def _leave(self, kind: ConnectionKind, marks: list[PathKind]) -> None:
        """Count it no longer among those of the last look."""
        self.connections[kind] -= 1
        self.paths.subtract(marks)

    def _add(
        self,
        known: Known,
        found: MPTCPConnections,
        entry: tuple[int, ...],
        row: tuple[t.Any, ...] | None,
        paths: list[tuple[t.Any, ...]],
    ) -> None:
        status, reason, dead = self._told(found, entry, row, paths)
        whose, before = (known.family, known.port), known.kind
        by_paths = self._grown_paths(known, found, entry[1:], paths)
        if row is not None:
            counted = self._shape.row_counters(row)
            if status not in _AS_TCP:
                join(self._grown_of_rows, whose, grown_by(known.counted, counted))
            known.counted = counted
        if status in _AS_TCP:
            for name, grown in zip(self._shape.path_names, by_paths, strict=True):
                if name in self._reported:
                    self.connection_bytes[name][whose] += grown
        if before is NOT_YET and status != Status.CLOSING.value:
            self.seen[whose] += 1
            if status == Status.TCP.value:
                self.as_tcp[whose] += 1
        reason = reason or (UNKNOWN if status == Status.FALLBACK.value else "")
        if reason and not before.reason:
            self.fallbacks[reason, known.family, known.port] += 1
        if (status, reason, dead) != (before.status, before.reason, before.dead):
            known.kind = ConnectionKind(status, *whose, reason, dead)

    def _told(
        self,
        found: MPTCPConnections,
        entry: tuple[int, ...],
        row: tuple[t.Any, ...] | None,
        paths: list[tuple[t.Any, ...]],
    ) -> tuple[str, str, bool]:
        """Its status, the class of its fallback, and whether it is dead."""
        if row is None or not paths:
            return _asked(found, entry)
        # All that these three depend on, for a connection with paths.
        marks = [(path[STATE], path[TOKEN] > 0, path[FLAGS], path[TOLD]) for path in paths]
        key = row[STATE], row[INODE] > 0, row[self._shape.flags], *marks
        told = self._kinds.get(key)
        if told is None:
            if len(self._kinds) > _MOST_KINDS:
                self._kinds.clear()
            told = self._kinds[key] = _asked(found, entry)
        return told

    def _grown_paths(
        self,
        known: Known,
        found: MPTCPConnections,
        numbers: tuple[int, ...],
        paths: list[tuple[t.Any, ...]],
    ) -> tuple[int, ...]:
        """By how much the counters of the paths grew, all together; adds up what is counted of paths."""
        shape = self._shape
        together: tuple[int, ...] = (0,) * len(shape.path_names)
        known.is_restless, known.marks = False, []
        for number, path in zip(numbers, paths, strict=True):
            ends, counted = path[ENDS], shape.path_counters(path)
            of = known.paths.get(ends)
            if of is None:
                of = known.paths[ends] = KnownPath(self._whose(found, number))
            grown = grown_by(of.counted, counted)
            of.counted = counted
            together = tuple(map(add, together, grown))
            if any(grown):
                join(self._grown_of_paths, of.whose, grown)
                self._observe(of.whose, path, grown)
            outstanding = shape.unacked is not None and path[shape.unacked] > 0
            known.is_restless |= outstanding
            state = _state(found, number, path, outstanding)
            if of.kind.state != state:
                of.kind = PathKind(*of.whose, state)
            known.marks.append(of.kind)
        if len(known.paths) > len(paths) + _MOST_FORMER:
            current = {path[ENDS] for path in paths}
            known.paths = {ends: of for ends, of in known.paths.items() if ends in current}
        return together

    def _add_up(self) -> None:
        """What grew in this look, by the names of the counters."""
        for whose, grown in self._grown_of_rows.items():
            for name, column in zip(self._shape.row_names, zip(*grown, strict=True), strict=True):
                self.connection_bytes[name][whose] += sum(column)
        for whose, grown in self._grown_of_paths.items():
            for name, column in zip(self._shape.path_names, zip(*grown, strict=True), strict=True):
                self.path_bytes[name][whose] += sum(column)

    def _whose(self, found: MPTCPConnections, number: int) -> tuple[str, str]:
        host = _host(found._path(number).local)
        whose = self._addresses.of(host), _family(host)
        self.paths[PathKind(*whose, _STALLED)] += 0  # so that what was never stalled is 0, not absent
        return whose

    def _observe(self, whose: tuple[str, str], path: tuple[t.Any, ...], grown: tuple[int, ...]) -> None:
        """The round-trip time of a path that carried something, and the share of what it sent again."""
        acked, received, *more = grown
        rtt = path[self._shape.path["rtt"]]
        if rtt and (acked or received):
            histogram = self.rtt.get(whose) or self.rtt.setdefault(whose, Histogram(RTT_BOUNDS))
            histogram.add(rtt / 1e6)
        if more and more[0]:
            sent, again = more
            histogram = self.share.get(whose) or self.share.setdefault(whose, Histogram(SHARE_BOUNDS))
            histogram.add(min(1.0, again / sent))


def _by_key(
    found: MPTCPConnections, tokens: list[int], paths: list[tuple[t.Any, ...]]
) -> dict[t.Any, tuple[int, ...]]:
    """The entries of the index, by token; without one, by the ends of the path."""
    index, count = found._index, len(found._index)
    while count and index[count - 1][0] < 0:  # those without a row come last
        count -= 1
    rows = index[:count]
    entries: dict[t.Any, tuple[int, ...]] = {}
    for entry in index[count:]:
        path = paths[entry[1]]
        entries[path[TOKEN] or path[ENDS]] = entry
    entries.update(zip(map(tokens.__getitem__, map(itemgetter(0), rows)), rows, strict=True))
    return entries


def _asked(found: MPTCPConnections, entry: tuple[int, ...]) -> tuple[str, str, bool]:
    one = found._made(entry)
    reason = one.fallback_reason
    return one.status.value, "" if reason is None else reason.value, one.dead


def _state(found: MPTCPConnections, number: int, path: tuple[t.Any, ...], outstanding: bool) -> str:
    state = path[STATE]
    if state in _OPENING:
        return "opening"
    if outstanding and found._path(number).stalled:
        return _STALLED
    if state not in LIVE_STATES:
        return "ending"
    return "backup" if path[TOLD] & _FLAGS_TOLD and path[FLAGS] & _BACKUP else "live"


def _host(local: t.Address) -> str:
    """The address alone; of an IPv4 path of an IPv6 socket, the IPv4 address."""
    return local[0].removeprefix("::ffff:") if "." in local[0] else local[0]


def _family(host: str) -> str:
    return "ipv6" if ":" in host else "ipv4"
