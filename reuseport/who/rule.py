# SPDX-License-Identifier: MIT
"""Whether bind() and listen() are allowed beside the sockets that already have the port: the kernel's rule.

Pure: it is given the sockets, and reads nothing. Two sockets conflict if there is an address that both match
(meets()), unless they are bound to two interfaces, or share the port by their options (refuses()):

- both have SO_REUSEADDR, and the one that is there does not listen;
- both have SO_REUSEPORT and the same uid. A socket in TIME_WAIT has no uid any more.

This is inet_csk_get_port() with inet_bind_conflict(). SYN_RECV holds no port, so it is not asked about.

What is not known of a socket is None; the rule then tries every possibility. It says "no" only if all lead
there, and "yes" likewise.

There is one way around the conflicts. For each port the kernel remembers the last socket with SO_REUSEPORT
that it admitted, and admits another one of the same uid at the same address unasked (sk_reuseport_match()).
Nobody can read that memory, and it survives the socket. through_memory() tells whether it could exist. Then
the answer is not "no", but "not known".
"""

from __future__ import annotations

import enum
import itertools
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

ANY4, ANY6 = "0.0.0.0", "::"
_MAPPED = "::ffff:"


class State(enum.Enum):
    """What the rule distinguishes."""

    LISTEN = "listening"
    BOUND = "bound only"
    CONNECTED = "connected"
    STUB = "closed"
    """What the kernel keeps of a closed connection, in TIME_WAIT or FIN_WAIT2."""


class Place(NamedTuple):
    """Where a socket is bound."""

    family: int
    host: str
    v6only: bool | None = False
    """IPV6_V6ONLY. bind() to any address but the wildcard ``::`` or an IPv4 one sets it by itself."""
    device: int = 0
    """SO_BINDTODEVICE: the index of an interface, or 0."""

    @property
    def ipv4(self) -> str | None:
        """The IPv4 address, also of an IPv6 socket (``::ffff:``)."""
        return self.host if self.family == socket.AF_INET else _ipv4_within(self.host)


class Wish(NamedTuple):
    """The socket that is to be bound."""

    place: Place
    uid: int
    reuseaddr: bool = False
    reuseport: bool = False


class Holder(NamedTuple):
    """A socket that has the port. None: not known."""

    place: Place
    state: State
    uid: int | None
    reuseaddr: bool | None
    reuseport: bool | None


class Answer(NamedTuple):
    """What bind() will say."""

    binds: bool | None
    """None: not known."""
    against: tuple[int, ...] = ()
    """The holders that refuse it, by number."""
    doubtful: tuple[int, ...] = ()
    """Those of which too little is known."""
    remembered: bool = False
    """It is refused, unless the kernel remembers a socket that was admitted."""


def answer(wish: Wish, holders: Sequence[Holder]) -> Answer:
    """Would wish be allowed to bind, and to listen right after?"""
    listeners = [holder for holder in holders if holder.state is State.LISTEN]
    verdicts = [_refused_by(wish, holder, listeners) for holder in holders]
    against = tuple(number for number, refused in enumerate(verdicts) if refused)
    doubtful = tuple(number for number, refused in enumerate(verdicts) if refused is None)
    remembered = bool(against) and through_memory(wish, [holders[number] for number in against])
    if against:
        return Answer(None if remembered else False, against, doubtful, remembered)
    return Answer(None if doubtful else True, (), doubtful)


def _refused_by(wish: Wish, holder: Holder, listeners: Sequence[Holder]) -> bool | None:
    """Whether they conflict; None if that depends on what is not known."""
    possible = list(_possibilities(wish, holder))
    others = [other for other in listeners if other is not holder]
    likely = [one for one in possible if all(_beside(one, other) for other in others)]
    found = {refuses(wish, one) for one in likely or possible}
    return found.pop() if len(found) == 1 else None


