# SPDX-License-Identifier: MIT
"""Payload by Snapshot: each byte once, of MPTCP and TCP alike."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import mptcp_sockopt as mp

from .support import exchange, fallback_pair, mptcp_pair, needs_full_info, tcp_pair, until
from .test_shown import ADDRS, PATH, number, tcp_info


@pytest.mark.parametrize(
    ("info", "sent", "acked", "received"),
    [
        (tcp_info(2), 0, 0, 0),
        (tcp_info(1, acked=1), 0, 0, 0),  # the SYN
        (tcp_info(1, sent=500, acked=501, received=7), 500, 500, 7),
        (tcp_info(1, sent=700, retrans=200, acked=501), 500, 500, 0),
        (tcp_info(1, sent=500, acked=300), 500, 300, 0),
        (tcp_info(5, sent=500, acked=502), 500, 500, 0),  # SYN and FIN
        (tcp_info(8, received=8), 0, 0, 7),  # CLOSE_WAIT: the peer's FIN came
        (tcp_info(9, received=1), 0, 0, 0),
        (tcp_info(11, received=8), 0, 0, 7),
        (tcp_info(7, received=8), 0, 0, 8),  # CLOSE: nobody knows
        (mp.TCPInfo(bytes(136)), None, None, 0),  # Linux 4.1
        (mp.TCPInfo(bytes(100)), None, None, None),
    ],
)
def test_payload_of_a_tcp_flow(
    info: mp.TCPInfo, sent: int | None, acked: int | None, received: int | None
) -> None:
    """Each byte once, and no SYN and no FIN."""
    one = mp.Snapshot(1, mp.Status.TCP, None, (mp.Subflow(None, ADDRS, info),))
    assert (one.bytes_sent, one.bytes_acked, one.bytes_received) == (sent, acked, received)
    assert [one.asdict()[name] for name in ("bytes_sent", "bytes_acked", "bytes_received")] == [
        sent,
        acked,
        received,
    ]


def test_payload_where_nothing_is_known() -> None:
    """A socket that no subflow could be read of, and MPTCP before 6.5."""
    for one in (
        mp.Snapshot(1, mp.Status.UNKNOWN, None, ()),
        mp.Snapshot(1, mp.Status.MPTCP, mp.MPTCPInfo(bytes(48)), (PATH,)),
    ):
        assert (one.bytes_sent, one.bytes_acked, one.bytes_received) == (None, None, None)


def test_payload_of_mptcp_is_without_its_data_fin() -> None:
    """bytes_acked of the kernel has it as one byte."""
    raw = bytearray(96)
    raw[56:64], raw[64:72], raw[72:80] = number(500, 8), number(3, 8), number(501, 8)
    one = mp.Snapshot(1, mp.Status.MPTCP, mp.MPTCPInfo(raw), (PATH,))
    assert (one.bytes_sent, one.bytes_acked, one.bytes_received) == (500, 500, 3)


def payload(sock: socket.socket) -> tuple[int | None, int | None, int | None]:
    one = mp.snapshot(sock)
    return one.bytes_sent, one.bytes_acked, one.bytes_received


@pytest.mark.parametrize("pair", [mptcp_pair, fallback_pair, tcp_pair], ids=["MPTCP", "fallback", "TCP"])
def test_payload_has_one_meaning(pair: Any, family: int) -> None:
    """What was written and read, on both sides: before, after and while each of them says that it is done."""
    if pair is mptcp_pair:
        needs_full_info()
    with pair(family) as (client, server):
        for size in (100, 600):
            exchange(client, server, size)
        client.sendall(b"x" * 9)
        assert len(server.recv(9, socket.MSG_WAITALL)) == 9

        def settled() -> bool:
            return (payload(client), payload(server)) == ((709, 709, 700), (700, 700, 709))

        until(settled, "all to be acknowledged")
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        until(settled, "the same after one side's end")
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        until(lambda: mp.snapshot(client).live_count == 0, "the end")
        assert payload(client)[:2] in ((709, 709), (0, 0))  # a connection that has ended may be zeros
