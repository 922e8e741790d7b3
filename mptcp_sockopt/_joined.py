# SPDX-License-Identifier: MIT
"""Joined: MPTCP connections and their paths, which the kernel lists in two tables, put together.

They cannot be read at one moment: TCP's first, then MPTCP's. What has no counterpart then may have come or
gone meanwhile, and is asked for by itself: a connection without a path before it is called dead, and a path
without a connection before that is called gone.
"""

from __future__ import annotations

import time

from . import _types as t
from ._border import config, layouts, lookups, sock_diag
from ._connections import MPTCPConnection
from ._diag_rows import MPTCPDiagMsg
from ._diag_subflow import DiagSubflow, SubflowFlag
from ._fields import strided
from ._mptcp_info import MPTCPInfo
from ._tcp_info import TCPState

_CONNECTIONS = 2**32 - 1 & ~(1 << TCPState.LISTEN)
_SUBFLOWS = 2**32 - 1 & ~(1 << TCPState.TIME_WAIT)
#: All but those that most sockets are in.
_FEW = _SUBFLOWS & ~(1 << TCPState.ESTABLISHED | 1 << TCPState.SYN_SENT | 1 << TCPState.SYN_RECV)
_INFO_AT = layouts.DIAG_INFO_AT
_TOKEN, _MORE = (MPTCPInfo.fields[name].place for name in ("token", "subflows"))
_STATE, _INODE = layouts.DIAG_MSG["state"], layouts.DIAG_MSG["inode"]
_TOKEN_LOC = layouts.DIAG_SUBFLOW["token_loc"]
_TOKEN_TOLD = layouts.TOLD["TOKEN_LOC"]
_LISTEN, _CLOSE = int(TCPState.LISTEN), int(TCPState.CLOSE)
#: In seconds. A connection that was reset, or closed by MP_FASTCLOSE, loses its path before its own state
#: changes: 7 ms before, on a busy machine.
_WAITS = (0, 0.001, 0.002, 0.004, 0.008, 0.016)
#: The same for one that was used in the last second: on a machine with much to do, it takes longer.
_LONGER_WAITS = (*_WAITS, 0.032, 0.064)
_RECENTLY = 1000  # milliseconds
_ENDING = (TCPState.LAST_ACK, TCPState.CLOSING, TCPState.CLOSE)
_ANY = bytes(16)
_KEYS = ("family", "state", "sport", "dport", "src", "inode", "token_loc", "flags", "told", "privileged")
#: Counters of connections made without MPTCP: while it was suspended, and for lack of a token.
_WITHOUT = ("MPCapableSYNTXDisabled", "MPFallbackTokenInit")
_WITHHELD = (
    "before Linux 6.15, only CAP_NET_ADMIN is told ids, flags and tokens of paths, and which connections an "
    "MPTCP listener accepted as TCP or were made while MPTCP was suspended"
)


