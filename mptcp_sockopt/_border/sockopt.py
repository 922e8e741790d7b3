# SPDX-License-Identifier: MIT
"""One socket: reads into buffers.

This module knows descriptors, buffers and lengths. It must not know the name or meaning of any field.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import defaultdict, deque
from functools import partial

from .. import _types as t
from .._descriptor import checked
from .._descriptor import descriptor as descriptor
from .abi import MPTCP_FULL_INFO, MPTCP_SUBFLOW_ADDRS, MPTCP_TCPINFO, SOL_MPTCP, ffi, in_words, lib
from .layouts import POINTERS, num_subflows
from .questions import ATTEMPTS, OPTION_NAMES, TRIES, again, failure, is_doubtful, reason_of, refusal

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from typing_extensions import Never

    R = TypeVar("R")
    V = TypeVar("V")

# Free lists: the GIL is released during a read, so a buffer in use must belong to one call. (deque.pop and
# deque.append are atomic.) At most this many are kept, no matter how many threads read at once.
_KEPT = 4
# 8 KiB hold nine subflows, the maximum of the in-kernel path manager. A larger buffer is created for one call
# and not kept.
BUFFER_SIZE = 8192
# A larger buffer has room for a few subflows that are added before the next call. Needing more every time is
# an error.
MORE = 8
# By option name: a C function gets back only buffers that it was given before.
_free: dict[str, deque[tuple[Any, memoryview]]] = defaultdict(partial(deque, maxlen=_KEPT))


def _new_buffer(size: int) -> tuple[Any, memoryview]:
    pointer = ffi.new("uint64_t[]", in_words(size))  # 8-byte aligned, as the kernel's structs want
    return pointer, memoryview(ffi.buffer(pointer))


_new_bytes: t.MakeView = bytes.__new__  # type: ignore[assignment]  # views are bytes

# Buffers for MPTCP_INFO, each with a view of the last answer's length: the next answer has the same length.
_free_info: deque[tuple[Any, memoryview, int]] = deque(maxlen=_KEPT)
_NO_LENGTH: int = lib.MPTCP_INFO_ROOM + 1  # of a new buffer: neither an answer nor -errno
_pop_info = _free_info.pop
_push_info = _free_info.append
_get_info = lib.mptcp_get_info


def read_info(sock: object, make: type[V], left: int = TRIES) -> V:
    """MPTCP_INFO, as the kernel wrote it.

    The most frequent call. benchmarks/groups.py measures its cost beyond the system call. That is why it uses
    globals, and repeats what descriptor() and the other reads have in common.
    """
    if type(sock) is int:
        fd = sock
    else:
        try:
            fd = sock.fileno()  # type: ignore[attr-defined]
        except AttributeError:
            fd = descriptor(sock)
        if type(fd) is not int:
            fd = checked(sock, fd)
    try:
        buffer = _pop_info()
    except IndexError:
        buffer = (*_new_buffer(lib.MPTCP_INFO_ROOM), _NO_LENGTH)
    pointer, view, size = buffer
    try:
        length = _get_info(fd, pointer)
    except OverflowError:
        length = -errno.EBADF
    if length != size:
        if length < 0:
            _push_info(buffer)
            checked(sock, fd)  # the exception of an invalid descriptor comes first
            return read_info(fd, make, again(fd, "MPTCP_INFO", length, left))
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
_get_subflow_data = lib.mptcp_get_subflow_data


def read_elements(fd: int, option: int, make: type[V], left: int = TRIES) -> tuple[V, ...]:
    """MPTCP_TCPINFO or MPTCP_SUBFLOW_ADDRS: one element for each subflow, for any number of subflows."""
    free = _free[OPTION_NAMES[option]]
    try:
        buffer = free.pop()
    except IndexError:
        buffer = _new_buffer(BUFFER_SIZE)
    pointer, view = buffer
    try:
        length, tries = _get_subflow_data(fd, option, pointer, len(view)), ATTEMPTS
        while not length and (tries := tries - 1):
            _, count, _, _ = _SUBFLOW_DATA.unpack_from(view)
            pointer, view = _new_buffer(_SUBFLOW_DATA.size + (count + MORE) * _ELEMENT_ROOM[option])
            length = _get_subflow_data(fd, option, pointer, len(view))
        if length <= 0:
            return read_elements(fd, option, make, again(fd, OPTION_NAMES[option], length, left))
        header, _, _, stride = _SUBFLOW_DATA.unpack_from(view)
        starts = range(header, length, stride)
        return tuple([_new_bytes(make, view[start : start + stride]) for start in starts])
    finally:
        free.append(buffer)


_get_full_info = lib.mptcp_get_full_info
# As _free_info; each also has a view of the whole buffer.
_free_full: deque[tuple[Any, memoryview, memoryview, int]] = deque(maxlen=_KEPT)
_pop_full = _free_full.pop
_push_full = _free_full.append


def _refuse_full_info(fd: int, error: int, refusal: int) -> Never:
    raise failure(fd, "MPTCP_FULL_INFO", error, refusal)


def read_full_info(
    sock: object,
    make: type[V],
    refused: Callable[[int, int, int], R] = _refuse_full_info,
    left: int = TRIES,
) -> V | R:
    """MPTCP_FULL_INFO, compacted as described in csrc/mptcp_sockopt.h.

    If it is refused, returns refused(descriptor, -errno, refusal()); -errno is 0 if the buffer was always too
    small. Written for speed, as read_info().
    """
    if type(sock) is int:
        fd = sock
    else:
        try:
            fd = sock.fileno()  # type: ignore[attr-defined]
        except AttributeError:
            fd = descriptor(sock)
        if type(fd) is not int:
            fd = checked(sock, fd)
    try:
        buffer = _pop_full()
    except IndexError:
        buffer = (*_new_buffer(BUFFER_SIZE), memoryview(b""), 0)
    pointer, whole, view, size = buffer
    try:
        length = _get_full_info(fd, pointer, BUFFER_SIZE)
    except OverflowError:
        length = -errno.EBADF
    if length > 0:
        if length != size:
            view = whole[:length]
            buffer = pointer, whole, view, length
        result = _new_bytes(make, view)
        _push_full(buffer)
        return result
    tries = ATTEMPTS
    while not length and (tries := tries - 1):
        room = lib.mptcp_full_info_room(num_subflows(whole) + MORE)
        pointer, whole = _new_buffer(room)
        length = _get_full_info(fd, pointer, room)
    _push_full(buffer)
    if length <= 0:
        fd = checked(sock, fd)
        reason = refusal(fd, length)
        if is_doubtful(reason, "MPTCP_FULL_INFO", left):
            return read_full_info(fd, make, refused, left - 1)
        return refused(fd, length, reason)
    return _new_bytes(make, whole[:length])


def read_struct(
    fd: int, option: str, get: Callable[[int, Any], int], room: int, make: type[V], level: int = SOL_MPTCP
) -> V:
    """An option that returns one struct, read by its C function get, which writes at most room bytes."""
    free = _free[option]
    try:
        pointer, view = buffer = free.pop()
    except IndexError:
        pointer, view = buffer = _new_buffer(room)
    try:
        length = get(fd, pointer)
        if length < 0:
            raise failure(fd, option, length, refusal(fd, length, level))
        return _new_bytes(make, view[:length])
    finally:
        free.append(buffer)


def read_tcp_info(fd: int, make: type[V]) -> V:
    """TCP_INFO of a plain TCP socket, or of the initial subflow."""
    return read_struct(fd, "TCP_INFO", lib.tcp_get_info, lib.TCP_INFO_ROOM, make, socket.SOL_TCP)


_NAMES = ffi.typeof("struct mptcp_subflow_addrs *")
_socket_name = lib.socket_name


def read_names(fd: int, make: type[V]) -> V:
    """getsockname() and getpeername() of a TCP or MPTCP socket, in the form of a subflow's addresses."""
    names = ffi.new(_NAMES)
    for peer, call in enumerate(("getsockname", "getpeername")):
        error = _socket_name(fd, peer, names)
        if error:
            raise OSError(-error, f"{call}() on fd {fd}: {reason_of(-error)}")
    return _new_bytes(make, ffi.buffer(names))


