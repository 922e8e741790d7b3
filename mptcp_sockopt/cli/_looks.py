# SPDX-License-Identifier: MIT
"""The machine's connections as records, one look after another: Looks(...).look() -> Sample.

A record is a dict that json.dumps() takes: a connection with its processes, counters, rates and paths.
docs/show.md has every key. Commands that draw connections draw records, live or from a recording.
"""

from __future__ import annotations

import errno
import gc
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import host, processes

from ._outcome import CannotRun

#: Of an OSError of look(): mptcp_diag() was disturbed, and the next look may succeed.
FOR_NOW = errno.EAGAIN, errno.ENOBUFS

#: What a record holds of MPTCPInfo and TCPInfo, unless it is full.
INFO_FIELDS = (
    *("token", "flags", "bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans", "retransmits"),
    *("subflows", "last_ack_recv", "last_data_sent", "unacked_bytes"),
)
TCP_INFO_FIELDS = (
    *("state", "ca_state", "retransmits", "backoff", "unacked", "rtt", "snd_cwnd", "snd_mss"),
    *("notsent_bytes", "bytes_acked", "bytes_received", "bytes_retrans", "total_retrans"),
    *("last_ack_recv", "last_data_sent", "last_data_recv", "rcv_rtt"),
)
#: What blocks and rates need of them. No ages: an idle connection's numbers are those of the last look.
_DRAWN = {
    "info": ["bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans"],
    "tcp_info": ["unacked", "rtt", "bytes_acked", "bytes_received"],
}


def fields(full: bool) -> dict[str, list[str]]:
    """The names of what records hold of info and of tcp_info."""
    if full:
        info, tcp_info = [*mp.MPTCPInfo.fields, "unacked_bytes"], [*mp.TCPInfo.fields]
        return {"info": info, "tcp_info": tcp_info}
    return {"info": [*INFO_FIELDS], "tcp_info": [*TCP_INFO_FIELDS]}


class Sample(NamedTuple):
    """What one look found."""

    time: float
    """Seconds since the epoch."""
    monotonic: int
    """time.monotonic_ns() just before the dump."""
    connections: list[dict[str, Any]]
    missing: list[str]
    """What could not be seen, in sentences."""


