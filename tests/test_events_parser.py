# SPDX-License-Identifier: MIT
"""What is made of the bytes of an event: each attribute, what is unknown, and what is malformed."""

from __future__ import annotations

import errno
import random
import socket
import struct
from typing import Any

import pytest

from mptcp_sockopt._border import netlink, pm_events

FAMILY = 33


def message(kind: int, *attributes: bytes, family: int = FAMILY) -> bytes:
    """An event, typed once more by hand from <linux/netlink.h> and <linux/genetlink.h>."""
    body = struct.pack("=BBH", kind, 1, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), family, 0, 0, 0) + body


def told(*attributes: bytes) -> dict[str, Any]:
    (event,) = pm_events.parsed(message(11, *attributes), FAMILY)
    assert event.pop("kind") == 11
    return event


V4, OTHER4 = socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")
V6, LINK_LOCAL = (socket.inet_pton(socket.AF_INET6, host) for host in ("fd00::1", "fe80::1"))


@pytest.mark.parametrize(
    ("kind", "value", "parts"),
    [
        (1, struct.pack("=I", 0xFEDCBA98), {"token": 0xFEDCBA98}),
        (2, struct.pack("=H", 10), {"family": 10}),
        (3, b"\x07", {"id": 7}),
        (4, b"\xff", {"remote_id": 255}),
        (5, V4, {"local": ("10.0.0.1", 0)}),
        (6, V6, {"local": ("fd00::1", 0, 0, 0)}),
        (7, V4, {"remote": ("10.0.0.1", 0)}),
        (8, V6, {"remote": ("fd00::1", 0, 0, 0)}),
        (9, b"\x01\x02", {}),  # a port without its address
        (10, b"\x01\x02", {}),
        (11, b"\x00", {"backup": False}),
        (11, b"\x01", {"backup": True}),
        (12, b"\x6f", {"error": errno.ECONNREFUSED}),
        (12, b"\xc8", {"error": 200}),
        (13, struct.pack("=H", 0x8001), {"flags": 0x8001}),
        (13, struct.pack("=H", 3), {"flags": 3, "server_side": True}),
        (14, struct.pack("=I", 5), {}),  # timeout: never sent
        (15, struct.pack("=i", 3), {"ifindex": 3}),
        (16, struct.pack("=I", 6), {"reset_reason": 6}),
        (17, struct.pack("=I", 1), {"reset_flags": 1}),
        (18, b"\x01", {"server_side": True}),
        (18, b"\x00", {"server_side": False}),
        (99, b"whatever", {}),
    ],
)
def test_an_attribute(kind: int, value: bytes, parts: dict[str, Any]) -> None:
    """Has its place; one that is unknown has none. Its flag bits are not looked at."""
    assert told(netlink.attribute(kind, value)) == parts
    assert told(netlink.attribute(kind | 0x8000, value), netlink.attribute(100, b"")) == parts


def test_addresses_have_ports_and_scopes() -> None:
    """As socket.getsockname() returns them."""
    ports = netlink.attribute(9, b"\x01\xbb"), netlink.attribute(10, b"\x00\x50")
    ends = netlink.attribute(5, V4), netlink.attribute(7, OTHER4)
    assert told(*ports, *ends) == {"local": ("10.0.0.1", 443), "remote": ("10.0.0.2", 80)}
    bound = netlink.attribute(15, struct.pack("=i", 3))
    ends = netlink.attribute(6, LINK_LOCAL), netlink.attribute(8, V6)
    parts = told(*ends, *ports, bound)
    assert (parts["local"], parts["remote"]) == (("fe80::1", 443, 0, 3), ("fd00::1", 80, 0, 0))


def test_several_messages_are_several_events() -> None:
    """Those of other families are none; nor is nothing."""
    some = message(1) + message(5, family=16) + message(3, netlink.attribute(3, b"\x01")) + message(200)
    assert pm_events.parsed(some, FAMILY) == [{"kind": 1}, {"kind": 3, "id": 1}, {"kind": 200}]
    assert pm_events.parsed(b"", FAMILY) == []


WIDTHS = {1: 4, 2: 2, 3: 1, 4: 1, 5: 4, 6: 16, 7: 4, 8: 16, 11: 1, 12: 1, 13: 2, 15: 4, 16: 4, 17: 4, 18: 1}


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("wrong", [-1, 1, 100])
def test_an_attribute_of_another_width_is_malformed(kind: int, wrong: int) -> None:
    """No number is guessed from it."""
    assert told(netlink.attribute(kind, bytes(WIDTHS[kind])))
    malformed(message(1, netlink.attribute(kind, bytes(WIDTHS[kind] + wrong))))


@pytest.mark.parametrize("kind", [9, 10])
def test_a_port_of_another_width_is_malformed(kind: int) -> None:
    """With its address or without."""
    malformed(message(1, netlink.attribute(kind, b"\x01")))


def malformed(data: bytes) -> None:
    with pytest.raises(OSError, match="netlink: ") as caught:
        pm_events.parsed(data, FAMILY)
    assert caught.value.errno == errno.EPROTO


WHOLE = message(
    11,
    netlink.attribute(1, b"\1\2\3\4"),
    netlink.attribute(2, struct.pack("=H", socket.AF_INET)),
    netlink.attribute(5, V4),
    netlink.attribute(7, OTHER4),
    netlink.attribute(9, b"\1\2"),
    netlink.attribute(12, b"\x68"),
)


def test_what_is_cut_off_is_malformed() -> None:
    """At every byte; and where its length says more, or less than its header."""
    for length in range(1, len(WHOLE)):
        malformed(WHOLE[:length])
    for length in (0, 15, 16, 19, len(WHOLE) + 1, 2**32 - 1):
        malformed(struct.pack("=I", length) + WHOLE[4:])
    for length in (0, 3, 200, 65535):
        malformed(WHOLE[:20] + struct.pack("=H", length) + WHOLE[22:])


def test_any_bytes_are_events_or_malformed() -> None:
    """Never another exception, and no end of time."""
    chance = random.Random(5)
    found = 0
    for _ in range(3000):
        data = bytearray(WHOLE)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            found += len(pm_events.parsed(bytes(data), FAMILY))
        except OSError as error:
            if error.errno != errno.EPROTO:
                raise
    assert 0 < found < 3000
