# SPDX-License-Identifier: MIT
"""The servers of roll and fair: they say who serves.

The client speaks first. The answer is four bytes: the number of the process that serves, a native unsigned
integer. (If the server speaks first and closes, about one MPTCP connection in 70,000 gets stuck, as seen on
Linux 6.18. That is not a loss by a restart.)
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

REQUEST = b"?"
REPLY = struct.Struct("=I")
SILENCE = 5  # seconds until a server gives up a client


def answer_as(number: int) -> Callable[[socket.socket], None]:
    """Read the request of a connection, and answer with a number."""

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            if sock.recv(1):
                sock.sendall(REPLY.pack(number))

    return serve


def be_patient(listener: socket.socket) -> socket.socket:
    """Accepted sockets inherit the timeout: a silent client does not block a server for ever."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", SILENCE, 0))
    return listener
