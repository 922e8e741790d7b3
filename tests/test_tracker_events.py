# SPDX-License-Identifier: MIT
"""What a Tracker says when subflows come and go, when connections end, begin and fall back."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _tracker, testing
from mptcp_sockopt._border import packets

from .support import LOOPBACK, exchange, in_private_network, mptcp_pair, reset, until, where_refused
from .test_older_kernels import FULL_INFO
from .test_subflows import paths
from .test_tracker import NONE, Pair, carry, deltas, initial_id, of_connection, older, trackers

Status = mp.Status


@pytest.fixture(params=[False, True], ids=["full_info", "before_6_5"])
def where(request: pytest.FixtureRequest) -> Callable[[Callable[[], None]], None]:
    """In a private network: with MPTCP_FULL_INFO, and where the kernel refuses it."""

    def inside(function: Callable[[], None]) -> None:
        in_private_network(lambda: where_refused([FULL_INFO], function) if request.param else function())

    return inside


def test_subflows_come_and_go(family: int, where: Callable[[Callable[[], None]], None]) -> None:
    """Added and removed once each, with their last counters, at both ends, whatever they are known by."""

    def look() -> None:
        with paths(socket.AddressFamily(family), 3) as (client, accepted):
            host = client.getsockname()[0]
            mine, theirs = trackers_of_three(client, accepted)

            # An additional one: no longer listed.
            going = mine.update().snapshot.subflows[1]
            assert going.local is not None
            testing.delete_endpoint(1)
            until(lambda: mp.snapshot(client).live_count == 2, "a subflow to go")
            update = mine.update()
            assert (update.added, update.removed, mine.gone) == ((), (going,), (going,))
            assert going not in update.snapshot.subflows
            assert len(update.subflows) == 2
            until(lambda: mp.snapshot(accepted).live_count == 2, "the server to see it")
            assert [path.remote for path in theirs.update().removed] == [going.local]

            # The initial one: listed on, with counters that went on until its FIN.
            initial = update.snapshot.subflows[0]
            carry(client, accepted, 1000)
            testing.delete_initial_address(host)
            until(lambda: mp.snapshot(client).live_count == 1, "the initial subflow to go")
            update = mine.update()
            (gone,) = update.removed
            listed = update.snapshot.subflows[0]
            assert not listed.live
            if (
                listed.id == 0
            ):  # 6.5 forgets its number and its counters: those of the previous update are the last
                listed = initial
            assert gone == listed
            assert gone.local == client.getsockname()
            assert mine.gone == (going, gone)
            assert [path.subflow for path in update.subflows] == [update.snapshot.subflows[1]]
            until(lambda: mp.snapshot(accepted).live_count == 1, "the server to see it")
            assert [path.remote for path in theirs.update().removed] == [gone.local]
            assert mine.update().removed == ()

            # One more: all that it did is in its first delta.
            testing.add_endpoint(going.local[0])
            until(lambda: mp.snapshot(client).live_count == 2, "another subflow")
            update = mine.update()
            (new,) = update.added
            assert (new.local or ("",))[0] == going.local[0]
            assert new != going
            assert new.id is None or new.id > 3
            (delta,) = [path for path in update.subflows if path.subflow == new]
            assert delta.bytes_acked == new.tcp_info.bytes_acked

    def trackers_of_three(client: socket.socket, accepted: socket.socket) -> tuple[mp.Tracker, mp.Tracker]:
        mine, theirs = mp.Tracker(client), mp.Tracker(accepted)
        for tracker in (mine, theirs):
            assert len(tracker.update().added) == 3
            assert tracker.update().added == ()
        return mine, theirs

    where(look)


def test_without_ids_one_listener_address_is_many_subflows(mptcp: None) -> None:
    """The accepted end's subflows differ in the remote address alone, and each is followed."""

    def look() -> None:
        with paths(socket.AF_INET, 3) as (client, accepted):
            before = older(mp.snapshot(accepted))
            testing.delete_initial_address(client.getsockname()[0])
            until(lambda: mp.snapshot(accepted).live_count == 2, "the initial subflow to go")
            now = older(mp.snapshot(accepted))
            assert len({path.local for path in now.subflows}) == 1
            update = _tracker._difference(before, now)
            assert [path.remote for path in update.removed] == [client.getsockname()]
            assert update.added == ()

    in_private_network(look)