# For these options, the length does not limit what the kernel writes.
_UNBOUNDED = {
    (socket.SOL_TCP, 35): "TCP_ZEROCOPY_RECEIVE carries pointers",
    (socket.SOL_TCP, 41): "TCP_AO_GET_KEYS takes the length of one element and writes many",
    (socket.SOL_SOCKET, 26): "SO_GET_FILTER takes its length in instructions of 8 bytes",
    (socket.SOL_IP, 41): "IP_MSFILTER takes its length from inside the buffer",
    (socket.SOL_IP, 48): "MCAST_MSFILTER takes its length from inside the buffer",
    (socket.SOL_IP, 129): "EBT_SO_GET_ENTRIES carries pointers",
    (socket.SOL_IP, 131): "EBT_SO_GET_INIT_ENTRIES carries pointers",
    (socket.IPPROTO_IPV6, 48): "MCAST_MSFILTER takes its length from inside the buffer",
}


def read_into(fd: int, level: int, option: int, view: memoryview, length: int, left: int = TRIES) -> int:
    """getsockopt(2) through the bytes of view; returns the length that the kernel reported.

    ValueError for an option that can write outside of it.
    """
    if (level, option) in _UNBOUNDED:
        raise ValueError(f"refused, because it can write outside the buffer: {_UNBOUNDED[level, option]}")
    # The kernel gets a copy, which no other thread can change between the check and the call.
    copy = ffi.new("uint64_t[]", max(1, (length + 7) // 8))
    inside = memoryview(ffi.buffer(copy))[: max(0, length)]
    inside[:] = view[: len(inside)]
    if (level, option) == (SOL_MPTCP, MPTCP_FULL_INFO) and any(inside[POINTERS]):
        raise ValueError(
            "refused, because it can write outside the buffer: array pointers in MPTCP_FULL_INFO"
        )
    inout = ffi.new("int *", length)
    error = lib.sockopt_get(fd, level, option, copy, inout)
    reported: int = inout[0]
    view[: len(inside)] = inside
    in_bounds = 0 <= reported <= len(inside)
    if error or not in_bounds:
        name = f"level {level}, option {option}"
        if level == SOL_MPTCP:
            name = OPTION_NAMES.get(option, name)
        message = f"getsockopt({name}) on fd {fd}: the kernel reported {reported} of {len(inside)} bytes"
        problem = OSError(errno.EPROTO, message)
        if error:
            reason = refusal(fd, error, level)
            if is_doubtful(reason, name, left):
                return read_into(fd, level, option, view, length, left - 1)
            problem = failure(fd, name, error, reason)
        problem.optlen = reported  # type: ignore[attr-defined]  # documented at getsockopt_into()
        raise problem
    return reported


def lingers(fd: int) -> bool:
    """SO_LINGER: whether it is set, which is the first of its two ints."""
    linger = ffi.new("int[2]")
    view = memoryview(ffi.buffer(linger))
    read_into(fd, socket.SOL_SOCKET, socket.SO_LINGER, view, len(view))
    return bool(linger[0])