class _Table:
    """A dump of MPTCP sockets."""

    def __init__(self, port: int, limit: int) -> None:
        self.rows, self.info_length = sock_diag.dump(_CONNECTIONS, limit, port=port)
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
        if not (self._is_any_connection() or _were_any_without() or self._is_any_beside()):
            self.paths, self.tcp_info_length = b"", 0
            return
        self._read_paths(self._port)
        now = _Table(self._port, self._limit)
        if self._port and self._lacks_paths(now):
            self._read_paths(0)
            now = _Table(self._port, self._limit)
        if now.rows and self._is_withheld():
            self._read_paths(0, now.column(_INODE))
            now = _Table(self._port, self._limit)
        self._withheld = bool(self.paths) and self._is_withheld()
        if self._withheld and now.rows:
            self.missing.append(_WITHHELD)
        self.rows, self.info_length = now.rows, now.info_length
        self._join(now)

    def _is_any_connection(self) -> bool:
        """Whether MPTCP's table has one. If not, TCP's need not be read: it can be large."""
        return bool(sock_diag.dump(_CONNECTIONS, self._limit, port=self._port, first=True)[0])

    def _is_withheld(self) -> bool:
        """Whether nothing in TCP's table is said to be of MPTCP, and the kernel may have kept it back."""
        if self.tcp_info_length >= layouts.TCP_INFO_OF_6_18:
            return False
        return not any(told or mark for *_, told, mark in self._keys())

    def _is_any_beside(self) -> bool:
        """Whether there is an MPTCP listener, which may have accepted TCP, or a subflow that ends."""
        self._read_paths(self._port, states=_FEW)
        return any(told for *_, told, _ in self._keys())

    def _read_paths(self, port: int, inodes: t.Iterable[int] = (), states: int = _SUBFLOWS) -> None:
        self.paths, self.tcp_info_length = sock_diag.dump_subflows(states, self._limit, port, inodes)
        self._stride = sock_diag.subflow_stride_of(self.tcp_info_length)

    def _keys(self) -> t.Iterator[tuple[t.Any, ...]]:
        """_KEYS of each record of paths."""
        return layouts.selected(self._stride, *_KEYS).iter_unpack(self.paths)

    def _tokens(self) -> list[int]:
        """Of the connection of each record of paths; 0 if there is none, or it is not told."""
        return strided(_TOKEN_LOC, memoryview(self.paths), self._stride, 0).tolist() if self.paths else []

    def _lacks_paths(self, now: _Table) -> bool:
        """Whether a connection has more paths than were read, as one that was joined at another port."""
        counts: dict[int, int] = {}
        for token in self._tokens():
            counts[token] = counts.get(token, 0) + 1
        columns = now.tokens(), now.column(_MORE, _INFO_AT), now.column(_STATE)
        return any(
            counts.get(token, 0) <= more and state != _CLOSE
            for token, more, state in zip(*columns, strict=True)
        )

    def _join(self, now: _Table) -> None:
        # One without a token ended during the dump.
        rows = {token: number for number, token in enumerate(now.tokens()) if token}
        paths: dict[int, list[int]] = {number: [] for number in rows.values()}
        others = []
        for number, row in enumerate(map(rows.get, self._tokens())):
            if row is not None:
                paths[row].append(number)
            else:
                others.append(number)
        # What look-ups find, after what the dumps did.
        self._more_rows: list[bytes] = []
        self._more_paths: list[bytes] = []
        alone: dict[t.Any, list[int]] = {}
        with lookups.Asker() as asker:
            if others:  # at least every listener
                alone = self._place(asker, others, rows, paths, now)
            self._check(asker, paths, now)
        self.index = [(row, *mine) for row, mine in paths.items()]
        self.index += [(-1, *mine) for mine in alone.values()]
        self.rows = _extended(self.rows, self._more_rows, sock_diag.stride_of(self.info_length))
        self.paths = _extended(self.paths, self._more_paths, self._stride)

    def _place(
        self,
        asker: lookups.Asker,
        others: list[int],
        rows: dict[int, int],
        paths: dict[int, list[int]],
        now: _Table,
    ) -> dict[t.Any, list[int]]:
        """Where rows of TCP's table belong whose token is not in MPTCP's. Returns those of no connection."""
        unpack_from, stride = layouts.selected(self._stride, *_KEYS).unpack_from, self._stride
        keys = [(number, *unpack_from(self.paths, number * stride)) for number in others]
        inodes = {inode: number for number, inode in enumerate(now.column(_INODE)) if inode}
        listeners = _by_end([one[1:] for one in keys if one[2] == _LISTEN])
        port = self._port.to_bytes(2, "big") if self._port else None
        alone: dict[t.Any, list[int]] = {}
        for number, family, state, sport, dport, src, inode, token, flags, told, _ in keys:
            if state == _LISTEN:
                continue
            if inode in inodes and not told & _TOKEN_TOLD:
                # A kernel that does tell has just ended it.
                if self._withheld:
                    paths[inodes[inode]].append(number)
            elif token in rows:  # found by the look-up for another path
                paths[rows[token]].append(number)
            elif port and port not in (sport, dport):
                continue
            elif not told:
                if (
                    not self._withheld
                    and _is_taken(listeners, family, sport, src)
                    and self._is_tcp(asker, number)
                ):
                    alone[number, None] = [number]
            elif not token:
                # Made while MPTCP was suspended. (With MCAP_LOC: one that ends, and has forgotten its token.)
                if told & _TOKEN_TOLD and not flags & SubflowFlag.MCAP_LOC:
                    alone[number, None] = [number]
            elif state in _ENDING:
                alone.setdefault((None, token), []).append(number)
            elif (found := asker.connection(token)) is not None:
                if self._is_wanted(found):
                    rows[token] = self._added_row(found)
                    paths[rows[token]] = [number]
            elif (again := self._asked_again(asker, number)) is not None:
                alone.setdefault((None, token), []).append(self._added_path(again))
        return alone

    def _is_wanted(self, found: bytes) -> bool:
        """Whether a connection has the port. One of its paths may have it alone: of an announced address."""
        msg = MPTCPDiagMsg._trusted(found)
        return not self._port or self._port in (msg.local[1], msg.remote[1])

    def _is_tcp(self, asker: lookups.Asker, number: int) -> bool:
        """Whether a connection without MPTCP's ULP never had it: a subflow that ends loses it first."""
        again = self._asked_again(asker, number)
        return again is not None and again.state != TCPState.LISTEN

    def _check(self, asker: lookups.Asker, paths: dict[int, list[int]], now: _Table) -> None:
        """Ask for each connection without a path: that, or its path, may have come or gone meanwhile."""
        without = [row for row, mine in paths.items() if not mine]
        states = now.column(_STATE) if without else []
        doubtful = []
        for row in without:
            if states[row] != _CLOSE:
                start = row * now.stride
                doubtful.append(MPTCPDiagMsg._trusted(now.rows[start : start + _INFO_AT + now.info_length]))
                del paths[row]
        waits = _LONGER_WAITS if any(map(_was_used, doubtful)) else _WAITS
        for wait in waits if doubtful else ():
            time.sleep(wait)
            # The path of a connection to a link-local address is bound to an interface that its row lacks.
            ask = asker.subflow_of_any if wait == waits[-1] else asker.subflow
            answers = [
                self._found(asker, one, ask(one.local, one.remote, one.ifindex), paths) for one in doubtful
            ]
            doubtful = [msg for msg in answers if msg is not None]
            if not doubtful:
                break
        for msg in doubtful:
            paths[self._added_row(msg)] = []

    def _found(
        self, asker: lookups.Asker, msg: MPTCPDiagMsg, path: bytes | None, paths: dict[int, list[int]]
    ) -> MPTCPDiagMsg | None:
        """Take a connection in that has a path, or needs none; return it as it is now if it seems dead."""
        if path is not None and belongs(DiagSubflow._trusted(path), msg):
            paths[self._added_row(msg)] = [self._added_path(path)]
            return None
        again = asker.connection(msg.info.token)
        if again is None:
            return None
        msg = MPTCPDiagMsg._trusted(again)
        if MPTCPConnection(msg, ()).dead:
            return msg
        paths[self._added_row(msg)] = []
        return None

    def _path(self, number: int) -> DiagSubflow:
        return DiagSubflow._trusted(bytes(self.paths[number * self._stride :][: self._stride]))

    def _asked_again(self, asker: lookups.Asker, number: int) -> DiagSubflow | None:
        """What is now in the place of a record of a path; None if there is nothing, or something else."""
        before, now = self._path(number), None
        path = asker.subflow(before.local, before.remote, before.ifindex)
        if path is not None:
            now = DiagSubflow._trusted(path)
        return now if now is not None and now.token_local == before.token_local else None

    def _added_path(self, found: bytes | DiagSubflow) -> int:
        if not self.tcp_info_length:
            self.tcp_info_length = len(found) - layouts.DIAG_TCP_INFO_AT
            self._stride = sock_diag.subflow_stride_of(self.tcp_info_length)
        self._more_paths.append(bytes(found))
        return len(self.paths) // self._stride + len(self._more_paths) - 1

    def _added_row(self, found: bytes | MPTCPDiagMsg) -> int:
        if not self.info_length:
            self.info_length = len(found) - _INFO_AT
        self._more_rows.append(bytes(found))
        stride = sock_diag.stride_of(self.info_length)
        return len(self.rows) // stride + len(self._more_rows) - 1


