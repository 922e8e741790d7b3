# SPDX-License-Identifier: MIT
"""The border's second room: MPTCP sockets of the network namespace, by sock_diag(7).

As _abi.py it knows descriptors, buffers and errnos, and no field by its meaning.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from itertools import count

from ._abi import ffi, in_words, layout, lib, reason_of
from ._errors import UnsupportedOptionError

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Where mptcp_info starts in a record.
INFO_AT: int = ffi.sizeof(ffi.typeof("struct inet_diag_msg"))

_ATTEMPTS = 10
_FIRST_SIZE = 1 << 18  # some 1,400 records; what is not written to costs nothing
#: Bytes of rows, if the caller says nothing else.
LIMIT: int = lib.MOST_RECORDS
# First buffers that are not in use, as in _abi.py: one that was written to before is 5 % of a small dump.
# No more than these are kept, however many threads once asked at a time.
_free: deque[Any] = deque(maxlen=2)
# No two requests have the same: what an earlier answer left in a buffer is never taken for this one's.
_sequences = count(1)
# The first kernels with MPTCP take a dump of all families for one of TCP sockets, see csrc/mptcp_diag.h.
# Their INET_DIAG_INFO is the tcp_info of Linux 5.4, which ended with this field.
_TCP_INFO = layout("tcp_info", "tcpi_")["snd_wnd"].end

_allocate = ffi.new_allocator(should_clear_after_alloc=False)


def stride_of(info: int) -> int:
    """From record to record, where mptcp_info takes that many bytes."""
    return INFO_AT + (info + 7) // 8 * 8


class _Dump:
    """struct mptcp_diag_dump, and the memory that it points to.

    With drain, records go there as they come, and none is kept. Either way they are at most limit bytes.
    """

    def __init__(self, limit: int, drain: Callable[[memoryview], None] | None = None) -> None:
        self.limit = limit
        self._drain = drain
        self._drained = 0
        self.c: Any = ffi.new("struct mptcp_diag_dump *")
        self.c.tcp = drain is not None
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
            result = lib.tcp_listeners_request(fd, self.c)
        else:
            result = lib.mptcp_diag_request(fd, self.c, family, states)
        if result < 0:
            return result
        result = 0
        while not result:
            result = lib.mptcp_diag_receive(fd, self.c)
            if self._drain:
                self._drained += self.c.used
                self._drain(self.rows())
                self.c.used = 0
            if self.is_full:
                return -errno.EMSGSIZE
            if self.c.size - self.c.used < lib.MPTCP_DIAG_DATAGRAM:
                # A datagram more than the limit is room enough to see that it is exceeded.
                most = self.limit + lib.MPTCP_DIAG_DATAGRAM
                size = 2 * self.c.size
                self._use(_allocate("uint64_t[]", in_words(size if size < self.limit else most)))
        return min(result, 0)

    @property
    def is_full(self) -> bool:
        return bool(self._drained + self.c.used > self.limit)

    @property
    def is_surely_mptcp(self) -> bool:
        return bool(lib.LEAST_MPTCP_INFO <= self.c.info < _TCP_INFO)


def dump(states: int, limit: int = LIMIT, before: int = 0) -> tuple[memoryview, int]:
    """Records of the MPTCP sockets in these states (1 << state), as csrc/mptcp_diag.h says.

    The records, and how many bytes of mptcp_info are in each (0 if there are no records). Of limit, before
    bytes are taken already.
    """
    if limit < _FIRST_SIZE:
        raise ValueError(f"a limit of {limit} bytes: the smallest is {_FIRST_SIZE}")
    left = limit - before
    for _ in range(_ATTEMPTS):
        result, found = _attempt(states, socket.AF_UNSPEC, limit=left)
        # Nothing found proves nothing: it may be a kernel that looked for TCP sockets.
        if (result == 0 and not found.is_surely_mptcp) or result in _DOUBTFUL:
            result, found = _attempt(states, socket.AF_INET, socket.AF_INET6, limit=left)
        if result == 0 and not found.c.interrupted:
            return found.take(), found.c.info
        _raise_unless_disturbed(result, found, "the sockets", limit)
    raise _disturbed(result)


# What is worth another dump, and how it is told. 0 is a whole dump of a table that changed meanwhile.
_DISTURBED = {
    0: "the sockets changed during",
    -errno.EAGAIN: "the end did not come in",
    -errno.ENOBUFS: "messages were lost in",
}


def _raise_unless_disturbed(result: int, found: _Dump, what: str, limit: int) -> None:
    if found.c.barren > lib.MOST_BARREN:
        raise OSError(errno.EPROTO, "mptcp_diag(): datagrams came that brought nothing")
    if found.is_full:
        raise _too_much(what, limit)
    if result not in _DISTURBED:
        raise _failure(-result)


def _too_much(what: str, limit: int) -> OSError:
    return OSError(errno.EMSGSIZE, f"mptcp_diag(): {what} take more than {limit >> 10} KiB (limit)")


def _disturbed(result: int) -> OSError:
    why = f"mptcp_diag(): {_DISTURBED[result]} each of {_ATTEMPTS} dumps"
    return OSError(-result or errno.EAGAIN, why)


def _attempt(
    states: int, *families: int, limit: int, tcp: Callable[[memoryview], None] | None = None
) -> tuple[int, _Dump]:
    """One dump for each family, on a new netlink socket, which has no other dump under way.

    0 or -errno, and what came. With tcp, of the TCP listeners, which go there.
    """
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, lib.NETLINK_SOCK_DIAG)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:  # a kernel without sock_diag
            raise _failure(error.errno) from None
        # Any other, EAFNOSUPPORT too, is no word of the kernel about its sockets: seccomp, a security module.
        raise OSError(error.errno, f"mptcp_diag(): socket(AF_NETLINK): {error.strerror}") from None
    result, found = 0, _Dump(limit, tcp)
    with netlink:
        for family in families:
            result = result or found.ask(netlink.fileno(), family, states)
    return result, found


# The request for all families is not known, or its answer is not of one kind (TCP's has sockets without
# INET_DIAG_INFO).
_DOUBTFUL = (-errno.EINVAL, -errno.EOPNOTSUPP, -errno.EPROTO)
# How a kernel without sock_diag, without inet_diag, without MPTCP diag, or before 5.7 refuses.
_LACKING = (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL)


def _failure(number: int) -> OSError:
    if number not in _LACKING:
        return OSError(number, f"mptcp_diag(): {reason_of(number)}")
    problem = UnsupportedOptionError(
        number,
        "mptcp_diag(): this kernel cannot list its MPTCP sockets: it wants Linux 5.9 with "
        "CONFIG_INET_MPTCP_DIAG, or its module mptcp_diag where the kernel finds it",
    )
    problem.option = "mptcp_diag"
    return problem


# ------------------------------------------------------------------------------------------- listeners

# Bytes of tcp_info since Linux 6.2. A kernel that gives them can list MPTCP listeners: it could since 5.19.
_TCP_INFO_OF_6_2 = layout("tcp_info", "tcpi_")["rehash"].end
# And since 6.18, which tells the ULP of a listener to anybody: it did since 6.15.
_TCP_INFO_OF_6_18 = layout("tcp_info", "tcpi_")["raw_276"].end
# The kernel's words for "no cookie".
NO_COOKIE = (0xFFFFFFFF, 0xFFFFFFFF)
_COOKIE_AT = layout("inet_diag_msg")["id"].offset + layout("inet_diag_sockid")["idiag_cookie"].offset
_NO_COOKIE = struct.pack("=II", *NO_COOKIE)
_INODE_AT = layout("inet_diag_msg")["idiag_inode"].offset
# Of struct tcp_listener: the inode, which ends its first part, is_mptcp, privileged, tcp_info.
_LISTENER = struct.Struct(f"={_INODE_AT}xIBBH4x")
_RACES = 4  # reads of both tables, where one says nothing of what the other told


class _Union:
    """The listeners that MPTCP's dump told, and those that TCP's table says are MPTCP's too, by inode.

    Of TCP's table nothing else is kept, but what tells whether it withholds something.
    """

    def __init__(self, records: bytearray, stride: int) -> None:
        self._stride = stride
        self._told: dict[int, int] = {}  # where each is; two datagrams may tell the same one
        again = False
        inodes = struct.Struct(f"={_INODE_AT}xI{stride - _INODE_AT - 4}x")
        for at, (inode,) in enumerate(inodes.iter_unpack(records)):
            again = again or not inode or inode in self._told  # without an inode: it is being closed
            self._told[inode] = at * stride
        if again:
            self._told.pop(0, None)
            records[:] = b"".join([records[at : at + stride] for at in self._told.values()])
            self._told = {inode: n * stride for n, inode in enumerate(self._told)}
        self.records = records
        self.start()

    def start(self) -> None:
        """Before TCP's table comes, or comes again."""
        del self.records[len(self._told) * self._stride :]
        self._tells = self._confirmed = False
        self._others = 0
        self._shortest = lib.MOST_STRUCT

    def take(self, table: memoryview) -> None:
        """Some of TCP's listeners (struct tcp_listener)."""
        records, told = self.records, self._told
        size = _LISTENER.size
        for n, (inode, is_mptcp, privileged, tcp_info) in enumerate(_LISTENER.iter_unpack(table)):
            at = told.get(inode)
            if at is not None:
                # What TCP's table says, but the cookie of the MPTCP socket.
                cookie_at = at + _COOKIE_AT
                cookie = records[cookie_at : cookie_at + 8]
                records[at : at + INFO_AT] = table[n * size : n * size + INFO_AT]
                records[cookie_at : cookie_at + 8] = cookie
                self._confirmed = True
            elif is_mptcp and inode:
                more = bytearray(self._stride)
                more[:INFO_AT] = table[n * size : n * size + INFO_AT]
                more[_COOKIE_AT : _COOKIE_AT + 8] = _NO_COOKIE
                records += more
            else:
                self._others += 1
            if is_mptcp or privileged:
                self._tells = True
            if tcp_info < self._shortest:
                self._shortest = tcp_info

    def missing(self) -> str | None:
        """Why some may be missing; "" if these two tables do not tell."""
        if self._tells or not self._others:
            return None
        before_6_15 = (
            f"whether {self._others} more TCP listeners are MPTCP's is told to CAP_NET_ADMIN alone before "
            "Linux 6.15"
        )
        # One of MPTCP's was there without the name of its ULP: this kernel withholds it.
        if self._confirmed:
            return before_6_15
        if self._shortest >= _TCP_INFO_OF_6_18:
            return None
        if self._told:
            return ""
        # The dump of MPTCP listeners, which always tells the first of a bucket, told nothing.
        return None if self._shortest >= _TCP_INFO_OF_6_2 else before_6_15


