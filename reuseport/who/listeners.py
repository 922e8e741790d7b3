# SPDX-License-Identifier: MIT
"""The listeners of a port: their options, their owners, and a flag for what is wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mptcp_sockopt import processes

from .. import _lookup, _net, _programs
from .._programs import Program
from . import reading, unseen, zombies
from .reading import SocketOptions


@dataclass
class Row:
    """A listener, and what was found out about it."""

    listener: processes.Listener
    owners: Sequence[processes.Owner]
    options: SocketOptions | None
    """None if no owner's descriptor may be duplicated."""
    unseen: str | None = None
    """Why owners or options are missing."""
    kernel: str | None = None
    """That it is the kernel's own, and for what."""
    flags: dict[str, str] = field(default_factory=dict)
    """Flag: reason."""


def look(port: int, window: float) -> list[Row]:
    """The listeners of a port. Takes window seconds if connections wait in a queue."""
    idle = zombies.idle(port, window)
    found = processes.listeners(port)
    owners = processes.owners(listener.inode for listener in found)
    rows = [_row(listener, owners) for listener in sorted(found)]
    listeners = [row.listener for row in rows]
    programs = _programs.programs(owner.pid for row in rows for owner in row.owners)
    for row in rows:
        row.flags.update(_flags(row.listener, listeners))
        row.flags.update(_strangers(row, rows, programs))
        if row.listener.inode in idle:
            row.flags["ZOMBIE"] = f"{row.listener.queue} wait, and none was accepted in {window:g} s"
    return rows


def _row(listener: processes.Listener, owners: processes.Owners) -> Row:
    seen = owners[listener.inode]
    if not seen:
        own = unseen.kernels_own(listener.host, listener.port) if listener.mptcp is not False else None
        why = None if own else f"owner not seen: {unseen.why(owners)}"
        return Row(listener, (), None, why, own)
    try:
        options = reading.from_owners(seen, reading.options_of)
    except OSError as error:
        return Row(listener, seen, None, f"options not seen: {error.strerror}")
    if listener.mptcp is None:  # the socket itself knows
        listener = listener._replace(mptcp=options.mptcp, unknown=None)
    return Row(listener, seen, options)


def _flags(this: processes.Listener, listeners: Sequence[processes.Listener]) -> Iterator[tuple[str, str]]:
    rivals = [other for other in listeners if _lookup.rivals(other, this)]
    group = [other for other in listeners if _lookup.group(other) == _lookup.group(this)]
    both = group + rivals  # the client cannot choose among them
    if {other.mptcp for other in both} >= {True, False}:
        plain, in_doubt = (sum(other.mptcp is answer for other in both) for answer in (False, None))
        reason = f"{plain} of the {len(both)} listeners at this address are plain TCP"
        yield "MIXED-PROTO", reason + (f", and {in_doubt} may be" if in_doubt else "")
    taken = sorted({address(other) for other in listeners if _lookup.shadows(other, this)})
    reasons = [f"by {', '.join(taken)}"] if taken else []
    if rivals:
        names = ", ".join(sorted({_in_full(other) for other in rivals}))
        reasons.append(f"by {names}, or the other way round: one of them gets all that both could")
    if reasons:
        yield "SHADOWED", "; ".join(reasons)
    if this.queue > this.backlog:
        yield "FULL", f"{this.queue} wait; new connections are dropped"
    if this.mptcp and _migrates():
        yield "MIGRATE+MPTCP", "net.ipv4.tcp_migrate_req=1: a closed listener's queue arrives dead"


def _strangers(this: Row, rows: Sequence[Row], programs: Mapping[int, Program]) -> Iterator[tuple[str, str]]:
    """A flag, if no owner of another listener of the group runs a program that an owner of this one runs."""
    for other in rows:
        if other is this or _lookup.group(other.listener) != _lookup.group(this.listener):
            continue
        if stranger := _programs.stranger(this.owners, other.owners, programs):
            pid, program = stranger
            yield "STRANGERS", f"pid {pid} of another program shares the port: {program}"
            return


def _migrates() -> bool:
    try:
        with open("/proc/sys/net/ipv4/tcp_migrate_req") as file:
            return file.read().strip() != "0"
    except OSError:
        return False  # before 5.14


def address(listener: processes.Listener) -> str:
    """As in a URL, with the interface that it is bound to, if any."""
    return _net.url(listener.host, listener.port) + interface(listener.interface)


def interface(index: int) -> str:
    """``%lo``, or nothing for 0."""
    if not index:
        return ""
    try:
        return f"%{socket.if_indextoname(index)}"
    except OSError:
        return f"%{index}"


def _in_full(listener: processes.Listener) -> str:
    """With IPV6_V6ONLY, by which two listeners of one address may differ."""
    return address(listener) + ("" if listener.v6only is None else f" (V6ONLY={listener.v6only:d})")
