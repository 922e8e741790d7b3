# SPDX-License-Identifier: MIT
"""who: the listeners of a port, their options and owners, and what is wrong with them."""

from __future__ import annotations

import argparse
import collections
import socket
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mptcp_sockopt import IPPROTO_MPTCP, TCPState, cli, getsockopt_into, processes
from mptcp_sockopt.cli import FAIL, PASS

from . import _diag, _lookup, _net, _programs, _report
from ._programs import Program

WIDTH = 80


class Options(NamedTuple):
    command: str
    port: int
    json: bool
    watch: float
    window: float


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("port", type=cli.port, metavar="PORT")
    seconds = cli.between(float, 0, 3600)
    _report.add_numbers(
        parser,
        ("--watch", seconds, 0, "S", "look every second for so long; a flag counts if it was ever up"),
        ("--window", seconds, 0.5, "S", "how long a queue is watched before its listener is called ZOMBIE"),
    )
    _report.add_json(parser)
    parser.epilog = (
        "Exit status: 0 nothing wrong, 1 a flag was raised or nobody listens, 2 usage, 3 cannot run here. "
        "SHADOWED: another listener takes some of its connections, or the other way round. "
        "MIXED-PROTO: MPTCP clients that reach a TCP listener of the group fall back. "
        "ZOMBIE: connections wait, and none is accepted. FULL: new connections are dropped. "
        "STRANGERS: another program shares the port and gets some of the connections. "
        "MIGRATE+MPTCP: tcp_migrate_req hands over connections that MPTCP has reset. "
        "If nobody listens, the other sockets that have the port are listed."
    )


class SocketOptions(NamedTuple):
    """Options that sock_diag does not report, or not to everybody."""

    reuseaddr: bool
    reuseport: bool
    incoming_cpu: int | None
    defer_accept: int
    """Seconds; a connection stays in SYN_RECV until its client has spoken."""
    mptcp: bool
    """By SO_PROTOCOL, which is right for a listener: only connections fall back."""


@dataclass
class Row:
    """A listener, and what was found out about it."""

    listener: processes.Listener
    owners: Sequence[processes.Owner]
    options: SocketOptions | None
    """None if no owner's descriptor may be duplicated."""
    unseen: str | None = None
    """Why owners or options are missing."""
    flags: dict[str, str] = field(default_factory=dict)
    """Flag: reason."""


def run(options: Options) -> int:
    deadline = time.monotonic() + options.watch
    raised, looks, shown = set[str](), 0, ""
    while True:
        rows, looks = look(options.port, options.window), looks + 1
        held = [] if rows else _diag.holders(options.port)
        raised |= {flag for row in rows for flag in row.flags} if rows else {_HELD if held else _NOBODY}
        now = "\n".join(_text(rows) if rows else _text_of(held))
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if now != shown and not options.json:
            print(now, flush=True)
        shown = now
        time.sleep(min(left, 1.0))
    found = {
        "port": options.port,
        "looks": looks,
        "raised": sorted(raised),
        "listeners": _json(rows),
        "held": [
            {
                "state": sock.state,
                "local": sock.local[:2],
                "remote": sock.remote[:2],
                "seconds": sock.expires / 1000,
                "inode": sock.inode,
            }
            for sock in held
        ],
    }
    lines = [] if now == shown else now.splitlines()
    return _report.finish(options, found, lines, *_verdict(options.port, rows, raised))


_NOBODY = "nobody listens"
_HELD = "no listener, but other sockets have the port"


def look(port: int, window: float) -> list[Row]:
    """The listeners of a port. Takes window seconds if connections wait in a queue."""
    idle = _idle(port, window)
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
        return Row(listener, (), None, f"owner not seen: {_why_no_owner(owners)}")
    try:
        options = _read_options(seen)
    except OSError as error:
        return Row(listener, seen, None, f"options not seen: {error.strerror}")
    if listener.mptcp is None:  # the socket itself knows
        listener = listener._replace(mptcp=options.mptcp, unknown=None)
    return Row(listener, seen, options)


def _why_no_owner(owners: processes.Owners) -> str:
    """Only what is known; docs/reuseport.md lists why no process may be seen to have a listener."""
    return "; ".join(filter(None, ["no process in /proc is seen to have it", owners.missing]))


