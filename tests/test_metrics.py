# SPDX-License-Identifier: MIT
"""mptcp_sockopt.metrics: rows of real connections, counters that never go backwards, what is missing."""

from __future__ import annotations

import contextlib
import errno
import math
import socket
from collections.abc import Iterator

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import host, metrics, testing
from mptcp_sockopt.metrics import Metrics

from .boxes import Box, strip
from .causes import network
from .support import (
    LOOPBACK,
    Missing,
    become_nobody,
    exchange,
    fallback_pair,
    in_private_network,
    mptcp_pair,
    needs_root,
    until,
    where_refused,
)

INET, INET6 = socket.AF_INET, socket.AF_INET6
Found = dict[str, dict[tuple[str, ...], float | metrics.Distribution]]


@pytest.fixture(autouse=True)
def _diag(request: pytest.FixtureRequest) -> None:
    """What reads real connections needs the kernel's dump of them."""
    if "mptcp" in request.fixturenames:
        mp.mptcp_diag(subflows=True)


def counts_bytes(sock: socket.socket) -> None:
    """The rest of this test needs the kernel's counters of this connection."""
    if mp.mptcp_info(sock).bytes_received is None:
        raise Missing("this kernel has no byte counters (Linux 6.5)")


def collected(found: Metrics) -> Found:
    """The values by name, and by the values of the labels."""
    return by_name(found.collect())


def by_name(rows: list[metrics.Row]) -> Found:
    values: Found = {}
    for row in rows:
        of = values.setdefault(row.name, {})
        assert tuple(row.labels.values()) not in of
        of[tuple(row.labels.values())] = row.value
    return values


def number(found: Found, name: str, *labels: str) -> float:
    value = found[name][labels]
    assert not isinstance(value, metrics.Distribution)
    return value


def total(found: Found, name: str) -> float:
    return math.fsum(value for value in found.get(name, {}).values() if isinstance(value, (int, float)))


@contextlib.contextmanager
def kept() -> Iterator[Metrics]:
    """Metrics that read no events: those of others are not in the way, and no privilege is needed."""
    with Metrics(events=False) as found:
        yield found


@pytest.mark.parametrize("family", [INET, INET6])
def test_the_rows_of_two_ends(family: socket.AddressFamily, mptcp: None) -> None:
    """Both ends, by listener and by local address, with the bytes that were sent and received."""

    def look() -> None:
        with kept() as found, mptcp_pair(family) as (client, accepted):
            exchange(client, accepted, 1000)
            rows = collected(found)
            words = "ipv4" if family == INET else "ipv6"
            port = str(accepted.getsockname()[1])
            assert rows["mptcp_connections"] == {("mptcp", words, of): 1 for of in ("outgoing", port)}
            states = {"live": 2, "stalled": 0}
            assert rows["mptcp_paths"] == {
                (LOOPBACK[family], words, state): states[state] for state in states
            }
            for end, of in ((client, "outgoing"), (accepted, port)):
                assert number(rows, "mptcp_connections_seen_total", words, of) == 1
                counts_bytes(end)
                received = mp.mptcp_info(end).bytes_received
                assert number(rows, "mptcp_received_bytes_total", words, of) == received
            sent = total(rows, "mptcp_received_bytes_total")
            assert sent >= 1000
            assert number(rows, "mptcp_path_received_bytes_total", LOOPBACK[family], words) == sent
            histogram = rows["mptcp_path_rtt_seconds"][LOOPBACK[family], words]
            assert isinstance(histogram, metrics.Distribution)
            assert sum(histogram.counts) == 2
            rtts = [
                path.tcp_info.rtt / 1e6 for end in (client, accepted) for path in mp.snapshot(end).subflows
            ]
            assert histogram.sum == pytest.approx(sum(rtts))
            if "MPCurrEstab" in host.counters():  # some older kernels have none
                assert rows["mptcp_kernel_established"] == {(): 2}
            assert number(rows, "mptcp_kernel_total", "MPCapableSYNTX") == 1

    in_private_network(look)


