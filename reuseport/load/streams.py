# SPDX-License-Identifier: MIT
"""How bytes travel, without ever waiting: on TCP, MPTCP or a unix socket, in clear or over TLS."""

from __future__ import annotations

import errno
import os
import socket

import mptcp_sockopt

from .._net import open_socket
from .clients import Target

PORTION = 1 << 14
SYN = 1  # TCP counts it among the bytes that were acknowledged


class NoTLSError(Exception):
    """The peer does not speak TLS."""


class Stream:
    """A connection in clear."""

    __slots__ = ("_target", "connecting", "number", "outgoing", "sock", "watched", "written")

    #: Whether the end has come, though nothing more is readable.
    ended = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self.sock = open_nonblocking(target)
        #: Of its descriptor.
        self.number = self.sock.fileno()
        #: What the kernel has not taken yet.
        self.outgoing = b""
        #: Whether connect(2) has still to be called.
        self.connecting = True
        #: Which events are waited for.
        self.watched = 0
        #: How many bytes the kernel has taken.
        self.written = 0

    def connect(self) -> bool:
        """Begin to. False: there is no room in the queue of a unix listener now; try again."""
        error = self.sock.connect_ex(self._target.address)
        if error and error != errno.EINPROGRESS:
            if error == errno.EAGAIN:
                return False
            raise OSError(error, f"connect to {self._target}: {os.strerror(error)}")
        self.connecting = False
        return True

    def send(self, data: bytes) -> bool:
        """Send it, at the latest with flush(). Whether all has been taken."""
        self.outgoing += data
        return self.flush()

    def flush(self) -> bool:
        try:
            taken = self.sock.send(self.outgoing)
        except BlockingIOError:
            return False
        self.written += taken
        self.outgoing = self.outgoing[taken:]
        return not self.outgoing

    def receive(self, most: int = PORTION) -> bytes | None:
        """What has come; nothing yet is None, the end is empty."""
        try:
            return self.sock.recv(most)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self.sock.close()

    def acknowledged(self) -> int | None:
        """How many of the written bytes the peer's kernel has. -1: there was no handshake. None: unknown."""
        if self._target.family == socket.AF_UNIX:
            return -1 if self.connecting else self.written
        if self._target.mptcp:
            return None
        acked = mptcp_sockopt.snapshot(self.sock).subflows[0].tcp_info.bytes_acked
        return None if acked is None else acked - SYN


def open_nonblocking(target: Target) -> socket.socket:
    """A socket that never waits."""
    if target.mptcp:
        sock = open_socket(target.family, mptcp=True)
        sock.setblocking(False)
        return sock
    protocol = 0 if target.family == socket.AF_UNIX else socket.IPPROTO_TCP
    return socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, protocol)
