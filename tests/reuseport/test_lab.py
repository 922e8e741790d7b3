# SPDX-License-Identifier: MIT
"""Network namespaces, and the wire."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.cli import CannotRun
from reuseport import _lab, _net

from ..support import DEADLINE, Missing, needs
from .test_children import alive, leave_a_daemon, sleep_for_ever, two_pids

T = TypeVar("T")
SECONDS = DEADLINE


def in_a_namespace(function: Callable[[], T], uid: int | None = None) -> T:
    """Call function in a child, in a private network namespace; if uid says, as that user (or as one who is
    not root either)."""

    def there() -> T:
        if uid is not None and os.geteuid() == 0:
            become(uid)
        try:
            _lab.enter_private_network()
        except CannotRun as cannot:
            raise Missing(str(cannot)) from cannot
        return function()

    return _lab.in_child(there, seconds=SECONDS)


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    dumpable = 4  # cleared by the change; without it /proc/self is root's. execve(2) sets it again.
    ctypes.CDLL(None).prctl(dumpable, 1)


# ------------------------------------------------------------------------------------------- namespaces


def loopback_and_ports() -> tuple[str, list[str]]:
    with _net.listen(("127.0.0.1", 0)) as server, _net.open_socket(socket.AF_INET, mptcp=False) as client:
        client.settimeout(DEADLINE)
        client.connect(server.getsockname())
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return os.readlink("/proc/self/ns/net"), ports


@pytest.mark.parametrize("uid", [None, 65534], ids=["self", "nobody"])
def test_a_private_network_has_a_loopback_and_all_ports(uid: int | None) -> None:
    """And is another than the caller's; without privilege too."""
    name, ports = in_a_namespace(loopback_and_ports, uid)
    assert name != os.readlink("/proc/self/ns/net")
    assert ports == ["1024", "65535"]


def test_a_refused_namespace_is_named() -> None:
    """CannotRun, and the switch that refuses."""

    def exhaust() -> None:
        Path("/proc/sys/user/max_net_namespaces").write_text("0")
        _lab.enter_private_network()

    def in_a_user_namespace() -> None:
        _lab._enter_as_root_of_a_new_user_namespace()
        exhaust()

    try:
        words = r"private network namespace.*No space left on device, with user\.max_net_namespaces=0$"
        with pytest.raises(CannotRun, match=words):
            _lab.in_child(in_a_user_namespace, seconds=SECONDS)
    except PermissionError as error:
        raise Missing(f"user namespaces: {error}") from error


# --------------------------------------------------------------------------------------------- the wire


SLACK = 0.020  # seconds: far less than a second round trip


def seconds_to_connect(address: tuple[str, int], family: int, mptcp: bool, rtt: float) -> list[float]:
    """Of connections that are really MPTCP, or really TCP: five, and more until one took the round trip and
    little else. A busy machine delays many of them, but not all."""
    taken: list[float] = []
    deadline = time.monotonic() + 15
    while len(taken) < 5 or (min(taken) > rtt + SLACK and time.monotonic() < deadline):
        with _net.open_socket(family, mptcp=mptcp) as sock:
            sock.settimeout(DEADLINE)
            start = time.monotonic()
            sock.connect(address)
            taken.append(time.monotonic() - start)
            assert mp.status(sock) is (mp.Status.MPTCP if mptcp else mp.Status.TCP)
    return taken


@pytest.mark.parametrize("rtt", [0.0, 0.080])
@pytest.mark.parametrize("is_mptcp", [False, True], ids=["TCP", "MPTCP"])
def test_a_handshake_takes_the_round_trip_time(family: int, is_mptcp: bool, rtt: float) -> None:
    """Never less, and at its best little more."""
    needs("ip", "iproute2")

    def measure() -> list[float]:
        with (
            _lab.Wire(rtt=rtt, family=family) as wire,
            _net.listen((wire.server_address, 0), family=family, mptcp=is_mptcp) as server,
        ):
            address = _net.name(server)
            return wire.run_in_client(
                lambda: seconds_to_connect(address, family, is_mptcp, rtt), seconds=SECONDS
            )

    taken = in_a_namespace(measure)
    assert rtt <= min(taken) <= rtt + SLACK


def test_nobody_has_a_wire() -> None:
    """In a user namespace; the handshake takes its time there too."""
    needs("ip", "iproute2")

    def measure() -> list[float]:
        with _lab.Wire(rtt=0.080) as wire, _net.listen((wire.server_address, 0)) as server:
            address = _net.name(server)
            return wire.run_in_client(
                lambda: seconds_to_connect(address, socket.AF_INET, False, 0.080), seconds=SECONDS
            )

    assert 0.080 <= min(in_a_namespace(measure, uid=65534)) <= 0.080 + SLACK


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (more := sock.recv(1 << 20)):
        data += more
    return bytes(data)


