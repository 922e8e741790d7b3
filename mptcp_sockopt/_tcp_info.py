# SPDX-License-Identifier: MIT
"""struct tcp_info, which a subflow shares with plain TCP, and the states that it names.

Attributes are the fields of the C struct under the kernel's names without ``tcpi_``.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum

from . import _border
from ._fields import View, always, newer

_STATES = _border.numbers("TCP_")


class TCPState(enum.IntEnum):
    """Values of ``TCPInfo.state``. Thread rule: immutable, use it anywhere."""

    ESTABLISHED = _STATES["ESTABLISHED"]
    SYN_SENT = _STATES["SYN_SENT"]
    SYN_RECV = _STATES["SYN_RECV"]
    FIN_WAIT1 = _STATES["FIN_WAIT1"]
    FIN_WAIT2 = _STATES["FIN_WAIT2"]
    TIME_WAIT = _STATES["TIME_WAIT"]
    CLOSE = _STATES["CLOSE"]
    CLOSE_WAIT = _STATES["CLOSE_WAIT"]
    LAST_ACK = _STATES["LAST_ACK"]
    LISTEN = _STATES["LISTEN"]
    CLOSING = _STATES["CLOSING"]
    NEW_SYN_RECV = _STATES["NEW_SYN_RECV"]


#: A subflow in one of these can carry data: the truth behind ``live`` and ``live_count``.
LIVE_STATES = frozenset({TCPState.ESTABLISHED, TCPState.FIN_WAIT1, TCPState.FIN_WAIT2, TCPState.CLOSE_WAIT})


class TCPInfo(View):
    """``struct tcp_info``: one subflow, or a plain TCP socket (MPTCP_TCPINFO, TCP_INFO).

    The kernel's length decides what is there: 232 bytes in 5.4, 240 in 6.2, 248 in 6.7, 280 in 6.18. Any
    length is accepted, and a field is present if it ends within it. A bit that came later in a byte that
    was there before (``delivery_rate_app_limited``, ``fastopen_client_fail``) reads 0 on older kernels.

    Of an initial subflow that a fastclose or the end of its connection reset, the counters are zeros and
    ``notsent_bytes`` is a left-over. Ages of what never happened are about the machine's uptime, or 0.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = _border.layout("tcp_info", "tcpi_")
    _small = "snd_mss"  # of 16 bits in every segment

    state = always("A number of TCPState.", "state", "2.6")
    ca_state = always("Congestion avoidance: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.", "state", "2.6")
    retransmits = always("Timeouts in a row of the oldest segment, at this moment.", "timeouts", "2.6")
    probes = always("Window probes in a row that were not answered.", "probes", "2.6")
    backoff = always("How often the retransmission timeout was doubled.", "doublings", "2.6")
    options = always(
        "Bits: 1 timestamps, 2 SACK, 4 window scale, 8 ECN, 16 ECN seen, 32 SYN data, 64 us timestamps, "
        "128 child of TCP Fast Open.", "bits", "2.6",
    )  # fmt: skip
    snd_wscale = always("Window scale of the peer.", "bits", "2.6")
    rcv_wscale = always("Window scale of this side.", "bits", "2.6")
    delivery_rate_app_limited = always("1 where the application limited delivery_rate.", "boolean", "4.9")
    fastopen_client_fail = always("Why TCP Fast Open failed: 0 unspecified, 1 no cookie, 2 SYN+data not "
        "acknowledged, 3 the same after a SYN retransmission.", "reason", "5.5")  # fmt: skip
    rto = always("Retransmission timeout.", "us", "2.6")
    ato = always("Timeout of a delayed acknowledgement.", "us", "2.6")
    snd_mss = always("Maximum segment size sent.", "bytes", "2.6")
    rcv_mss = always("Maximum segment size received, as estimated.", "bytes", "2.6")
    unacked = always("Segments in flight; on a listener the length of its accept queue.", "segments", "2.6")
    sacked = always("Segments acknowledged by SACK; on a listener its backlog.", "segments", "2.6")
    lost = always("Segments thought lost.", "segments", "2.6")
    retrans = always("Segments retransmitted and still in flight.", "segments", "2.6")
    fackets = always("Always 0 since 4.15.", "segments", "2.6")
    last_data_sent = always(
        "Since data was last sent; before the first, since the handshake.", "ms", "2.6",
        never=lambda info: info.bytes_sent == 0,
    )  # fmt: skip
    last_ack_sent = always("Always 0: the kernel does not keep it.", "ms", "2.6", sentinel=0)
    last_data_recv = always(
        "Since data was last received; before the first, since the handshake.", "ms", "2.6",
        never=lambda info: info.data_segs_in == 0 or info.bytes_received == 0,
    )  # fmt: skip
    last_ack_recv = always(
        "Since an acknowledgement was last received, that of our SYN included.", "ms", "2.6",
        never=lambda info: info.delivered == 0,
    )  # fmt: skip
    pmtu = always("Path MTU.", "bytes", "2.6")
    rcv_ssthresh = always("Receive window clamp.", "bytes", "2.6")
    rtt = always("Round-trip time, smoothed; 0 until it was measured.", "us", "2.6")
    rttvar = always("Mean deviation of the round-trip time.", "us", "2.6")
    snd_ssthresh = always("Slow-start threshold.", "segments", "2.6", sentinel=0x7FFFFFFF)
    snd_cwnd = always("Congestion window.", "segments", "2.6")
    advmss = always("Maximum segment size advertised.", "bytes", "2.6")
    reordering = always("Reordering that is tolerated.", "segments", "2.6")
    rcv_rtt = always("Round-trip time as the receiver estimates it; 0 if it cannot.", "us", "2.6")
    rcv_space = always("Receive buffer space that auto-tuning aims at.", "bytes", "2.6")
    total_retrans = always("Segments retransmitted, in total.", "segments", "2.6")
    pacing_rate = newer("3.15", "Rate at which sending is paced.", "bytes/s", sentinel=2**64 - 1)
    max_pacing_rate = newer(
        "3.15",
        "Limit on pacing_rate (SO_MAX_PACING_RATE); exceeds 2^53 where there is none.",
        "bytes/s",
        sentinel=2**64 - 1,
    )
    bytes_acked = newer(
        "4.1",
        "Acknowledged by the peer's TCP, read or not; our FIN counts as one, and our SYN where this side "
        "connected.", "bytes",
    )  # fmt: skip
    bytes_received = newer(
        "4.1",
        "Received in order, read or not; the peer's FIN counts as one, what MPTCP sent again counts again.",
        "bytes",
    )
    segs_out = newer("4.2", "Segments sent.", "segments")
    segs_in = newer("4.2", "Segments received.", "segments")
    notsent_bytes = newer("4.6", "Written and not yet sent; means nothing in state CLOSE.", "bytes")
    min_rtt = newer("4.6", "Smallest round-trip time of the last minutes.", "us", sentinel=2**32 - 1)
    data_segs_in = newer("4.6", "Segments with payload received.", "segments")
    data_segs_out = newer("4.6", "Segments with payload sent.", "segments")
    delivery_rate = newer("4.9", "Goodput as last measured.", "bytes/s")
    busy_time = newer("4.10", "Time with data in flight or waiting to be sent.", "us")
    rwnd_limited = newer("4.10", "Part of busy_time limited by the peer's receive window.", "us")
    sndbuf_limited = newer("4.10", "Part of busy_time limited by the send buffer.", "us")
    delivered = newer("4.18", "Segments delivered, retransmitted ones included.", "segments")
    delivered_ce = newer("4.18", "Segments delivered with a congestion mark (ECN CE).", "segments")
    bytes_sent = newer("4.19", "Payload sent, retransmissions and data with the SYN included.", "bytes")
    bytes_retrans = newer("4.19", "Payload retransmitted.", "bytes")
    dsack_dups = newer("4.19", "Duplicates that the peer reported by DSACK.", "segments")
    reord_seen = newer("4.19", "Reordering events.", "events")
    rcv_ooopack = newer("5.4", "Segments received out of order.", "segments")
    snd_wnd = newer("5.4", "Window that the peer advertised, scaled.", "bytes")
    rcv_wnd = newer("6.2", "Window that this side advertised, scaled.", "bytes")
    rehash = newer("6.2", "Times that the flow's hash was changed to try another path.", "times")
    total_rto = newer("6.7", "Retransmission timeouts, SYN included.", "timeouts")
    total_rto_recoveries = newer("6.7", "Recoveries from a timeout, SYN included.", "times")
    total_rto_time = newer("6.7", "Time spent in recoveries from a timeout.", "ms")
    received_ce = newer("6.18", "Segments received with a congestion mark (AccECN).", "segments")
    delivered_e1_bytes = newer("6.18", "Delivered with ECT(1), as the peer reported (AccECN).", "bytes")
    delivered_e0_bytes = newer("6.18", "Delivered with ECT(0), as the peer reported (AccECN).", "bytes")
    delivered_ce_bytes = newer("6.18", "Delivered with CE, as the peer reported (AccECN).", "bytes")
    received_e1_bytes = newer("6.18", "Received with ECT(1) (AccECN).", "bytes")
    received_e0_bytes = newer("6.18", "Received with ECT(0) (AccECN).", "bytes")
    received_ce_bytes = newer("6.18", "Received with CE (AccECN).", "bytes")
    raw_276 = newer(
        "6.18", "Bytes 276 to 279 as one native word. In 6.18 and 6.19 two u16, accecn_fail_mode and "
        "accecn_opt_seen; from 7.0 a bit-field: ecn_mode 2, accecn_opt_seen 2, accecn_fail_mode 4, "
        "options2 24 bits. Their size is the same, so only the kernel's own release can tell.", "bits",
    )  # fmt: skip