def _read_options(owners: Sequence[processes.Owner]) -> SocketOptions:
    """From the first owner whose descriptor may be borrowed, or the OSError of the last one."""
    for owner in owners:
        try:
            with processes.borrow(owner) as fd:
                return _options_of(fd)
        except OSError as error:
            refused = error
    raise refused


def _options_of(fd: int) -> SocketOptions:
    def value(option: int, level: int = socket.SOL_SOCKET) -> int:
        buffer = bytearray(4)
        getsockopt_into(fd, level, option, buffer)
        return int.from_bytes(buffer, sys.byteorder, signed=True)

    cpu = value(_net.SO_INCOMING_CPU)
    return SocketOptions(
        reuseaddr=bool(value(socket.SO_REUSEADDR)),
        reuseport=bool(value(socket.SO_REUSEPORT)),
        incoming_cpu=None if cpu < 0 else cpu,
        defer_accept=value(socket.TCP_DEFER_ACCEPT, socket.IPPROTO_TCP),
        mptcp=value(socket.SO_PROTOCOL) == IPPROTO_MPTCP,
    )


# ----------------------------------------------------------------------------------------------- flags


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
    mine = [programs[owner.pid] for owner in this.owners if owner.pid in programs]
    for other in rows:
        if other is this or _lookup.group(other.listener) != _lookup.group(this.listener):
            continue
        theirs = {owner.pid: programs[owner.pid] for owner in other.owners if owner.pid in programs}
        if mine and theirs and all(_programs.are_strangers(x, y) for x in mine for y in theirs.values()):
            pid, program = min(theirs.items())
            yield "STRANGERS", f"pid {pid} of another program shares the port: {program}"
            return


def _migrates() -> bool:
    try:
        with open("/proc/sys/net/ipv4/tcp_migrate_req") as file:
            return file.read().strip() != "0"
    except OSError:
        return False  # before 5.14


def _idle(port: int, window: float) -> set[int]:
    """The inodes of listeners that accept nothing for a while, though connections wait in their queues.

    The kernel reports which connections wait on the port, but not in which queue. So a listener is idle if
    its queue never got shorter, and if at least as many connections waited all the time as were in it at
    first.

    Connections that were reset while they waited are still in a queue, and only their number is known. While
    it stays the same, none was accepted; and if none is missing from all suspected queues, all are idle.
    """
    queues, waiting = _queues(port)
    dead = sum(queues.values()) - len(waiting)
    first = {inode: queue for inode, queue in queues.items() if queue}
    deadline, suspects, counted = time.monotonic() + window, first, dead > 0
    while suspects and time.monotonic() < deadline:
        time.sleep(0.005)
        if counted:
            now, alive = _queues(port)
            counted = sum(now.values()) - len(alive) == dead
        else:
            now = _lengths(port)
        suspects = {inode: now[inode] for inode, queue in suspects.items() if now.get(inode, 0) >= queue}
    if not suspects:
        return set()
    queues, alive = _queues(port)
    still = len(waiting & alive)
    in_others = sum(queue for inode, queue in queues.items() if inode not in suspects)
    if counted and sum(first[inode] for inode in suspects) <= still + dead - in_others:
        return set(suspects)
    return {inode for inode in suspects if first[inode] <= still}


def _queues(port: int) -> tuple[dict[int, int], frozenset[int]]:
    """The lengths of the queues, by inode, and the connections alive in them, at (almost) the same moment."""
    lengths = _lengths(port)
    for _ in range(10):
        before, alive = lengths, _diag.unaccepted(port) if any(lengths.values()) else frozenset[int]()
        lengths = _lengths(port)
        if lengths == before:
            break
    return before, alive


def _lengths(port: int) -> dict[int, int]:
    return {sock.inode: sock.rqueue for sock in processes.tcp_sockets(port, TCPState.LISTEN)}


# ---------------------------------------------------------------------------------------------- report


def address(listener: processes.Listener) -> str:
    """As in a URL, with the interface that it is bound to, if any."""
    return _net.url(listener.host, listener.port) + (f"%{_interface(listener)}" if listener.interface else "")


