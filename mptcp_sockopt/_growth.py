# SPDX-License-Identifier: MIT
"""By how much the counters of a connection and its subflows grew; or that it is another connection.

An MPTCP connection is identified by its token. A fastclose clears the token; then the random number that its
data numbering starts at identifies it: snd_una - bytes_acked.

Plain TCP reports nothing comparable: its initial sequence number cannot be read, its timestamp offset is a
function of addresses and ports, and SO_COOKIE does not change when a socket connects again. So we treat a TCP
flow as the same if socket and addresses are the same and nothing contradicts it:

- No counter in TCP_INFO went backwards, except those of AccECN: these are estimates that the peer corrects.
- Its state did not go backwards, as from LAST_ACK to ESTABLISHED.
- What the handshake negotiated (window scales, timestamps, SACK) is unchanged.
- No age restarted while its counter stood still. A handshake sets the ages of data sent, of data received and
  of the last acknowledgement. After that, each restarts only with a segment that is counted.
"""

from __future__ import annotations

from . import _types as t
from ._unpacking import several
from ._views import InfoFlag, MPTCPInfo, Subflow, TCPInfo, TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    #: One number for each of COUNTERS; None if unknown.
    Growth: TypeAlias = tuple[int | None, int | None, int | None, int | None]

COUNTERS: tuple[t.Counter, ...] = ("bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans")
UNKNOWN = (None, None, None, None)
_NOTHING = (0, 0, 0, 0)

#: COUNTERS of a subflow.
counters: Callable[[TCPInfo], Growth] = several(TCPInfo, *COUNTERS)
_of_connection: Callable[[MPTCPInfo], Growth] = several(MPTCPInfo, *COUNTERS)
_ages = several(TCPInfo, "last_data_sent", "last_data_recv", "last_ack_recv")  # ms
# Other fields of TCP_INFO that never go backwards: 64-bit times, then counters by the number of bits at which
# they wrap. The first three counters grow whenever the age at the same position restarts.
_times = several(TCPInfo, "busy_time", "rwnd_limited", "sndbuf_limited")
_NARROW = {
    32: ("data_segs_out", "data_segs_in", "segs_in", "segs_out", "total_retrans", "delivered", "delivered_ce",
         "dsack_dups", "reord_seen", "rcv_ooopack"),
    16: ("total_rto", "total_rto_recoveries", "rehash"),  # rehash is the sum of two such counters
}  # fmt: skip
_SPANS = tuple([2**bits for bits, names in _NARROW.items() for _ in names])
_narrow = several(TCPInfo, *_NARROW[32], *_NARROW[16])
# A connection never moves to a state with a lower number, and never leaves one with number 6.
_PROGRESS: dict[int, int] = {
    TCPState.SYN_SENT: 0,
    TCPState.SYN_RECV: 1, TCPState.NEW_SYN_RECV: 1,
    TCPState.ESTABLISHED: 2,
    TCPState.FIN_WAIT1: 3, TCPState.CLOSE_WAIT: 3,
    TCPState.FIN_WAIT2: 4, TCPState.CLOSING: 4, TCPState.LAST_ACK: 4,
    TCPState.TIME_WAIT: 5,
    TCPState.CLOSE: 6, TCPState.LISTEN: 6,
}  # fmt: skip
_flags, _KEY = MPTCPInfo.fields["flags"].number, int(InfoFlag.REMOTE_KEY_RECEIVED)
_HANDSHAKE = (TCPState.SYN_SENT, TCPState.SYN_RECV)
_AGREED = 7  # bits of TCPInfo.options that the handshake fixes: timestamps, SACK, window scaling
_TICKS = 50  # ms: ages may be off by two ticks of the slowest clock (HZ=100); plus a margin
_FAR = 2**48  # two random 64-bit numbers are closer than this with a probability of about 1 in 65,536


def nothing_happened(flow: Subflow) -> bool:
    """Whether this TCP socket is a listener, was never connected, or was reset to zeros."""
    return flow.tcp_info.segs_out == flow.tcp_info.segs_in == 0


def connection_growth(old: MPTCPInfo, new: MPTCPInfo) -> Growth | None:
    """By how much the counters of an MPTCP connection grew; None if new is another connection."""
    if new.token:
        if new.token != old.token:
            return None
    elif not (_has_key(new) and _same_numbers(old, new)):  # a fastclose keeps the peer's key
        return None
    growth = _growth(_of_connection(old), _of_connection(new))
    if new.bytes_acked is None and _has_key(old):
        # Before Linux 6.5, sequence numbers give the same answer.
        growth = None, _distance(old.snd_una, new.snd_una), _distance(old.rcv_nxt, new.rcv_nxt), None
    return None if _ran_back(growth) else growth


