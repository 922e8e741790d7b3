# SPDX-License-Identifier: MIT
"""What a Tracker says when another connection took the place of one, falls back, or enters it again."""

from __future__ import annotations

import copy
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _tracker, testing

from .life import full_window
from .support import (
    DEADLINE,
    LOOPBACK,
    at_work,
    exchange,
    mptcp_pair,
    reset,
    until,
    where_refused,
)
from .test_older_kernels import FULL_INFO
from .test_tracker import NONE, Pair, carry, deltas, of_connection
from .test_tracker_events import disconnect

Status = mp.Status


# ----------------------------------------------------------- another connection in its place, on this kernel


def test_a_fastclose_hides_no_other_connection(family: int) -> None:
    """Disconnected, connected again, more carried, reset by the peer: no token is left to tell."""

    def look() -> None:
        with mptcp_pair(family) as (client, accepted):
            carry(client, accepted, 50)
            tracker = mp.Tracker(client)
            first = tracker.update()
            disconnect(client)
            address = (LOOPBACK[socket.AddressFamily(family)], 0)
            with mp.create_server(address, family=family, fallback=False) as server:
                client.connect(server.getsockname())
                other, _ = server.accept()
                exchange(client, other, 3000)
                reset(other, client)
                until(lambda: mp.mptcp_info(client).token == 0, "the fastclose")
                update = tracker.update()
                assert (update.continues, deltas(update), update.added) == (False, NONE, ())
                assert update.removed == tracker.gone == first.snapshot.subflows
                again = tracker.update()
                assert deltas(again) == of_connection(client, 0, 0, 0, 0)

    look()
    where_refused([FULL_INFO], look)


