# SPDX-License-Identifier: MIT
"""What metrics add up, look by look: of dumps that miss something, and labels that are too many."""

from __future__ import annotations

import socket
import sys

import mptcp_sockopt as mp
from mptcp_sockopt import metrics
from mptcp_sockopt._border import layouts, sock_diag
from mptcp_sockopt._bounded import OTHER, Labels
from mptcp_sockopt._tallies import OUTGOING, UNKNOWN, Tally

from .support import exchange, in_private_network, mptcp_pair

INET = socket.AF_INET


def test_a_connection_that_a_dump_misses_is_counted_once(mptcp: None) -> None:
    """The kernel's dump is not of one moment: what is back in the next look was never gone."""

    def look() -> None:
        tally = Tally()
        with mptcp_pair(INET) as (client, accepted):
            exchange(client, accepted, 5000)
            found = mp.mptcp_diag(subflows=True)
            lacking = mp.MPTCPConnections(
                found.time, found._info_length, found._rows[:0], found._tcp_info_length, found._paths[:0], []
            )
            for seen in (found, lacking, found, found):
                tally.look(seen, set())
            assert sum(tally.seen.values()) == 2
            received = sum(mp.mptcp_tcpinfo(end)[0].bytes_received or 0 for end in (client, accepted))
            counted = sum(tally.connection_bytes["bytes_received"].values())
            assert counted == (0 if mp.mptcp_info(client).bytes_received is None else received)
            assert sum(tally.path_bytes["bytes_received"].values()) == received
            assert sum(tally.connections.values()) == 2
            assert sum(tally.paths.values()) == 2

    in_private_network(look)


def test_a_path_that_a_dump_misses_is_counted_once(mptcp: None) -> None:
    """It is not among the paths of that look, and its bytes are not counted again in the next."""

    def look() -> None:
        tally = Tally()
        with mptcp_pair(INET) as (client, accepted):
            exchange(client, accepted, 5000)
            found = mp.mptcp_diag(subflows=True)
            index = [entry[:1] for entry in found._index]
            lacking = mp.MPTCPConnections(
                found.time, found._info_length, found._rows, found._tcp_info_length, found._paths[:0], index
            )
            counts = []
            for seen in (found, lacking, found):
                tally.look(seen, set())
                counts.append(sum(tally.paths.values()))
            assert counts == [2, 0, 2]
            received = sum(mp.mptcp_tcpinfo(end)[0].bytes_received or 0 for end in (client, accepted))
            assert sum(tally.path_bytes["bytes_received"].values()) == received

    in_private_network(look)


def altered(found: mp.MPTCPConnections, **fields: int) -> mp.MPTCPConnections:
    """The same, with these numbers in the tcp_info of every path."""
    raw, stride = bytearray(found._paths), sock_diag.subflow_stride_of(found._tcp_info_length)
    for start in range(layouts.DIAG_TCP_INFO_AT, len(raw), stride):
        for name, number in fields.items():
            place = mp.TCPInfo.fields[name].place
            raw[start + place.offset : start + place.end] = number.to_bytes(place.size, sys.byteorder)
    parts = found._info_length, found._rows, found._tcp_info_length, bytes(raw), found._index
    return mp.MPTCPConnections(found.time, *parts)


def test_a_counter_of_the_kernel_that_falls_takes_nothing_away(mptcp: None) -> None:
    """No total falls, and what it grows by from there on is added."""

    def look() -> None:
        tally = Tally()
        with mptcp_pair(INET) as ends:
            exchange(*ends)
            found = mp.mptcp_diag(subflows=True)
            totals = []
            for number in (5000, 1000, 1700):
                tally.look(altered(found, bytes_received=number), set())
                totals.append(sum(tally.path_bytes["bytes_received"].values()))
            assert totals == [2 * 5000, 2 * 5000, 2 * 5700]

    in_private_network(look)


def test_what_only_waits_is_seen_to_stall(mptcp: None) -> None:
    """Nothing is acknowledged, and nothing changes but the ages: so it is where the link is down."""

    def look() -> None:
        with mptcp_pair(INET) as ends:
            exchange(*ends)
            tally, found = Tally(), mp.mptcp_diag(subflows=True)
            states = []
            for age in (10, 5000, 10):
                ages = {"last_data_sent": age, "last_ack_recv": age}
                tally.look(altered(found, unacked=1, retransmits=0, **ages), set())
                states.append({kind.state for kind, number in tally.paths.items() if number})
            assert states == [{"live"}, {"stalled"}, {"live"}]

    in_private_network(look)


def test_counters_begin_at_0(mptcp: None) -> None:
    """A rate does not count what a series has when it first appears: a storm of fallbacks would be missed."""
    tally = Tally()
    assert {reason for reason, _, port in tally.fallbacks if port == OUTGOING} == {
        *map(str, mp.FallbackReason),
        UNKNOWN,
    }

    tally.look(mp.mptcp_diag(subflows=True, port=1), {443})
    assert tally.seen["ipv4", "443"] == tally.as_tcp["ipv4", "443"] == 0
    assert ("ipv4", "443") in tally.as_tcp


def test_labels_are_bounded() -> None:
    """Values beyond the first so many are one; those that are known stay."""
    labels = Labels(2)
    assert [labels.of(value) for value in "abcab"] == ["a", "b", OTHER, "a", "b"]


def test_buckets_are_as_prometheus_counts() -> None:
    """Each includes those below."""
    found = metrics.Distribution((0.5, 1.0), (1, 2, 3), 9.0)
    assert found.buckets() == [("0.5", 1), ("1.0", 3), ("+Inf", 6)]