def _beside(holder: Holder, listener: Holder) -> bool:
    """Whether a holder may be there while another one listens: the same rule, asked of what happened before.

    It was there when that one bound, and did not refuse it; or it came later, and was not refused; or it is
    a connection of that listener, and has its options.
    """
    if not meets(listener.place, holder.place):
        return True
    if listener.place.device and holder.place.device and listener.place.device != holder.place.device:
        return True
    if not (listener.reuseaddr or listener.reuseport) or None in (listener.reuseaddr, listener.reuseport):
        return True  # all that refuses it now, or it tells nothing
    shares = holder.reuseaddr and listener.reuseaddr and holder.state is not State.LISTEN
    return bool(shares or (holder.reuseport and listener.reuseport))


def _possibilities(wish: Wish, holder: Holder) -> Iterator[Holder]:
    """What the holder may be, with everything known."""
    both = (False, True)
    another = wish.uid + 1  # all that counts is whether it is the same
    for v6only, uid, reuseaddr, reuseport in itertools.product(
        both if holder.place.v6only is None else (holder.place.v6only,),
        (wish.uid, another) if holder.uid is None else (holder.uid,),
        both if holder.reuseaddr is None else (holder.reuseaddr,),
        both if holder.reuseport is None else (holder.reuseport,),
    ):
        yield Holder(holder.place._replace(v6only=v6only), holder.state, uid, reuseaddr, reuseport)


def refuses(wish: Wish, holder: Holder) -> bool:
    """Whether a holder, of which everything is known, is in the way."""
    if wish.place.device and holder.place.device and wish.place.device != holder.place.device:
        return False
    if not meets(wish.place, holder.place):
        return False
    if wish.reuseaddr and holder.reuseaddr and holder.state is not State.LISTEN:
        return False
    same_user = holder.state is State.STUB or holder.uid == wish.uid
    return not (wish.reuseport and holder.reuseport and same_user)


def meets(new: Place, old: Place) -> bool:
    """Whether the kernel takes the two addresses for overlapping. Interfaces are not compared here."""
    mine, theirs = new.ipv4, old.ipv4
    if mine is not None:
        if old.host == ANY6:
            return not old.v6only
        if theirs is not None:
            return mine == theirs or ANY4 in (mine, theirs)
        # An IPv6 connection without IPV6_V6ONLY: the IPv4 wildcard meets it, although no packet could.
        return new.family == socket.AF_INET and mine == ANY4 and not old.v6only
    if theirs is not None:
        return new.host == ANY6 and not new.v6only
    return ANY6 in (new.host, old.host) or new.host == old.host


# ------------------------------------------------------------------------------------- what is remembered


def through_memory(wish: Wish, refusing: Iterable[Holder]) -> bool:
    """Whether a socket could have been admitted, beside those that refuse, whose like the kernel lets in.

    Like wish, it had SO_REUSEPORT and the same uid, but it may have had SO_REUSEADDR too, another interface,
    or an address that the kernel takes for wish's. All that is true of the sockets that refuse today was
    true then, except that one that listens has replaced the memory when it began to.
    """
    return wish.reuseport and any(
        all(_tolerates(like, holder) for holder in refusing) for like in _taken_for(wish.place)
    )


def _taken_for(place: Place) -> Iterator[Place]:
    """The addresses of which the kernel takes place for another one (ipv6_rcv_saddr_equal())."""
    yield place
    if place.host == ANY6 and not place.v6only:
        yield place._replace(v6only=True)
        yield Place(int(socket.AF_INET), ANY4)
    elif (place.family, place.host) == (socket.AF_INET, ANY4):
        yield Place(int(socket.AF_INET6), _MAPPED + ANY4)


def _tolerates(like: Place, holder: Holder) -> bool:
    if holder.place.device:
        return True  # it was bound to another interface
    places = [holder.place._replace(v6only=v6only) for v6only in (False, True)]
    if not all(meets(like, place) for place in (places if holder.place.v6only is None else [holder.place])):
        return True
    if holder.state is State.LISTEN:
        return False
    # A connection has the options of its listener, but the uid of the process that accepted it.
    accepted = holder.state is State.CONNECTED and holder.reuseport is not False
    return holder.reuseaddr is not False or accepted


def _ipv4_within(host: str) -> str | None:
    inner = host.removeprefix(_MAPPED)
    return inner if inner != host and "." in inner else None
