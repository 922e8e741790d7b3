# SPDX-License-Identifier: MIT
"""One netlink request and its answer, as bytes: for what is not asked often. Imports nothing of ours."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

_F_REQUEST, _F_ACK = 1, 4
_ERROR = 2
_MESSAGE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")  # headers: length first, then the kind
_KIND_MASK = 0x3FFF
_DATAGRAMS = 100  # an answer is one message and an acknowledgement, in a datagram or two


@contextlib.contextmanager
def connected(protocol: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as netlink:
        netlink.settimeout(5)
        netlink.bind((0, 0))
        yield netlink


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Values by their kind; OSError (EPROTO) for bytes that are no attributes."""
    found = {}
    while data:
        kind, value, data = _cut(data, _ATTRIBUTE)
        found[kind & _KIND_MASK] = value
    return found


def call(netlink: socket.socket, kind: int, payload: bytes) -> bytes:
    """One request; the payload of its answer, empty if that was the acknowledgement alone.

    OSError with the kernel's errno if it refuses, EPROTO if what comes back is no answer.
    """
    length = _MESSAGE.size + len(payload)
    netlink.send(_MESSAGE.pack(length, kind, _F_REQUEST | _F_ACK, 1, 0) + payload)
    answer = b""
    for _ in range(_DATAGRAMS):
        messages = netlink.recv(65536)
        while messages:
            kind, body, messages = _cut(messages, _MESSAGE)
            if kind == _ERROR:
                (error,) = numbers("=i", body)
                if error > 0:
                    raise _broken(f"an error of {error}")
                if error:
                    raise OSError(-error, os.strerror(-error))
                return answer
            answer = body
    raise _broken(f"{_DATAGRAMS} datagrams and no acknowledgement")


def numbers(layout: str, data: bytes) -> tuple[int, ...]:
    """What data begins with; OSError (EPROTO) if it is shorter."""
    if len(data) < struct.calcsize(layout):
        raise _broken(f"{len(data)} bytes for {layout}")
    return struct.unpack_from(layout, data)


def _cut(data: bytes, header: struct.Struct) -> tuple[int, bytes, bytes]:
    """The first message or attribute: its kind, what is in it, and what follows."""
    if len(data) < header.size:
        raise _broken(f"{len(data)} bytes left, less than a header")
    length, kind, *_ = header.unpack_from(data)
    if not header.size <= length <= len(data):
        raise _broken(f"a length of {length}, with {len(data)} bytes left and a header of {header.size}")
    return kind, data[header.size : length], data[(length + 3) & ~3 :]


def _broken(found: str) -> OSError:
    return OSError(errno.EPROTO, f"netlink: {found}")
