# SPDX-License-Identifier: MIT
"""Retiring the server of an event loop: nobody is lost, and the loop is whole. On asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from reuseport._net import LOOPBACK, Reuse, listen, name
from reuseport.handover import RetireReport, retire, retire_server

from .. import loops
from ..support import DEADLINE, in_private_network
from .answers import NUMBER, answer_as, answers, clients

T = TypeVar("T")
LOOP = pytest.mark.parametrize("loop", loops.LOOPS)
BOTH = pytest.mark.parametrize("mptcp", [False, pytest.param(True, marks=pytest.mark.slow)])
Main = Callable[[], Coroutine[Any, Any, T]]
# Ways to name what retires: the server, what the loop shows of its listener, the socket that it was given.
Which = Callable[[asyncio.Server, socket.socket], Any]
WHICH: dict[str, Which] = {
    "server": lambda server, sock: server,
    "sockets": lambda server, sock: server.sockets,
    "one of its sockets": lambda server, sock: server.sockets[0],
    "the raw socket": lambda server, sock: sock,
}


def run(loop: str, main: Main[T]) -> T:
    """On a loop of this kind, which reports no error of its own and leaves nothing behind."""
    told: list[object] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        return await main()

    result = loops.run(loops.loop_of(loop), watched)
    assert told == []
    return result


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As answer_as(7)."""
    if await reader.read(1):
        writer.write(NUMBER.pack(7))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def listener(family: int = socket.AF_INET, *, mptcp: bool = False) -> Iterator[socket.socket]:
    """Closed at the end by the server that it was given to, or else here."""
    sock = listen((LOOPBACK[family], 0), Reuse.PORT, family=family, mptcp=mptcp)
    try:
        yield sock
    finally:
        with contextlib.suppress(OSError):  # uvloop has closed its descriptor
            sock.close()


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


@LOOP
@BOTH
@pytest.mark.parametrize("which", WHICH)
def test_who_waits_is_served_and_the_loop_is_whole(
    which: str, loop: str, mptcp: bool, family: int, request: pytest.FixtureRequest
) -> None:
    """By the server's own protocol; a server is closed, and with a socket, close() works afterwards."""
    if mptcp:
        request.getfixturevalue("mptcp")

    async def main() -> list[int | str]:
        with listener(family, mptcp=mptcp) as sock:
            server = await asyncio.start_server(answer, sock=sock)
            address = name(sock)
            waiting = clients(address, 20, family=family, mptcp=mptcp)  # the loop has accepted none of these
            with listen(address, Reuse.PORT, family=family, mptcp=mptcp):
                report = await retire_server(WHICH[which](server, sock), 5)
                assert server.is_serving() == (which != "server")
                server.close()
                await server.wait_closed()
                assert not server.is_serving()
                assert (report.late, report.unserved) == (0, False)
                return await in_thread(answers, waiting)

    assert run(loop, main) == [7] * 20


@LOOP
def test_a_server_that_closes_at_once_loses_who_waits(loop: str) -> None:
    """The control: the same without retire_server()."""

    async def main() -> list[int | str]:
        with listener() as sock:
            server = await asyncio.start_server(answer, sock=sock)
            waiting = clients(name(sock), 20)
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0)  # uvloop closes in its next round
            return await in_thread(answers, waiting)

    assert run(loop, main) == ["ConnectionResetError"] * 20


def shared_listener(end: Callable[[asyncio.Server], Coroutine[Any, Any, object]]) -> list[int | str]:
    """What clients get from a server that ends when it has just accepted them, and lives on elsewhere."""

    async def main() -> list[int | str]:
        with listener() as sock, sock.dup() as other:
            server = await asyncio.start_server(answer, sock=sock)
            waiting = clients(name(sock), 20)
            before = asyncio.all_tasks()
            while asyncio.all_tasks() == before:  # until those that make the transports wait for their turn
                await asyncio.sleep(0)
            await end(server)
            server.close()
            await asyncio.sleep(0)
            gc.collect()  # the sockets of those that were dropped
            beside = await asyncio.start_server(answer, sock=other)
            found = await in_thread(answers, waiting)
            beside.close()
            await beside.wait_closed()
            return found

    return loops.run(loops.loop_of("asyncio"), main)


