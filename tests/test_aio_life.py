# SPDX-License-Identifier: MIT
"""No descriptor is left, nothing is said under ``python -X dev -W error``; and who closes which socket."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import aio

from . import support
from .loops import LOOPS, descriptors, echo, loop_of, run
from .support import rounds
from .tls import contexts


def churned(loop: str, case: str, times: int) -> None:
    """By a program of its own, which says how many sockets are left."""
    loop_of(loop), contexts()
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.aio_life", loop, case, str(times)]
    done = support.run(*command, timeout=900)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("case", ["connects", "cancels", "black_hole"])
def test_a_few_connections_leave_nothing(case: str, mptcp: None) -> None:
    """Made fifty at a time; cancelled at every step; beside an address that does not answer."""
    churned("asyncio", case, {"connects": 50, "cancels": 1, "black_hole": 1}[case])


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("case", "times"), [("connects", 1000), ("cancels", 200), ("black_hole", 20)])
def test_many_connections_leave_nothing(loop: str, case: str, times: int, mptcp: None) -> None:
    """1,000 connections, and 200 cancelled at every step."""
    churned(loop, case, rounds(times))


class Stubborn(asyncio.SelectorEventLoop):
    """An attempt that wins while it is cancelled: the loop connects the socket nevertheless."""

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        await super().sock_connect(sock, address)
        if address[0] == "127.0.0.2":
            try:
                await asyncio.sleep(support.DEADLINE)
            except asyncio.CancelledError:
                SEEN.append(sock)


SEEN: list[socket.socket] = []


def two_addresses(port: int) -> Callable[..., Any]:
    async def resolved(host: Any, *words: Any, **keywords: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (2, 1)]

    return resolved


@pytest.mark.parametrize("cancel", [False, True], ids=["beaten", "cancelled"])
def test_an_attempt_that_wins_while_it_is_cancelled_is_closed(cancel: bool, mptcp: None) -> None:
    """Be it that another has won, or that the caller is cancelled."""

    async def main() -> None:
        SEEN.clear()
        async with await aio.start_server(echo, ["127.0.0.1", "127.0.0.2"], 0, reuse_port=True) as server:
            port = server.sockets[0].getsockname()[1]
            sock = mp.create_server(("127.0.0.2", port))
            setattr(asyncio.get_running_loop(), "getaddrinfo", two_addresses(port))  # noqa: B010
            task = asyncio.create_task(aio.connect("dual.test", port, happy_eyeballs_delay=0.001))
            if cancel:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                winner = await task
                assert winner.getpeername()[0] == "127.0.0.1"
                winner.close()
            for _ in range(5):
                await asyncio.sleep(0)
            assert [one.fileno() for one in SEEN] == [-1] * len(SEEN)
            assert cancel or len(SEEN) == 1
            sock.close()

    run(Stubborn, main)


@pytest.mark.parametrize("name", LOOPS)
def test_two_attempts_that_win_at_once(name: str, mptcp: None) -> None:
    """One socket is given, the other is closed; without a delay both connect in the same turn."""

    async def main() -> None:
        with mp.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with mp.create_server(("127.0.0.2", port)):
                resolve = asyncio.get_running_loop().getaddrinfo
                both = two_addresses(port)

                async def resolved(host: Any, *words: Any, **keywords: Any) -> Any:
                    how = both if host == "dual.test" else resolve
                    return await how(host, *words, **keywords)

                setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)  # noqa: B010
                for _ in range(20):
                    sock = await aio.connect("dual.test", port, happy_eyeballs_delay=0)
                    assert mp.status(sock) is mp.Status.MPTCP
                    sock.close()

    run(loop_of(name), main)


def test_a_protocol_that_is_not_made_leaves_no_socket(mptcp: None) -> None:
    """As when its factory fails; asyncio's own function leaves the socket to the garbage collector."""

    def factory() -> asyncio.Protocol:
        raise ZeroDivisionError

    async def main() -> None:
        with mp.create_server(("127.0.0.1", 0)) as server:
            before = descriptors()
            with pytest.raises(ZeroDivisionError):
                await aio.create_connection(factory, *server.getsockname())
            assert descriptors() == before

    run(asyncio.SelectorEventLoop, main)


def test_a_timeout_that_tls_refuses_leaves_no_socket(mptcp: None) -> None:
    """asyncio looks at it after it has asked for the protocol, and before it has a transport."""
    _, trusting = contexts()

    async def main() -> None:
        with mp.create_server(("127.0.0.1", 0)) as server:
            before = descriptors()
            with pytest.raises(ValueError, match="positive"):
                await aio.open_connection(*server.getsockname(), ssl=trusting, ssl_handshake_timeout=-1)
            assert descriptors() == before

    run(asyncio.SelectorEventLoop, main)


def test_a_transport_keeps_its_socket_when_its_maker_is_cancelled(mptcp: None) -> None:
    """What the protocol wrote before arrives whole, as with asyncio: the socket is not closed underneath."""
    data = bytes(range(256)) * 20_000
    tasks: list[asyncio.Task[Any]] = []

    class Writing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(data)
            tasks[0].cancel()

    async def main() -> None:
        received: list[bytes] = []
        done = asyncio.get_running_loop().create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append(await reader.read(-1))
            writer.close()
            done.set_result(None)

        async with await aio.start_server(take, "127.0.0.1", 0) as server:
            made = aio.create_connection(Writing, *server.sockets[0].getsockname())
            tasks.append(asyncio.create_task(made))
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            await done
            assert received == [data]

    run(asyncio.SelectorEventLoop, main)


def test_a_server_that_is_cancelled_as_it_begins_is_closed(mptcp: None) -> None:
    """asyncio's own function loses it: it goes on listening."""

    async def main() -> None:
        before = descriptors()
        for turns in range(4):
            task = asyncio.create_task(aio.start_server(echo, ["127.0.0.1", "127.0.0.2"], 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.cancel():
                task.result().close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert descriptors() == before, turns

    run(asyncio.SelectorEventLoop, main)
