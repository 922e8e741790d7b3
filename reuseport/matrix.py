# SPDX-License-Identifier: MIT
"""Which sockets may share a port: the kernel's answers against a rule of a few lines, allowed().

A cell of the matrix is two sockets on one port, each with its options, its address, and TCP or MPTCP, and a
lifecycle: the order in which they bind and listen. 16 pairs of options, 49 of addresses and 4 of protocols in
4 lifecycles are 12,544 cells. With --uid each is tried again with the second socket owned by another user.
With --leftover the first one is not a listener, but a connection that a closed listener has left.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import processes
from mptcp_sockopt.cli import FAIL, PASS, CannotRun

from . import _net, _report
from ._net import Reuse

FIRST_PORT = 10_000  # each cell has its own port, so that cells do not disturb each other
OTHER_UID = 65534
SHOWN = 20  # mismatches in the text; --json has all
EVERYTHING = "*"


class Address(NamedTuple):
    """What a socket is bound to, and what it therefore matches in each family: one address, all, or none."""

    host: str
    v4: str | None
    v6: str | None

    def __str__(self) -> str:
        return "[::] v6only" if self == V6ONLY else f"[{self.host}]" if ":" in self.host else self.host


V6ONLY = Address("::", None, EVERYTHING)
ADDRESSES = (
    Address("0.0.0.0", EVERYTHING, None),
    Address("127.0.0.1", "127.0.0.1", None),
    Address("127.0.0.2", "127.0.0.2", None),
    Address("::", EVERYTHING, EVERYTHING),
    V6ONLY,
    Address("::1", None, "::1"),
    Address("::ffff:127.0.0.1", "127.0.0.1", None),
)
OPTIONS = (Reuse.NONE, Reuse.ADDR, Reuse.PORT, Reuse.ADDR | Reuse.PORT)


class Side(NamedTuple):
    """One of the two sockets."""

    address: Address
    reuse: Reuse
    mptcp: bool
    other_uid: bool = False

    def __str__(self) -> str:
        owner = " of another uid" if self.other_uid else ""
        return f"{'MPTCP' if self.mptcp else 'TCP'} {self.address} {words(self.reuse)}{owner}"


# Steps: "bind" or "listen", and which of the two sockets.
LIFECYCLES: dict[str, tuple[tuple[str, int], ...]] = {
    "first bound": (("bind", 0), ("bind", 1)),
    "first listening": (("bind", 0), ("listen", 0), ("bind", 1), ("listen", 1)),
    "listen 1, 2": (("bind", 0), ("bind", 1), ("listen", 0), ("listen", 1)),
    "listen 2, 1": (("bind", 0), ("bind", 1), ("listen", 1), ("listen", 0)),
}


class Cell(NamedTuple):
    first: Side
    second: Side
    lifecycle: str  # or the state of the connection that the first one left


# ---------------------------------------------------------------------------------------------- the rule


def allowed(one: Side, other: Side, other_listens: bool) -> bool:
    """Whether one may bind, or listen, while other is bound."""
    both = one.reuse & other.reuse
    return (
        not overlap(one.address, other.address)
        or (Reuse.ADDR in both and not other_listens)
        or (Reuse.PORT in both and one.other_uid == other.other_uid)
    )


def overlap(one: Address, other: Address) -> bool:
    """Whether there is a destination that both match."""
    families = (one.v4, other.v4), (one.v6, other.v6)
    return any(a and b and (a == b or EVERYTHING in (a, b)) for a, b in families)


def predict(cell: Cell) -> str:
    """What the rule says: "ok", or the step that is refused."""
    sides, done = (cell.first, cell.second), ["", ""]
    for action, who in LIFECYCLES[cell.lifecycle]:
        other = 1 - who
        if done[other] and not allowed(sides[who], sides[other], done[other] == "listen"):
            return refusal(action, who, errno.EADDRINUSE)
        done[who] = action
    return "ok"


def refusal(action: str, who: int, number: int) -> str:
    return f"{action} {who + 1}: {errno.errorcode[number]}"


# --------------------------------------------------------------------------------------- what the kernel does


def cells(
    uids: Iterable[bool] = (False,),
    addresses: Sequence[Address] = ADDRESSES,
    lifecycles: Iterable[str] = LIFECYCLES,
) -> list[Cell]:
    """12,544 for each uid of the second socket: the same as the first one's (False), or another (True)."""
    firsts = [Side(*which) for which in itertools.product(addresses, OPTIONS, (False, True))]
    seconds = [Side(*which) for which in itertools.product(addresses, OPTIONS, (False, True), uids)]
    return [Cell(*which) for which in itertools.product(firsts, seconds, lifecycles)]


