# SPDX-License-Identifier: MIT
"""Does a peer speak MPTCP, and do its options pass? Asked by connections that cannot harm other programs.

If the SYNs of a connection are lost with MPTCP and a later one gets through without, the kernel suspends
MPTCP for all programs in the network namespace, for an hour (blackhole detection). So a connection that gets
no answer is closed before the kernel sends a SYN without MPTCP. Plain TCP is tried on a socket of its own.
"""

from __future__ import annotations

import contextlib
import enum
import math
import socket
import time
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import FallbackReason, host

# The kernel sends SYNs one second apart at first, or further.
_SECONDS_PER_SYN = 1.0
_MARGIN = 0.5  # on a busy machine, close() comes late
_DEFAULT_RETRANS = 2  # before Linux 6.14 this is no sysctl
# Time for a server that resets what it accepted, or speaks first: this, and a round trip.
_QUIET, _QUIET_AT_MOST = 0.05, 0.5
# As many lost SYNs as blackhole detection takes for proof.
_LOST_SYNS = 3
# Connections after which a peer that does not confirm MPTCP is believed not to. One is no proof: if the last
# packet of the handshake is lost, and the end of data follows, the peer's kernel falls back.
_UNCONFIRMED = 3


class Result(enum.Enum):
    """What an address answered; value is a sentence."""

    MPTCP = "It speaks MPTCP, which passes in both directions."
    FALLBACK = "The connection fell back to plain TCP."
    UNCONFIRMED = "It agreed to MPTCP, but then acknowledged nothing with an MPTCP option."
    DATA_LOST = "It agreed to MPTCP, but data with MPTCP options gets no answer. Data without them does."
    NO_ANSWER = "SYNs with the MPTCP option get no answer. A SYN without it does."
    REFUSED = "A SYN with the MPTCP option is refused. One without it is not."
    RESET = "It agreed to MPTCP, and reset the connection before any data. It does not reset plain TCP."
    RESET_ANYWAY = "It agreed to MPTCP, and reset the connection before any data. It resets plain TCP too."
    SLOW = "Its answer takes longer than this command may wait."
    UNREACHABLE = "It cannot be reached, not even with plain TCP."


#: What says neither yes nor no.
UNKNOWN = (Result.RESET_ANYWAY, Result.SLOW, Result.UNREACHABLE)


class Attempt(NamedTuple):
    """What came of one address."""

    address: str
    result: Result
    reason: FallbackReason | None
    """The class of cause, where the connection fell back or would have."""
    error: str | None
    """What the system says, where the address cannot be reached."""
    seconds: float | None
    """How long connect() took, by MPTCP if it succeeded, else by TCP."""
    counters: dict[str, int]
    """By how much the kernel's MPTcpExt counters grew meanwhile; other programs may have a share in it."""


class Peer(NamedTuple):
    """How to reach an address, and what to say to it."""

    family: int
    address: mp.Address
    data: bytes  # empty: only the end of data is sent
    wait: float  # seconds, for each answer


def ask(peer: Peer) -> Attempt:
    """Connect with MPTCP, and with TCP if that says nothing. Takes a few times the wait at most."""
    before = host.counters()
    for _ in range(_UNCONFIRMED):
        result, reason, error, seconds = _ask(peer)
        if reason is not FallbackReason.FIRST_DATA or peer.data:
            break
    grown = {
        name: number - before.get(name, 0)
        for name, number in host.counters().items()
        if number > before.get(name, 0) and name != "MPCurrEstab"
    }
    return Attempt(peer.address[0], result, reason, error, seconds, grown)


Answer = tuple[Result, FallbackReason | None, "str | None", "float | None"]


def _ask(peer: Peer) -> Answer:
    longest, attempts = _patience(peer.wait)
    reason: FallbackReason | None
    for _ in range(attempts):
        begin = time.monotonic()
        with mp.create_socket(peer.family, fallback=False) as sock:
            sock.settimeout(longest)
            try:
                sock.connect(peer.address)
            except TimeoutError:
                continue
            except ConnectionResetError:  # after the handshake: a SYN is refused
                seconds = time.monotonic() - begin
                result, reason = Result.RESET, FallbackReason.RESET_BEFORE_DATA
            except OSError as error:
                return _without(peer, error)
            else:
                seconds = time.monotonic() - begin
                result, reason = _talk(sock, peer, _QUIET + min(seconds, _QUIET_AT_MOST))
        if result is Result.RESET and _tcp_is_reset(peer):
            result = Result.RESET_ANYWAY
        if result is Result.UNCONFIRMED and peer.data:
            if not _tcp_takes_data(peer):
                return Result.UNREACHABLE, None, "data gets no answer", seconds
            return Result.DATA_LOST, None, None, seconds
        return result, reason, None, seconds
    return _unanswered(peer, longest)


