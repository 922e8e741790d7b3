# SPDX-License-Identifier: MIT
"""asyncio over MPTCP: connections and servers, on the event loops of asyncio and of uvloop.

    await open_connection(host, port)                 as asyncio.open_connection()
    await start_server(client_connected_cb, host, port)
                                                      as asyncio.start_server()
    await create_connection(protocol_factory, host, port)
    await create_server(protocol_factory, host, port) as the methods of the loop
    await connect(host, port)                         a connected socket
    loop_class(base)                                  an event loop whose connections and servers are MPTCP

They take the arguments of the standard library's functions in the running Python, raise the same errors, and
have two keywords more, as create_socket():

    fallback=True  use TCP where MPTCP is refused here; False raises an OSError
    nodelay=True   set TCP_NODELAY, as asyncio does for TCP; False leaves it off (uvloop always sets it)

status(writer) and the other readers take what they return. ``import mptcp_sockopt`` does not import this
module. Call them in a running event loop, from its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn, TypeVar, cast, overload

from ._border import IPPROTO_MPTCP
from ._loop_sockets import connect, listeners, set_options
from ._sockets import set_nodelay

__all__ = [
    "connect",
    "create_connection",
    "create_server",
    "loop_class",
    "open_connection",
    "start_server",
]

_T = TypeVar("_T")
_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_L = TypeVar("_L", bound=asyncio.AbstractEventLoop)
_Host = str | None
_Port = int | str | None


def _known(method: Callable[..., object], *names: str) -> frozenset[str]:
    """Those keywords that the method has in the running Python. The loop refuses the others."""
    return frozenset(names) & inspect.signature(method).parameters.keys()


# Keywords that the loop is not given, as its socket is connected or bound already.
_CONNECTING = _known(
    asyncio.BaseEventLoop.create_connection,
    *("family", "proto", "flags", "local_addr", "happy_eyeballs_delay", "interleave", "all_errors"),
)
_LISTENING = _known(
    asyncio.BaseEventLoop.create_server, "family", "flags", "reuse_address", "reuse_port", "keep_alive"
)
# There is no MPTCP for another protocol, such as SCTP.
_PROTOCOLS = (0, socket.IPPROTO_TCP, IPPROTO_MPTCP)


# ------------------------------------------------------------------------------------------- connections


async def create_connection(
    protocol_factory: Callable[[], _P],
    host: _Host = None,
    port: _Port = None,
    *,
    fallback: bool = True,
    nodelay: bool = True,
    **keywords: Any,
) -> tuple[asyncio.Transport, _P]:
    """``loop.create_connection()`` with MPTCP: the transport and the protocol.

    A socket that is given as ``sock=`` stays what it is; nodelay sets TCP_NODELAY on it.
    """
    create: Callable[..., Awaitable[tuple[asyncio.Transport, _P]]] = _standard().create_connection
    sock = keywords.get("sock")
    if sock is not None or (host is None and port is None):
        _prepare(sock, nodelay)
        rest = {name: value for name, value in keywords.items() if name not in _CONNECTING}
        return await create(protocol_factory, host, port, **rest)
    if keywords.get("proto", 0) not in _PROTOCOLS:
        return await create(protocol_factory, host, port, **keywords)
    own = {name: keywords.pop(name) for name in (*keywords,) if name in _CONNECTING}
    if keywords:
        if keywords.get("ssl") and keywords.get("server_hostname") is None and host:
            keywords["server_hostname"] = host
        await _check(create, keywords)
    own.pop("proto", None)
    keywords["sock"] = sock = await connect(host, port, fallback=fallback, nodelay=nodelay, **own)
    # The loop first waits when it has a transport. From then on, the transport closes the socket.
    waited: list[bool] = []
    handle = asyncio.get_running_loop().call_soon(waited.append, True)
    try:
        return await create(protocol_factory, **keywords)
    except BaseException:
        if not waited:
            handle.cancel()
            sock.close()
        raise


async def open_connection(
    host: _Host = None,
    port: _Port = None,
    *,
    limit: int = 2**16,
    fallback: bool = True,
    nodelay: bool = True,
    **keywords: Any,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """``asyncio.open_connection()`` with MPTCP: the reader and the writer."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_connection(
        lambda: protocol, host, port, fallback=fallback, nodelay=nodelay, **keywords
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


# ------------------------------------------------------------------------------------------------ servers


async def create_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: _Host | Iterable[str] = None,
    port: _Port = None,
    *,
    fallback: bool = True,
    nodelay: bool = True,
    **keywords: Any,
) -> asyncio.Server:
    """``loop.create_server()`` with MPTCP: a server that accepts MPTCP and TCP connections.

    status() of a connection tells which it is. A socket that is given as ``sock=`` stays what it is; nodelay
    sets TCP_NODELAY on it, and reuse_address and keep_alive, which the standard library ignores there, are
    set, too.
    """
    create = _standard().create_server
    own = {name: keywords.pop(name) for name in _LISTENING & keywords.keys()}
    sock = keywords.get("sock")
    if sock is not None:
        set_options(sock, own.get("reuse_address"), own.get("keep_alive"))
        _prepare(sock, nodelay)
    if sock is not None or (host is None and port is None):
        return cast(asyncio.Server, await create(protocol_factory, host, port, **keywords))
    await _check(create, keywords)
    keywords.pop("sock", None)
    begin = keywords.pop("start_serving", True)
    socks = await listeners(host, port, fallback=fallback, nodelay=nodelay, **own)
    servers: list[asyncio.Server] = []
    try:
        for sock in socks:
            # Without a pause in which it could be cancelled, and a server that listens be lost.
            servers.append(await create(protocol_factory, sock=sock, start_serving=False, **keywords))
        server = servers[0] if len(servers) == 1 else cast(asyncio.Server, _Servers(servers))
        if begin:
            await server.start_serving()
    except BaseException:
        for one in servers:
            one.close()
        for sock in socks[len(servers) :]:
            sock.close()
        raise
    return server


