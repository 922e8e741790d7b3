# SPDX-License-Identifier: MIT
"""HTTP/1: requests as bytes, and whether an answer is whole."""

from __future__ import annotations

import functools
import os
import re
from typing import NamedTuple

LONGEST_HEAD = 1 << 18
LONGEST_LINE = 1 << 14
IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))  # RFC 9110, 9.2.2


class Request(NamedTuple):
    """What every client asks."""

    method: str = "GET"
    path: str = "/"
    headers: tuple[str, ...] = ()
    """As "Name: value". Host, Connection and Content-Length are added where they are missing."""
    body: bytes = b""

    @property
    def idempotent(self) -> bool:
        """Whether a client may ask again if it does not know what became of the request."""
        return self.method in IDEMPOTENT

    def wire(self, *, close: bool = True) -> bytes:
        """The bytes, of a client that wants the connection closed afterwards or not."""
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        names = {header.partition(":")[0].strip().lower() for header in self.headers}
        if "host" not in names:
            lines.append("Host: localhost")
        lines += self.headers
        if close and "connection" not in names:
            lines.append("Connection: close")
        wants_length = self.body or self.method in ("POST", "PUT", "PATCH")
        if wants_length and not {"content-length", "transfer-encoding"} & names:
            lines.append(f"Content-Length: {len(self.body)}")
        # Of a word of the command line: the bytes that were typed.
        return os.fsencode("\r\n".join([*lines, "", ""])) + self.body


class NotHTTPError(Exception):
    """What came is no HTTP/1."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__("TLS" if tls else "not HTTP")
        self.tls = tls


STATUS = re.compile(rb"HTTP/(1\.\d) +(\d{3})(?:[ \t][^\r\n]*)?\r?\n")
LENGTH = re.compile(rb"\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*(?=\r?\n)")
LENGTH_VALUE = re.compile(rb"\d{1,18}")  # int() refuses thousands of digits
CODING = re.compile(rb"\ntransfer-encoding:[^\r\n]*\bchunked[ \t]*\r?\n")
CONNECTION = re.compile(rb"\nconnection:[^\r\n]*\b(close|keep-alive)\b")
CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n?", re.DOTALL)


class Head(NamedTuple):
    """What matters of the head of an answer."""

    status: int
    keep: bool
    chunked: bool
    length: int | None


@functools.lru_cache(maxsize=64)  # most answers of a load begin alike
def understood(head: bytes) -> Head:
    """NotHTTPError if it is none."""
    line = STATUS.match(head)
    if not line:
        raise NotHTTPError(tls=False)
    fields = head.lower()
    lengths = set(LENGTH.findall(fields))
    if len(lengths) > 1 or not all(LENGTH_VALUE.fullmatch(length) for length in lengths):
        raise NotHTTPError(tls=False)
    word = CONNECTION.search(fields)
    keep = word[1] == b"keep-alive" if word else line[1] != b"1.0"
    length = int(lengths.pop()) if lengths else None
    return Head(int(line[2]), keep, bool(CODING.search(fields)), length)


class Answer:
    """An answer as it comes in. What is informational (1xx) is no answer."""

    __slots__ = (
        "_buffer",
        "_head",
        "_left",
        "_state",
        "begun",
        "excess",
        "keep",
        "length",
        "status",
        "until_end",
    )

    def __init__(self, *, head: bool = False) -> None:
        self._head = head  # no body comes in answer to HEAD
        self._buffer = b""
        self._state = Answer._at_head  # no bound method: that would be a cycle
        self._left = 0
        #: Whether a byte has come.
        self.begun = False
        self.status: int | None = None
        #: How many bytes of the body have come.
        self.length = 0
        #: Whether the end of the connection is that of the answer: nothing in it tells that it is whole.
        self.until_end = False
        #: Whether the server keeps the connection for another request.
        self.keep = True
        #: Whether something comes after the answer.
        self.excess = False

    def feed(self, data: bytes) -> bool:
        """Take what came in; whether the answer is whole. NotHTTPError if it is none."""
        self.begun = True
        self._buffer = self._buffer + data if self._buffer else data
        while (whole := self._state(self)) is None:
            pass
        if whole and self._buffer:
            self.excess = True
        return whole

    def end(self) -> bool:
        """The connection has ended: whether the answer is whole."""
        return self.until_end

    # Each state returns whether the answer is whole, or None if another state goes on with what there is.

    def _at_head(self) -> bool | None:
        buffer = self._buffer
        if not buffer.startswith(b"HTTP/1.") and not b"HTTP/1.".startswith(buffer):
            self._refuse()
        at, alone = buffer.find(b"\n\r\n"), buffer.find(b"\n\n")  # some end lines with newlines alone
        if at < 0 and alone < 0:
            if len(buffer) > LONGEST_HEAD:
                raise NotHTTPError(tls=False)
            return False
        after = alone + 2 if at < 0 or 0 <= alone < at else at + 3
        head, self._buffer = understood(buffer[:after]), buffer[after:]
        if head.status < 200:
            return None if self._buffer else False
        self.status, self.keep = head.status, head.keep
        if self._head or head.status in (204, 304):
            return True
        if head.chunked:
            self._state = Answer._at_size
        elif head.length is None:
            self.until_end, self.keep = True, False
            self._state = Answer._at_rest
        else:
            self._left = head.length
            self._state = Answer._at_body
        return None

    def _refuse(self) -> None:
        """What TLS begins with: the kind of a record, and version 3."""
        if self._buffer[0] in range(0x14, 0x18) and self._buffer[1:2] in (b"\x03", b""):
            raise NotHTTPError(tls=True)
        raise NotHTTPError(tls=False)

    def _take(self) -> None:
        """As much of the body as there is, of what is left."""
        taken = min(self._left, len(self._buffer))
        self._left -= taken
        self.length += taken
        self._buffer = self._buffer[taken:]

    def _at_body(self) -> bool | None:
        self._take()
        return not self._left

    def _at_rest(self) -> bool | None:
        self.length += len(self._buffer)
        self._buffer = b""
        return False

    def _line(self) -> bytes | None:
        line, newline, rest = self._buffer.partition(b"\n")
        if newline:
            self._buffer = rest
            return line
        if len(line) > LONGEST_LINE:
            raise NotHTTPError(tls=False)
        return None

    def _at_size(self) -> bool | None:
        line = self._line()
        if line is None:
            return False
        size = CHUNK.fullmatch(line)
        if not size:
            raise NotHTTPError(tls=False)
        self._left = int(size[1], 16)
        self._state = Answer._in_chunk if self._left else Answer._at_trailer
        return None

    def _in_chunk(self) -> bool | None:
        self._take()
        if self._left:
            return False
        self._state = Answer._after_chunk
        return None

    def _after_chunk(self) -> bool | None:
        line = self._line()
        if line is None:
            return False
        if line not in (b"\r", b""):
            raise NotHTTPError(tls=False)
        self._state = Answer._at_size
        return None

    def _at_trailer(self) -> bool | None:
        line = self._line()
        if line is None:
            return False
        return True if line in (b"\r", b"") else None
