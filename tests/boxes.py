# SPDX-License-Identifier: MIT
"""Middleboxes: what they do to the MPTCP options of TCP segments. Each is for testing.Paths.alter()."""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import Callable, Iterator

_ETHERNET, _ETHERTYPES = 14, {b"\x08\x00": 4, b"\x86\xdd": 6}
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_MPTCP, _NOP, _DSS = 30, 1, 2


class Segment:
    """A TCP segment in a frame, which can be changed."""

    def __init__(self, frame: bytes) -> None:
        self.frame = bytearray(frame)
        version = _ETHERTYPES.get(frame[12:14])
        length = {4: (frame[_ETHERNET] & 15) * 4, 6: 40}.get(version or 0, 0)
        protocol = {4: frame[_ETHERNET + 9], 6: frame[_ETHERNET + 6]}.get(version or 0)
        self.is_tcp = protocol == socket.IPPROTO_TCP
        self.at = _ETHERNET + length

    @property
    def flags(self) -> int:
        return self.frame[self.at + 13]

    @property
    def payload(self) -> int:
        """Where it begins."""
        return self.at + (self.frame[self.at + 12] >> 4) * 4

    def options(self) -> Iterator[tuple[int, int]]:
        """Where each MPTCP option begins, and its length."""
        at = self.at + 20
        while at < self.payload and self.frame[at]:
            length = 1 if self.frame[at] == _NOP else self.frame[at + 1]
            if self.frame[at] == _MPTCP:
                yield at, length
            at += length


def strip(segment: Segment) -> bool:
    """Overwrite the options by NOPs."""
    for at, length in segment.options():
        segment.frame[at : at + length] = bytes([_NOP]) * length
    return True


def drop(segment: Segment) -> bool:
    """Lose what has an option."""
    return not [*segment.options()]


def drop_data(segment: Segment) -> bool:
    """Lose what has an option and data."""
    return drop(segment) or len(segment.frame) == segment.payload


class LoseAcksOfHandshakes:
    """Lose the last packet of the first handshakes. Until the client sends data, it has MP_CAPABLE."""

    def __init__(self, handshakes: int) -> None:
        self.left = handshakes

    def __call__(self, segment: Segment) -> bool:
        if self.left and any(segment.frame[at + 2] >> 4 == 0 for at, _ in segment.options()):
            self.left -= 1
            return False
        return True


def refuse(segment: Segment) -> bool:
    """Turn the answer to a SYN into a reset."""
    segment.frame[segment.at + 13] = _RST | _ACK
    return True


def alter_payload(segment: Segment) -> bool:
    """Change the first bytes of the data."""
    if len(segment.frame) >= segment.payload + 4:
        segment.frame[segment.payload : segment.payload + 4] = b"\x5a\x5a\x5a\x5a"
    return True


def _alter_mapping(segment: Segment, at_end: int, value: bytes) -> bool:
    """Overwrite a part of each mapping, at_end bytes before the end of its length."""
    for at, _ in segment.options():
        flags = segment.frame[at + 3]
        if segment.frame[at + 2] >> 4 == _DSS and flags & 4:
            end = at + 4 + (0, 4, 0, 8)[flags & 3] + (8 if flags & 8 else 4) + 4 + 2
            segment.frame[end - at_end : end - at_end + len(value)] = value
    return True


def shorten(segment: Segment) -> bool:
    """Say of each mapping that it is of 16 bytes."""
    return _alter_mapping(segment, 2, struct.pack("!H", 16))


def lengthen(segment: Segment) -> bool:
    """Say of each mapping that it is of 512 bytes."""
    return _alter_mapping(segment, 2, struct.pack("!H", 512))


def misplace(segment: Segment) -> bool:
    """Say of each mapping that it is of another place in the subflow."""
    return _alter_mapping(segment, 6, b"\x5a\x5a")


def renumber(segment: Segment) -> bool:
    """Say of each mapping that it is of other data."""
    return _alter_mapping(segment, 10, b"\x5a\x5a")


@dataclasses.dataclass(frozen=True)
class Box:
    """A middlebox, for Paths.alter(): what it does, to the segments of one direction (None: of both)."""

    does: Callable[[Segment], bool]
    to_server: bool | None = None
    syn: bool | None = None  # True: to SYNs and SYN/ACKs only. False: to all others.

    def __call__(self, frame: bytes, to_server: bool) -> bytes | None:
        segment = Segment(frame)
        if (
            not segment.is_tcp
            or self.to_server not in (None, to_server)
            or self.syn not in (None, bool(segment.flags & _SYN))
            or segment.flags & _RST
        ):
            return frame
        return bytes(segment.frame) if self.does(segment) else None
