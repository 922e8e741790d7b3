# SPDX-License-Identifier: MIT
"""The command line of ``reuseport who``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from mptcp_sockopt import cli
from mptcp_sockopt.cli import CANNOT, FAIL, PASS, USAGE

from .. import _report
from . import bind, holders, listeners, notes, words
from .holders import Socket
from .listeners import Row
from .rule import State


class Options(NamedTuple):
    command: str
    port: int | None
    bind: bind.Address | None
    reuseaddr: bool
    reuseport: bool
    v6only: bool | None
    mptcp: bool
    device: str
    uid: int | None
    json: bool
    watch: float
    window: float


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("port", type=cli.port, metavar="PORT", nargs="?", help="what has this TCP port?")
    which.add_argument(
        "--bind",
        type=bind.parsed,
        metavar="ADDRESS:PORT",
        help="would a new TCP socket be allowed to bind and listen there, and would it get connections? "
        "IPv6 in brackets; *:PORT is [::]:PORT without IPV6_V6ONLY",
    )
    wish = parser.add_argument_group("the socket of --bind")
    wish.add_argument("--reuseaddr", action="store_true", help="with SO_REUSEADDR (default: without)")
    wish.add_argument("--reuseport", action="store_true", help="with SO_REUSEPORT (default: without)")
    wish.add_argument(
        "--v6only",
        action=argparse.BooleanOptionalAction,
        help="with or without IPV6_V6ONLY (default: net.ipv6.bindv6only)",
    )
    wish.add_argument("--mptcp", action="store_true", help="MPTCP (default: TCP)")
    wish.add_argument("--device", default="", metavar="NAME", help="SO_BINDTODEVICE (default: none)")
    wish.add_argument(
        "--uid", type=cli.between(int, 0, 2**32 - 2), metavar="UID", help="whose it is (default: yours)"
    )
    seconds = cli.between(float, 0, 3600)
    _report.add_numbers(
        parser,
        ("--watch", seconds, 0, "S", "look every second for so long; a flag counts if it was ever up"),
        ("--window", seconds, 0.5, "S", "how long a queue is watched before its listener is called ZOMBIE"),
    )
    _report.add_json(parser)
    parser.epilog = (
        "TCP and MPTCP only: UDP has ports of its own. "
        "Exit status: 0 nothing wrong, or it would bind and get connections; 1 a flag was raised, nobody "
        "listens, or it would not; 2 usage; 3 cannot tell, or cannot run here. "
        "SHADOWED: another listener takes some of its connections, or the other way round. "
        "MIXED-PROTO: MPTCP clients that reach a TCP listener of the group fall back. "
        "ZOMBIE: connections wait, and none is accepted. FULL: new connections are dropped. "
        "STRANGERS: another program shares the port and gets some of the connections. "
        "MIGRATE+MPTCP: tcp_migrate_req hands over connections that MPTCP has reset. "
        "Other sockets that have the port are listed, too: bound only, connected, in TIME_WAIT."
    )


def run(options: Options) -> int:
    if options.bind is not None:
        return bind.run(options, options.bind)
    alone = {
        "--reuseaddr": options.reuseaddr,
        "--reuseport": options.reuseport,
        "--v6only": options.v6only is not None,
        "--mptcp": options.mptcp,
        "--device": options.device,
        "--uid": options.uid is not None,
    }
    if given := [flag for flag, value in alone.items() if value]:
        print(f"reuseport who: error: {given[0]} needs --bind", file=sys.stderr)
        return USAGE
    assert options.port is not None  # one of the two is required
    return _who(options, options.port)


def _who(options: Options, port: int) -> int:
    deadline = time.monotonic() + options.watch
    raised, looks, shown = set[str](), 0, ""
    while True:
        rows, looks = listeners.look(port, options.window), looks + 1
        held = [one for one in holders.look(port) if one.state is not State.LISTEN]
        raised |= {flag for row in rows for flag in row.flags} if rows else {_HELD if held else _NOBODY}
        now = "\n".join(words.table(rows))
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if now != shown and not options.json:
            _report.show(now)
        shown = now
        time.sleep(min(left, 1.0))
    told = notes.notes(rows)
    found = {
        "port": port,
        "looks": looks,
        "raised": sorted(raised),
        "listeners": words.rows_as_json(rows),
        "held": words.sockets_as_json(held),
        "notes": told,
    }
    lines = [] if now == shown else now.splitlines()
    lines += words.others(held, bool(rows))
    lines += [line for note in told for line in words.wrapped(f"note: {note}")]
    return _report.finish(options, found, lines, *_verdict(port, rows, held, raised))


_NOBODY = "nobody listens"
_HELD = "no listener, but other sockets have the port"


def _verdict(port: int, rows: Sequence[Row], held: Sequence[Socket], raised: set[str]) -> tuple[str, int]:
    if raised:
        return f"TCP port {port}: {', '.join(sorted(raised))}", FAIL
    if unseen := sum(bool(row.unseen or row.listener.unknown) for row in rows):
        return f"TCP port {port}: {len(rows)} listening, {unseen} not seen whole", CANNOT
    return f"TCP port {port}: {len(rows)} listening, nothing wrong", PASS
