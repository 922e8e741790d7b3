# SPDX-License-Identifier: MIT
"""The border: the only importer of the compiled module. (_sock_diag.py is its other room.)

Below this file stands the kernel's layout (csrc/mptcp_abi.h), above it Python objects. What must live
here: descriptors, buffers, lengths, and the way from an errno to an exception. What this file must not
know: the name or the meaning of any field.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time

from ._descriptor import descriptor as descriptor
from ._errors import MPTCPError, NotMPTCPError, UnsupportedOptionError
from ._version import __version__

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    V = TypeVar("V", bound=bytes)

try:
    from _mptcp_sockopt import ffi as ffi
    from _mptcp_sockopt import lib as lib
except ImportError as error:
    raise ImportError(
        f"mptcp_sockopt needs its compiled module _mptcp_sockopt: install the package, on Linux ({error})",
        name=error.name,
    ) from error

_compiled_version = ffi.string(lib.mptcp_sockopt_version()).decode()
if _compiled_version != __version__:
    raise ImportError(
        f"mptcp_sockopt {__version__} was found with a compiled module of {_compiled_version}: "
        "one of the two is another checkout or an older install; install again (pip install .)",
        name="_mptcp_sockopt",
    )

# Taken from the header by the C compiler: option numbers, flags, states.
IPPROTO_MPTCP: int = lib.IPPROTO_MPTCP
SOL_MPTCP: int = lib.SOL_MPTCP
MPTCP_INFO: int = lib.MPTCP_INFO
MPTCP_TCPINFO: int = lib.MPTCP_TCPINFO
MPTCP_SUBFLOW_ADDRS: int = lib.MPTCP_SUBFLOW_ADDRS
MPTCP_FULL_INFO: int = lib.MPTCP_FULL_INFO
TCP_IS_MPTCP: int = lib.TCP_IS_MPTCP

_OPTION_NAMES = {
    MPTCP_INFO: "MPTCP_INFO",
    MPTCP_TCPINFO: "MPTCP_TCPINFO",
    MPTCP_SUBFLOW_ADDRS: "MPTCP_SUBFLOW_ADDRS",
    MPTCP_FULL_INFO: "MPTCP_FULL_INFO",
}


def numbers(prefix: str) -> dict[str, int]:
    """The header's constants that begin with prefix, without it."""
    return {name[len(prefix) :]: getattr(lib, name) for name in dir(lib) if name.startswith(prefix)}


# ---------------------------------------------------------------------------------------------- layouts


class Place:
    """Where a field lies in its struct. A bit-field is size bytes at offset, shifted and masked."""

    __slots__ = ("mask", "offset", "shift", "size")

    def __init__(self, offset: int, size: int, shift: int = 0, mask: int = 0) -> None:
        self.offset = offset
        self.size = size
        self.shift = shift
        self.mask = mask

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def format(self) -> str:
        """For the struct module; native byte order, as the kernel's."""
        return "=" + {1: "B", 2: "H", 4: "I", 8: "Q"}[self.size]


def layout(struct_name: str, prefix: str = "") -> dict[str, Place]:
    """The fields of a C struct that begin with prefix, by the rest of their name, in order."""
    return {
        name[len(prefix) :]: Place(
            field.offset,
            ffi.sizeof(field.type),
            *((field.bitshift, (1 << field.bitsize) - 1) if field.bitshift >= 0 else ()),
        )
        for name, field in ffi.typeof(f"struct {struct_name}").fields
        if name.startswith(prefix)
    }


# ------------------------------------------------------------------------------------------------ reads

# One atomic free list (list.pop and list.append are), because the GIL is dropped during a read: a buffer
# in use belongs to its call alone. 8 KiB hold nine subflows, the most that the in-kernel path manager
# makes; a larger buffer is made for its call and not kept.
_BUFFER_SIZE = 8192
_free: list[tuple[Any, memoryview]] = []


def _in_words(size: int) -> int:
    return (size + 7) // 8


def _new_buffer(size: int) -> tuple[Any, memoryview]:
    pointer = ffi.new("uint64_t[]", _in_words(size))  # 8-byte aligned, as the kernel's structs want
    return pointer, memoryview(ffi.buffer(pointer))


def _take_buffer() -> tuple[Any, memoryview]:
    try:
        return _free.pop()
    except IndexError:
        return _new_buffer(_BUFFER_SIZE)


