# SPDX-License-Identifier: MIT
"""One function per socket option, and is_mptcp(), status() and snapshot(), which may take several calls.

Wherever a function takes ``sock``, this is a file descriptor, an object with ``fileno()``, or an object with
``get_extra_info("socket")`` (an asyncio transport or StreamWriter). A wrong type raises TypeError and a
closed object ValueError, both before the kernel is asked. _errors.py explains how the kernel's refusals
become exceptions. OSError with EPROTO means that the answer is not one that a kernel can give. EAGAIN means
that during each of several reads subflows were added, or the socket was connected again. All functions may be
called from any thread, and let other threads run during the system call.
"""

from __future__ import annotations

import enum
import errno
import time

from . import _border
from . import _types as t
from ._errors import NotMPTCPError, UnsupportedOptionError
from ._records import Record
from ._views import InfoFlag, MPTCPFullInfo, MPTCPInfo, Subflow, SubflowAddrs, TCPInfo, TCPState, Whole, paths

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

# These two are called often, and a global is looked up faster than an attribute.
_read_info = _border.read_info
_read_full_info = _border.read_full_info


# -------------------------------------------------------------------------------------- one per option


def mptcp_info(sock: t.SocketLike) -> MPTCPInfo:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_INFO)``: counters and state of the connection.

    Linux 5.16. Raises NotMPTCPError on a socket that speaks plain TCP, UnsupportedOptionError before 5.16. On
    an unconnected or listening MPTCP socket, all fields are 0 except for limits and ages.
    """
    return _read_info(sock, MPTCPInfo)


def mptcp_tcpinfo(sock: t.SocketLike) -> tuple[TCPInfo, ...]:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_TCPINFO)``: the TCP state of every subflow.

    In the kernel's order: the initial subflow first, then the others from oldest to newest. An initial
    subflow that was removed stays in the list, in state CLOSE. From Linux 6.5 on, the result is empty on a
    fresh socket. Linux 5.16; raises as mptcp_info().
    """
    return _border.read_elements(_border.descriptor(sock), _border.MPTCP_TCPINFO, TCPInfo)


def mptcp_subflow_addrs(sock: t.SocketLike) -> tuple[SubflowAddrs, ...]:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_SUBFLOW_ADDRS)``: the two addresses of every subflow.

    In the same order as mptcp_tcpinfo(), but from a separate call: subflows may change between the two. Use
    mptcp_full_info() or snapshot() for addresses and TCP states that belong together. Linux 5.16; raises as
    mptcp_info().
    """
    return _border.read_elements(_border.descriptor(sock), _border.MPTCP_SUBFLOW_ADDRS, SubflowAddrs)


def mptcp_full_info(sock: t.SocketLike) -> MPTCPFullInfo:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_FULL_INFO)``: connection and subflows in one call.

    Linux 6.5. Raises UnsupportedOptionError on older kernels, where snapshot() still works; otherwise raises
    as mptcp_info().
    """
    return _read_full_info(sock, MPTCPFullInfo)


def is_mptcp(sock: t.SocketLike) -> bool:
    """``getsockopt(fd, SOL_TCP, TCP_IS_MPTCP)``: whether the socket is MPTCP and has not fallen back.

    Also True on a fresh socket and on a listener. The option is new in Linux 6.10; on older kernels, the
    errno of the refusal tells. OSError if the socket is neither TCP nor MPTCP.
    """
    return _border.speaks_mptcp(_border.descriptor(sock), "is_mptcp()")


def getsockopt_into(
    sock: t.SocketLike, level: int, option: int, buffer: t.Buffer, length: int | None = None
) -> int:
    """``getsockopt(fd, level, option, buffer, &length)``: the raw call, with your own buffer.

    Passes length bytes of a writable buffer (by default the whole buffer) to the kernel, which reads and
    writes them, and returns the length that the kernel reported. Never writes past length. A failure is an
    OSError whose ``optlen`` is the length that the kernel left; at SOL_MPTCP it is NotMPTCPError or
    UnsupportedOptionError, as elsewhere. If the kernel reports more than the length it was given, the error
    is EPROTO.

    ValueError for a length beyond the buffer, and for options that can write outside the buffer:
    MPTCP_FULL_INFO with array pointers, TCP_ZEROCOPY_RECEIVE, TCP_AO_GET_KEYS, SO_GET_FILTER, IP_MSFILTER,
    MCAST_MSFILTER, EBT_SO_GET_ENTRIES, EBT_SO_GET_INIT_ENTRIES. A negative length is passed on with a NULL
    buffer, because MPTCP_INFO would treat it as "no limit": MPTCP_INFO answers EFAULT, IP_TOS EINVAL.
    """
    fd = _border.descriptor(sock)
    view = memoryview(buffer)
    if view.readonly or not view.c_contiguous:
        raise TypeError("expected a writable, contiguous buffer")
    view = view.cast("B")
    if length is None:
        length = len(view)
    for name, number in (("level", level), ("option", option), ("length", length)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name} must be an int, not {type(number).__name__}")
        if not -(2**31) <= number < 2**31:
            raise ValueError(f"{name} {number} does not fit a C int")
    if length > len(view):
        raise ValueError(f"length {length} is beyond the buffer of {len(view)} bytes")
    return _border.read_into(fd, level, option, view, length)


