# SPDX-License-Identifier: MIT
"""How bytes travel, without ever waiting: in clear or over TLS, on TCP, MPTCP or a unix socket."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import ssl
import time

import mptcp_sockopt

from .._net import open_socket
from .clients import Target

PORTION = 1 << 16
SYN = 1  # TCP counts it among the bytes that were acknowledged


class NoTLSError(Exception):
    """The peer does not speak TLS."""


class Stream:
    """A connection in clear."""

    __slots__ = ("_outgoing", "_target", "connecting", "sock", "watched", "written")

    #: Whether the end has come, though nothing more is readable.
    ended = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self.sock = open_nonblocking(target)
        self._outgoing = b""
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
        self._outgoing += data
        return self.flush()

    def flush(self) -> bool:
        try:
            taken = self.sock.send(self._outgoing)
        except BlockingIOError:
            return False
        self.written += taken
        self._outgoing = self._outgoing[taken:]
        return not self._outgoing

    @property
    def waits_to_write(self) -> bool:
        return bool(self._outgoing)

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
            return self.written
        if self._target.mptcp:
            return None
        acked = mptcp_sockopt.snapshot(self.sock).subflows[0].tcp_info.bytes_acked
        return None if acked is None else acked - SYN


class TLSStream(Stream):
    """A connection over TLS. Who the peer is is not verified."""

    __slots__ = ("_coming", "_going", "_plain", "_secure", "_shaken", "ended")

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._secure = context().wrap_bio(self._coming, self._going, server_hostname="localhost")
        self._shaken = False
        self._plain = b""
        self.ended = False

    def send(self, data: bytes) -> bool:
        self._plain += data
        return self.flush()

    def flush(self) -> bool:
        try:
            if not self._shaken:
                self._secure.do_handshake()
                self._shaken = True
            if self._plain:
                self._secure.write(self._plain)
                self._plain = b""
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if not self.ended:  # an end in the middle of a handshake is an end
                raise NoTLSError(error.reason or str(error)) from None
        self._outgoing += self._going.read()
        return (not self._outgoing or super().flush()) and not self._plain

    def receive(self, most: int = PORTION) -> bytes | None:
        came = super().receive()
        if came is None:
            return None
        if came:
            self._coming.write(came)
        else:
            self._coming.write_eof()
            self.ended = True
        if not self._shaken:
            self.flush()
        return self._opened() if self._shaken else (b"" if self.ended else None)

    def close(self) -> None:
        """In order, if that needs no waiting."""
        with contextlib.suppress(OSError):  # SSLError is one
            with contextlib.suppress(ssl.SSLWantReadError):
                self._secure.unwrap()
            self.sock.send(self._going.read())
        super().close()

    def _opened(self) -> bytes | None:
        """All that can be decrypted."""
        found = b""
        try:
            while data := self._secure.read(PORTION):
                found += data
            self.ended = True
        except ssl.SSLWantReadError:
            return found or None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        except ssl.SSLError:
            # An alert, or nothing that can be decrypted: the end, as far as the client can tell.
            self.ended = True
        return found


@functools.cache
def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def open_stream(target: Target) -> Stream:
    return TLSStream(target) if target.tls else Stream(target)


def open_nonblocking(target: Target) -> socket.socket:
    """A socket that never waits."""
    if target.mptcp or target.family == socket.AF_UNIX:
        sock = (
            open_socket(target.family, mptcp=True)
            if target.mptcp
            else socket.socket(target.family, socket.SOCK_STREAM)
        )
        sock.setblocking(False)
        return sock
    return socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)


def speaks_tls(target: Target, within: float = 1.0) -> bool:
    """Whether it takes part in a handshake of TLS: an explanation for answers that nobody expects."""
    deadline = time.monotonic() + within
    kind = socket.AddressFamily(target.family)
    with socket.socket(kind, socket.SOCK_STREAM) as sock:
        sock.settimeout(within)
        try:
            sock.connect(target.address)
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            with context().wrap_socket(sock, server_hostname="localhost"):
                return True
        except ssl.SSLError as error:
            # It refused our offer, in TLS.
            return "ALERT" in (error.reason or "")
        except OSError:
            return False
