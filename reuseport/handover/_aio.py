# SPDX-License-Identifier: MIT
"""Retire the listeners of an event loop: asyncio's own, or uvloop's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ._retiring import LOOK, HasFileno, Retirement, RetireReport, as_list, as_sockets, readable, settle

_ROUNDS = (
    4  # of the loop, until who was accepted has a transport, connection_made(), and a task of its handler
)


class Server(Protocol):
    """What asyncio.start_server() and loop.create_server() return, on any loop."""

    @property
    def sockets(self) -> Sequence[HasFileno]: ...

    def close(self) -> None: ...


async def retire_server(
    server: Server | HasFileno | Sequence[HasFileno],
    timeout: float,
    *,
    steer: Callable[[], None] | None = None,
    shared: bool | None = None,
) -> RetireReport:
    """Stop the server of an event loop from listening, and lose no connection. As retire(), for asyncio.

    The loop goes on, and serves who waits by the server's own protocol. Then the server is closed; the
    connections that it has are not touched.

    server: a server, on which close() is called in the end, or its listening sockets. Sockets belong to the
    loop, or to a loop of ``sock_accept()``: they are left open for their owner, who should close them next.

    timeout, steer and shared are as for retire(). With shared=True the server only stops accepting, in an
    order in which asyncio drops none of those that it has just accepted.
    """
    import asyncio  # not everybody who retires has a loop

    loop = asyncio.get_running_loop()
    close = getattr(server, "close", None) if hasattr(server, "sockets") else None
    given = as_list(server.sockets if close else server)  # type: ignore[union-attr, arg-type]
    unserved = False
    with as_sockets(given) as socks:
        retirement = Retirement(socks, timeout)
        if steer:
            steer()
        if not shared:
            await loop.run_in_executor(None, settle)
            retirement.note_handshakes()
            while retirement.has_handshakes():
                await asyncio.sleep(LOOK)
            retirement.step_aside(shared)
            await loop.run_in_executor(None, settle)
            while (unserved := bool(readable(socks, 0))) and time.monotonic() < retirement.until:
                await asyncio.sleep(LOOK)
    if close:
        for one in given:
            # Accept nothing more. A loop that has no reader for its listener (uvloop) accepts in one piece.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.remove_reader(one.fileno())
    # asyncio accepts now, and makes the transport in a task of the next round. Server.close() in between
    # makes that fail, without a word, and the client is dropped.
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
    if close:
        close()
    return retirement.report(0, unserved)
