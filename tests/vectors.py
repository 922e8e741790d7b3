# SPDX-License-Identifier: MIT
"""Bytes as kernels write them, and what they mean: tables typed from the kernel's headers by hand.

They are a second opinion on csrc/mptcp_abi.h, so nothing here is derived from it.
"""

from __future__ import annotations

import socket
import struct
import sys

# struct mptcp_info: name, offset, size, the kernel's length from which the field is there, release, unit.
MPTCP_INFO = [
    ("subflows", 0, 1, 40, "5.9", "subflows"),
    ("add_addr_signal", 1, 1, 40, "5.9", "addresses"),
    ("add_addr_accepted", 2, 1, 40, "5.9", "addresses"),
    ("subflows_max", 3, 1, 40, "5.9", "subflows"),
    ("add_addr_signal_max", 4, 1, 40, "5.9", "endpoints"),
    ("add_addr_accepted_max", 5, 1, 40, "5.9", "addresses"),
    ("flags", 8, 4, 40, "5.9", "bits"),
    ("token", 12, 4, 40, "5.9", "token"),
    ("write_seq", 16, 8, 40, "5.9", "sequence number"),
    ("snd_una", 24, 8, 40, "5.9", "sequence number"),
    ("rcv_nxt", 32, 8, 40, "5.9", "sequence number"),
    ("local_addr_used", 40, 1, 44, "5.12", "endpoints"),
    ("local_addr_max", 41, 1, 44, "5.12", "endpoints"),
    ("csum_enabled", 42, 1, 44, "5.14", "boolean"),
    ("retransmits", 44, 4, 80, "6.5", "timeouts"),
    ("bytes_retrans", 48, 8, 80, "6.5", "bytes"),
    ("bytes_sent", 56, 8, 80, "6.5", "bytes"),
    ("bytes_received", 64, 8, 80, "6.5", "bytes"),
    ("bytes_acked", 72, 8, 80, "6.5", "bytes"),
    ("subflows_total", 80, 1, 84, "6.8", "subflows"),
    ("endp_laminar_max", 81, 1, 96, "6.18", "endpoints"),
    ("endp_fullmesh_max", 82, 1, 96, "6.19", "endpoints"),
    ("last_data_sent", 84, 4, 96, "6.10", "ms"),
    ("last_data_recv", 88, 4, 96, "6.10", "ms"),
    ("last_ack_recv", 92, 4, 96, "6.10", "ms"),
]

# Of today, as a 64-bit kernel pads it.
MPTCP_INFO_LENGTH = max(offset + size + 7 for _, offset, size, *_ in MPTCP_INFO) // 8 * 8

