# SPDX-License-Identifier: MIT
"""What metrics add up, look by look: of dumps that miss something, and labels that are too many."""

from __future__ import annotations

import socket

import mptcp_sockopt as mp
from mptcp_sockopt import metrics
from mptcp_sockopt._tallies import OTHER, Labels, Tally

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
                tally.look(seen, ())
            assert sum(tally.seen.values()) == 2
            received = sum(mp.mptcp_info(end).bytes_received or 0 for end in (client, accepted))
            assert sum(tally.connection_bytes["bytes_received"].values()) == received
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
                tally.look(seen, ())
                counts.append(sum(tally.paths.values()))
            assert counts == [2, 0, 2]
            received = sum(mp.mptcp_info(end).bytes_received or 0 for end in (client, accepted))
            assert sum(tally.path_bytes["bytes_received"].values()) == received

    in_private_network(look)


def test_labels_are_bounded() -> None:
    """Values beyond the first so many are one; those that are known stay."""
    labels = Labels(2)
    assert [labels.of(value) for value in "abcab"] == ["a", "b", OTHER, "a", "b"]


def test_buckets_are_as_prometheus_counts() -> None:
    """Each includes those below."""
    found = metrics.Distribution((0.5, 1.0), (1, 2, 3), 9.0)
    assert found.buckets() == [("0.5", 1), ("1.0", 3), ("+Inf", 6)]