class OnePort:
    """A client that connects again and again, from the same port to the same port."""

    def __init__(self, family: int, make: Callable[[int], socket.socket]) -> None:
        host = LOOPBACK[socket.AddressFamily(family)]
        self.make, self.family = make, family
        self.server = socket.create_server((host, 0), family=family)
        with socket.socket(self.server.family) as free:
            free.bind((host, 0))
            self.address = free.getsockname()
        self.client = self.bound()
        self.connect()

    def bound(self) -> socket.socket:
        sock = self.make(self.family)
        sock.settimeout(5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(self.address)
        return sock

    def connect(self) -> None:
        self.client.connect(self.server.getsockname())
        self.peer, _ = self.server.accept()

    def carry(self, there: int, back: int) -> None:
        carry(self.client, self.peer, there)
        carry(self.peer, self.client, back)

    def end(self) -> None:
        reset(self.peer, self.client)
        disconnect(self.client)

    def age(self) -> int:
        """Of what the client did last, in ms."""
        tcp_info = mp.snapshot(self.client).subflows[0].tcp_info
        return min(tcp_info.last_data_sent, tcp_info.last_data_recv, tcp_info.last_ack_recv)


def tcp(family: int) -> socket.socket:
    return socket.socket(socket.AddressFamily(family))


def fallen(family: int) -> socket.socket:
    return mp.create_socket(family, fallback=False)


@pytest.fixture(params=[tcp, fallen], ids=["tcp", "fallback"])
def one_port(family: int, request: pytest.FixtureRequest) -> Iterator[OnePort]:
    ends = OnePort(family, request.param)
    with ends.server:
        yield ends
        ends.client.close()
        ends.peer.close()


def check_replaced(ends: OnePort, tracker: mp.Tracker, before: mp.Update) -> None:
    update = tracker.update()
    assert ends.client.getsockname() == ends.address
    assert (update.continues, deltas(update), update.rate("bytes_sent")) == (False, NONE, None)
    assert update.removed == before.snapshot.subflows == tracker.gone
    assert update.added == update.snapshot.subflows
    assert [deltas(path) for path in update.subflows] == [NONE]
    assert update.fell_back == (update.status is Status.FALLBACK)
    ends.carry(7, 3)
    update = tracker.update()
    assert (update.continues, deltas(update), update.fell_back) == (True, (7, 7, 3, 0), False)


@pytest.mark.parametrize("more", [(900, 1), (1, 900), (0, 0)])
def test_a_socket_that_connects_again_by_the_same_ports(one_port: OnePort, more: tuple[int, int]) -> None:
    """A counter that is smaller tells."""
    one_port.carry(500, 300)
    tracker = mp.Tracker(one_port.client)
    before = tracker.update()
    one_port.end()
    one_port.connect()
    if any(more):
        one_port.carry(*more)
    check_replaced(one_port, tracker, before)


@pytest.mark.parametrize("seen_idle", [True, False], ids=["seen_idle", "seen_before"])
@pytest.mark.parametrize("what", [(500, 300), (900, 0), (0, 900), (0, 0)])
def test_the_same_again_by_the_same_ports(one_port: OnePort, what: tuple[int, int], seen_idle: bool) -> None:
    """Where a counter is equal, the age of what it counts tells; nothing received is nothing twice."""

    def talk() -> None:
        for sender, size in zip((one_port.client, one_port.peer), what, strict=True):
            other = one_port.peer if sender is one_port.client else one_port.client
            if size:
                carry(sender, other, size)

    talk()
    tracker = mp.Tracker(one_port.client)
    before = tracker.update()
    until(lambda: one_port.age() > 200, "the connection to be idle")
    if seen_idle:
        tracker = mp.Tracker(one_port.client)
        before = tracker.update()
    one_port.end()
    one_port.connect()
    talk()
    check_replaced(one_port, tracker, before)


def test_what_cannot_be_told(one_port: OnePort) -> None:
    """More of everything at once, by the same socket and ports: every answer is one connection's."""
    one_port.carry(500, 300)
    tracker = mp.Tracker(one_port.client)
    tracker.update()
    one_port.end()
    one_port.connect()
    one_port.carry(5, 3)
    one_port.carry(600, 400)
    one_port.carry(1, 1)
    update = tracker.update()
    if update.continues:  # by luck busy_time may tell
        assert (update.bytes_sent, update.bytes_received) == (106, 104)
    assert all(delta is None or delta >= 0 for delta in deltas(update))


def test_another_socket_by_the_same_ports(one_port: OnePort) -> None:
    """Under the same number: its counters may be larger, it is another one."""
    number = os.dup(one_port.client.fileno())
    try:
        one_port.carry(5, 3)
        tracker = mp.Tracker(number)
        before = tracker.update()
        reset(one_port.peer, one_port.client)
        one_port.client.close()
        one_port.client = one_port.bound()
        one_port.connect()
        os.dup2(one_port.client.fileno(), number)
        one_port.carry(5, 3)
        one_port.carry(600, 400)
        check_replaced(one_port, tracker, before)
    finally:
        os.close(number)


def test_an_idle_connection_goes_on(one_port: OnePort) -> None:
    """Nothing moves but its ages; then one side speaks, then the other."""
    one_port.carry(5, 3)
    tracker = mp.Tracker(one_port.client)
    tracker.update()
    until(lambda: one_port.age() > 200, "the connection to be idle")
    assert deltas(tracker.update()) == (0, 0, 0, 0)
    carry(one_port.client, one_port.peer, 9)
    assert deltas(tracker.update()) == (9, 9, 0, 0)
    until(lambda: one_port.age() > 100, "the connection to be idle")
    carry(one_port.peer, one_port.client, 8)
    assert deltas(tracker.update()) == (0, 0, 8, 0)
    one_port.peer.close()
    until(lambda: mp.snapshot(one_port.client).subflows[0].tcp_info.state == 8, "the peer's FIN")
    assert deltas(tracker.update()) == (0, 0, 1, 0)


# ------------------------------------------------------------------------------------------- the fallback


def test_each_fallback_is_told_once(family: int, mptcp: None) -> None:
    """At the first update if it was in the handshake, and again in the socket's next connection."""
    one_port = OnePort(family, fallen)
    with one_port.server, one_port.client:
        for _ in range(2):
            late = mp.Tracker(one_port.client)
            assert [late.update().fell_back for _ in range(3)] == [True, False, False]
        tracker = mp.Tracker(one_port.client)
        one_port.carry(50, 30)
        assert tracker.update().fell_back
        one_port.end()
        one_port.connect()
        one_port.carry(1, 1)
        assert [tracker.update().fell_back for _ in range(2)] == [True, False]
        one_port.peer.close()
        one_port.client.shutdown(socket.SHUT_RDWR)
        until(lambda: mp.snapshot(one_port.client).subflows[0].tcp_info.state == 7, "the end")
        ended = [tracker.update() for _ in range(2)]
        assert [update.status for update in ended] == [Status.FALLBACK] * 2
        assert [update.fell_back for update in ended] == [False] * 2
        disconnect(one_port.client)
        assert tracker.update().status is Status.UNCONNECTED
        one_port.connect()
        assert [tracker.update().fell_back for _ in range(2)] == [True, False]
        one_port.peer.close()


def test_a_fallback_that_has_ended_and_still_sends_goes_on(family: int, mptcp: None) -> None:
    """With the second FIN the MPTCP socket is closed and names no peer, while TCP delivers what waits."""
    one_port = OnePort(family, fallen)
    with one_port.server, one_port.client, one_port.peer:
        client, peer = one_port.client, one_port.peer
        tracker = mp.Tracker(client)
        assert tracker.update().fell_back
        full_window(client)
        peer.shutdown(socket.SHUT_WR)
        client.setblocking(True)
        assert client.recv(1) == b""
        client.shutdown(socket.SHUT_WR)

        def named() -> bool:
            peer.recv(65536)
            update = tracker.update()
            assert (update.continues, update.fell_back) == (True, False)
            assert None not in deltas(update)
            peer_seen = update.snapshot.subflows[0].remote
            return peer_seen is not None and peer_seen[1] != 0

        until(lambda: not named(), "the kernel to name no peer")
        while peer.recv(65536):
            pass
        until(lambda: mp.snapshot(client).subflows[0].tcp_info.state == 7, "the end")
        assert not named()


def test_a_fallback_under_the_number_of_another(family: int, mptcp: None) -> None:
    """Is that socket's own."""
    one, other = OnePort(family, fallen), OnePort(family, fallen)
    with one.server, one.client, other.server, other.client, one.peer, other.peer:
        number = os.dup(one.client.fileno())
        tracker = mp.Tracker(number)
        assert tracker.update().fell_back
        os.dup2(other.client.fileno(), number)
        assert [tracker.update().fell_back for _ in range(2)] == [True, False]
        os.close(number)


def test_plain_tcp_did_not_fall_back(tcp_ends: Pair) -> None:
    """It never spoke anything else."""
    for end in tcp_ends:
        tracker = mp.Tracker(end)
        assert [tracker.update().fell_back for _ in range(2)] == [False, False]


# --------------------------------------------------------------------------- in the middle of an update


def test_an_update_in_the_middle_of_an_update(mptcp_ends: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused, changes nothing, and the outer one is right. A copy made there is free."""
    client, accepted = mptcp_ends
    exchange(client, accepted)
    tracker = mp.Tracker(client)
    tracker.update()
    carry(client, accepted, 30)
    copies = []

    def interrupted(sock: object) -> mp.Snapshot:
        shot = mp.snapshot(client)
        carry(client, accepted, 12)
        with pytest.raises(RuntimeError, match="in the middle of an update"):
            tracker.update()
        copies.append(copy.copy(tracker))
        return shot

    with monkeypatch.context() as patch:
        patch.setattr(_tracker, "snapshot", interrupted)
        update = tracker.update()
    assert deltas(update) == of_connection(client, 30, 30, 0, 0)
    assert deltas(tracker.update()) == of_connection(client, 12, 12, 0, 0)
    assert deltas(copies[0].update()) == of_connection(client, 42, 42, 0, 0)
    client.close()
    for _ in range(2):  # a failure frees it as well
        with pytest.raises(ValueError, match="closed"):
            tracker.update()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # with threads: that is the point
def test_a_child_of_a_fork_in_the_middle_of_an_update_can_update(mptcp_ends: Pair) -> None:
    """The update of the parent's other thread never ends in the child, which need not wait for it."""
    client, accepted = mptcp_ends
    reached, done = threading.Event(), threading.Event()

    class Slow:
        """Holds the second update up, in this process."""

        asked = 0

        def fileno(self) -> int:
            self.asked += 1
            if self.asked == 3:  # once at the start, once in each update
                reached.set()
                assert done.wait(DEADLINE)
            return client.fileno()

    tracker = mp.Tracker(Slow())
    tracker.update()
    carry(client, accepted, 30)
    with at_work(tracker.update):
        try:
            assert reached.wait(DEADLINE)
            assert testing.in_child(lambda: deltas(tracker.update())) == of_connection(client, 30, 30, 0, 0)
        finally:
            done.set()


def test_updates_by_a_signal_handler_add_up(mptcp: None) -> None:
    """Whichever of the two took it: each byte is in one update, and no delta is negative."""

    def look() -> None:
        with mptcp_pair(socket.AF_INET) as (client, accepted):
            exchange(client, accepted)
            tracker = mp.Tracker(client)
            seen: list[mp.Update] = []
            refused: list[int] = []
            begin = mp.mptcp_info(client).snd_una
            tracker.update()

            def handle(*_: object) -> None:
                try:
                    seen.append(tracker.update())
                except RuntimeError:
                    refused.append(1)
                signal.setitimer(signal.ITIMER_REAL, 0.0007)  # from now: others get a turn on slow machines

            signal.signal(signal.SIGALRM, handle)
            signal.setitimer(signal.ITIMER_REAL, 0.0007)
            deadline = time.monotonic() + 10
            while not refused and time.monotonic() < deadline:
                seen.append(tracker.update())
            assert refused
            for _ in range(100):
                client.sendall(b"x" * 77)
                left = 77
                while left:
                    left -= len(accepted.recv(left))
                seen.append(tracker.update())
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            until(lambda: mp.mptcp_info(client).snd_una == (begin + 7700) % 2**64, "the DATA_ACK")
            seen.append(tracker.update())
            assert all(update.continues for update in seen)
            assert min(update.bytes_acked or 0 for update in seen) >= 0
            assert min(update.elapsed or 0 for update in seen) >= 0
            assert sum(update.bytes_acked or 0 for update in seen) == 7700

    testing.in_child(look)
