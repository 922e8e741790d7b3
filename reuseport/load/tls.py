# SPDX-License-Identifier: MIT
"""Streams over TLS. Who the peer is is not verified."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import time

from .clients import Target
from .streams import PORTION, NoTLSError, Stream


class TLSStream(Stream):
    """A connection over TLS."""

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
        self.outgoing += self._going.read()
        return (not self.outgoing or super().flush()) and not self._plain

    def receive(self, most: int = PORTION) -> bytes | None:
        came = super().receive()
        if came is None:
            return b"" if self.ended else None
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


def handshakes(target: Target, within: float) -> bool:
    """Whether it takes part in a handshake of TLS, and be it to refuse ours."""
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
