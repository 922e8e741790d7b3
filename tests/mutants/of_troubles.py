# SPDX-License-Identifier: MIT
"""Mutations of what tells why a connection fell back, and which path stalled."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_reasons.py",
        "reasons causes",
        ("return None if asked or subflows[0].token_local else", "return None if asked else"),
        ("asked = flags is None or flags & _ASKED", "asked = flags is None"),
        ("info.flags & _KEY and state == TCPState.CLOSE", "state == TCPState.CLOSE"),
        ("== TCPState.CLOSE and info.bytes_received == info.bytes_acked == 0", "== TCPState.CLOSE"),
        ("state == TCPState.CLOSE and", ""),
        ("    if flags is None:\n        return None", "    if flags is None:\n        flags = 0"),
        ("    if not info.flags & _KEY:", "    if info.flags & _KEY:"),
        ('_FLAGS["MCAP_LOC"], _FLAGS["FULLY_ESTABLISHED"]', '_FLAGS["MCAP_REM"], _FLAGS["CONNECTED"]'),
        ("        reason._value_ = value\n", ""),
    ),
    *of(
        "mptcp_sockopt/_troubles.py",
        "troubles stalls",
        ("or not tcp_info.unacked or", "or"),
        ("or tcp_info.rtt is None", ""),
        ("tcp_info.state not in _SYNCHRONISED or", ""),
        ("max(tcp_info.last_data_sent * 1000, (standing or 0) // 1000)", "tcp_info.last_data_sent * 1000"),
        ("min(tcp_info.last_ack_recv * 1000, waited)", "waited"),
        ("min(tcp_info.last_ack_recv * 1000, waited)", "tcp_info.last_ack_recv * 1000"),
        ("tcp_info.retransmits > 0 or", ""),
        ("max(_PATIENCE, 2 * tcp_info.rtt)", "_PATIENCE"),
        ("max(_PATIENCE, 2 * tcp_info.rtt)", "2 * tcp_info.rtt"),
        ("_PATIENCE = 200_000", "_PATIENCE = 200"),
        ("now.bytes_retrans > before.bytes_retrans", "now.bytes_retrans >= before.bytes_retrans"),
        ("and now.bytes_acked == before.bytes_acked\n", "\n"),
        ("        and bool(now.unacked_bytes)\n", ""),
        ("        and outstanding != []\n", ""),
        ("        and not any(outstanding)\n", ""),
    ),
    *of(
        "mptcp_sockopt/_tracker.py",
        "stalls tracker tracker_events",
        ("return elapsed + delta.standing", "return elapsed"),
        ("or elapsed is None or not _unacked(old.tcp_info)", "or elapsed is None"),
        ("1_000_000 * min(old.tcp_info.last_ack_recv, old.tcp_info.last_data_sent)", "0"),
        ("min(old.tcp_info.last_ack_recv, old.tcp_info.last_data_sent)", "old.tcp_info.last_ack_recv"),
        ("0 if grown[1] else _standing(old, elapsed, last)", "_standing(old, elapsed, last)"),
        ("return (resent and bool(now.info.unacked_bytes)) or", "return"),
        ("or now.info is None or not live:", "or now.info is None:"),
        ("was = [delta.subflow for delta in last.subflows]", "was = list(before.subflows)"),
        ("if len(live) == len(was) and all(", "if all("),
        ("and all(map(is_, [old for _, old, _ in live], was)):", ":"),
    ),
    *of(
        "mptcp_sockopt/_growth.py",
        "tracker growth tracker_replaced",
        ("if old == new and None not in new:", "if old == new:"),
    ),
)
