# SPDX-License-Identifier: MIT
"""What was found on a port, as text of at most 80 columns, and as JSON."""

from __future__ import annotations

import collections
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from mptcp_sockopt import TCPState, processes

from .. import _net
from . import listeners
from .holders import Socket
from .listeners import Row
from .rule import State

WIDTH = 80
_COLUMNS = "{:<21} {:<5} {:>11} {:>10}  {:>7} {:<15} {:>4}"
_MOST = 10  # lines about sockets that do not listen


def protocol(is_mptcp: bool | None) -> str:
    return {True: "mptcp", False: "tcp", None: "?"}[is_mptcp]


def wrapped(line: str, indent: str = "") -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The listeners."""
    if rows:
        yield _COLUMNS.format("address", "proto", "queue", "uid", "pid", "command", "fd")
    for row in rows:
        one = row.listener
        name = listeners.address(one)
        if len(name) > 21:
            yield name
            name = ""
        owners: list[tuple[object, ...]] = [(owner.pid, owner.command, owner.fd) for owner in row.owners]
        first, *others = owners or [("", "", "")]
        listener = (name, protocol(one.mptcp), f"{one.queue}/{one.backlog}", one.uid)
        yield _COLUMNS.format(*listener, *first).rstrip()
        for other in others:
            yield _COLUMNS.format("", "", "", "", *other).rstrip()
        notes = [" ".join(_options(row)), row.kernel or ""]
        notes += [f"{flag}: {reason}" for flag, reason in row.flags.items()]
        for note in filter(None, notes):
            yield from wrapped(note, "    ")
    for reason, count in missing(rows).items():
        yield from wrapped(f"{count} of {len(rows)}: {reason}")


def missing(rows: Sequence[Row]) -> dict[str, int]:
    """Why something is not known, and of how many listeners."""
    reasons = [reason for row in rows for reason in (row.unseen, row.listener.unknown) if reason]
    return collections.Counter(reasons)


def _options(row: Row) -> Iterator[str]:
    if row.options is not None:
        yield f"REUSEADDR={row.options.reuseaddr:d}"
        yield f"REUSEPORT={row.options.reuseport:d}"
        if row.options.incoming_cpu is not None:
            yield f"INCOMING_CPU={row.options.incoming_cpu}"
        if row.options.defer_accept:
            yield f"DEFER_ACCEPT={row.options.defer_accept}"
    if row.listener.v6only is not None:
        yield f"V6ONLY={row.listener.v6only:d}"


# ---------------------------------------------------------------------------- sockets that do not listen


def others(held: Sequence[Socket], beside_listeners: bool) -> Iterator[str]:
    """Each that is bound only, each connection or, beside listeners, how many; how many are closed."""
    alive = [one for one in held if one.state is not State.STUB]
    shown = [one for one in alive if one.state is State.BOUND or not beside_listeners]
    for one in shown[:_MOST]:
        yield from wrapped(f"{what(one)}: {whose(one)}")
    if shown[_MOST:]:
        yield f"and {len(shown) - _MOST} more"
    if counted := [one for one in alive if one not in shown]:
        owners = collections.Counter(name for one in counted for name in names(one) or ["no process"])
        of = ", ".join(f"{count} of {name}" for name, count in owners.most_common(3))
        more = f", and of {len(owners) - 3} more" if len(owners) > 3 else ""
        yield from wrapped(f"connected: {of}{more}")
    if closed := [one for one in held if one.state is State.STUB]:
        need = "" if beside_listeners else ": bind() needs SO_REUSEADDR, if they had it"
        yield from wrapped(stubs(closed) + need)


def stubs(closed: Sequence[Socket]) -> str:
    """How many, and how long they have the port."""
    states = sorted({TCPState(one.kernel.state).name for one in closed}, reverse=True)
    return f"{len(closed)} in {' or '.join(states)}, for {seconds_left(closed):.0f} s more"


def seconds_left(closed: Iterable[Socket]) -> float:
    return max((one.kernel.expires / 1000 for one in closed), default=0.0)


def what(one: Socket) -> str:
    """``127.0.0.1:80 bound only``."""
    sock = one.kernel
    local = _net.url(*sock.local[:2]) + listeners.interface(sock.ifindex)
    if one.state in (State.BOUND, State.LISTEN):
        return f"{local} {one.state.value}"
    state = "" if sock.state == TCPState.ESTABLISHED else f" ({TCPState(sock.state).name})"
    return f"{local} connected to {_net.url(*sock.remote[:2])}{state}"


def whose(one: Socket) -> str:
    """``pid 7 (nginx), pid 8 (nginx)``, or why that is not known."""
    found = list(names(one))
    if len(found) > 4:
        found[3:] = [f"and {len(found) - 3} more"]
    if not one.kernel.inode:
        return "no process has it"
    return ", ".join(found) or one.unseen or "owner not seen"


def names(one: Socket) -> Iterable[str]:
    return dict.fromkeys(f"pid {owner.pid} ({owner.command})" for owner in one.owners)


# ------------------------------------------------------------------------------------------------- JSON


def rows_as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [
        {
            **row.listener._asdict(),
            "address": listeners.address(row.listener),
            "protocol": None if row.listener.mptcp is None else protocol(row.listener.mptcp),
            "options": row.options and row.options._asdict(),
            "unseen": row.unseen,
            "kernel": row.kernel,
            "owners": owners_as_json(row.owners),
            "flags": row.flags,
        }
        for row in rows
    ]


def sockets_as_json(held: Sequence[Socket]) -> list[dict[str, object]]:
    return [
        {
            "kind": one.state.value,
            "state": one.kernel.state,
            "local": one.kernel.local[:2],
            "remote": one.kernel.remote[:2],
            "interface": one.kernel.ifindex,
            "v6only": one.v6only,
            "seconds": one.kernel.expires / 1000,
            "inode": one.kernel.inode,
            "uid": None if one.state is State.STUB else one.kernel.uid,
            "owners": owners_as_json(one.owners),
            "options": one.options and one.options._asdict(),
            "unseen": one.unseen,
        }
        for one in held
    ]


def owners_as_json(owners: Sequence[processes.Owner]) -> list[dict[str, object]]:
    return [{"pid": owner.pid, "fd": owner.fd, "command": owner.command} for owner in owners]
