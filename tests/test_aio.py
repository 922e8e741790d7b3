# SPDX-License-Identifier: MIT
"""asyncio over MPTCP, on asyncio's loop and on uvloop's: both ends of connections, with and without TLS."""

from __future__ import annotations

import asyncio
import errno
import inspect
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import aio

from .loops import LOOPS, Loop, descriptors, echo, loop_of, run
from .support import LOOPBACK, in_private_network, where_refused
from .test_sockets import SWITCH, nodelay
from .tls import contexts


@pytest.fixture(params=LOOPS)
def base(request: pytest.FixtureRequest) -> Loop:
    """The class of a loop."""
    return loop_of(request.param)


@pytest.fixture
def host(family: int) -> str:
    """A loopback address, of IPv4 and of IPv6."""
    return LOOPBACK[socket.AddressFamily(family)]


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def told(transport: Any) -> tuple[mp.Status, int]:
    return mp.status(transport), nodelay(transport.get_extra_info("socket"))


async def exchanged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[mp.Status, int]:
    """What the client's end is, when a word has come back."""
    writer.write(b"word")
    assert await reader.readexactly(4) == b"word"
    found = told(writer)
    writer.close()
    await writer.wait_closed()
    return found


class Accepted:
    """An echo server's callback that remembers what it accepted."""

    def __init__(self) -> None:
        self.ends: list[tuple[mp.Status, int]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ends.append(told(writer))
        await echo(reader, writer)


# ------------------------------------------------------------------------------------- what it connects


def test_streams_are_mptcp_at_both_ends(base: Loop, host: str) -> None:
    """And have TCP_NODELAY."""

    async def main() -> None:
        accepted = Accepted()
        async with await aio.start_server(accepted, host, 0) as server:
            found = await exchanged(*await aio.open_connection(host, port_of(server)))
        assert [found, *accepted.ends] == [(mp.Status.MPTCP, 1)] * 2

    run(base, main)


@pytest.mark.parametrize("through_loop", [False, True], ids=["functions", "loop_class"])
def test_tls(base: Loop, host: str, through_loop: bool) -> None:
    """The name of the host is checked, as a server_hostname is that is given instead."""
    serving, trusting = contexts()
    api: Any = asyncio if through_loop else aio

    async def main() -> None:
        accepted = Accepted()
        async with await api.start_server(accepted, host, 0, ssl=serving) as server:
            port = port_of(server)
            for words in ({}, {"server_hostname": "localhost"}):
                found = await exchanged(*await api.open_connection(host, port, ssl=trusting, **words))
                assert found == (mp.Status.MPTCP, 1)
            with pytest.raises(Exception, match="mismatch"):
                await api.open_connection(host, port, ssl=trusting, server_hostname="example.org")
            assert accepted.ends == [(mp.Status.MPTCP, 1)] * 2

    run(aio.loop_class(base) if through_loop else base, main)


def test_plain_tcp_peers(base: Loop, host: str) -> None:
    """A TCP server makes the client fall back; a server tells TCP clients from MPTCP ones."""

    async def main() -> None:
        async with await asyncio.start_server(echo, host, 0) as server:
            found = await exchanged(*await aio.open_connection(host, port_of(server)))
            assert found == (mp.Status.FALLBACK, 1)
        accepted = Accepted()
        async with await aio.start_server(accepted, host, 0) as server:
            found = await exchanged(*await asyncio.open_connection(host, port_of(server)))
            assert [found, *accepted.ends] == [(mp.Status.TCP, 1)] * 2

    run(base, main)


def test_nodelay_can_be_left_off(host: str) -> None:
    """On asyncio, at both ends and for all four functions; uvloop sets it always."""

    async def main() -> None:
        accepted = Accepted()
        async with await aio.start_server(accepted, host, 0, nodelay=False) as server:
            port = port_of(server)
            found = await exchanged(*await aio.open_connection(host, port, nodelay=False))
            assert [found, *accepted.ends] == [(mp.Status.MPTCP, 0)] * 2
            with await aio.connect(host, port, nodelay=False) as sock:
                assert nodelay(sock) == 0

    for base in (asyncio.SelectorEventLoop, aio.loop_class()):
        run(base, main)


def test_a_protocol_s_connection(base: Loop, host: str) -> None:
    """create_connection() gives its transport and the protocol that the factory made, once."""

    async def main() -> None:
        made: list[asyncio.Protocol] = []

        def factory() -> asyncio.Protocol:
            made.append(asyncio.Protocol())
            return made[-1]

        ended = asyncio.get_running_loop().create_future()

        class Ending(asyncio.Protocol):
            def connection_lost(self, error: Exception | None) -> None:
                ended.set_result(error)

        async with await aio.create_server(Ending, host, 0) as server:
            transport, protocol = await aio.create_connection(factory, host, port_of(server))
            assert made == [protocol]
            assert told(transport) == (mp.Status.MPTCP, 1)
            transport.close()
            assert await ended is None

    run(base, main)


def test_a_connected_socket(base: Loop, host: str) -> None:
    """connect() gives one that asyncio takes as sock=, too, from a local address that was asked for."""

    async def main() -> None:
        async with await aio.start_server(echo, host, 0) as server:
            sock = await aio.connect(host, port_of(server), local_addr=(host, 0))
            assert (sock.getblocking(), sock.proto) == (False, socket.IPPROTO_TCP)
            assert sock.getsockname()[0] == host
            assert await exchanged(*await asyncio.open_connection(sock=sock)) == (mp.Status.MPTCP, 1)

    run(base, main)


def test_names_and_several_addresses(base: Loop, mptcp: None) -> None:
    """A server of several addresses is one server, and each of them has a socket."""

    async def main() -> None:
        hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
        accepted = Accepted()
        server = await aio.start_server(accepted, hosts, 0, start_serving=False)
        assert [sock.getsockname()[0] for sock in server.sockets] == hosts[:2]
        assert not server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        await server.start_serving()
        assert server.is_serving()
        for sock in server.sockets:
            found = await exchanged(*await aio.open_connection(*sock.getsockname()))
            assert found == (mp.Status.MPTCP, 1)
        if base is asyncio.SelectorEventLoop and sys.version_info >= (3, 13):
            server.close_clients()
            server.abort_clients()
        task = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()
        assert server.sockets == ()
        async with await aio.start_server(echo, "localhost", 0) as server:
            address = next(sock.getsockname() for sock in server.sockets if sock.family == socket.AF_INET)
            assert (await exchanged(*await aio.open_connection("localhost", address[1])))[1] == 1

    run(base, main)


def test_an_address_that_is_not_here_is_left_out(mptcp: None) -> None:
    """As asyncio does from Python 3.12 on: its family may be switched off."""

    async def main() -> list[str]:
        async with await aio.create_server(asyncio.Protocol, ["192.0.2.1", "127.0.0.1"], 0) as server:
            return [sock.getsockname()[0] for sock in server.sockets]

    assert in_private_network(lambda: run(asyncio.SelectorEventLoop, main)) == ["127.0.0.1"]


@pytest.mark.parametrize("nowhere", [None, ""])
def test_a_server_of_every_address(base: Loop, nowhere: str | None, mptcp: None) -> None:
    """Without a host, a socket of each family on its own: IPv4 clients keep their addresses."""

    async def main() -> None:
        async with await aio.create_server(asyncio.Protocol, nowhere, 0) as server:
            families = {sock.family: sock.getsockname()[:2] for sock in server.sockets}
            assert families[socket.AF_INET][0] == "0.0.0.0"
            assert families.get(socket.AF_INET6, ("::", 0))[0] == "::"
            if socket.AF_INET6 in families:
                with pytest.raises(ConnectionRefusedError):
                    await aio.connect("127.0.0.1", families[socket.AF_INET6][1])
            sock = await aio.connect("127.0.0.1", families[socket.AF_INET][1])
            assert mp.status(sock) is mp.Status.MPTCP
            sock.close()

    run(base, main)


# ------------------------------------------------------------------------------------------- loop_class()


def test_loop_class(base: Loop, host: str) -> None:
    """asyncio's own functions speak MPTCP on it; ours do not nest."""
    speaking = aio.loop_class(base)
    assert issubclass(speaking, base)
    assert speaking.__name__ == f"MPTCP{base.__name__}"
    assert aio.loop_class(speaking) is speaking

    async def main() -> None:
        for api in (asyncio, aio):
            accepted = Accepted()
            async with await api.start_server(accepted, host, 0) as server:
                found = await exchanged(*await api.open_connection(host, port_of(server)))
            assert [found, *accepted.ends] == [(mp.Status.MPTCP, 1)] * 2

    run(speaking, main)


def test_loop_class_by_a_runner(mptcp: None) -> None:
    """As its docstring has it, from Python 3.11."""

    async def main() -> mp.Status:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            return (await exchanged(*await asyncio.open_connection("127.0.0.1", port_of(server))))[0]

    if sys.version_info < (3, 11):
        pytest.skip("asyncio.Runner (Python 3.11)")
    with asyncio.Runner(loop_factory=aio.loop_class()) as runner:
        assert runner.run(main()) is mp.Status.MPTCP


@pytest.mark.parametrize("base", [None, 3, int, asyncio.SelectorEventLoop.create_connection])
def test_loop_class_refuses_what_is_no_loop(base: Any) -> None:
    """With a sentence."""
    with pytest.raises(TypeError, match=r"loop_class\(\) takes the class of an event loop, not "):
        aio.loop_class(base)


# ----------------------------------------------------------------------------- sockets of the caller's own


@pytest.mark.parametrize("through_loop", [False, True], ids=["functions", "loop_class"])
def test_a_socket_of_the_caller_s(base: Loop, host: str, family: int, through_loop: bool) -> None:
    """sock= is passed on, with TCP_NODELAY, though its proto is 262; own keywords have no meaning there."""
    api: Any = asyncio if through_loop else aio

    async def main() -> None:
        accepted = Accepted()
        listener = mp.create_server((host, 0), family=family, nodelay=False)
        async with await api.start_server(accepted, sock=listener) as server:
            sock = mp.create_connection((host, port_of(server)), nodelay=False)
            assert sock.proto == mp.IPPROTO_MPTCP
            found = await exchanged(*await api.open_connection(sock=sock, family=socket.AF_INET))
        assert [found, *accepted.ends] == [(mp.Status.MPTCP, 1)] * 2

    run(aio.loop_class(base) if through_loop else base, main)


def test_another_protocol_is_the_loop_s(mptcp: None) -> None:
    """proto= of TCP and MPTCP gives MPTCP; any other is left to the loop."""

    async def main() -> None:
        async with await aio.start_server(echo, "127.0.0.1", 0) as server:
            for proto in (socket.IPPROTO_TCP, mp.IPPROTO_MPTCP):
                ends = await aio.open_connection("127.0.0.1", port_of(server), proto=proto)
                assert (await exchanged(*ends))[0] is mp.Status.MPTCP
            # asyncio makes that TCP, with a numeric host.
            ends = await aio.open_connection("127.0.0.1", port_of(server), proto=socket.IPPROTO_UDP)
            assert (await exchanged(*ends))[0] is mp.Status.TCP

    run(asyncio.SelectorEventLoop, main)


def options(sock: Any) -> tuple[int, int, int]:
    names = (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_KEEPALIVE)
    found = [sock.getsockopt(socket.SOL_SOCKET, name) for name in names]
    return found[0], found[1], found[2]


def test_options_of_a_server(base: Loop, family: int, host: str) -> None:
    """reuse_address is on unless it is switched off; a socket of the caller's gets what was asked for."""
    has_keep_alive = "keep_alive" in inspect.signature(aio.create_server).parameters

    async def asked(**words: Any) -> tuple[int, int, int]:
        async with await aio.create_server(asyncio.Protocol, **words) as server:
            return options(server.sockets[0])

    async def main() -> None:
        assert await asked(host=host, port=0) == (1, 0, 0)
        assert await asked(host=host, port=0, reuse_address=False) == (0, 0, 0)
        assert await asked(host=host, port=0, reuse_port=True) == (1, 1, 0)

        def own() -> socket.socket:
            sock = mp.create_socket(family)
            sock.bind((host, 0))
            return sock

        assert await asked(sock=own()) == (0, 0, 0)
        assert await asked(sock=own(), reuse_address=True) == (1, 0, 0)
        if has_keep_alive:
            assert await asked(host=host, port=0, keep_alive=True) == (1, 0, 1)
            assert await asked(sock=own(), keep_alive=True) == (0, 0, 1)
        else:
            with pytest.raises(TypeError, match="keep_alive"):
                await asked(host=host, port=0, keep_alive=True)

    run(base, main)


def test_the_backlog_is_the_listener_s(base: Loop, host: str) -> None:
    """The kernel keeps it in the listener's tcp_info, as `sacked`."""

    async def main() -> None:
        async with await aio.create_server(asyncio.Protocol, host, 0, backlog=7) as server:
            (path,) = mp.snapshot(server.sockets[0]).subflows
            assert path.tcp_info.sacked == 7

    run(base, main)


# ------------------------------------------------------------------------------------ where MPTCP is refused


def test_where_mptcp_is_switched_off(base: Loop, mptcp: None) -> None:
    """TCP; without fallback the kernel's error, from every function."""

    async def main() -> None:
        accepted = Accepted()
        async with await aio.start_server(accepted, "127.0.0.1", 0) as server:
            port = port_of(server)
            found = await exchanged(*await aio.open_connection("127.0.0.1", port))
            assert [found, *accepted.ends] == [(mp.Status.TCP, 1)] * 2
            for made in (
                aio.connect("127.0.0.1", port, fallback=False),
                aio.open_connection("127.0.0.1", port, fallback=False),
                aio.create_server(asyncio.Protocol, "127.0.0.1", 0, fallback=False),
            ):
                with pytest.raises(OSError) as caught:
                    await made
                assert caught.value.errno == errno.ENOPROTOOPT

    def inside() -> None:
        SWITCH.write_text("0")
        run(base, main)

    in_private_network(inside)


def test_a_family_that_is_refused_is_told(mptcp: None) -> None:
    """Without fallback, a server that cannot have MPTCP on all addresses does not begin."""

    async def main() -> None:
        before = descriptors()
        with pytest.raises(OSError) as caught:
            await aio.create_server(asyncio.Protocol, ["127.0.0.1", "::1"], 0, fallback=False)
        assert caught.value.errno == errno.EPROTONOSUPPORT
        assert descriptors() == before

    six = {0: socket.AF_INET6, 2: mp.IPPROTO_MPTCP}
    where_refused([("socket", six, errno.EPROTONOSUPPORT)], lambda: run(asyncio.SelectorEventLoop, main))


# ------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (aio.create_connection, asyncio.BaseEventLoop.create_connection),
        (aio.create_server, asyncio.BaseEventLoop.create_server),
        (aio.open_connection, asyncio.open_connection),
        (aio.start_server, asyncio.start_server),
    ],
)
def test_signatures_are_the_standard_library_s(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    """Of the running Python, with two keywords more."""
    mine, standard = inspect.signature(ours).parameters, dict(inspect.signature(theirs).parameters)
    standard.pop("self", None)
    added = [name for name in mine if name not in standard]
    assert added == ["fallback", "nodelay"]
    assert [name for name in mine if name in standard] == list(standard)
    for name in added:
        assert mine[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert mine[name].default is True
    for name, parameter in standard.items():
        assert (mine[name].kind, mine[name].default) == (parameter.kind, parameter.default), name
