# SPDX-License-Identifier: MIT
"""The tables of docs/programs.md: a row for each recipe, with what was measured."""

from __future__ import annotations

import contextlib
import re
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .clients import CLIENTS
from .ends import held
from .environment import CONSTRAINTS, ROOT
from .measured import WARM, measure
from .servers import SERVERS, connected
from .stage import Stage, recipe

PAGE = ROOT / "docs" / "programs.md"
BEGIN, END = "<!-- python -m tests.recipes --write: begin, {} -->\n", "<!-- end -->\n"
HEAD = "| library | version | hook | sets TCP_NODELAY | time |\n|---|---|---|---|---|\n"
ROUNDS, REQUESTS = 19, 50  # nginx closes after 1,000
# Runs the program named next with listeners that have no TCP_NODELAY, to see what the server does itself.
WITHOUT_NODELAY = """
import functools, runpy, sys, mptcp_sockopt as mp
mp.create_server = functools.partial(mp.create_server, nodelay=False)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Row(NamedTuple):
    name: str
    title: str
    version: str
    nodelay: bool | None  # whether the library sets it by itself; None where somebody else has
    ratio: float | None  # of the time of a request over an open connection: MPTCP / TCP

    def __str__(self) -> str:
        time = "" if self.ratio is None else f"{self.ratio:.2f}"
        if self.name in SERVERS and (command := SERVERS[self.name].command):
            hook = "public" if " listen " in command else "none"
            cells = [self.title, self.version, f"{hook}, `{command}`"]
        else:
            found = recipe(self.name)
            cells = [f"[{self.title}](recipes/{self.name}.py)", self.version, f"{found.hook}, {found.how}"]
        return f"| {' | '.join([*cells, {True: 'yes', False: 'no', None: ''}[self.nodelay], time])} |\n"


def version(distribution: str, program: str = "") -> str:
    """Of the constraints, or what a program says; "stdlib" for the standard library."""
    if not distribution and not program:
        return "stdlib"
    if not distribution:
        said = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
        return said.strip().rpartition("/")[2]
    found = re.search(
        rf"^{re.escape(distribution)}==(.+)$", CONSTRAINTS.read_text(), re.MULTILINE | re.IGNORECASE
    )
    assert found, f"{distribution} has no version in {CONSTRAINTS}"
    return found[1]


def _ratio(one: Callable[[], float], other: Callable[[], float]) -> float:
    """In turns, so that both see the same machine."""
    return statistics.median(one() / other() for _ in range(ROUNDS))


def client_row(stage: Stage, name: str) -> Row:
    client, found = CLIENTS[name], recipe(name)
    with (
        stage.measured(name, found.hook == "none", found.prefix) as with_it,
        stage.measured(name, plain=True) as without,
    ):
        nodelay = any(ends[0][2] for ends in without.result["ends"].values())
        ratio = None
        if not with_it.result["closes"]:
            ratio = _ratio(lambda: with_it.seconds(REQUESTS), lambda: without.seconds(REQUESTS))
    return Row(name, client.title, version(client.distribution), nodelay, ratio)


def server_row(stage: Stage, name: str) -> Row:
    server = SERVERS[name]
    with stage.serving(name) as (_, port), contextlib.ExitStack() as stack:
        ends = [stack.enter_context(connected(protocol, "127.0.0.1", port)) for protocol in ("mptcp", "tcp")]
        uses = [(server.asking(end), end.close) for end in ends]
        for use in uses:
            measure(use, WARM)
        ratio = _ratio(*(lambda use=use: measure(use, REQUESTS) for use in uses))
    program = server.title if server.command else ""
    return Row(name, server.title, version(server.distribution, program), _sets_nodelay(stage, name), ratio)


def _sets_nodelay(stage: Stage, name: str) -> bool | None:
    """None where ``mptcp-sockopt listen`` has made the listener, and set it there."""
    server = SERVERS[name]
    if " listen " in server.command:
        return None
    with (
        stage.serving(name, "-c", WITHOUT_NODELAY) as (pid, port),
        connected("mptcp", "127.0.0.1", port) as sock,
    ):
        server.asking(sock)()
        (accepted,) = (
            end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for end in held(pid, sock.getsockname())
        )
    return bool(accepted)


def rows(stage: Stage) -> Iterator[tuple[str, Row]]:
    for name in CLIENTS:
        yield "clients", client_row(stage, name)
    for name in SERVERS:
        yield "servers", server_row(stage, name)


def tables(page: str) -> dict[str, str]:
    """The tables of a page, by their names."""
    found = re.findall(BEGIN.format("(.+)") + r"((?:.*\n)*?)" + END, page)
    return dict(found)


def written(page: str, name: str, table: str) -> str:
    """The page with another table."""
    begin, rest = page.split(BEGIN.format(name))
    return begin + BEGIN.format(name) + table + END + rest.split(END, 1)[1]
