# SPDX-License-Identifier: MIT
"""What monitoring stores of this network namespace, as rows of (name, kind, labels, value).

    Metrics()   remembers what connections did, so that counters never go backwards
    collect()   one look, without memory: what there is now, and the kernel's own counters
    HELP        what each metric means, by name

Names and units follow the rules of Prometheus. The number of rows does not depend on the number of
connections: no label has a peer, a token or a client's port. What the kernel does not report has no row, and
``mptcp_exporter_missing`` says what this process may not see. No privilege is needed, except for events.

``import mptcp_sockopt`` does not import this module. ``mptcp-sockopt export`` serves these rows to
Prometheus; docs/fleet.md has every metric.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from . import host
from ._bounded import OTHER, Histogram
from ._diag import mptcp_diag
from ._events import MPTCPEvent, MPTCPEventKind, MPTCPEvents, mptcp_events
from ._ports import Listener, listeners
from ._sockets import is_supported
from ._tallies import Tally

__all__ = ["HELP", "Distribution", "Metrics", "Row", "collect"]

#: What each metric means, by name.
HELP: Mapping[str, str] = {
    "mptcp_available": "Whether MPTCP sockets can be created here: 1 or 0.",
    "mptcp_connections": "Connections by status, as mptcp-sockopt show has them.",
    "mptcp_fallback_connections": "Connections that fell back to TCP, by the class of the cause.",
    "mptcp_connections_without_path": "Open connections that have no path left.",
    "mptcp_paths": "Paths by local address and state.",
    "mptcp_listeners": "MPTCP listeners.",
    "mptcp_listener_queue": "Connections that wait for accept(), in the longest queue of the port.",
    "mptcp_listener_backlog": "The length at which the queue is full, of the listener with that queue.",
    "mptcp_listeners_full": "MPTCP listeners whose accept queue is full.",
    "mptcp_connections_seen_total": "Connections that looks found.",
    "mptcp_fallbacks_total": "Connections that looks found fallen back to TCP, by the class of the cause.",
    "mptcp_accepted_as_tcp_total": "Connections that an MPTCP listener accepted as TCP.",
    "mptcp_acked_bytes_total": "Bytes of connections that the peers acknowledged, each byte once.",
    "mptcp_received_bytes_total": "Bytes of connections that were received, each byte once.",
    "mptcp_retransmitted_bytes_total": "Bytes of connections that were sent again, on any path.",
    "mptcp_path_acked_bytes_total": "Bytes that were acknowledged on paths from a local address.",
    "mptcp_path_received_bytes_total": "Bytes that were received on paths to a local address.",
    "mptcp_path_sent_bytes_total": "Bytes that were sent on paths from a local address, also again.",
    "mptcp_path_retransmitted_bytes_total": "Bytes that were sent again on paths from a local address.",
    "mptcp_path_rtt_seconds": "Round-trip times of the paths that carried data, one for each path and look.",
    "mptcp_path_retransmitted_ratio": "Shares of bytes that a path sent again, one for each path and look.",
    "mptcp_events_total": "Events of the path manager, by the kernel's names.",
    "mptcp_kernel_total": "The kernel's MPTcpExt counters, by their names.",
    "mptcp_kernel_established": "Established connections by the kernel's own count, MPCurrEstab.",
    "mptcp_exporter_missing": "Whether this exporter may not see something, or cannot: 1 or 0.",
    "mptcp_exporter_looks_total": "Looks at the connections.",
    "mptcp_exporter_failed_looks_total": "Looks that failed.",
    "mptcp_exporter_look_seconds": "How long the last look took.",
    "mptcp_exporter_look_gap_seconds": "Time between the last two looks: shorter connections can be missed.",
    "mptcp_exporter_unseen_connections_total": "Connections that came and went between two looks.",
    "mptcp_exporter_look_cpu_seconds_total": "CPU time of looks and of making rows.",
}

Kind = Literal["counter", "gauge", "histogram"]
#: The parts that may be missing; ``Metrics.missing`` has a sentence for each.
PARTS = ("connections", "paths", "listeners", "events", "kernel_counters")
#: Those of HELP that need no memory: gauges, and counters that the kernel keeps.
_WITHOUT_MEMORY = ("mptcp_kernel_total",)
_VERBS = {"bytes_acked": "acked", "bytes_received": "received", "bytes_sent": "sent"}
_VERBS |= {"bytes_retrans": "retransmitted"}
_OWN = "mptcp_exporter_"
#: More rows than any host has, within bounds: some 700 bytes for each connection.
_LIMIT = 1 << 28
_CURRENT = "MPCurrEstab"
_EVENTS = {kind: kind.name.lower() for kind in MPTCPEventKind}
_MOST_CREATED = 100_000


class Distribution(NamedTuple):
    """The value of a histogram. Thread rule: immutable, use it anywhere."""

    bounds: tuple[float, ...]
    """The upper bounds of the buckets, without the last, which has none."""
    counts: tuple[int, ...]
    """How many values were in each bucket, one more than there are bounds. They do not include each other."""
    sum: float
    """The sum of the values."""

    def buckets(self) -> list[tuple[str, int]]:
        """As Prometheus counts: for each bound, and "+Inf", how many values are not above it."""
        bounds = [*map(str, self.bounds), "+Inf"]
        return list(zip(bounds, itertools.accumulate(self.counts), strict=True))


class Row(NamedTuple):
    """A metric with its labels. Thread rule: immutable, use it anywhere."""

    name: str
    """The name, which for a counter ends in ``_total``."""
    kind: Kind
    """counter, gauge or histogram."""
    labels: Mapping[str, str]
    """The values of the labels, by name. All rows of a metric have the same names."""
    value: float | Distribution
    """A number; a Distribution for a histogram."""


def collect(ports: Iterable[int] = ()) -> list[Row]:
    """One look: gauges, and the kernel's own counters. Needs no privilege, and remembers nothing.

    For a program that starts for each look. A sum over connections goes backwards when one ends, so it is not
    among these rows; Metrics has it. ports: only connections and listeners with one of these ports.
    """
    with Metrics(ports, events=False) as metrics:
        rows = metrics.collect()
    missing = [row for row in rows if row.name == "mptcp_exporter_missing" and row.labels["what"] != "events"]
    wanted = [row for row in rows if not row.name.startswith(_OWN)]
    return missing + [row for row in wanted if row.kind == "gauge" or row.name in _WITHOUT_MEMORY]


class Metrics:
    """The rows, with counters that never go backwards although connections vanish.

        with Metrics() as metrics:
            for row in metrics.collect():
                print(row.name, row.labels, row.value)

    Each look adds what the connections did since the last one. So a connection that comes and goes between
    two looks is missed, and what one does after the last look that saw it. Call look() between two calls of
    collect(), as often as connections are short. With events (for root, and the owner of the user namespace),
    ``mptcp_exporter_unseen_connections_total`` says how many were missed.

    ports: only connections and listeners with one of these ports; events and the kernel's counters are always
    those of the network namespace. ValueError for a port that there is not. Close it, or use it in a with
    statement.

    Thread rule: any thread may call any method; calls take turns. The network namespace is that of the thread
    that calls look() or collect().
    """

    def __init__(self, ports: Iterable[int] = (), *, events: bool = True) -> None:
        self._ports = tuple(dict.fromkeys(ports))
        for port in self._ports:
            if not 0 < port < 65536:
                raise ValueError(f"{port} is not a port number (1 to 65535)")
        self._lock = threading.Lock()
        self._tally = Tally(self._ports)
        self._listeners: tuple[Listener, ...] = ()
        #: Ports that had a listener once, in the order in which they were seen.
        self._listened: dict[str, None] = {}
        self._counts = dict.fromkeys([*_EVENTS.values(), OTHER], 0)
        #: Tokens of connections that no look has found yet.
        self._created: set[int] = set()
        self._unseen = 0
        self._looks = self._failed = 0
        self._began = self._took = self._gap = self._cpu = 0.0
        self._missing: dict[str, str] = {}
        self._events: MPTCPEvents | None = None
        if events:
            with self._part("events"):
                self._events = mptcp_events()
        else:
            self._missing["events"] = "events were not asked for"

    @property
    def missing(self) -> Mapping[str, str]:
        """What could not be seen, as sentences, by the label of mptcp_exporter_missing."""
        return dict(self._missing)

    def look(self) -> None:
        """Add what happened since the last look. What fails is in ``missing``, and the next look goes on."""
        with self._lock:
            self._look()

    def read_events(self) -> None:
        """Count the events that there are. look() does it too; the kernel keeps some thousands of them."""
        with self._lock:
            self._read_events()

    def collect(self) -> list[Row]:
        """A look, and all rows. Calls that wait for each other share a look."""
        asked = time.monotonic()
        with self._lock:
            if self._began <= asked or not self._looks:
                self._look()
            began = time.thread_time()
            rows = list(self._rows())
            self._cpu += time.thread_time() - began
            rows.append(Row("mptcp_exporter_look_cpu_seconds_total", "counter", {}, self._cpu))
            return rows

    def close(self) -> None:
        """Unsubscribe from events. May be called again."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        began, cpu = time.monotonic(), time.thread_time()
        self._gap = began - self._began if self._looks else 0.0
        self._began = began
        self._looks += 1
        self._read_events()
        with self._part("listeners"):
            found = [one for port in self._ports or (0,) for one in listeners(port)]
            self._listeners = tuple(one for one in found if one.mptcp)
            unknown = {one.unknown for one in found if one.unknown}
            if unknown:
                self._missing["listeners"] = "; ".join(sorted(unknown))
        failed = True
        with self._part("connections"):
            dump = mptcp_diag(
                subflows=True, port=self._ports[0] if len(self._ports) == 1 else 0, limit=_LIMIT
            )
            self._tally.look(dump, {one.port for one in self._listeners})
            self._created = {token for token in self._created if not self._tally.has_seen(token)}
            self._missing.pop("paths", None)
            if dump.missing:
                self._missing["paths"] = "; ".join(dump.missing)
            failed = False
        self._failed += failed
        self._took = time.monotonic() - began
        self._cpu += time.thread_time() - cpu

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """What the block reads; if the system refuses, it is missing."""
        self._missing.pop(name, None)
        try:
            yield
        except OSError as error:
            self._missing[name] = error.strerror or str(error)

    def _read_events(self) -> None:
        if self._events is None:
            return
        with self._part("events"):
            while found := self._events.read():
                for event in found:
                    self._count(event)

    def _count(self, event: MPTCPEvent) -> None:
        self._counts[_EVENTS.get(event.kind, OTHER)] += 1  # type: ignore[call-overload]
        token = event.token
        if event.kind is MPTCPEventKind.LOST:
            self._created.clear()  # whose end may be among the lost
        elif token is None or self._tally.has_seen(token):
            return
        elif event.kind is MPTCPEventKind.CREATED and self._is_wanted(event):
            if len(self._created) < _MOST_CREATED:
                self._created.add(token)
        elif event.kind is MPTCPEventKind.CLOSED and token in self._created:
            self._created.remove(token)
            self._unseen += 1

    def _is_wanted(self, event: MPTCPEvent) -> bool:
        ends = event.local, event.remote
        return not self._ports or any(end and end[1] in self._ports for end in ends)

    # ---------------------------------------------------------------------------------------------- rows

    def _rows(self) -> Iterator[Row]:
        with contextlib.suppress(OSError):  # as EMFILE, which tells nothing of MPTCP
            yield Row("mptcp_available", "gauge", {}, int(bool(is_supported())))
        if "connections" not in self._missing:
            yield from self._present_rows()
        if "listeners" not in self._missing:
            yield from self._listener_rows()
        yield from self._total_rows()
        for name, counted in self._counts.items() if "events" not in self._missing else ():
            yield Row("mptcp_events_total", "counter", {"event": name}, counted)
        yield from self._kernel_rows()
        for part in PARTS:
            yield Row("mptcp_exporter_missing", "gauge", {"what": part}, int(part in self._missing))
        yield Row("mptcp_exporter_looks_total", "counter", {}, self._looks)
        yield Row("mptcp_exporter_failed_looks_total", "counter", {}, self._failed)
        yield Row("mptcp_exporter_look_seconds", "gauge", {}, self._took)
        if self._looks > 1:
            yield Row("mptcp_exporter_look_gap_seconds", "gauge", {}, self._gap)
        if "events" not in self._missing:
            yield Row("mptcp_exporter_unseen_connections_total", "counter", {}, self._unseen)

    def _present_rows(self) -> Iterator[Row]:
        by_status: dict[tuple[str, str, str], int] = {}
        by_reason: dict[tuple[str, str, str], int] = {}
        dead = 0
        for kind, number in self._tally.connections.items():
            of = kind.status, kind.family, kind.port
            by_status[of] = by_status.get(of, 0) + number
            if kind.reason:
                of = kind.reason, kind.family, kind.port
                by_reason[of] = by_reason.get(of, 0) + number
            dead += number * kind.dead
        yield from _each("mptcp_connections", "gauge", ("status", "family", "port"), by_status)
        yield from _each("mptcp_fallback_connections", "gauge", ("reason", "family", "port"), by_reason)
        yield Row("mptcp_connections_without_path", "gauge", {}, dead)
        yield from _each("mptcp_paths", "gauge", ("address", "family", "state"), self._tally.paths)

    def _listener_rows(self) -> Iterator[Row]:
        ports: dict[str, list[Listener]] = {}
        for one in self._listeners:
            ports.setdefault(self._tally.ports.of(str(one.port)), []).append(one)
        self._listened |= dict.fromkeys(ports)
        for port in self._listened:
            here, labels = ports.get(port, []), {"port": port}
            yield Row("mptcp_listeners", "gauge", labels, len(here))
            full = sum(one.queue > one.backlog for one in here)
            yield Row("mptcp_listeners_full", "gauge", labels, full)
            if here:
                longest = max(here, key=lambda one: one.queue)
                yield Row("mptcp_listener_queue", "gauge", labels, longest.queue)
                yield Row("mptcp_listener_backlog", "gauge", labels, longest.backlog)

    def _total_rows(self) -> Iterator[Row]:
        tally, whose, path = self._tally, ("family", "port"), ("address", "family")
        yield from _each("mptcp_connections_seen_total", "counter", whose, tally.seen)
        yield from _each("mptcp_accepted_as_tcp_total", "counter", whose, tally.as_tcp)
        yield from _each("mptcp_fallbacks_total", "counter", ("reason", *whose), tally.fallbacks)
        for field, of_connections in tally.connection_bytes.items():
            yield from _each(f"mptcp_{_VERBS[field]}_bytes_total", "counter", whose, of_connections)
        for field, of_paths in tally.path_bytes.items():
            yield from _each(f"mptcp_path_{_VERBS[field]}_bytes_total", "counter", path, of_paths)
        yield from _each("mptcp_path_rtt_seconds", "histogram", path, tally.rtt)
        yield from _each("mptcp_path_retransmitted_ratio", "histogram", path, tally.share)

    def _kernel_rows(self) -> Iterator[Row]:
        counters: dict[str, int] = {}
        with self._part("kernel_counters"):
            counters = host.counters()
            if not counters:
                self._missing["kernel_counters"] = "this kernel has no MPTcpExt counters"
        for name, value in counters.items():
            if name == _CURRENT:
                yield Row("mptcp_kernel_established", "gauge", {}, value)
            else:
                yield Row("mptcp_kernel_total", "counter", {"counter": name}, value)


def _each(
    name: str, kind: Kind, labels: tuple[str, ...], values: Mapping[Any, int | Histogram]
) -> Iterator[Row]:
    """A row for each value, whose key is the values of the labels."""
    for key, value in values.items():
        if isinstance(value, Histogram):
            found: float | Distribution = Distribution(value.bounds, tuple(value.counts), value.sum)
        else:
            found = value
        yield Row(name, kind, dict(zip(labels, key, strict=True)), found)