def test_all_paths_gone_and_one_back(mptcp: None) -> None:
    """The connection goes on, and so do its counters."""

    def look() -> None:
        with paths(socket.AF_INET, 1) as (client, accepted):
            tracker = mp.Tracker(client)
            tracker.update()
            carry(client, accepted, 500)
            testing.delete_initial_address(client.getsockname()[0])
            until(lambda: mp.status(client) is Status.CLOSED, "the only subflow to go")
            client.send(b"x" * 70)
            update = tracker.update()
            assert update.continues
            assert (update.bytes_acked, update.subflows) == (500, ())
            assert [path.local for path in tracker.gone] == [client.getsockname()]
            testing.add_endpoint("127.0.9.5")
            assert len(accepted.recv(100)) == 70
            until(lambda: mp.mptcp_info(client).snd_una == mp.mptcp_info(client).write_seq, "the DATA_ACK")
            update = tracker.update()
            assert (update.continues, update.bytes_acked) == (True, 70)
            assert [path.local and path.local[0] for path in update.added] == ["127.0.9.5"]

    in_private_network(look)


def test_a_fastclose_ends_no_count(mptcp_ends: Pair) -> None:
    """The token goes and the subflow's counters are zeroed; what was known of them stays known."""
    client, accepted = mptcp_ends
    tracker, _ = trackers(mptcp_ends)
    carry(client, accepted, 5000)
    before = tracker.update()
    carry(accepted, client, 300)
    reset(accepted, client)
    until(lambda: mp.mptcp_info(client).token == 0, "the fastclose")
    until(lambda: mp.snapshot(client).live_count == 0, "what it leaves")
    update = tracker.update()
    assert update.snapshot.info is not None
    assert (update.continues, deltas(update)) == (True, of_connection(client, 0, 0, 300, 0))
    assert update.removed == tracker.gone == before.snapshot.subflows
    assert (update.added, update.subflows) == ((), ())
    again = tracker.update()
    assert (again.continues, deltas(again), again.removed) == (
        True,
        of_connection(client, 0, 0, 0, 0),
        (),
    )


def test_both_ends_closed(mptcp_ends: Pair) -> None:
    """The one that is left sees its subflow go, with all its bytes."""
    client, accepted = mptcp_ends
    _, tracker = trackers(mptcp_ends)
    carry(client, accepted, 4000)
    tracker.update()
    client.close()
    accepted.shutdown(socket.SHUT_RDWR)
    until(lambda: mp.status(accepted) is Status.CLOSED, "the end")
    update = tracker.update()
    (gone,) = update.removed
    assert (gone.id, update.added) == (initial_id(), ())
    assert (gone.tcp_info.bytes_received or 0) >= 4101


# ------------------------------------------------------------------------ another connection, a fallback


def disconnect(sock: socket.socket) -> None:
    """connect(2) to AF_UNSPEC, which socket.connect() cannot say."""
    assert ctypes.CDLL(None).connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16) == 0


def test_a_fresh_socket_that_connects(family: int) -> None:
    """From nothing to a connection: no deltas, the initial subflow added."""
    server = mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family)
    with server, mp.create_socket(family, fallback=False) as sock:
        tracker = mp.Tracker(sock)
        for _ in range(2):
            update = tracker.update()
            assert (update.status, update.continues) == (Status.UNCONNECTED, False)
            assert (update.added, deltas(update)) == ((), NONE)
        sock.connect(server.getsockname())
        update = tracker.update()
        assert (update.status, update.continues, deltas(update)) == (Status.MPTCP, False, NONE)
        assert [path.id for path in update.added] == [initial_id()]
        assert not update.fell_back


def test_a_socket_that_connects_again(mptcp_ends: Pair) -> None:
    """Another token is another connection: nothing is compared, and the old subflow is gone."""
    client, accepted = mptcp_ends
    tracker, _ = trackers(mptcp_ends)
    carry(client, accepted, 5000)
    before = tracker.update().snapshot.subflows
    disconnect(client)
    server = mp.create_server((client.getsockname()[0], 0), family=client.family, fallback=False)
    with server:
        client.connect(server.getsockname())
        other, _ = server.accept()
        with other:
            exchange(client, other)
            update = tracker.update()
            assert (update.continues, deltas(update)) == (False, NONE)
            assert update.removed == tracker.gone == before
            assert update.added == update.snapshot.subflows
            carry(client, other, 700)
            assert deltas(tracker.update()) == of_connection(client, 700, 700, 0, 0)


