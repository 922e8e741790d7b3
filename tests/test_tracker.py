# SPDX-License-Identifier: MIT
"""One connection over time: exact deltas, what came and went, and what was the last known of it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import socket
import struct
from collections.abc import Iterator

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _tracker
from mptcp_sockopt._growth import COUNTERS

from .support import exchange, has_full_info, mptcp_pair, reset, until, where_refused
from .test_older_kernels import FULL_INFO
from .vectors import sockaddr

Pair = tuple[socket.socket, socket.socket]
Deltas = tuple[int | None, int | None, int | None, int | None]
NONE: Deltas = (None, None, None, None)


def deltas(update: mp.Update | mp.SubflowDelta) -> Deltas:
    return update.bytes_sent, update.bytes_acked, update.bytes_received, update.bytes_retrans


def of_connection(sock: socket.socket, sent: int, acked: int, received: int, retrans: int) -> Deltas:
    """What is known of these in a connection here: before 6.5 what sequence numbers tell."""
    if mp.is_mptcp(sock) and mp.mptcp_info(sock).bytes_sent is None:
        return None, acked, received, None
    return sent, acked, received, retrans


def initial_id() -> int | None:
    """Of the initial subflow. Before 6.5 subflows have no ids."""
    return 1 if has_full_info() else None


def carry(source: socket.socket, sink: socket.socket, size: int) -> None:
    """Send size bytes, and wait until source knows that they came."""
    before = mp.mptcp_info(source).snd_una if mp.is_mptcp(source) else mp.snapshot(source).subflows[0]
    source.sendall(bytes(size))
    left = size
    while left:
        left -= len(sink.recv(left))
    if isinstance(before, mp.Subflow):
        acked = before.tcp_info.bytes_acked or 0
        until(lambda: mp.snapshot(source).subflows[0].tcp_info.bytes_acked == acked + size, "the ACK")
    else:
        until(lambda: mp.mptcp_info(source).snd_una == (before + size) % 2**64, "the DATA_ACK")


def trackers(ends: Pair) -> tuple[mp.Tracker, mp.Tracker]:
    exchange(*ends)
    carry(*ends, 1)
    carry(*ends[::-1], 1)
    one, other = (mp.Tracker(end) for end in ends)
    for tracker in (one, other):
        first = tracker.update()
        fallback = first.status is mp.Status.FALLBACK
        assert (first.elapsed, first.continues, first.fell_back) == (None, False, fallback)
        assert (deltas(first), first.removed, tracker.gone) == (NONE, (), ())
        assert first.added == first.snapshot.subflows
        assert [deltas(path) for path in first.subflows] == [NONE]
        assert first.rate("bytes_acked") is None
    return one, other


def check_exact_deltas(ends: Pair) -> None:
    one, other = trackers(ends)
    for there, back in ((12_345, 678), (0, 0), (100_000, 1)):
        carry(*ends, there)
        carry(*ends[::-1], back)
        updates = one.update(), other.update()
        # By a machine that was busy elsewhere: MPTCP sends it again as new data of TCP.
        repeated = [
            mp.is_mptcp(end) * (update.bytes_retrans or 0) for end, update in zip(ends, updates, strict=True)
        ]
        for update, end, sent, received, (mine, theirs) in (
            (updates[0], ends[0], there, back, repeated),
            (updates[1], ends[1], back, there, repeated[::-1]),
        ):
            assert update.continues
            again = update.subflows[0].bytes_retrans or 0  # the same by TCP
            of_tcp = (sent + mine + again, sent + mine, received + theirs, again)
            known = of_connection(end, sent, sent, received, update.bytes_retrans or 0)
            assert deltas(update) == (known if mp.is_mptcp(end) else of_tcp)
            assert [deltas(path) for path in update.subflows] == [of_tcp]
            assert (update.added, update.removed) == ((), ())
            assert update.elapsed is not None
            assert update.rate("bytes_acked") == sent * 1e9 / update.elapsed
            assert update.subflows[0].rate("bytes_received") == (received + theirs) * 1e9 / update.elapsed


def test_deltas_of_mptcp_are_exact(mptcp_ends: Pair) -> None:
    """Byte for byte, of the connection and of its one subflow, at both ends."""
    check_exact_deltas(mptcp_ends)


def test_deltas_of_plain_tcp_are_exact(tcp_ends: Pair) -> None:
    """A connection is its one flow."""
    check_exact_deltas(tcp_ends)


def test_deltas_after_a_fallback_are_exact(fallback_ends: Pair) -> None:
    """The same."""
    check_exact_deltas(fallback_ends)


def test_without_full_info_deltas_are_exact(family: int) -> None:
    """Before 6.5 subflows are known by their addresses."""

    def look() -> None:
        with mptcp_pair(family) as ends:
            check_exact_deltas(ends)
            assert mp.Tracker(ends[0]).update().subflows[0].id is None

    where_refused([FULL_INFO], look)


def test_elapsed_is_the_time_between_the_snapshots(mptcp_ends: Pair) -> None:
    """In nanoseconds, of one clock."""
    tracker = mp.Tracker(mptcp_ends[0])
    one, other = tracker.update(), tracker.update()
    assert other.elapsed == other.snapshot.time - one.snapshot.time > 0
    assert other.status is other.snapshot.status is mp.Status.MPTCP


# --------------------------------------------------------- before 6.5: sequence numbers for byte counters


def older(shot: mp.Snapshot) -> mp.Snapshot:
    """As Linux 5.16 to 6.4 would have told it: no ids, mptcp_info of 48 bytes."""
    assert shot.info is not None
    subflows = tuple(mp.Subflow(None, path.addrs, path.tcp_info) for path in shot.subflows)
    return mp.Snapshot(shot.time, shot.status, mp.MPTCPInfo(shot.info.raw[:48]), subflows)


def test_sequence_numbers_tell_what_counters_tell(mptcp_ends: Pair) -> None:
    """bytes_acked and bytes_received are derived exactly; what was sent is not in them."""
    client, accepted = mptcp_ends
    before = mp.snapshot(client)
    carry(client, accepted, 5000)
    carry(accepted, client, 321)
    now = mp.snapshot(client)
    assert deltas(_tracker._difference(before, now)) == of_connection(client, 5000, 5000, 321, 0)
    derived = _tracker._difference(older(before), older(now))
    assert derived.continues
    assert deltas(derived) == (None, 5000, 321, None)


def test_a_data_fin_is_one_byte(mptcp_ends: Pair) -> None:
    """Ours in bytes_acked, on any kernel; the peer's in the derived bytes_received alone."""
    client, accepted = mptcp_ends
    exchange(client, accepted)
    before = {sock: mp.snapshot(sock) for sock in mptcp_ends}
    una = mp.mptcp_info(client).snd_una
    client.shutdown(socket.SHUT_WR)
    until(lambda: mp.mptcp_info(client).snd_una == (una + 1) % 2**64, "the DATA_FIN to be acknowledged")
    ours, theirs = ((before[sock], mp.snapshot(sock)) for sock in mptcp_ends)
    assert deltas(_tracker._difference(*ours)) == of_connection(client, 0, 1, 0, 0)
    counted = mp.mptcp_info(accepted).bytes_received is not None
    assert deltas(_tracker._difference(*theirs)) == of_connection(accepted, 0, 0, 0 if counted else 1, 0)
    assert deltas(_tracker._difference(*map(older, ours))) == (None, 1, 0, None)
    assert deltas(_tracker._difference(*map(older, theirs))) == (None, 0, 1, None)


