# SPDX-License-Identifier: MIT
"""The readers, and the sockets that they read."""

from __future__ import annotations

import contextlib
import pickle
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import host, processes, testing
from mptcp_sockopt._border import abi

STALE = b"\xa5" * 8  # as liar.c fills the buffers
_TIMES = ("time", "elapsed")
_ROOM = abi.layout("mptcp_full_info")["size_arrays_user"]

# What a reader answered, to be compared: views are (bytes, fields by name), records (None, parts by name).


def plain(value: Any) -> Any:
    """All of a result but times and rates. What cannot be decoded raises here."""
    if isinstance(value, OSError):
        return type(value).__name__, value.errno
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if not hasattr(value, "asdict"):
        return getattr(value, "name", value)
    repr(value), hash(value)
    parts = _timeless(value.asdict())
    if isinstance(value, mp.MPTCPConnection):
        parts |= {name: plain(getattr(value, name)) for name in ("row", "subflows", "complete")}
    if isinstance(value, mp.Snapshot):  # these follow from the rest
        parts = {name: part for name, part in parts.items() if not name.startswith("bytes_")}
    for name in ("info", "snapshot"):
        if hasattr(value, name):
            parts[name] = plain(getattr(value, name))
    raw = bytes(value) if isinstance(value, bytes) else None
    if raw is not None and isinstance(value, mp.MPTCPFullInfo):  # how much room there was says nothing
        raw = raw[: _ROOM.offset] + bytes(_ROOM.size) + raw[_ROOM.end :]
    return raw, parts


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in _TIMES and not str(k).endswith("_rate")}
    return [_timeless(one) for one in value] if isinstance(value, (list, tuple)) else value


class Ends:
    """A connection of two subflows at rest, its listener, plain TCP, and a connection that fell back."""

    def __init__(self) -> None:
        testing.set_limits(8)
        testing.add_endpoint("127.0.0.2")
        self.listener = mp.create_server(("127.0.0.1", 0), fallback=False)
        self.port = self.listener.getsockname()[1]
        self.events = mp.mptcp_events()  # of the connection, and never read to the end: see keep() in liar.h
        self.client = mp.create_connection(self.listener.getsockname(), timeout=5, fallback=False)
        self.accepted, _ = self.listener.accept()
        tcp_listener = socket.create_server(("127.0.0.1", 0))
        address = tcp_listener.getsockname()
        self.tcp = socket.create_connection(address, timeout=5)
        self.fallen = mp.create_connection(address, timeout=5, fallback=False)
        self._kept = tcp_listener, tcp_listener.accept(), tcp_listener.accept()
        self.client.sendall(b"x" * 100)
        self.accepted.recv(100, socket.MSG_WAITALL)
        self._wait_for_subflows()
        self.token = mp.mptcp_info(self.client).token
        self.initial, self.joined = [
            (path.local, path.remote) for path in mp.mptcp_subflow_addrs(self.client)
        ]
        self.of_tcp = self.tcp.getsockname(), self.tcp.getpeername()
        if not select.select([self.events], [], [], 5)[0]:
            raise TimeoutError("no event comes")
        both = [self.client, self.accepted]
        self.infos, self.fulls = mp.Sampler(both), mp.Sampler(both, full=True)
        self.others = mp.Sampler([self.tcp, self.fallen, self.listener])
        self.tracker, self.tcp_tracker = mp.Tracker(self.client), mp.Tracker(self.tcp)

    def _wait_for_subflows(self) -> None:
        deadline = time.monotonic() + 10
        while any(len(mp.mptcp_tcpinfo(sock)) != 2 for sock in (self.client, self.accepted)):
            if time.monotonic() > deadline:
                raise TimeoutError("the second subflow does not come")
            time.sleep(0.01)

    def look(self) -> None:
        """What a Sampler and a Tracker remember."""
        for sampler in (self.infos, self.fulls, self.others):
            for _ in range(3):
                sampler.sample()
        self.tracker.update()
        self.tcp_tracker.update()


def _sampled(sampler: mp.Sampler[Any]) -> Any:
    sample = sampler.sample()
    rows = plain(tuple(sample))
    copy = pickle.dumps(sample)
    assert STALE not in copy, "stale bytes in a pickle"
    assert rows == plain(tuple(pickle.loads(copy))) == plain(tuple(sample[:])), (
        "rows differ by the way to them"
    )
    for name in [*mp.MPTCPInfo.fields, "num_subflows"]:
        with contextlib.suppress(ValueError):  # this kernel does not report it
            for row, value in zip(sample, sample.column(name), strict=True):
                view = row if name == "num_subflows" else getattr(row, "info", row)
                assert value == (getattr(view, name, None) or 0), f"column {name}"
    return tuple(sample)


