# SPDX-License-Identifier: MIT
"""Looks: what the second look adds, and what it remembers. Real connections, over paths that are cut."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli, processes, testing
from mptcp_sockopt.cli._looks import Looks, _is_open, fields

from ..boxes import Box, strip
from ..causes import network
from ..support import (
    at_work,
    child,
    connections,
    exchange,
    fallback_pair,
    in_private_network,
    inode,
    mptcp_pair,
    tcp_pair,
    until,
)
from .records import INFO, TCP_INFO, connection, path

INET = socket.AF_INET


def of(looks: Looks, sock: socket.socket) -> dict[str, Any]:
    """The connection of this socket, at another look."""
    (found,) = [row for row in looks.look().connections if row["inode"] == inode(sock)]
    return found


def test_a_record_has_the_keys_of_the_samples(mptcp: None) -> None:
    """As tests of what draws them use them; and json.dumps() takes it."""

    def look() -> None:
        with mptcp_pair(INET) as (client, _):
            row = of(Looks(), client)
            assert row.keys() == connection().keys()
            assert row["subflows"][0].keys() == path().keys()
            assert set(row["info"]) == set(INFO) == set(fields(full=False)["info"])
            assert set(row["subflows"][0]["tcp_info"]) == set(TCP_INFO) == set(fields(full=False)["tcp_info"])
            assert json.loads(json.dumps(row)) == row

    in_private_network(look)


@pytest.mark.parametrize("drawn", [False, True])
def test_rates_are_since_the_last_look(drawn: bool, mptcp: None) -> None:
    """Null at the first; then what was sent in between, in bytes per second."""

    def look() -> None:
        with mptcp_pair(INET) as (client, accepted):
            looks = Looks(drawn=drawn)
            first = looks.look()
            assert [row["rates"] for row in first.connections] == [None, None]
            assert first.connections[0]["subflows"][0]["rates"] is None
            exchange(client, accepted, 50_000)
            second = looks.look()
            seconds = (second.monotonic - first.monotonic) / 1e9
            (row,) = [row for row in second.connections if row["inode"] == inode(client)]
            assert row["rates"]["bytes_sent"] == pytest.approx(50_000 / seconds, rel=0.01)
            (moving,) = [one["rates"] for one in row["subflows"]]
            assert moving["bytes_received"] == pytest.approx(50_000 / seconds, rel=0.01)
            third = of(looks, client)
            assert third["rates"] == {"bytes_sent": 0, "bytes_acked": 0, "bytes_received": 0}
            assert abs(second.time - time.time()) < 60

    in_private_network(look)


def test_after_a_fallback_tcp_tells_what_was_acknowledged(mptcp: None) -> None:
    """MPTCP counts what it handed to TCP as acknowledged at once."""

    def look() -> None:
        with fallback_pair(INET) as (client, accepted):
            looks = Looks()
            before = of(looks, client)
            assert before["troubles"] == ["fell_back"]
            exchange(client, accepted, 20_000)
            now = of(looks, client)
            assert now["rates"]["bytes_acked"] == now["subflows"][0]["rates"]["bytes_acked"] > 0
            assert now["rates"]["bytes_received"] == now["subflows"][0]["rates"]["bytes_received"] > 0
            assert now["rates"]["bytes_sent"] > 0

    in_private_network(look)


@contextlib.contextmanager
def sending(paths: testing.Paths) -> Iterator[tuple[socket.socket, threading.Event]]:
    """A client that sends without pause over both paths."""
    stop = threading.Event()
    with paths.server:
        server = mp.create_server(("0.0.0.0", 0), fallback=False)
    with server, paths.client:
        address = paths.server_addresses[0], server.getsockname()[1]
        with mp.create_connection(address, timeout=30, fallback=False) as client:
            accepted, _ = server.accept()
            accepted.settimeout(30)
            exchange(client, accepted)
            until(lambda: mp.snapshot(client).live_count == 2, "two paths")

            def send() -> None:
                client.settimeout(0.05)
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        client.send(b"x" * 65536)
                client.close()

            def receive() -> None:
                with contextlib.suppress(OSError):
                    while accepted.recv(1 << 20):
                        pass

            with accepted, at_work(receive), at_work(send):
                try:
                    yield client, stop
                finally:
                    stop.set()


def test_a_path_that_is_cut_stalls(mptcp: None) -> None:
    """While the other goes on; and no longer when it is restored."""

    def look() -> None:
        with testing.Paths(2, rate=8e6, delay=0.005) as paths, sending(paths) as (client, _):
            looks, local = Looks(), paths.client_addresses[1]

            def stalled() -> dict[str, bool | None]:
                row = of(looks, client)
                assert ("stalled" in row["troubles"]) == any(one["stalled"] for one in row["subflows"])
                return {one["local"][0]: one["stalled"] for one in row["subflows"]}

            for _ in range(20):
                assert True not in stalled().values()
            paths.cut(1)
            until(lambda: stalled()[local], "a path that stalls")
            assert stalled()[paths.client_addresses[0]] is not True
            paths.restore(1)
            until(lambda: not stalled()[local], "a path that goes on")

    in_private_network(look)


@pytest.mark.parametrize("drawn", [False, True])
def test_it_knows_how_long_nothing_was_acknowledged(
    drawn: bool, mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """is_stalled() is given the time for which bytes_acked stood still, from the second look on."""
    given: list[int | None] = []

    def is_stalled(tcp_info: mp.TCPInfo, standing: int | None = None) -> bool | None:
        given.append(standing)
        return asked(tcp_info, standing)

    asked = mp.is_stalled
    monkeypatch.setattr(mp, "is_stalled", is_stalled)

    def look() -> list[int | None]:
        with testing.Paths(1) as paths:
            with paths.server:
                server = mp.create_server(("0.0.0.0", 0), fallback=False)
            with server, paths.client:
                address = paths.server_addresses[0], server.getsockname()[1]
                with mp.create_connection(address, timeout=30, fallback=False) as client:
                    exchange(client, server.accept()[0])
                    looks, new = Looks(drawn=drawn), Looks(drawn=drawn)
                    until(lambda: mp.mptcp_tcpinfo(client)[0].unacked == 0, "an ACK")
                    looks.look()
                    looks.look()
                    assert given == []  # nothing is outstanding
                    paths.cut(0)
                    client.sendall(b"lost")
                    times = [looks.look().monotonic for _ in range(4)]
                    waited = {(one or 0) - (at - times[0]) for one, at in zip(given, times, strict=True)}
                    assert len(waited) == 1  # how long before the first look
                    assert waited <= {1_000_000 * ms for ms in range(60_000)}
                    new.look()
                    assert given[-1] is None
                    assert len(given) == 5
                    paths.restore(0)
                    until(lambda: mp.mptcp_tcpinfo(client)[0].unacked == 0, "an ACK")
                    looks.look()
                    paths.cut(0)
                    sent = time.monotonic_ns()
                    client.sendall(b"lost")
                    first = looks.look().monotonic
                    late = time.monotonic_ns() - first  # the kernel was asked after the time of a look
                    last = looks.look().monotonic
                    assert (given[-1] or 0) <= last - sent + late + 20_000_000  # ages count in ticks
                    return given

    assert len(in_private_network(look)) == 7


def test_a_path_whose_join_is_not_answered_is_no_stall(mptcp: None) -> None:
    """Its SYN is outstanding, and it has never sent data or had an ACK."""

    def look() -> None:
        with testing.Paths(2) as paths:
            with paths.server:
                server = mp.create_server(("0.0.0.0", 0), fallback=False)
            paths.cut(1)
            with server, paths.client:
                address = paths.server_addresses[0], server.getsockname()[1]
                client = mp.create_connection(address, timeout=30, fallback=False)
                with client, server.accept()[0] as accepted:
                    exchange(client, accepted)
                    looks = Looks()
                    until(lambda: len(of(looks, client)["subflows"]) == 2, "a join")
                    row = of(looks, client)
                    assert [one["state"] for one in row["subflows"]] == ["ESTABLISHED", "SYN_SENT"]
                    assert (row["subflows"][1]["stalled"], row["troubles"]) == (None, [])

    in_private_network(look)


def test_data_that_is_sent_again_is_told_between_two_repetitions_too(mptcp: None) -> None:
    """Until something is acknowledged; although the looks come faster than the repetitions."""

    def look() -> None:
        with network("sound", serving=False) as made, made.client:
            client = mp.create_connection(made.address, timeout=30, fallback=False)
            with client, made.listener.accept()[0] as accepted:
                exchange(client, accepted)
                exchange(client, accepted)
                looks = Looks()
                made.paths.alter(0, Box(strip, to_server=True))
                client.sendall(b"m" * 200)
                until(lambda: "resending" in of(looks, client)["troubles"], "data sent again")
                again = mp.mptcp_info(client).bytes_retrans
                while mp.mptcp_info(client).bytes_retrans == again:
                    assert "resending" in of(looks, client)["troubles"]

    in_private_network(look)


def test_a_connection_without_a_path_is_told(mptcp: None) -> None:
    """It is shown, as what it is: open, and without a way."""

    def look() -> None:
        with testing.Paths(1) as paths:
            with paths.server:
                server = mp.create_server(("0.0.0.0", 0), fallback=False)
            with server, paths.client:
                address = paths.server_addresses[0], server.getsockname()[1]
                client = mp.create_connection(address, timeout=30, fallback=False)
                with client, server.accept()[0] as accepted:
                    exchange(client, accepted)
                    looks = Looks()
                    assert of(looks, client)["troubles"] == []
                    testing.delete_initial_address(paths.client_addresses[0])
                    until(lambda: of(looks, client)["troubles"] == ["no_path"], "no path")
                    assert [one for one in of(looks, client)["subflows"] if one["live"]] == []

    in_private_network(look)


def test_owners_are_looked_up_when_there_is_an_unknown_one(
    mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each new connection, and not at every look; those that are gone are forgotten."""
    calls: list[int] = []
    owners = processes.owners

    def counted(inodes: Any) -> processes.Owners:
        wanted = list(inodes)
        calls.append(len(wanted))
        return owners(wanted)

    monkeypatch.setattr(processes, "owners", counted)

    def look() -> list[int]:
        looks = Looks()
        with mptcp_pair(INET):
            looks.look()
            looks.look()
            with mptcp_pair(INET):
                looks.look()
            looks.look()
            assert len(looks._owners) == 2
        looks.look()
        assert len(looks._owners) == 0
        return calls

    assert in_private_network(look) == [2, 4]