def with_sequence(shot: mp.Snapshot, snd_una: int, rcv_nxt: int, flags: int = 2) -> mp.Snapshot:
    assert shot.info is not None
    raw = bytearray(shot.info.raw)
    struct.pack_into("=I", raw, 8, flags)
    struct.pack_into("=QQ", raw, 24, snd_una % 2**64, rcv_nxt % 2**64)
    return mp.Snapshot(shot.time, shot.status, mp.MPTCPInfo(raw), shot.subflows)


def test_sequence_numbers_wrap(mptcp_ends: Pair) -> None:
    """They begin anywhere in 64 bits."""
    shot = older(mp.snapshot(mptcp_ends[0]))
    before, now = with_sequence(shot, 2**64 - 10, 2**64 - 1), with_sequence(shot, 990, 99)
    assert deltas(_tracker._difference(before, now)) == (None, 1000, 100, None)


def test_sequence_numbers_tell_nothing_before_the_key_came(mptcp_ends: Pair) -> None:
    """While it connects, rcv_nxt is not there yet: the jump is not a delta."""
    shot = older(mp.snapshot(mptcp_ends[0]))
    before, now = with_sequence(shot, 5, 0, flags=0), with_sequence(shot, 5, 2**60)
    assert deltas(_tracker._difference(before, now)) == NONE


