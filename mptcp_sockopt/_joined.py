# SPDX-License-Identifier: MIT
"""Joined: MPTCP connections and their paths, which the kernel lists in two tables, put together.

The tables cannot be read at one moment, so the order matters: MPTCP's, TCP's, MPTCP's again. A connection
that is only in the last may have come after TCP's table was read. Without a path there, it is left out. One
that was in MPTCP's table both times and has no path is asked for by itself before it is called dead.
"""

from __future__ import annotations

from . import _types as t
from ._border import layouts, lookups, sock_diag
from ._diag_rows import MPTCPDiagMsg
from ._diag_subflow import DiagSubflow
from ._fields import strided
from ._mptcp_info import MPTCPInfo
from ._tcp_info import LIVE_STATES, TCPState

_ALL = 2**32 - 1
_CONNECTIONS = _ALL & ~(1 << TCPState.LISTEN)
_SUBFLOWS = _ALL & ~(1 << TCPState.TIME_WAIT)
_INFO_AT = layouts.DIAG_INFO_AT
_TOKEN, _MORE = (MPTCPInfo.fields[name].place for name in ("token", "subflows"))
_STATE, _INODE = layouts.DIAG_MSG["state"], layouts.DIAG_MSG["inode"]
_TOKEN_TOLD = layouts.TOLD["TOKEN_LOC"]
_LISTEN, _CLOSE = int(TCPState.LISTEN), int(TCPState.CLOSE)
_ANY = bytes(16)
_KEYS = ("family", "state", "sport", "dport", "src", "inode", "token_loc", "told", "privileged")
#: Counters of connections made without MPTCP: while it was suspended, and for lack of a token.
_WITHOUT = ("MPCapableSYNTXDisabled", "MPFallbackTokenInit")
_WITHHELD = (
    "before Linux 6.15, only CAP_NET_ADMIN is told ids, flags and tokens of paths, and which connections an "
    "MPTCP listener accepted as TCP or were made while MPTCP was suspended"
)


class _Table:
    """A dump of MPTCP sockets."""

    def __init__(self, port: int, limit: int, states: int = _CONNECTIONS) -> None:
        self.rows, self.info_length = sock_diag.dump(states, limit, port=port)
        self.stride = sock_diag.stride_of(self.info_length)

    def column(self, place: t.Any, start: int = 0) -> list[int]:
        return strided(place, self.rows, self.stride, start).tolist() if self.rows else []

    def tokens(self) -> list[int]:
        return self.column(_TOKEN, _INFO_AT)