def _patience(wait: float) -> tuple[float, int]:
    """For how long one connection may wait, in seconds, and how many to try: for three SYNs in all."""
    retrans = host.sysctls().get("syn_retrans_before_tcp_fallback", _DEFAULT_RETRANS)
    syns = int(retrans) + 1
    return min(syns * _SECONDS_PER_SYN - _MARGIN, max(wait, _LOST_SYNS)), math.ceil(_LOST_SYNS / syns)


def _talk(sock: socket.socket, peer: Peer, quiet: float) -> tuple[Result, FallbackReason | None]:
    """Whether the peer acknowledges data, or the end of data, by an MPTCP option (DATA_ACK)."""
    acknowledged = None
    deadline, pause = time.monotonic() + quiet + peer.wait, 0.001
    while True:
        try:
            now = mp.mptcp_info(sock).snd_una
        except mp.NotMPTCPError:
            return _fell_back(sock, peer, agreed=acknowledged is not None)
        if acknowledged is None:
            acknowledged = now
            time.sleep(quiet)
            with contextlib.suppress(OSError):  # it was reset meanwhile, which the next look tells
                if peer.data:
                    sock.sendall(peer.data)
                else:
                    sock.shutdown(socket.SHUT_WR)
        elif now != acknowledged:
            return Result.MPTCP, None
        elif not mp.snapshot(sock).live_count:  # older kernels do not take a reset for a fallback
            return Result.RESET, FallbackReason.RESET_BEFORE_DATA
        if time.monotonic() > deadline:
            return Result.UNCONFIRMED, FallbackReason.FIRST_DATA
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _fell_back(sock: socket.socket, peer: Peer, *, agreed: bool) -> tuple[Result, FallbackReason]:
    """Why: by its row in the kernel's table; where that says nothing, by when it happened."""
    reason = FallbackReason.FIRST_DATA if agreed else FallbackReason.NO_OPTION_IN_ANSWER
    if not mp.snapshot(sock).live_count:
        reason = FallbackReason.RESET_BEFORE_DATA
    with contextlib.suppress(OSError):  # no mptcp_diag, or no netlink
        row = mp.mptcp_lookup(sock.getsockname(), peer.address)
        reason = (row and row.fallback_reason) or reason
    is_reset = reason is FallbackReason.RESET_BEFORE_DATA
    return Result.RESET if is_reset else Result.FALLBACK, reason


# -------------------------------------------------------------------------------------------- plain TCP


def _without(peer: Peer, refusal: OSError) -> Answer:
    """connect() failed with MPTCP: does it without?"""
    with socket.socket(peer.family) as sock:
        seconds, error = _connect(sock, peer)
    if seconds is None:
        return Result.UNREACHABLE, None, error or str(refusal), None
    return Result.REFUSED, None, str(refusal), seconds


def _unanswered(peer: Peer, longest: float) -> Answer:
    """connect() got no answer with MPTCP: does it without?"""
    with socket.socket(peer.family) as sock:
        seconds, error = _connect(sock, peer)
    if seconds is None:
        return Result.UNREACHABLE, None, error, None
    if seconds >= longest:
        return Result.SLOW, None, None, seconds
    return Result.NO_ANSWER, FallbackReason.SYN_LOST_OR_CROSSED, None, seconds


def _connect(sock: socket.socket, peer: Peer) -> tuple[float | None, str | None]:
    """How long connect() took; or why it failed."""
    sock.settimeout(max(peer.wait, _LOST_SYNS))
    begin = time.monotonic()
    try:
        sock.connect(peer.address)
    except TimeoutError:
        return None, "no answer"
    except OSError as error:
        return None, error.strerror or str(error)
    return time.monotonic() - begin, None


def _tcp_is_reset(peer: Peer) -> bool:
    """Whether the peer resets a plain TCP connection too."""
    with socket.socket(peer.family) as sock:
        try:
            seconds, _ = _connect(sock, peer)
            if seconds is not None:
                if peer.data:
                    sock.sendall(peer.data)
                else:
                    sock.shutdown(socket.SHUT_WR)
                sock.settimeout(peer.wait)
                sock.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True
        return seconds is None


def _tcp_takes_data(peer: Peer) -> bool:
    """Whether data gets through on a plain TCP connection."""
    with socket.socket(peer.family) as sock:
        seconds, _ = _connect(sock, peer)
        deadline = time.monotonic() + peer.wait
        with contextlib.suppress(OSError):
            sock.sendall(peer.data)
            while seconds is not None and time.monotonic() < deadline:
                if (mp.snapshot(sock).bytes_acked or 0) >= len(peer.data):
                    return True
                time.sleep(0.01)
    return False
