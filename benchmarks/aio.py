# SPDX-License-Identifier: MIT
"""What asyncio costs over MPTCP, against asyncio over TCP with TCP_NODELAY, on the clock of the wall."""

from __future__ import annotations

import asyncio
import importlib
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import aio

from .measure import Costs, Measured, Missing, Scale, in_turns, interleave

_EXCHANGES, _CONNECTIONS = 100, 200
_WARM = 20
_LATENCY_WITHOUT_NODELAY = 0.010  # seconds that an exchange never takes, unless a write waits for an ACK


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Two small writes for two, until the end."""
    while await reader.read(2):
        writer.write(b"c")
        writer.write(b"d")
    writer.close()


async def _exchange(ends: tuple[asyncio.StreamReader, asyncio.StreamWriter], times: int) -> None:
    reader, writer = ends
    for _ in range(times):
        writer.write(b"a")
        writer.write(b"b")
        await reader.readexactly(2)


def _two_writes(loop: asyncio.AbstractEventLoop, scale: Scale) -> Costs:
    """Each way, between two ends in this process: MPTCP through aio, TCP through asyncio."""

    async def opened(api: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        server = await api.start_server(_answer, "127.0.0.1", 0)
        ends = await api.open_connection(*server.sockets[0].getsockname())
        await _exchange(ends, _WARM)
        assert ends[1].get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        return ends  # type: ignore[no-any-return]

    connections = {
        name: loop.run_until_complete(opened(api)) for name, api in (("mptcp", aio), ("tcp", asyncio))
    }
    statuses = [mp.status(ends[1]) for ends in connections.values()]
    if statuses != [mp.Status.MPTCP, mp.Status.TCP]:
        raise RuntimeError(f"these are {statuses}")

    def variant(name: str) -> Callable[[int], None]:
        return lambda n: loop.run_until_complete(_exchange(connections[name], n * _EXCHANGES))

    costs = interleave({name: variant(name) for name in connections}, scale.rounds, time.perf_counter_ns)
    if statistics.median(costs.of["tcp"]) > _EXCHANGES * _LATENCY_WITHOUT_NODELAY * 1e9:
        raise RuntimeError("the TCP side waits: it is no measure")
    for _, writer in connections.values():
        writer.transport.abort()
    return costs


async def _connects(
    create: Callable[..., Awaitable[tuple[asyncio.Transport, object]]], server: socket.socket
) -> float:
    """The median of many, in ns, of the connection alone; nobody but the kernel is at the other end."""
    took = []
    for _ in range(_CONNECTIONS):
        begun = time.perf_counter_ns()
        transport, _ = await create(asyncio.Protocol, *server.getsockname())
        took.append(time.perf_counter_ns() - begun)
        transport.abort()
        server.accept()[0].close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return statistics.median(took)


def _connecting(loop: asyncio.AbstractEventLoop, scale: Scale) -> Costs:
    with mp.create_server(("127.0.0.1", 0)) as mptcp, socket.create_server(("127.0.0.1", 0)) as tcp:
        ways = {
            "mptcp": lambda: loop.run_until_complete(_connects(aio.create_connection, mptcp)),
            "tcp": lambda: loop.run_until_complete(_connects(loop.create_connection, tcp)),
        }
        return in_turns(ways, scale.rounds)


def on_asyncio(scale: Scale) -> Measured:
    """T25 and T26."""
    loop = asyncio.SelectorEventLoop()
    ratios = _two_writes(loop, scale).table({"T25": "mptcp / tcp"})
    return Measured(ratios | _connecting(loop, scale).table({"T26": "mptcp / tcp"}))


def on_uvloop(scale: Scale) -> Measured:
    """T25u."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        raise Missing("no uvloop: pip install '.[bench]'") from None
    return Measured(_two_writes(uvloop.new_event_loop(), scale).table({"T25u": "mptcp / tcp"}))
