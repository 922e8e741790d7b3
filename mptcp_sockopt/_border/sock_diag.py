# SPDX-License-Identifier: MIT
"""The MPTCP and TCP sockets in the network namespace, from sock_diag(7) dumps, which C parses.

Like sockopt.py, it knows descriptors, buffers and errnos, but not the meaning of any field.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from itertools import count

from .._errors import UnsupportedOptionError
from .abi import ffi, in_words, layout, lib
from .layouts import DIAG_INFO_AT, DIAG_TCP_INFO_AT, diag_end
from .questions import reason_of

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    class Sink(Protocol):
        """Receives a dump of TCP sockets as it arrives."""

        def start(self) -> None:
            """The dump begins, or begins again."""

        def take(self, table: memoryview, /) -> None:
            """Some sockets, each a struct tcp_socket."""


# The caller, as named in errors.
MPTCP, _TCP = "mptcp_diag()", "sock_diag of TCP"
_ATTEMPTS = 10
_FIRST_SIZE = 1 << 18  # about 1,400 records; untouched memory costs nothing
#: Bytes of rows, by default.
LIMIT: int = lib.MOST_RECORDS
# Buffers that are not in use, as in sockopt.py: reusing one saves 5 % of a small dump, more if it need not
# grow. Only this many are kept, no matter how many threads read at once, and none that is larger than this.
_MOST_KEPT = 1 << 20
_free: deque[Any] = deque(maxlen=2)
# Every request has its own number, so an old answer in a buffer is never mistaken for the current one.
_sequences = count(1)


def sequence() -> int:
    """For the next request."""
    return next(_sequences) % 2**32


# The first kernels with MPTCP take a dump of all families for one of TCP sockets; see csrc/mptcp_diag.h.
# Their INET_DIAG_INFO is the tcp_info of Linux 5.4, whose last field is this.
_TCP_INFO = layout("tcp_info", "tcpi_")["snd_wnd"].end

allocate = ffi.new_allocator(should_clear_after_alloc=False)


def stride_of(info_length: int) -> int:
    """The distance between records with this much mptcp_info."""
    return DIAG_INFO_AT + in_words(info_length) * 8


def subflow_stride_of(tcp_info_length: int) -> int:
    """The distance between records of subflows with this much tcp_info."""
    return DIAG_TCP_INFO_AT + in_words(tcp_info_length) * 8


class Dump:
    """struct mptcp_diag_dump, and the memory that it points to.

    With a sink, records are passed on as they arrive and none is kept. In both cases they take at most limit
    bytes. With subflows, each is a struct diag_subflow; sets says of which sockets, see csrc/mptcp_diag.h.
    """

    def __init__(
        self,
        limit: int,
        sink: Sink | None = None,
        local_port: int = 0,
        *,
        port: int = 0,
        first: bool = False,
        subflows: bool = False,
        sets: Any = ffi.NULL,
    ) -> None:
        self.limit = limit
        self.sink, self._local_port = sink, local_port
        self._drained = 0
        self.c: Any = ffi.new("struct mptcp_diag_dump *")
        self.c.port, self.c.single = port, first
        self._room: int = lib.MPTCP_DIAG_ROOM if subflows else lib.MPTCP_DIAG_DATAGRAM
        if subflows:
            self._datagram = self.c.datagram = allocate("uint8_t[]", lib.MPTCP_DIAG_DATAGRAM)
            self._sets = self.c.sets = sets
        try:
            self._use(_free.pop())
        except IndexError:
            self._use(allocate("uint64_t[]", _FIRST_SIZE // 8))

    def _use(self, records: Any) -> None:
        size = ffi.sizeof(records)
        memoryview(ffi.buffer(records, size))[: self.c.used] = self.rows() if self.c.used else b""
        self._records = self.c.records = records
        self.c.size = size

    def rows(self) -> memoryview:
        return memoryview(ffi.buffer(self._records, self.c.used))

    def take(self) -> memoryview:
        """The records, using little more memory than they need. Must be the last call."""
        rows = self.rows()
        if self.c.size > _MOST_KEPT:  # it was at most doubled, so almost half of it is used
            return rows.toreadonly()
        copy = memoryview(bytes(rows))
        _free.append(self._records)
        return copy

    def ask(self, fd: int, family: int, states: int) -> int:
        """Send a request and add what it returns; 0 or -errno."""
        self.c.sequence = sequence()
        if self.sink or self.c.datagram:
            self.c.tcp = states
            result = lib.tcp_diag_request(fd, self.c, self._local_port)
        else:
            result = lib.mptcp_diag_request(fd, self.c, family, states)
        if result < 0:
            return result
        result = 0
        while not result:
            result = lib.mptcp_diag_receive(fd, self.c)
            if self.sink:
                self._drained += self.c.used
                self.sink.take(self.rows())
                self.c.used = 0
            if self.is_full:
                return -errno.EMSGSIZE
            if self.c.size - self.c.used < self._room:
                # One datagram above the limit is enough to detect that it is exceeded.
                most = self.limit + self._room
                size = 2 * self.c.size
                self._use(allocate("uint64_t[]", in_words(size if size < self.limit else most)))
        return min(result, 0)

    @property
    def is_full(self) -> bool:
        return bool(self._drained + self.c.used > self.limit)

    @property
    def is_surely_mptcp(self) -> bool:
        return bool(lib.LEAST_MPTCP_INFO <= self.c.info_length < _TCP_INFO)


def dump(
    states: int, limit: int = LIMIT, before: int = 0, port: int = 0, *, first: bool = False
) -> tuple[memoryview, int]:
    """Records of the MPTCP sockets in these states (1 << state), as described in csrc/mptcp_diag.h.

    Returns the records, and the size of mptcp_info in each (0 without records). The first before bytes of
    limit are in use. port: only of sockets with this local or remote port (0: any). first: of one only, the
    first that the kernel finds.
    """
    if limit < _FIRST_SIZE:
        raise ValueError(f"limit must be at least {_FIRST_SIZE} bytes, not {limit}")
    left = limit - before
    for _ in range(_ATTEMPTS):
        result, found = attempt(states, socket.AF_UNSPEC, made=Dump(left, port=port, first=first))
        # An empty result proves nothing: this kernel may have looked for TCP sockets.
        if (result == 0 and not found.is_surely_mptcp) or result in _DOUBTFUL:
            made = Dump(left, port=port, first=first)
            result, found = attempt(states, socket.AF_INET, socket.AF_INET6, made=made)
        if result == 0 and not found.c.interrupted:
            return found.take(), found.c.info_length
        _raise_unless_disturbed(result, found, "the sockets", limit)
    raise _disturbed(result)


# Results after which another dump is tried, and their messages. 0: a complete dump of a table that changed.
_DISTURBED = {
    0: "the sockets changed during",
    -errno.EAGAIN: "the end was missing in",
    -errno.ENOBUFS: "messages were lost in",
}


def _raise_unless_disturbed(result: int, found: Dump, what: str, limit: int, call: str = MPTCP) -> None:
    if found.c.barren > lib.MOST_BARREN:
        raise OSError(errno.EPROTO, f"{call}: too many datagrams without data")
    if found.is_full:
        raise too_much(what, limit, call)
    if result not in _DISTURBED:
        raise failure(-result, call)


def too_much(what: str, limit: int, call: str = MPTCP) -> OSError:
    return OSError(errno.EMSGSIZE, f"{call}: {what} take more than {limit >> 10} KiB (limit)")


def _disturbed(result: int, call: str = MPTCP) -> OSError:
    why = f"{call}: {_DISTURBED[result]} each of {_ATTEMPTS} dumps"
    return OSError(-result or errno.EAGAIN, why)


def opened(call: str) -> socket.socket:
    """A netlink socket for the caller named call."""
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, lib.NETLINK_SOCK_DIAG)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:  # a kernel without sock_diag
            raise failure(error.errno, call) from None
        # Any other errno, even EAFNOSUPPORT, says nothing about the kernel: it is seccomp or a security
        # module.
        raise OSError(error.errno, f"{call}: socket(AF_NETLINK): {error.strerror}") from None


def attempt(states: int, *families: int, made: Dump, call: str = MPTCP) -> tuple[int, Dump]:
    """One dump for each family, on a new netlink socket, so that no other dump is in progress on it.

    Returns 0 or -errno, and what was received.
    """
    result = 0
    with opened(call) as netlink:
        for family in families:
            # A dump that ends with its first socket is still in progress: the next would be EBUSY.
            if not result and not (made.c.single and made.c.used):
                result = made.ask(netlink.fileno(), family, states)
    return result, made


# The kernel does not know the request for all families, or its answer is of mixed kinds (TCP's includes
# sockets without INET_DIAG_INFO).
_DOUBTFUL = (-errno.EINVAL, -errno.EOPNOTSUPP, -errno.EPROTO)
# The errnos of kernels without sock_diag, without inet_diag, without MPTCP diag, or before 5.7.
_LACKING = (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL)


_NEEDS = {
    MPTCP: ("mptcp_diag", "MPTCP sockets: this needs Linux 5.9 with CONFIG_INET_MPTCP_DIAG"),
    _TCP: ("tcp_diag", "TCP sockets: this needs CONFIG_INET_TCP_DIAG"),
}


def failure(number: int, call: str) -> OSError:
    if number not in _LACKING or call not in _NEEDS:
        return OSError(number, f"{call}: {reason_of(number)}")
    module, needed = _NEEDS[call]
    problem = UnsupportedOptionError(
        number, f"{call}: this kernel cannot list its {needed}, built in or as the module {module}"
    )
    problem.option = module
    return problem


# ------------------------------------------------------------------------------------------ TCP sockets


def dump_tcp(states: int, sink: Sink, *, port: int = 0, limit: int = LIMIT, what: str, call: str) -> None:
    """Read the TCP sockets in these states into sink. Together they take at most limit bytes."""
    result = 0
    for _ in range(_ATTEMPTS):
        sink.start()
        result, found = attempt(states, socket.AF_UNSPEC, made=Dump(limit, sink, port), call=call)
        if result == 0 and not found.c.interrupted:
            return
        _raise_unless_disturbed(result, found, what, limit, call)
    raise _disturbed(result, call)


def dump_subflows(
    states: int, limit: int = LIMIT, port: int = 0, inodes: Iterable[int] = ()
) -> tuple[memoryview, int]:
    """The TCP sockets in these states that are or may be of MPTCP, as described in csrc/mptcp_diag.h.

    Those are: subflows, all listeners, sockets with the port of an MPTCP listener, and (with a few others)
    sockets that have one of the inodes. Returns the records, and the size of tcp_info in each (0 without
    records). port: as dump().
    """
    for _ in range(_ATTEMPTS):
        sets = ffi.new("uint8_t[]", lib.DIAG_SETS // 8)
        for inode in inodes:
            at = lib.DIAG_SET_INODES + inode % 2**16
            sets[at // 8] |= 1 << at % 8
        found = Dump(limit, port=port, subflows=True, sets=sets)
        result, _ = attempt(states, socket.AF_UNSPEC, made=found)
        if not result and not found.c.interrupted:
            return found.take(), found.c.info_length
        _raise_unless_disturbed(result, found, "the subflows", limit)
    raise _disturbed(result)


class _Table:
    """Keeps everything, as it arrives."""

    def start(self) -> None:
        self.rows = bytearray()

    def take(self, table: memoryview) -> None:
        self.rows += table


def tcp_sockets(states: int, port: int) -> list[dict[str, Any]]:
    """The TCP sockets with this local port (0: any) in these states (1 << state).

    Each is a dict: the fields of inet_diag_msg under the kernel's names, and what else the kernel reports.
    """
    table = _Table()
    dump_tcp(states, table, port=port, what="the sockets", call=_TCP)
    return [_fields(one) for one in ffi.from_buffer("struct tcp_socket[]", table.rows)]


def _fields(one: Any) -> dict[str, Any]:
    return {
        **fields_of_msg(one.msg),
        "v6only": None if one.v6only == lib.V6ONLY_NOT_TOLD else bool(one.v6only),
        "is_mptcp": bool(one.is_mptcp),
        "privileged": bool(one.privileged),
    }


def fields_of_msg(msg: Any) -> dict[str, Any]:
    """The fields of a struct inet_diag_msg."""
    record, cookie = bytes(ffi.buffer(ffi.addressof(msg))), msg.id.idiag_cookie
    return {
        **{name: getattr(msg, f"idiag_{name}") for name in _PLAIN},
        "local": diag_end(record, remote=False),
        "remote": diag_end(record, remote=True),
        "ifindex": msg.id.idiag_if,
        "cookie": cookie[0] | cookie[1] << 32,
    }


_PLAIN = ("family", "state", "timer", "expires", "rqueue", "wqueue", "uid", "inode")