# struct tcp_info without its bit-fields in bytes 6 and 7: name, offset, size, release, unit.
TCP_INFO = [
    ("state", 0, 1, "2.6", "state"),
    ("ca_state", 1, 1, "2.6", "state"),
    ("retransmits", 2, 1, "2.6", "timeouts"),
    ("probes", 3, 1, "2.6", "probes"),
    ("backoff", 4, 1, "2.6", "doublings"),
    ("options", 5, 1, "2.6", "bits"),
    ("rto", 8, 4, "2.6", "us"),
    ("ato", 12, 4, "2.6", "us"),
    ("snd_mss", 16, 4, "2.6", "bytes"),
    ("rcv_mss", 20, 4, "2.6", "bytes"),
    ("unacked", 24, 4, "2.6", "segments"),
    ("sacked", 28, 4, "2.6", "segments"),
    ("lost", 32, 4, "2.6", "segments"),
    ("retrans", 36, 4, "2.6", "segments"),
    ("fackets", 40, 4, "2.6", "segments"),
    ("last_data_sent", 44, 4, "2.6", "ms"),
    ("last_ack_sent", 48, 4, "2.6", "ms"),
    ("last_data_recv", 52, 4, "2.6", "ms"),
    ("last_ack_recv", 56, 4, "2.6", "ms"),
    ("pmtu", 60, 4, "2.6", "bytes"),
    ("rcv_ssthresh", 64, 4, "2.6", "bytes"),
    ("rtt", 68, 4, "2.6", "us"),
    ("rttvar", 72, 4, "2.6", "us"),
    ("snd_ssthresh", 76, 4, "2.6", "segments"),
    ("snd_cwnd", 80, 4, "2.6", "segments"),
    ("advmss", 84, 4, "2.6", "bytes"),
    ("reordering", 88, 4, "2.6", "segments"),
    ("rcv_rtt", 92, 4, "2.6", "us"),
    ("rcv_space", 96, 4, "2.6", "bytes"),
    ("total_retrans", 100, 4, "2.6", "segments"),
    ("pacing_rate", 104, 8, "3.15", "bytes/s"),
    ("max_pacing_rate", 112, 8, "3.15", "bytes/s"),
    ("bytes_acked", 120, 8, "4.1", "bytes"),
    ("bytes_received", 128, 8, "4.1", "bytes"),
    ("segs_out", 136, 4, "4.2", "segments"),
    ("segs_in", 140, 4, "4.2", "segments"),
    ("notsent_bytes", 144, 4, "4.6", "bytes"),
    ("min_rtt", 148, 4, "4.6", "us"),
    ("data_segs_in", 152, 4, "4.6", "segments"),
    ("data_segs_out", 156, 4, "4.6", "segments"),
    ("delivery_rate", 160, 8, "4.9", "bytes/s"),
    ("busy_time", 168, 8, "4.10", "us"),
    ("rwnd_limited", 176, 8, "4.10", "us"),
    ("sndbuf_limited", 184, 8, "4.10", "us"),
    ("delivered", 192, 4, "4.18", "segments"),
    ("delivered_ce", 196, 4, "4.18", "segments"),
    ("bytes_sent", 200, 8, "4.19", "bytes"),
    ("bytes_retrans", 208, 8, "4.19", "bytes"),
    ("dsack_dups", 216, 4, "4.19", "segments"),
    ("reord_seen", 220, 4, "4.19", "events"),
    ("rcv_ooopack", 224, 4, "5.4", "segments"),
    ("snd_wnd", 228, 4, "5.4", "bytes"),
    ("rcv_wnd", 232, 4, "6.2", "bytes"),
    ("rehash", 236, 4, "6.2", "times"),
    ("total_rto", 240, 2, "6.7", "timeouts"),
    ("total_rto_recoveries", 242, 2, "6.7", "times"),
    ("total_rto_time", 244, 4, "6.7", "ms"),
    ("received_ce", 248, 4, "6.18", "segments"),
    ("delivered_e1_bytes", 252, 4, "6.18", "bytes"),
    ("delivered_e0_bytes", 256, 4, "6.18", "bytes"),
    ("delivered_ce_bytes", 260, 4, "6.18", "bytes"),
    ("received_e1_bytes", 264, 4, "6.18", "bytes"),
    ("received_e0_bytes", 268, 4, "6.18", "bytes"),
    ("received_ce_bytes", 272, 4, "6.18", "bytes"),
    ("raw_276", 276, 4, "6.18", "bits"),
]

# The bit-fields: name, release, unit.
TCP_INFO_BITS = [
    ("snd_wscale", "2.6", "bits"),
    ("rcv_wscale", "2.6", "bits"),
    ("delivery_rate_app_limited", "4.9", "boolean"),
    ("fastopen_client_fail", "5.5", "reason"),
]

# The length of struct tcp_info in the releases that made it longer.
TCP_INFO_LENGTHS = {
    "2.6": 104, "3.15": 120, "4.1": 136, "4.2": 144, "4.6": 160, "4.9": 168, "4.10": 192, "4.18": 200,
    "4.19": 224, "5.4": 232, "6.2": 240, "6.7": 248, "6.18": 280,
}  # fmt: skip


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
        addresses = sockaddr(f"10.0.0.{n}", 1000 + n) + sockaddr("192.0.2.1", 443)
        raw += (struct.pack("=I", 2 * n - 1).ljust(at, b"\0") + addresses).ljust(element, b"\xaa")
    for n in range(1, there + 1):
        raw += bytes([7 if n == 1 else 1]) + pattern(tcp_info - 1)
    return raw
