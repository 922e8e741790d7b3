# SPDX-License-Identifier: MIT
"""How much the counters of a connection and of its subflows grew, or that these are others.

What identifies an MPTCP connection is its token and, once a fastclose took that away, the random number
that its data is numbered from: snd_una - bytes_acked. Plain TCP answers nothing of the kind: its initial
sequence number cannot be read, its timestamp offset follows from addresses and ports, and SO_COOKIE stays
when a socket connects again. So a TCP flow is the same if its socket and its addresses are, and nothing
contradicts it:

- No counter in TCP_INFO ran backwards, those of AccECN apart: estimates, which the peer corrects.
- Its state did not go back, as from LAST_ACK to ESTABLISHED.
- Its state did not go back, as from LAST_ACK to ESTABLISHED.
- What the handshake agreed on (window scales, timestamps, SACK) is as it was.
- No age began again while its counter stood still. A handshake sets the ages of data sent, of data received
  and of the last acknowledgement; later each begins again only with a segment that is counted.
"""

from __future__ import annotations

from . import _types as t
from ._fields import several
from ._views import InfoFlag, MPTCPInfo, Subflow, TCPInfo, TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    #: Of each of COUNTERS; None where it is not known.
    Growth: TypeAlias = tuple[int | None, int | None, int | None, int | None]

COUNTERS: tuple[t.Counter, ...] = ("bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans")
UNKNOWN = (None, None, None, None)

#: COUNTERS of a subflow.
counters: Callable[[TCPInfo], Growth] = several(TCPInfo, *COUNTERS)
_of_connection: Callable[[MPTCPInfo], Growth] = several(MPTCPInfo, *COUNTERS)
_ages = several(TCPInfo, "last_data_sent", "last_data_recv", "last_ack_recv")  # ms
# More in TCP_INFO that never runs backwards: times of 64 bits, and by the bits at which the others wrap. The
# first three move whenever the age of the same place begins again.
_times = several(TCPInfo, "busy_time", "rwnd_limited", "sndbuf_limited")
_NARROW = {
    32: ("data_segs_out", "data_segs_in", "segs_in", "segs_out", "total_retrans", "delivered", "delivered_ce",
         "dsack_dups", "reord_seen", "rcv_ooopack"),
    16: ("total_rto", "total_rto_recoveries", "rehash"),  # rehash is a sum of two such
}  # fmt: skip
_SPANS = tuple([2**bits for bits, names in _NARROW.items() for _ in names])
_narrow = several(TCPInfo, *_NARROW[32], *_NARROW[16])
# No connection comes from a state to one of a lower number; a listener, or what has ended, to none at all.
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
_AGREED = 7  # bits of TCPInfo.options that stay after the handshake: timestamps, SACK, window scale
_TICKS = 50  # ms: two ticks of the slowest clock (HZ=100), by which ages may be off, and some more
_FAR = 2**48  # two random numbers of 64 bits are nearer than this once in 65,536 times


def nothing_happened(flow: Subflow) -> bool:
    """Whether this TCP socket listens, was never connected, or was reset to zeros."""
    return flow.tcp_info.segs_out == flow.tcp_info.segs_in == 0


def connection_growth(old: MPTCPInfo, new: MPTCPInfo) -> Growth | None:
    """How much the counters of an MPTCP connection grew; None if new is another connection."""
    if new.token:
        if new.token != old.token:
            return None
    elif not (_has_key(new) and _same_numbers(old, new)):  # a fastclose leaves the peer's key
        return None
    growth = _growth(_of_connection(old), _of_connection(new))
    if new.bytes_acked is None and _has_key(old):
        # Before 6.5 sequence numbers tell the same.
        growth = None, _distance(old.snd_una, new.snd_una), _distance(old.rcv_nxt, new.rcv_nxt), None
    return None if _ran_back(growth) else growth


def _same_numbers(old: MPTCPInfo, new: MPTCPInfo) -> bool:
    """Whether the data of both is numbered from the same random number."""
    connecting = not _has_key(old)  # then snd_una is one before the first byte, and rcv_nxt is 0
    if old.bytes_acked is None or new.bytes_acked is None:
        sent = _distance(old.snd_una, new.snd_una)
        received = 0 if connecting else _distance(old.rcv_nxt, new.rcv_nxt)
        return 0 <= sent < _FAR and 0 <= received < _FAR
    return _distance(old.snd_una - old.bytes_acked + connecting, new.snd_una - new.bytes_acked) == 0


def _has_key(info: MPTCPInfo) -> bool:
    return bool(_flags(info) & _KEY)


def _distance(old: int, new: int) -> int:
    """From one sequence number to another: they have 64 bits, begin anywhere and wrap."""
    return (new - old + 2**63) % 2**64 - 2**63


def find(new: Subflow, known: Iterable[Subflow], passed: int) -> tuple[Subflow | None, Growth | None]:
    """Which of known new is, and how much its counters grew; in the passed ms, or longer."""
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
    """By the two addresses. A peer that is not named is none that differs.

    getpeername() names none while a socket connects and once it is closed. That is the state of the socket
    asked: of a fallback it is the MPTCP one, which is closed with the second FIN, in whatever state TCP is.
    And a socket may close between the call that tells its state and the one that tells its peer.
    """
    if old.addrs == new.addrs:  # as usual: the addresses need not be decoded
        return True
    if old.local != new.local:
        return False
    return old.remote == new.remote or not (_has_peer(old) and _has_peer(new))


def _has_peer(subflow: Subflow) -> bool:
    return subflow.remote is not None and subflow.remote[1] != 0


def _may_go_on(old: TCPInfo, new: TCPInfo, passed: int) -> bool:
    """Whether nothing says that new is of another connection."""
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
        return False  # this time is of two clocks, which may differ by a tick
    if old.state in _HANDSHAKE:
        return True  # the rest begins with the end of the handshake
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
