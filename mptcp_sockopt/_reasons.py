# SPDX-License-Identifier: MIT
"""FallbackReason: why a connection fell back to TCP, as far as its own row in the kernel's tables tells.

The kernel keeps no reason. What remains are the flags of the connection, those of its subflow, and their TCP
state. They tell six classes apart (docs/fallback.md has the table). The counters MPTcpExt... would tell
more, but they count for the whole network namespace, so that they cannot be blamed on one of many
connections.
"""

from __future__ import annotations

import enum

from . import _border
from ._mptcp_info import InfoFlag, MPTCPInfo
from ._tcp_info import TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing


class FallbackReason(str, enum.Enum):
    """Why a connection fell back to TCP: the class of cause that its own row tells.

        NO_OPTION_IN_ANSWER  the answer to the SYN had no MPTCP option
        SYN_LOST_OR_CROSSED  the kernel gave up on MPTCP before it had an answer
        SUSPENDED            MPTCP was suspended in this network namespace
        FIRST_DATA           the first packet after the handshake had no MPTCP option
        RESET_BEFORE_DATA    the connection was reset before any data had crossed: no fallback
        MID_CONNECTION       it was MPTCP, and fell back later

    Each has ``sentence`` (what happened), ``causes`` (those it leaves open) and ``next_step`` (what tells
    them apart). Members are strings: ``FallbackReason("suspended")``. Seen on Linux 6.18; RFC 8684, section
    3.7. docs/fallback.md explains each.

    Thread rule: immutable, use it anywhere.
    """

    sentence: str
    """What happened, in one or two sentences."""
    causes: tuple[str, ...]
    """The causes that this class leaves open, each in a few words."""
    next_step: str
    """What to do next: what tells these causes apart, and what helps."""

    def __new__(
        cls, value: str, sentence: str = "", causes: tuple[str, ...] = (), next_step: str = ""
    ) -> FallbackReason:
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.sentence = sentence
        reason.causes = causes
        reason.next_step = next_step
        return reason

    def __str__(self) -> str:
        return str.__str__(self)

    NO_OPTION_IN_ANSWER = (
        "no_option_in_answer",
        "The answer to the SYN had no MPTCP option.",
        (
            "the server speaks TCP: its listener is no MPTCP socket",
            "a middlebox removes the option from the SYN",
            "a middlebox removes the option from the SYN/ACK",
        ),
        "Look at the server: `ss -lM` there lists the listeners that speak MPTCP. If the port is among them, "
        "a middlebox removes the option: try another port, another path, or a VPN.",
    )
    SYN_LOST_OR_CROSSED = (
        "syn_lost_or_crossed",
        "The kernel gave up on MPTCP before it had an answer, and went on with plain TCP.",
        (
            "SYNs with the MPTCP option got no answer: a middlebox drops them, or the server was away for a "
            "few seconds",
            "both ends called connect() at the same time",
        ),
        "If connect() took a second or longer, SYNs were lost. If every connect() to this server takes so "
        "long, a middlebox drops the option: try another port, another path, or a VPN.",
    )
    SUSPENDED = (
        "suspended",
        "MPTCP was suspended in this network namespace, so the SYN was sent without the option.",
        (
            "blackhole detection is active: an earlier connection, to any server, lost its SYNs with the "
            "option and got through without it",
            "the kernel could not create a token (not seen yet)",
        ),
        "It ends by itself after net.mptcp.blackhole_timeout seconds, by default an hour. To end it now, "
        "write that sysctl as root, with the value that it has. Then find out where SYNs with the option are "
        "lost, or it will come back.",
    )
    FIRST_DATA = (
        "first_data",
        "Both ends agreed on MPTCP, but the first packet after the handshake had no MPTCP option.",
        (
            "a middlebox removes the option from the client's packets, but not from its SYN",
            "a middlebox removes the option from the server's packets, but not from its SYN/ACK",
        ),
        "The server's end tells the direction: a plain TCP socket there means the client's packets, an MPTCP "
        "socket that fell back means the server's. Then try another port, another path, or a VPN.",
    )
    RESET_BEFORE_DATA = (
        "reset_before_data",
        "The connection ended before any data had crossed: as a rule, the peer reset it. The kernel marks it "
        "as fallen back, but it was MPTCP until then.",
        (
            "the program at the other end aborted the connection",
            "a middlebox reset it",
            "both ends closed it without data, and a middlebox removed the option meanwhile",
        ),
        "Connect with plain TCP. If that is reset too, MPTCP is not the cause: read the server's log.",
    )
    MID_CONNECTION = (
        "mid_connection",
        "The connection was MPTCP and fell back later. If the receiver of data fell back and its sender did "
        "not, the receiver gets the same bytes again and again.",
        (
            "a middlebox began to remove the MPTCP option, or the route changed to one that does",
            "a middlebox changed the option, or cut the data into other segments",
            "a middlebox changed the data, and the DSS checksum showed it (only if csum_enabled is 1)",
            "on the server only: a middlebox removed the option from the first data on",
        ),
        "Compare what was sent and what was received. Then try another port, another path, or a VPN: a proxy "
        "or firewall on this one alters packets.",
    )


if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class _Subflow(Protocol):
        """What is read of a DiagSubflow."""

        @property
        def flags(self) -> int | None: ...
        @property
        def token_local(self) -> int | None: ...


# Of the subflow's flags: this side asked for MPTCP, and the peer confirmed it with its first data or ACK.
_FLAGS = _border.numbers("MPTCP_SUBFLOW_FLAG_")
_ASKED, _CONFIRMED = _FLAGS["MCAP_LOC"], _FLAGS["FULLY_ESTABLISHED"]
_FALLBACK, _KEY = int(InfoFlag.FALLBACK), int(InfoFlag.REMOTE_KEY_RECEIVED)


def reason_of(
    state: TCPState | int, info: MPTCPInfo | None, subflows: Sequence[_Subflow]
) -> FallbackReason | None:
    """The class that a connection's row belongs to; None if it did not fall back, or nothing tells.

    info is None where there is no MPTCP row. subflows are those of the TCP dump, the initial one first; their
    flags are None where the kernel keeps them from the caller (before Linux 6.15, without CAP_NET_ADMIN).
    """
    flags = subflows[0].flags if subflows else None
    if info is None:
        asked = flags is None or flags & _ASKED
        return None if asked or subflows[0].token_local else FallbackReason.SUSPENDED
    if not info.flags & _FALLBACK:
        return None
    if not subflows:
        # A connection that fell back and ended has no subflow either, but it counts what crossed before.
        if info.flags & _KEY and state == TCPState.CLOSE and info.bytes_received == info.bytes_acked == 0:
            return FallbackReason.RESET_BEFORE_DATA
        return None
    if flags is None:
        return None
    if not info.flags & _KEY:
        asked = flags & _ASKED
        return FallbackReason.NO_OPTION_IN_ANSWER if asked else FallbackReason.SYN_LOST_OR_CROSSED
    confirmed = flags & _CONFIRMED
    return FallbackReason.MID_CONNECTION if confirmed else FallbackReason.FIRST_DATA


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
FallbackReason.__module__ = "mptcp_sockopt"
