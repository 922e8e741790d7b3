# SPDX-License-Identifier: MIT
"""struct tcp_info, which a subflow shares with plain TCP, and the states that it names.

Attributes are the fields of the C struct under the kernel's names without ``tcpi_``.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum

from . import _border
from ._fields import FieldOf, View, always, named, newer
from ._records import ShownByName

_STATES = _border.numbers("TCP_")


class TCPState(ShownByName, enum.IntEnum):
    """Values of ``TCPInfo.state``; ``str()`` is the name. Thread rule: immutable, use it anywhere."""

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


STATES = {int(state): state for state in TCPState}

#: The handshake is complete, and at most one end has closed: the truth behind ``live`` and ``live_count``.
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
    _vital = ("state", "rtt", "snd_cwnd", "unacked", "bytes_acked", "bytes_received", "total_retrans")

    state: FieldOf[TCPState | int] = named("A number of TCPState.", "state", "2.6", STATES)
    """A number of TCPState. (state; Linux 2.6)"""
    ca_state: FieldOf[int] = always(
        "Congestion avoidance: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.", "state", "2.6", "label"
    )
    """Congestion avoidance: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss. (state; Linux 2.6)"""
    retransmits: FieldOf[int] = always(
        "Timeouts in a row of the oldest segment, at this moment.", "timeouts", "2.6", "gauge"
    )
    """Timeouts in a row of the oldest segment, at this moment. (timeouts; Linux 2.6)"""
    probes: FieldOf[int] = always("Window probes in a row that were not answered.", "probes", "2.6", "gauge")
    """Window probes in a row that were not answered. (probes; Linux 2.6)"""
    backoff: FieldOf[int] = always(
        "How often the retransmission timeout was doubled.", "doublings", "2.6", "gauge"
    )
    """How often the retransmission timeout was doubled. (doublings; Linux 2.6)"""
    options: FieldOf[int] = always(
        "Bits: 1 timestamps, 2 SACK, 4 window scale, 8 ECN, 16 ECN seen, 32 SYN data, 64 us timestamps, 128"
        " child of TCP Fast Open.",
        "bits",
        "2.6",
        "label",
    )
    """Bits: 1 timestamps, 2 SACK, 4 window scale, 8 ECN, 16 ECN seen, 32 SYN data, 64 us timestamps, 128
    child of TCP Fast Open. (bits; Linux 2.6)"""
    snd_wscale: FieldOf[int] = always("Window scale of the peer.", "bits", "2.6", "label")
    """Window scale of the peer. (bits; Linux 2.6)"""
    rcv_wscale: FieldOf[int] = always("Window scale of this side.", "bits", "2.6", "label")
    """Window scale of this side. (bits; Linux 2.6)"""
    delivery_rate_app_limited: FieldOf[int] = always(
        "1 where the application limited delivery_rate.", "boolean", "4.9", "label"
    )
    """1 where the application limited delivery_rate. (boolean; Linux 4.9)"""
    fastopen_client_fail: FieldOf[int] = always(
        "Why TCP Fast Open failed: 0 unspecified, 1 no cookie, 2 SYN+data not acknowledged, 3 the same "
        "after a SYN retransmission.",
        "reason",
        "5.5",
        "label",
    )
    """Why TCP Fast Open failed: 0 unspecified, 1 no cookie, 2 SYN+data not acknowledged, 3 the same after a
    SYN retransmission. (reason; Linux 5.5)"""
    rto: FieldOf[int] = always("Retransmission timeout.", "us", "2.6", "gauge")
    """Retransmission timeout. (us; Linux 2.6)"""
    ato: FieldOf[int] = always("Timeout of a delayed acknowledgement.", "us", "2.6", "gauge")
    """Timeout of a delayed acknowledgement. (us; Linux 2.6)"""
    snd_mss: FieldOf[int] = always("Maximum segment size sent.", "bytes", "2.6", "gauge")
    """Maximum segment size sent. (bytes; Linux 2.6)"""
    rcv_mss: FieldOf[int] = always("Maximum segment size received, as estimated.", "bytes", "2.6", "gauge")
    """Maximum segment size received, as estimated. (bytes; Linux 2.6)"""
    unacked: FieldOf[int] = always(
        "Segments in flight; on a listener the length of its accept queue.", "segments", "2.6", "gauge"
    )
    """Segments in flight; on a listener the length of its accept queue. (segments; Linux 2.6)"""
    sacked: FieldOf[int] = always(
        "Segments acknowledged by SACK; on a listener its backlog.", "segments", "2.6", "gauge"
    )
    """Segments acknowledged by SACK; on a listener its backlog. (segments; Linux 2.6)"""
    lost: FieldOf[int] = always("Segments thought lost.", "segments", "2.6", "gauge")
    """Segments thought lost. (segments; Linux 2.6)"""
    retrans: FieldOf[int] = always("Segments retransmitted and still in flight.", "segments", "2.6", "gauge")
    """Segments retransmitted and still in flight. (segments; Linux 2.6)"""
    fackets: FieldOf[int] = always("Always 0 since 4.15.", "segments", "2.6", "gauge")
    """Always 0 since 4.15. (segments; Linux 2.6)"""
    last_data_sent: FieldOf[int] = always(
        "Time since data was last sent; before the first, since the handshake.",
        "ms",
        "2.6",
        "age",
        never=lambda info: info.bytes_sent == 0,
    )
    """Time since data was last sent; before the first, since the handshake. (ms; Linux 2.6)"""
    last_ack_sent: FieldOf[int] = always(
        "Always 0: the kernel does not keep it.", "ms", "2.6", "age", sentinel=0
    )
    """Always 0: the kernel does not keep it. (ms; Linux 2.6)"""
    last_data_recv: FieldOf[int] = always(
        "Time since data was last received; before the first, since the handshake.",
        "ms",
        "2.6",
        "age",
        never=lambda info: info.data_segs_in == 0 or info.bytes_received == 0,
    )
    """Time since data was last received; before the first, since the handshake. (ms; Linux 2.6)"""
    last_ack_recv: FieldOf[int] = always(
        "Time since an acknowledgement was last received, that of our SYN included.",
        "ms",
        "2.6",
        "age",
        never=lambda info: info.delivered == 0,
    )
    """Time since an acknowledgement was last received, that of our SYN included. (ms; Linux 2.6)"""
    pmtu: FieldOf[int] = always("Path MTU.", "bytes", "2.6", "gauge")
    """Path MTU. (bytes; Linux 2.6)"""
    rcv_ssthresh: FieldOf[int] = always("Receive window clamp.", "bytes", "2.6", "gauge")
    """Receive window clamp. (bytes; Linux 2.6)"""
    rtt: FieldOf[int] = always("Round-trip time, smoothed; 0 until it was measured.", "us", "2.6", "gauge")
    """Round-trip time, smoothed; 0 until it was measured. (us; Linux 2.6)"""
    rttvar: FieldOf[int] = always("Mean deviation of the round-trip time.", "us", "2.6", "gauge")
    """Mean deviation of the round-trip time. (us; Linux 2.6)"""
    snd_ssthresh: FieldOf[int] = always(
        "Slow-start threshold.", "segments", "2.6", "gauge", sentinel=0x7FFFFFFF
    )
    """Slow-start threshold. (segments; Linux 2.6)"""
    snd_cwnd: FieldOf[int] = always("Congestion window.", "segments", "2.6", "gauge")
    """Congestion window. (segments; Linux 2.6)"""
    advmss: FieldOf[int] = always("Maximum segment size advertised.", "bytes", "2.6", "limit")
    """Maximum segment size advertised. (bytes; Linux 2.6)"""
    reordering: FieldOf[int] = always("Reordering that is tolerated.", "segments", "2.6", "gauge")
    """Reordering that is tolerated. (segments; Linux 2.6)"""
    rcv_rtt: FieldOf[int] = always(
        "Round-trip time as the receiver estimates it; 0 if it cannot.", "us", "2.6", "gauge"
    )
    """Round-trip time as the receiver estimates it; 0 if it cannot. (us; Linux 2.6)"""
    rcv_space: FieldOf[int] = always(
        "Receive buffer space that auto-tuning aims at.", "bytes", "2.6", "gauge"
    )
    """Receive buffer space that auto-tuning aims at. (bytes; Linux 2.6)"""
    total_retrans: FieldOf[int] = always("Segments retransmitted, in total.", "segments", "2.6", "counter")
    """Segments retransmitted, in total. (segments; Linux 2.6)"""
    pacing_rate: FieldOf[int | None] = newer(
        "3.15", "Rate at which sending is paced.", "bytes/s", "gauge", sentinel=2**64 - 1
    )
    """Rate at which sending is paced. (bytes/s; Linux 3.15)"""
    max_pacing_rate: FieldOf[int | None] = newer(
        "3.15",
        "Limit on pacing_rate (SO_MAX_PACING_RATE); exceeds 2^53 where there is none.",
        "bytes/s",
        "limit",
        sentinel=2**64 - 1,
    )
    """Limit on pacing_rate (SO_MAX_PACING_RATE); exceeds 2^53 where there is none. (bytes/s; Linux 3.15)"""
    bytes_acked: FieldOf[int | None] = newer(
        "4.1",
        "Acknowledged by the peer's TCP, read or not; our FIN counts as one, and our SYN where this side "
        "connected.",
        "bytes",
        "counter",
    )
    """Acknowledged by the peer's TCP, read or not; our FIN counts as one, and our SYN where this side
    connected. (bytes; Linux 4.1)"""
    bytes_received: FieldOf[int | None] = newer(
        "4.1",
        "Received in order, read or not; the peer's FIN counts as one, what MPTCP sent again counts again.",
        "bytes",
        "counter",
    )
    """Received in order, read or not; the peer's FIN counts as one, what MPTCP sent again counts again.
    (bytes; Linux 4.1)"""
    segs_out: FieldOf[int | None] = newer("4.2", "Segments sent.", "segments", "counter")
    """Segments sent. (segments; Linux 4.2)"""
    segs_in: FieldOf[int | None] = newer("4.2", "Segments received.", "segments", "counter")
    """Segments received. (segments; Linux 4.2)"""
    notsent_bytes: FieldOf[int | None] = newer(
        "4.6", "Written and not yet sent; means nothing in state CLOSE.", "bytes", "gauge"
    )
    """Written and not yet sent; means nothing in state CLOSE. (bytes; Linux 4.6)"""
    min_rtt: FieldOf[int | None] = newer(
        "4.6", "Smallest round-trip time of the last minutes.", "us", "gauge", sentinel=2**32 - 1
    )
    """Smallest round-trip time of the last minutes. (us; Linux 4.6)"""
    data_segs_in: FieldOf[int | None] = newer("4.6", "Segments with payload received.", "segments", "counter")
    """Segments with payload received. (segments; Linux 4.6)"""
    data_segs_out: FieldOf[int | None] = newer("4.6", "Segments with payload sent.", "segments", "counter")
    """Segments with payload sent. (segments; Linux 4.6)"""
    delivery_rate: FieldOf[int | None] = newer("4.9", "Goodput as last measured.", "bytes/s", "gauge")
    """Goodput as last measured. (bytes/s; Linux 4.9)"""
    busy_time: FieldOf[int | None] = newer(
        "4.10", "Time with data in flight or waiting to be sent.", "us", "counter"
    )
    """Time with data in flight or waiting to be sent. (us; Linux 4.10)"""
    rwnd_limited: FieldOf[int | None] = newer(
        "4.10", "Part of busy_time limited by the peer's receive window.", "us", "counter"
    )
    """Part of busy_time limited by the peer's receive window. (us; Linux 4.10)"""
    sndbuf_limited: FieldOf[int | None] = newer(
        "4.10", "Part of busy_time limited by the send buffer.", "us", "counter"
    )
    """Part of busy_time limited by the send buffer. (us; Linux 4.10)"""
    delivered: FieldOf[int | None] = newer(
        "4.18", "Segments delivered, retransmitted ones included.", "segments", "counter"
    )
    """Segments delivered, retransmitted ones included. (segments; Linux 4.18)"""
    delivered_ce: FieldOf[int | None] = newer(
        "4.18", "Segments delivered with a congestion mark (ECN CE).", "segments", "counter"
    )
    """Segments delivered with a congestion mark (ECN CE). (segments; Linux 4.18)"""
    bytes_sent: FieldOf[int | None] = newer(
        "4.19", "Payload sent, retransmissions and data with the SYN included.", "bytes", "counter"
    )
    """Payload sent, retransmissions and data with the SYN included. (bytes; Linux 4.19)"""
    bytes_retrans: FieldOf[int | None] = newer("4.19", "Payload retransmitted.", "bytes", "counter")
    """Payload retransmitted. (bytes; Linux 4.19)"""
    dsack_dups: FieldOf[int | None] = newer(
        "4.19", "Duplicates that the peer reported by DSACK.", "segments", "counter"
    )
    """Duplicates that the peer reported by DSACK. (segments; Linux 4.19)"""
    reord_seen: FieldOf[int | None] = newer("4.19", "Reordering events.", "events", "counter")
    """Reordering events. (events; Linux 4.19)"""
    rcv_ooopack: FieldOf[int | None] = newer("5.4", "Segments received out of order.", "segments", "counter")
    """Segments received out of order. (segments; Linux 5.4)"""
    snd_wnd: FieldOf[int | None] = newer("5.4", "Window that the peer advertised, scaled.", "bytes", "gauge")
    """Window that the peer advertised, scaled. (bytes; Linux 5.4)"""
    rcv_wnd: FieldOf[int | None] = newer("6.2", "Window that this side advertised, scaled.", "bytes", "gauge")
    """Window that this side advertised, scaled. (bytes; Linux 6.2)"""
    rehash: FieldOf[int | None] = newer(
        "6.2", "Times that the flow's hash was changed to try another path.", "times", "counter"
    )
    """Times that the flow's hash was changed to try another path. (times; Linux 6.2)"""
    total_rto: FieldOf[int | None] = newer(
        "6.7", "Retransmission timeouts, SYN included.", "timeouts", "counter"
    )
    """Retransmission timeouts, SYN included. (timeouts; Linux 6.7)"""
    total_rto_recoveries: FieldOf[int | None] = newer(
        "6.7", "Recoveries from a timeout, SYN included.", "times", "counter"
    )
    """Recoveries from a timeout, SYN included. (times; Linux 6.7)"""
    total_rto_time: FieldOf[int | None] = newer(
        "6.7", "Time spent in recoveries from a timeout.", "ms", "counter"
    )
    """Time spent in recoveries from a timeout. (ms; Linux 6.7)"""
    received_ce: FieldOf[int | None] = newer(
        "6.18", "Segments received with a congestion mark (AccECN).", "segments", "counter"
    )
    """Segments received with a congestion mark (AccECN). (segments; Linux 6.18)"""
    delivered_e1_bytes: FieldOf[int | None] = newer(
        "6.18", "Delivered with ECT(1), as the peer reported (AccECN).", "bytes", "counter"
    )
    """Delivered with ECT(1), as the peer reported (AccECN). (bytes; Linux 6.18)"""
    delivered_e0_bytes: FieldOf[int | None] = newer(
        "6.18", "Delivered with ECT(0), as the peer reported (AccECN).", "bytes", "counter"
    )
    """Delivered with ECT(0), as the peer reported (AccECN). (bytes; Linux 6.18)"""
    delivered_ce_bytes: FieldOf[int | None] = newer(
        "6.18", "Delivered with CE, as the peer reported (AccECN).", "bytes", "counter"
    )
    """Delivered with CE, as the peer reported (AccECN). (bytes; Linux 6.18)"""
    received_e1_bytes: FieldOf[int | None] = newer(
        "6.18", "Received with ECT(1) (AccECN).", "bytes", "counter"
    )
    """Received with ECT(1) (AccECN). (bytes; Linux 6.18)"""
    received_e0_bytes: FieldOf[int | None] = newer(
        "6.18", "Received with ECT(0) (AccECN).", "bytes", "counter"
    )
    """Received with ECT(0) (AccECN). (bytes; Linux 6.18)"""
    received_ce_bytes: FieldOf[int | None] = newer("6.18", "Received with CE (AccECN).", "bytes", "counter")
    """Received with CE (AccECN). (bytes; Linux 6.18)"""
    raw_276: FieldOf[int | None] = newer(
        "6.18",
        "Bytes 276 to 279 as one native word. In 6.18 and 6.19 two u16, accecn_fail_mode and "
        "accecn_opt_seen; from 7.0 a bit-field: ecn_mode 2, accecn_opt_seen 2, accecn_fail_mode 4, options2"
        " 24 bits. Their size is the same, so only the kernel's own release can tell.",
        "bits",
        "label",
    )
    """Bytes 276 to 279 as one native word. In 6.18 and 6.19 two u16, accecn_fail_mode and accecn_opt_seen;
    from 7.0 a bit-field: ecn_mode 2, accecn_opt_seen 2, accecn_fail_mode 4, options2 24 bits. Their size is
    the same, so only the kernel's own release can tell. (bits; Linux 6.18)"""
