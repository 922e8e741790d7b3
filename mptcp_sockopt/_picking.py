# SPDX-License-Identifier: MIT
"""ConnectionPicker: the connections of mptcp_diag(subflows=True) as dicts with a few fields, quickly.

What follows from flags and states alone is asked of an MPTCPConnection or DiagSubflow once, and then known
for every connection with the same ones. Addresses are known from the last call.
"""

from __future__ import annotations

from operator import itemgetter

from . import _types as t
from ._border import layouts, sock_diag
from ._connections import MPTCPConnection, MPTCPConnections
from ._connections import order as in_order_of
from ._diag_rows import MPTCPDiagMsg
from ._diag_subflow import DiagSubflow
from ._mptcp_info import MPTCPInfo
from ._tcp_info import TCPInfo
from ._unpacking import Plan

_ENDS = "local", "remote"
_CONNECTION = "token", "status", "state", "fallback_reason", *_ENDS, "inode", "uid", "rqueue", "dead"
_PATH = "id", "remote_id", *_ENDS, "opened_by", "backup_local", "backup_remote", "state", "live"
_ROW_HEAD = layouts.in_records("family", "state", "ends", "rqueue", "uid", "inode")
_PATH_HEAD = layouts.in_records("family", "state", "ends", "token_loc", "flags", "id_rem", "id_loc", "told")
# Enough to tell the status.
_ALWAYS = ("token", "flags")


class ConnectionPicker:
    """``picker(mptcp_diag(subflows=True))``: each connection as a dict, with some fields of its counters.

        picker = ConnectionPicker(info=["bytes_sent"], tcp_info=["rtt"])
        for connection in picker(mptcp_diag(subflows=True)):
            print(connection["token"], [path["tcp_info"]["rtt"] for path in connection["subflows"]])

    The dicts are parts of ``asdict(clean=True)``, in a fifth of the time. A connection has token, status,
    state, fallback_reason, local, remote, inode, uid, rqueue, dead, info and subflows; a path has id,
    remote_id, local, remote, opened_by, backup_local, backup_remote, state, live, flags, tcp_info, and the
    fields in ``subflow``. Addresses are lists, which the next call may return again: do not change them.

    With shared, a connection of which all this is as in the last call may be the same dict again: do not
    change it either. On a machine whose connections are mostly idle, that takes a third of the time, if no
    ages are among the fields.

    KeyError for a field that there is not. Thread rule: belongs to one thread.
    """

    def __init__(
        self,
        info: t.Iterable[str] = (),
        tcp_info: t.Iterable[str] = (),
        subflow: t.Iterable[str] = (),
        *,
        shared: bool = False,
    ) -> None:
        self._info, self._tcp_info, self._subflow = tuple(info), tuple(tcp_info), tuple(subflow)
        for view, names in ((MPTCPInfo, self._info), (TCPInfo, self._tcp_info), (DiagSubflow, self._subflow)):
            for name in names:
                if name not in view._computed:
                    view.fields[name]
        #: By the ends of a socket: its addresses. By what flags and states are: what they mean.
        self._ends: dict[tuple[int, bytes], tuple[list[t.Any], list[t.Any]]] = {}
        self._marks: dict[tuple[int, ...], dict[str, t.Any]] = {}
        self._kinds: dict[t.Any, tuple[t.Any, ...]] = {}
        self._orders: dict[t.Any, t.Callable[[t.Any], t.Any]] = {}
        #: By the numbers that it was made of: a connection. The fields in subflow are not among these.
        self._shared = shared and not self._subflow
        self._made: dict[t.Any, dict[str, t.Any]] = {}

    def __call__(self, connections: MPTCPConnections) -> list[dict[str, t.Any]]:
        """The connections, in their order."""
        call = _Call(self, connections)
        self._ends, self._orders, self._made = {}, {}, {}
        make = call.shared if self._shared else call.connection
        return [
            make(entry) if entry[0] >= 0 and len(entry) > 1 else self._slowly(connections, number)
            for number, entry in enumerate(connections._index)
        ]

    def _slowly(self, connections: MPTCPConnections, number: int) -> dict[str, t.Any]:
        """A connection that is only in one of the two tables."""
        found = connections[number].asdict(clean=True)
        for part in (found, *found["subflows"]):
            part["local"], part["remote"] = list(part["local"]), list(part["remote"])
        paths = [
            {
                **{name: path[name] for name in (*_PATH, "flags", *self._subflow)},
                "tcp_info": path["tcp_info"] and {name: path["tcp_info"][name] for name in self._tcp_info},
            }
            for path in found["subflows"]
        ]
        info = found["info"] and {name: found["info"][name] for name in self._info}
        return {**{name: found[name] for name in _CONNECTION}, "info": info, "subflows": paths}


