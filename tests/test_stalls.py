# SPDX-License-Identifier: MIT
"""Trouble on real paths: one that is cut under load, sound ones that must not be blamed, data sent again."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .boxes import Box, renumber, strip
from .causes import network
from .support import DEADLINE, at_work, exchange, rounds, until

Ends = tuple[socket.socket, socket.socket]
MESSAGE = b"m" * 200
LEAST = 200  # ms
POLLS, POLL = rounds(2000), 0.010


@contextlib.contextmanager
def connected(paths: testing.Paths, count: int) -> Iterator[Ends]:
    """The client's end and the server's, once both have a subflow on each path."""
    with paths.server, mp.create_server(("0.0.0.0", 0), fallback=False) as server:
        with paths.client:
            client = mp.create_socket(fallback=False)
        client.settimeout(DEADLINE / 2)
        client.connect((paths.server_addresses[0], server.getsockname()[1]))
        accepted, _ = server.accept()
        with client, accepted:
            accepted.settimeout(DEADLINE / 2)
            exchange(client, accepted)
            for end in (client, accepted):
                testing.wait_for(end, subflows=count)
            yield client, accepted


@contextlib.contextmanager
def sending(
    client: socket.socket, accepted: socket.socket, *, reads: bool = True, pause: float = 0
) -> Iterator[None]:
    """The client sends, as much as it can or a message at each pause; the other side reads, or does not."""
    over = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(pause):
                client.sendall(MESSAGE if pause else bytes(1 << 16))

    def receive() -> None:
        with contextlib.suppress(OSError):
            while accepted.recv(1 << 16):
                pass

    with at_work(send), at_work(receive) if reads else contextlib.nullcontext():
        try:
            yield
        finally:
            over.set()
            for end in (client, accepted):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            if not reads:
                accepted.close()  # with unread data: a reset, which ends send()


def deltas(update: mp.Update, paths: testing.Paths) -> list[mp.SubflowDelta]:
    """Of each path, in order."""
    by_address = {delta.subflow.local[0]: delta for delta in update.subflows if delta.subflow.local}
    return [by_address[address] for address in paths.client_addresses]


# --------------------------------------------------------------------------------------------- that stalled


def test_a_path_that_is_cut_under_load(mptcp: None) -> None:
    """It is told, the other is not; once restored, it is sound again."""

    def look() -> None:
        stalled: list[bool | None] = []

        def after_update() -> list[bool | None]:
            found = deltas(tracker.update(), paths)
            assert not any(delta.standing for delta in found if delta.bytes_acked)
            stalled[:] = [delta.stalled for delta in found]
            return stalled

        with (
            testing.Paths(2, rate=20e6, delay=0.005) as paths,
            connected(paths, 2) as (client, accepted),
            sending(client, accepted),
        ):
            tracker = mp.Tracker(client)
            until(lambda: after_update() == [False, False], "data on both paths")
            paths.cut(1)
            until(lambda: after_update()[1], "a path that stalled")
            assert not stalled[0]
            paths.restore(1)
            until(lambda: after_update()[1] is False, "a sound path")

    testing.in_private_network(look)


def test_an_idle_path_that_is_cut_shows_nothing(mptcp: None) -> None:
    """Neither at once nor later: there is nothing to acknowledge."""

    def look() -> None:
        with testing.Paths(1) as paths, connected(paths, 1) as (client, accepted):
            tracker = mp.Tracker(client)
            until(lambda: not tracker.update().subflows[0].subflow.tcp_info.unacked, "an acknowledgement")
            paths.cut(0)
            for _ in range(3):
                (delta,) = tracker.update().subflows
                assert (delta.stalled, delta.standing) == (None, 0)
            accepted.sendall(MESSAGE)  # the receiver of what does not arrive sees nothing either
            assert tracker.update().subflows[0].stalled is None

    testing.in_private_network(look)


def test_the_time_that_a_path_stands_still_is_added_up(mptcp: None) -> None:
    """From the last ACK, or since data was sent, over all updates that follow; progress ends it."""

    def look() -> None:
        with testing.Paths(1) as paths, connected(paths, 1) as (client, accepted):
            tracker = mp.Tracker(client)
            until(lambda: not tracker.update().subflows[0].subflow.tcp_info.unacked, "an acknowledgement")
            paths.cut(0)
            until(lambda: mp.snapshot(client).subflows[0].tcp_info.last_ack_recv > 40, "some time")
            client.sendall(MESSAGE)
            until(lambda: mp.snapshot(client).subflows[0].tcp_info.last_data_sent > 20, "some time")
            (delta,) = tracker.update().subflows
            assert delta.standing == 0
            waited = delta.subflow.tcp_info.last_ack_recv, delta.subflow.tcp_info.last_data_sent
            total = min(waited) * 1_000_000
            for _ in range(5):
                update = tracker.update()
                assert update.elapsed
                total += update.elapsed
                assert update.subflows[0].standing == total
            paths.restore(0)
            accepted.recv(len(MESSAGE))
            until(lambda: tracker.update().subflows[0].standing == 0, "an acknowledgement")

    testing.in_private_network(look)


@pytest.mark.slow
@pytest.mark.parametrize("interval", [0.02, 0.1, 1.0])
@pytest.mark.parametrize(("count", "delay"), [(2, 0.010), (1, 0.010), (2, 0.300)])
def test_a_cut_is_told_in_time(interval: float, count: int, delay: float, mptcp: None) -> None:
    """max(200 ms, 2 rtt) and 1.5 intervals after it, while this side sends."""

    def look() -> tuple[float, float]:
        with (
            testing.Paths(count, rate=40e6, delay=delay) as paths,
            connected(paths, count) as (client, accepted),
            sending(client, accepted),
        ):
            tracker, end = mp.Tracker(client), time.monotonic() + 2
            while time.monotonic() < end:
                assert not any(delta.stalled for delta in tracker.update().subflows)
                time.sleep(interval)
            paths.cut(count - 1)
            cut, longest, before, found = time.monotonic(), 0.0, time.monotonic(), None
            while found is None or not found.stalled:
                time.sleep(interval)
                found = deltas(tracker.update(), paths)[-1]
                now = time.monotonic()
                longest, before = max(longest, now - before), now
            allowed = max(LEAST, 2 * found.subflow.tcp_info.rtt / 1000) / 1000 + 1.5 * longest
            return before - cut, allowed

    took, allowed = testing.in_private_network(look, within=200)
    print(f"interval {interval}, {count} paths, delay {delay}: {took:.3f} s of {allowed:.3f} s")
    assert took <= allowed


# ----------------------------------------------------------------------------------------- that are sound


class Lossy:
    """One frame of a hundred is lost."""

    def __call__(self, frame: bytes, to_server: bool) -> bytes | None:
        return None if random.random() < 0.01 else frame


def blamed(
    paths: testing.Paths,
    count: int,
    polls: int,
    load: Callable[[socket.socket, socket.socket], contextlib.AbstractContextManager[None]],
) -> tuple[int, int]:
    """In how many of that many updates a path was stalled, and in how many data was sent again."""
    with connected(paths, count) as (client, accepted), load(client, accepted):
        tracker, stalled, resending = mp.Tracker(client), 0, 0
        for _ in range(polls):
            update = tracker.update()
            stalled += any(delta.stalled for delta in update.subflows)
            resending += update.resending
            time.sleep(POLL)
        return stalled, resending


@pytest.mark.slow
@pytest.mark.parametrize("pause", [1.0, 2.0])
@pytest.mark.parametrize("delay", [0.030, 0.300])
def test_a_path_that_pauses_is_sound(pause: float, delay: float, mptcp: None) -> None:
    """Messages of 200 bytes, at round trips of 60 and 600 ms."""

    def look() -> tuple[int, int]:
        with testing.Paths(2, delay=delay) as paths:
            return blamed(paths, 2, POLLS, lambda *ends: sending(*ends, pause=pause))

    assert testing.in_private_network(look, within=200) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "delay"), [(20e6, 0.010), (5e6, 0.030)])
def test_a_path_that_loses_one_in_a_hundred_is_sound(rate: float, delay: float, mptcp: None) -> None:
    """In bulk: bytes_acked may stand still for longer than 200 ms, but ACKs come."""

    def look() -> tuple[int, int]:
        with testing.Paths(2, rate=rate, delay=delay) as paths:

            @contextlib.contextmanager
            def lossy(*ends: socket.socket) -> Iterator[None]:
                for path in range(2):
                    paths.alter(path, Lossy())
                with sending(*ends):
                    yield

            return blamed(paths, 2, POLLS, lossy)

    assert testing.in_private_network(look, within=200) == (0, 0)


@pytest.mark.parametrize("polls", [20, pytest.param(POLLS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [1, 2])
def test_a_peer_that_does_not_read_is_no_stall(count: int, polls: int, mptcp: None) -> None:
    """Nor is data sent again: what is outstanding waits for room."""

    def look() -> tuple[int, int]:
        with testing.Paths(count, rate=40e6, delay=0.010) as paths:
            return blamed(paths, count, polls, lambda *ends: sending(*ends, reads=False))

    assert testing.in_private_network(look, within=200) == (0, 0)


# ------------------------------------------------------------------------------------ that is sent again


def test_data_that_the_peer_drops_is_sent_again_too(mptcp: None) -> None:
    """Where a middlebox changes the sequence numbers of MPTCP: both ends stay MPTCP, and nothing is read."""

    def look() -> None:
        with network("sound", serving=False) as made, made.client:
            client = mp.create_connection(made.address, timeout=DEADLINE / 2, fallback=False)
            accepted, _ = made.listener.accept()
            with client, accepted:
                exchange(client, accepted)
                exchange(client, accepted)
                tracker = mp.Tracker(client)
                made.paths.alter(0, Box(renumber, to_server=True))
                client.sendall(MESSAGE)
                until(lambda: tracker.update().resending, "data sent again")
                assert mp.status(client) is mp.status(accepted) is mp.Status.MPTCP
                accepted.setblocking(False)
                with pytest.raises(BlockingIOError):
                    accepted.recv(1)

    testing.in_private_network(look)


def test_a_receiver_that_fell_back_alone_gets_the_same_bytes_again(mptcp: None) -> None:
    """The sender repeats them without end, and its Tracker says so in every update."""

    def look() -> None:
        with network("sound", serving=False) as made, made.client:
            client = mp.create_connection(made.address, timeout=DEADLINE / 2, fallback=False)
            accepted, _ = made.listener.accept()
            with client, accepted:
                accepted.settimeout(DEADLINE / 2)
                exchange(client, accepted)
                exchange(client, accepted)
                tracker = mp.Tracker(client)
                assert tracker.update().resending is False
                made.paths.alter(0, Box(strip, to_server=True))
                client.sendall(MESSAGE)
                until(lambda: tracker.update().resending, "data sent again")
                again = mp.mptcp_info(client).bytes_retrans
                while mp.mptcp_info(client).bytes_retrans == again:
                    update = tracker.update()
                    assert update.resending
                    assert not any(delta.stalled for delta in update.subflows)
                received = bytearray()
                while len(received) < 3 * len(MESSAGE):
                    received += accepted.recv(1 << 16)
                assert mp.status(accepted) is mp.Status.FALLBACK
                assert mp.status(client) is mp.Status.MPTCP
                # An answer without the option comes too late for a fallback: the sender resets its only path.
                accepted.sendall(MESSAGE)
                until(lambda: mp.status(client) is mp.Status.CLOSED, "a reset")
                assert tracker.update().resending is False
                with pytest.raises(ConnectionResetError):
                    until(lambda: not accepted.recv(1 << 16), "a reset")

    testing.in_private_network(look)