# ------------------------------------------------------------------------------------ status, snapshot


class Status(enum.Enum):
    """What a TCP or MPTCP socket is. Determined from the socket itself.

        MPTCP        connected with MPTCP; at least one subflow is not in state CLOSE
        FALLBACK     an MPTCP socket whose connection speaks plain TCP (RFC 8684, section 3.7)
        TCP          a TCP socket, or one that an MPTCP listener accepted from a client without MPTCP
        LISTENING    a listener, TCP or MPTCP
        CONNECTING   MPTCP; the peer's key has not been received yet
        UNCONNECTED  MPTCP; never connected, or disconnected
        CLOSED       MPTCP; was connected, and has no subflow left
        CLOSING      subflows that are still ending, whose connection is gone (only in MPTCPConnections)
        UNKNOWN      an MPTCP socket on a kernel without SOL_MPTCP (before 5.16, or user-mode emulation)

    FALLBACK does not always mean that a middlebox interfered. A connection that was reset before its first
    data is FALLBACK too; its tcp_info.state is CLOSE. So is a connect() that nobody answers, once the kernel
    retries the SYN without MPTCP (net.mptcp.syn_retrans_before_tcp_fallback), and after its ETIMEDOUT. While
    it waits for an answer, tcp_info.state is SYN_SENT.

    TCP: a server cannot tell whether the client did not ask for MPTCP or the option was removed on the way.

    CLOSED: both ends closed, or all paths were lost. In the second case a new subflow may still bring the
    connection back (net.mptcp.close_timeout, 60 s by default).

    Thread rule: immutable, use it anywhere.
    """

    MPTCP = "mptcp"
    FALLBACK = "fallback"
    TCP = "tcp"
    LISTENING = "listening"
    CONNECTING = "connecting"
    UNCONNECTED = "unconnected"
    CLOSED = "closed"
    CLOSING = "closing"
    UNKNOWN = "unknown"


# Globals are looked up faster than attributes of their classes.
_LISTEN, _CLOSE = bytes([TCPState.LISTEN]), bytes([TCPState.CLOSE])
_KEY = int(InfoFlag.REMOTE_KEY_RECEIVED)
_LISTENING = Status.LISTENING
_CONNECTED = Status.CONNECTING, Status.MPTCP  # without the peer's key, and with it
_OVER = Status.UNCONNECTED, Status.CLOSED


def status(sock: t.SocketLike) -> Status:
    """What the socket is: MPTCP, fallen back, plain TCP ... See Status.

    Works on every TCP and MPTCP socket in any state. OSError for any other descriptor.
    """
    answer = _read_full_info(sock, MPTCPFullInfo, _status_by_asking)
    if isinstance(answer, MPTCPFullInfo):
        flags, states = answer._flags_and_states()
        return _status_of(flags, states)
    return answer


def _status_of(flags: int, states: bytes) -> Status:
    """The status of an MPTCP socket with these flags and these TCP states of its subflows."""
    if _LISTEN in states:
        return _LISTENING
    return (_CONNECTED if states.strip(_CLOSE) else _OVER)[flags & _KEY != 0]


def _status_by_asking(fd: int, error: int, reason: int) -> Status:
    """The status where MPTCP_FULL_INFO is refused."""
    refusal = _border.tcp_refusal(fd, "status()", "MPTCP_FULL_INFO", error, reason)
    if _border.listens(fd, "status()"):
        return Status.LISTENING
    found, refusal = _read_older(fd, refusal, _older_flags_and_states)
    return _WITHOUT_MPTCP[refusal] if found is None else _status_of(*found)