def test_the_listener_of_a_connection_is_a_label(mptcp: None) -> None:
    """Its accept queue is counted, and when it is longer than the backlog, it is full."""

    def look() -> None:
        with kept() as found, mp.create_server(("127.0.0.1", 0), backlog=1) as server:
            port = str(server.getsockname()[1])
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(mp.create_connection(server.getsockname())) for _ in range(2)]
                rows = collected(found)
                assert rows["mptcp_listeners"] == {(port,): 1}
                assert rows["mptcp_listener_queue"] == {(port,): 2}
                assert rows["mptcp_listener_backlog"] == {(port,): 1}
                assert rows["mptcp_listeners_full"] == {(port,): 1}
                assert number(rows, "mptcp_connections", "mptcp", "ipv4", port) == 2
                assert number(rows, "mptcp_connections", "mptcp", "ipv4", "outgoing") == 2
                accepted = [stack.enter_context(server.accept()[0]) for _ in clients]
                assert len(accepted) == 2
                assert collected(found)["mptcp_listeners_full"] == {(port,): 0}
            server.close()
            until(lambda: not mp.mptcp_diag(subflows=True), "the end of the connections")
            rows = collected(found)
            assert rows["mptcp_listeners"] == {(port,): 0}
            assert "mptcp_listener_queue" not in rows
            assert total(rows, "mptcp_connections") == 0  # and their kinds are still there
            assert len(rows["mptcp_connections"]) >= 2
            assert number(rows, "mptcp_connections_seen_total", "ipv4", port) == 2

    in_private_network(look)


def test_totals_stay_when_connections_go(mptcp: None) -> None:
    """After ten connections one after another, totals are what the programs counted, and never fell."""

    def look() -> None:
        with kept() as found, mp.create_server(("127.0.0.1", 0)) as server:
            port, last, size = str(server.getsockname()[1]), 0.0, 10_000
            for count in range(1, 11):
                with mp.create_connection(server.getsockname()) as client, server.accept()[0] as accepted:
                    exchange(client, accepted, size)
                    counts_bytes(client)
                    rows = collected(found)
                    now = number(rows, "mptcp_received_bytes_total", "ipv4", port)
                    assert now == count * size > last
                    last = now
                found.look()
            until(lambda: not mp.mptcp_diag(subflows=True), "the end of the connections")
            rows = collected(found)
            assert number(rows, "mptcp_received_bytes_total", "ipv4", port) == last
            assert number(rows, "mptcp_connections_seen_total", "ipv4", port) == 10
            assert total(rows, "mptcp_paths") == 0

    in_private_network(look)


def test_a_client_of_a_tcp_server_is_a_fallback(mptcp: None) -> None:
    """By its class, and with the bytes of its TCP socket; at the server's end it is nothing of ours."""

    def look() -> None:
        with kept() as found, fallback_pair(INET) as (client, accepted):
            exchange(client, accepted, 3000)
            for _ in range(2):  # it is counted once
                rows = collected(found)
                assert rows["mptcp_connections"] == {("fallback", "ipv4", "outgoing"): 1}
                of = "no_option_in_answer", "ipv4", "outgoing"
                assert rows["mptcp_fallback_connections"] == {of: 1}
                assert {key: value for key, value in rows["mptcp_fallbacks_total"].items() if value} == {
                    of: 1
                }
                exchange(accepted, client, 2000)
            if mp.mptcp_diag()[0].info.bytes_received is None:
                raise Missing("this kernel has no byte counters (Linux 6.5)")
            rows = collected(found)
            assert total(rows, "mptcp_received_bytes_total") == mp.snapshot(client).bytes_received
            assert total(rows, "mptcp_acked_bytes_total") == pytest.approx(3000, abs=5000)

    in_private_network(look)


def test_plain_tcp_at_an_mptcp_listener_is_counted(mptcp: None) -> None:
    """As accepted as TCP, with its port; it is no fallback that has a class."""

    def look() -> None:
        with kept() as found, mp.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            with socket.create_connection(server.getsockname()) as client, server.accept()[0] as accepted:
                exchange(client, accepted, 700)
                rows = collected(found)
            assert number(rows, "mptcp_connections", "tcp", "ipv4", port) == 1
            assert number(rows, "mptcp_accepted_as_tcp_total", "ipv4", port) == 1
            assert number(rows, "mptcp_received_bytes_total", "ipv4", port) == 700
            assert total(rows, "mptcp_fallbacks_total") == 0

    in_private_network(look)


