# SPDX-License-Identifier: MIT
"""Seed 2: what SO_REUSEADDR and SO_REUSEPORT do, in three tests.

``lesson server [reuse_addr] [reuse_port]`` binds, listens, accepts one client and ends; ``lesson client``
connects and ends. Run two servers in two terminals, then clients in a third; port and lines are the seed's.
``lesson all`` does just that for the seed's three tests, and shows what was expected beside what came.

1. Without options the second server cannot bind.
2. With SO_REUSEADDR on both it cannot either, while the first listens. (That option lets a server bind
   beside what is left of its closed predecessor, if the predecessor had it too.)
3. With SO_REUSEPORT on both the two share the port, and the kernel chooses who gets which client.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import cli
from mptcp_sockopt.cli import FAIL, PASS, CannotRun, reason

from . import _net
from ._report import verdict_line

PORT = 3333
BACKLOG = 128
WORDS = ("reuse_addr", "reuse_port")
PR_SET_PDEATHSIG = 1
DEADLINE = 20.0  # seconds, for each thing that `lesson all` waits for


class Options(NamedTuple):
    """The words of the command."""

    command: str
    part: str
    mptcp: bool
    ipv6: bool
    port: int | None
    words: Sequence[str] = ()

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if self.ipv6 else socket.AF_INET


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="server|client|all")
    server = parts.add_parser("server", help="bind, listen, accept one client, end")
    server.add_argument("words", nargs="*", type=_word, metavar="reuse_addr|reuse_port", help="set it first")
    client = parts.add_parser("client", help="connect, end")
    all_of_it = parts.add_parser("all", help="the three tests: expected beside observed; 0 if they agree")
    server.description = "The seed's server: bind, listen, accept one client, end."
    client.description = "The seed's client: connect, end."
    all_of_it.description = "The seed's three tests: what is expected beside what is observed."
    for part, default in ((server, "3333"), (client, "3333"), (all_of_it, "a free one")):
        part.add_argument("--port", type=cli.port, help=f"default: {default}")
        part.add_argument("--mptcp", action="store_true", help="MPTCP sockets")
        part.add_argument("-6", dest="ipv6", action="store_true", help="::1 instead of 127.0.0.1")


def _word(text: str) -> str:
    if text not in WORDS:
        raise argparse.ArgumentTypeError(f"{text} is neither reuse_addr nor reuse_port")
    return text


def run(options: Options) -> int:
    if options.mptcp and not (support := mp.is_supported()):
        raise CannotRun(support.value)
    parts = {"server": server, "client": client, "all": all_tests}
    return parts[options.part](options)


def server(options: Options) -> int:
    """One of the seed's servers."""
    with _net.open_socket(options.family, mptcp=options.mptcp) as sock:
        if "reuse_addr" in options.words:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            say("reuse addr is set")
        if "reuse_port" in options.words:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            say("reuse port is set")
        try:
            sock.bind(address(options))
        except OSError as error:
            say(f"bind error: {error.strerror}")
            return 1
        say("bind success")
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            say(f"listen error: {error.strerror}")
            return 1
        say("listen success")
        try:
            connection, _ = sock.accept()
        except OSError as error:
            say(f"accept error: {error.strerror}")
        else:
            say("accept success")
            connection.close()
    return 0


def client(options: Options) -> int:
    """The seed's client."""
    with _net.open_socket(options.family, mptcp=options.mptcp) as sock:
        try:
            sock.connect(address(options))
        except OSError as error:
            say(f"connect error: {error.strerror}")
            return 1
        say(f"connect success ({mp.status(sock).value})" if options.mptcp else "connect success")
    return 0


def address(options: Options) -> tuple[str, int]:
    return _net.LOOPBACK[options.family], options.port or PORT


def say(line: str) -> None:
    print(line, flush=True)  # at once: the reader may be a pipe


# ------------------------------------------------------------------------------------------- lesson all

Row = tuple[str, list[str], list[str]]  # who, the lines expected of it, its lines