class _Call:
    """One call of a picker."""

    def __init__(self, picker: ConnectionPicker, found: MPTCPConnections) -> None:
        self._picker, self._found = picker, found
        self._last_ends, self._last_orders, self._last_made = picker._ends, picker._orders, picker._made
        self._lengths = found._info_length, found._tcp_info_length
        self._info = Plan(MPTCPInfo, (*_ALWAYS, *picker._info), found._info_length)
        self._tcp_info = Plan(TCPInfo, picker._tcp_info, found._tcp_info_length)
        self._unwanted = [name for name in _ALWAYS if name not in picker._info]
        row_stride = sock_diag.stride_of(found._info_length)
        path_stride = sock_diag.subflow_stride_of(found._tcp_info_length)
        rows = layouts.records(row_stride, _ROW_HEAD, layouts.DIAG_INFO_AT, self._info.places)
        paths = layouts.records(path_stride, _PATH_HEAD, layouts.DIAG_TCP_INFO_AT, self._tcp_info.places)
        self._rows = list(rows.iter_unpack(found._rows))
        self._paths = list(paths.iter_unpack(found._paths))

    def shared(self, entry: tuple[int, ...]) -> dict[str, t.Any]:
        """As connection(), but perhaps the same one as in the last call."""
        key = self._lengths, self._rows[entry[0]], *[self._paths[number] for number in entry[1:]]
        made = self._last_made.get(key)
        if made is None:
            made = self.connection(entry)
        self._picker._made[key] = made
        return made

    def connection(self, entry: tuple[int, ...]) -> dict[str, t.Any]:
        family, state, ends, rqueue, uid, inode, *rest = self._rows[entry[0]]
        info = self._info.finish(rest)
        flags, token = info["flags"], info["token"]
        for name in self._unwanted:
            del info[name]
        paths, kind = [], [state, flags, inode > 0]
        for number in entry[1:] if len(entry) == 2 else self._in_order(entry):
            path, marks = self._path(number)
            paths.append(path)
            kind.append(id(marks))  # which is kept
        # All that these three depend on, for a connection with paths.
        key = tuple(kind)
        known = self._picker._kinds.get(key)
        if known is None:
            connection: MPTCPConnection = self._found._made(entry)
            reason = connection.fallback_reason
            known = connection.status.value, reason and reason.value, connection.dead
            self._picker._kinds[key] = known
        status, reason_value, dead = known
        local, remote = self._addresses(family, ends, self._found._row, entry[0])
        return {
            "token": token or None,
            "status": status,
            "state": state,
            "fallback_reason": reason_value,
            "local": local,
            "remote": remote,
            "inode": inode,
            "uid": uid,
            "rqueue": rqueue,
            "dead": dead,
            "info": info,
            "subflows": paths,
        }

    def _path(self, number: int) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
        """A path, and the part of it that the status depends on, the same object for the same flags."""
        family, state, ends, token, flags, remote_id, id, told, *rest = self._paths[number]
        key = state, told, flags, token > 0, id, remote_id
        marks = self._picker._marks.get(key)
        if marks is None:
            path = self._found._path(number)
            marks = {name: getattr(path, name) for name in (*_PATH, "flags")}
            marks["state"] = state
            marks["flags"] = None if path.flags is None else int(path.flags)
            self._picker._marks[key] = marks
        local, remote = self._addresses(family, ends, self._found._path, number)
        tcp_info = None
        if self._found._tcp_info_length:
            tcp_info = self._tcp_info.finish(rest)
        record = {**marks, "local": local, "remote": remote, "tcp_info": tcp_info}
        if self._picker._subflow:
            path = self._found._path(number)
            record |= {name: getattr(path, name) for name in self._picker._subflow}
        return record, marks

    def _in_order(self, entry: tuple[int, ...]) -> t.Sequence[int]:
        key = tuple([self._paths[number][2] for number in entry[1:]])
        order = self._last_orders.get(key)
        if order is None:
            views = {number: self._found._path(number) for number in entry[1:]}
            key_of = in_order_of(self._found._row(entry[0]))
            numbers = sorted(views, key=lambda number: key_of(views[number]))
            order = itemgetter(*[entry.index(number, 1) for number in numbers])
        self._picker._orders[key] = order
        return order(entry)  # type: ignore[no-any-return]

    def _addresses(
        self, family: int, ends: bytes, made: t.Callable[[int], MPTCPDiagMsg | DiagSubflow], number: int
    ) -> tuple[list[t.Any], list[t.Any]]:
        key = family, ends
        found = self._picker._ends.get(key) or self._last_ends.get(key)
        if found is None:
            one = made(number)
            found = list(one.local), list(one.remote)
        self._picker._ends[key] = found
        return found


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
ConnectionPicker.__module__ = "mptcp_sockopt"