def _in_full(listener: processes.Listener) -> str:
    """With IPV6_V6ONLY, by which two listeners of one address may differ."""
    return address(listener) + ("" if listener.v6only is None else f" (V6ONLY={listener.v6only:d})")


def _interface(listener: processes.Listener) -> str:
    try:
        return socket.if_indextoname(listener.interface)
    except OSError:
        return str(listener.interface)


def _protocol(listener: processes.Listener) -> str:
    return {True: "mptcp", False: "tcp", None: "?"}[listener.mptcp]


_COLUMNS = "{:<21} {:<5} {:>11} {:>10}  {:>7} {:<15} {:>4}"


def _text(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield _COLUMNS.format("address", "proto", "queue", "uid", "pid", "command", "fd")
    for row in rows:
        one = row.listener
        name = address(one)
        if len(name) > 21:
            yield name
            name = ""
        owners: list[tuple[object, ...]] = [(owner.pid, owner.command, owner.fd) for owner in row.owners]
        first, *others = owners or [("", "", "")]
        listener = (name, _protocol(one), f"{one.queue}/{one.backlog}", one.uid)
        yield _COLUMNS.format(*listener, *first).rstrip()
        for other in others:
            yield _COLUMNS.format("", "", "", "", *other).rstrip()
        notes = [" ".join(_words(row))] + [f"{flag}: {reason}" for flag, reason in row.flags.items()]
        for note in filter(None, notes):
            yield from textwrap.wrap(note, WIDTH, initial_indent="    ", subsequent_indent="      ")
    for reason, count in _unseen(rows).items():
        yield from textwrap.wrap(f"{count} of {len(rows)}: {reason}", WIDTH, subsequent_indent="  ")


_MOST = 10  # lines about sockets that do not listen


def _text_of(held: Sequence[processes.TCPSocket]) -> Iterator[str]:
    waits = [holder.expires / 1000 for holder in held if holder.state == TCPState.TIME_WAIT]
    others = [holder for holder in held if holder.state != TCPState.TIME_WAIT]
    owners = processes.owners(holder.inode for holder in others)
    for holder in others[:_MOST]:
        local, remote = _net.url(*holder.local[:2]), _net.url(*holder.remote[:2])
        what = "bound only" if holder.state == TCPState.CLOSE else f"connected to {remote}"
        whose = [f"pid {owner.pid} ({owner.command})" for owner in owners[holder.inode] or ()]
        if not holder.inode:
            whose = ["no process has it"]
        yield f"{local} {what}: {', '.join(whose) or _why_no_owner(owners)}"
    if others[_MOST:]:
        yield f"and {len(others) - _MOST} more"
    if waits:
        yield f"{len(waits)} in TIME_WAIT, for {max(waits):.0f} s: until then bind() needs SO_REUSEADDR"


def _unseen(rows: Sequence[Row]) -> dict[str, int]:
    """Why something is not known, and for how many listeners."""
    reasons = [reason for row in rows for reason in (row.unseen, row.listener.unknown) if reason]
    return collections.Counter(reasons)


def _words(row: Row) -> Iterator[str]:
    if row.options is not None:
        yield f"REUSEADDR={row.options.reuseaddr:d}"
        yield f"REUSEPORT={row.options.reuseport:d}"
        if row.options.incoming_cpu is not None:
            yield f"INCOMING_CPU={row.options.incoming_cpu}"
        if row.options.defer_accept:
            yield f"DEFER_ACCEPT={row.options.defer_accept}"
    if row.listener.v6only is not None:
        yield f"V6ONLY={row.listener.v6only:d}"


def _json(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [
        {
            **row.listener._asdict(),
            "address": address(row.listener),
            "protocol": None if row.listener.mptcp is None else _protocol(row.listener),
            "options": row.options and row.options._asdict(),
            "unseen": row.unseen,
            "owners": [{"pid": owner.pid, "fd": owner.fd, "command": owner.command} for owner in row.owners],
            "flags": row.flags,
        }
        for row in rows
    ]


def _verdict(port: int, rows: Sequence[Row], raised: set[str]) -> tuple[str, int]:
    if raised:
        return f"port {port}: {', '.join(sorted(raised))}", FAIL
    what = "nothing wrong in what is seen" if _unseen(rows) else "nothing wrong"
    return f"port {port}: {len(rows)} listening, {what}", PASS
