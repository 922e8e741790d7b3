# SPDX-License-Identifier: MIT
"""The border: the only importer of the compiled module.

Below this file stands the kernel's layout (csrc/mptcp_abi.h), above it Python objects. What must live
here: descriptors, buffers, lengths, and the way from an errno to an exception. What this file must not
know: the name or the meaning of any field.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from ._errors import MPTCPError, NotMPTCPError, UnsupportedOptionError
from ._version import __version__

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing import Any, TypeVar

    V = TypeVar("V", bound=bytes)

try:
    from _mptcp_sockopt import ffi, lib
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


# ------------------------------------------------------------------------------------------ descriptors

_INT_MAX = 2**31 - 1


def descriptor(sock: object) -> int:
    """The descriptor of an int, of anything with fileno(), or of an asyncio transport or StreamWriter.

    TypeError for anything else, bool included; ValueError for a closed object or a number that is none.
    """
    if isinstance(sock, int) and not isinstance(sock, bool):
        fd: object = int(sock)
    elif hasattr(sock, "fileno"):
        fd = sock.fileno()
    elif hasattr(sock, "get_extra_info"):
        inner = sock.get_extra_info("socket")
        if inner is None:
            raise ValueError(f"this {type(sock).__name__} has no socket: it is closed, or never had one")
        fd = inner.fileno()
    else:
        raise TypeError(f"a socket or a file descriptor is needed, not {type(sock).__name__}")
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise TypeError(f"fileno() of {type(sock).__name__} gave {type(fd).__name__}, not an int")
    if 0 <= fd <= _INT_MAX:
        return fd
    if fd == -1 and not isinstance(sock, int):
        raise ValueError(f"this {type(sock).__name__} is closed: its fileno() is -1")
    raise ValueError(f"{fd} is not a file descriptor")


# ------------------------------------------------------------------------------------------------ reads

# One atomic free list (list.pop and list.append are), because the GIL is dropped during a read: a buffer
# in use belongs to its call alone. 8 KiB hold nine subflows, the most that the in-kernel path manager
# makes; a larger buffer is made for its call and not kept.
_BUFFER_SIZE = 8192
_free: list[tuple[Any, memoryview]] = []


def _new_buffer(size: int) -> tuple[Any, memoryview]:
    pointer = ffi.new("uint64_t[]", (size + 7) // 8)  # 8-byte aligned, as the kernel's structs want
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
_pop = _free.pop
_push = _free.append


def read_full_info(sock: object, make: type[V]) -> V:
    """MPTCP_FULL_INFO, compacted as csrc/mptcp_sockopt.h says. Written for speed, as read_info()."""
    try:
        fd = sock.fileno()  # type: ignore[attr-defined]
    except AttributeError:
        fd = descriptor(sock)
    try:
        buffer = _pop()
    except IndexError:
        buffer = _new_buffer(_BUFFER_SIZE)
    pointer, view = buffer
    try:
        length = _get_full_info(fd, pointer, _BUFFER_SIZE)
    except (TypeError, OverflowError):
        length = _get_full_info(descriptor(sock), pointer, _BUFFER_SIZE)
    if length > 0:
        result = _new_bytes(make, view[:length])
        _push(buffer)
        return result
    while length == 0:
        # Room for those and a few more, which may come before the next call.
        (count,) = struct.unpack_from("=I", view, _FULL_INFO["num_subflows"].offset)
        size = lib.mptcp_full_info_room(count + 8)
        pointer, view = _new_buffer(size)
        length = _get_full_info(fd, pointer, size)
    _push(buffer)
    if length < 0:
        raise failure(descriptor(sock), "MPTCP_FULL_INFO", length)
    return _new_bytes(make, view[:length])


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


# What the kernel writes for these is not bounded by the length that it is given.
_UNBOUNDED = {
    (socket.SOL_TCP, 35): "TCP_ZEROCOPY_RECEIVE carries pointers",
    (socket.SOL_TCP, 41): "the length of TCP_AO_GET_KEYS is that of one element of many",
    (socket.SOL_SOCKET, 26): "the length of SO_GET_FILTER counts instructions of 8 bytes",
    (socket.SOL_IP, 41): "IP_MSFILTER takes its length from inside the buffer",
    (socket.SOL_IP, 48): "MCAST_MSFILTER takes its length from inside the buffer",
    (socket.SOL_IP, 129): "EBT_SO_GET_ENTRIES carries pointers",
    (socket.SOL_IP, 131): "EBT_SO_GET_INIT_ENTRIES carries pointers",
    (socket.IPPROTO_IPV6, 48): "MCAST_MSFILTER takes its length from inside the buffer",
}
_FULL_INFO_POINTERS = slice(_FULL_INFO["subflow_info"].offset, _FULL_INFO["tcp_info"].end)


def read_into(fd: int, level: int, option: int, view: memoryview, length: int) -> int:
    """getsockopt(2) through the bytes of view; returns the length that the kernel reported."""
    if (level, option) in _UNBOUNDED:
        raise ValueError(f"refused, for it can write outside the buffer: {_UNBOUNDED[level, option]}")
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
    identity = [ask(fd, socket.SOL_SOCKET, o) for o in (socket.SO_DOMAIN, socket.SO_TYPE, socket.SO_PROTOCOL)]
    for value in identity:
        if value < 0:
            raise OSError(-value, f"{call} on fd {fd}: {os.strerror(-value)}")
    domain, kind, protocol = identity
    if (
        domain in (socket.AF_INET, socket.AF_INET6)
        and kind == socket.SOCK_STREAM
        and protocol in (socket.IPPROTO_TCP, IPPROTO_MPTCP)
    ):
        return protocol
    raise OSError(errno.EOPNOTSUPP, f"{call} on fd {fd}: not a TCP or MPTCP socket")


def speaks_mptcp(fd: int) -> bool:
    """TCP_IS_MPTCP of a socket that passed tcp_protocol(); on any kernel, see _errors.py."""
    answer = ask(fd, socket.SOL_TCP, TCP_IS_MPTCP)
    if answer in (-errno.EOPNOTSUPP, -errno.ENOPROTOOPT):
        return answer == -errno.EOPNOTSUPP
    if answer < 0:
        raise OSError(-answer, f"getsockopt(TCP_IS_MPTCP) on fd {fd}: {os.strerror(-answer)}")
    return answer == 1


def failure(fd: int, option: str, error: int, level: int = SOL_MPTCP) -> OSError:
    """The exception for a read of option that returned error: -errno, or an impossible length."""
    call = f"getsockopt({option})"
    if error >= 0:
        return OSError(errno.EPROTO, f"{call} on fd {fd}: the kernel answered {error} bytes")
    number = -error
    if level != SOL_MPTCP or number not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
        return OSError(number, f"{call} on fd {fd}: {os.strerror(number)}")
    try:
        protocol = tcp_protocol(fd, call)
    except OSError as other:
        same = other.errno == errno.EOPNOTSUPP  # else the descriptor was closed meanwhile
        return OSError(number, other.strerror) if same else other
    problem: MPTCPError
    if speaks_mptcp(fd):
        problem = UnsupportedOptionError(number, f"{call} on fd {fd}: this kernel lacks the option")
    elif protocol == IPPROTO_MPTCP:
        problem = NotMPTCPError(number, f"{call} on fd {fd}: this MPTCP socket fell back to TCP")
    else:
        problem = NotMPTCPError(number, f"{call} on fd {fd}: this is a plain TCP socket")
    problem.option = option
    return problem