def test_who_was_just_accepted_is_served() -> None:
    """asyncio drops those if its server is closed at this moment, though its listener lives on."""

    async def end(server: asyncio.Server) -> None:
        await retire_server(server, 5, shared=True)

    assert shared_listener(end) == [7] * 20


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_asyncio_drops_who_was_just_accepted() -> None:
    """The control. When it lives no more, retire_server() needs no order."""

    async def end(server: asyncio.Server) -> None:
        pass

    assert 7 not in shared_listener(end)


@LOOP
def test_a_shared_listener_is_not_hidden(loop: str) -> None:
    """Nobody said that it is shared: who connects afterwards is served by the other one that has it."""

    async def main() -> list[int | str]:
        with listener() as sock, sock.dup() as other:
            address = name(sock)
            await retire_server(await asyncio.start_server(answer, sock=sock), 5)
            waiting = clients(address, 1)
            beside = await asyncio.start_server(answer, sock=other)
            found = await in_thread(answers, waiting)
            beside.close()
            await beside.wait_closed()
            return found

    assert run(loop, main) == [7]


@LOOP
def test_a_handshake_is_waited_for_and_the_loop_goes_on(loop: str) -> None:
    """With TCP_DEFER_ACCEPT it ends when data comes, which the same loop sends; without any, it is late."""

    async def main() -> tuple[RetireReport, list[int | str], RetireReport]:
        with listener() as sock, listener() as silent:
            for one in (sock, silent):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
            server = await asyncio.start_server(answer, sock=sock)
            other = await asyncio.start_server(answer, sock=silent)
            with (
                socket.create_connection(name(sock), timeout=DEADLINE) as client,
                socket.create_connection(name(silent)),
            ):
                asyncio.get_running_loop().call_later(0.2, client.sendall, b"?")
                served = await retire_server(server, 10)
                late = await retire_server(other, 0.2)
                return served, await in_thread(answers, [client]), late

    def scenario() -> tuple[RetireReport, list[int | str], RetireReport]:
        return run(loop, main)

    served, found, late = in_private_network(scenario)
    assert (served.snapshot, served.late, found) == (1, 0, [7])
    assert served.seconds >= 0.2
    assert (late.snapshot, late.late) == (1, 1)
    assert 0.2 <= late.seconds < 20


@LOOP
def test_a_loop_of_sock_accept(loop: str) -> None:
    """Such a program accepts while retire_server() waits, and then closes its listener by itself."""

    async def main() -> list[int | str]:
        served: list[asyncio.Task[None]] = []

        async def accept(sock: socket.socket) -> None:
            while True:
                accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
                # A task of its own, because this one is cancelled.
                served.append(asyncio.create_task(in_thread(answer_as(5), accepted)))
                await asyncio.sleep(0.05)  # it takes its time, so that some wait when they are looked for

        with listener() as sock:
            sock.setblocking(False)
            waiting = clients(name(sock), 5)
            for one in waiting:
                one.setblocking(True)
            task = asyncio.create_task(accept(sock))
            report = await retire_server(sock, 10)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert not report.unserved
        await asyncio.gather(*served)
        return await in_thread(answers, waiting)

    assert run(loop, main) == [5] * 5


@LOOP
def test_established_connections_are_not_touched(loop: str) -> None:
    """They go on after the server is closed."""

    async def main() -> bytes:
        with listener() as sock:
            server = await asyncio.start_server(loops.echo, sock=sock)
            reader, writer = await asyncio.open_connection(*name(sock))
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            await retire_server(server, 5)
            writer.write(b"after")
            found = await reader.readexactly(5)
            writer.close()
            await writer.wait_closed()
            return found

    assert run(loop, main) == b"after"


def test_a_closed_server_is_retired() -> None:
    """It has no listener any more."""

    async def main() -> RetireReport:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        server.close()
        return await retire_server(server, 5)

    assert run("asyncio", main)[:3] == (0, 0, 0)


def test_retire_inside_a_loop_leaves_the_listener_to_it() -> None:
    """The function that blocks the loop: it serves who waits by itself, and closes nothing of the loop's."""

    async def main() -> list[int | str]:
        with listener() as sock:
            server = await asyncio.start_server(answer, sock=sock)
            waiting = clients(name(sock), 2)
            assert retire(server.sockets[0], 1, answer_as(1)).drained == 2
            waiting += clients(name(sock), 2)
            assert retire(sock, 1, answer_as(2)).drained == 2
            server.close()
            await server.wait_closed()
            return await in_thread(answers, waiting)

    assert run("asyncio", main) == [1, 1, 2, 2]
