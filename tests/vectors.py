# SPDX-License-Identifier: MIT
"""Bytes as kernels write them, and what they mean: tables typed from the kernel's headers by hand.

They are a second opinion on csrc/mptcp_abi.h, so nothing here is derived from it.
"""

from __future__ import annotations

import socket
import struct
import sys

# struct mptcp_info: name, offset, size, and the kernel's length from which the field is there.
MPTCP_INFO = [
    ("subflows", 0, 1, 40),
    ("add_addr_signal", 1, 1, 40),
    ("add_addr_accepted", 2, 1, 40),
    ("subflows_max", 3, 1, 40),
    ("add_addr_signal_max", 4, 1, 40),
    ("add_addr_accepted_max", 5, 1, 40),
    ("flags", 8, 4, 40),
    ("token", 12, 4, 40),
    ("write_seq", 16, 8, 40),
    ("snd_una", 24, 8, 40),
    ("rcv_nxt", 32, 8, 40),
    ("local_addr_used", 40, 1, 44),
    ("local_addr_max", 41, 1, 44),
    ("csum_enabled", 42, 1, 44),
    ("retransmits", 44, 4, 80),
    ("bytes_retrans", 48, 8, 80),
    ("bytes_sent", 56, 8, 80),
    ("bytes_received", 64, 8, 80),
    ("bytes_acked", 72, 8, 80),
    ("subflows_total", 80, 1, 84),
    ("endp_laminar_max", 81, 1, 96),
    ("endp_fullmesh_max", 82, 1, 96),
    ("last_data_sent", 84, 4, 96),
    ("last_data_recv", 88, 4, 96),
    ("last_ack_recv", 92, 4, 96),
]

# struct tcp_info without its bit-fields in bytes 6 and 7: name, offset, size.
TCP_INFO = [
    (name, offset, 1)
    for offset, name in enumerate(("state", "ca_state", "retransmits", "probes", "backoff", "options"))
]
TCP_INFO += [
    (name, 8 + 4 * index, 4)
    for index, name in enumerate(
        (
            "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent "
            "last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh "
            "snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans"
        ).split()
    )
]
TCP_INFO += [
    ("pacing_rate", 104, 8),
    ("max_pacing_rate", 112, 8),
    ("bytes_acked", 120, 8),
    ("bytes_received", 128, 8),
    ("segs_out", 136, 4),
    ("segs_in", 140, 4),
    ("notsent_bytes", 144, 4),
    ("min_rtt", 148, 4),
    ("data_segs_in", 152, 4),
    ("data_segs_out", 156, 4),
    ("delivery_rate", 160, 8),
    ("busy_time", 168, 8),
    ("rwnd_limited", 176, 8),
    ("sndbuf_limited", 184, 8),
    ("delivered", 192, 4),
    ("delivered_ce", 196, 4),
    ("bytes_sent", 200, 8),
    ("bytes_retrans", 208, 8),
    ("dsack_dups", 216, 4),
    ("reord_seen", 220, 4),
    ("rcv_ooopack", 224, 4),
    ("snd_wnd", 228, 4),
    ("rcv_wnd", 232, 4),
    ("rehash", 236, 4),
    ("total_rto", 240, 2),
    ("total_rto_recoveries", 242, 2),
    ("total_rto_time", 244, 4),
    ("received_ce", 248, 4),
    ("delivered_e1_bytes", 252, 4),
    ("delivered_e0_bytes", 256, 4),
    ("delivered_ce_bytes", 260, 4),
    ("received_e1_bytes", 264, 4),
    ("received_e0_bytes", 268, 4),
    ("received_ce_bytes", 272, 4),
    ("raw_276", 276, 4),
]


def pattern(length: int) -> bytes:
    """Bytes that are all different nearby, with the high bit set here and there."""
    return bytes((37 * n + 11) % 256 for n in range(length))


def number(raw: bytes, offset: int, size: int) -> int:
    return int.from_bytes(raw[offset : offset + size], sys.byteorder)


def sockaddr(host: str, port: int) -> bytes:
    """A kernel sockaddr_storage."""
    if ":" in host:
        address = struct.pack("=H", socket.AF_INET6) + port.to_bytes(2, "big") + bytes(4)
        address += socket.inet_pton(socket.AF_INET6, host) + bytes(4)
    else:
        address = struct.pack("=H", socket.AF_INET) + port.to_bytes(2, "big")
        address += socket.inet_pton(socket.AF_INET, host)
    return address.ljust(128, b"\0")


def full_info(
    count: int,
    *,
    element: int = 264,
    element_of_kernel: int | None = None,
    info: int = 96,
    room: int = 9,
    tcp_info: int = 280,
) -> bytes:
    """MPTCP_FULL_INFO of count subflows, as the C compacts it. element 260 is a 32-bit kernel's."""
    raw = struct.pack(
        "=IIIIIIQQ", tcp_info, tcp_info, element_of_kernel or element, element, count, room, 0, 0
    )
    raw += pattern(info)
    there = min(count, room)
    at = 4 if (element_of_kernel or element) == 260 else 8
    for n in range(1, there + 1):
        addresses = sockaddr(f"10.0.0.{n}", 1000 + n) + sockaddr("2001:db8::1", 443)
        raw += (struct.pack("=I", 2 * n - 1).ljust(at, b"\0") + addresses).ljust(element, b"\xaa")
    for n in range(1, there + 1):
        raw += bytes([7 if n == 1 else 1]) + pattern(tcp_info - 1)
    return raw
