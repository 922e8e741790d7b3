# SPDX-License-Identifier: MIT
"""What a tally remembers of connections and paths between two looks, and how it reads their records."""

from __future__ import annotations

from itertools import compress
from operator import itemgetter, ne, sub
from typing import TYPE_CHECKING, NamedTuple

from . import _types as t
from ._border import layouts, sock_diag
from ._mptcp_info import MPTCPInfo
from ._tcp_info import TCPInfo
from ._unpacking import in_order

_ROW_HEAD = layouts.in_records("state", "ends", "inode")
_PATH_HEAD = layouts.in_records("state", "ends", "token_loc", "flags", "told")
#: Where they are in what is unpacked.
STATE, ENDS, INODE, TOKEN, FLAGS, TOLD = 0, 1, 2, 2, 3, 4
ends_of = itemgetter(ENDS)
#: Of a connection and of a path: what is added up.
CONNECTION_COUNTERS: tuple[str, ...] = ("bytes_acked", "bytes_received", "bytes_retrans")
PATH_COUNTERS: tuple[str, ...] = ("bytes_acked", "bytes_received", "bytes_sent", "bytes_retrans")

if TYPE_CHECKING:
    from typing import TypeAlias

    #: What is to be added up, by whose it is.
    Groups: TypeAlias = dict[tuple[str, str], list[tuple[int, ...]]]
    #: What is new or has changed, with its key; and what was there and is not.
    Compared: TypeAlias = tuple[list[tuple[t.Any, tuple[t.Any, ...]]], list[tuple[t.Any, ...]]]


class ConnectionKind(NamedTuple):
    """What connections are counted by."""

    status: str
    family: str
    port: str
    reason: str
    """The class of the fallback, or nothing."""
    dead: bool


NOT_YET = ConnectionKind("", "", "", "", False)


class PathKind(NamedTuple):
    """What paths are counted by."""

    address: str
    family: str
    state: str


class Shape:
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
        self.row_names = tuple(name for name in CONNECTION_COUNTERS if name in self.row)
        self.path_names = tuple(name for name in PATH_COUNTERS if name in self.path)
        self.row_counters = _picked([self.row[name] for name in self.row_names])
        self.path_counters = _picked([self.path[name] for name in self.path_names])
        self.flags, self.unacked = self.row.get("flags", 0), self.path.get("unacked")


def _picked(places: list[int]) -> t.Callable[[tuple[t.Any, ...]], tuple[int, ...]]:
    """What takes these numbers out of a record: always a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda record: tuple([record[place] for place in places])


class KnownPath:
    """What is remembered of a path."""

    __slots__ = ("counted", "kind", "whose")

    def __init__(self, whose: tuple[str, str]) -> None:
        self.whose = whose
        self.kind = PathKind(*whose, "")
        self.counted: tuple[int, ...] = ()


class Known:
    """What is remembered of a connection."""

    __slots__ = ("counted", "family", "is_restless", "kind", "marks", "paths", "port")

    def __init__(self, family: str, port: str) -> None:
        self.family, self.port = family, port
        #: What it and its paths were counted as when something had changed last.
        self.kind = NOT_YET
        self.marks: list[PathKind] = []
        #: Its own counters; and its paths, by their ends.
        self.counted: tuple[int, ...] = ()
        self.paths: dict[bytes, KnownPath] = {}
        #: Whether data is outstanding.
        self.is_restless = False


class Last:
    """Numbers of the last look, by their keys."""

    def __init__(self) -> None:
        self._records: dict[t.Any, tuple[t.Any, ...]] = {}

    def compare(self, keys: list[t.Any], records: list[tuple[t.Any, ...]]) -> Compared:
        """What is new or has changed since then, with its key; and what was there and is not."""
        # A loop over all of them in Python takes longer than the dump.
        before = list(map(self._records.get, keys))
        changed = list(compress(zip(keys, records, strict=True), map(ne, records, before)))
        ended = []
        if len(self._records) > len(before) - before.count(None):
            ended = [self._records.pop(key) for key in self._records.keys() - set(keys)]
        self._records.update(changed)
        return changed, ended


def grown_by(before: tuple[int, ...], counted: tuple[int, ...]) -> tuple[int, ...]:
    """By how much counters grew; one that fell, as in a fallback, did not grow."""
    if not before:
        return counted
    grown = tuple(map(sub, counted, before))
    return grown if not grown or min(grown) >= 0 else tuple([max(0, more) for more in grown])


def join(groups: Groups, whose: tuple[str, str], grown: tuple[int, ...]) -> None:
    """Add it to the group."""
    of = groups.get(whose)
    if of is None:
        groups[whose] = [grown]
    else:
        of.append(grown)
