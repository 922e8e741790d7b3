# SPDX-License-Identifier: MIT
"""Which connection is the same one, and which subflow: the pure core, from recorded answers."""

from __future__ import annotations

import struct

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _tracker
from mptcp_sockopt._fields import View

from .test_tracker import NONE, deltas
from .vectors import sockaddr

Status = mp.Status
TCPState = mp.TCPState
SECOND = 1_000_000_000


# ------------------------------------------------------------------------------------- recorded snapshots


def packed(view: type[View], size: int, values: dict[str, int]) -> bytes:
    raw = bytearray(size)
    for name, value in values.items():
        place = view.fields[name].place
        struct.pack_into(place.format, raw, place.offset, value)
    return bytes(raw)


def flow(
    id: int | None = None, *, peer: int = 443, local: int = 1000, state: int = 1, **values: int
) -> mp.Subflow:
    addrs = sockaddr("10.0.0.1", local) + sockaddr("10.0.0.2" if peer else "0.0.0.0", peer)
    values = {"state": state, "segs_out": 2, "segs_in": 1} | values
    return mp.Subflow(id, mp.SubflowAddrs(addrs), mp.TCPInfo(packed(mp.TCPInfo, 248, values)))


def plain(*flows: mp.Subflow, time: int = 0, status: Status = Status.TCP) -> mp.Snapshot:
    return mp.Snapshot(time, status, None, flows)


def connection(*flows: mp.Subflow, time: int = 0, size: int = 96, **values: int) -> mp.Snapshot:
    """Of a connection whose peer's key came: its data begins at 5000, the peer's at 9000."""
    values = {"flags": 2, "token": 7, "snd_una": 5000, "rcv_nxt": 9000} | values
    return mp.Snapshot(time, Status.MPTCP, mp.MPTCPInfo(packed(mp.MPTCPInfo, size, values)), flows)


def difference(before: mp.Snapshot, now: mp.Snapshot, **known: int) -> mp.Update:
    return _tracker._difference(before, now, passed=known.get("passed", 0))


def test_another_connection_has_other_subflows() -> None:
    """Though their ids and addresses are equal, and their counters larger."""
    old, new = flow(1, bytes_sent=10), flow(1, bytes_sent=50)
    update = difference(connection(old), connection(new, token=8))
    assert (update.continues, deltas(update)) == (False, NONE)
    assert (update.removed, update.added) == ((old,), (new,))
    assert [deltas(path) for path in update.subflows] == [NONE]
    kept = difference(connection(old), connection(new))  # the control
    assert (kept.continues, kept.removed, kept.added, kept.subflows[0].bytes_sent) == (True, (), (), 40)


def test_counters_of_one_token_that_ran_backwards_are_no_deltas() -> None:
    """Whatever a kernel answers, a delta is never negative."""
    for counter in ("bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans"):
        update = difference(connection(**{counter: 9}), connection(**{counter: 8}))
        assert (update.continues, deltas(update)) == (False, NONE), counter


def test_after_a_fastclose_the_numbers_of_the_data_identify_the_connection() -> None:
    """They begin at random: what is larger by what was acknowledged is the same, the rest is another."""
    old = connection(snd_una=5100, bytes_acked=100)
    same = connection(token=0, snd_una=5150, bytes_acked=150)
    assert deltas(difference(old, same)) == (0, 50, 0, 0)
    assert deltas(difference(same, same)) == (0, 0, 0, 0)
    for una, acked in ((5150, 149), (5150, 151), (2**63, 150), (0, 150)):
        update = difference(old, connection(token=0, snd_una=una, bytes_acked=acked))
        assert (update.continues, deltas(update)) == (False, NONE)
    wrapped = connection(snd_una=2**64 - 10, bytes_acked=5), connection(token=0, snd_una=10, bytes_acked=25)
    assert deltas(difference(*wrapped)) == (0, 20, 0, 0)
    assert not difference(old, connection(token=0, flags=0, snd_una=5150, bytes_acked=150)).continues


def test_a_connection_that_was_seen_connecting_is_known_after_its_fastclose() -> None:
    """While it connects, snd_una is the number before the first byte."""
    connecting = connection(flags=0, snd_una=4999, rcv_nxt=0)
    assert deltas(difference(connecting, connection(token=0, snd_una=5030, bytes_acked=30))) == (0, 30, 0, 0)
    assert not difference(connecting, connection(token=0, snd_una=5031, bytes_acked=30)).continues