def test_a_number_that_another_socket_gets(family: int) -> None:
    """Is another connection."""
    with mptcp_pair(family) as (client, accepted), mptcp_pair(family) as (other, _):
        exchange(client, accepted)
        number = os.dup(client.fileno())
        try:
            tracker = mp.Tracker(number)
            old = tracker.update().snapshot.subflows
            os.dup2(other.fileno(), number)
            update = tracker.update()
            assert (update.continues, deltas(update), update.removed) == (False, NONE, old)
            assert [path.local for path in update.added] == [other.getsockname()]
        finally:
            os.close(number)


def test_a_client_of_a_plain_server_falls_back(family: int) -> None:
    """In one update, and from then on the deltas are the TCP flow's."""
    with mp.create_socket(family, fallback=False) as fresh:
        tracker = mp.Tracker(fresh)
        tracker.update()
        host = LOOPBACK[socket.AddressFamily(family)]
        with socket.create_server((host, 0), family=family) as server:
            fresh.connect(server.getsockname())
            accepted, _ = server.accept()
            with accepted:
                update = tracker.update()
                assert (update.status, update.fell_back) == (Status.FALLBACK, True)
                assert (update.continues, deltas(update)) == (False, NONE)
                assert [path.id for path in update.added] == [None]
                carry(fresh, accepted, 400)
                update = tracker.update()
                assert (update.continues, update.fell_back) == (True, False)
                assert deltas(update) == (400, 400, 0, 0)


def test_a_connection_falls_back(family: int) -> None:
    """MPTCP until a reset comes before any data: the kernel calls that a fallback."""
    with mptcp_pair(family) as (client, accepted):
        tracker = mp.Tracker(client)
        first = tracker.update()
        assert first.status is Status.MPTCP
        reset(accepted, client)
        until(lambda: mp.status(client) is Status.FALLBACK, "the fallback")
        update = tracker.update()
        assert (update.fell_back, update.continues, deltas(update)) == (True, False, NONE)
        (gone,) = update.removed
        assert (gone.local, gone.tcp_info.bytes_acked, update.added) == (first.added[0].local, 1, ())
        assert not tracker.update().fell_back


def test_the_flow_survives_a_fallback(fallback_ends: Pair) -> None:
    """It is neither added nor removed, and its TCP counters go on; the connection's are of another kind."""
    client, accepted = fallback_ends
    shot = mp.snapshot(client)
    (flow,) = shot.subflows
    raw = struct.pack("=8xIIQQQ", 2, 77, 10, 10, 10).ljust(96, b"\0")
    before = mp.Snapshot(
        shot.time, Status.MPTCP, mp.MPTCPInfo(raw), (mp.Subflow(1, flow.addrs, flow.tcp_info),)
    )
    carry(client, accepted, 900)
    update = _tracker._difference(before, mp.snapshot(client))
    assert (update.fell_back, update.continues, deltas(update)) == (True, False, NONE)
    assert (update.added, update.removed) == ((), ())
    assert [deltas(path) for path in update.subflows] == [(900, 900, 0, 0)]


def spoiling_frames(source: socket.socket, buffer: bytearray) -> Iterator[tuple[float, bytes]]:
    """A middlebox that rewrites what programs say to each other."""
    for came, frame in READ_FRAMES(source, buffer):
        yield came, frame.replace(b"SPOIL ME", b"SPOILED!")


READ_FRAMES = packets.read_frames