_new_bytes = bytes.__new__
_SMALLEST_INFO = 40  # struct mptcp_info as it was born, in 5.9

# Buffers of MPTCP_INFO, each with a view of it as long as the last answer: the next one is as long.
_free_info: list[tuple[Any, memoryview, int]] = []
_NO_LENGTH: int = lib.MPTCP_INFO_ROOM + 1  # of a new one: neither an answer nor -errno
_pop_info = _free_info.pop
_push_info = _free_info.append
_get_info = lib.mptcp_get_info


def read_info(sock: object, make: type[V]) -> V:
    """MPTCP_INFO, as the kernel wrote it.

    The call that is made most. What it costs beside the system call is counted by benchmarks/calls.py,
    and is why it names its globals and does by itself what descriptor() and the other reads share.
    """
    try:
        fd = sock.fileno()  # type: ignore[attr-defined]
    except AttributeError:
        fd = descriptor(sock)
    try:
        buffer = _pop_info()
    except IndexError:
        buffer = (*_new_buffer(lib.MPTCP_INFO_ROOM), _NO_LENGTH)
    pointer, view, size = buffer
    try:
        length = _get_info(fd, pointer)
    except (TypeError, OverflowError):
        length = _get_info(descriptor(sock), pointer)  # which says what is wrong with it
    if length != size:
        if length < _SMALLEST_INFO:
            _push_info(buffer)
            # A negative descriptor was refused before the kernel was asked; descriptor() says why.
            raise failure(descriptor(sock), "MPTCP_INFO", length)
        view = memoryview(ffi.buffer(pointer, length))
        buffer = pointer, view, length
    result = _new_bytes(make, view)
    _push_info(buffer)
    return result


_SUBFLOW_DATA = struct.Struct("=IIII")
_ELEMENT_ROOM: dict[int, int] = {
    MPTCP_TCPINFO: lib.TCP_INFO_ROOM,
    MPTCP_SUBFLOW_ADDRS: lib.SUBFLOW_ADDRS_ROOM,
}


def read_elements(fd: int, option: int, make: type[V]) -> tuple[V, ...]:
    """MPTCP_TCPINFO or MPTCP_SUBFLOW_ADDRS: one element for each subflow, however many there are."""
    room = _ELEMENT_ROOM[option]
    pointer, view = buffer = _take_buffer()
    try:
        while True:
            length = lib.mptcp_get_subflow_data(fd, option, pointer, len(view), room)
            if length < 0:
                raise failure(fd, _OPTION_NAMES[option], length)
            header, count, _, stride = _SUBFLOW_DATA.unpack_from(view)
            starts = range(header, length, stride)
            if count <= len(starts):
                return tuple([_new_bytes(make, view[start : start + stride]) for start in starts])
            # Room for those and a few more, which may come before the next call.
            pointer, view = _new_buffer(header + (count + 8) * room)
    finally:
        _free.append(buffer)


_get_full_info = lib.mptcp_get_full_info
_FULL_INFO = layout("mptcp_full_info")
# As _free, each with a view of it as long as the last answer, and that length.
_free_full: list[tuple[Any, memoryview, memoryview, int]] = []
_pop_full = _free_full.pop
_push_full = _free_full.append


def read_full_info(sock: object, make: type[V]) -> V:
    """MPTCP_FULL_INFO, compacted as csrc/mptcp_sockopt.h says. Written for speed, as read_info()."""
    try:
        fd = sock.fileno()  # type: ignore[attr-defined]
    except AttributeError:
        fd = descriptor(sock)
    try:
        buffer = _pop_full()
    except IndexError:
        buffer = (*_new_buffer(_BUFFER_SIZE), memoryview(b""), 0)
    pointer, whole, view, size = buffer
    try:
        length = _get_full_info(fd, pointer, _BUFFER_SIZE)
    except (TypeError, OverflowError):
        length = _get_full_info(descriptor(sock), pointer, _BUFFER_SIZE)
    if length > 0:
        if length != size:
            view = whole[:length]
            buffer = pointer, whole, view, length
        result = _new_bytes(make, view)
        _push_full(buffer)
        return result
    while length == 0:
        # Room for those and a few more, which may come before the next call.
        (count,) = struct.unpack_from("=I", whole, _FULL_INFO["num_subflows"].offset)
        room = lib.mptcp_full_info_room(count + 8)
        pointer, whole = _new_buffer(room)
        length = _get_full_info(fd, pointer, room)
    _push_full(buffer)
    if length < 0:
        raise failure(descriptor(sock), "MPTCP_FULL_INFO", length)
    return _new_bytes(make, whole[:length])


