# SPDX-License-Identifier: MIT
"""Sample records, as Looks makes them, for tests of what draws or reads them."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]

INFO = {
    "token": 0x1234,
    "flags": 2,
    "bytes_sent": 119_400,
    "bytes_acked": 119_400,
    "bytes_received": 3000,
    "bytes_retrans": 0,
    "retransmits": 0,
    "subflows": 1,
    "last_ack_recv": 12,
    "last_data_sent": 16,
    "unacked_bytes": 0,
}
TCP_INFO = {
    "state": 1,
    "ca_state": 0,
    "retransmits": 0,
    "backoff": 0,
    "unacked": 0,
    "rtt": 9900,
    "snd_cwnd": 10,
    "snd_mss": 1428,
    "notsent_bytes": 0,
    "bytes_acked": 68_100,
    "bytes_received": 3000,
    "bytes_retrans": 0,
    "total_retrans": 0,
    "last_ack_recv": 12,
    "last_data_sent": 16,
    "last_data_recv": 20,
    "rcv_rtt": 0,
}


def path(**parts: Any) -> Record:
    """A healthy path; its TCPInfo's fields are in tcp_info."""
    tcp_info = parts.pop("tcp_info", {})
    return {
        "id": 1,
        "remote_id": 0,
        "local": ["10.9.0.1", 40000],
        "remote": ["10.9.0.2", 443],
        "interface": "path0",
        "opened_by": "local",
        "backup_local": False,
        "backup_remote": False,
        "state": "ESTABLISHED",
        "live": True,
        "stalled": None,
        "flags": 195,
        "tcp_info": None if tcp_info is None else TCP_INFO | tcp_info,
        "rates": None,
        **parts,
    }


def connection(**parts: Any) -> Record:
    """A healthy connection with one path; its MPTCPInfo's fields are in info."""
    info = parts.pop("info", {})
    return {
        "token": 0x1234,
        "status": "mptcp",
        "state": "ESTABLISHED",
        "fallback_reason": None,
        "troubles": [],
        "local": ["10.9.0.1", 40000],
        "remote": ["10.9.0.2", 443],
        "inode": 5555,
        "uid": 1000,
        "rqueue": 0,
        "processes": [{"pid": 19913, "name": "python", "fd": 3}],
        "info": None if info is None else INFO | info,
        "rates": None,
        "subflows": [path()],
        **parts,
    }


LONG = {
    "local": ["2001:db8:85a3:8d3:1319:8a2e:370:7348", 40000, 0, 0],
    "remote": ["2001:db8:85a3:8d3:1319:8a2e:370:9999", 443, 0, 0],
    "interface": "wlan0",
}
#: The connection of the longest addresses.
OVER_IPV6 = connection(
    local=LONG["local"],
    remote=LONG["remote"],
    subflows=[
        path(**LONG, id=0),
        path(
            **{**LONG, "local": ["2001:db8:1234:5678:9abc:def0:1234:5678", 40000, 0, 0]},
            id=6,
            tcp_info={"rtt": 6700, "bytes_acked": 51_300, "bytes_received": 0},
        ),
    ],
)
FELL_BACK = connection(
    token=0x5678,
    status="fallback",
    fallback_reason="no_option_in_answer",
    troubles=["fell_back"],
    info={"flags": 1, "bytes_acked": 1},
    subflows=[path(flags=2)],
)
