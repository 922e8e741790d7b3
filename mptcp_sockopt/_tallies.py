# SPDX-License-Identifier: MIT
"""Tally: what connections did, added up look by look, so that it stays when they are gone. For metrics.py.

At each look, what a connection's counters grew by is added to totals. So totals never go backwards. What has
not changed since the last look is compared and passed over: that is most of a machine with many connections.
"""

from __future__ import annotations

import collections
from itertools import compress
from operator import itemgetter, ne
from typing import TYPE_CHECKING, NamedTuple

from . import _types as t
from ._border import layouts, sock_diag
from ._bounded import RTT_BOUNDS, SHARE_BOUNDS, Histogram, Labels
from ._connections import MPTCPConnections
from ._diag_subflow import SubflowFlag
from ._mptcp_info import MPTCPInfo
from ._reasons import FallbackReason
from ._sockopt import Status
from ._tcp_info import LIVE_STATES, TCPInfo, TCPState
from ._unpacking import in_order

#: In the place of a port: no MPTCP listener has it, so that this end connected.
OUTGOING = "outgoing"
#: In the place of a class: the row tells none.
UNKNOWN = "unknown"

_ROW_HEAD = layouts.in_records("state", "ends", "inode")
_PATH_HEAD = layouts.in_records("state", "ends", "token_loc", "flags", "told")
#: Where they are in what is unpacked.
_STATE, _ENDS, _INODE, _TOKEN, _FLAGS, _TOLD = 0, 1, 2, 2, 3, 4
_ends_of = itemgetter(_ENDS)
_FLAGS_TOLD = layouts.TOLD["FLAGS"]
_BACKUP = int(SubflowFlag.BKUP_LOC | SubflowFlag.BKUP_REM)
_OPENING = frozenset({TCPState.SYN_SENT, TCPState.SYN_RECV, TCPState.NEW_SYN_RECV})
#: Of a connection and of a path: what is added up.
CONNECTION_COUNTERS: tuple[str, ...] = ("bytes_acked", "bytes_received", "bytes_retrans")
PATH_COUNTERS: tuple[str, ...] = ("bytes_acked", "bytes_received", "bytes_sent", "bytes_retrans")
#: What marks a connection whose counters are those of its paths: MPTCP's own measure no progress.
_AS_TCP = frozenset({Status.FALLBACK.value, Status.TCP.value})
_STALLED = "stalled"
_MOST_KINDS = 4096  # combinations of flags and states that are remembered
_MOST_FORMER = 16  # paths of a connection that ended, whose counters are remembered


class ConnectionKind(NamedTuple):
    """What connections are counted by."""

    status: str
    family: str
    port: str
    reason: str
    """The class of the fallback, or nothing."""
    dead: bool


_NOT_YET = ConnectionKind("", "", "", "", False)


class PathKind(NamedTuple):
    """What paths are counted by."""

    address: str
    family: str
    state: str


class _Shape:
    """Where the fields are in records of these lengths, and which of them this kernel has."""

    def __init__(self, info_length: int, tcp_info_length: int) -> None:
        self.lengths = info_length, tcp_info_length
        more = in_order(MPTCPInfo, ("flags", "token", *CONNECTION_COUNTERS), info_length)
        self.row = {name: number for number, name in enumerate([*_ROW_HEAD, *more])}
        places = [MPTCPInfo.fields[name].place for name in more]
        stride = sock_diag.stride_of(info_length)
        self.token_of = itemgetter(self.row.get("token", 0))
        self.rows = layouts.records(stride, _ROW_HEAD, layouts.DIAG_INFO_AT, places)
        more = in_order(TCPInfo, ("unacked", "rtt", *PATH_COUNTERS), tcp_info_length)
        self.path = {name: number for number, name in enumerate([*_PATH_HEAD, *more])}
        places = [TCPInfo.fields[name].place for name in more]
        stride = sock_diag.subflow_stride_of(tcp_info_length)
        self.paths = layouts.records(stride, _PATH_HEAD, layouts.DIAG_TCP_INFO_AT, places)
        self.row_counters = {name: self.row[name] for name in CONNECTION_COUNTERS if name in self.row}
        self.path_counters = {name: self.path[name] for name in PATH_COUNTERS if name in self.path}


class _Known:
    """What is remembered of a connection."""

    __slots__ = ("counted", "family", "is_restless", "kind", "marks", "paths", "port")

    def __init__(self, family: str, port: str) -> None:
        self.family, self.port = family, port
        #: What it and its paths were counted as when something had changed last.
        self.kind = _NOT_YET
        self.marks: list[PathKind] = []
        #: Its own counters, by name; and of each path, by its ends, the address and the counters.
        self.counted: dict[str, int] = {}
        self.paths: dict[bytes, tuple[tuple[str, str], dict[str, int]]] = {}
        #: Whether data is outstanding.
        self.is_restless = False


