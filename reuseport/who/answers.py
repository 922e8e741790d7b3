# SPDX-License-Identifier: MIT
"""The answer to ``who --bind``: as text, as JSON, and what would help."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from mptcp_sockopt import processes
from mptcp_sockopt.cli import CANNOT, FAIL, PASS

from .. import _lookup, _net, _report
from . import listeners, rule, words
from .holders import Socket
from .rule import Answer, State, Wish

_MOST = 10


class Refusal(NamedTuple):
    """Why bind() fails whatever has the port."""

    errno: str
    reason: str
    certain: bool = True


class Traffic(NamedTuple):
    """Who would get the connections to a destination."""

    to: _lookup.Destination
    takers: tuple[processes.Listener, ...] | None
    """None: not known."""


class Found(NamedTuple):
    """All that was found out about a wish."""

    wish: Wish
    port: int
    mptcp: bool
    held: Sequence[Socket]
    answer: Answer
    refusal: Refusal | None
    blind: str | None
    """Why a holder may not have been seen."""
    new: processes.Listener
    listening: Sequence[processes.Listener]
    traffic: Sequence[Traffic]

    @property
    def binds(self) -> bool | None:
        if self.refusal and self.refusal.certain:
            return False
        if self.answer.binds is False:
            return False
        return None if self.refusal else self.answer.binds

    @property
    def gets(self) -> str | None:
        """ "all", "share" (of a group), "part" (of the addresses), "none"; None if that is not known."""
        if any(one.takers is None for one in self.traffic):
            return None
        mine = [one.takers or () for one in self.traffic if self.new in (one.takers or ())]
        if not mine:
            return "none"
        if len(mine) < len(self.traffic):
            return "part"
        return "all" if all(len(takers) == 1 for takers in mine) else "share"

    @property
    def members(self) -> int:
        """How many would be in its group, itself included."""
        return max(
            (len(one.takers) for one in self.traffic if one.takers and self.new in one.takers), default=1
        )


class Options(Protocol):
    @property
    def command(self) -> str: ...
    @property
    def json(self) -> bool: ...


def finish(options: Options, found: Found) -> int:
    """Print it, and return the exit code."""
    helps = list(advice(found)) if found.binds is not True else []
    lines = [line for text in _lines(found, helps) for line in words.wrapped(text)]
    return _report.finish(options, {"bind": _as_json(found, helps)}, lines, *_verdict(found))


# ------------------------------------------------------------------------------------------------- words


def name(found: Found) -> str:
    place = found.wish.place
    v6only = " V6ONLY" if place.host == rule.ANY6 and place.v6only else ""
    return _net.url(place.host, found.port) + listeners.interface(place.device) + v6only


def _verdict(found: Found) -> tuple[str, int]:
    binds, gets = found.binds, found.gets
    subject = f"bind {'MPTCP' if found.mptcp else 'TCP'} {name(found)}"
    if binds is False:
        error = found.refusal.errno if found.refusal and found.refusal.certain else "EADDRINUSE"
        return f"{subject}: no, {error}", FAIL
    if gets == "none":
        return f"{subject}: {'yes' if binds else 'perhaps'}, but it gets no connection", FAIL
    if binds is None or gets is None:
        return f"{subject}: cannot tell", CANNOT
    return f"{subject}: yes, and it gets {_amount(found)}", PASS


def _amount(found: Found) -> str:
    if found.gets == "all":
        return "all connections"
    if found.gets == "share":
        return f"a share, 1 of {found.members}"
    return "some connections"


def _lines(found: Found, helps: Sequence[str]) -> Iterator[str]:
    if found.refusal:
        yield f"{found.refusal.errno}: {found.refusal.reason}" + (
            "" if found.refusal.certain else ", which cannot be seen"
        )
    answer = found.answer
    for label, numbers in (("in the way", answer.against), ("in doubt", answer.doubtful)):
        yield from _described(label, [found.held[number] for number in numbers], found.wish)
    if answer.remembered:
        yield (
            "it may bind all the same: the kernel lets a socket in whose like it let in before, with "
            "SO_REUSEPORT and the same uid; that it remembers one cannot be seen"
        )
    if found.blind:
        yield found.blind
    if found.binds is not False:
        yield from _who_gets_what(found)
    yield from helps


def _described(label: str, held: Sequence[Socket], wish: Wish) -> Iterator[str]:
    living = [one for one in held if one.state is not State.STUB]
    for one in living[:_MOST]:
        yield f"{label}: {words.what(one)}{_lacks(one)}: {words.whose(one)}"
    if living[_MOST:]:
        yield f"{label}: {len(living) - _MOST} more"
    if closed := [one for one in held if one.state is State.STUB]:
        flags = " or ".join(["SO_REUSEADDR"] * wish.reuseaddr + ["SO_REUSEPORT"] * wish.reuseport)
        unread = f": they must have had {flags}, too, which cannot be read" if label == "in doubt" else ""
        yield f"{label}: {words.stubs(closed)}{unread}"


def _lacks(one: Socket) -> str:
    if one.options is None:
        return ", its options are not seen"
    flags = [
        flag
        for flag, is_set in (("REUSEADDR", one.options.reuseaddr), ("REUSEPORT", one.options.reuseport))
        if is_set
    ]
    return f" ({' '.join(flags) or 'no REUSEADDR or REUSEPORT'}, uid {one.kernel.uid})"


def _who_gets_what(found: Found) -> Iterator[str]:
    for to, takers in found.traffic:
        others = [one for one in takers or () if one is not found.new]
        if takers is None:
            yield f"to {_destination(found, to)}: the order in which the others began to listen decides"
        elif others and found.new not in takers:
            yield f"to {_destination(found, to)}: all go to {_listed(found, others)}"
        elif others:
            yield f"to {_destination(found, to)}: shared with {_listed(found, others)}"
            if {one.mptcp for one in others} - {found.mptcp, None}:
                yield "note: the group would be mixed: MPTCP clients that reach a TCP listener fall back"
    lost = {listeners.address(one) for one in found.listening if _lookup.shadows(found.new, one)}
    if lost:
        yield f"note: it would take connections from {', '.join(sorted(lost))}"


def _destination(found: Found, to: _lookup.Destination) -> str:
    named = any(one.to.host and one.to.version == to.version for one in found.traffic)
    where = to.host or f"{'other' if named else 'all'} IPv{to.version} addresses"
    return where + listeners.interface(to.interface)


def _listed(found: Found, others: Sequence[processes.Listener]) -> str:
    by_inode = {one.kernel.inode: words.whose(one) for one in found.held}
    shown = sorted({f"{listeners.address(one)} ({by_inode.get(one.inode, 'ended')})" for one in others})
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if shown[3:] else "")


# ------------------------------------------------------------------------------------------------- advice


def advice(found: Found) -> Iterator[str]:
    """What would make it work."""
    if found.refusal and found.refusal.certain:
        return
    held = [found.held[number] for number in (*found.answer.against, *found.answer.doubtful)]
    if not held:
        return
    facts = [one.facts for one in found.held]
    certain, maybe = _options_that_help(found.wish, facts)
    if certain:
        yield f"would work: bind with {' or '.join(certain)}"
    elif maybe and found.answer.binds is False:
        closed = all(one.state is State.STUB for one in held)
        had = "they had it, too" if closed else "what is not seen here has it, too"
        yield f"may work: bind with {' or '.join(maybe)}, if {had}"
    yield from _what_others_can_do(found, held, facts)


def _options_that_help(wish: Wish, facts: Sequence[rule.Holder]) -> tuple[list[str], list[str]]:
    """The fewest that are certain to, and the fewest that may."""
    certain, maybe = list[tuple[int, str]](), list[tuple[int, str]]()
    for added, name_of in (
        (wish._replace(reuseaddr=True), "SO_REUSEADDR"),
        (wish._replace(reuseport=True), "SO_REUSEPORT"),
        (wish._replace(place=wish.place._replace(v6only=True)), "IPV6_V6ONLY"),
        (wish._replace(reuseaddr=True, reuseport=True), "SO_REUSEADDR and SO_REUSEPORT"),
    ):
        if added == wish or ("V6ONLY" in name_of and wish.place.host != rule.ANY6):
            continue
        cost = 1 + (" and " in name_of)
        told = rule.answer(added, facts)
        if told.binds is not False and not told.remembered:
            (certain if told.binds else maybe).append((cost, name_of))
    return _cheapest(certain), _cheapest(maybe)


def _cheapest(found: Sequence[tuple[int, str]]) -> list[str]:
    return [name_of for cost, name_of in found if cost == min(found)[0]]


def _what_others_can_do(found: Found, held: Sequence[Socket], facts: Sequence[rule.Holder]) -> Iterator[str]:
    living = {number for number in found.answer.against if facts[number].state is not State.STUB}
    willing = [
        fact._replace(reuseport=True) if number in living else fact for number, fact in enumerate(facts)
    ]
    if living and rule.answer(found.wish._replace(reuseport=True), willing).binds:
        yield "would work: SO_REUSEPORT on it and on all in the way, set before they bind"
    elif other := {facts[n].uid for n in living if facts[n].reuseport} - {found.wish.uid, None}:
        uids = ", ".join(map(str, sorted(other, key=str)))
        yield f"SO_REUSEPORT shares a port within one uid only: in the way is {uids}"
    whose = list(dict.fromkeys(name_of for one in held for name_of in words.names(one)))
    closed = [one for one in held if one.state is State.STUB]
    gone = {number for number in (*found.answer.against, *found.answer.doubtful) if found.held[number].owners}
    rest = rule.answer(found.wish, [fact for number, fact in enumerate(facts) if number not in gone])
    steps = [f"end {', '.join(whose[:3])}" + (f" and {len(whose) - 3} more" if whose[3:] else "")] * bool(
        whose
    )
    if not rest.binds and closed:
        steps.append(f"wait {words.seconds_left(closed):.0f} s")
        lasting = [fact for n, fact in enumerate(facts) if n not in gone and fact.state is not State.STUB]
        rest = rule.answer(found.wish, lasting)
    if steps and rest.binds:
        yield f"would work: {', then '.join(steps)}"


# --------------------------------------------------------------------------------------------------- JSON


def _as_json(found: Found, helps: Sequence[str]) -> dict[str, object]:
    wish, answer = found.wish, found.answer
    place = wish.place
    return {
        "address": place.host,
        "port": found.port,
        "options": {
            "reuseaddr": wish.reuseaddr,
            "reuseport": wish.reuseport,
            "v6only": place.v6only if place.family == socket.AF_INET6 else None,
            "mptcp": found.mptcp,
            "interface": place.device,
            "uid": wish.uid,
        },
        "binds": found.binds,
        "refusal": found.refusal and found.refusal._asdict(),
        "in_the_way": words.sockets_as_json([found.held[number] for number in answer.against]),
        "in_doubt": words.sockets_as_json([found.held[number] for number in answer.doubtful]),
        "remembered": answer.remembered,
        "not_seen": found.blind,
        "gets": found.gets if found.binds is not False else None,
        "members": found.members if found.binds is not False and found.gets == "share" else None,
        "traffic": [
            {
                "version": to.version,
                "host": to.host,
                "interface": to.interface,
                "mine": None if takers is None else found.new in takers,
                "others": None
                if takers is None
                else [listeners.address(one) for one in takers if one is not found.new],
            }
            for to, takers in (found.traffic if found.binds is not False else ())
        ],
        "advice": list(helps),
    }