def _dumped(listening: bool) -> Any:
    found = mp.mptcp_diag(listening=listening)
    rows = plain(tuple(found))
    copy = pickle.dumps(found)
    assert STALE not in copy, "stale bytes in a pickle"
    assert rows == plain(tuple(pickle.loads(copy))) == plain(found[:]), "rows differ by the way to them"
    for view, name in [(mp.MPTCPDiagMsg, n) for n in mp.MPTCPDiagMsg.fields] + [
        (mp.MPTCPInfo, n) for n in mp.MPTCPInfo.fields
    ]:
        with contextlib.suppress(ValueError):
            column = list(found.column(name))
            parts = [row if view is mp.MPTCPDiagMsg else row.info for row in found]
            assert column == [getattr(part, name) for part in parts], f"column {name}"
    return sorted(found)


def _joined(port: int = 0) -> Any:
    found = mp.mptcp_diag(subflows=True, port=port)
    copy = pickle.dumps(found)
    assert STALE not in copy, "stale bytes in a pickle"
    assert tuple(found) == tuple(pickle.loads(copy)) == found[:], "they differ by the way to them"
    return found.missing, tuple(sorted(found, key=lambda one: (one.local, one.remote, one.token or 0)))


def _raw(sock: socket.socket, level: int, option: int, size: int) -> Any:
    buffer = bytearray(b"\xee" * (size + 8))
    length = mp.getsockopt_into(sock, level, option, buffer, size)
    assert buffer[size:] == b"\xee" * 8, "a byte beyond the length was touched"
    assert 0 <= length <= size, "a length that nothing has"
    return length, bytes(buffer[:size])


BEFORE_6_5 = "snapshot before 6.5"  # asked while MPTCP_FULL_INFO is refused

READERS: dict[str, Callable[[Ends], Any]] = {
    "mptcp_info": lambda ends: mp.mptcp_info(ends.client),
    "mptcp_info of TCP": lambda ends: mp.mptcp_info(ends.tcp),
    "mptcp_info of a fallback": lambda ends: mp.mptcp_info(ends.fallen),
    "mptcp_tcpinfo": lambda ends: mp.mptcp_tcpinfo(ends.client),
    "mptcp_subflow_addrs": lambda ends: mp.mptcp_subflow_addrs(ends.client),
    "mptcp_full_info": lambda ends: mp.mptcp_full_info(ends.client),
    "is_mptcp": lambda ends: mp.is_mptcp(ends.client),
    "is_mptcp of TCP": lambda ends: mp.is_mptcp(ends.tcp),
    "status": lambda ends: mp.status(ends.client),
    "status of TCP": lambda ends: mp.status(ends.tcp),
    "status of a fallback": lambda ends: mp.status(ends.fallen),
    "status of a listener": lambda ends: mp.status(ends.listener),
    "snapshot": lambda ends: mp.snapshot(ends.client),
    "snapshot of TCP": lambda ends: mp.snapshot(ends.tcp),
    "snapshot of a listener": lambda ends: mp.snapshot(ends.listener),
    BEFORE_6_5: lambda ends: mp.snapshot(ends.client),
    "getsockopt_into": lambda ends: _raw(ends.client, mp.SOL_MPTCP, mp.MPTCP_INFO, 120),
    "getsockopt_into of TCP": lambda ends: _raw(ends.tcp, socket.SOL_TCP, socket.TCP_INFO, 300),
    "Sampler": lambda ends: _sampled(ends.infos),
    "Sampler, full": lambda ends: _sampled(ends.fulls),
    "Sampler of others": lambda ends: _sampled(ends.others),
    "Tracker": lambda ends: ends.tracker.update(),
    "Tracker of TCP": lambda ends: ends.tcp_tracker.update(),
    "mptcp_diag": lambda ends: _dumped(listening=False),
    "mptcp_diag, listening": lambda ends: _dumped(listening=True),
    "listeners": lambda ends: processes.listeners(ends.port),
    "tcp_sockets": lambda ends: sorted(processes.tcp_sockets(ends.port)),
    "connections": lambda ends: _joined(),
    "connections of a port": lambda ends: _joined(ends.port),
    "lookup": lambda ends: mp.mptcp_lookup(*ends.initial),
    "lookup, no dump": lambda ends: mp.mptcp_lookup(*ends.initial, dump=False),
    "lookup of a joined path": lambda ends: mp.mptcp_lookup(*ends.joined),
    "lookup of TCP": lambda ends: mp.mptcp_lookup(*ends.of_tcp),
    "lookup of nobody": lambda ends: mp.mptcp_lookup(("127.0.0.1", ends.port), ("127.0.0.1", 1)),
    "lookup of a token": lambda ends: mp.mptcp_lookup(token=ends.token),
    "lookup of no token": lambda ends: mp.mptcp_lookup(token=1),
    "events": lambda ends: ends.events.read(),
    "endpoints": lambda ends: host.endpoints(),
    "addresses": lambda ends: sorted(host.addresses().items()),
    "is_supported": lambda ends: mp.is_supported(),
}

#: Much the same as another one: not in the short table.
VARIATIONS = (
    "connections of a port",
    "lookup, no dump",
    "lookup of TCP",
    "lookup of nobody",
    "lookup of no token",
)
