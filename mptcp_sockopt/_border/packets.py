# SPDX-License-Identifier: MIT
"""packet(7): every frame that comes in by an interface, with the time when it came, and a way out."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from .abi import lib

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMESPEC = struct.Struct("ll")
_RECEIVE_BUFFER = 4 << 20
LARGEST = 128 << 10  # bytes that one read brings at the most: a header about offloads, and up to 64 KiB
_BATCH = 64  # frames read in a row; those that are due want to go out in between


def opened(interface: str) -> socket.socket:
    """A socket for read_frames() and send(), which does not block. It stays in the namespace of this call."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: nothing comes before bind()
    try:
        sock.setblocking(False)
        # Frames are unfinished (checksums, segmentation left to hardware); this header says in what.
        sock.setsockopt(lib.SOL_PACKET, lib.PACKET_VNET_HDR, 1)
        sock.setsockopt(lib.SOL_PACKET, lib.PACKET_IGNORE_OUTGOING, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, lib.SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # then as much as net.core.rmem_max allows
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, lib.SO_TIMESTAMPNS, 1)
        sock.bind((interface, lib.ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


def read_frames(sock: socket.socket, buffer: bytearray) -> Iterator[tuple[float, bytes]]:
    """The frames that wait, not more than a batch: when each came, by time.monotonic(), and the frame.

    The buffer is scratch memory, LARGEST bytes.
    """
    with contextlib.suppress(OSError):  # nothing more for now, or an interface that is going
        for _ in range(_BATCH):
            size, ((_, _, stamp),), _, _ = sock.recvmsg_into([buffer], _TIMESPEC.size + 32)
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            age = time.time() - seconds - nanoseconds / 1e9
            # An age beyond a second is a clock that was set.
            yield time.monotonic() - (age if 0 < age < 1 else 0), bytes(memoryview(buffer)[:size])