def recorded(number: int, *, state: int, received: int) -> mp.Subflow:
    """One of a server's subflows: all have its address, and no id."""
    raw = bytearray(232)
    raw[0] = state
    struct.pack_into("=Q", raw, 128, received)
    addrs = sockaddr("10.0.0.9", 443) + sockaddr(f"10.0.0.{number}", 1000 + number)
    return mp.Subflow(None, mp.SubflowAddrs(addrs), mp.TCPInfo(raw))


def test_a_dead_subflow_is_not_taken_for_another(mptcp_ends: Pair) -> None:
    """The initial one died long ago, and stays listed; now the other goes."""
    shot = older(mp.snapshot(mptcp_ends[0]))
    dead, other = recorded(1, state=7, received=900), recorded(2, state=1, received=5)
    before = mp.Snapshot(shot.time, shot.status, shot.info, (dead, other))
    now = mp.Snapshot(shot.time + 1, shot.status, shot.info, (dead,))
    update = _tracker._difference(before, now)
    assert (update.removed, update.added, update.subflows) == ((other,), (), ())


def test_counters_that_ran_backwards_are_another_flows(mptcp_ends: Pair) -> None:
    """Whatever its addresses: the old one is gone with what it had, and the new one began at 0."""
    shot = older(mp.snapshot(mptcp_ends[0]))
    old, new = recorded(1, state=1, received=900), recorded(1, state=1, received=30)
    before, now = (mp.Snapshot(shot.time, shot.status, shot.info, (path,)) for path in (old, new))
    update = _tracker._difference(before, now)
    assert (update.removed, update.added) == ((old,), (new,))
    assert [path.bytes_received for path in update.subflows] == [30]


# ----------------------------------------------------------------------------- failures, the objects


