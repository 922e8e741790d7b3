# SPDX-License-Identifier: MIT
"""The machine's connections as records, one look after another: Looks(...).look() -> Sample.

A record is a dict that json.dumps() takes: a connection with its processes, counters, rates and paths.
docs/show.md has every key. Commands that draw connections draw records, live or from a recording.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import processes

from ._outcome import CannotRun

_mp: Any = mp

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


_INFO, _TCP_INFO = mp.MPTCPInfo.picker(*INFO_FIELDS), mp.TCPInfo.picker(*TCP_INFO_FIELDS)


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
        self._time = 0
        self._connections: dict[Any, mp.MPTCPInfo | None] = {}
        self._paths: dict[Any, tuple[int | None, int | None, int | None]] = {}
        self._owners = _Owners()
        if pid is not None:
            _inodes_of(pid)

    def look(self) -> Sample:
        """Look once. OSError as mptcp_diag()."""
        found = _mp.mptcp_diag(subflows=True, listening=self._all, port=self._port)
        at = time.time() - (time.monotonic_ns() - found.time) / 1e9
        missing = list(found.missing)
        rows = [row for row in found if self._all or _is_open(row)]
        if self._pid is not None:
            try:
                held = _inodes_of(self._pid)
            except CannotRun as ended:
                held = set()
                missing.append(f"{ended}")
            rows = [row for row in rows if row.inode in held]
        unseen = self._owners.look([row.inode for row in rows])
        last, self._connections = self._connections, {}
        paths, self._paths = self._paths, {}
        seconds = (found.time - self._time) / 1e9 if self._time else None
        records = [self._connection(row, last, paths, found.time, seconds) for row in rows]
        self._time = found.time
        return Sample(at, found.time, records, missing + unseen)

    def _connection(
        self, row: Any, last: Mapping[Any, Any], paths: Mapping[Any, Any], now: int, seconds: float | None
    ) -> dict[str, Any]:
        key = row.token, row.local, row.remote
        info, before = row.info, last.get(key)
        self._connections[key] = info
        subflows = [self._subflow(row.token, path, paths, now, seconds) for path in row.subflows]
        fell_back = row.status is mp.Status.FALLBACK
        troubles = []
        if row.dead:
            troubles.append("no_path")
        if before is not None and info is not None and not fell_back:
            infos = [path.tcp_info for path in row.subflows if path.tcp_info is not None]
            if mp.is_resending(before, info, infos):
                troubles.append("resending")
        if any(path["stalled"] for path in subflows):
            troubles.append("stalled")
        if fell_back:
            troubles.append("fell_back")
        return {
            "token": row.token,
            "status": row.status.value,
            "state": str(row.state),
            "fallback_reason": row.fallback_reason and row.fallback_reason.value,
            "troubles": troubles,
            "local": list(row.local),
            "remote": list(row.remote),
            "inode": row.inode or None,
            "uid": row.uid,
            "rqueue": row.rqueue,
            "processes": self._owners[row.inode],
            "info": info and self._of_info(info),
            "rates": _rates(before, info, subflows, fell_back, seconds),
            "subflows": subflows,
        }

    def _subflow(
        self, token: int | None, path: Any, before: Mapping[Any, Any], now: int, seconds: float | None
    ) -> dict[str, Any]:
        tcp_info = path.tcp_info
        stalled, rates = None, None
        if tcp_info is not None:
            key = token, path.local, path.remote
            acked, received, since = before.get(key, (None, None, None))
            new_acked, new_received = tcp_info.bytes_acked, tcp_info.bytes_received
            standing = None
            if tcp_info.unacked == 0:
                since = None
            elif since is None or acked != new_acked:
                since = now
            if key in before:
                standing = now - since if since is not None else 0
                if seconds:
                    rates = {
                        "bytes_acked": _per_second(acked, new_acked, seconds),
                        "bytes_received": _per_second(received, new_received, seconds),
                    }
            self._paths[key] = new_acked, new_received, since
            stalled = mp.is_stalled(tcp_info, standing)
        return {
            "id": path.id,
            "remote_id": path.remote_id,
            "local": list(path.local),
            "remote": list(path.remote),
            "interface": None,
            "opened_by": path.opened_by,
            "backup_local": path.backup_local,
            "backup_remote": path.backup_remote,
            "state": str(path.state),
            "live": path.live,
            "stalled": stalled,
            "flags": path.flags if path.flags is None else int(path.flags),
            "tcp_info": tcp_info and self._of_tcp_info(tcp_info),
            "rates": rates,
        }

    def _of_info(self, info: mp.MPTCPInfo) -> dict[str, Any]:
        if not self._full:
            return _INFO(info)
        found = info.asdict(clean=True)
        for name in ("write_seq", "snd_una", "rcv_nxt"):
            found[name] = str(found[name])  # exceed 2^53
        return found

    def _of_tcp_info(self, tcp_info: mp.TCPInfo) -> dict[str, Any]:
        return tcp_info.asdict(clean=True) if self._full else _TCP_INFO(tcp_info)


def _is_open(row: Any) -> bool:
    if row.status.value in ("listening", "closing"):
        return False
    return bool(row.state != mp.TCPState.CLOSE or row.subflows)


def _per_second(before: int | None, now: int | None, seconds: float) -> float | None:
    if before is None or now is None or now < before:  # another connection with the same addresses
        return None
    return round((now - before) / seconds, 1)


def _rates(
    before: mp.MPTCPInfo | None,
    now: mp.MPTCPInfo | None,
    subflows: list[dict[str, Any]],
    fell_back: bool,
    seconds: float | None,
) -> dict[str, float | None] | None:
    """Of the connection. After a fallback, only TCP knows what was acknowledged and received."""
    if not seconds:
        return None
    names = ("bytes_sent", "bytes_acked", "bytes_received")
    rates = (
        dict.fromkeys(names)
        if before is None or now is None
        else {name: _per_second(getattr(before, name), getattr(now, name), seconds) for name in names}
    )
    if (fell_back or now is None) and subflows:
        rates |= subflows[0]["rates"] or {}
    return None if all(value is None for value in rates.values()) else rates


# ------------------------------------------------------------------------------------------------ owners


class _Owners(dict[int, "list[dict[str, Any]] | None"]):
    """The processes of each inode, as records. Looked up again only when there is an unknown inode."""

    def look(self, inodes: Iterable[int]) -> list[str]:
        """Know the owners of these sockets, and forget others. What could not be seen, in sentences."""
        wanted = set(inodes)
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
