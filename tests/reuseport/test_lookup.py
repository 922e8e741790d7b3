# SPDX-License-Identifier: MIT
"""reuseport/_lookup.py against real traffic: who gets the connections of two listeners that share a port."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from mptcp_sockopt import processes
from reuseport import _lookup

from ..support import DEADLINE, in_private_network, until

V4, V6 = socket.AF_INET, socket.AF_INET6
PORT = 5000
CONNECTIONS = 24  # both members of a group get some of so many, but for one case in 8 million
DESTINATIONS = ("127.0.0.1", "127.0.0.2", "::1")


class Place(NamedTuple):
    """Where a listener is bound."""

    family: int
    host: str
    v6only: bool = False
    device: str = ""


PLACES = (
    Place(V4, "0.0.0.0"),
    Place(V4, "127.0.0.1"),
    Place(V6, "::"),
    Place(V6, "::", v6only=True),
    Place(V6, "::1"),
    Place(V6, "::ffff:0.0.0.0"),
    Place(V6, "::ffff:127.0.0.1"),
)
ON_LO = tuple(place._replace(device="lo") for place in PLACES)


@contextlib.contextmanager
def listening(*places: Place, reuse: bool = True) -> Iterator[list[socket.socket]]:
    """In the order given."""
    with contextlib.ExitStack() as stack:
        found = []
        for place in places:
            sock = stack.enter_context(socket.socket(place.family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
            if place.device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, place.device.encode())
            if place.family == V6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, place.v6only)
            sock.bind((place.host, PORT))
            sock.listen(len(DESTINATIONS) * CONNECTIONS)
            found.append(sock)
        yield found


def winners(listeners: list[socket.socket], destination: str) -> frozenset[int]:
    """Which of them, by number, got connections."""
    before = queues(listeners)
    if not reaches(destination):
        return frozenset()
    for _ in range(CONNECTIONS - 1):
        assert reaches(destination)
    until(lambda: sum(queues(listeners)) == sum(before) + CONNECTIONS, "the connections in their queues")
    now = queues(listeners)
    return frozenset(number for number in range(len(listeners)) if now[number] > before[number])


def reaches(destination: str) -> bool:
    try:
        socket.create_connection((destination, PORT), DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


def queues(listeners: list[socket.socket]) -> list[int]:
    lengths = {found.inode: found.queue for found in processes.listeners(PORT)}
    return [lengths[os.fstat(sock.fileno()).st_ino] for sock in listeners]


def as_told(listeners: list[socket.socket]) -> list[processes.Listener]:
    found = {found.inode: found for found in processes.listeners(PORT)}
    return [found[os.fstat(sock.fileno()).st_ino] for sock in listeners]


def alone(place: Place) -> frozenset[str]:
    """The destinations whose connections it gets."""
    with listening(place) as listeners:
        return frozenset(to for to in DESTINATIONS if winners(listeners, to))


def judge(one: Place, other: Place, reach: dict[Place, frozenset[str]]) -> str | None:
    """What the traffic says in both orders, and what the rule says: None if they agree."""
    alone_at = set()  # who got all, in either order
    for pair in ((one, other), (other, one)):
        with listening(*pair) as listeners:
            first, second = as_told(listeners)
            got = {winners(listeners, to) for to in reach[one] & reach[other]}
        taken = {pair[number] for who in got if len(who) == 1 for number in who}
        above = [_lookup.shadows(first, second), _lookup.shadows(second, first)]
        tie = _lookup.rivals(first, second)
        allowed = {place for place, is_above in zip(pair, above, strict=True) if is_above or tie}
        spread = {len(who) == 2 for who in got} or {False}
        wrong = (
            (spread == {True}) != (_lookup.group(first) == _lookup.group(second) and bool(got))
            or not taken <= allowed
            or (not taken and any([*above, tie]))
        )
        if wrong:
            return f"{pair}: all to {taken}, spread {spread}; the rule has {above}, tie {tie}"
        alone_at |= taken
    # If the order does not matter the rule ought to know who is before the other. (Of the interface this is
    # left open: "one of the two" stays true with a kernel that makes it count.)
    if tie and one.device == other.device and len(alone_at) != 2:
        return f"{one}, {other}: all to {alone_at} in either order, and the rule does not know it"
    return None


@pytest.mark.parametrize("devices", ["none", "one", "both"])
def test_the_rule_is_the_kernel_s(devices: str) -> None:
    """Every pair, in both orders: who gets the connections that either alone would get."""

    def look() -> list[str]:
        ones, others = {"none": (PLACES, PLACES), "one": (PLACES, ON_LO), "both": (ON_LO, ON_LO)}[devices]
        reach = {place: alone(place) for place in {*ones, *others}}
        assert all(reach.values())
        pairs = (
            itertools.product(ones, others)
            if devices == "one"
            else itertools.combinations_with_replacement(ones, 2)
        )
        return [wrong for pair in pairs if (wrong := judge(*pair, reach))]

    assert in_private_network(look) == []


def test_without_reuseport_none_is_before_another() -> None:
    """Listeners that could have the same connection are refused; of the rest none is before another."""

    def look() -> tuple[int, list[str]]:
        refused, wrong = 0, []
        for one, other in itertools.product(PLACES, PLACES):
            try:
                with listening(one, other, reuse=False) as listeners:
                    found = as_told(listeners)
                    if _lookup.shadows(*found) or _lookup.shadows(*reversed(found)) or _lookup.rivals(*found):
                        wrong.append(f"{one}, {other}")
            except OSError:
                refused += 1
        return refused, wrong

    refused, wrong = in_private_network(look)
    assert refused
    assert wrong == []


def listener(host: str, interface: int = 0, v6only: bool | None = None, inode: int = 1) -> processes.Listener:
    family = int(V6 if ":" in host else V4)
    return processes.Listener(family, host, PORT, 0, 9, 0, inode, inode, interface, v6only)


def test_destinations_that_make_a_difference() -> None:
    """Each address and interface that another listener is bound to, and all others."""
    new, other = listener("0.0.0.0"), listener("127.0.0.1", interface=1)
    found = {tuple(to): _lookup.takers(new, [other], to) for to in _lookup.destinations(new, [other])}
    assert found == {
        (4, "127.0.0.1", 0): [new],
        (4, "127.0.0.1", 1): [other],
        (4, None, 0): [new],
        (4, None, 1): [new],
    }
    assert [to.interface for to in _lookup.destinations(listener("0.0.0.0", interface=2), [other])] == [2, 2]


def test_the_last_one_gets_all_of_ipv4_and_nothing_of_ipv6() -> None:
    """Beside an equal one of another group. What an older member of its group does, is not known."""
    (to,) = _lookup.destinations(new := listener("127.0.0.1"), [rival := listener("127.0.0.1", 1)])[1:]
    assert _lookup.takers(new, [rival], to) == [new]
    new, rival = listener("::", v6only=True), listener("::", v6only=False, inode=2)
    (to,) = _lookup.destinations(new, [rival])
    assert _lookup.takers(new, [rival], to) == [rival]
    assert _lookup.takers(new, [rival, new._replace(inode=3)], to) is None