async def start_server(
    client_connected_cb: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
    host: _Host | Iterable[str] = None,
    port: _Port = None,
    *,
    limit: int = 2**16,
    fallback: bool = True,
    nodelay: bool = True,
    **keywords: Any,
) -> asyncio.Server:
    """``asyncio.start_server()`` with MPTCP: a server that accepts MPTCP and TCP connections."""
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return await create_server(factory, host, port, fallback=fallback, nodelay=nodelay, **keywords)


class _Servers(asyncio.AbstractServer):
    """Several servers of the loop as one: the loop takes one socket for each."""

    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers

    @property
    def sockets(self) -> tuple[Any, ...]:
        return tuple(sock for server in self._servers for sock in server.sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._servers[0].get_loop()

    def is_serving(self) -> bool:
        return any(server.is_serving() for server in self._servers)

    def close(self) -> None:
        for server in self._servers:
            server.close()

    async def start_serving(self) -> None:
        for server in self._servers:
            await server.start_serving()

    async def serve_forever(self) -> None:
        try:
            await asyncio.gather(*(server.serve_forever() for server in self._servers))
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    async def wait_closed(self) -> None:
        for server in self._servers:
            await server.wait_closed()

    if sys.version_info >= (3, 13):

        def close_clients(self) -> None:
            for server in self._servers:
                server.close_clients()

        def abort_clients(self) -> None:
            for server in self._servers:
                server.abort_clients()


# ------------------------------------------------------------------------------------------------ the loop


class _CheckedError(Exception):
    """The loop has accepted the arguments."""


class _Unready:
    """In the place of a socket: the loop looks at its type after it has checked all other arguments."""

    family = socket.AF_INET

    @property
    def type(self) -> NoReturn:
        raise _CheckedError


async def _check(create: Callable[..., Awaitable[object]], keywords: dict[str, Any]) -> None:
    """Have the loop check the arguments before anything is connected or bound."""
    with contextlib.suppress(_CheckedError):
        await create(asyncio.Protocol, **{**keywords, "sock": _Unready()})


def _prepare(sock: Any, nodelay: bool) -> None:
    """TCP_NODELAY on a socket of the caller's; asyncio sets it if its ``proto`` is IPPROTO_TCP only."""
    if nodelay and getattr(sock, "family", None) in (socket.AF_INET, socket.AF_INET6):
        set_nodelay(sock)


class _MPTCPLoop:
    """What comes before the methods of the standard library in loop_class()."""

    async def create_connection(self, *arguments: Any, **keywords: Any) -> Any:
        return await create_connection(*arguments, **keywords)

    async def create_server(self, *arguments: Any, **keywords: Any) -> Any:
        return await create_server(*arguments, **keywords)


def _standard() -> Any:
    """The running loop, with the methods of its own class if it is of loop_class()."""
    loop = asyncio.get_running_loop()
    return super(_MPTCPLoop, loop) if isinstance(loop, _MPTCPLoop) else loop


@overload
def loop_class() -> type[asyncio.SelectorEventLoop]: ...
@overload
def loop_class(base: type[_L]) -> type[_L]: ...
def loop_class(base: type[Any] = asyncio.SelectorEventLoop) -> type[Any]:
    """A subclass of an event loop's class, with create_connection() and create_server() of this module.

    What opens its connections and servers by these methods speaks MPTCP without a change: asyncio's own
    streams and most libraries.

        with asyncio.Runner(loop_factory=aio.loop_class()) as runner: ...
        with asyncio.Runner(loop_factory=aio.loop_class(uvloop.Loop)) as runner: ...
    """
    if not (isinstance(base, type) and issubclass(base, asyncio.AbstractEventLoop)):
        raise TypeError(f"loop_class() takes the class of an event loop, not {base!r}")
    if issubclass(base, _MPTCPLoop):
        return base
    words = {"__doc__": f"{base.__name__} with MPTCP.", "__module__": __name__}
    return type(f"MPTCP{base.__name__}", (_MPTCPLoop, base), words)


def _sign(ours: Callable[..., object], theirs: Callable[..., object]) -> None:
    """Show the keywords of the running Python, and our two, for help() and inspect.signature()."""
    mine = inspect.signature(ours).parameters
    parameters = [one for name, one in inspect.signature(theirs).parameters.items() if name != "self"]
    where = len(parameters) - (parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    parameters[where:where] = [mine["fallback"], mine["nodelay"]]
    ours.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]


connect.__module__ = __name__
_sign(create_connection, asyncio.BaseEventLoop.create_connection)
_sign(create_server, asyncio.BaseEventLoop.create_server)
_sign(open_connection, asyncio.open_connection)
_sign(start_server, asyncio.start_server)