class Joined:
    """The rows of both tables, and which belong together. One call of mptcp_diag() makes and reads it."""

    def __init__(self, port: int, limit: int) -> None:
        self._port, self._limit = port, limit
        self.missing: list[str] = []
        #: Records as sock_diag.dump() and dump_subflows() make them.
        self.rows: memoryview | bytes = b""
        self.paths: memoryview | bytes = b""
        self.info_length = self.tcp_info_length = 0
        #: For each connection the number of its row (-1: none) and those of its paths.
        self.index: list[tuple[int, ...]] = []

    def read(self) -> None:
        """Read the tables, join them, and look for what is missing."""
        before = _Table(self._port, self._limit, _ALL)
        if not before.rows and not _were_any_without():
            return
        self._read_paths(self._port)
        now = _Table(self._port, self._limit)
        if self._port and self._lacks_paths(before, now):
            self._read_paths(0)
            now = _Table(self._port, self._limit)
        self._withheld = bool(before.rows) and not any(told or mark for *_, told, mark in self._keys())
        if self._withheld:
            self.missing.append(_WITHHELD)
            self._read_paths(0, now.column(_INODE))
            now = _Table(self._port, self._limit)
        self.rows, self.info_length = now.rows, now.info_length
        self._join(before, now)

    def _read_paths(self, port: int, inodes: t.Iterable[int] = ()) -> None:
        self.paths, self.tcp_info_length = sock_diag.dump_subflows(_SUBFLOWS, self._limit, port, inodes)
        self._stride = sock_diag.subflow_stride_of(self.tcp_info_length)

    def _keys(self) -> t.Iterator[tuple[t.Any, ...]]:
        """_KEYS of each record of paths."""
        return layouts.selected(self._stride, *_KEYS).iter_unpack(self.paths)

    def _lacks_paths(self, before: _Table, now: _Table) -> bool:
        """Whether a connection has more paths than were read, as one that was joined at another port."""
        counts: dict[int, int] = {}
        for *_, token, _, _ in self._keys():
            counts[token] = counts.get(token, 0) + 1
        # In both tables: a path may have come or gone.
        earlier = dict(zip(before.tokens(), before.column(_MORE, _INFO_AT), strict=True))
        return any(
            token in earlier and counts.get(token, 0) <= min(more, earlier[token]) and state != _CLOSE
            for token, more, state in zip(
                now.tokens(), now.column(_MORE, _INFO_AT), now.column(_STATE), strict=True
            )
        )

    def _join(self, before: _Table, now: _Table) -> None:
        rows = {token: number for number, token in enumerate(now.tokens())}
        paths: dict[int, list[int]] = {number: [] for number in rows.values()}
        others = []
        for number, keys in enumerate(self._keys()):
            row = rows.get(keys[6]) if keys[6] else None
            if row is not None:
                paths[row].append(number)
            elif keys[1] != _LISTEN:
                others.append((number, keys))
        # What look-ups find, after what the dumps did.
        self._more_rows: list[bytes] = []
        self._more_paths: list[bytes] = []
        alone: dict[t.Any, list[int]] = {}
        with lookups.Asker() as asker:
            if others:
                alone = self._place(asker, others, rows, paths, now)
            if not all(paths.values()):
                self._check(asker, paths, before, now)
        self.index = [(row, *mine) for row, mine in paths.items()]
        self.index += [(-1, *mine) for mine in alone.values()]
        self.rows = _extended(self.rows, self._more_rows, sock_diag.stride_of(self.info_length))
        self.paths = _extended(self.paths, self._more_paths, self._stride)

    def _place(
        self,
        asker: lookups.Asker,
        others: list[tuple[int, tuple[t.Any, ...]]],
        rows: dict[int, int],
        paths: dict[int, list[int]],
        now: _Table,
    ) -> dict[t.Any, list[int]]:
        """Where rows of TCP's table belong whose token is not in MPTCP's. Returns those of no connection."""
        inodes = {inode: number for number, inode in enumerate(now.column(_INODE)) if inode}
        listeners = self._listeners()
        alone: dict[t.Any, list[int]] = {}
        for number, (family, state, sport, dport, src, inode, token, told, _) in others:
            if not told & _TOKEN_TOLD and inode in inodes:
                paths[inodes[inode]].append(number)
            elif self._port and self._port_bytes not in (sport, dport):
                continue
            elif not told:
                if not self._withheld and _takes(listeners, family, sport, src):
                    alone[number, 0] = [number]
            elif not token:
                alone[number, 0] = [number]
            elif token in rows:  # found by the look-up for another path
                paths[rows[token]].append(number)
            elif state in LIVE_STATES and (found := asker.connection(token)):
                rows[token] = self._added_row(found)
                paths[rows[token]] = [number]
            else:
                alone.setdefault((-1, token), []).append(number)
        return alone

    @property
    def _port_bytes(self) -> bytes:
        return self._port.to_bytes(2, "big")

    def _listeners(self) -> dict[tuple[int, bytes, bytes], bool]:
        """The listeners by family, port and address, and whether all those are MPTCP."""
        found: dict[tuple[int, bytes, bytes], bool] = {}
        for family, state, sport, _, src, _, _, told, _ in self._keys():
            if state == _LISTEN:
                key = family, sport, src
                found[key] = found.get(key, True) and bool(told)
        return found

    def _check(self, asker: lookups.Asker, paths: dict[int, list[int]], before: _Table, now: _Table) -> None:
        """Ask for each connection without a path: it may have come, or gone, during the dumps."""
        known = set(before.tokens())
        tokens, states = now.tokens(), now.column(_STATE)
        for row in [row for row, mine in paths.items() if not mine]:
            if tokens[row] not in known:
                del paths[row]
            elif states[row] != _CLOSE:
                self._find_path(asker, paths, row, now)

    def _find_path(self, asker: lookups.Asker, paths: dict[int, list[int]], row: int, now: _Table) -> None:
        msg = MPTCPDiagMsg._trusted(now.rows[row * now.stride :][: _INFO_AT + now.info_length])
        path = asker.subflow(msg.local, msg.remote)
        if path is not None:
            subflow = DiagSubflow._trusted(path)
            if subflow.token_local in (msg.info.token, None) and subflow.inode == msg.inode:
                paths[row].append(len(self.paths) // self._stride + len(self._more_paths))
                self._more_paths.append(path)
                return
        again = asker.connection(msg.info.token)
        del paths[row]
        if again is not None:
            paths[self._added_row(again)] = []

    def _added_row(self, found: bytes) -> int:
        if not self.info_length:
            self.info_length = len(found) - _INFO_AT
        self._more_rows.append(found)
        stride = sock_diag.stride_of(self.info_length)
        return len(self.rows) // stride + len(self._more_rows) - 1


def _takes(listeners: dict[tuple[int, bytes, bytes], bool], family: int, port: bytes, address: bytes) -> bool:
    """Whether it was an MPTCP listener that accepted a connection with this end: the kernel prefers one with
    the address itself."""
    exact = listeners.get((family, port, address))
    return bool(listeners.get((family, port, _ANY)) if exact is None else exact)


def _extended(records: memoryview | bytes, more: list[bytes], stride: int) -> memoryview | bytes:
    return b"".join([records, *(one.ljust(stride, b"\0") for one in more)]) if more else records


def _were_any_without() -> bool:
    """Whether the kernel ever made a connection of this network namespace without MPTCP.

    Such a connection is in no dump of MPTCP sockets. A counter that this kernel lacks is one that it cannot
    increase.
    """
    try:
        with open("/proc/thread-self/net/netstat", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("MPTcpExt:")]
    except OSError:
        return True
    counters = dict(zip(*lines, strict=False)) if len(lines) == 2 else {}
    return any(counters.get(name, "0") != "0" for name in _WITHOUT)
