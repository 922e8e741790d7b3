# SPDX-License-Identifier: MIT
"""``python -m tests.recipes.measured NAME PORTS [--plain]``: a client library, in every combination.

PORTS is what the peers print. The first line of output is JSON: the version, and the ends of the connections
to each peer. Then it reads numbers of requests, one a line. It makes them over one connection to the MPTCP
peer, and prints the median of their seconds.

With --plain the recipe is not used, and the measured connection goes to the TCP peer, with TCP_NODELAY. If a
library has no hook, this is run with --plain under ``mptcp-sockopt run``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import runpy
import socket
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import clients
from .ends import looked_up, own

RECIPES = Path(os.path.realpath(__file__)).parents[2] / "docs" / "recipes"
HOSTS = {"v4": "127.0.0.1", "v6": "::1"}
WARM = 5  # requests before the first that is measured


def ends(port: int) -> list[list[Any]]:
    """The client's status, the server's, and the client's TCP_NODELAY, of each connection to that port."""
    import mptcp_sockopt as mp

    return [
        [
            mp.status(sock).name,
            looked_up(sock.getpeername(), sock.getsockname()),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        ]
        for sock in own(port)
    ]


def combination(client: clients.Client, recipe: Any, host: str, port: int) -> tuple[list[list[Any]], bool]:
    """Its ends after two requests, or, if it closes after each, during the second; and whether it does."""
    seen: list[list[Any]] = []
    clients.look = lambda: seen.extend(ends(port))
    request, close = client.use(recipe, host, port)
    request()
    seen.clear()
    request()
    clients.look = bool
    found = seen or ends(port)
    close()
    return found, bool(seen)


def nodelay(port: int) -> None:
    for sock in own(port):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def measure(use: clients.Use, requests: int) -> float:
    """The median of the seconds that requests take."""
    request, _ = use
    taken = []
    for _ in range(requests):
        begun = time.perf_counter()
        request()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("ports", type=json.loads)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    if options.name == "gevent_client":
        import gevent.monkey

        gevent.monkey.patch_all()
    client = clients.CLIENTS[options.name]
    # As a module: its part for a command does not run.
    recipe = None
    if not options.plain:
        recipe = SimpleNamespace(**runpy.run_path(str(RECIPES / f"{options.name}.py")))
    clients.loops.append(getattr(recipe, "loop_factory", asyncio.new_event_loop)())
    result: dict[str, Any] = {
        "name": options.name,
        "version": importlib.metadata.version(client.distribution)
        if client.distribution
        else sys.version.split()[0],
        "ends": {},
    }
    for peer, ports in options.ports.items():
        port = ports[client.service]
        for family, host in HOSTS.items():
            found, result["closes"] = combination(client, recipe, host, port)
            result["ends"][f"{family} {peer}"] = found
    print(json.dumps(result), flush=True)
    port = options.ports["tcp" if options.plain else "mptcp"][client.service]
    use = None
    for line in sys.stdin:
        if use is None:
            use = client.use(recipe, HOSTS["v4"], port)
            measure(use, WARM)
            nodelay(port)
        print(measure(use, int(line)), flush=True)
    os._exit(0)  # threads that serve loops for ever


if __name__ == "__main__":
    main()