def test_before_6_5_another_connection_is_far_away() -> None:
    """Two random numbers of 64 bits are: the one of this side, and the one of the peer."""
    old = connection(size=48)
    same = connection(size=48, token=0, snd_una=5000 + 2**40, rcv_nxt=9001)
    assert deltas(difference(old, same)) == (None, 2**40, 1, None)
    for numbers in ({"snd_una": 2**60}, {"rcv_nxt": 2**60}, {"snd_una": 2**63 + 6000}, {"rcv_nxt": 8999}):
        update = difference(old, connection(size=48, token=0, **numbers))
        assert (update.continues, deltas(update)) == (False, NONE)
    connecting = connection(size=48, flags=0, snd_una=4999, rcv_nxt=0)
    for una, goes_on in ((5030, True), (4998, False), (2**60, False)):
        update = difference(connecting, connection(size=48, token=0, snd_una=una, rcv_nxt=2**60))
        assert (update.continues, deltas(update)) == (goes_on, NONE)


@pytest.mark.parametrize("id", [None, 3])
def test_a_subflow_that_was_seen_joining(id: int | None) -> None:
    """Is added when it is first in use, counts from its first sight, and is removed only if it was in use."""
    joining = flow(id, state=TCPState.SYN_SENT, segs_in=0)
    joined = flow(id, bytes_sent=70, bytes_acked=71)
    update = difference(connection(joining), connection(joined))
    assert update.added == (() if joining.live else (joined,))
    assert (update.removed, [deltas(path) for path in update.subflows]) == ((), [(70, 71, 0, 0)])
    assert difference(connection(joining), connection()).removed == ((joining,) if joining.live else ())


def test_a_peer_that_is_not_named_is_none_that_differs() -> None:
    """In any state, before or after: the socket asked may have closed before TCP, or since it was asked."""
    named, nameless = plain(flow(bytes_sent=10)), plain(flow(peer=0, bytes_sent=10))
    for state in (TCPState.ESTABLISHED, TCPState.LAST_ACK, TCPState.CLOSING, TCPState.CLOSE):
        assert difference(named, plain(flow(peer=0, state=state, bytes_sent=50))).bytes_sent == 40
        assert difference(nameless, plain(flow(state=state, bytes_sent=50))).bytes_sent == 40
    assert not difference(named, plain(flow(peer=444, bytes_sent=50))).continues
    assert not difference(named, plain(flow(peer=0, local=1001, bytes_sent=50))).continues


def test_a_state_that_went_back_is_another_connection_s() -> None:
    """Each leads to some of those after it."""
    order: list[set[TCPState]] = [
        {TCPState.SYN_SENT},
        {TCPState.SYN_RECV, TCPState.NEW_SYN_RECV},
        {TCPState.ESTABLISHED},
        {TCPState.FIN_WAIT1, TCPState.CLOSE_WAIT},
        {TCPState.FIN_WAIT2, TCPState.CLOSING, TCPState.LAST_ACK},
        {TCPState.TIME_WAIT},
        {TCPState.CLOSE, TCPState.LISTEN},
    ]
    assert set.union(*order) == set(TCPState)
    place = {state: number for number, states in enumerate(order) for state in states}
    for was in TCPState:
        for now in TCPState:
            update = difference(plain(flow(peer=0, state=was)), plain(flow(state=now, bytes_sent=50)))
            assert update.continues is (place[now] >= place[was]), (was, now)
        assert difference(plain(flow(state=was)), plain(flow(state=200))).continues  # one to come


@pytest.mark.parametrize(
    ("counter", "bits"),
    [
        *[(name, 32) for name in ("segs_out", "segs_in", "data_segs_out", "data_segs_in", "total_retrans")],
        *[(name, 32) for name in ("delivered", "delivered_ce", "dsack_dups", "reord_seen", "rcv_ooopack")],
        *[(name, 16) for name in ("total_rto", "total_rto_recoveries", "rehash")],
        *[(name, 64) for name in ("busy_time", "rwnd_limited", "sndbuf_limited")],
    ],
)
def test_a_counter_that_runs_backwards_is_another_connection_s(counter: str, bits: int) -> None:
    """One that wraps, at its 32 or 16 bits, is not taken for it."""
    larger = {"bytes_sent": 90, "bytes_received": 90, "bytes_acked": 90}
    cases = [(9, 8, False), (9, 9, True), (9, 10, True)] + [(2**bits - 3, 4, True)] * (bits < 64)
    for was, now, same in cases:
        update = difference(plain(flow(**{counter: was})), plain(flow(**larger | {counter: now})))
        assert (update.continues, update.bytes_sent) == ((True, 90) if same else (False, None))


