# SPDX-License-Identifier: MIT
"""Which listener of a port gets a connection: the kernel's look-up rule, in one place.

inet_lookup_listener() and inet6_lookup_listener() first try listeners bound to exactly the destination
address, and then, if there is none, those bound to the wildcard. They walk a list and score each listener
(compute_score: a point if it is bound to an interface, one if it is an IPv4 socket). But the first match with
SO_REUSEPORT ends the walk, and its group gets the connection. Listeners that match the same connection all
have SO_REUSEPORT, or bind() would have refused, so their order decides. IPv4 sockets are added at the head of
the list, IPv6 sockets at its tail: an IPv4 socket comes first. Among groups of one family it is the order in
which they began to listen (the last one wins for IPv4, the first one for IPv6), which cannot be seen from
outside. The interface does not matter.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mptcp_sockopt.processes import Listener

from . import _net

_MAPPED = "::ffff:"


def group(listener: Listener) -> tuple[object, ...]:
    """What members of a reuseport group have in common; the kernel spreads connections over them."""
    return listener.family, listener.host, listener.interface, listener.v6only


def shadows(upper: Listener, lower: Listener) -> bool:
    """Whether upper takes connections that lower would get without it."""
    return any(above > below for above, below in _contests(upper, lower))


def rivals(one: Listener, other: Listener) -> bool:
    """Whether one of the two takes all connections that both match, depending on which listened first."""
    return group(one) != group(other) and any(mine == theirs for mine, theirs in _contests(one, other))


class Destination(NamedTuple):
    """Where a connection is made to: one address, or all that are not named otherwise."""

    version: int
    host: str | None
    """None: every other one of that IP version."""
    interface: int
    """Through which it arrives. 0: through any that is not named otherwise."""


def destinations(new: Listener, others: Sequence[Listener]) -> list[Destination]:
    """What new matches, as far as it makes a difference to whom the connections go."""
    hosts = [place for other in others for place in _reach(other)]
    found = {
        (version, theirs if host is None and their_version == version else host)
        for version, host in _reach(new)
        for their_version, theirs in [(version, host), *hosts]
    }
    interfaces = {new.interface} if new.interface else {0, *(other.interface for other in others)}
    return sorted(
        (Destination(*place, interface) for place in found for interface in interfaces),
        key=lambda to: (to.version, to.host is None, to.host or "", to.interface),
    )


def first(listeners: Sequence[Listener], to: Destination) -> list[Listener]:
    """Those before which none is: the members of one group, or rivals, of whom one group gets all."""
    ranks = [(rank, one) for one in listeners if (rank := _rank_for(one, to)) is not None]
    best = max((rank for rank, _ in ranks), default=None)
    return [one for rank, one in ranks if rank == best]


def takers(new: Listener, others: Sequence[Listener], to: Destination) -> list[Listener] | None:
    """Who gets the connections, if new began to listen after all others: as first(), but new is no rival.

    None if that is not known.
    """
    found = first([new, *others], to)
    mine = [one for one in found if group(one) == group(new)]
    if new not in found or len(mine) == len(found):
        return found
    if new.family == socket.AF_INET:
        return mine
    return [one for one in found if one not in mine] if mine == [new] else None


def _rank_for(listener: Listener, to: Destination) -> tuple[bool, bool] | None:
    if listener.interface not in (0, to.interface):
        return None
    ranks = [
        _rank(listener, host)
        for version, host in _reach(listener)
        if version == to.version and host in (None, to.host)
    ]
    return max(ranks, default=None)


def _contests(one: Listener, other: Listener) -> Iterator[tuple[tuple[bool, bool], tuple[bool, bool]]]:
    """The ranks of both, for every destination that they have in common."""
    if one.interface and other.interface and one.interface != other.interface:
        return
    for version, host in _reach(one):
        for other_version, other_host in _reach(other):
            if version == other_version and (host == other_host or host is None or other_host is None):
                yield _rank(one, host), _rank(other, other_host)


def _reach(listener: Listener) -> Iterator[tuple[int, str | None]]:
    """(IP version, host) of the destinations that a listener matches; None is every host."""
    if listener.family == socket.AF_INET6 and listener.host == _net.ANY[socket.AF_INET6]:
        yield 6, None
        if not listener.v6only:
            yield 4, None
        return
    host = listener.host.removeprefix(_MAPPED)
    version = 6 if ":" in host else 4
    yield version, None if host == _net.ANY[socket.AF_INET] else host


def _rank(listener: Listener, host: str | None) -> tuple[bool, bool]:
    return host is not None, listener.family == socket.AF_INET
