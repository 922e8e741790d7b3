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
    that ended and subflows whose connection is gone come with all_states only. CannotRun if there is no such
    process, or it may not be examined. Belongs to one thread.
    """

    def __init__(
        self, port: int = 0, pid: int | None = None, full: bool = False, all_states: bool = False
    ) -> None:
        self._port, self._pid, self._full, self._all = port, pid, full, all_states
        names = fields(full)
        self._pick = mp.ConnectionPicker(**names, subflow=_MAP if full else ())
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
        records = [
            (number, record)
            for number, record in enumerate(self._pick(found))
            if self._all or _is_open(record)
        ]
        if self._pid is not None:
            try:
                held = _inodes_of(self._pid)
            except CannotRun as ended:
                held = set()
                missing.append(f"{ended}")
            records = [(number, record) for number, record in records if record["inode"] in held]
        missing += self._owners.look([record["inode"] for _, record in records])
        self._interfaces = _interfaces()
        self._last, self._this = self._this, _Memory(found)
        for number, record in records:
            self._finish(record, number)
        return Sample(at, found.time, [record for _, record in records], missing)

    def _finish(self, record: dict[str, Any], number: int) -> None:
        """Make a record of what the library tells of a connection."""
        last, this = self._last, self._this
        token, info, paths, inode = record["token"], record["info"], record["subflows"], record["inode"]
        key = token, *record["local"], *record["remote"]
        before = last.connections.get(key)
        this.connections[key] = record, number
        troubles = record["troubles"] = ["no_path"] if record.pop("dead") else []
        if before and self._resends(*before, record, number):
            troubles.append("resending")
        # Of a path with nothing outstanding there is nothing to tell.
        if [path for path in paths if self._finish_path(path, token)]:
            for path, one in zip(paths, this.found[number].subflows, strict=True):
                path["stalled"] = one.tcp_info and mp.is_stalled(one.tcp_info, path["stalled"])
            if any(path["stalled"] for path in paths):
                troubles.append("stalled")
        if record["status"] == "fallback":
            troubles.append("fell_back")
        state = record["state"]
        record["state"] = _STATES.get(state) or str(state)
        record["inode"] = inode or None
        record["processes"] = self._owners[inode] if inode else []
        record["rates"] = before and _rates(before[0], record, this.time - last.time)
        if self._full and info:
            for name in _SEQUENCES:
                info[name] = str(info[name])

    def _finish_path(self, path: dict[str, Any], token: int | None) -> bool:
        """The same of a path, but ``stalled`` is how long nothing was acknowledged: see is_stalled().

        Whether anything is outstanding.
        """
        last, this = self._last, self._this
        local, now, state = path["local"], path["tcp_info"], path["state"]
        path["state"] = _STATES.get(state) or str(state)
        path["interface"] = self._interfaces.get(local[0])
        path["stalled"] = path["rates"] = None
        if self._full and path["map_seq"] is not None:
            path["map_seq"] = str(path["map_seq"])
        if now is None:
            return False
        key = token, *local, *path["remote"]
        was, since = last.paths.get(key, _NEVER)
        if not now["unacked"]:
            since = None
        elif since is None or was is None or was["bytes_acked"] != now["bytes_acked"]:
            # It may have been outstanding for longer than since this look; no age: nothing ever was.
            since = this.time - 1_000_000 * min(now["last_ack_recv"] or 0, now["last_data_sent"] or 0)
        this.paths[key] = now, since
        if was is not None:
            path["rates"] = _rates_of(was, now, _OF_PATHS, this.time - last.time)
            if since is not None:
                path["stalled"] = this.time - since
        return since is not None

    def _resends(
        self, before: dict[str, Any], number_before: int, record: dict[str, Any], number: int
    ) -> bool:
        old, new = before["info"], record["info"]
        if not old or not new:
            return False
        if "resending" in before["troubles"] and old["bytes_acked"] == new["bytes_acked"]:
            return True  # until something is acknowledged: looks may come faster than the repetitions
        if old["bytes_retrans"] == new["bytes_retrans"]:
            return False  # as nearly always, and there is nothing to ask
        was, now = self._last.found[number_before].info, self._this.found[number]
        tcp_infos = [path.tcp_info for path in now.subflows if path.tcp_info]
        return bool(was and now.info and mp.is_resending(was, now.info, tcp_infos))


class _Memory:
    """A look, for the next one: its connections and paths by token and addresses."""

    def __init__(self, found: mp.MPTCPConnections) -> None:
        self.found, self.time = found, found.time
        #: The record, and its number in found.
        self.connections: dict[Any, tuple[dict[str, Any], int]] = {}
        #: The record of tcp_info, and since when nothing was acknowledged.
        self.paths: dict[Any, tuple[dict[str, Any], int | None]] = {}


_NONE = mp.MPTCPConnections(0, 0, b"", 0, b"", ())
_MAP = ("map_seq", "map_sfseq", "ssn_offset", "map_datalen", "relwrite_seq")
_SEQUENCES = [name for name, field in mp.MPTCPInfo.fields.items() if field.kind == "sequence"]
_STATES = {int(state): str(state) for state in mp.TCPState}  # an enum's own names take longer
_NEVER: tuple[None, None] = None, None


def _is_open(record: dict[str, Any]) -> bool:
    if record["status"] in ("listening", "closing"):
        return False
    return bool(record["subflows"]) or record["state"] != mp.TCPState.CLOSE


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
