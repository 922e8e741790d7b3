# SPDX-License-Identifier: MIT
"""One function per socket option, and the three questions that take more than one call.

``sock`` is, everywhere, a file descriptor, anything with ``fileno()``, or anything with
``get_extra_info("socket")`` (an asyncio transport or StreamWriter). Wrong types are TypeError, closed objects
ValueError, both before the kernel is asked; _errors.py says what the kernel's refusals become. An answer
that no kernel gives is OSError with EPROTO, and EAGAIN means that the subflows became more, or the socket was
connected again, during each of several reads. Every function may be called from any thread, and lets other
threads run while the kernel works.
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

# A global is found faster than an attribute, and these two are called a lot.
_read_info = _border.read_info
_read_full_info = _border.read_full_info


# -------------------------------------------------------------------------------------- one per option


def mptcp_info(sock: t.SocketLike) -> MPTCPInfo:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_INFO)``: the connection.

    Linux 5.16. Raises NotMPTCPError on a socket that speaks plain TCP, UnsupportedOptionError before
    5.16. An unconnected or listening MPTCP socket answers, with zeros but for the limits and the ages.
    """
    return _read_info(sock, MPTCPInfo)


def mptcp_tcpinfo(sock: t.SocketLike) -> tuple[TCPInfo, ...]:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_TCPINFO)``: the TCP state of every subflow.

    In the kernel's order: the initial subflow, then by age; one that was removed while it was the initial
    one stays, in state CLOSE. Empty on a fresh socket from 6.5. Linux 5.16; raises as mptcp_info().
    """
    return _border.read_elements(_border.descriptor(sock), _border.MPTCP_TCPINFO, TCPInfo)


def mptcp_subflow_addrs(sock: t.SocketLike) -> tuple[SubflowAddrs, ...]:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_SUBFLOW_ADDRS)``: the two ends of every subflow.

    Ordered as mptcp_tcpinfo(), but another call: only mptcp_full_info() and snapshot() promise that
    addresses and TCP states belong together. Linux 5.16; raises as mptcp_info().
    """
    return _border.read_elements(_border.descriptor(sock), _border.MPTCP_SUBFLOW_ADDRS, SubflowAddrs)


