# SPDX-License-Identifier: MIT
"""packet(7): read every frame that arrives on an interface, with its time of arrival, and send frames."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from .. import _types as t
from .abi import lib

_TIMESPEC = struct.Struct("ll")
_RECEIVE_BUFFER = 4 << 20
LARGEST = 128 << 10  # more than one read returns: an offload header and up to 64 KiB
HEADER = 10  # bytes of the offload header, before the Ethernet header
_BATCH = 64  # frames read in a row; in between, frames that are due must be sent


def opened(interface: str) -> socket.socket:
    """A non-blocking socket for read_frames() and send(). It stays in the network namespace of this call."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: receives nothing before bind()
    try:
        sock.setblocking(False)
        # Frames are incomplete: checksums and segmentation are left to hardware. This header describes how.
        sock.setsockopt(lib.SOL_PACKET, lib.PACKET_VNET_HDR, 1)
        sock.setsockopt(lib.SOL_PACKET, lib.PACKET_IGNORE_OUTGOING, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, lib.SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # then up to net.core.rmem_max
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, lib.SO_TIMESTAMPNS, 1)
        sock.bind((interface, lib.ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


def read_frames(sock: socket.socket, buffer: bytearray) -> t.Iterator[tuple[float, bytes]]:
    """The frames that are waiting, up to one batch, each with its arrival by time.monotonic().

    buffer is scratch memory of LARGEST bytes.
    """
    with contextlib.suppress(OSError):  # no more frames, or the interface is being removed
        for _ in range(_BATCH):
            size, ((_, _, stamp),), _, _ = sock.recvmsg_into([buffer], _TIMESPEC.size + 32)
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            age = time.time() - seconds - nanoseconds / 1e9
            # An age above one second means that the clock was set.
            yield time.monotonic() - (age if 0 < age < 1 else 0), bytes(memoryview(buffer)[:size])