@pytest.mark.parametrize("is_mptcp", [False, True], ids=["TCP", "MPTCP"])
def test_bulk_passes_intact_both_ways(family: int, is_mptcp: bool) -> None:
    """4 MB each way, in frames larger than the MTU where the kernel leaves them to be segmented later."""
    needs("ip", "iproute2")
    there, back = random.Random(1).randbytes(4 << 20), random.Random(2).randbytes(4 << 20)

    def client(address: tuple[str, int]) -> bool:
        with _net.open_socket(family, mptcp=is_mptcp) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(address)
            sock.sendall(there)
            return receive(sock, len(back)) == back

    def transfer() -> tuple[bool, bool]:
        with (
            _lab.Wire(rtt=0.002, family=family) as wire,
            _net.listen((wire.server_address, 0), family=family, mptcp=is_mptcp) as server,
        ):
            address = _net.name(server)
            end = wire.start_in_client(lambda: client(address))
            server.settimeout(DEADLINE)
            sock, peer = server.accept()
            with sock:
                assert peer[0] == wire.client_address
                sock.settimeout(DEADLINE)
                intact = receive(sock, len(there)) == there
                sock.sendall(back)
                return intact, end.result(SECONDS)

    assert in_a_namespace(transfer) == (True, True)


def retransmitted() -> int:
    """Segments that this namespace's TCP sent again."""
    names, values = [
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if "Tcp:" in line
    ]
    return int(values[names.index("RetransSegs")])


def connect_at(address: tuple[str, int], mptcp: bool, rate: int, seconds: float) -> tuple[int, int]:
    """Open loop: that many connections a second, closed when open. How many came open; retransmissions."""
    start, opened, begun = time.monotonic(), 0, 0
    total = int(rate * seconds)
    with selectors.DefaultSelector() as waiting:
        while opened < total and time.monotonic() < start + DEADLINE / 2:
            while begun < total and time.monotonic() >= start + begun / rate:
                sock = _net.open_socket(socket.AF_INET, mptcp=mptcp)
                sock.setblocking(False)
                sock.connect_ex(address)
                waiting.register(sock, selectors.EVENT_WRITE, sock)
                begun += 1
            for key, _ in waiting.select(0.001):
                waiting.unregister(key.fileobj)
                with key.data as sock:
                    opened += not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return opened, retransmitted()


@pytest.mark.parametrize("is_mptcp", [False, True], ids=["TCP", "MPTCP"])
def test_the_wire_loses_nothing_at_500_connections_a_second(is_mptcp: bool) -> None:
    """All come open, and neither end has anything to send again.

    Unless the wire had to wait for a CPU until their patience was over: one of five loads has to do without.
    """
    needs("ip", "iproute2")

    def load() -> tuple[int, int, int]:
        with (
            _lab.Wire(rtt=0.080) as wire,
            _net.listen((wire.server_address, 0), mptcp=is_mptcp) as server,
        ):
            address = _net.name(server)
            client = wire.start_in_client(lambda: connect_at(address, is_mptcp, 500, 1.0))
            server.settimeout(DEADLINE)
            for _ in range(500):
                server.accept()[0].close()
            opened, again = client.result(SECONDS)
            return opened, again, retransmitted()

    seen = []
    for _ in range(5):
        seen.append(in_a_namespace(load))
        assert seen[-1][0] == 500
        if seen[-1] == (500, 0, 0):
            return
    pytest.fail(f"opened, sent again by the client, by the server: {seen}")


def test_a_wire_leaves_nothing() -> None:
    """No interface, no descriptor, no process, also when its block is left by an exception; and the next
    one, of the other family, works."""
    needs("ip", "iproute2")

    def two_wires() -> tuple[list[str], bool, list[bool]]:
        before = sorted(os.listdir("/proc/self/fd"))
        inward, outward = os.pipe()
        with contextlib.suppress(ZeroDivisionError), _lab.Wire(rtt=0.0) as wire:
            wire.start_in_client(lambda: leave_a_daemon(outward))
            pids = two_pids(inward)
            _ = 1 / 0
        os.close(inward)
        os.close(outward)
        interfaces = [name for _, name in socket.if_nameindex()]
        with _lab.Wire(rtt=0.0, family=socket.AF_INET6) as wire:
            client = wire.run_in_client(lambda: sorted(n for _, n in socket.if_nameindex()), seconds=SECONDS)
            assert client == ["lab0", "lo"]
        return interfaces, before == sorted(os.listdir("/proc/self/fd")), [alive(pid) for pid in pids]

    assert in_a_namespace(two_wires) == (["lo"], True, [False, False])


def test_clients_hold_no_listener_of_the_server() -> None:
    """A listener that is closed while a client runs is closed: the next connection is refused."""
    needs("ip", "iproute2")

    def refused() -> int:
        inward, outward = os.pipe()
        with _lab.Wire(rtt=0.0) as wire, socket.create_server((wire.server_address, 0)) as server:
            address = server.getsockname()
            with wire.start_in_client(lambda: sleep_for_ever(outward)):
                os.read(inward, 100)
                server.close()
                with socket.socket() as sock:
                    sock.settimeout(DEADLINE)
                    return sock.connect_ex(address)

    assert in_a_namespace(refused) == errno.ECONNREFUSED


def test_a_wire_needs_a_namespace_of_its_own() -> None:
    """It is not built in the network of the caller's caller."""
    with pytest.raises(RuntimeError, match="enter_private_network"), _lab.Wire(rtt=0.0):
        pass


def test_a_wire_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program ip."""
    monkeypatch.setenv("PATH", "/nonexistent")

    def build() -> None:
        with _lab.Wire(rtt=0.0):
            pass

    with pytest.raises(CannotRun, match="iproute2"):
        in_a_namespace(build)


@pytest.mark.parametrize("rtt", [-0.001, float("nan"), float("inf")])
def test_a_round_trip_time_is_a_time(rtt: float) -> None:
    """Finite, and not negative."""
    with pytest.raises(ValueError, match="round-trip"):
        _lab.Wire(rtt=rtt)