def mptcp_full_info(sock: t.SocketLike) -> MPTCPFullInfo:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_FULL_INFO)``: connection and subflows in one call.

    Linux 6.5; UnsupportedOptionError before, where snapshot() still answers. Raises otherwise as
    mptcp_info().
    """
    return _read_full_info(sock, MPTCPFullInfo)


def is_mptcp(sock: t.SocketLike) -> bool:
    """``getsockopt(fd, SOL_TCP, TCP_IS_MPTCP)``: whether the socket is MPTCP and has not fallen back.

    True on a fresh socket and on a listener too. The option is of Linux 6.10; older kernels are asked by
    how they refuse it. OSError for what is neither a TCP nor an MPTCP socket.
    """
    return _border.speaks_mptcp(_border.descriptor(sock), "is_mptcp()")


def getsockopt_into(
    sock: t.SocketLike, level: int, option: int, buffer: t.Buffer, length: int | None = None
) -> int:
    """``getsockopt(fd, level, option, buffer, &length)``: the raw call, in and out through buffer.

    Offers length bytes of a writable buffer (all of it by default) and returns the length that the kernel
    reported; no byte beyond length is touched. A failure is an OSError whose ``optlen`` is the length as
    the kernel left it; SOL_MPTCP ones are classified as everywhere here. A length beyond the one offered is
    EPROTO.

    ValueError for a length beyond the buffer, and for options that can write elsewhere whatever the
    length: MPTCP_FULL_INFO with array pointers, TCP_ZEROCOPY_RECEIVE, TCP_AO_GET_KEYS, SO_GET_FILTER,
    IP_MSFILTER, MCAST_MSFILTER, EBT_SO_GET_ENTRIES, EBT_SO_GET_INIT_ENTRIES. A negative length goes to the
    kernel with a NULL buffer, because MPTCP_INFO would take it as "everything": MPTCP_INFO answers EFAULT,
    IP_TOS EINVAL.
    """
    fd = _border.descriptor(sock)
    view = memoryview(buffer)
    if view.readonly or not view.c_contiguous:
        raise TypeError("a writable, contiguous buffer is needed")
    view = view.cast("B")
    if length is None:
        length = len(view)
    for name, number in (("level", level), ("option", option), ("length", length)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name} is an int, not {type(number).__name__}")
        if not -(2**31) <= number < 2**31:
            raise ValueError(f"{name} {number} does not fit a C int")
    if length > len(view):
        raise ValueError(f"a length of {length} is beyond the buffer of {len(view)} bytes")
    return _border.read_into(fd, level, option, view, length)


# ------------------------------------------------------------------------------------ status, snapshot


class Status(enum.Enum):
    """What a TCP-family socket is, from the socket alone.

    MPTCP        connected with MPTCP, and some subflow is not in state CLOSE: live, joining or closing
    FALLBACK     an MPTCP socket whose connection speaks plain TCP (RFC 8684, section 3.7); one that was
                 reset before its first data says so too, and its tcp_info.state is CLOSE then: no sign
                 of a middlebox. So does one whose SYN nobody answers, from the SYN on that goes without
                 MPTCP (net.mptcp.syn_retrans_before_tcp_fallback), and after the ETIMEDOUT: no answer
                 yet is told by tcp_info.state, SYN_SENT
    TCP          a TCP socket, also one that an MPTCP listener accepted from a peer that did not ask for
                 MPTCP, or whose option was lost on the way: a server cannot tell which
    LISTENING    a listener, of TCP or MPTCP alike
    CONNECTING   MPTCP, and the peer's key has not come yet; FALLBACK once a SYN went without MPTCP
    UNCONNECTED  MPTCP, never connected, or disconnected
    CLOSED       MPTCP, was connected, and no subflow is left: closed at both ends, or all its paths
                 are gone, and then a new one may still come (net.mptcp.close_timeout, 60 s)
    UNKNOWN      an MPTCP socket on a kernel without SOL_MPTCP (before 5.16, or user-mode emulation)

    Thread rule: immutable, use it anywhere.
    """

    MPTCP = "mptcp"
    FALLBACK = "fallback"
    TCP = "tcp"
    LISTENING = "listening"
    CONNECTING = "connecting"
    UNCONNECTED = "unconnected"
    CLOSED = "closed"
    UNKNOWN = "unknown"


# Found faster here than in their classes.
_LISTEN, _CLOSE = bytes([TCPState.LISTEN]), bytes([TCPState.CLOSE])
_KEY = int(InfoFlag.REMOTE_KEY_RECEIVED)
_LISTENING = Status.LISTENING
_CONNECTED = Status.CONNECTING, Status.MPTCP  # without the peer's key, and with it
_OVER = Status.UNCONNECTED, Status.CLOSED


def status(sock: t.SocketLike) -> Status:
    """What the socket is: MPTCP, fallen back, plain TCP ... See Status.

    Answers for every TCP and MPTCP socket, whatever its state; OSError for any other descriptor.
    """
    answer = _read_full_info(sock, MPTCPFullInfo, _status_by_asking)
    if isinstance(answer, MPTCPFullInfo):
        flags, states = answer._flags_and_states()
        return _status_of(flags, states)
    return answer


def _status_of(flags: int, states: bytes) -> Status:
    """Of an MPTCP socket, whose subflows are in these TCP states."""
    if _LISTEN in states:
        return _LISTENING
    return (_CONNECTED if states.strip(_CLOSE) else _OVER)[flags & _KEY != 0]


def _status_by_asking(fd: int, error: int, reason: int) -> Status:
    """Where MPTCP_FULL_INFO is refused."""
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
    """What read(fd) makes of the older options if only MPTCP_FULL_INFO is refused; the refusal of all."""
    if refusal == _border.REFUSED_OPTION:
        try:
            return read(fd), refusal
        except NotMPTCPError:  # it fell back meanwhile
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
    """All that one moment tells of a TCP-family socket. Thread rule: immutable, use it anywhere."""

    __slots__ = {
        "time": "time.monotonic_ns() just before the read.",
        "status": "What the socket is (Status).",
        "info": "The connection (MPTCPInfo); None where the socket speaks plain TCP.",
        "subflows": "Every subflow that the kernel lists. A plain TCP socket is one, without an id.",
    }

    _elsewhere = MPTCPFullInfo._elsewhere

    time: int
    """time.monotonic_ns() just before the read."""
    status: Status
    """What the socket is (Status)."""
    info: MPTCPInfo | None
    """The connection (MPTCPInfo); None where the socket speaks plain TCP."""
    subflows: tuple[Subflow, ...]
    """Every subflow that the kernel lists. A plain TCP socket is one, without an id."""

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
        """Payload sent, each byte once, by MPTCP and TCP alike; None where the kernel does not say. (bytes)

        Of MPTCP ``info.bytes_sent`` (Linux 6.5), of TCP ``bytes_sent`` less ``bytes_retrans`` (4.19).
        """
        if self.info is not None:
            return self.info.bytes_sent
        tcp_info = self._flow
        if tcp_info is None or tcp_info.bytes_sent is None or tcp_info.bytes_retrans is None:
            return None
        return max(0, tcp_info.bytes_sent - tcp_info.bytes_retrans)

    @property
    def bytes_acked(self) -> int | None:
        """Payload that the peer has acknowledged, by MPTCP and TCP alike, without SYN and FIN. (bytes)

        Never more than ``bytes_sent``: what is acknowledged beyond it is a SYN, a FIN or a DATA_FIN. On plain
        TCP, while data is in flight, it is one too many on the side that connected: no kernel says which side
        that is. None, and releases, as bytes_sent.
        """
        sent, counted = self.bytes_sent, self.info if self.info is not None else self._flow
        if sent is None or counted is None or counted.bytes_acked is None:
            return None
        return min(sent, counted.bytes_acked)

    @property
    def bytes_received(self) -> int | None:
        """Payload received in order, read or not, by MPTCP and TCP alike, without the peer's FIN. (bytes)

        A TCP socket in state CLOSE does not say whether a FIN came: there it may be one too many. None, and
        releases, as bytes_sent.
        """
        if self.info is not None:
            return self.info.bytes_received
        tcp_info = self._flow
        if tcp_info is None or tcp_info.bytes_received is None:
            return None
        return tcp_info.bytes_received - (tcp_info.state in _AFTER_FIN)

    @property
    def _flow(self) -> TCPInfo | None:
        """The one subflow of plain TCP."""
        return self.subflows[0].tcp_info if self.subflows else None

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All of it by name; clean as in ``TCPInfo.asdict()``."""
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
    """Status, connection and subflows at once, of any TCP-family socket on any kernel.

    MPTCP_FULL_INFO where it exists; before 6.5 MPTCP_TCPINFO between two equal MPTCP_SUBFLOW_ADDRS, tried
    four times, then OSError EAGAIN. Plain TCP and fallen-back sockets are one subflow without an id, from
    TCP_INFO and the socket's names. OSError for what is neither a TCP nor an MPTCP socket.
    """
    now = time.monotonic_ns()
    answer = _read_full_info(sock, MPTCPFullInfo, _snapshot_by_asking)
    if isinstance(answer, MPTCPFullInfo):
        flags, states, info, subflows = answer._parts()
        return Snapshot(now, _status_of(flags, states), info, subflows)
    return answer


