# SPDX-License-Identifier: MIT
"""The MPTCP and TCP sockets of the network namespace, by sock_diag(7): dumps, which C parses.

As sockopt.py it knows descriptors, buffers and errnos, and no field by its meaning.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from itertools import count

from .._errors import UnsupportedOptionError
from .abi import ffi, in_words, layout, lib
from .layouts import DIAG_INFO_AT, NO_COOKIE, diag_end
from .sockopt import reason_of

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing import Any

# What asks: errors name it.
_MPTCP, _TCP = "mptcp_diag()", "sock_diag of TCP"
_ATTEMPTS = 10
_FIRST_SIZE = 1 << 18  # some 1,400 records; what is not written to costs nothing
#: Bytes of records that a dump may bring, if the caller says nothing else.
LIMIT: int = lib.MOST_RECORDS
# First buffers that are not in use, as in sockopt.py: one that was written to before is 5 % of a small dump.
# No more than these are kept, however many threads once asked at a time.
_free: deque[Any] = deque(maxlen=2)
# No two requests have the same: what an earlier answer left in a buffer is never taken for this one's.
_sequences = count(1)
# The first kernels with MPTCP take a dump of all families for one of TCP sockets, see csrc/mptcp_diag.h.
# Their INET_DIAG_INFO is the tcp_info of Linux 5.4, which ended with this field.
_TCP_INFO = layout("tcp_info", "tcpi_")["snd_wnd"].end

_allocate = ffi.new_allocator(should_clear_after_alloc=False)


def stride_of(info_length: int) -> int:
    """From record to record, where mptcp_info takes that many bytes."""
    return DIAG_INFO_AT + in_words(info_length) * 8


class _Dump:
    """struct mptcp_diag_dump, and the memory that it points to."""

    def __init__(self, limit: int, port: int = 0) -> None:
        self.limit = limit // 8 * 8
        self.port = port
        self.is_full = False
        self.c: Any = ffi.new("struct mptcp_diag_dump *")
        try:
            self._use(_free.pop())
        except IndexError:
            self._use(_allocate("uint64_t[]", _FIRST_SIZE // 8))

    def _use(self, records: Any) -> None:
        size = ffi.sizeof(records)
        memoryview(ffi.buffer(records, size))[: self.c.used] = self.rows() if self.c.used else b""
        self._records = self.c.records = records
        self.c.size = size

    def rows(self) -> memoryview:
        return memoryview(ffi.buffer(self._records, self.c.used))

    def take(self) -> memoryview:
        """The records, without much more memory than they take; to be called last."""
        rows = self.rows()
        if self.c.size > _FIRST_SIZE:  # it was doubled, or less: almost half of it is used
            return rows.toreadonly()
        copy = memoryview(bytes(rows))
        _free.append(self._records)
        return copy

    def ask(self, fd: int, family: int, states: int) -> int:
        """Add what one request brings; 0 or -errno."""
        self.c.sequence = next(_sequences) % 2**32
        if self.c.tcp:
            result = lib.tcp_diag_request(fd, self.c, self.port)
        else:
            result = lib.mptcp_diag_request(fd, self.c, family, states)
        if result < 0:
            return result
        while not (result := lib.mptcp_diag_receive(fd, self.c)):
            if self.c.size - self.c.used < lib.MPTCP_DIAG_DATAGRAM:
                if self.c.size >= self.limit:
                    self.is_full = True
                    return -errno.EMSGSIZE
                self._use(_allocate("uint64_t[]", min(2 * self.c.size, self.limit) // 8))
        return min(result, 0)

    @property
    def is_surely_mptcp(self) -> bool:
        return bool(lib.LEAST_MPTCP_INFO <= self.c.info_length < _TCP_INFO)


def dump(states: int, limit: int = LIMIT) -> tuple[memoryview, int]:
    """Records of the MPTCP sockets in these states (1 << state), as csrc/mptcp_diag.h says.

    The records, and how many bytes of mptcp_info are in each (0 if there are no records).
    """
    if limit < _FIRST_SIZE:
        raise ValueError(f"a limit of {limit} bytes: the smallest is {_FIRST_SIZE}")
    for _ in range(_ATTEMPTS):
        result, found = _attempt(states, socket.AF_UNSPEC, limit=limit)
        # Nothing found proves nothing: it may be a kernel that looked for TCP sockets.
        if (result == 0 and not found.is_surely_mptcp) or result in _DOUBTFUL:
            result, found = _attempt(states, socket.AF_INET, socket.AF_INET6, limit=limit)
        if result == 0 and not found.c.interrupted:
            return found.take(), found.c.info_length
        _raise_unless_disturbed(result, found)
    raise _disturbed(result)


# What is worth another dump, and how it is told. 0 is a whole dump of a table that changed meanwhile.
_DISTURBED = {
    0: "the sockets changed during",
    -errno.EAGAIN: "the end did not come in",
    -errno.ENOBUFS: "messages were lost in",
}


def _raise_unless_disturbed(result: int, found: _Dump, call: str = _MPTCP) -> None:
    if found.c.barren > lib.MOST_BARREN:
        raise OSError(errno.EPROTO, f"{call}: datagrams came that brought nothing")
    if found.is_full:
        size = f"{found.limit >> 10} KiB"
        raise OSError(errno.EMSGSIZE, f"{call}: the sockets take more than {size} (limit)")
    if result not in _DISTURBED:
        raise _failure(-result, call)


def _disturbed(result: int, call: str = _MPTCP) -> OSError:
    why = f"{call}: {_DISTURBED[result]} each of {_ATTEMPTS} dumps"
    return OSError(-result or errno.EAGAIN, why)


def _attempt(
    states: int, *families: int, limit: int, port: int | None = None, call: str = _MPTCP
) -> tuple[int, _Dump]:
    """One dump for each family, on a new netlink socket, which has no other dump under way.

    0 or -errno, and what came. With a port, of the TCP sockets that have it; 0 is any.
    """
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, lib.NETLINK_SOCK_DIAG)
    except OSError as error:
        raise _failure(error.errno or errno.EIO, call) from None
    result, found = 0, _Dump(limit, port or 0)
    found.c.tcp = 0 if port is None else states
    with netlink:
        for family in families:
            result = result or found.ask(netlink.fileno(), family, states)
    return result, found


# The request for all families is not known, or its answer is not of one kind (TCP's has sockets without
# INET_DIAG_INFO).
_DOUBTFUL = (-errno.EINVAL, -errno.EOPNOTSUPP, -errno.EPROTO)
# How a kernel without sock_diag, without inet_diag, without MPTCP diag, or before 5.7 refuses.
_LACKING = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL)


def _failure(number: int, call: str = _MPTCP) -> OSError:
    if number not in _LACKING or call != _MPTCP:
        return OSError(number, f"{call}: {reason_of(number)}")
    problem = UnsupportedOptionError(
        number,
        f"{call}: this kernel cannot list its MPTCP sockets: it wants Linux 5.9 with "
        "CONFIG_INET_MPTCP_DIAG, or its module mptcp_diag where the kernel finds it",
    )
    problem.option = "mptcp_diag"
    return problem


# ------------------------------------------------------------------------------------------- listeners

# Bytes of tcp_info since Linux 6.2. A kernel that gives them can list MPTCP listeners: it could since 5.19.
_TCP_INFO_OF_6_2 = layout("tcp_info", "tcpi_")["rehash"].end


def listeners(info_length: int, limit: int = LIMIT) -> tuple[bytes, int, str | None]:
    """Records of the MPTCP listeners, bytes of mptcp_info in each, and a sentence if some may be missing.

    info_length: bytes of mptcp_info that this kernel was seen to give, or 0.
    """
    records, info_length, missing = _listeners(info_length, limit)
    return b"".join(records.values()), info_length, missing


def mptcp_listeners() -> tuple[frozenset[int], str | None]:
    """The inodes of the MPTCP listeners, which the TCP ones inside of them have too, and as listeners()."""
    records, _, missing = _listeners(0, LIMIT)
    return frozenset(records), missing


def _listeners(info_length: int, limit: int) -> tuple[dict[int, bytearray], int, str | None]:
    """Records by inode.

    The kernel's dump of MPTCP listeners skips some where several are in one bucket of its table, and does not
    know the address of those that its path manager made. But inside of every MPTCP listener is one of TCP,
    with the same inode, and TCP's table misses none. So this is the union, by inode.
    """
    rows, seen = dump(1 << lib.TCP_LISTEN, limit)
    info_length = seen or info_length or lib.LEAST_MPTCP_INFO
    stride = stride_of(info_length)
    told: dict[int, bytearray] = {}  # a dump that takes several datagrams may tell a listener twice
    for start in range(0, len(rows), stride):
        record = bytearray(rows[start : start + stride])
        told[_message(record).idiag_inode] = record
    told.pop(0, None)  # is being closed
    table = _tcp_listeners(limit)
    if table is None:
        missing = "listeners that share a port may be missing: this kernel has no tcp_diag"
        return told, info_length, missing
    inside = ffi.from_buffer("struct tcp_socket[]", table)
    records = dict(told)
    for one in inside:
        inode = one.msg.idiag_inode
        if inode in told or (inode and one.is_mptcp):
            records[inode] = _joined(one, told.get(inode), stride)
    in_doubt = _in_doubt(inside, told)
    missing = (
        f"whether {in_doubt} more TCP listeners are MPTCP's is told to CAP_NET_ADMIN alone before Linux 6.15"
    )
    return records, info_length, missing if in_doubt else None


def _joined(inside: Any, told: bytearray | None, stride: int) -> bytearray:
    """A listener's record: what TCP's table says, but cookie and mptcp_info of the MPTCP socket, if told."""
    cookie = tuple(_message(told).id.idiag_cookie) if told else NO_COOKIE
    record = told or bytearray(stride)
    record[:DIAG_INFO_AT] = ffi.buffer(ffi.addressof(inside.msg))
    _message(record).id.idiag_cookie = cookie
    return record


def _message(record: bytearray) -> Any:
    return ffi.from_buffer("struct inet_diag_msg *", record)


def _in_doubt(inside: Any, told: dict[int, bytearray]) -> int:
    """How many listeners of TCP's table may be inside of MPTCP ones that were not told.

    Not one where the kernel tells the ULP: since 6.15 to anybody, before to CAP_NET_ADMIN. Nor where its dump
    of MPTCP listeners, which always tells the first of a bucket, told nothing.
    """
    if any(one.is_mptcp or one.privileged for one in inside):
        return 0
    if not told and all(one.tcp_info >= _TCP_INFO_OF_6_2 for one in inside):
        return 0
    return sum(one.msg.idiag_inode not in told for one in inside)


def _tcp_listeners(limit: int) -> memoryview | None:
    """Of struct tcp_socket; None where the kernel cannot."""
    try:
        return _tcp_table(1 << lib.TCP_LISTEN, 0, limit, _MPTCP)
    except UnsupportedOptionError:
        return None


def _tcp_table(states: int, port: int, limit: int, call: str) -> memoryview:
    result = 0
    for _ in range(_ATTEMPTS):
        result, found = _attempt(states, socket.AF_UNSPEC, limit=limit, port=port, call=call)
        if result == 0 and not found.c.interrupted:
            return found.take()
        _raise_unless_disturbed(result, found, call)
    raise _disturbed(result, call)


def tcp_sockets(states: int, port: int) -> list[dict[str, Any]]:
    """The TCP sockets with that local port (0: any) that are in these states (1 << state): the fields of
    inet_diag_msg under the kernel's names, and what else was told."""
    table = _tcp_table(states, port, LIMIT, _TCP)
    return [_fields(one) for one in ffi.from_buffer("struct tcp_socket[]", table)]


def _fields(one: Any) -> dict[str, Any]:
    msg, cookie = one.msg, one.msg.id.idiag_cookie
    record = bytes(ffi.buffer(ffi.addressof(msg)))
    return {
        **{name: getattr(msg, f"idiag_{name}") for name in _PLAIN},
        "local": diag_end(record, remote=False),
        "remote": diag_end(record, remote=True),
        "ifindex": msg.id.idiag_if,
        "cookie": cookie[0] | cookie[1] << 32,
        "v6only": None if one.v6only == lib.V6ONLY_NOT_TOLD else bool(one.v6only),
        "is_mptcp": bool(one.is_mptcp),
        "privileged": bool(one.privileged),
    }


_PLAIN = ("family", "state", "expires", "rqueue", "wqueue", "uid", "inode")
