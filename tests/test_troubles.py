# SPDX-License-Identifier: MIT
"""Signs of trouble: a path that stalled, data that is sent again and again."""

from __future__ import annotations

import sys

import pytest

import mptcp_sockopt as mp

from .vectors import MPTCP_INFO, MPTCP_INFO_LENGTH, TCP_INFO

MS = 1_000_000  # ns


def tcp_info(**fields: int) -> mp.TCPInfo:
    """One that has sent and waits for an acknowledgement, in time; with other values of these fields."""
    raw = bytearray(280)
    usual = {"state": 1, "unacked": 3, "rtt": 20_000, "last_ack_recv": 15, "snd_wnd": 9000}
    for name, value in {**usual, **fields}.items():
        at, size = {row[0]: row[1:3] for row in TCP_INFO}[name]
        raw[at : at + size] = value.to_bytes(size, sys.byteorder)
    return mp.TCPInfo(bytes(raw))


def info(length: int = MPTCP_INFO_LENGTH, **fields: int) -> mp.MPTCPInfo:
    raw = bytearray(MPTCP_INFO_LENGTH)
    for name, value in {"flags": 2, "write_seq": 500, "snd_una": 400, **fields}.items():
        at, size = {row[0]: row[1:3] for row in MPTCP_INFO}[name]
        raw[at : at + size] = value.to_bytes(size, sys.byteorder)
    return mp.MPTCPInfo(bytes(raw[:length]))


@pytest.mark.parametrize(
    ("fields", "stalled"),
    [
        ({}, False),
        ({"last_ack_recv": 201, "last_data_sent": 201}, True),
        ({"last_ack_recv": 200, "last_data_sent": 201}, False),
        ({"last_ack_recv": 3000, "last_data_sent": 20}, False),
        ({"last_ack_recv": 300, "last_data_sent": 300, "rtt": 150_000}, False),
        ({"last_ack_recv": 301, "last_data_sent": 301, "rtt": 150_000}, True),
        ({"last_ack_recv": 250, "retransmits": 1}, True),
        ({"unacked": 0, "last_ack_recv": 3000, "last_data_sent": 3000}, None),
        ({"state": mp.TCPState.SYN_SENT, "retransmits": 2}, None),
        ({"state": mp.TCPState.CLOSE, "retransmits": 2}, None),
        ({"state": mp.TCPState.LAST_ACK, "retransmits": 2, "last_ack_recv": 900}, True),
    ],
)
def test_a_path_from_one_look(fields: dict[str, int], stalled: bool | None) -> None:
    """Outstanding data, and no acknowledgement since it was sent for 200 ms and two round trips."""
    assert mp.is_stalled(tcp_info(**fields)) is stalled


def test_a_path_from_its_history() -> None:
    """What was sent again just now is as old as its first sending; ACKs for later data still come."""
    silent = {"last_ack_recv": 5000, "last_data_sent": 20}
    assert mp.is_stalled(tcp_info(**silent), standing=200 * MS) is False
    assert mp.is_stalled(tcp_info(**silent), standing=201 * MS) is True
    assert mp.is_stalled(tcp_info(**silent, rtt=600_000), standing=1200 * MS) is False
    assert mp.is_stalled(tcp_info(**silent, rtt=600_000), standing=1201 * MS) is True
    assert mp.is_stalled(tcp_info(**silent, unacked=0), standing=5000 * MS) is None
    assert mp.is_stalled(tcp_info(last_ack_recv=150), standing=5000 * MS) is False


@pytest.mark.parametrize(
    ("last_ack_recv", "last_data_sent", "stalled"),
    [(1204, 1224, False), (204, 0, False), (700, 200, False), (701, 201, True), (300, 300, False)],
)
def test_a_closed_window(last_ack_recv: int, last_data_sent: int, stalled: bool) -> None:
    """What is outstanding is dropped each time that it is sent, and answered: as seen on Linux 6.18."""
    silent = {"snd_wnd": 0, "last_ack_recv": last_ack_recv, "last_data_sent": last_data_sent}
    assert mp.is_stalled(tcp_info(**silent), standing=5000 * MS) is stalled
    assert mp.is_stalled(tcp_info(**silent)) is stalled


@pytest.mark.parametrize("length", range(0, 104, 4))
def test_too_short_an_answer_tells_nothing(length: int) -> None:
    """None where a field is missing."""
    whole = tcp_info(last_ack_recv=900, last_data_sent=900)
    assert mp.is_stalled(mp.TCPInfo(whole.raw[:length])) is (True if length >= 72 else None)


def test_data_that_is_sent_again_and_again() -> None:
    """Bytes are repeated, none is acknowledged, and TCP waits for nothing."""
    before, now = info(bytes_retrans=100, bytes_acked=900), info(bytes_retrans=200, bytes_acked=900)
    idle = tcp_info(unacked=0)
    assert mp.is_resending(before, now, [idle])
    assert not mp.is_resending(before, now, [idle, tcp_info()])
    assert not mp.is_resending(before, now, [])
    assert not mp.is_resending(now, now, [idle])
    assert not mp.is_resending(before, info(bytes_retrans=200, bytes_acked=901), [idle])
    assert not mp.is_resending(before, info(bytes_retrans=200, bytes_acked=900, snd_una=500), [idle])
    assert not mp.is_resending(before, info(length=48), [idle])
