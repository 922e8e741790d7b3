# SPDX-License-Identifier: MIT
"""who/rule.py: the cases that surprise, one by one, each against the kernel; and what is not known."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

import pytest

from reuseport.who.rule import Answer, Holder, Place, State, Wish, answer, meets, through_memory

from ..support import in_private_network

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
PORT = 5000
LO = 1
UID = 7
LOOPBACK = Place(V4, "127.0.0.1")
DUAL, V6ONLY = Place(V6, "::", False), Place(V6, "::", True)
WILD4, MAPPED = Place(V4, "0.0.0.0"), Place(V6, "::ffff:0.0.0.0")


def wish(place: Place = LOOPBACK, flags: str = "") -> Wish:
    return Wish(place, UID, "addr" in flags, "port" in flags)


def holder(
    place: Place = LOOPBACK, flags: str | None = "", state: State = State.LISTEN, uid: int | None = UID
) -> Holder:
    known = (None, None) if flags is None else ("addr" in flags, "port" in flags)
    return Holder(place, state, uid, *known)


@pytest.mark.parametrize(
    ("wanted", "there", "binds"),
    [
        # SO_REUSEADDR, on both, beside all that does not listen
        (wish(flags="addr"), holder(flags="addr"), False),
        (wish(flags="addr"), holder(flags="addr", state=State.BOUND, uid=8), True),
        (wish(flags="addr"), holder(flags="addr", state=State.STUB, uid=None), True),
        (wish(flags="addr"), holder(state=State.STUB, uid=None), False),
        (wish(), holder(flags="addr", state=State.STUB, uid=None), False),
        # SO_REUSEPORT, on both, of one uid, which a closed socket has no more
        (wish(flags="port"), holder(flags="port"), True),
        (wish(flags="port"), holder(flags="port", uid=8), False),
        (wish(flags="port"), holder(flags="port", state=State.STUB, uid=None), True),
        (wish(flags="port"), holder(flags="addr"), False),
        # what is not known
        (wish(flags="addr"), holder(flags=None, state=State.STUB, uid=None), None),
        (wish(flags="port"), holder(flags="port", uid=None), None),
        (wish(), holder(flags=None), False),
        (wish(WILD4), holder(Place(V6, "::1", None), state=State.STUB, uid=None), None),
        # addresses and interfaces
        (wish(WILD4), holder(DUAL), False),
        (wish(WILD4), holder(V6ONLY), True),
        (wish(V6ONLY), holder(LOOPBACK), True),
        (wish(Place(V6, "::1", True)), holder(WILD4), True),
        (wish(LOOPBACK._replace(device=1)), holder(LOOPBACK._replace(device=2)), True),
        (wish(LOOPBACK._replace(device=1)), holder(), False),
    ],
)
def test_one_holder(wanted: Wish, there: Holder, binds: bool | None) -> None:
    """Yes, no, or not known."""
    assert answer(wanted, [there]).binds is binds


def test_who_is_in_the_way_and_who_is_in_doubt() -> None:
    """By number. One that certainly refuses decides, whatever is in doubt."""
    closed = holder(flags=None, state=State.STUB, uid=None)
    free = holder(Place(V4, "127.0.0.2"))
    assert answer(wish(), [free]) == Answer(True)
    assert answer(wish(flags="addr"), [free, closed]) == Answer(None, (), (1,))
    assert answer(wish(flags="addr"), [closed, holder()]) == Answer(False, (1,), (0,))


@pytest.mark.parametrize(
    ("listener", "flags", "binds"),
    [("port", "port", True), ("port", "addr port", True), ("addr port", "addr port", True)],
)
def test_what_a_listener_tells_of_its_connections(listener: str, flags: str, binds: bool | None) -> None:
    """Its connections have its options, and what was there before did not refuse it."""
    closed = holder(flags=None, state=State.STUB, uid=None)
    assert answer(wish(flags=flags), [closed]).binds is None
    assert answer(wish(flags=flags), [holder(flags=listener), closed]).binds is binds
    elsewhere = holder(Place(V4, "127.0.0.2"), flags=listener)
    assert answer(wish(flags=flags), [elsewhere, closed]).binds is None


def test_a_listener_tells_not_more_than_it_knows() -> None:
    """With both options, either may have let it in: not enough for a socket with one of them."""
    closed = holder(flags=None, state=State.STUB, uid=None)
    assert answer(wish(flags="port"), [holder(flags="addr port"), closed]).binds is None


# --------------------------------------------------------------------------------- against the kernel


@contextlib.contextmanager
def bound(*each: tuple[Place, str]) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = []
        for place, flags in each:
            sock = stack.enter_context(socket.socket(place.family, socket.SOCK_STREAM))
            for name in flags.split():
                sock.setsockopt(socket.SOL_SOCKET, getattr(socket, f"SO_REUSE{name.upper()}"), 1)
            if place.family == V6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(place.v6only))
            if place.device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            sock.bind((place.host, PORT))
            made.append(sock)
        yield made


def admits(new: tuple[Place, str], *there: tuple[Place, str]) -> bool:
    """Whether the kernel lets a socket bind beside others, which are bound in this order."""
    with bound(*there):
        try:
            with bound(new):
                return True
        except OSError:
            return False


@pytest.mark.parametrize(
    ("new", "before", "there", "state"),
    [
        ((LOOPBACK, "port"), (LOOPBACK, "addr port"), (LOOPBACK, "addr"), State.BOUND),
        ((DUAL, "port"), (V6ONLY, "port"), (WILD4, ""), State.BOUND),
        ((DUAL, "port"), (WILD4, "port"), (Place(V6, "::1", True), ""), State.BOUND),
    ],
)
def test_what_the_kernel_remembers_lets_a_socket_in(
    new: tuple[Place, str], before: tuple[Place, str], there: tuple[Place, str], state: State
) -> None:
    """It refuses the socket, but not if it admitted its like before. So the answer is not "no"."""

    def look() -> tuple[bool, bool]:
        return admits(new, there), admits(new, there, before)

    assert in_private_network(look) == (False, True)
    refusing = [holder(there[0], there[1], state)]
    assert answer(wish(*new), refusing) == Answer(None, (0,), (), remembered=True)
    assert not through_memory(wish(new[0]), refusing)
    listening = [holder(new[0], there[1])]  # one at the same address has replaced the memory
    assert answer(wish(*new), listening).binds is False


def test_an_ipv6_connection_is_in_the_way_of_the_ipv4_wildcard() -> None:
    """Without IPV6_V6ONLY: the kernel's look-up of conflicts knows it by an IPv4 address of its own."""

    def look() -> list[bool]:
        found = []
        for v6only in (0, 1):
            with (
                socket.create_server(("::1", 9), family=socket.AF_INET6) as server,
                socket.socket(V6) as client,
            ):
                client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                client.bind(("::", PORT))
                client.connect(server.getsockname())
                found += [admits((place, "")) for place in (WILD4, LOOPBACK, MAPPED)]
        return found

    places = [
        (place, Place(V6, "::1", v6only)) for v6only in (False, True) for place in (WILD4, LOOPBACK, MAPPED)
    ]
    told = [not meets(new, old) for new, old in places]
    assert told == [False, True, True, True, True, True]
    assert in_private_network(look) == told


def test_one_s_own_uid_is_compared() -> None:
    """By equality alone."""
    same: Sequence[Holder] = [holder(flags="port", uid=os.getuid())]
    assert answer(Wish(LOOPBACK, os.getuid(), False, True), same).binds is True