if TYPE_CHECKING:
    from typing import TypeAlias

    _Compared: TypeAlias = tuple[list[tuple[t.Any, tuple[t.Any, ...]]], list[tuple[t.Any, ...]]]


class _Last:
    """Numbers of the last look, by their keys."""

    def __init__(self) -> None:
        self._records: dict[t.Any, tuple[t.Any, ...]] = {}

    def compare(self, keys: list[t.Any], records: list[tuple[t.Any, ...]]) -> _Compared:
        """What is new or has changed since then, with its key; and what was there and is not."""
        # A loop over all of them in Python takes longer than the dump.
        before = list(map(self._records.get, keys))
        changed = list(compress(zip(keys, records, strict=True), map(ne, records, before)))
        ended = []
        if len(self._records) > len(before) - before.count(None):
            ended = [self._records.pop(key) for key in self._records.keys() - set(keys)]
        self._records.update(changed)
        return changed, ended


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
        self._rows, self._paths = _Last(), _Last()
        #: By token; without one, by the ends of the path.
        self._known: dict[t.Any, _Known] = {}
        #: Keys of those with outstanding data, which may stall although nothing changes.
        self._restless: set[t.Any] = set()
        #: Those that were not in the last look: a dump may miss one, which is in the next again.
        self._gone: dict[t.Any, _Known] = {}
        self._kinds: dict[t.Any, tuple[str, str, bool]] = {}
        self._shape = _Shape(0, 0)
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
            self._shape = _Shape(*lengths)
            if found._info_length:
                self._reported = frozenset(self._shape.row_counters)
        rows = list(self._shape.rows.iter_unpack(found._rows))
        paths = list(self._shape.paths.iter_unpack(found._paths))
        tokens, ends = list(map(self._shape.token_of, rows)), list(map(_ends_of, paths))
        entries = _by_key(found, tokens, paths)
        changed = self._changed(
            found, entries, self._rows.compare(tokens, rows), self._paths.compare(ends, paths)
        )
        self._restless = set()
        self._unwanted &= entries.keys()
        for key in (changed & entries.keys()) - self._unwanted:
            entry = entries[key]
            known = self._known.get(key) or self._gone.get(key)
            if known is None:
                known = self._new(found, entry, listening)
                if known is None:
                    self._unwanted.add(key)
                    continue
            elif key in self._known:
                self._leave(known)
            row = rows[entry[0]] if entry[0] >= 0 else None
            self._add(known, found, entry, row, [paths[number] for number in entry[1:]])
            self._known[key] = known
            if known.is_restless:
                self._restless.add(key)
            self.connections[known.kind] += 1
            self.paths.update(known.marks)
        self._gone = {}
        if len(self._known) > len(entries) - len(self._unwanted):
            self._gone = {key: self._known.pop(key) for key in self._known.keys() - entries.keys()}
        for known in self._gone.values():
            self._leave(known)

    def _changed(
        self,
        found: MPTCPConnections,
        entries: dict[t.Any, tuple[int, ...]],
        rows: _Compared,
        paths: _Compared,
    ) -> set[t.Any]:
        """The keys of connections that are not as they were at the last look."""
        if found.missing:  # it may not be told to which connection a path belongs
            return set(entries)
        changed: set[t.Any] = entries.keys() - self._known.keys()
        changed.update([token for token, _ in rows[0]])
        for path in [*[path for _, path in paths[0]], *paths[1]]:
            changed.add(path[_TOKEN] if path[_TOKEN] in entries else path[_ENDS])
        changed |= self._restless
        return changed

    def _new(
        self, found: MPTCPConnections, entry: tuple[int, ...], listening: t.Container[int]
    ) -> _Known | None:
        """None for a connection that has none of the ports."""
        one = found._made(entry)
        local = one.local
        if self._wanted and not self._wanted & {local[1], one.remote[1]}:
            return None
        port = self.ports.of(str(local[1])) if local[1] in listening else OUTGOING
        return _Known(_family(_host(local)), port)

    def _leave(self, known: _Known) -> None:
        """Count it no longer among those of the last look."""
        self.connections[known.kind] -= 1
        self.paths.subtract(known.marks)

    def _add(
        self,
        known: _Known,
        found: MPTCPConnections,
        entry: tuple[int, ...],
        row: tuple[t.Any, ...] | None,
        paths: list[tuple[t.Any, ...]],
    ) -> None:
        status, reason, dead = self._told(found, entry, row, paths)
        whose, before = (known.family, known.port), known.kind
        by_row = {} if row is None else self._grown_row(known, row)
        by_paths = self._grown_paths(known, found, entry[1:], paths)
        for name, grown in (by_paths if status in _AS_TCP else by_row).items():
            if name in self._reported:
                self.connection_bytes[name][whose] += grown
        if before is _NOT_YET and status != Status.CLOSING.value:
            self.seen[whose] += 1
            if status == Status.TCP.value:
                self.as_tcp[whose] += 1
        reason = reason or (UNKNOWN if status == Status.FALLBACK.value else "")
        if reason and not before.reason:
            self.fallbacks[reason, known.family, known.port] += 1
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
        marks = [(path[_STATE], path[_TOKEN] > 0, path[_FLAGS], path[_TOLD]) for path in paths]
        key = row[_STATE], row[_INODE] > 0, row[self._shape.row["flags"]], *marks
        told = self._kinds.get(key)
        if told is None:
            if len(self._kinds) > _MOST_KINDS:
                self._kinds.clear()
            told = self._kinds[key] = _asked(found, entry)
        return told

    def _grown_row(self, known: _Known, row: tuple[t.Any, ...]) -> dict[str, int]:
        """By how much its own counters grew."""
        counted = {name: row[at] for name, at in self._shape.row_counters.items()}
        before, known.counted = known.counted, counted
        return _grown(before, counted)

    def _grown_paths(
        self,
        known: _Known,
        found: MPTCPConnections,
        numbers: tuple[int, ...],
        paths: list[tuple[t.Any, ...]],
    ) -> dict[str, int]:
        """By how much the counters of the paths grew, all together; adds up what is counted of paths."""
        shape = self._shape
        together = dict.fromkeys(shape.path_counters, 0)
        known.is_restless, known.marks = False, []
        for number, path in zip(numbers, paths, strict=True):
            counted = {name: path[at] for name, at in shape.path_counters.items()}
            whose, before = known.paths.get(path[_ENDS]) or (self._whose(found, number), {})
            known.paths[path[_ENDS]] = whose, counted
            grown = _grown(before, counted)
            for name, more in grown.items():
                together[name] += more
                self.path_bytes[name][whose] += more
            if grown:
                self._observe(whose, path, grown)
            outstanding = bool(grown and path[shape.path["unacked"]])
            known.is_restless |= outstanding
            known.marks.append(PathKind(*whose, _state(found, number, path, outstanding)))
        if len(known.paths) > len(paths) + _MOST_FORMER:
            current = {path[_ENDS] for path in paths}
            known.paths = {ends: of for ends, of in known.paths.items() if ends in current}
        return together

    def _whose(self, found: MPTCPConnections, number: int) -> tuple[str, str]:
        host = _host(found._path(number).local)
        whose = self._addresses.of(host), _family(host)
        self.paths[PathKind(*whose, _STALLED)] += 0  # so that what was never stalled is 0, not absent
        return whose

    def _observe(self, whose: tuple[str, str], path: tuple[t.Any, ...], grown: dict[str, int]) -> None:
        """The round-trip time of a path that carried something, and the share of what it sent again."""
        rtt = path[self._shape.path["rtt"]]
        if rtt and (grown["bytes_acked"] or grown["bytes_received"]):
            self.rtt.setdefault(whose, Histogram(RTT_BOUNDS)).add(rtt / 1e6)
        if grown.get("bytes_sent"):
            share = grown["bytes_retrans"] / grown["bytes_sent"]
            self.share.setdefault(whose, Histogram(SHARE_BOUNDS)).add(min(1.0, share))


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
        entries[path[_TOKEN] or path[_ENDS]] = entry
    entries.update(zip(map(tokens.__getitem__, map(itemgetter(0), rows)), rows, strict=True))
    return entries


def _grown(before: dict[str, int], counted: dict[str, int]) -> dict[str, int]:
    if not before:
        return counted
    return {name: max(0, number - before[name]) for name, number in counted.items()}


def _asked(found: MPTCPConnections, entry: tuple[int, ...]) -> tuple[str, str, bool]:
    one = found._made(entry)
    reason = one.fallback_reason
    return one.status.value, "" if reason is None else reason.value, one.dead


def _state(found: MPTCPConnections, number: int, path: tuple[t.Any, ...], outstanding: bool) -> str:
    state = path[_STATE]
    if state in _OPENING:
        return "opening"
    if outstanding and found._path(number).stalled:
        return _STALLED
    if state not in LIVE_STATES:
        return "ending"
    return "backup" if path[_TOLD] & _FLAGS_TOLD and path[_FLAGS] & _BACKUP else "live"


def _host(local: t.Address) -> str:
    """The address alone; of an IPv4 path of an IPv6 socket, the IPv4 address."""
    return local[0].removeprefix("::ffff:") if "." in local[0] else local[0]


def _family(host: str) -> str:
    return "ipv6" if ":" in host else "ipv4"