def test_a_fallback_later_is_counted_and_no_total_falls(mptcp: None) -> None:
    """A middlebox strips the option from a connection that was MPTCP: its class rises from 0 to 1."""

    def look() -> None:
        with network("sound") as made, made.client, kept() as found:
            with mp.create_connection(made.address, timeout=30, fallback=False) as client:
                for _ in range(2):
                    client.sendall(b"x" * 4000)
                    read(client, 4000)
                before = collected(found)
                assert total(before, "mptcp_received_bytes_total") == 8000
                assert total(before, "mptcp_fallbacks_total") == 0
                made.paths.alter(0, Box(strip))
                client.setblocking(False)

                def has_fallen() -> bool:
                    with contextlib.suppress(BlockingIOError):
                        client.send(b"x" * 100)
                    with contextlib.suppress(BlockingIOError):
                        client.recv(1 << 16)
                    return mp.status(client) is mp.Status.FALLBACK

                until(has_fallen, "a fallback")
                rows = collected(found)
                assert number(rows, "mptcp_fallbacks_total", "mid_connection", "ipv4", "outgoing") == 1
                assert total(rows, "mptcp_fallbacks_total") == 1
                assert rows["mptcp_connections"]["mptcp", "ipv4", "outgoing"] == 0
            for name in (name for name in before if name.endswith("_total")):
                for labels, value in before[name].items():
                    assert rows[name][labels] >= value, name  # type: ignore[operator]
            assert total(rows, "mptcp_received_bytes_total") < 80_000

    in_private_network(look)


def read(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(size))


def test_a_path_that_is_cut_stalls_and_recovers(mptcp: None) -> None:
    """In the gauge of paths, by its local address; with nothing changed but the time."""

    def look() -> None:
        with testing.Paths(2, delay=0.002) as paths:
            with paths.server:
                server = mp.create_server(("0.0.0.0", 0), fallback=False)
            with server, paths.client, kept() as found:
                address = paths.server_addresses[0], server.getsockname()[1]
                with mp.create_connection(address, timeout=30) as client, server.accept()[0] as accepted:
                    exchange(client, accepted, 20_000)
                    testing.wait_for(client, subflows=2, within=20)
                    first, second = paths.client_addresses

                    def state(address: str, state: str) -> bool:
                        return total_of(found, address, state) == 1

                    until(lambda: state(first, "live") and state(second, "live"), "two live paths")
                    paths.cut(0)
                    paths.cut(1)
                    client.send(b"x" * 1000)
                    until(lambda: state(first, "stalled") or state(second, "stalled"), "a stalled path")
                    paths.restore(0)
                    paths.restore(1)
                    accepted.recv(1000)
                    until(lambda: state(first, "live") and state(second, "live"), "two live paths again")

    in_private_network(look)


def total_of(found: Metrics, address: str, state: str) -> float:
    rows = collected(found)
    return (
        number(rows, "mptcp_paths", address, "ipv4", state)
        if ((address, "ipv4", state) in rows["mptcp_paths"])
        else 0
    )


def test_what_comes_and_goes_between_two_looks_is_said(mptcp: None) -> None:
    """By the events, which count each connection; one that a look saw is not unseen."""

    def look() -> None:
        with Metrics() as found, mp.create_server(("127.0.0.1", 0)) as server:
            found.look()
            # Between the events that a look reads and its dump.
            with mp.create_connection(server.getsockname()), server.accept()[0]:
                found._tally.look(mp.mptcp_diag(subflows=True), set())
            until(lambda: not mp.mptcp_diag(subflows=True), "the end of the connection")

            def connect(seen: bool) -> None:
                with mp.create_connection(server.getsockname()) as client, server.accept()[0] as accepted:
                    exchange(client, accepted, 100)
                    if seen:
                        found.look()

            for seen in (True, False, False):
                connect(seen)
                until(lambda: not mp.mptcp_diag(subflows=True), "the end of the connection")

            def closed() -> bool:
                return number(collected(found), "mptcp_events_total", "closed") == 8

            until(closed, "both ends of four connections")
            rows = collected(found)
            assert number(rows, "mptcp_events_total", "created") == 8
            assert number(rows, "mptcp_exporter_unseen_connections_total") == 4
            assert total(rows, "mptcp_connections_seen_total") == 4
            assert number(rows, "mptcp_exporter_missing", "events") == 0

    in_private_network(look)