_WITHOUT_MPTCP = {
    _border.REFUSED_TCP: Status.TCP,
    _border.REFUSED_FALLBACK: Status.FALLBACK,
    _border.REFUSED_OPTION: Status.UNKNOWN,
}


def _read_older(fd: int, refusal: int, read: t.Callable[[int], T]) -> tuple[T | None, int]:
    """read(fd) by the older options, or None if those are refused too; and the refusal."""
    if refusal == _border.REFUSED_OPTION:
        try:
            return read(fd), refusal
        except NotMPTCPError:  # it fell back in the meantime
            return None, _border.REFUSED_FALLBACK
        except UnsupportedOptionError:
            pass
    return None, refusal


def _older_flags_and_states(fd: int) -> tuple[int, bytes]:
    info = _border.read_info(fd, MPTCPInfo)
    return info.flags, _states(_border.read_elements(fd, _border.MPTCP_TCPINFO, TCPInfo))


def _states(tcp_infos: t.Iterable[TCPInfo]) -> bytes:
    return bytes([tcp_info.state for tcp_info in tcp_infos])


class Snapshot(Record, Whole):
    """Status, counters and subflows of a TCP or MPTCP socket at one moment.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "time": "time.monotonic_ns() just before the read.",
        "status": "What the socket is (Status).",
        "info": "The connection (MPTCPInfo); None if the socket speaks plain TCP.",
        "subflows": "Every subflow that the kernel lists. Plain TCP is shown as one subflow without an id.",
    }

    _elsewhere = MPTCPFullInfo._elsewhere

    time: int
    """time.monotonic_ns() just before the read."""
    status: Status
    """What the socket is (Status)."""
    info: MPTCPInfo | None
    """The connection (MPTCPInfo); None if the socket speaks plain TCP."""
    subflows: tuple[Subflow, ...]
    """Every subflow that the kernel lists. Plain TCP is shown as one subflow without an id."""

    def __init__(
        self, time: int, status: Status, info: MPTCPInfo | None, subflows: tuple[Subflow, ...]
    ) -> None:
        _set_time(self, time)
        _set_status(self, status)
        _set_info(self, info)
        _set_subflows(self, subflows)

    @property
    def live_count(self) -> int:
        """How many subflows are ``live``."""
        return sum(subflow.live for subflow in self.subflows)

    @property
    def bytes_sent(self) -> int | None:
        """Payload sent, without retransmissions, on MPTCP and TCP alike. (bytes)

        On MPTCP ``info.bytes_sent`` (Linux 6.5), on TCP ``bytes_sent`` minus ``bytes_retrans`` (4.19). None
        on kernels that do not report it.
        """
        if self.info is not None:
            return self.info.bytes_sent
        tcp_info = self._flow
        if tcp_info is None or tcp_info.bytes_sent is None or tcp_info.bytes_retrans is None:
            return None
        return max(0, tcp_info.bytes_sent - tcp_info.bytes_retrans)

    @property
    def bytes_acked(self) -> int | None:
        """Payload that the peer has acknowledged, without SYN and FIN, on MPTCP and TCP alike. (bytes)

        Never more than ``bytes_sent``: any excess is a SYN, FIN or DATA_FIN. On plain TCP it is one byte too
        high on the connecting side while data is in flight, because no kernel reports which side connected.
        None on the same kernels as bytes_sent.
        """
        sent, counted = self.bytes_sent, self.info if self.info is not None else self._flow
        if sent is None or counted is None or counted.bytes_acked is None:
            return None
        return min(sent, counted.bytes_acked)

    @property
    def bytes_received(self) -> int | None:
        """Payload received in order, read or unread, without the peer's FIN, on MPTCP and TCP alike. (bytes)

        On a TCP socket in state CLOSE it may be one byte too high: the kernel does not report whether a FIN
        came. None on the same kernels as bytes_sent.
        """
        if self.info is not None:
            return self.info.bytes_received
        tcp_info = self._flow
        if tcp_info is None or tcp_info.bytes_received is None:
            return None
        return tcp_info.bytes_received - (tcp_info.state in _AFTER_FIN)

    @property
    def _flow(self) -> TCPInfo | None:
        """The TCP flow of a plain TCP socket."""
        return self.subflows[0].tcp_info if self.subflows else None

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name. clean: see ``TCPInfo.asdict()``."""
        return {
            "time": self.time,
            "status": self.status.value,
            "live_count": self.live_count,
            "bytes_sent": self.bytes_sent,
            "bytes_acked": self.bytes_acked,
            "bytes_received": self.bytes_received,
            "info": self.info.asdict(clean=clean) if self.info is not None else None,
            "subflows": [subflow.asdict(clean=clean) for subflow in self.subflows],
        }

    def _counted(self) -> dict[str, int | None]:
        return {name: getattr(self, name) for name in ("bytes_sent", "bytes_acked", "bytes_received")}

    def __repr__(self) -> str:
        from ._shown import short

        token = self.info.token if self.info is not None else None
        vital = {"status": self.status, "token": token, "live_count": self.live_count, **self._counted()}
        return short(type(self).__name__, vital)

    def __str__(self) -> str:
        from ._shown import table

        rows: list[t.Row] = [("time", self.time, "ns"), ("status", self.status.value, "")]
        if self.info is not None:
            rows += self.info._rows()
        else:
            rows += [(name, value, "bytes") for name, value in self._counted().items() if value is not None]
        return table(type(self).__name__, rows, *paths(self.subflows))


