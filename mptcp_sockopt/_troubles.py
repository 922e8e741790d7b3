# SPDX-License-Identifier: MIT
"""Signs of trouble in what the kernel reports: a path that stalled, and data that is sent again and again."""

from __future__ import annotations

from . import _types as t
from ._mptcp_info import MPTCPInfo
from ._tcp_info import TCPInfo, TCPState

_SYNCHRONISED = frozenset({
    TCPState.ESTABLISHED, TCPState.FIN_WAIT1, TCPState.FIN_WAIT2, TCPState.CLOSE_WAIT, TCPState.CLOSING,
    TCPState.LAST_ACK, TCPState.TIME_WAIT,
})  # fmt: skip
_PATIENCE = 200_000  # us: the least retransmission timeout


def is_stalled(tcp_info: TCPInfo, standing: int | None = None) -> bool | None:
    """Whether a path stalled: data is outstanding, and for max(200 ms, 2 rtt) nothing was acknowledged.

    True after a retransmission timeout, and if neither an ACK came nor data was sent for that long. Because
    data may be sent again meanwhile, history tells more: standing is the time, in ns, for which
    ``bytes_acked`` has not changed while ``unacked`` was above 0 at every look. It counts only while no ACK
    comes: where one packet is lost and those after it arrive, ``bytes_acked`` stands still on a sound path.
    While the peer's window is closed (``snd_wnd`` is 0, known from Linux 5.4), it drops what is sent, and an
    ACK that came after the last sending shows that the path is sound.

    None if nothing is outstanding (``unacked`` is 0), in a state without a complete handshake, and if the
    answer is too short to tell. A path that is idle or only receives shows nothing when it dies: None.

    Rule and times as measured on Linux 6.18 (docs/subflows.md). Call it from any thread.
    """
    if tcp_info.state not in _SYNCHRONISED or not tcp_info.unacked or tcp_info.rtt is None:
        return None
    # last_ack_recv alone also runs on while nothing is sent.
    waited = max(tcp_info.last_data_sent * 1000, (standing or 0) // 1000)
    silent = min(tcp_info.last_ack_recv * 1000, waited)
    if tcp_info.snd_wnd == 0:
        answered = tcp_info.last_ack_recv <= tcp_info.last_data_sent
        silent = 0 if answered else tcp_info.last_data_sent * 1000
    return tcp_info.retransmits > 0 or silent > max(_PATIENCE, 2 * tcp_info.rtt)


def is_resending(before: MPTCPInfo, now: MPTCPInfo, tcp_infos: t.Iterable[TCPInfo]) -> bool:
    """Whether this side sends data again that TCP says has arrived: as a rule, the peer fell back alone.

    A receiver that fell back while its sender did not acknowledges no more MPTCP data. The sender repeats the
    first unacknowledged bytes without end, and the receiver takes each repetition for new data. It looks the
    same here if a middlebox changes MPTCP's sequence numbers: then the receiver drops the data.

    before and now: two looks at one connection. tcp_infos: its live subflows, as of now. True if
    ``bytes_retrans`` grew, ``bytes_acked`` did not although data is outstanding, and TCP waits for no
    acknowledgement.

    Always False before Linux 6.5, which does not count these bytes. Call it from any thread.
    """
    if now.bytes_retrans is None or before.bytes_retrans is None:
        return False
    outstanding = [tcp_info.unacked for tcp_info in tcp_infos]
    return (
        now.bytes_retrans > before.bytes_retrans
        and now.bytes_acked == before.bytes_acked
        and bool(now.unacked_bytes)
        and outstanding != []
        and not any(outstanding)
    )


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (is_stalled, is_resending):
    _public.__module__ = "mptcp_sockopt"
