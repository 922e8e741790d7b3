# SPDX-License-Identifier: MIT
"""A program that tests/test_aio_life.py starts under ``python -X dev -W error``: connections and servers that
are made, and cancelled at every step. It prints how many sockets are left; nothing else may be said.

    python -m tests.aio_life LOOP CASE TIMES
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import aio, testing

from .loops import Loop, descriptors, echo, loop_of, run
from .tls import contexts

RACED: dict[str, Any] = {"happy_eyeballs_delay": 0.0}
# As many turns of the loop as a connection takes with TLS, and more.
STEPS = 40


async def ended(made: Awaitable[Any]) -> None:
    """Close what is made, if it is."""
    with contextlib.suppress(OSError):
        result = await made
        if isinstance(result, socket.socket):
            result.close()
        elif isinstance(result, tuple):
            result[1].close()
            with contextlib.suppress(OSError):
                await result[1].wait_closed()
        else:
            result.close()
            await result.wait_closed()


async def cancelled(make: Callable[[], Awaitable[Any]], step: int) -> bool:
    """Cancel it after so many turns of the loop; whether it had ended before."""
    task = asyncio.ensure_future(make())
    for _ in range(step):
        await asyncio.sleep(0)
    early = task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ended(task)
    return early


async def at_every_step(make: Callable[[], Awaitable[Any]], times: int) -> None:
    for step in range(STEPS):
        early = [await cancelled(make, step) for _ in range(times)]
        if all(early):
            return


async def by_fifty(make: Callable[[], Awaitable[Any]], times: int) -> None:
    for _ in range(times // 50):
        await asyncio.gather(*(ended(make()) for _ in range(50)))


async def connects(times: int) -> None:
    """Streams, sockets, and what is refused."""
    async with await aio.start_server(echo, ["127.0.0.1", "127.0.0.2"], 0, backlog=1000) as server:
        port = server.sockets[0].getsockname()[1]
        dead = await aio.connect("127.0.0.1", port)
        await by_fifty(functools.partial(aio.open_connection, "127.0.0.1", port), times)
        await by_fifty(functools.partial(aio.connect, "127.0.0.1", port, **RACED), 100)
        await by_fifty(functools.partial(aio.open_connection, "localhost", dead.getsockname()[1]), 100)
        dead.close()


def but_of_servers(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A client that goes away in the middle of TLS is an error that a server in debug mode tells."""
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)


async def cancels(times: int) -> None:
    """Of every kind, with and without TLS, one address and several; servers, too."""
    asyncio.get_running_loop().set_exception_handler(but_of_servers)
    serving, trusting = contexts()
    for plain in (True, False):
        of_server: dict[str, Any] = {} if plain else {"ssl": serving}
        ssl: dict[str, Any] = {} if plain else {"ssl": trusting}
        async with await aio.start_server(echo, "127.0.0.1", 0, backlog=1000, **of_server) as server:
            host, port = server.sockets[0].getsockname()
            for words in (dict[str, Any](), RACED):
                await at_every_step(functools.partial(aio.open_connection, host, port, **ssl, **words), times)
                opened = functools.partial(aio.open_connection, "localhost", port, **ssl, **words)
                await at_every_step(opened, max(1, times // 10))
            await at_every_step(functools.partial(aio.connect, host, port), times)
    for hosts in ("127.0.0.1", ["127.0.0.1", "127.0.0.2"], "localhost"):
        await at_every_step(functools.partial(aio.start_server, echo, hosts, 0), max(1, times // 10))


async def beside_a_hole(hole: str, times: int) -> None:
    """The address that does not answer, before one that does; and alone, until the caller gives up."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo
    async with await aio.start_server(echo, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()

        async def both(name: Any, *words: Any, **keywords: Any) -> Any:
            if name != "dual.test":
                return await resolve(name, *words, **keywords)
            infos = await resolve(host, port, type=socket.SOCK_STREAM)
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (hole, port, 0, 0)), *infos]

        setattr(loop, "getaddrinfo", both)  # noqa: B010
        begun = loop.time()
        _, writer = await aio.open_connection("dual.test", port, happy_eyeballs_delay=0.05)
        taken = loop.time() - begun
        assert 0.04 < taken < 2, taken
        assert mp.status(writer) is mp.Status.MPTCP
        writer.close()
        await writer.wait_closed()
        made = functools.partial(aio.open_connection, "dual.test", port)
        await at_every_step(functools.partial(made, happy_eyeballs_delay=0.0005), times)
        for step in (1, 5, 20):
            assert not await cancelled(made, step)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(made(), 0.01)


def black_hole(base: Loop, times: int) -> int:
    """IPv6 over a path that is cut; IPv4 on the loopback interface."""

    def inside() -> int:
        with testing.Paths(1, family=socket.AF_INET6) as paths:
            paths.cut(0)
            with paths.client:
                return churned(base, functools.partial(beside_a_hole, paths.server_addresses[0], times))

    return testing.in_private_network(inside)


def churned(base: Loop, work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """How many sockets are left."""

    async def slowly() -> None:
        asyncio.get_running_loop().slow_callback_duration = 60.0  # on a busy machine, nothing is quick
        await work()

    before = descriptors()
    run(base, slowly, within=900)
    gc.collect()
    return descriptors() - before


def main(name: str, case: str, times: str) -> int:
    logging.basicConfig(level=logging.WARNING)
    base = loop_of(name)
    if case == "black_hole":
        print(black_hole(base, int(times)))
    else:
        print(churned(base, functools.partial(globals()[case], int(times))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
