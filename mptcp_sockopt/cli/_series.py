# SPDX-License-Identifier: MIT
"""The series of one recorded connection, computed once for every kind of picture.

survey() finds the connections of a recording, series_of() reads one of them. Both read the lines as a
stream, so that memory depends on one connection only.

Goodput is the growth of the connection's own counters (mptcp_info). The paths' counters (tcp_info) also
count what was resent, so they do not add up to it. After a fallback the connection's counters count what was
queued; then its goodput is that of its TCP flow.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ._blocks import endpoint, printable, processes

#: A line of the recording, or a connection or path in it.
Entry: TypeAlias = Mapping[str, Any]
#: The connection's token, or both of its addresses if it has none.
Identity: TypeAlias = int | tuple[Any, ...]
#: nan where there is no value.
Values: TypeAlias = "array[float]"

NAN = float("nan")
SECOND = 1_000_000_000
AS_TCP = ("fallback", "tcp")  # statuses of connections whose counters are those of their TCP flow
# Samples come late on a busy machine. Above this many intervals, some are missing.
LATE = 3


class Found(NamedTuple):
    """A connection of the recording."""

    identity: Identity
    name: str
    status: str
    """The last one."""
    samples: int
    sent: int
    """Payload bytes that the peer acknowledged between the first and the last sample."""
    received: int

    @property
    def moved(self) -> int:
        return self.sent + self.received


class Path(NamedTuple):
    """The series of one path; all have a value for each sample."""

    id: int | None
    local: tuple[str, int]
    remote: tuple[str, int]
    acked: Values
    """Bytes per second acknowledged on the path, since the sample before. Includes resent data."""
    received: Values
    rtt: Values
    """Microseconds, as a sender sees it."""
    rcv_rtt: Values
    """Microseconds, as a receiver estimates it."""
    cwnd: Values
    """Bytes."""
    unsent: Values
    """Bytes."""
    stalled: bytearray
    """1 where sent data is not acknowledged: then the other values are old. That is from the first sample on
    for which it was not, though it is told only after a while."""


class Mark(NamedTuple):
    """An event."""

    time: float
    text: str


class Series(NamedTuple):
    """One connection of a recording."""

    found: Found
    start: float
    """Seconds since the epoch: when the time axis begins."""
    time: Values
    """Seconds since start, of each sample."""
    sent: Values
    """Bytes per second that the peer acknowledged, since the sample before: goodput."""
    received: Values
    paths: tuple[Path, ...]
    marks: tuple[Mark, ...]


# --------------------------------------------------------------------------------------------- counters


def identity_of(connection: Entry) -> Identity:
    token = connection["token"]
    if token is not None:
        return int(token)
    return (*connection["local"][:2], *connection["remote"][:2])


def _ends(path: Entry) -> tuple[Any, ...]:
    return (*path["local"][:2], *path["remote"][:2])


def _growth(before: Any, now: Any) -> float:
    """nan if one of the two is missing, or if the counter began anew."""
    return NAN if before is None or now is None or now < before else now - before


def _counters(info: Entry | None) -> tuple[Any, Any]:
    return (info.get("bytes_acked"), info.get("bytes_received")) if info else (None, None)


def _pair(before: tuple[Any, Any], now: tuple[Any, Any]) -> tuple[float, float]:
    return _growth(before[0], now[0]), _growth(before[1], now[1])


def _growth_of_paths(before: Entry, now: Entry) -> tuple[float, float]:
    """Acknowledged and received on all paths. A path that is new began at 0."""
    known = {_ends(path): _counters(path["tcp_info"]) for path in before["subflows"]}
    grown = [
        _pair(known.get(_ends(path), (0, 0)), _counters(path["tcp_info"]))
        for path in now["subflows"]
        if path["tcp_info"]
    ]
    return (sum(one for one, _ in grown), sum(other for _, other in grown)) if grown else (NAN, NAN)


def growth(before: Entry, now: Entry) -> tuple[float, float]:
    """Payload bytes acknowledged and received between two records of a connection; nan if not known."""
    if now["status"] in AS_TCP:
        return _growth_of_paths(before, now)
    return _pair(_counters(before["info"]), _counters(now["info"]))


# ------------------------------------------------------------------------------------------- the survey


def survey(lines: Iterable[Entry]) -> list[Found]:
    """The connections, the busiest first."""
    last: dict[Identity, Entry] = {}  # those of the sample before
    found: dict[Identity, Found] = {}
    for entry in lines:
        if entry["kind"] != "sample":
            continue
        now = {identity_of(connection): connection for connection in entry["connections"]}
        for identity, connection in now.items():
            so_far = found.get(identity) or Found(identity, name_of(connection), "", 0, 0, 0)
            so_far = so_far._replace(status=str(connection["status"]), samples=so_far.samples + 1)
            found[identity] = so_far
            before = last.get(identity)
            if before is None:
                continue
            sent, received = growth(before, connection)
            if sent != sent and received != received:  # an older kernel: only the paths have counters
                sent, received = _growth_of_paths(before, connection)
            found[identity] = so_far._replace(
                sent=so_far.sent + (int(sent) if sent == sent else 0),
                received=so_far.received + (int(received) if received == received else 0),
            )
        last = now
    return sorted(found.values(), key=lambda one: (one.samples < 2, -one.moved))


def name_of(connection: Entry) -> str:
    """``10.0.1.1:40000 -> 10.0.1.2:443  python/123``, printable."""
    name = f"{endpoint(connection['local'])} -> {endpoint(connection['remote'])}"
    owners = connection["processes"]
    return f"{name}  {processes(owners)}" if owners else name


# ------------------------------------------------------------------------------------------- one of them


class _Path:
    """A path while it is read.

    A path that went and came back has another port. It goes on in the same series if its hosts and id are the
    same.
    """

    def __init__(self, path: Entry, samples: int) -> None:
        self.ends = _ends(path)
        self.id: int | None = path["id"]
        self.place = self._place(path)
        self.before: tuple[Any, Any] | None = None  # its counters in the last sample, if it was there
        self.columns = [array("d", [NAN]) * samples for _ in range(6)]
        self.stalled = bytearray(samples)
        self.waiting = 0  # for how many samples data was sent, and none acknowledged

    @staticmethod
    def _place(path: Entry) -> tuple[Any, ...]:
        return path["local"][0], path["remote"][0], path["id"]

    def is_older(self, path: Entry) -> bool:
        """Is this the same path, before it went and came back?"""
        return self.place == self._place(path)

    def add(self, path: Entry | None, first: tuple[Any, Any], seconds: float) -> None:
        """first: the counters that a path which was not there before began with."""
        values = [NAN] * 6
        now = None
        waiting = False
        if path is not None:
            info = path["tcp_info"] or {}
            now = _counters(info)
            before = first if self.before is None or self.ends != _ends(path) else self.before
            self.ends = _ends(path)
            grown = _pair(before, now)
            values[:2] = [bytes_ / seconds for bytes_ in grown]
            waiting = grown[0] == 0 and bool(info.get("unacked"))
            if path["live"]:
                rtt, rcv_rtt, cwnd, mss = map(info.get, ("rtt", "rcv_rtt", "snd_cwnd", "snd_mss"))
                unsent = info.get("notsent_bytes")
                values[2] = rtt or NAN  # 0: not measured yet
                values[3] = rcv_rtt or NAN
                values[4] = NAN if cwnd is None or mss is None else cwnd * mss
                values[5] = NAN if unsent is None else unsent
        self.before = now
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)
        stalled = bool(path and path["stalled"])
        if stalled and self.waiting:
            self.stalled[-self.waiting :] = b"\x01" * self.waiting
        self.waiting = self.waiting + 1 if waiting and not stalled else 0
        self.stalled.append(stalled)

    def nothing(self) -> None:
        for column in self.columns:
            column.append(NAN)
        self.stalled.append(False)
        self.waiting = 0

    @property
    def label(self) -> str:
        return f"path {self.id}" if self.id is not None else f"path from {printable(self.ends[0])}"

    def done(self) -> Path:
        host, port, other, there = self.ends
        acked, received, rtt, rcv_rtt, cwnd, unsent = self.columns
        ends = (str(host), port), (str(other), there)
        return Path(self.id, *ends, acked, received, rtt, rcv_rtt, cwnd, unsent, self.stalled)


class _Reader:
    """Collects the series of one connection, entry by entry."""

    def __init__(self, identity: Identity, interval: float) -> None:
        self.identity = identity
        self.late = interval * LATE or float("inf")
        self.begin: int | None = None
        self.time = array("d")
        self.sent, self.received = array("d"), array("d")
        self.paths: list[_Path] = []
        self.before: Entry | None = None
        self.missed = False
        self.told: list[tuple[int, str]] = []  # by the kernel
        self.seen: list[Mark] = []  # by comparing samples
        self.changes: list[Mark] = []  # the same, of paths that come and go: the kernel tells them better

    def sample(self, monotonic: int, connection: Entry | None) -> None:
        if connection is None:
            self.missed = self.begin is not None
            return
        if self.begin is None:
            self.begin = monotonic
        now = (monotonic - self.begin) / SECOND
        seconds = now - self.time[-1] if self.time else NAN
        if seconds <= 0:
            raise ValueError("a sample is no later than the one before")
        gap = self.before is None or self.missed or seconds > self.late
        if self.time and gap:
            self._gap()
        self._add_connection(connection, NAN if gap else seconds)
        self._add_paths(connection, NAN if gap else seconds, now)
        self._note_troubles(connection, now)
        self.time.append(now)
        self.before, self.missed = connection, False

    def _gap(self) -> None:
        """Without a value between two samples, lines would go on."""
        self.time.append(self.time[-1])
        self.sent.append(NAN)
        self.received.append(NAN)
        for path in self.paths:
            path.nothing()

    def _add_connection(self, connection: Entry, seconds: float) -> None:
        grown = growth(self.before, connection) if self.before else (NAN, NAN)
        self.sent.append(grown[0] / seconds)
        self.received.append(grown[1] / seconds)

    def _add_paths(self, connection: Entry, seconds: float, now: float) -> None:
        present = {_ends(path): path for path in connection["subflows"]}
        known = {path.ends for path in self.paths}
        # Those that go on come first; a new one may go on in the series of one that has gone.
        chosen: dict[_Path, Entry] = {path: present[path.ends] for path in self.paths if path.ends in present}
        for ends, entry in present.items():
            if ends in known:
                continue
            older = [path for path in self.paths if path not in chosen and path.is_older(entry)]
            path = older[0] if older else _Path(entry, len(self.time))
            if not older:
                self.paths.append(path)
            chosen[path] = entry
            if self.before:
                self.changes.append(Mark(now, f"{path.label} is new"))
        first = (0, 0) if self.before else (None, None)
        for path in self.paths:
            was_there, was_stalled = path.before is not None, bool(path.stalled and path.stalled[-1])
            since = self.time[-path.waiting] if path.waiting else now
            path.add(chosen.get(path), first, seconds)
            if was_there and path not in chosen:
                self.changes.append(Mark(now, f"{path.label} is gone"))
            elif path in chosen and path.stalled[-1] and not was_stalled:
                self.seen.append(Mark(since, f"{path.label}: no ACKs"))
            elif path in chosen and was_stalled and not path.stalled[-1]:
                self.seen.append(Mark(now, f"{path.label}: ACKs again"))

    def _note_troubles(self, connection: Entry, now: float) -> None:
        for word, text in _TROUBLES.items():
            if self.before and word in connection["troubles"] and word not in self.before["troubles"]:
                self.seen.append(Mark(now, text))

    def event(self, entry: Entry) -> None:
        token = entry.get("token")
        if token == self.identity or (entry["event"] == "LOST"):
            self.told.append((entry["monotonic"], told(entry)))

    def done(self, found: Found, header: Entry) -> Series:
        begin = self.begin or 0
        told = [Mark((monotonic - begin) / SECOND, text) for monotonic, text in self.told]
        marks = sorted([*told, *self.seen, *(() if told else self.changes)])
        start = header["time"] + (begin - header["monotonic"]) / SECOND
        last = self.time[-1] if self.time else 0.0
        within = tuple(mark for mark in marks if 0 <= mark.time <= last)
        paths = tuple(path.done() for path in self.paths)
        return Series(found, start, self.time, self.sent, self.received, paths, within)


def series_of(found: Found, header: Entry, lines: Iterable[Entry]) -> Series:
    """Read one of the connections that survey() found."""
    reader = _Reader(found.identity, float(header["interval"] or 0))
    for entry in lines:
        if entry["kind"] == "sample":
            ours = (one for one in entry["connections"] if identity_of(one) == found.identity)
            reader.sample(entry["monotonic"], next(ours, None))
        elif entry["kind"] == "event":
            reader.event(entry)
        elif entry["kind"] == "missed":
            reader.missed = reader.begin is not None
    return reader.done(found, header)


# -------------------------------------------------------------------------------------------- the events

#: What a record calls a trouble; stalled paths have marks of their own.
_TROUBLES = {
    "fell_back": "fell back to TCP",
    "no_path": "no path is left",
    "resending": "the same bytes are sent again and again",
}
_TOLD = {
    "CREATED": "created",
    "ESTABLISHED": "established",
    "CLOSED": "closed",
    "ANNOUNCED": "the peer announced {remote}",
    "REMOVED": "the peer withdrew address {remote_id}",
    "SUB_ESTABLISHED": "path {id} joined",
    "SUB_CLOSED": "path {id} closed{error}",
    "SUB_PRIORITY": "path {id} is {backup}",
    "LOST": "events were lost",
}


def told(entry: Entry) -> str:
    """An event of the kernel in words."""
    backup, error, remote = entry.get("backup"), entry.get("error"), entry.get("remote")
    words = {
        "id": entry.get("id"),
        "remote_id": entry.get("remote_id"),
        "remote": endpoint(remote) if remote else "an address",
        "backup": "a backup" if backup else "no backup",
        "error": f": {os.strerror(error)}" if error else "",
    }
    return printable(_TOLD.get(entry["event"], str(entry["event"])).format(**words))