def _snapshot_by_asking(fd: int, error: int, reason: int) -> Snapshot:
    """Where MPTCP_FULL_INFO is refused."""
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
    """Before 6.5: two arrays from two calls belong together if the addresses are equal around them."""
    info = _border.read_info(fd, MPTCPInfo)
    before = _border.read_elements(fd, _border.MPTCP_SUBFLOW_ADDRS, SubflowAddrs)
    for _ in range(4):
        tcp_infos = _border.read_elements(fd, _border.MPTCP_TCPINFO, TCPInfo)
        after = _border.read_elements(fd, _border.MPTCP_SUBFLOW_ADDRS, SubflowAddrs)
        if before == after and len(after) == len(tcp_infos):
            return info, tuple(map(Subflow, [None] * len(after), after, tcp_infos))
        before = after
    raise OSError(errno.EAGAIN, f"snapshot() on fd {fd}: its subflows change faster than they can be read")


def _tcp_subflow(fd: int) -> tuple[Subflow, ...]:
    try:
        tcp_info = _border.read_tcp_info(fd, TCPInfo)
    except OSError as error:
        # A living MPTCP socket on a kernel before 5.16 refuses even this.
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            raise
        return ()
    return (Subflow(None, _border.read_names(fd, SubflowAddrs), tcp_info),)