def test_time_in_timeouts_runs_backwards_by_a_tick_at_most() -> None:
    """The kernel reads it from two clocks."""
    for was, now, same in ((900, 899, True), (900, 800, False), (2**32 - 3, 4, True)):
        update = difference(plain(flow(total_rto_time=was)), plain(flow(total_rto_time=now)))
        assert update.continues is same


@pytest.mark.parametrize(
    ("age", "counter"),
    [
        ("last_data_sent", "data_segs_out"),
        ("last_data_recv", "data_segs_in"),
        ("last_ack_recv", "segs_in"),
    ],
)
def test_an_age_that_began_again_without_its_counter(age: str, counter: str) -> None:
    """Is a handshake: what grew meanwhile is another connection's. Ages are off by two ticks."""
    ages = {"last_data_sent": 300, "last_data_recv": 300, "last_ack_recv": 300}
    older_by = {name: value + 1000 for name, value in ages.items()}
    old = plain(flow(**ages))

    def now(**changed: int) -> mp.Update:
        moved = {"data_segs_out": 5, "data_segs_in": 5, "segs_in": 5, "bytes_sent": 60}
        moved[counter] = getattr(old.subflows[0].tcp_info, counter)
        return difference(old, plain(flow(**older_by | moved | changed)), passed=SECOND)

    assert now().bytes_sent == 60
    assert now(**{age: 1260}).continues
    assert not now(**{age: 1200}).continues
    assert not now(**{age: 0}).continues
    assert now(**{age: 0, counter: 6}).continues
    # Ages of what connects are no ages yet.
    young = plain(flow(state=TCPState.SYN_SENT, peer=0, segs_in=0, segs_out=1, **ages))
    assert difference(young, plain(flow(bytes_sent=60)), passed=SECOND).bytes_sent == 60


def test_what_the_handshake_agreed_on_stays() -> None:
    """Where it differs there was another handshake. That ECN was seen is no agreement."""
    old = plain(flow(options=7))
    assert difference(old, plain(flow(options=7 | 16))).continues
    for bit in (1, 2, 4):
        assert not difference(old, plain(flow(options=7 ^ bit))).continues

    def scaled(byte: int, state: int = TCPState.ESTABLISHED) -> mp.Snapshot:
        raw = bytearray(flow(state=state).tcp_info)
        raw[6] = byte  # both window scales are in this one, whichever way round
        return plain(mp.Subflow(None, flow().addrs, mp.TCPInfo(raw)))

    assert difference(scaled(0x78), scaled(0x78)).continues
    for byte in (0x79, 0x68):
        assert not difference(scaled(0x78), scaled(byte)).continues
        assert difference(scaled(0, TCPState.SYN_SENT), scaled(byte)).continues


def test_ages_wrap() -> None:
    """After 49 days, at 32 bits."""
    ages = ("last_data_sent", "last_data_recv", "last_ack_recv")
    old, new, fresh = (flow(**dict.fromkeys(ages, value)) for value in (2**32 - 500, 500, 300))
    assert difference(plain(old), plain(new), passed=SECOND).continues
    assert not difference(plain(old), plain(fresh), passed=SECOND).continues


def test_zeros_are_the_end_of_the_fallback_that_was_seen() -> None:
    """And where none was, or it was another socket's, they are the first that is seen of one."""
    spoken, zeros = flow(bytes_sent=9), flow(peer=0, state=TCPState.CLOSE, segs_out=0, segs_in=0)
    fallback, ended = (plain(path, status=Status.FALLBACK) for path in (spoken, zeros))
    assert not _tracker._difference(fallback, ended).fell_back
    assert _tracker._difference(fallback, ended, same_socket=False).fell_back
    for before in (None, connection(flow(1)), plain(zeros)):
        assert _tracker._difference(before, ended).fell_back
    assert not _tracker._difference(fallback, plain(zeros)).fell_back


def test_nothing_is_no_connection() -> None:
    """Neither a TCP socket that was never connected, nor a listener."""
    for state in (TCPState.CLOSE, TCPState.LISTEN):
        nothing = plain(flow(peer=0, state=state, segs_out=0, segs_in=0))
        update = difference(nothing, nothing)
        assert (update.continues, deltas(update), update.removed) == (False, NONE, ())