class Looks:
    """Every look() is a Sample of the connections with a port, or of a process, or all of them.

    It remembers the last look: rates are since then, and a path can be seen to stall. Listeners, connections
    that ended and subflows whose connection is gone come with all_states only. With drawn, records hold only
    what is drawn, and one in which nothing changed is that of the last look: do not change it. CannotRun if
    there is no such process, or it may not be examined. Belongs to one thread.
    """

    def __init__(
        self,
        port: int = 0,
        pid: int | None = None,
        full: bool = False,
        all_states: bool = False,
        *,
        drawn: bool = False,
    ) -> None:
        self._port, self._pid, self._full, self._all = port, pid, full, all_states
        names = _DRAWN if drawn else fields(full)
        self._pick = mp.ConnectionPicker(**names, subflow=_MAP if full else (), shared=drawn)
        self._last = self._this = _Memory(_NONE)
        self._interfaces: dict[str, str] = {}
        self._owners = _Owners()
        # A look makes thousands of dicts, none of them in a cycle: the collector would go through them often.
        gc.set_threshold(100_000)
        if pid is not None:
            _inodes_of(pid)

    def look(self) -> Sample:
        """Look once. OSError as mptcp_diag()."""
        found = mp.mptcp_diag(subflows=True, listening=self._all, port=self._port)
        at = time.time() - (time.monotonic_ns() - found.time) / 1e9
        missing = list(found.missing)
        picked = [(number, one) for number, one in enumerate(self._pick(found)) if self._all or _is_open(one)]
        if self._pid is not None:
            try:
                held = _inodes_of(self._pid)
            except CannotRun as ended:
                held = set()
                missing.append(f"{ended}")
            picked = [(number, one) for number, one in picked if one["inode"] in held]
        missing += self._owners.look([one["inode"] for _, one in picked])
        self._last, self._this = self._this, _Memory(found)
        interfaces = _interfaces()
        self._moved, self._interfaces = interfaces != self._interfaces, interfaces
        return Sample(at, found.time, [self._record(one, number) for number, one in picked], missing)

    def _record(self, picked: dict[str, Any], number: int) -> dict[str, Any]:
        """The record of a connection, from what the library tells of it."""
        last, this = self._last, self._this
        token, info, inode, state = picked["token"], picked["info"], picked["inode"], picked["state"]
        key = token, *picked["local"], *picked["remote"]
        before = last.connections.get(key)
        owners = self._owners[inode] if inode else _NOBODY
        is_same = before is not None and before.picked is picked
        if before and is_same and before.idle and not self._moved and before.record["processes"] is owners:
            this.connections[key] = before if before.number == number else before._replace(number=number)
            return before.record
        troubles = ["no_path"] if picked["dead"] else []
        if before and self._resends(before, info, number):
            troubles.append("resending")
        paths, known = picked["subflows"], _Paths()
        # Of a path with nothing outstanding there is nothing to tell.
        waiting = [path for path in paths if path["tcp_info"] and path["tcp_info"]["unacked"]]
        views = this.found[number].subflows if waiting else [None] * len(paths)
        was_known = before.paths if before else known
        paths = [self._path(path, views[at], was_known, known) for at, path in enumerate(paths)]
        if waiting and any(path["stalled"] for path in paths):
            troubles.append("stalled")
        if picked["status"] == "fallback":
            troubles.append("fell_back")
        record = picked.copy()
        del record["dead"]
        record["state"] = _STATES.get(state) or str(state)
        record["inode"] = inode or None
        record["subflows"] = paths
        record["troubles"] = troubles
        record["processes"] = owners
        record["rates"] = before and _rates(before.record, record, this.time - last.time)
        if self._full and info:
            for name in _SEQUENCES:
                info[name] = str(info[name])
        this.connections[key] = _Known(number, picked, record, known, is_same and not waiting)
        return record

    def _path(
        self, picked: dict[str, Any], view: mp.DiagSubflow | None, was_known: _Paths, known: _Paths
    ) -> dict[str, Any]:
        """The same of a path. view: of a connection with something outstanding."""
        local, now, state = picked["local"], picked["tcp_info"], picked["state"]
        record = picked.copy()
        record["state"] = _STATES.get(state) or str(state)
        record["interface"] = self._interfaces.get(local[0])
        record["stalled"] = record["rates"] = None
        if self._full and record["map_seq"] is not None:
            record["map_seq"] = str(record["map_seq"])
        if now is None:
            return record
        at, key, since = self._this.time, (*local, *picked["remote"]), None
        was, was_since = was_known.get(key, _NEVER)
        if now["unacked"] and view and view.tcp_info:
            since = was_since
            if since is None or was is None or was["bytes_acked"] != now["bytes_acked"]:
                # It may have been outstanding for longer than since this look.
                since = at - 1_000_000 * min(_age(view.tcp_info, name) for name in _AGES)
            record["stalled"] = mp.is_stalled(view.tcp_info, None if was is None else at - since)
        known[key] = now, since
        if was is not None:
            record["rates"] = _rates_of(was, now, _OF_PATHS, at - self._last.time)
        return record

    def _resends(self, before: _Known, new: dict[str, Any] | None, number: int) -> bool:
        old = before.record["info"]
        if not old or not new:
            return False
        if "resending" in before.record["troubles"] and old["bytes_acked"] == new["bytes_acked"]:
            return True  # until something is acknowledged: looks may come faster than the repetitions
        if old["bytes_retrans"] == new["bytes_retrans"]:
            return False  # as nearly always, and there is nothing to ask
        was, now = self._last.found[before.number].info, self._this.found[number]
        tcp_infos = [path.tcp_info for path in now.subflows if path.tcp_info]
        return bool(was and now.info and mp.is_resending(was, now.info, tcp_infos))


#: Paths at a look, by addresses: tcp_info, and since when nothing was acknowledged.
_Paths = dict[tuple[Any, ...], "tuple[dict[str, Any], int | None]"]


class _Known(NamedTuple):
    """A connection at a look, for the next one."""

    number: int
    """In what mptcp_diag() returned."""
    picked: dict[str, Any]
    record: dict[str, Any]
    paths: _Paths
    idle: bool
    """Whether nothing has changed since the look before, and nothing is outstanding."""


