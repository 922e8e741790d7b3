# SPDX-License-Identifier: MIT
"""Which listener of a port a connection goes to: the rule of the kernel's look-up, in one place.

inet_lookup_listener() and inet6_lookup_listener() ask those bound to the destination's very address first,
and those bound to the wildcard only if there is none. Of either they walk a list and score each one
(compute_score: a point for what is bound to an interface, one for an IPv4 socket), but the first with
SO_REUSEPORT that may have the connection ends the walk: its group takes it. Listeners that can have one
connection all have SO_REUSEPORT, or bind() had refused, so it is their order that counts. IPv4 sockets are
put at the head of the list, IPv6 ones at its tail: an IPv4 socket goes before. Among the groups of one family
it is the order in which they began to listen (the last one of IPv4, the first one of IPv6), which cannot be
told from outside; the interface does not matter.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from mptcp_sockopt.processes import Listener

from . import _net

_MAPPED = "::ffff:"


def group(listener: Listener) -> tuple[object, ...]:
    """What the members of a reuseport group have in common; the kernel spreads connections over them."""
    return listener.family, listener.host, listener.interface, listener.v6only


def shadows(upper: Listener, lower: Listener) -> bool:
    """Whether there are connections that lower would get, were it not for upper."""
    return any(above > below for above, below in _contests(upper, lower))


def rivals(one: Listener, other: Listener) -> bool:
    """Whether there are connections of which one of the two gets all, by the order in which they came."""
    return group(one) != group(other) and any(mine == theirs for mine, theirs in _contests(one, other))


def _contests(one: Listener, other: Listener) -> Iterator[tuple[tuple[bool, bool], tuple[bool, bool]]]:
    """The ranks of both, for every destination that they share."""
    if one.interface and other.interface and one.interface != other.interface:
        return
    for version, host in _reach(one):
        for other_version, other_host in _reach(other):
            if version == other_version and (host == other_host or host is None or other_host is None):
                yield _rank(one, host), _rank(other, other_host)


def _reach(listener: Listener) -> Iterator[tuple[int, str | None]]:
    """(IP version, host) of what a listener may get; None is every host."""
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
