# SPDX-License-Identifier: MIT
"""Paths between two networks: what passes them, how fast, and what a cut does."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from ..support import DEADLINE, NOBODY, at_work, exchange, until

ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
SLACK = 0.020  # seconds: far less than a second round trip
Ends = tuple[socket.socket, socket.socket]


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        dumpable = 4  # cleared by the change; without it /proc/self is root's. execve(2) sets it again.
        ctypes.CDLL(None).prctl(dumpable, 1)


def listen(paths: testing.Paths, family: int, *, mptcp: bool = True) -> socket.socket:
    address = (ANY[socket.AddressFamily(family)], 0)
    with paths.server:
        if mptcp:
            return mp.create_server(address, family=family, fallback=False)
        return socket.create_server(address, family=family)


def connect(paths: testing.Paths, server: socket.socket, *, mptcp: bool = True) -> socket.socket:
    with paths.client:
        sock = mp.create_socket(server.family, fallback=False) if mptcp else socket.socket(server.family)
    sock.settimeout(DEADLINE / 2)
    sock.connect((paths.server_addresses[0], server.getsockname()[1]))
    return sock


@contextlib.contextmanager
def connected(paths: testing.Paths, family: int = socket.AF_INET) -> Iterator[Ends]:
    """A connection that has carried a byte each way: the client's end, the server's."""
    with listen(paths, family) as server, connect(paths, server) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(DEADLINE / 2)
            exchange(client, accepted, 1)
            yield client, accepted


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (more := sock.recv(1 << 16)):
        data += more
    return bytes(data)


# -------------------------------------------------------------------------------------------- what passes


def test_a_subflow_over_each_path(mptcp: None, family: int) -> None:
    """Four paths, four subflows: each between the addresses of one path."""

    def look() -> None:
        with testing.Paths(4, family=family) as paths, connected(paths, family) as (client, accepted):
            shot = testing.wait_for(client, subflows=4)
            ends = {(path.local[0], path.remote[0]) for path in shot.subflows if path.local and path.remote}
            assert ends == set(zip(paths.client_addresses, paths.server_addresses, strict=True))
            testing.wait_for(accepted, subflows=4)

    testing.in_private_network(look)


@pytest.mark.parametrize("mptcp_too", [False, True], ids=["TCP", "MPTCP"])
def test_bulk_passes_intact_both_ways(mptcp: None, family: int, mptcp_too: bool) -> None:
    """4 MB each way, in frames larger than the MTU where the kernel leaves them to be segmented later."""
    there, back = random.Random(1).randbytes(4 << 20), random.Random(2).randbytes(4 << 20)

    def transfer() -> tuple[bool, bool]:
        with (
            testing.Paths(2, delay=0.001, family=family) as paths,
            listen(paths, family, mptcp=mptcp_too) as server,
            connect(paths, server, mptcp=mptcp_too) as client,
        ):
            accepted, _ = server.accept()
            accepted.settimeout(DEADLINE / 2)
            with accepted:
                with at_work(client.sendall, there):
                    came = receive(accepted, len(there))
                with at_work(accepted.sendall, back):
                    return came == there, receive(client, len(back)) == back

    assert testing.in_private_network(transfer) == (True, True)


@pytest.mark.parametrize("nobody", [False, True], ids=["self", "nobody"])
@pytest.mark.parametrize("delay", [0.0, 0.040])
def test_a_handshake_takes_the_round_trip(mptcp: None, family: int, delay: float, nobody: bool) -> None:
    """Twice the delay: never less, and at its best little more. A busy machine delays many, but not all."""

    def measure() -> list[float]:
        if nobody:
            become_nobody()
        testing.enter_private_network()
        taken: list[float] = []
        deadline = time.monotonic() + 15
        with testing.Paths(1, delay=delay, family=family) as paths, listen(paths, family) as server:
            while len(taken) < 5 or (min(taken) > 2 * delay + SLACK and time.monotonic() < deadline):
                begun = time.monotonic()
                with connect(paths, server) as sock:
                    taken.append(time.monotonic() - begun)
                    assert mp.status(sock) is mp.Status.MPTCP
        return taken

    assert 2 * delay <= min(testing.in_child(measure)) <= 2 * delay + SLACK


def seconds_for(ends: Ends, size: int) -> float:
    client, accepted = ends
    begun = time.monotonic()
    with at_work(client.sendall, bytes(size)):
        assert len(receive(accepted, size)) == size
    return time.monotonic() - begun


def test_a_rate_is_kept_and_changed(mptcp: None) -> None:
    """No data comes faster than the rate lets it, apart from what waits in the queue; and a path that is
    made faster is faster."""

    def measure() -> tuple[float, float]:
        with testing.Paths(1, rate=4e6) as paths, connected(paths) as ends:
            slow = seconds_for(ends, 500_000)
            paths.shape(0, rate=400e6)
            return slow, min(seconds_for(ends, 500_000) for _ in range(5))  # TCP has to find it out

    slow, fast = testing.in_private_network(measure)
    assert slow >= 0.95 * 500_000 * 8 / 4e6
    assert fast < slow / 2


def test_a_delay_is_changed(mptcp: None) -> None:
    """A byte there and back takes what the path takes now."""

    def measure() -> list[float]:
        taken = []
        with testing.Paths(1, delay=0.0) as paths, connected(paths) as (client, accepted):
            for delay in (0.0, 0.150):
                paths.shape(0, delay=delay)
                begun = time.monotonic()
                exchange(client, accepted, 1)
                taken.append(time.monotonic() - begun)
        return taken

    before, after = testing.in_private_network(measure)
    assert after >= 0.300
    assert before < after


# ------------------------------------------------------------------------------------------------- cuts


@pytest.mark.parametrize("path", [0, 1])
def test_a_cut_loses_no_byte(mptcp: None, family: int, path: int) -> None:
    """Of two paths, the first or the other is cut in the middle of a transfer: all of it comes, in order,
    over the one that is left."""
    data = random.Random(3).randbytes(2 << 20)

    def transfer() -> None:
        with (
            testing.Paths(2, rate=20e6, family=family) as paths,
            connected(paths, family) as (client, accepted),
        ):
            testing.wait_for(client, subflows=2)
            with at_work(client.sendall, data):
                came = receive(accepted, len(data) // 4)
                paths.cut(path)
                came += receive(accepted, len(data) - len(came))
            assert came == data

    testing.in_private_network(transfer)


def test_nothing_passes_a_cut_until_it_is_restored(mptcp: None) -> None:
    """Neither end is told: the connection lives, and what was sent meanwhile comes afterwards."""

    def look() -> None:
        with testing.Paths(1) as paths, connected(paths) as (client, accepted):
            paths.cut(0)
            client.sendall(b"late")
            accepted.settimeout(0.1)
            with pytest.raises(TimeoutError):
                accepted.recv(4)
            until(lambda: mp.snapshot(client).subflows[0].tcp_info.retransmits, "a retransmission")
            assert mp.snapshot(client).live_count == 1
            paths.restore(0)
            accepted.settimeout(DEADLINE / 2)
            assert receive(accepted, 4) == b"late"

    testing.in_private_network(look)


def test_what_is_on_its_way_is_cut_too(mptcp: None) -> None:
    """A datagram that was sent before the cut does not come after it."""

    def look() -> None:
        with testing.Paths(1, delay=0.3) as paths, contextlib.ExitStack() as stack:
            with paths.server:
                server = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            with paths.client:
                client = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            server.bind((paths.server_addresses[0], 0))
            client.sendto(b"before", server.getsockname())
            paths.cut(0)
            paths.restore(0)
            client.sendto(b"after", server.getsockname())
            server.settimeout(DEADLINE / 2)
            assert server.recv(10) == b"after"

    testing.in_private_network(look)


# ----------------------------------------------------------------------------------- wait_for, and words


def test_wait_for_says_what_there_is(mptcp: None) -> None:
    """The snapshot that has as many; a TimeoutError that counts those that are live."""

    def look() -> str:
        with testing.Paths(1) as paths, connected(paths) as (client, _):
            assert testing.wait_for(client, subflows=1).live_count == 1
            with pytest.raises(TimeoutError) as caught:
                testing.wait_for(client, subflows=2, within=0.01)
            return str(caught.value)

    said = testing.in_private_network(look)
    assert said == "expected 2 live subflows, found 1 (status MPTCP) after 0.01 s"


def test_paths_take_privilege() -> None:
    """Outside in_private_network(), whose name is said; and nothing is left open."""

    def look() -> str:
        become_nobody()
        before = os.listdir("/proc/self/fd")
        with pytest.raises(testing.UnavailableError, match="this needs privilege") as caught, testing.Paths():
            pass
        assert os.listdir("/proc/self/fd") == before
        return str(caught.value)

    assert "in_private_network()" in testing.in_child(look)


@pytest.mark.parametrize(
    ("count", "rate", "delay", "words"),
    [
        (0, 1e6, 0, "count must be from 1 to 9, not 0"),
        (10, 1e6, 0, "count must be from 1 to 9, not 10"),
        (1, 0, 0, "rate must be above 0"),
        (1, float("nan"), 0, "rate must be above 0"),
        (1, 1e6, -0.1, "delay must be a finite number of seconds"),
        (1, 1e6, float("inf"), "delay must be a finite number of seconds"),
        (1, 1e6, float("nan"), "delay must be a finite number of seconds"),
    ],
)
def test_numbers_have_bounds(count: int, rate: float, delay: float, words: str) -> None:
    """When the paths are made, not when they are entered."""
    with pytest.raises(ValueError, match=words):
        testing.Paths(count, rate=rate, delay=delay)


def test_a_bad_shape_changes_nothing(mptcp: None) -> None:
    """Nor does a path that there is not."""

    def look() -> None:
        with testing.Paths(1) as paths, connected(paths) as ends:
            with pytest.raises(ValueError, match="rate must be above 0"):
                paths.shape(0, rate=-1)
            with pytest.raises(IndexError):
                paths.cut(1)
            exchange(*ends)

    testing.in_private_network(look)


# --------------------------------------------------------------------------------------- what is left behind


def processes_below() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_nothing_is_left(mptcp: None) -> None:
    """No descriptor, no process, no interface, however the block is left; and the next paths are as good."""

    def look() -> None:
        before = sorted(os.listdir("/proc/self/fd")), processes_below(), socket.if_nameindex()
        for _ in range(2):
            with contextlib.suppress(ZeroDivisionError), testing.Paths(2) as paths:
                with connected(paths) as ends:
                    exchange(*ends)
                assert len(processes_below()) == 1
                _ = 1 / 0
            assert (sorted(os.listdir("/proc/self/fd")), processes_below(), socket.if_nameindex()) == before

    testing.in_private_network(look)


def test_a_wire_that_is_killed_is_named(mptcp: None) -> None:
    """By the next call that is about a path: no call hangs."""

    def look() -> None:
        with testing.Paths(1) as paths:
            (guard,) = processes_below()
            (wire,) = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
            os.kill(int(wire), 9)
            with pytest.raises(testing.ChildDiedError, match="killed by SIGKILL"):
                paths.cut(0)

    testing.in_private_network(look)


# ------------------------------------------------------------------------------------------------ many


def retransmitted() -> int:
    """Segments that TCP sent again, in the network of this thread."""
    lines = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
    names, values = [line for line in lines if line[0] == "Tcp:"]
    return int(values[names.index("RetransSegs")])


def connect_at(paths: testing.Paths, server: socket.socket, mptcp: bool, rate: int) -> int:
    """Open loop, for a second: that many connections a second, closed when open. How many came open."""
    address = paths.server_addresses[0], server.getsockname()[1]
    start, opened, begun = time.monotonic(), 0, 0
    with paths.client, selectors.DefaultSelector() as waiting:
        while opened < rate and time.monotonic() < start + DEADLINE / 2:
            while begun < rate and time.monotonic() >= start + begun / rate:
                sock = mp.create_socket(fallback=False) if mptcp else socket.socket()
                sock.setblocking(False)
                sock.connect_ex(address)
                waiting.register(sock, selectors.EVENT_WRITE, sock)
                begun += 1
            for key, _ in waiting.select(0.001):
                waiting.unregister(key.fileobj)
                with key.data as sock:
                    opened += not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return opened


@pytest.mark.parametrize("mptcp_too", [False, True], ids=["TCP", "MPTCP"])
def test_nothing_is_lost_at_500_connections_a_second(mptcp: None, mptcp_too: bool) -> None:
    """All come open, and neither end has anything to send again.

    Unless the wire had to wait for a CPU until their patience was over: one of five loads has to do without.
    """

    def load() -> list[int]:
        with testing.Paths(1, delay=0.040) as paths, listen(paths, socket.AF_INET, mptcp=mptcp_too) as server:
            server.listen(500)
            with testing.Child(lambda: connect_at(paths, server, mptcp_too, 500)) as client:
                server.settimeout(DEADLINE)
                for _ in range(500):
                    server.accept()[0].close()
                seen = [client.result(DEADLINE)]
            for network in (paths.client, paths.server):
                with network:
                    seen.append(retransmitted())
            return seen

    seen = []
    for _ in range(5):
        seen.append(testing.in_private_network(load))
        assert seen[-1][0] == 500
        if seen[-1] == [500, 0, 0]:
            return
    pytest.fail(f"opened, sent again by the client, by the server: {seen}")