class Terminal:
    """One of the lesson's commands, in a process of its own, and the lines that it has printed so far."""

    def __init__(self, options: Options, *words: str) -> None:
        switches = ["--mptcp"] * options.mptcp + ["-6"] * options.ipv6
        command = [sys.executable, "-m", "reuseport", "lesson", *words, f"--port={options.port}", *switches]
        self._process = subprocess.Popen(
            command, bufsize=0, stdout=subprocess.PIPE, preexec_fn=die_with_parent
        )
        assert self._process.stdout
        self.output = self._process.stdout
        self._text = b""

    @property
    def lines(self) -> list[str]:
        return self._text.decode().splitlines()

    def read_until(self, line: str = "") -> None:
        """Read until that line has come or, without one, until the command has ended."""
        while not line or f"{line}\n".encode() not in self._text:
            if not select.select([self.output], [], [], DEADLINE)[0]:
                return
            more = self.output.read(4096)
            if not more:
                self._process.wait(DEADLINE)
                return
            self._text += more

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        self.output.close()


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def all_tests(options: Options) -> int:
    """The seed's three tests; 0 if all came as expected."""
    need_loopback(options.family)
    if options.port is None:
        # Another one each time, because the third test leaves a connection in TIME_WAIT behind: for a
        # minute, the first test would fail on the same port.
        with _net.bind((_net.LOOPBACK[options.family], 0), family=options.family) as probe:
            options = options._replace(port=_net.name(probe)[1])
    wrong = 0
    for title, rows in (
        ("Test 1: without options", refused(options)),
        ("Test 2: both with SO_REUSEADDR", refused(options, "reuse_addr")),
        ("Test 3: both with SO_REUSEPORT", shared(options)),
    ):
        print(title)
        agree = [as_expected(*row) for row in rows]
        wrong += not all(agree)
    code = FAIL if wrong else PASS
    print(verdict_line("lesson", f"3 tests, {wrong} not as expected", code))
    return code


def need_loopback(family: int) -> None:
    """CannotRun where nobody is reached over it: that would look like an answer of the lesson."""
    host = _net.LOOPBACK[family]
    try:
        with _net.listen((host, 0), family=family) as server, _net.open_socket(family, mptcp=False) as sock:
            sock.settimeout(2)
            sock.connect(_net.name(server))
    except OSError as error:
        raise CannotRun(f"TCP does not work over {host}: {reason(error)}") from None


def refused(options: Options, *words: str) -> list[Row]:
    """Tests 1 and 2: the second server cannot bind while the first listens."""
    is_set = ["reuse addr is set"] if words else []
    listens = [*is_set, "bind success", "listen success"]
    fails = [*is_set, f"bind error: {os.strerror(errno.EADDRINUSE)}"]
    with Terminal(options, "server", *words) as first:
        first.read_until("listen success")
        with Terminal(options, "server", *words) as second:
            second.read_until("listen success")
            return [("server 1", listens, first.lines), ("server 2", fails, second.lines)]


def shared(options: Options) -> list[Row]:
    """Test 3: two servers on one port, and each gets one of two clients."""
    accepts = ["reuse port is set", "bind success", "listen success", "accept success"]
    connects = ["connect success (mptcp)" if options.mptcp else "connect success"]
    rows = []
    with (
        Terminal(options, "server", "reuse_port") as first,
        Terminal(options, "server", "reuse_port") as second,
    ):
        servers = [first, second]
        for server in servers:
            server.read_until("listen success")
        for number in (1, 2):
            with Terminal(options, "client") as client:
                client.read_until()
                rows.append((f"client {number}", connects, client.lines))
            # Which server it is decides a hash in the kernel. It has to be gone before the next client
            # comes: until then, the kernel would give it that one too.
            for server in servers:
                if server.output in select.select([s.output for s in servers], [], [], DEADLINE)[0]:
                    server.read_until()
                    servers.remove(server)
                    break
        return [("server 1", accepts, first.lines), ("server 2", accepts, second.lines), *rows]


def as_expected(who: str, expected: list[str], observed: list[str]) -> bool:
    """Print the two beside each other; whether they are the same."""
    print(f"{who}  {'expected':<36}observed")
    for one, other in itertools.zip_longest(expected, observed, fillvalue=""):
        print(f"          {one:<36}{other}{'' if one == other else '   <- not as expected'}")
    return expected == observed
