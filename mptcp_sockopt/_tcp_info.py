# SPDX-License-Identifier: MIT
"""struct tcp_info, which MPTCP subflows share with plain TCP, and the TCP states.

Attributes have the names of the C struct's fields, without ``tcpi_``.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum

from . import _border
from ._fields import FieldOf, View, always, named, newer
from ._records import ShownByName
from ._unpacking import Without

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

#: The handshake is complete and at most one end has closed. ``live`` and ``live_count`` are defined by this
#: set.
LIVE_STATES = frozenset({TCPState.ESTABLISHED, TCPState.FIN_WAIT1, TCPState.FIN_WAIT2, TCPState.CLOSE_WAIT})


class TCPInfo(View):
    """``struct tcp_info``: state and counters of one subflow or a plain TCP socket (MPTCP_TCPINFO, TCP_INFO).

    Which fields are present depends on the length that the kernel returned: 232 bytes in 5.4, 240 in 6.2, 248
    in 6.7, 280 in 6.18. Any length is accepted; a field is present if it ends within it. Bits that were added
    to an existing byte (``delivery_rate_app_limited``, ``fastopen_client_fail``) read 0 on older kernels.

    If a fastclose or the end of the connection reset the initial subflow, its counters are 0 and
    ``notsent_bytes`` is stale. The age of an event that never happened is about the machine's uptime, or 0.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = _border.layout("tcp_info", "tcpi_")
    _small = "snd_mss"  # fits in 16 bits
    _vital = ("state", "rtt", "snd_cwnd", "unacked", "bytes_acked", "bytes_received", "total_retrans")

    state: FieldOf[TCPState | int] = named("TCP state (TCPState).", "state", "2.6", STATES)
    """TCP state (TCPState). (state; Linux 2.6)"""
    ca_state: FieldOf[int] = always(
        "Congestion avoidance state: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.", "state", "2.6", "label"
    )
    """Congestion avoidance state: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss. (state; Linux 2.6)"""
    retransmits: FieldOf[int] = always(
        "Consecutive retransmission timeouts at this moment.", "timeouts", "2.6", "gauge"
    )
    """Consecutive retransmission timeouts at this moment. (timeouts; Linux 2.6)"""
    probes: FieldOf[int] = always("Consecutive window probes without an answer.", "probes", "2.6", "gauge")
    """Consecutive window probes without an answer. (probes; Linux 2.6)"""
    backoff: FieldOf[int] = always(
        "How often the current retransmission timeout was doubled.", "doublings", "2.6", "gauge"
    )
    """How often the current retransmission timeout was doubled. (doublings; Linux 2.6)"""
    options: FieldOf[int] = always(
        "Bits: 1 timestamps, 2 SACK, 4 window scaling, 8 ECN, 16 ECN seen, 32 data in the SYN, 64 "
        "microsecond timestamps, 128 accepted by TCP Fast Open.",
        "bits",
        "2.6",
        "label",
    )
    """Bits: 1 timestamps, 2 SACK, 4 window scaling, 8 ECN, 16 ECN seen, 32 data in the SYN, 64 microsecond
    timestamps, 128 accepted by TCP Fast Open. (bits; Linux 2.6)"""
    snd_wscale: FieldOf[int] = always("Window scale announced by the peer.", "bits", "2.6", "label")
    """Window scale announced by the peer. (bits; Linux 2.6)"""
    rcv_wscale: FieldOf[int] = always("Window scale announced by this side.", "bits", "2.6", "label")
    """Window scale announced by this side. (bits; Linux 2.6)"""
    delivery_rate_app_limited: FieldOf[int] = always(
        "1 if the application limited delivery_rate.", "boolean", "4.9", "label"
    )
    """1 if the application limited delivery_rate. (boolean; Linux 4.9)"""
    fastopen_client_fail: FieldOf[int] = always(
        "Why TCP Fast Open failed: 0 unspecified, 1 no cookie, 2 data in the SYN not acknowledged, 3 not "
        "acknowledged after a SYN retransmission either.",
        "reason",
        "5.5",
        "label",
    )
    """Why TCP Fast Open failed: 0 unspecified, 1 no cookie, 2 data in the SYN not acknowledged, 3 not
    acknowledged after a SYN retransmission either. (reason; Linux 5.5)"""
    rto: FieldOf[int] = always("Retransmission timeout.", "us", "2.6", "gauge")
    """Retransmission timeout. (us; Linux 2.6)"""
    ato: FieldOf[int] = always("Delayed-acknowledgement timeout.", "us", "2.6", "gauge")
    """Delayed-acknowledgement timeout. (us; Linux 2.6)"""
    snd_mss: FieldOf[int] = always("Maximum segment size for sending.", "bytes", "2.6", "gauge")
    """Maximum segment size for sending. (bytes; Linux 2.6)"""
    rcv_mss: FieldOf[int] = always(
        "Estimated maximum segment size of received data.", "bytes", "2.6", "gauge"
    )
    """Estimated maximum segment size of received data. (bytes; Linux 2.6)"""
    unacked: FieldOf[int] = always(
        "Segments in flight; on a listener, the length of its accept queue.", "segments", "2.6", "gauge"
    )
    """Segments in flight; on a listener, the length of its accept queue. (segments; Linux 2.6)"""
    sacked: FieldOf[int] = always(
        "Segments acknowledged by SACK; on a listener, its backlog.", "segments", "2.6", "gauge"
    )
    """Segments acknowledged by SACK; on a listener, its backlog. (segments; Linux 2.6)"""
    lost: FieldOf[int] = always("Segments considered lost.", "segments", "2.6", "gauge")
    """Segments considered lost. (segments; Linux 2.6)"""
    retrans: FieldOf[int] = always("Segments retransmitted and still in flight.", "segments", "2.6", "gauge")
    """Segments retransmitted and still in flight. (segments; Linux 2.6)"""
    fackets: FieldOf[int] = always("Always 0 since Linux 4.15.", "segments", "2.6", "gauge")
    """Always 0 since Linux 4.15. (segments; Linux 2.6)"""
    last_data_sent: FieldOf[int] = always(
        "Time since data was last sent; before the first data, since the handshake.",
        "ms",
        "2.6",
        "age",
        never=Without("bytes_sent"),
    )
    """Time since data was last sent; before the first data, since the handshake. (ms; Linux 2.6)"""
    last_ack_sent: FieldOf[int] = always(
        "Always 0: the kernel does not record it.", "ms", "2.6", "age", sentinel=0
    )
    """Always 0: the kernel does not record it. (ms; Linux 2.6)"""
    last_data_recv: FieldOf[int] = always(
        "Time since data was last received; before the first data, since the handshake.",
        "ms",
        "2.6",
        "age",
        never=Without("data_segs_in", "bytes_received"),
    )
    """Time since data was last received; before the first data, since the handshake. (ms; Linux 2.6)"""
    last_ack_recv: FieldOf[int] = always(
        "Time since an acknowledgement was last received, including that of our SYN.",
        "ms",
        "2.6",
        "age",
        never=Without("delivered"),
    )
    """Time since an acknowledgement was last received, including that of our SYN. (ms; Linux 2.6)"""
    pmtu: FieldOf[int] = always("Path MTU.", "bytes", "2.6", "gauge")
    """Path MTU. (bytes; Linux 2.6)"""
    rcv_ssthresh: FieldOf[int] = always("Receive window clamp.", "bytes", "2.6", "gauge")
    """Receive window clamp. (bytes; Linux 2.6)"""
    rtt: FieldOf[int] = always("Smoothed round-trip time; 0 until it is measured.", "us", "2.6", "gauge")
    """Smoothed round-trip time; 0 until it is measured. (us; Linux 2.6)"""
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
    reordering: FieldOf[int] = always("Amount of reordering that is tolerated.", "segments", "2.6", "gauge")
    """Amount of reordering that is tolerated. (segments; Linux 2.6)"""
    rcv_rtt: FieldOf[int] = always(
        "Round-trip time as estimated by the receiver; 0 without an estimate.", "us", "2.6", "gauge"
    )
    """Round-trip time as estimated by the receiver; 0 without an estimate. (us; Linux 2.6)"""
    rcv_space: FieldOf[int] = always(
        "Receive buffer space that auto-tuning aims for.", "bytes", "2.6", "gauge"
    )
    """Receive buffer space that auto-tuning aims for. (bytes; Linux 2.6)"""
    total_retrans: FieldOf[int] = always("Segments retransmitted in total.", "segments", "2.6", "counter")
    """Segments retransmitted in total. (segments; Linux 2.6)"""
    pacing_rate: FieldOf[int | None] = newer(
        "3.15", "Rate at which sending is paced.", "bytes/s", "gauge", sentinel=2**64 - 1
    )
    """Rate at which sending is paced. (bytes/s; Linux 3.15)"""
    max_pacing_rate: FieldOf[int | None] = newer(
        "3.15",
        "Limit on pacing_rate (SO_MAX_PACING_RATE); without a limit, a number that exceeds 2^53.",
        "bytes/s",
        "limit",
        sentinel=2**64 - 1,
    )
    """Limit on pacing_rate (SO_MAX_PACING_RATE); without a limit, a number that exceeds 2^53. (bytes/s; Linux
    3.15)"""
    bytes_acked: FieldOf[int | None] = newer(
        "4.1",
        "Bytes acknowledged by the peer's TCP, read or unread. Our FIN counts as one byte; so does our SYN, "
        "on the side that connected.",
        "bytes",
        "counter",
    )
    """Bytes acknowledged by the peer's TCP, read or unread. Our FIN counts as one byte; so does our SYN, on
    the side that connected. (bytes; Linux 4.1)"""
    bytes_received: FieldOf[int | None] = newer(
        "4.1",
        "Bytes received in order, read or unread. The peer's FIN counts as one byte, and data that MPTCP "
        "sent again counts again.",
        "bytes",
        "counter",
    )
    """Bytes received in order, read or unread. The peer's FIN counts as one byte, and data that MPTCP sent
    again counts again. (bytes; Linux 4.1)"""
    segs_out: FieldOf[int | None] = newer("4.2", "Segments sent.", "segments", "counter")
    """Segments sent. (segments; Linux 4.2)"""
    segs_in: FieldOf[int | None] = newer("4.2", "Segments received.", "segments", "counter")
    """Segments received. (segments; Linux 4.2)"""
    notsent_bytes: FieldOf[int | None] = newer(
        "4.6", "Bytes written but not yet sent; meaningless in state CLOSE.", "bytes", "gauge"
    )
    """Bytes written but not yet sent; meaningless in state CLOSE. (bytes; Linux 4.6)"""
    min_rtt: FieldOf[int | None] = newer(
        "4.6", "Smallest round-trip time in the last few minutes.", "us", "gauge", sentinel=2**32 - 1
    )
    """Smallest round-trip time in the last few minutes. (us; Linux 4.6)"""
    data_segs_in: FieldOf[int | None] = newer(
        "4.6", "Segments received that carry payload.", "segments", "counter"
    )
    """Segments received that carry payload. (segments; Linux 4.6)"""
    data_segs_out: FieldOf[int | None] = newer(
        "4.6", "Segments sent that carry payload.", "segments", "counter"
    )
    """Segments sent that carry payload. (segments; Linux 4.6)"""
    delivery_rate: FieldOf[int | None] = newer(
        "4.9", "Most recent measurement of goodput.", "bytes/s", "gauge"
    )
    """Most recent measurement of goodput. (bytes/s; Linux 4.9)"""
    busy_time: FieldOf[int | None] = newer(
        "4.10", "Time with data in flight or waiting to be sent.", "us", "counter"
    )
    """Time with data in flight or waiting to be sent. (us; Linux 4.10)"""
    rwnd_limited: FieldOf[int | None] = newer(
        "4.10", "Part of busy_time in which the peer's receive window limited sending.", "us", "counter"
    )
    """Part of busy_time in which the peer's receive window limited sending. (us; Linux 4.10)"""
    sndbuf_limited: FieldOf[int | None] = newer(
        "4.10", "Part of busy_time in which the send buffer limited sending.", "us", "counter"
    )
    """Part of busy_time in which the send buffer limited sending. (us; Linux 4.10)"""
    delivered: FieldOf[int | None] = newer(
        "4.18", "Segments delivered, including retransmitted ones.", "segments", "counter"
    )
    """Segments delivered, including retransmitted ones. (segments; Linux 4.18)"""
    delivered_ce: FieldOf[int | None] = newer(
        "4.18", "Segments delivered with a congestion mark (ECN CE).", "segments", "counter"
    )
    """Segments delivered with a congestion mark (ECN CE). (segments; Linux 4.18)"""
    bytes_sent: FieldOf[int | None] = newer(
        "4.19", "Payload sent, including retransmissions and data in the SYN.", "bytes", "counter"
    )
    """Payload sent, including retransmissions and data in the SYN. (bytes; Linux 4.19)"""
    bytes_retrans: FieldOf[int | None] = newer("4.19", "Payload retransmitted.", "bytes", "counter")
    """Payload retransmitted. (bytes; Linux 4.19)"""
    dsack_dups: FieldOf[int | None] = newer(
        "4.19", "Duplicate segments that the peer reported (DSACK).", "segments", "counter"
    )
    """Duplicate segments that the peer reported (DSACK). (segments; Linux 4.19)"""
    reord_seen: FieldOf[int | None] = newer("4.19", "Reordering events.", "events", "counter")
    """Reordering events. (events; Linux 4.19)"""
    rcv_ooopack: FieldOf[int | None] = newer("5.4", "Segments received out of order.", "segments", "counter")
    """Segments received out of order. (segments; Linux 5.4)"""
    snd_wnd: FieldOf[int | None] = newer(
        "5.4", "Receive window advertised by the peer, scaled.", "bytes", "gauge"
    )
    """Receive window advertised by the peer, scaled. (bytes; Linux 5.4)"""
    rcv_wnd: FieldOf[int | None] = newer(
        "6.2", "Receive window advertised by this side, scaled.", "bytes", "gauge"
    )
    """Receive window advertised by this side, scaled. (bytes; Linux 6.2)"""
    rehash: FieldOf[int | None] = newer(
        "6.2", "How often the flow's hash was changed to try another network path.", "times", "counter"
    )
    """How often the flow's hash was changed to try another network path. (times; Linux 6.2)"""
    total_rto: FieldOf[int | None] = newer(
        "6.7", "Retransmission timeouts, including those of the SYN.", "timeouts", "counter"
    )
    """Retransmission timeouts, including those of the SYN. (timeouts; Linux 6.7)"""
    total_rto_recoveries: FieldOf[int | None] = newer(
        "6.7", "Recoveries from retransmission timeouts, including those of the SYN.", "times", "counter"
    )
    """Recoveries from retransmission timeouts, including those of the SYN. (times; Linux 6.7)"""
    total_rto_time: FieldOf[int | None] = newer(
        "6.7", "Time spent recovering from retransmission timeouts.", "ms", "counter"
    )
    """Time spent recovering from retransmission timeouts. (ms; Linux 6.7)"""
    received_ce: FieldOf[int | None] = newer(
        "6.18", "Segments received with a congestion mark (AccECN).", "segments", "counter"
    )
    """Segments received with a congestion mark (AccECN). (segments; Linux 6.18)"""
    delivered_e1_bytes: FieldOf[int | None] = newer(
        "6.18", "Bytes delivered with ECT(1), as reported by the peer (AccECN).", "bytes", "counter"
    )
    """Bytes delivered with ECT(1), as reported by the peer (AccECN). (bytes; Linux 6.18)"""
    delivered_e0_bytes: FieldOf[int | None] = newer(
        "6.18", "Bytes delivered with ECT(0), as reported by the peer (AccECN).", "bytes", "counter"
    )
    """Bytes delivered with ECT(0), as reported by the peer (AccECN). (bytes; Linux 6.18)"""
    delivered_ce_bytes: FieldOf[int | None] = newer(
        "6.18", "Bytes delivered with CE, as reported by the peer (AccECN).", "bytes", "counter"
    )
    """Bytes delivered with CE, as reported by the peer (AccECN). (bytes; Linux 6.18)"""
    received_e1_bytes: FieldOf[int | None] = newer(
        "6.18", "Bytes received with ECT(1) (AccECN).", "bytes", "counter"
    )
    """Bytes received with ECT(1) (AccECN). (bytes; Linux 6.18)"""
    received_e0_bytes: FieldOf[int | None] = newer(
        "6.18", "Bytes received with ECT(0) (AccECN).", "bytes", "counter"
    )
    """Bytes received with ECT(0) (AccECN). (bytes; Linux 6.18)"""
    received_ce_bytes: FieldOf[int | None] = newer(
        "6.18", "Bytes received with CE (AccECN).", "bytes", "counter"
    )
    """Bytes received with CE (AccECN). (bytes; Linux 6.18)"""
    raw_276: FieldOf[int | None] = newer(
        "6.18",
        "Bytes 276 to 279 as one native word. In Linux 6.18 and 6.19 these are two u16, accecn_fail_mode "
        "and accecn_opt_seen; from 7.0 on a bit-field: ecn_mode 2 bits, accecn_opt_seen 2, accecn_fail_mode "
        "4, options2 24. The size is the same, so only the kernel release tells them apart.",
        "bits",
        "label",
    )
    """Bytes 276 to 279 as one native word. In Linux 6.18 and 6.19 these are two u16, accecn_fail_mode and
    accecn_opt_seen; from 7.0 on a bit-field: ecn_mode 2 bits, accecn_opt_seen 2, accecn_fail_mode 4, options2
    24. The size is the same, so only the kernel release tells them apart. (bits; Linux 6.18)"""
