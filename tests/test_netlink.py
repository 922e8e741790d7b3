# SPDX-License-Identifier: MIT
"""Netlink answers that are no answers: an error each, and no end of waiting."""

from __future__ import annotations

import errno
import socket
import struct
from typing import cast

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt._border import netlink

from .support import in_private_network


class Liar:
    """A netlink socket whose kernel answers every recv() with these bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, size: int) -> bytes:
        return self.answer[:size]


def ask(answer: bytes) -> bytes:
    return netlink.call(cast("socket.socket", Liar(answer)), 1, b"")


def message(kind: int, payload: bytes = b"", length: int | None = None) -> bytes:
    data = struct.pack("=IHHII", 16 + len(payload) if length is None else length, kind, 0, 1, 0) + payload
    return data + bytes(-len(data) % 4)


ACK = message(2, bytes(4))


def test_the_answer_is_what_came_before_its_acknowledgement() -> None:
    """In one datagram; the last message of several; nothing if there was none."""
    assert ask(ACK) == b""
    assert ask(message(77, b"one") + ACK) == b"one"
    assert ask(message(77, b"one") + message(77, b"other") + ACK) == b"other"


@pytest.mark.parametrize(
    "answer",
    [
        *(message(77, bytes(8), length) for length in (0, 1, 15, 25, 2**31, 2**32 - 1)),
        message(77, b"one") + message(77, b"", 0),
        message(2, bytes(8), 0),
        message(2),  # an error without its number
        message(2, bytes(3)),
        message(2, struct.pack("=i", 5)),  # an errno of the wrong sign
        message(77)[:15],
        b"\0",
        b"",  # for ever
        message(77, b"one"),  # for ever, and no acknowledgement
        message(3),
    ],
    ids=lambda answer: f"{answer[:24].hex()}.{len(answer)}",
)
def test_what_is_no_answer_is_a_protocol_error(answer: bytes) -> None:
    """Lengths below the header or beyond the datagram, errors that are none, and no end."""
    with pytest.raises(OSError, match="netlink: ") as caught:
        ask(answer)
    assert caught.value.errno == errno.EPROTO


def test_a_refusal_has_the_kernels_errno() -> None:
    """And its words."""
    with pytest.raises(PermissionError, match="Operation not permitted"):
        ask(message(2, struct.pack("=i", -errno.EPERM)))


def test_attributes_come_back() -> None:
    """By their kinds without its flags, whatever their length."""
    values = {kind: bytes(range(kind)) for kind in range(1, 9)}
    packed = b"".join(netlink.attribute(kind | 0x8000, value) for kind, value in values.items())
    assert netlink.attributes(packed) == values
    assert netlink.attributes(b"") == {}


@pytest.mark.parametrize("length", [0, 1, 3, 9, 65535])
def test_an_attribute_shorter_than_its_header_is_a_protocol_error(length: int) -> None:
    """Or longer than what there is; alone, or behind another."""
    for before in (b"", netlink.attribute(1, b"1234")):
        with pytest.raises(OSError, match="netlink: ") as caught:
            netlink.attributes(before + struct.pack("=HHI", length, 1, 0))
        assert caught.value.errno == errno.EPROTO
    with pytest.raises(OSError, match="netlink: "):
        netlink.attributes(b"\4\0\1")


def test_the_kernel_is_understood(mptcp: None) -> None:
    """A request that it takes, one that it refuses, and a family that it has."""

    def look() -> None:
        testing.add_endpoint("127.0.0.9")
        with pytest.raises(OSError, match=r"File exists|Invalid argument"):  # 6.1 says the latter
            testing.add_endpoint("127.0.0.9")
        with pytest.raises(OSError, match="Invalid argument"):
            testing.set_limits(99)

    in_private_network(look)