_set_time, _set_status, _set_info, _set_subflows = Snapshot._setters
_AFTER_FIN = {TCPState.CLOSE_WAIT, TCPState.LAST_ACK, TCPState.CLOSING, TCPState.TIME_WAIT}


def snapshot(sock: t.SocketLike) -> Snapshot:
    """Status, connection and subflows in one result, for any TCP or MPTCP socket on any kernel.

    Uses MPTCP_FULL_INFO. Before Linux 6.5, which has no such option, it reads MPTCP_TCPINFO between two reads
    of MPTCP_SUBFLOW_ADDRS, which must be equal; after four attempts, OSError with EAGAIN. Plain TCP and
    fallen-back sockets are shown as one subflow without an id, from TCP_INFO, getsockname() and
    getpeername(). OSError if the socket is neither TCP nor MPTCP.
    """
    now = time.monotonic_ns()
    answer = _read_full_info(sock, MPTCPFullInfo, _snapshot_by_asking)
    if isinstance(answer, MPTCPFullInfo):
        flags, states, info, subflows = answer._parts()
        return Snapshot(now, _status_of(flags, states), info, subflows)
    return answer


def _snapshot_by_asking(fd: int, error: int, reason: int) -> Snapshot:
    """The snapshot where MPTCP_FULL_INFO is refused."""
    refusal = _border.tcp_refusal(fd, "snapshot()", "MPTCP_FULL_INFO", error, reason)
    listening = _border.listens(fd, "snapshot()")
    now = time.monotonic_ns()
    found, refusal = _read_older(fd, refusal, _older_mptcp_subflows)
    if found is None:
        info, subflows, answer = None, _tcp_subflow(fd), _WITHOUT_MPTCP[refusal]
    else:
        info, subflows = found
        answer = _status_of(info.flags, _states(subflow.tcp_info for subflow in subflows))
    return Snapshot(now, Status.LISTENING if listening else answer, info, subflows)


def _older_mptcp_subflows(fd: int) -> tuple[MPTCPInfo, tuple[Subflow, ...]]:
    """Before 6.5: two arrays belong together if the addresses did not change around the TCP states."""
    info = _border.read_info(fd, MPTCPInfo)
    before = _border.read_elements(fd, _border.MPTCP_SUBFLOW_ADDRS, SubflowAddrs)
    for _ in range(4):
        tcp_infos = _border.read_elements(fd, _border.MPTCP_TCPINFO, TCPInfo)
        after = _border.read_elements(fd, _border.MPTCP_SUBFLOW_ADDRS, SubflowAddrs)
        if before == after and len(after) == len(tcp_infos):
            return info, tuple(map(Subflow, [None] * len(after), after, tcp_infos))
        before = after
    raise OSError(errno.EAGAIN, f"snapshot() on fd {fd}: subflows change faster than they can be read")


def _tcp_subflow(fd: int) -> tuple[Subflow, ...]:
    try:
        tcp_info = _border.read_tcp_info(fd, TCPInfo)
    except OSError as error:
        # Before Linux 5.16, an MPTCP socket that has not fallen back refuses even TCP_INFO.
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            raise
        return ()
    return (Subflow(None, _border.read_names(fd, SubflowAddrs), tcp_info),)