def test_a_connection_falls_back_on_the_way(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that fails its checksum: both ends fall back, and the flow under it goes on with its counters."""

    def talk() -> tuple[list[mp.Update], list[mp.Update]]:
        with (
            testing.Paths(1) as paths,
            paths.server,
            mp.create_server((paths.server_addresses[0], 0)) as server,
        ):
            Path("/proc/sys/net/mptcp/checksum_enabled").write_text("1")  # of the data itself
            server.settimeout(10)
            address = server.getsockname()
            with paths.client:
                client = testing.Child(lambda: say(mp.create_connection(address, timeout=10)))
            sock, _ = server.accept()
            sock.settimeout(10)
            with client, sock:
                tracker = mp.Tracker(sock)
                updates = [tracker.update()]
                sock.sendall(b"go")
                assert sock.recv(8) == b"SPOILED!"
                sock.sendall(b"after")
                until(lambda: mp.status(sock) is Status.FALLBACK, "the fallback of the server")
                updates.append(tracker.update())
                assert sock.recv(500, socket.MSG_WAITALL) == b"y" * 500
                updates.append(tracker.update())
                sock.sendall(b"!")
                return client.result(10), updates

    def say(sock: socket.socket) -> list[mp.Update]:
        with sock:
            assert sock.recv(2) == b"go"
            tracker = mp.Tracker(sock)
            updates = [tracker.update()]
            sock.sendall(b"SPOIL ME")
            assert sock.recv(5) == b"after"
            sock.sendall(b"y" * 500)
            until(lambda: mp.status(sock) is Status.FALLBACK, "the fallback of the client")
            updates.append(tracker.update())
            assert sock.recv(1) == b"!"
            return [*updates, tracker.update()]

    monkeypatch.setattr(packets, "read_frames", spoiling_frames)
    both = testing.in_private_network(talk, within=30)
    for updates, sent, received in zip(both, (508, 7), (6, 508), strict=True):
        before, fell, after = updates
        assert [update.status for update in updates] == [Status.MPTCP, Status.FALLBACK, Status.FALLBACK]
        assert [update.fell_back for update in updates] == [False, True, False]
        assert [update.continues for update in updates] == [False, False, True]
        assert (deltas(fell), fell.added, fell.removed) == (NONE, (), ())
        assert [(path.id, path.bytes_sent) for path in fell.subflows] == [(None, sent)]
        assert [path.id for path in before.added] == [1]
        assert (fell.subflows[0].bytes_received or 0) + (after.bytes_received or 0) == received


# -------------------------------------------------------------------------------------------- plain TCP


def test_plain_tcp_from_connect_to_close(family: int) -> None:
    """getpeername() knows no peer before and after; the counters are the same connection's."""
    host = LOOPBACK[socket.AddressFamily(family)]
    server = socket.create_server((host, 0), family=family)
    with server, socket.socket(server.family) as client:
        tracker = mp.Tracker(client)
        assert not tracker.update().continues
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        update = tracker.update()
        assert (update.continues, update.added) == (False, update.snapshot.subflows)
        with accepted:
            carry(client, accepted, 800)
        client.shutdown(socket.SHUT_WR)
        until(lambda: mp.snapshot(client).live_count == 0, "the end")
        update = tracker.update()
        assert (update.continues, update.bytes_sent) == (True, 800)
        assert update.removed == tracker.gone == update.snapshot.subflows
        disconnect(client)
        client.connect(server.getsockname())
        update = tracker.update()
        assert (update.continues, deltas(update), update.removed) == (False, NONE, ())
        assert update.added == update.snapshot.subflows


def test_a_handshake_of_plain_tcp(family: int) -> None:
    """From SYN_SENT, without a peer's name, to ESTABLISHED: one connection. (TCP counts the SYN.)"""
    host = LOOPBACK[socket.AddressFamily(family)]
    server = socket.create_server((host, 0), family=family, backlog=0)
    with server, socket.socket(server.family) as first, socket.socket(server.family) as waiting:
        first.connect(server.getsockname())
        waiting.setblocking(False)
        assert waiting.connect_ex(server.getsockname()) == errno.EINPROGRESS
        tracker = mp.Tracker(waiting)
        assert tracker.update().added == ()
        server.accept()[0].close()  # makes room for the SYN that comes again after a second
        until(lambda: mp.snapshot(waiting).subflows[0].tcp_info.state == 1, "the SYN to be answered")
        update = tracker.update()
        assert (update.continues, update.added, update.removed) == (True, update.snapshot.subflows, ())
        assert deltas(update) == (0, 1, 0, 0)


def test_listeners_are_no_connections(family: int) -> None:
    """They are followed all the same."""
    with mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family) as server:
        tracker = mp.Tracker(server)
        tracker.update()
        update = tracker.update()
        assert (update.status, update.continues, deltas(update)) == (Status.LISTENING, False, NONE)