def test_as_nobody_only_events_are_missing(mptcp: None) -> None:
    """And the rows that they make; everything else is there."""
    needs_root()

    def look() -> None:
        with mptcp_pair(INET):
            become_nobody()
            with Metrics() as found:
                rows = collected(found)
            missing = {what for (what,), value in rows["mptcp_exporter_missing"].items() if value}
            assert "events" in missing
            assert missing == set(found.missing)
            assert missing <= {"events", "paths", "listeners"}  # before Linux 6.15, these too
            assert "mptcp_events_total" not in rows
            assert "mptcp_exporter_unseen_connections_total" not in rows
            assert total(rows, "mptcp_connections") == 2
            assert number(rows, "mptcp_kernel_total", "MPCapableSYNTX") == 1

    in_private_network(look)


def test_where_nothing_can_be_asked_nothing_is_0(mptcp: None) -> None:
    """A policy refuses netlink sockets: gauges are absent, it is said, and totals stay."""

    def look() -> None:
        with Metrics(events=False) as found:
            rows = collected(found)
        assert not {"mptcp_connections", "mptcp_connections_without_path", "mptcp_paths"} & rows.keys()
        assert number(rows, "mptcp_exporter_missing", "connections") == 1
        assert number(rows, "mptcp_exporter_missing", "listeners") == 1
        assert number(rows, "mptcp_exporter_missing", "kernel_counters") == 0
        assert number(rows, "mptcp_exporter_failed_looks_total") == 1
        assert number(rows, "mptcp_exporter_looks_total") == 1

    where_refused([("socket", {0: socket.AF_NETLINK}, errno.EACCES)], look)


def test_only_the_ports_that_are_asked_for(mptcp: None) -> None:
    """One, and several; of the others neither connections nor listeners."""

    def look() -> None:
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(mp.create_server(("127.0.0.1", 0))) for _ in range(3)]
            ports = [server.getsockname()[1] for server in servers]
            for server in servers:
                stack.enter_context(mp.create_connection(server.getsockname()))
            for wanted in (ports[:1], ports[:2]):
                found = stack.enter_context(Metrics(wanted, events=False))
                for _ in range(2):
                    rows = collected(found)
                    assert set(rows["mptcp_listeners"]) == {(str(port),) for port in wanted}
                    assert total(rows, "mptcp_connections") == 2 * len(wanted)
                assert total(rows, "mptcp_connections_seen_total") == 2 * len(wanted)

    in_private_network(look)


def test_a_port_that_there_is_not() -> None:
    for port in (0, 65536, -1):
        with pytest.raises(ValueError, match="is not a port number"):
            Metrics([port])


def test_every_row_is_described_and_named_by_the_rules(mptcp: None) -> None:
    """Every name has a help text, one kind and one set of labels; _total is for counters alone."""

    def look() -> None:
        with Metrics() as found, mptcp_pair(INET) as ends, fallback_pair(INET):
            exchange(*ends, 100)
            found.look()
            rows = found.collect()
            shapes = {row.name: (row.kind, tuple(row.labels)) for row in rows}
            for row in rows:
                assert shapes[row.name] == (row.kind, tuple(row.labels))
                assert row.name.endswith("_total") == (row.kind == "counter")
                assert isinstance(row.value, metrics.Distribution) == (row.kind == "histogram")
            assert not shapes.keys() - metrics.HELP.keys()

    in_private_network(look)


def test_one_look_has_no_sums_over_connections(mptcp: None) -> None:
    """collect() remembers nothing, so what would go backwards is not among its rows."""

    def look() -> None:
        with mptcp_pair(INET):
            rows = metrics.collect()
        names = {row.name for row in rows if row.kind != "gauge"}
        assert names == {"mptcp_kernel_total"}
        found = by_name(rows)
        assert total(found, "mptcp_connections") == 2
        assert ("events",) not in found["mptcp_exporter_missing"]
        assert found["mptcp_exporter_missing"]["connections",] == 0

    in_private_network(look)