_allocate = ffi.new_allocator(should_clear_after_alloc=False)
_get_rows = lib.mptcp_get_rows
_INT = ffi.sizeof("int")
_SPARE = 2  # blocks that are kept: a caller often holds the last answer and the one before


class Rows:
    """MPTCP_INFO or MPTCP_FULL_INFO (option) of many sockets, as csrc/mptcp_sockopt.h says of socket_rows.

    The memory of an answer is leased: it comes back when the last view of it is gone, and the next answer
    is written there. (malloc does as well up to 32 MB; from there on its new pages cost as much as the
    read.) Thread rule: one thread at a time. A signal handler or a finalizer may call any of it in the
    middle of any other call: each works on what it took at its start, and leaves behind what is whole.
    """

    def __init__(self, option: int) -> None:
        self._option = option
        if option == MPTCP_INFO:
            names, room = ["mptcp_info"], lib.MPTCP_INFO_ROOM
        else:  # with one subflow
            names, room = ["mptcp_full_info", "mptcp_subflow_info", "tcp_info"], _BUFFER_SIZE
        self._stride = _in_words(sum(ffi.sizeof(f"struct {name}") for name in names)) * 8
        self._scratch = ffi.new("uint64_t[]", _in_words(room))
        self._asked: tuple[dict[int, int], tuple[int, ...], Any, Any]
        self._asked = {}, (), ffi.new("int[]", 0), ffi.new("uint64_t[]", 0)
        spare: list[Any] = []
        self._spare = spare

        def come_back(block: Any) -> None:
            """When all that was made of a lease is gone, in whatever thread that happens."""
            if len(spare) < _SPARE:
                spare.append(block)

        self._come_back = come_back

    def put(self, added: Mapping[int, int]) -> None:
        """The descriptors to ask. Where the number beside one has changed, its token is forgotten."""
        added = dict(added)
        before, fds, _, known = self._asked
        tokens = dict(zip(fds, known, strict=True))
        kept = [tokens[fd] if before.get(fd) == number else 0 for fd, number in added.items()]
        fds = tuple(added)
        self._asked = added, fds, ffi.new("int[]", fds), ffi.new("uint64_t[]", kept)

    def read(self) -> tuple[tuple[int, ...], int, int, memoryview]:
        """The descriptors, time.monotonic_ns() before the call, the stride, and the block of socket_rows."""
        _, fds, numbers, tokens = self._asked
        spare, count = self._spare, len(fds)
        while True:
            scratch, stride = self._scratch, self._stride
            room = ffi.sizeof(scratch)
            size = count * (stride + 3 * _INT)
            words = _in_words(size)
            block = spare.pop() if spare else None
            if block is None or len(block) != words:
                block = _allocate("uint64_t[]", words)
            lease = ffi.gc(block, self._come_back)
            parts = numbers, tokens, count, self._option, stride, lease, scratch, room
            asked = ffi.new("struct socket_rows *", parts)
            now = time.monotonic_ns()
            longest = _get_rows(asked)
            if longest <= stride:
                return fds, now, stride, memoryview(ffi.buffer(lease, size)).toreadonly()
            if longest > room:
                self._scratch = ffi.new("uint64_t[]", _in_words(longest + lib.mptcp_full_info_room(8)))
            else:
                self._stride = _in_words(longest) * 8


def read_tcp_info(fd: int, make: type[V]) -> V:
    """TCP_INFO of a plain TCP socket, or of the first subflow."""
    pointer, view = buffer = _take_buffer()
    try:
        error, length = _getsockopt(fd, socket.SOL_TCP, socket.TCP_INFO, pointer, lib.TCP_INFO_ROOM)
        if error:
            raise failure(fd, "TCP_INFO", error, socket.SOL_TCP)
        return _new_bytes(make, view[:length])
    finally:
        _free.append(buffer)


def read_names(fd: int, make: type[V]) -> V:
    """getsockname and getpeername, in the form of a subflow element."""
    names = ffi.new("struct mptcp_subflow_addrs *")
    error = lib.socket_names(fd, names)
    if error:
        raise OSError(-error, f"getsockname() on fd {fd}: {os.strerror(-error)}")
    return _new_bytes(make, memoryview(ffi.buffer(names)))


