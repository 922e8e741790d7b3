# SPDX-License-Identifier: MIT
"""events: connections, paths, announced addresses and listeners that come and go, as they do."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import select
import sys
import time
from collections.abc import Sequence

import mptcp_sockopt as mp

from ._event_words import in_words, token_of
from ._outcome import PASS, CannotRun, Parser, need_streams, port, positive, writing
from ._recording import event_record
from ._table import WIDTH, parsed

Ends = tuple[mp.Address, mp.Address]

_EPILOG = """\
A line has the clock, the token of the connection and what happened. The two
ends of a connection have different tokens. Events are those of this network
namespace, and are for root or the owner of its user namespace. Some things
have no event, such as a fallback or a path that stalls: docs/events.md.
"""


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="mptcp-sockopt events",
        description="MPTCP connections, paths, addresses and listeners as they come and go.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=WIDTH),
    )
    options.add_argument("--json", action="store_true", help="a line of JSON for each event")
    options.add_argument(
        "--port", type=port, default=0, metavar="P", help="only connections and listeners of this port"
    )
    options.add_argument(
        "--for",
        dest="seconds",
        type=positive(float),
        default=math.inf,
        metavar="S",
        help="end after S seconds",
    )
    options.add_argument("-n", type=positive(int), metavar="N", help="end after N lines")
    return options


def main(argv: Sequence[str]) -> int:
    options = parsed(parser(), argv)
    need_streams("stdout")
    try:
        events = mp.mptcp_events()
    except OSError as error:
        raise CannotRun(error.strerror) from None
    with events:
        connections = _Connections()
        connections.look()
        _say("Ctrl-C ends it")
        _follow(events, connections, options)
    return PASS


def _follow(events: mp.MPTCPEvents, connections: _Connections, options: argparse.Namespace) -> None:
    end, printed = time.monotonic() + options.seconds, 0
    while _waited(events, end):
        for event in events.read():
            if event.kind is mp.MPTCPEventKind.LOST:
                connections.look()
            connection = connections.of(event)
            if _is_of(options.port, event, connection):
                with writing():
                    print(_json(event) if options.json else _line(event, connection), flush=True)
                printed += 1
                if printed == options.n:
                    return


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads standard error
        print(f"mptcp-sockopt events: {sentence}", file=sys.stderr, flush=True)


def _waited(events: mp.MPTCPEvents, end: float) -> bool:
    """Wait for events; False at the end. BrokenPipeError once nobody reads the output."""
    poll = select.poll()
    poll.register(events, select.POLLIN)
    poll.register(sys.stdout, 0)  # errors only
    while (left := end - time.monotonic()) > 0:
        ready = dict(poll.poll(math.ceil(min(left, 3600) * 1000)))
        if ready.keys() - {events.fileno()}:
            raise BrokenPipeError
        if ready:
            return True
    return False


def _clock(event: mp.MPTCPEvent) -> float:
    """Seconds since the epoch."""
    return time.time() - (time.monotonic_ns() - event.time) / 1e9


def _json(event: mp.MPTCPEvent) -> str:
    return json.dumps({"schema": 1, "time": round(_clock(event), 6), **event_record(event)})


def _line(event: mp.MPTCPEvent, connection: Ends | None) -> str:
    now, record = _clock(event), event_record(event)
    clock = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03}"
    return f"{clock} {token_of(record):8} {in_words(record, connection)}"


class _Connections:
    """The ends of each connection, by token: most events tell only that."""

    def __init__(self) -> None:
        self._ends: dict[int, Ends] = {}

    def look(self) -> None:
        """Those that exist now; on stderr if they are not known."""
        try:
            self._ends = {row.info.token: (row.local, row.remote) for row in mp.mptcp_diag()}
        except OSError as error:
            _say(f"connections that exist already are not known: {error.strerror}")

    def of(self, event: mp.MPTCPEvent) -> Ends | None:
        """The ends of the event's connection, if they are known."""
        if event.token is None:
            return None
        if event.kind is mp.MPTCPEventKind.CREATED and event.local and event.remote:
            self._ends[event.token] = event.local, event.remote
        if event.kind is mp.MPTCPEventKind.CLOSED:
            return self._ends.pop(event.token, None)
        return self._ends.get(event.token)


def _is_of(port: int, event: mp.MPTCPEvent, connection: Ends | None) -> bool:
    """Whether an event is about this port (0: any)."""
    if not port or event.kind is mp.MPTCPEventKind.LOST:
        return True
    return any(end and end[1] == port for end in (event.local, event.remote, *(connection or ())))