class Holder:
    """Anything with fileno()."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


def test_a_failure_changes_nothing(mptcp_ends: Pair) -> None:
    """The next update compares with the last one that succeeded."""
    client, accepted = mptcp_ends
    carry(client, accepted, 1)
    holder = Holder(client.fileno())
    tracker = mp.Tracker(holder)
    first = tracker.update()
    carry(client, accepted, 50)
    inward, outward = os.pipe()
    try:
        for number, error in ((inward, OSError), (-1, ValueError)):
            holder.number = number
            with pytest.raises(error):
                tracker.update()
    finally:
        os.close(inward)
        os.close(outward)
    holder.number = client.fileno()
    update = tracker.update()
    assert (update.continues, deltas(update), tracker.gone) == (
        True,
        of_connection(client, 50, 50, 0, 0),
        (),
    )
    assert update.elapsed == update.snapshot.time - first.snapshot.time


def test_what_is_no_socket_is_refused_at_once() -> None:
    """TypeError, ValueError, before any kernel is asked."""
    with pytest.raises(TypeError):
        mp.Tracker("3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-1"):
        mp.Tracker(-1)


def test_a_socket_that_was_closed(tcp_ends: Pair) -> None:
    """ValueError at the update, as of any reader."""
    tracker = mp.Tracker(tcp_ends[0])
    tracker.update()
    tcp_ends[0].close()
    with pytest.raises(ValueError, match="closed"):
        tracker.update()


def test_no_time_no_rate(mptcp_ends: Pair) -> None:
    """Two snapshots in one tick of the clock: deltas, and no rate."""
    shot = mp.snapshot(mptcp_ends[0])
    update = _tracker._difference(shot, shot)
    assert (update.elapsed, deltas(update)) == (0, of_connection(mptcp_ends[0], 0, 0, 0, 0))
    assert update.rate("bytes_acked") is None
    with pytest.raises(ValueError, match="no counter 'goodput'"):
        update.rate("goodput")  # type: ignore[arg-type]


def test_an_update_is_a_value(mptcp_ends: Pair) -> None:
    """Immutable, picklable, and JSON takes what asdict() gives."""
    tracker = mp.Tracker(mptcp_ends[0])
    tracker.update()
    carry(*mptcp_ends, 9)
    update = tracker.update()
    assert pickle.loads(pickle.dumps(update)) == update
    with pytest.raises(AttributeError):
        update.bytes_acked = 3  # type: ignore[misc]
    found = json.loads(json.dumps(update.asdict(clean=True)))
    assert (found["bytes_acked"], found["fell_back"], found["removed"]) == (9, False, [])
    assert found["bytes_acked_rate"] == update.rate("bytes_acked") == update.bytes_acked_rate
    for counter in COUNTERS:
        assert found[f"{counter}_rate"] == getattr(update, f"{counter}_rate") == update.rate(counter)
    assert [(path["id"], path["bytes_acked"]) for path in found["subflows"]] == [(initial_id(), 9)]
    assert repr(tracker) == f"Tracker({mptcp_ends[0]!r})"


def test_a_connection_that_came_and_went_between_two_updates(mptcp: None) -> None:
    """Reset by the peer: its counters go on from nothing, though there is no token to tell."""
    with (
        mp.create_server(("127.0.0.1", 0)) as server,
        mp.create_socket(fallback=False) as client,
    ):
        tracker = mp.Tracker(client)
        tracker.update()
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        exchange(client, accepted, 10)
        reset(accepted, client)
        until(lambda: mp.mptcp_info(client).token == 0, "the fastclose")
        update = tracker.update()
        assert (update.continues, update.bytes_sent, update.subflows) == (False, None, ())


def test_a_copy_goes_its_own_way(mptcp_ends: Pair) -> None:
    """From what the first one knew, and without changing it."""
    tracker = mp.Tracker(mptcp_ends[0])
    tracker.update()
    again = copy.copy(tracker)
    exchange(*mptcp_ends, 10)
    assert tracker.update().bytes_received == again.update().bytes_received == 10
    tracker._seen = *tracker._seen[:3], tracker.update().snapshot.subflows
    assert (len(tracker.gone), again.gone) == (1, ())


def test_what_is_gone_is_bounded(mptcp_ends: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that flaps for days fills no memory: the latest 1,000 are kept."""
    shot = mp.snapshot(mptcp_ends[0])
    (path,) = shot.subflows

    def flapping() -> Iterator[mp.Snapshot]:
        for id in range(1, 1100):
            subflow = mp.Subflow(id, path.addrs, path.tcp_info)
            yield mp.Snapshot(shot.time + id, shot.status, shot.info, (subflow,))

    shots = flapping()
    monkeypatch.setattr(_tracker, "snapshot", lambda sock: next(shots))
    tracker = mp.Tracker(mptcp_ends[0])
    for _ in range(1099):
        tracker.update()
    assert [subflow.id for subflow in tracker.gone] == list(range(99, 1099))