def _same_numbers(old: MPTCPInfo, new: MPTCPInfo) -> bool:
    """Whether the data of both is numbered from the same random start."""
    connecting = not _has_key(old)  # if so, snd_una is one before the first byte, and rcv_nxt is 0
    if old.bytes_acked is None or new.bytes_acked is None:
        sent = _distance(old.snd_una, new.snd_una)
        received = 0 if connecting else _distance(old.rcv_nxt, new.rcv_nxt)
        return 0 <= sent < _FAR and 0 <= received < _FAR
    return _distance(old.snd_una - old.bytes_acked + connecting, new.snd_una - new.bytes_acked) == 0


def _has_key(info: MPTCPInfo) -> bool:
    return bool(_flags(info) & _KEY)


def _distance(old: int, new: int) -> int:
    """From one sequence number to another, modulo 2^64: they wrap."""
    return (new - old + 2**63) % 2**64 - 2**63


def find(new: Subflow, known: Iterable[Subflow], passed: int) -> tuple[Subflow | None, Growth | None]:
    """The known subflow that new continues, and its growth. passed: the least time between them, in ms."""
    for old in known:
        if old.id is not None and new.id is not None:
            same = old.id == new.id
        else:
            same = _same_ends(old, new) and _may_go_on(old.tcp_info, new.tcp_info, passed)
        if same:
            growth = _growth(counters(old.tcp_info), counters(new.tcp_info))
            if not _ran_back(growth):
                return old, growth
    return None, None


def _same_ends(old: Subflow, new: Subflow) -> bool:
    """Whether the addresses are the same. A peer without an address matches any.

    getpeername() returns no address while a socket connects and once it is closed. This depends on the state
    of the socket that is asked: after a fallback, the MPTCP socket, which is closed with the second FIN,
    whatever state TCP is in. Also, a socket may close between the call that reads its state and the one that
    reads its peer.
    """
    if old.addrs == new.addrs:  # the usual case, without decoding the addresses
        return True
    if old.local != new.local:
        return False
    return old.remote == new.remote or not (_has_peer(old) and _has_peer(new))


def _has_peer(subflow: Subflow) -> bool:
    return subflow.remote is not None and subflow.remote[1] != 0


def _may_go_on(old: TCPInfo, new: TCPInfo, passed: int) -> bool:
    """Whether nothing shows that new belongs to another connection."""
    if _PROGRESS.get(new.state, 6) < _PROGRESS.get(old.state, 0):
        return False
    before, after = _narrow(old), _narrow(new)
    for span, was, now in zip(_SPANS, before, after, strict=True):
        if was != now and was is not None and now is not None and (now - was) % span >= span // 2:
            return False
    for was, now in zip(_times(old), _times(new), strict=True):
        if was != now and was is not None and now is not None and now < was:
            return False
    if _TICKS < ((old.total_rto_time or 0) - (new.total_rto_time or 0)) % 2**32 < 2**31:
        return False  # this time mixes two clocks, which may differ by a tick
    if old.state in _HANDSHAKE:
        return True  # the rest is set when the handshake ends
    if (
        (old.options ^ new.options) & _AGREED
        or old.snd_wscale != new.snd_wscale
        or old.rcv_wscale != new.rcv_wscale
    ):
        return False
    for was, now, age, age_now in zip(before[:3], after[:3], _ages(old), _ages(new), strict=True):
        if was == now and _TICKS < (age + passed - age_now) % 2**32 < 2**31:
            return False
    return True


def _growth(old: Growth, new: Growth) -> Growth:
    sent, acked, received, retrans = new
    was_sent, was_acked, was_received, was_retrans = old
    if old == new and None not in new:  # the usual case on an idle path, without calls
        return _NOTHING
    return (
        _less(was_sent, sent),
        _less(was_acked, acked),
        _less(was_received, received),
        _less(was_retrans, retrans),
    )


def _less(was: int | None, now: int | None) -> int | None:
    return None if was is None or now is None else now - was


def _ran_back(growth: Growth) -> bool:
    sent, acked, received, retrans = growth
    return min(sent or 0, acked or 0, received or 0, retrans or 0) < 0
