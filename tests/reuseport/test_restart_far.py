# SPDX-License-Identifier: MIT
"""Restarts of asyncio servers whose clients are a round trip away: handshakes in flight are not lost."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
import time

import pytest

from mptcp_sockopt import testing
from reuseport import steer
from reuseport._diag import syn_received
from reuseport._net import Reuse, listen
from reuseport.handover import Supervisor, Worker, retire_server

from ..support import DEADLINE, in_private_network, until
from .answers import NUMBER

PORT = 80
DELAY = 0.05  # seconds, each way
CLIENTS, EVERY = 250, 0.003  # seconds
RESTARTS = 5


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read(1)
        writer.write(NUMBER.pack(1))
        await writer.drain()
    writer.close()


def work(worker: Worker, *, mptcp: bool, careful: bool) -> None:
    """A generation with a listener of its own. The careless one does not steer, and closes while handshakes
    are in flight, half of which are its own."""
    address = ("0.0.0.0", PORT)
    with contextlib.ExitStack() as stack:
        if careful and worker.first:
            stack.enter_context(steer.newest_wins(address, family=socket.AF_INET))
        listener = listen(address, Reuse.PORT, mptcp=mptcp)

    async def main() -> None:
        server = await asyncio.start_server(answer, sock=listener)
        worker.ready()
        await worker.wait_async()
        if careful:
            report = await retire_server(server, DEADLINE / 2)
            assert not report.late
        else:
            end = time.monotonic() + 1  # the last one, whose load is over
            while len(syn_received(PORT)) < 8 and time.monotonic() < end:
                await asyncio.sleep(0)
            server.close()
        worker.retired()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    asyncio.run(main())


async def load(host: str, begun: mmap.mmap) -> int:
    """How many of the clients, one after another whatever becomes of those before, get no answer.

    begun: of how many the number is, in shared memory.
    """

    async def client() -> bool:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, PORT), DEADLINE / 4)
            writer.write(b"?")
            try:
                return len(await asyncio.wait_for(reader.read(4), DEADLINE / 4)) == 4
            finally:
                writer.close()
        except (OSError, asyncio.TimeoutError):
            return False

    clients = []
    for _ in range(CLIENTS):
        clients.append(asyncio.create_task(client()))
        begun[:4] = NUMBER.pack(len(clients))
        await asyncio.sleep(EVERY)
    return (await asyncio.gather(*clients)).count(False)


def lost(*, mptcp: bool, careful: bool) -> int:
    """Restarts spread over a load."""
    begun = mmap.mmap(-1, mmap.PAGESIZE)
    with testing.Paths(1, delay=DELAY) as paths, paths.server:
        host = paths.server_addresses[0]
        with Supervisor(lambda worker: work(worker, mptcp=mptcp, careful=careful)) as supervisor:
            with paths.client:
                clients = testing.Child(lambda: asyncio.run(load(host, begun)))
            with clients:
                for number in range(RESTARTS):
                    due = int((number + 0.5) * CLIENTS / RESTARTS)
                    until(lambda due=due: NUMBER.unpack(begun[:4])[0] >= due, "clients")  # type: ignore[misc]
                    assert supervisor.restart()
                return clients.result(DEADLINE)


@pytest.mark.parametrize("mptcp", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["tcp", "mptcp"])
def test_handshakes_in_flight_are_served(mptcp: bool) -> None:
    assert in_private_network(lambda: lost(mptcp=mptcp, careful=True)) == 0


def test_without_retire_server_they_are_lost() -> None:
    """The control."""
    assert in_private_network(lambda: lost(mptcp=False, careful=False)) > 0