def _was_used(msg: MPTCPDiagMsg) -> bool:
    """Whether a connection sent or received something just now, if this kernel tells (Linux 6.10)."""
    ages = msg.info.last_data_sent, msg.info.last_data_recv, msg.info.last_ack_recv
    return any(age is not None and age < _RECENTLY for age in ages)


def belongs(path: DiagSubflow, msg: MPTCPDiagMsg) -> bool:
    """Whether a socket with the addresses of a connection is its path."""
    token = path.token_local
    return path.state != TCPState.LISTEN and (
        path.inode == msg.inode if token is None else token == msg.info.token
    )


def _by_end(listeners: list[tuple[t.Any, ...]]) -> dict[tuple[int, bytes, bytes], bool]:
    """Listeners by family, port and address, and whether all with these are MPTCP."""
    found: dict[tuple[int, bytes, bytes], bool] = {}
    for family, _, sport, _, src, _, _, _, told, _ in listeners:
        end = family, sport, src
        found[end] = found.get(end, True) and bool(told)
    return found


def _is_taken(listeners: dict[tuple[int, bytes, bytes], bool], family: int, port: bytes, src: bytes) -> bool:
    """Whether MPTCP listeners take connections to this end: those of the address itself come first."""
    exact = listeners.get((family, port, src))
    return bool(listeners.get((family, port, _ANY)) if exact is None else exact)


def _extended(records: memoryview | bytes, more: list[bytes], stride: int) -> memoryview | bytes:
    return b"".join([records, *(one.ljust(stride, b"\0") for one in more)]) if more else records


def _were_any_without() -> bool:
    """Whether the kernel ever made a connection of this network namespace without MPTCP.

    Such a connection is in no dump of MPTCP sockets. A counter that this kernel lacks is one that it cannot
    increase.
    """
    try:
        counters = config.counters()
    except (OSError, ValueError):  # no /proc; or one that is not the kernel's
        return True
    return any(counters.get(name) for name in _WITHOUT)
