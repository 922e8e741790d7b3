# SPDX-License-Identifier: MIT
"""What SO_REUSEADDR and SO_REUSEPORT do, in three tests.

``lesson server [reuse_addr] [reuse_port]`` binds, listens, accepts one client and ends; ``lesson client``
connects and ends. Run two servers in two terminals, then clients in a third one. ``lesson all`` does that for
the three tests, and shows the lines that it expected next to those that came.

1. Without options the second server cannot bind.
2. With SO_REUSEADDR on both it cannot bind either, while the first listens. (The option lets a server bind
   while connections of its closed predecessor are left, if the predecessor had set it too.)
3. With SO_REUSEPORT on both, the two share the port, and the kernel chooses which one gets a client.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import cli, testing
from mptcp_sockopt.cli import FAIL, PASS, CannotRun, reason

from . import _net
from ._report import add_sockets, verdict_line

PORT = 3333
BACKLOG = 128
WORDS = {"reuse_addr": socket.SO_REUSEADDR, "reuse_port": socket.SO_REUSEPORT}
DEADLINE = 20.0  # seconds, for each thing that `lesson all` waits for


class Options(NamedTuple):
    command: str
    part: str
    mptcp: bool
    family: socket.AddressFamily
    port: int | None
    words: Sequence[str] = ()


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="server|client|all")
    parser.epilog = "Exit status: 0 success (all: as expected), 1 failure, 2 usage, 3 cannot run here."
    for name, port, words in (
        ("server", f"{PORT}", "bind, listen, accept one client, end"),
        ("client", f"{PORT}", "connect, end"),
        ("all", "a free one", "run the three tests: expected and observed lines, 0 if they agree"),
    ):
        part = parts.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        part.add_argument("--port", type=cli.port, help=f"default: {port}")
        add_sockets(part)
        if name == "server":
            part.add_argument(
                "words", nargs="*", type=_word, metavar="|".join(WORDS), help="set this option first"
            )


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
    """Bind, listen, accept one client; 1 if it cannot bind or listen."""
    with _net.open_socket(options.family, mptcp=options.mptcp) as sock:
        for word, option in WORDS.items():
            if word in options.words:
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
                say(f"{word.replace('_', ' ')} is set")
        steps: dict[str, Callable[[], object]] = {
            "bind": lambda: sock.bind(address(options)),
            "listen": lambda: sock.listen(BACKLOG),
            "accept": lambda: sock.accept()[0].close(),
        }
        for step, take in steps.items():
            try:
                take()
            except OSError as error:
                say(f"{step} error: {error.strerror}")
                return int(step != "accept")
            say(f"{step} success")
    return 0


def client(options: Options) -> int:
    """Connect; 1 if it cannot."""
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

Row = tuple[str, list[str], list[str]]  # who, the lines expected, the lines that came


class Terminal:
    """One of the commands, in its own process, and the lines that it has printed so far."""

    def __init__(self, options: Options, *words: str) -> None:
        switches = ["--mptcp"] * options.mptcp + ["-6"] * (options.family == socket.AF_INET6)
        # Without -I, the current folder would be searched for modules, to which others may write.
        start = f"import sys; sys.path[:] = {sys.path}; from reuseport.__main__ import main; sys.exit(main())"
        command = [sys.executable, "-I", "-c", start, "lesson", *words, f"--port={options.port}", *switches]
        self._process = subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE)
        assert self._process.stdout
        self.output = self._process.stdout
        self._text = b""

    @property
    def lines(self) -> list[str]:
        return self._text.decode().splitlines()

    def read_until(self, line: str = "") -> None:
        """Read until that line comes or, without one, until the command ends."""
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
        self._process.communicate()


def all_tests(options: Options) -> int:
    """The three tests; 0 if all lines were as expected."""
    need_loopback(options.family)
    if options.port is None:
        # A new one each time. The third test leaves a connection in TIME_WAIT, so that for a minute the
        # first test would fail on the same port.
        with _net.bind((_net.LOOPBACK[options.family], 0), family=options.family) as probe:
            options = options._replace(port=_net.name(probe)[1])
    # However this ends, all commands end with the child.
    tests = testing.in_child(lambda: observe(options), within=20 * DEADLINE)
    wrong = 0
    for title, rows in tests.items():
        print(title)
        agree = [as_expected(*row) for row in rows]
        wrong += not all(agree)
    code = FAIL if wrong else PASS
    print(verdict_line("lesson", f"3 tests, {wrong} not as expected", code))
    return code


def observe(options: Options) -> dict[str, list[Row]]:
    return {
        "Test 1: without options": refused(options),
        "Test 2: both with SO_REUSEADDR": refused(options, "reuse_addr"),
        "Test 3: both with SO_REUSEPORT": shared(options),
    }


def need_loopback(family: int) -> None:
    """CannotRun if loopback does not work, which would look like a result."""
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
            # A hash in the kernel selects the server. It must end before the next client connects, or the
            # kernel may select it again.
            for server in servers:
                if server.output in select.select([s.output for s in servers], [], [], DEADLINE)[0]:
                    server.read_until()
                    servers.remove(server)
                    break
        return [("server 1", accepts, first.lines), ("server 2", accepts, second.lines), *rows]


def as_expected(who: str, expected: list[str], observed: list[str]) -> bool:
    """Print the two side by side; whether they are the same."""
    print(f"{who}  {'expected':<36}observed")
    for one, other in itertools.zip_longest(expected, observed, fillvalue=""):
        print(f"          {one:<36}{other}{'' if one == other else '   <- not as expected'}")
    return expected == observed