def listeners(
    info: int, limit: int = LIMIT, before: memoryview | bytes = b""
) -> tuple[memoryview, int, str | None]:
    """The records before, and of the MPTCP listeners; bytes of mptcp_info in each, and a sentence if some may
    be missing.

    info: bytes of mptcp_info that this kernel was seen to give, or 0. limit is for all records.

    The kernel's dump of MPTCP listeners skips some where several are in one bucket of its table, and does not
    know the address of those that its path manager made. But inside of every MPTCP listener is one of TCP,
    with the same inode, and TCP's table misses none. So this is the union, by inode.
    """
    missing: str | None = ""
    for _ in range(_RACES):
        rows, seen = dump(1 << lib.TCP_LISTEN, limit, len(before))
        info = seen or info or lib.LEAST_MPTCP_INFO
        records = bytearray(rows)
        del rows  # what is large is never there longer than it is needed
        union = _Union(records, stride_of(info))
        if not _tcp_listeners(limit, union):
            missing = "listeners that share a port may be missing: this kernel has no tcp_diag"
        elif len(before) + len(records) > limit:
            raise _too_much("the sockets", limit)
        else:
            missing = union.missing()
        del union
        if missing != "":
            break
    if missing == "":
        missing = "listeners may be missing: they came and went while they were listed"
    whole = memoryview(ffi.buffer(_allocate("uint64_t[]", in_words(len(before) + len(records)) + 1)))
    whole = whole[: len(before) + len(records)]
    whole[len(before) :] = records
    del records
    whole[: len(before)] = before
    return whole.toreadonly(), info, missing


def _tcp_listeners(limit: int, union: _Union) -> bool:
    """Into union; False where the kernel cannot. They are no rows, and have a bound of their own."""
    result, limit = 0, max(limit, LIMIT)
    for _ in range(_ATTEMPTS):
        union.start()
        result, found = _attempt(0, socket.AF_UNSPEC, limit=limit, tcp=union.take)
        if result == 0 and not found.c.interrupted:
            return True
        if -result in _LACKING:
            return False
        _raise_unless_disturbed(result, found, "TCP's listeners", limit)
    raise _disturbed(result)