def test_a_socket_that_nobody_has_is_not_looked_for(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for accept() has no inode, and no process."""
    asked: list[set[int]] = []
    owners = processes.owners

    def noted(inodes: Any) -> processes.Owners:
        asked.append(set(inodes))
        return owners(asked[-1])

    monkeypatch.setattr(processes, "owners", noted)

    def look() -> None:
        server = mp.create_server(("127.0.0.1", 0), fallback=False)
        with server, mp.create_connection(server.getsockname(), fallback=False) as client:
            looks = Looks()
            until(lambda: len(looks.look().connections) == 2, "both ends")
            (waiting,) = [row for row in looks.look().connections if row["inode"] is None]
            assert waiting["processes"] == []
            assert asked == [{inode(client)}]

    in_private_network(look)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({}, True),
        ({"status": "closing"}, False),
        ({"status": "listening"}, False),
        ({"status": "closed", "state": 7, "subflows": []}, False),
        ({"status": "closed", "state": 1, "subflows": []}, True),
    ],
)
def test_what_has_ended_is_left_out(parts: dict[str, Any], shown: bool) -> None:
    """And what never was a connection."""
    assert _is_open({**connection(), "state": 1, **parts}) is shown


def test_a_process_that_ends_leaves_nothing(mptcp: None) -> None:
    """No connection any more, and a sentence; before there was one, it cannot be looked at."""

    def look() -> None:
        with mptcp_pair(INET):
            with child(lambda child: child.say("ready")) as other:
                other.hear()
                looks = Looks(pid=other.pid)
                assert len(looks.look().connections) == 2
            sample = looks.look()
            assert (sample.connections, sample.missing) == ([], [f"there is no process {other.pid}"])
            with pytest.raises(cli.CannotRun):
                Looks(pid=other.pid)

    in_private_network(look)


def test_plain_tcp_is_left_out(mptcp: None) -> None:
    """Only what has to do with MPTCP is shown."""

    def look() -> None:
        with tcp_pair(INET):
            assert Looks(all_states=True).look().connections == []

    in_private_network(look)


def test_what_is_gone_is_forgotten(mptcp: None) -> None:
    """Nothing is kept of connections that are not there any more, but what the last two looks had."""

    def look() -> None:
        looks = Looks()
        with connections(5):
            for _ in range(10):
                with mptcp_pair(INET):
                    looks.look()
            until(lambda: len(looks.look().connections) == 10, "the end of the others")
            looks.look()
            kept = looks._owners, looks._this.connections, looks._last.connections, looks._pick._ends
            assert [len(memory) for memory in kept] == [10, 10, 10, 10]
            assert {len(known.paths) for known in looks._this.connections.values()} == {1}

    in_private_network(look)


def test_the_interface_is_that_of_the_address(mptcp: None) -> None:
    """None where several have it."""

    def look() -> None:
        with mptcp_pair(INET) as (client, _):
            looks = Looks()
            assert of(looks, client)["subflows"][0]["interface"] == "lo"
            with mptcp_pair(socket.AF_INET6) as (other, _):
                assert of(looks, other)["subflows"][0]["interface"] == "lo"
        with (
            mp.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, fallback=False
            ) as server,
            mp.create_connection(("127.0.0.1", server.getsockname()[1]), fallback=False),
        ):
            accepted, _ = server.accept()
            with accepted:
                row = of(looks, accepted)
                assert row["local"][0] == "::ffff:127.0.0.1"
                assert row["subflows"][0]["interface"] == "lo"

    in_private_network(look)
