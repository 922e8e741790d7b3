# SPDX-License-Identifier: MIT
"""Looks(drawn=True): records of a few fields, which are those of the last look where nothing happened."""

from __future__ import annotations

import os
import socket

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.cli import _looks
from mptcp_sockopt.cli._blocks import Line, lines
from mptcp_sockopt.cli._looks import Looks, Sample

from ..support import child, exchange, fallback_pair, in_private_network, mptcp_pair, until
from .test_looks import of

INET = socket.AF_INET


def test_what_is_drawn_is_the_same(mptcp: None) -> None:
    """With the few fields that drawing needs."""

    def drawn(sample: Sample) -> list[list[Line]]:
        # Rates are over another time.
        return [lines({**row, "rates": None}) for row in sample.connections]

    def look() -> None:
        few, usual = Looks(drawn=True), Looks()
        with mptcp_pair(INET) as ends, mptcp_pair(socket.AF_INET6), fallback_pair(INET) as others:
            for _ in range(3):
                # Not at once if an ACK comes between two looks.
                until(lambda: drawn(few.look()) == drawn(usual.look()), "the same")
                assert len(few.look().connections) == 5
                exchange(*ends)
                exchange(*others)

    in_private_network(look)


def test_an_idle_connection_is_the_same_record(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third look on, until something that it holds changes: a counter, a process, an interface."""

    def look() -> None:
        looks = Looks(drawn=True)
        with mptcp_pair(INET) as (client, accepted):
            exchange(client, accepted)
            until(lambda: not any(mp.mptcp_tcpinfo(end)[0].unacked for end in (client, accepted)), "ACKs")
            looks.look()
            idle = of(looks, client)
            assert of(looks, client) is of(looks, client)
            assert of(looks, client)["rates"] == {"bytes_sent": 0, "bytes_acked": 0, "bytes_received": 0}
            with child(lambda child: child.say("ready")) as other:
                other.hear()
                with mptcp_pair(INET):  # has all be looked up
                    found = of(looks, client)["processes"]
                    assert {owner["pid"] for owner in found} == {os.getpid(), other.pid}
            monkeypatch.setattr(_looks, "_interfaces", lambda: {"127.0.0.1": "renamed"})
            assert of(looks, client)["subflows"][0]["interface"] == "renamed"
            exchange(client, accepted)
            assert of(looks, client)["rates"]["bytes_sent"] > 0
            assert idle["rates"]["bytes_sent"] == 0

    in_private_network(look)
