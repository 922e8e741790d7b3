# SPDX-License-Identifier: MIT
"""The options of audit, and what they mean to the load and the restarts."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from typing import NamedTuple

from mptcp_sockopt import cli

from .._report import add_json, add_numbers
from ..load import Client, Plan, Request, Target
from .guard import UNPROTECTED_HELP
from .listening import Place
from .restarts import Way

RATE, TLS_RATE = 1000.0, 200.0
RARE = 5.0  # late and slow connections per second: more of them would change the server
LATE = 500.0  # ms
SLOW = 1000.0  # ms


class Options(NamedTuple):
    """What was asked for."""

    command: str
    restart: signal.Signals | None
    restart_with: str | None
    respawn: bool
    trust_restart: bool
    port: int | None
    unix: str | None
    tls: bool
    raw: bool
    method: str
    path: str
    header: list[str] | None
    body: str | None
    expect: int | None
    late: float | None
    keepalive: bool
    idle: float
    slow: bool
    slow_path: str | None
    rtt: float | None
    asked_rate: float | None
    restarts: int
    seconds: float
    pause: float
    within: float
    unprotected: bool
    json: bool
    cmd: list[str]

    @property
    def words(self) -> list[str]:
        """The command."""
        return self.cmd[1:] if self.cmd[:1] == ["--"] else self.cmd

    @property
    def rate(self) -> float:
        return self.asked_rate or (TLS_RATE if self.tls else RATE)

    @property
    def place(self) -> Place:
        return Place(self.port, self.unix)

    @property
    def way(self) -> Way:
        number = self.restart or (signal.SIGTERM if self.respawn else signal.SIGHUP)
        return Way(number, self.restart_with, self.respawn)

    @property
    def request(self) -> Request:
        body = os.fsencode(self.body or "")
        return Request(self.method, self.path, tuple(self.header or ()), body)

    def plans(self, targets: Sequence[Target]) -> tuple[Plan, ...]:
        """What each kind of client does."""
        request, all_of_them = self.request, tuple(targets)

        def plan(client: Client, rate: float, wait: float = 0.5, path: str | None = None) -> Plan:
            asked = request if path is None else request._replace(path=path)
            return Plan(client, all_of_them, rate, request=asked, wait=wait, expect=self.expect)

        plans = [plan(Client.RAW if self.raw else Client.PLAIN, self.rate)]
        if self.late is not None:
            plans.append(plan(Client.LATE, min(RARE, self.rate), self.late / 1000))
        if self.keepalive:
            plans.append(plan(Client.KEEPALIVE, self.rate / 2, self.idle / 1000))
        if self.slow or self.slow_path:
            wait = 0.0 if self.slow_path else SLOW / 1000  # that path takes its time
            plans.append(plan(Client.SLOW, min(RARE, self.rate), wait, self.slow_path))
        return tuple(plans)

    def mistake(self) -> str:
        """What does not go together, as a sentence; or nothing."""
        if not self.words:
            return "no command: reuseport audit [options] -- CMD..."
        if self.restart_with and (self.respawn or self.restart):
            return "--restart-with does not go with --restart or --respawn"
        if self.unix and (self.port or self.rtt):
            return "--unix does not go with --port or --rtt"
        if self.raw and (self.late is not None or self.keepalive or self.slow or self.slow_path or self.tls):
            return "--raw does not go with other kinds of clients, or with --tls"
        return ""


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parser.usage = "%(prog)s [options] -- CMD..."
    restart = parser.add_argument_group("how to restart")
    restart.add_argument(
        "--restart",
        type=_signal,
        metavar="SIGNAL",
        help="signal to send (default: HUP; with --respawn: TERM)",
    )
    restart.add_argument(
        "--restart-with", metavar="COMMAND", help="run this by /bin/sh instead; $PID is the server's number"
    )
    restart.add_argument(
        "--respawn",
        action="store_true",
        help="end CMD by the signal, wait for its end, start it again: what an orchestrator does. Judged is "
        "who connected before the signal; who finds nobody until CMD listens again is told apart",
    )
    restart.add_argument(
        "--trust-restart",
        action="store_true",
        help="believe that each signal restarts CMD, even if the same processes go on accepting",
    )
    server = parser.add_argument_group("whom to ask, and what")
    server.add_argument(
        "--port", type=cli.port, metavar="PORT", help="where CMD listens (default: found out)"
    )
    server.add_argument(
        "--unix", metavar="PATH", help="where CMD listens, if that is a unix socket; @NAME if it is abstract"
    )
    server.add_argument("--tls", action="store_true", help="ask over TLS; the certificate is not checked")
    server.add_argument("--raw", action="store_true", help="wait for a first byte, instead of asking by HTTP")
    server.add_argument("--method", default="GET", type=_word, help="of the request (default: GET)")
    server.add_argument("--path", default="/", type=_word, help="of the request (default: /)")
    server.add_argument(
        "--header", action="append", type=_header, metavar="'NAME: VALUE'", help="another header; repeatable"
    )
    server.add_argument("--body", metavar="TEXT", help="of the request (default: none)")
    server.add_argument(
        "--expect",
        type=cli.between(int, 200, 599),
        metavar="STATUS",
        help="status of a good answer (default: 200 to 399)",
    )
    clients = parser.add_argument_group(
        "other clients, besides those that connect, ask, and get their answer"
    )
    clients.add_argument(
        "--late",
        nargs="?",
        const=LATE,
        type=cli.between(float, 1, 60_000),
        metavar="MS",
        help=f"connect, wait so long, then ask (default: {LATE:g}); at most {RARE:g} per second",
    )
    clients.add_argument(
        "--keepalive",
        action="store_true",
        help="ask again and again on one connection; half the rate besides",
    )
    add_numbers(
        clients,
        ("--idle", cli.between(float, 1, 60_000), 100.0, "MS", "between two requests of --keepalive"),
    )
    clients.add_argument(
        "--slow", action="store_true", help=f"take {SLOW:g} ms to ask and read; at most {RARE:g} per second"
    )
    clients.add_argument(
        "--slow-path",
        type=_word,
        metavar="PATH",
        help="--slow, but by asking for a path whose answer takes long",
    )
    clients.add_argument(
        "--rtt",
        type=cli.between(float, 0.1, 2000),
        metavar="MS",
        help="round trip to all clients (default: none). Only this shows whether handshakes are lost",
    )
    numbers = parser.add_argument_group("how much")
    numbers.add_argument(
        "--rate",
        dest="asked_rate",
        type=cli.between(float, 1, 10**5),
        metavar="N",
        help=f"connections per second (default: {RATE:g}; with --tls {TLS_RATE:g})",
    )
    add_numbers(
        numbers,
        ("--restarts", cli.between(int, 5, 10_000), 60, "N", "restart so many times, 5 or more"),
        ("--seconds", cli.positive(float, 86_400), 60.0, "S", "but begin no restart after so many seconds"),
        ("--pause", cli.between(float, 0.05, 60), 0.3, "S", "from a complete restart to the next signal"),
        ("--within", cli.between(float, 1, 3600), 30.0, "S", "how long a restart may take"),
    )
    parser.add_argument("--unprotected", action="store_true", help=UNPROTECTED_HELP)
    add_json(parser)
    parser.add_argument("cmd", nargs=argparse.REMAINDER, metavar="CMD", help="the server and its arguments")
    parser.epilog = (
        "CMD runs in namespaces of its own, and writes to memory. A connection is lost if it was refused, "
        "reset, ended without a whole answer (eof), got none for 5 s (stalled), or got another status than "
        "before. With fewer than 5 complete restarts nothing is proven. Exit status: 0 no restart lost "
        "anybody, 1 one did, or CMD ended, 2 usage, 3 cannot run here, or nothing proven."
    )


def _signal(text: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    except KeyError:
        raise argparse.ArgumentTypeError(f"no signal {text!r}") from None


def _word(text: str) -> str:
    if not text or _has_controls(text) or " " in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not one word")
    return text


def _header(text: str) -> str:
    if ":" not in text or _has_controls(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 'NAME: VALUE'")
    return text


def _has_controls(text: str) -> bool:
    """Whether it would break a line of HTTP."""
    return any(byte < 32 or byte == 127 for byte in os.fsencode(text))
