# SPDX-License-Identifier: MIT
"""A web server behind `mptcp-sockopt listen`, and asking what its clients' connections are."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import importlib.util
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import asgi

from . import fixtures
from .measure import Measured, Missing, Scale, in_turns, interleave, repeated

_REQUESTS = 100  # of a round
_CONNECTIONS = 1000


def app() -> Any:
    """What uvicorn serves."""
    made: Any = importlib.import_module("fastapi").FastAPI()

    @made.get("/")  # type: ignore[untyped-decorator]
    async def root() -> dict[str, str]:
        return {"hello": "world"}

    return made


def told() -> Any:
    """The same with the middleware."""
    made = app()
    made.add_middleware(asgi.MPTCPMiddleware)
    return made


def uvicorn(factory: str, fd: int | str) -> list[str]:
    words = ["--fd", str(fd), "--log-level", "critical", "--factory", f"benchmarks.servers:{factory}"]
    return [sys.executable, "-m", "uvicorn", *words]


def connected(connect: Callable[..., socket.socket], port: int) -> http.client.HTTPConnection:
    """Once the server answers."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    deadline = time.monotonic() + fixtures.PATIENCE
    while client.sock is None:
        with contextlib.suppress(ConnectionRefusedError):
            client.sock = connect(("127.0.0.1", port), fixtures.PATIENCE)
        if time.monotonic() > deadline:
            raise RuntimeError("uvicorn does not listen")
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def get(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/")
    if client.getresponse().read() != b'{"hello":"world"}':
        raise RuntimeError("uvicorn answered something else")


def usual(client: http.client.HTTPConnection) -> float:
    """The median of many requests, in ns."""
    times = []
    for _ in range(_REQUESTS):
        begun = time.perf_counter_ns()
        get(client)
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times)


def requests(scale: Scale) -> Measured:
    """T27 and T27m: a keep-alive connection each, in turn; the median of each round's requests."""
    for name in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise Missing(f"{name} is not installed (pip install '.[bench]')")
    listen = [sys.executable, "-m", "mptcp_sockopt", "listen"]
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The ports are free: this network namespace is ours alone.
        for command in (
            uvicorn("app", plain.fileno()),
            [*listen, "127.0.0.1:8001", "--", *uvicorn("app", "{fd}")],
            [*listen, "127.0.0.1:8002", "--", *uvicorn("told", "{fd}")],
        ):
            server = stack.enter_context(subprocess.Popen(command, pass_fds=[plain.fileno()]))
            stack.callback(server.terminate)
        clients = {
            "tcp": connected(socket.create_connection, plain.getsockname()[1]),
            "listen": connected(mp.create_connection, 8001),
            "told": connected(mp.create_connection, 8002),
        }
        statuses = [mp.status(client.sock).value for client in clients.values()]
        if statuses != ["tcp", "mptcp", "mptcp"]:
            raise RuntimeError(f"the connections are {statuses}")
        ways = {name: partial(usual, client) for name, client in clients.items()}
        in_turns(ways, 1)  # cold
        costs = in_turns(ways, scale.few)
        for client in clients.values():
            client.close()
    return Measured(costs.table({"T27": "listen / tcp", "T27m": "told / listen"}))


async def _nothing(*_: object) -> None:
    """An application that does nothing."""


def ask(scope: dict[str, Any]) -> None:
    """The middleware alone, without an event loop."""
    with contextlib.suppress(StopIteration):
        asgi.MPTCPMiddleware(_nothing)(scope, _nothing, _nothing).send(None)  # type: ignore[arg-type]


def unknown(scale: Scale) -> Measured:
    """T27u, on a listener with many connections; a known client is told what it is."""
    fixtures.allow_descriptors(2 * _CONNECTIONS)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fixtures.listen())
        pairs = [fixtures.pair(server) for _ in range(_CONNECTIONS)]
        for client, accepted in pairs:
            stack.enter_context(client)
            stack.enter_context(accepted)
        hit = {"type": "http", "server": server.getsockname(), "client": pairs[0][1].getpeername()}
        miss = {**hit, "client": ("203.0.113.7", 50000)}
        for scope, status in ((hit, "mptcp"), (miss, None)):
            seen: list[Any] = []

            async def app(scope: Any, *_: object, seen: list[Any] = seen) -> None:
                seen.append(scope["extensions"]["mptcp"]["status"])

            asyncio.run(asgi.MPTCPMiddleware(app)(scope, _nothing, _nothing))  # type: ignore[arg-type]
            if seen != [status]:
                raise RuntimeError(f"the middleware says {seen} and not {status}")
        costs = interleave({"hit": repeated(ask, hit), "miss": repeated(ask, miss)}, scale.few)
    return Measured(costs.table({"T27u": "miss / hit"}))