class _Memory:
    """A look, for the next one: its connections by token and addresses."""

    def __init__(self, found: mp.MPTCPConnections) -> None:
        self.found, self.time = found, found.time
        self.connections: dict[Any, _Known] = {}


_NONE = mp.MPTCPConnections(0, 0, b"", 0, b"", ())
_MAP = ("map_seq", "map_sfseq", "ssn_offset", "map_datalen", "relwrite_seq")
_SEQUENCES = [name for name, field in mp.MPTCPInfo.fields.items() if field.kind == "sequence"]
_STATES = {int(state): str(state) for state in mp.TCPState}  # an enum's own names take longer
_NEVER: tuple[None, None] = None, None
_NOBODY: list[dict[str, Any]] = []
_AGES = "last_ack_recv", "last_data_sent"


def _is_open(picked: dict[str, Any]) -> bool:
    if picked["status"] in ("listening", "closing"):
        return False
    return bool(picked["subflows"]) or picked["state"] != mp.TCPState.CLOSE


def _age(tcp_info: mp.TCPInfo, name: str) -> int:
    """In ms; 0 if it never happened."""
    age = getattr(tcp_info, name)
    return 0 if mp.TCPInfo.fields[name].says_none(tcp_info, age) else age


def _interfaces() -> dict[str, str]:
    """The interface of each address that only one has, also as an IPv6 socket shows IPv4 addresses."""
    found = {address: names[0] for address, names in host.addresses().items() if len(names) == 1}
    return found | {f"::ffff:{address}": name for address, name in found.items() if "." in address}


_OF_PATHS = "bytes_acked", "bytes_received"
_OF_CONNECTIONS = "bytes_sent", *_OF_PATHS


def _rates(before: dict[str, Any], now: dict[str, Any], nanoseconds: int) -> dict[str, int | None]:
    """Of the connection. If it is not MPTCP, only TCP knows what was acknowledged and received."""
    rates: dict[str, int | None] = dict.fromkeys(_OF_CONNECTIONS)
    if before["info"] and now["info"]:
        rates = _rates_of(before["info"], now["info"], _OF_CONNECTIONS, nanoseconds)
    if now["subflows"] and (not now["info"] or now["status"] == "fallback"):
        rates.update(now["subflows"][0]["rates"] or {})
    return rates


def _rates_of(
    before: dict[str, Any], now: dict[str, Any], names: tuple[str, ...], nanoseconds: int
) -> dict[str, int | None]:
    """Bytes per second; None if the kernel does not count, or it is another one with the same addresses."""
    rates: dict[str, int | None] = {}
    for name in names:
        old, new = before[name], now[name]
        if new is None or old is None or new < old:
            rates[name] = None
        else:
            rates[name] = (new - old) * 1_000_000_000 // nanoseconds if new != old else 0
    return rates


# ------------------------------------------------------------------------------------------------ owners


class _Owners(dict[int, "list[dict[str, Any]] | None"]):
    """The processes of each inode, as records. Looked up again only when there is an unknown inode."""

    def look(self, inodes: Iterable[int]) -> list[str]:
        """Know the owners of these sockets, and forget others. What could not be seen, in sentences."""
        wanted = set(inodes) - {0}
        if not wanted <= self.keys():
            self.clear()
            found = processes.owners(wanted)
            for inode, owners in found.items():
                self[inode] = (
                    None
                    if owners is None
                    else [{"pid": owner.pid, "name": owner.command, "fd": owner.fd} for owner in owners]
                )
            self._missing = found.missing
        for gone in self.keys() - wanted:
            del self[gone]  # another socket may get the number
        return [f"The processes of some connections are not known: {self._missing}"] * (None in self.values())

    _missing: str | None = None


def _inodes_of(pid: int) -> set[int]:
    try:
        return {owner.inode for owner in processes.iter_sockets(pid)}
    except ProcessLookupError:
        raise CannotRun(f"there is no process {pid}") from None
    except PermissionError:
        raise CannotRun(f"this user may not examine process {pid} (no ptrace permission)") from None