def observe(cell: Cell, port: int) -> str:
    """Try it: "ok", or the step that the kernel refused, and the errno."""
    sides, socks = (cell.first, cell.second), list[socket.socket]()
    try:
        for action, who in LIFECYCLES[cell.lifecycle]:
            try:
                if action == "bind":
                    socks.append(bind(sides[who], port))
                else:
                    socks[who].listen(1)
            except OSError as error:
                return refusal(action, who, error.errno or 0)
        return "ok"
    finally:
        for sock in socks:
            sock.close()


def bind(side: Side, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in side.address.host else socket.AF_INET
    with another_uid() if side.other_uid else contextlib.nullcontext():
        return _net.bind(
            (side.address.host, port),
            side.reuse,
            family=family,
            mptcp=side.mptcp,
            v6only=side.address.v4 is None,
        )


@contextlib.contextmanager
def another_uid() -> Iterator[None]:
    """A socket keeps the effective uid that it was created with."""
    own = os.geteuid()
    os.seteuid(OTHER_UID)
    try:
        yield
    finally:
        os.seteuid(own)


# ------------------------------------------------------------------------------------------------ leftovers

STATES = ("ESTABLISHED", "FIN-WAIT", "CLOSE-WAIT", "TIME-WAIT")


def leftovers(uids: Iterable[bool] = (False,)) -> list[Cell]:
    """256 for each uid of the second socket."""
    return cells(uids, ADDRESSES[1:2], STATES)


def predict_leftover(cell: Cell) -> str:
    """The rule for a socket that does not listen. One in TIME-WAIT no longer has a uid."""
    second = cell.second
    if cell.lifecycle == "TIME-WAIT":
        second = second._replace(other_uid=cell.first.other_uid and second.other_uid)
    return "ok" if allowed(second, cell.first, False) else refusal("bind", 1, errno.EADDRINUSE)


def observe_leftover(cell: Cell, port: int) -> str:
    """Bind where a closed listener has left a connection, in the state cell.lifecycle."""
    with contextlib.ExitStack() as stack:
        with bind(cell.first, port) as listener:
            listener.listen(1)
            client = stack.enter_context(_net.open_socket(socket.AF_INET, mptcp=cell.first.mptcp))
            client.settimeout(5)
            client.bind(("127.0.0.2", 0))  # on 127.0.0.1 it could take the port of a later cell
            client.connect((cell.first.address.host, port))
            child = stack.enter_context(listener.accept()[0])
            child.settimeout(5)
        bring_to(cell.lifecycle, child, client, port)
        try:
            bind(cell.second, port).close()
        except OSError as error:
            return refusal("bind", 1, error.errno or 0)
        return "ok"


def bring_to(state: str, child: socket.socket, client: socket.socket, port: int) -> None:
    """Bring a connection to a state. An MPTCP subflow stays ESTABLISHED until both ends have closed."""
    if state == "FIN-WAIT":
        child.shutdown(socket.SHUT_WR)
        client.recv(1)
    elif state == "CLOSE-WAIT":
        client.shutdown(socket.SHUT_WR)
        child.recv(1)
    elif state == "TIME-WAIT":
        child.close()
        client.recv(1)
        client.close()
        deadline = time.monotonic() + 5
        while states_at(port) != {mp.TCPState.TIME_WAIT} and time.monotonic() < deadline:
            time.sleep(0.001)


def states_at(port: int) -> set[int]:
    """The TCP states of all sockets with that local port, including MPTCP subflows."""
    return {sock.state for sock in processes.tcp_sockets(port)}


# -------------------------------------------------------------------------------------------------- command


class Finding(NamedTuple):
    cell: Cell
    expected: str
    observed: str


class Options(NamedTuple):
    command: str
    leftover: bool
    uid: bool
    json: bool


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("--leftover", action="store_true", help="test what a closed listener left")
    parser.add_argument("--uid", action="store_true", help="also try sockets of a second user (needs root)")
    _report.add_json(parser)
    parser.epilog = "Exit status: 0 all pairs follow the rule, 1 one does not, 2 usage, 3 cannot run here."


def run(options: Options) -> int:
    """Run the command, in a private network namespace: this process does not leave it again."""
    if options.uid and os.geteuid():
        raise CannotRun("it takes root to open sockets as another user")
    _net.enter_private_network()
    if options.uid:
        with require("no other uid in this user namespace"), another_uid():
            pass
    with require("no IPv6"):
        _net.bind(("::1", 0), family=socket.AF_INET6).close()
    if not (support := mp.is_supported()):
        raise CannotRun(support.value)
    uids = (False, True) if options.uid else (False,)
    began = time.monotonic()
    if options.leftover:
        found = compare(leftovers(uids), predict_leftover, observe_leftover)
    else:
        found = compare(cells(uids), predict, observe)
    return report(options, found, time.monotonic() - began)


@contextlib.contextmanager
def require(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotRun(f"{what} ({error.strerror})") from None


def compare(
    cells: Iterable[Cell], expected: Callable[[Cell], str], observed: Callable[[Cell, int], str]
) -> list[Finding]:
    numbered = enumerate(cells, FIRST_PORT)
    return [Finding(cell, expected(cell), observed(cell, port)) for port, cell in numbered]


def report(options: Options, found: Sequence[Finding], seconds: float) -> int:
    wrong = [finding for finding in found if finding.expected != finding.observed]
    data = {
        "cells": len(found),
        "allowed": sum(finding.observed == "ok" for finding in found),
        "seconds": round(seconds, 3),
        "mismatches": [as_json(finding) for finding in wrong],
    }
    lines = [*table(found), "", f"{data['allowed']} allowed, in {seconds:.2f} s"]
    lines += [f"MISMATCH {finding_in_words(finding)}" for finding in wrong[:SHOWN]]
    if len(wrong) > SHOWN:
        lines.append(f"... and {len(wrong) - SHOWN} more: --json has all")
    after = " after a closed listener" if options.leftover else ""
    sentence = f"{len(found)} cells{after}, {len(wrong)} mismatches"
    return _report.finish(options, data, lines, sentence, FAIL if wrong else PASS)


def table(found: Sequence[Finding]) -> Iterator[str]:
    """What was observed where addresses overlap: one row per pair of options, one column per lifecycle."""
    outcomes: dict[tuple[str, str], dict[str, set[str]]] = {}
    for cell, _, observed in found:
        if overlap(cell.first.address, cell.second.address):
            second = words(cell.second.reuse) + (", other uid" if cell.second.other_uid else "")
            row = outcomes.setdefault((words(cell.first.reuse), second), {})
            row.setdefault(cell.lifecycle, set()).add(observed.removesuffix(": EADDRINUSE"))
    yield "The step that is refused (EADDRINUSE) on one port if the addresses overlap."
    yield "If they do not overlap, none is refused."
    yield ""
    columns = list(dict.fromkeys(finding.cell.lifecycle for finding in found))
    rows = [("first", "second", *columns)]
    rows += [(*options, *("/".join(sorted(row[c])) for c in columns)) for options, row in outcomes.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        yield "  ".join(map(str.ljust, cells, widths)).rstrip()


def words(reuse: Reuse) -> str:
    return "|".join(str(option.name) for option in (Reuse.ADDR, Reuse.PORT) if option in reuse) or "none"


def finding_in_words(finding: Finding) -> str:
    (first, second, lifecycle), expected, observed = finding
    return f"{first}; {second}; {lifecycle}: expected {expected}, observed {observed}"


def as_json(finding: Finding) -> dict[str, object]:
    first, second, lifecycle = finding.cell
    return {
        "first": side_as_json(first),
        "second": side_as_json(second),
        "lifecycle": lifecycle,
        "expected": finding.expected,
        "observed": finding.observed,
    }


def side_as_json(side: Side) -> dict[str, object]:
    return {
        "address": str(side.address),
        "options": words(side.reuse),
        "mptcp": side.mptcp,
        "other_uid": side.other_uid,
    }