def ask(fd: int, level: int, option: int) -> int:
    """An option that is a small non-negative int, or -errno."""
    value = ffi.new("int *")
    error, _ = _getsockopt(fd, level, option, value, ffi.sizeof("int"))
    return error or int(value[0])


def _getsockopt(fd: int, level: int, option: int, pointer: Any, length: int) -> tuple[int, int]:
    """0 or -errno, and the length as the kernel left it."""
    inout = ffi.new("int *", length)
    return lib.sockopt_get(fd, level, option, pointer, inout), inout[0]


_FULL_INFO_POINTERS = slice(_FULL_INFO["subflow_info"].offset, _FULL_INFO["tcp_info"].end)


def read_into(fd: int, level: int, option: int, view: memoryview, length: int) -> int:
    """getsockopt(2) through the bytes of view; returns the length that the kernel reported."""
    # The kernel gets a copy that no other thread can change between the check and the call.
    copy = ffi.new("uint64_t[]", max(1, (length + 7) // 8))
    inside = memoryview(ffi.buffer(copy))[: max(0, length)]
    inside[:] = view[: len(inside)]
    if (level, option) == (SOL_MPTCP, MPTCP_FULL_INFO) and any(inside[_FULL_INFO_POINTERS]):
        raise ValueError("refused, for it can write outside the buffer: array pointers in MPTCP_FULL_INFO")
    error, reported = _getsockopt(fd, level, option, copy, length)
    view[: len(inside)] = inside
    if error:
        name = f"level {level}, option {option}"
        if level == SOL_MPTCP:
            name = _OPTION_NAMES.get(option, name)
        problem = failure(fd, name, error, level)
        problem.optlen = reported  # type: ignore[attr-defined]  # of OSError, documented at getsockopt_into
        raise problem
    return reported


# --------------------------------------------------------------------------------------------- failures


def tcp_protocol(fd: int, call: str) -> int:
    """SO_PROTOCOL of a TCP or MPTCP socket: IPPROTO_TCP or IPPROTO_MPTCP. OSError for any other."""
    protocol = lib.tcp_protocol(fd)
    if protocol < 0:
        raise OSError(-protocol, f"{call} on fd {fd}: {os.strerror(-protocol)}")
    if not protocol:
        raise OSError(errno.EOPNOTSUPP, f"{call} on fd {fd}: not a TCP or MPTCP socket")
    return protocol


def speaks_mptcp(fd: int) -> bool:
    """TCP_IS_MPTCP of a socket that passed tcp_protocol(); on any kernel, see _errors.py."""
    answer = lib.speaks_mptcp(fd)
    if answer < 0:
        raise OSError(-answer, f"getsockopt(TCP_IS_MPTCP) on fd {fd}: {os.strerror(-answer)}")
    return answer == 1


def failure(fd: int, option: str, error: int, level: int = SOL_MPTCP) -> OSError:
    """The exception for a read of option that returned error: -errno, or an impossible length."""
    if error >= 0:
        message = f"getsockopt({option}) on fd {fd}: the kernel answered {error} bytes"
        return OSError(errno.EPROTO, message)
    refusal = 0
    if level == SOL_MPTCP and -error in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
        refusal = lib.mptcp_refusal(fd)
        if refusal < 0:  # the descriptor was closed meanwhile
            return failed(fd, option, -refusal)
    return failed(fd, option, -error, refusal)


_REFUSALS: dict[int, tuple[type[OSError], str]] = {
    lib.REFUSED_OTHER: (OSError, "not a TCP or MPTCP socket"),
    lib.REFUSED_TCP: (NotMPTCPError, "this is a plain TCP socket"),
    lib.REFUSED_FALLBACK: (NotMPTCPError, "this MPTCP socket fell back to TCP"),
    lib.REFUSED_OPTION: (UnsupportedOptionError, "this kernel lacks the option"),
}


def failed(fd: int, option: str, number: int, refusal: int = 0) -> OSError:
    """The exception for an errno, and for what mptcp_refusal() said."""
    kind, reason = _REFUSALS.get(refusal) or (OSError, os.strerror(number))
    if number == errno.ESTALE:  # mptcp_get_rows() says so
        reason = "this is another connection than the one that was added"
    problem = kind(number, f"getsockopt({option}) on fd {fd}: {reason}")
    if isinstance(problem, MPTCPError):
        problem.option = option
    return problem
