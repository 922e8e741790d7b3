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
from mptcp_sockopt import host, processes

from ._outcome import CannotRun

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
        #: Of the last look: its time, connections by token and addresses, and paths by the same.
        self._time = 0
        self._before: dict[Any, tuple[mp.MPTCPInfo | None, dict[str, Any] | None]] = {}
        self._paths_before: dict[Any, tuple[dict[str, Any], int | None]] = {}
        #: What the flags of a path say.
        self._marks: dict[Any, tuple[Any, ...]] = {}
        self._interfaces: dict[str, str] = {}
        self._owners = _Owners()
        if pid is not None:
            _inodes_of(pid)

    def look(self) -> Sample:
        """Look once. OSError as mptcp_diag()."""
        found = mp.mptcp_diag(subflows=True, listening=self._all, port=self._port)
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
        missing += self._owners.look([row.inode for row in rows])
        self._interfaces = _interfaces()
        before, self._before = self._before, {}
        paths_before, self._paths_before = self._paths_before, {}
        now, seconds = found.time, (found.time - self._time) / 1e9 if self._time else 0.0
        records = []
        for row in rows:
            paths = [self._path(path, row.token, paths_before, now, seconds) for path in row.subflows]
            records.append(self._connection(row, paths, before, seconds))
        self._time = now
        return Sample(at, now, records, missing)

    def _connection(
        self,
        row: mp.MPTCPConnection,
        paths: list[dict[str, Any]],
        last: Mapping[Any, tuple[mp.MPTCPInfo | None, dict[str, Any] | None]],
        seconds: float,
    ) -> dict[str, Any]:
        info, local, remote = row.info, row.local, row.remote
        token = row.token
        key = token, local, remote
        was, before = last.get(key, (None, None))
        now = None if info is None else self._of_info(info)
        self._before[key] = info, now
        status, inode = row.status, row.inode
        troubles = []
        if not any(path["live"] for path in paths) and row.dead:
            troubles.append("no_path")
        # Most connections have no new retransmissions, so that there is nothing to ask.
        if info and was and before and now and before["bytes_retrans"] != now["bytes_retrans"]:
            tcp_infos = [path.tcp_info for path in row.subflows if path.tcp_info]
            if mp.is_resending(was, info, tcp_infos):
                troubles.append("resending")
        if any(path["stalled"] for path in paths):
            troubles.append("stalled")
        reason = None
        if status is mp.Status.FALLBACK:
            troubles.append("fell_back")
            reason = row.fallback_reason
        return {
            "token": token,
            "status": _STATUS[status],
            "state": _state(row.state),
            "fallback_reason": reason and reason.value,
            "troubles": troubles,
            "local": list(local),
            "remote": list(remote),
            "inode": inode or None,
            "uid": row.uid,
            "rqueue": row.rqueue,
            "processes": self._owners[inode],
            "info": now,
            "rates": _rates(before, now, paths, status, seconds) if seconds else None,
            "subflows": paths,
        }

    def _path(
        self,
        path: mp.DiagSubflow,
        token: int | None,
        before: Mapping[Any, tuple[dict[str, Any], int | None]],
        monotonic: int,
        seconds: float,
    ) -> dict[str, Any]:
        local, remote = path.local, path.remote
        info = path.tcp_info
        now, stalled, rates = None, None, None
        if info is not None:
            now = self._of_tcp_info(info)
            key = token, local, remote
            was, since = before.get(key, (None, None))
            # How long nothing was acknowledged, though at every look something was outstanding.
            if not now["unacked"]:
                since = None
            elif since is None or was is None or was["bytes_acked"] != now["bytes_acked"]:
                since = monotonic
            self._paths_before[key] = now, since
            if was is not None:
                stalled = mp.is_stalled(info, monotonic - since if since is not None else 0)
                rates = {
                    "bytes_acked": _per_second(was, now, "bytes_acked", seconds),
                    "bytes_received": _per_second(was, now, "bytes_received", seconds),
                }
            else:
                stalled = mp.is_stalled(info)
        flags = path.flags
        marks = self._marks.get(flags)
        if marks is None:
            marks = path.opened_by, path.backup_local, path.backup_remote, flags and int(flags)
            self._marks[flags] = marks
        opened_by, backup_local, backup_remote, bits = marks
        interface = self._interfaces.get(local[0])
        record = {
            "id": path.id,
            "remote_id": path.remote_id,
            "local": list(local),
            "remote": list(remote),
            "interface": interface,
            "opened_by": opened_by,
            "backup_local": backup_local,
            "backup_remote": backup_remote,
            "state": _state(path.state),
            "live": path.live,
            "stalled": stalled,
            "flags": bits,
            "tcp_info": now,
            "rates": rates,
        }
        if self._full:
            for name in _MAP:
                record[name] = getattr(path, name)
            if record["map_seq"] is not None:
                record["map_seq"] = str(record["map_seq"])
        return record

    def _of_info(self, info: mp.MPTCPInfo) -> dict[str, Any]:
        if not self._full:
            return _INFO(info)
        found = info.asdict(clean=True)
        for name in _SEQUENCES:
            found[name] = str(found[name])
        return found

    def _of_tcp_info(self, tcp_info: mp.TCPInfo) -> dict[str, Any]:
        return tcp_info.asdict(clean=True) if self._full else _TCP_INFO(tcp_info)


_MAP = ("map_seq", "map_sfseq", "ssn_offset", "map_datalen", "relwrite_seq")
_SEQUENCES = [name for name, field in mp.MPTCPInfo.fields.items() if field.kind == "sequence"]
# An enum's own value and name take longer.
_STATUS = {status: status.value for status in mp.Status}
_STATES = {int(state): str(state) for state in mp.TCPState}


def _state(state: int) -> str:
    return _STATES.get(state) or str(state)


def _is_open(row: mp.MPTCPConnection) -> bool:
    if row.status is mp.Status.LISTENING or row.status is mp.Status.CLOSING:
        return False
    return bool(row.subflows) or row.state != mp.TCPState.CLOSE


def _interfaces() -> dict[str, str]:
    """The interface of each address that only one has, also as an IPv6 socket shows IPv4 addresses."""
    found = {address: names[0] for address, names in host.addresses().items() if len(names) == 1}
    return found | {f"::ffff:{address}": name for address, name in found.items() if "." in address}


def _per_second(before: dict[str, Any], now: dict[str, Any], name: str, seconds: float) -> int | None:
    old: int | None = before[name]
    new: int | None = now[name]
    if new == old and new is not None:
        return 0
    if old is None or new is None or new < old or not seconds:  # less: another one with the same addresses
        return None
    return round((new - old) / seconds)


def _rates(
    before: dict[str, Any] | None,
    now: dict[str, Any] | None,
    paths: list[dict[str, Any]],
    status: mp.Status,
    seconds: float,
) -> dict[str, int | None] | None:
    """Of the connection. If it is not MPTCP, only TCP knows what was acknowledged and received."""
    rates: dict[str, int | None] = dict.fromkeys(("bytes_sent", "bytes_acked", "bytes_received"))
    if before is not None and now is not None:
        rates = {name: _per_second(before, now, name, seconds) for name in rates}
    if paths and (now is None or status is mp.Status.FALLBACK):
        rates.update(paths[0]["rates"] or {})
    return None if set(rates.values()) == {None} else rates


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
