# SPDX-License-Identifier: MIT
"""How each client library is used, with its recipe and without.

Each function opens a connection to a peer. It is given the recipe, a module of docs/recipes, or None: then it
does what somebody does who knows nothing of MPTCP. It returns two functions: one makes a request, the other
closes. A library is imported where it is used, because each is tried in a process of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

Use = tuple[Callable[[], object], Callable[[], object]]  # a request; close


class Client(NamedTuple):
    """``use(recipe, host, port)``."""

    use: Callable[[Any, str, int], Use]
    service: str  # of the peers
    distribution: str  # its version is in the table; none for the standard library
    title: str  # in the table


CLIENTS: dict[str, Client] = {}  # by the name of the recipe
loops: list[
    asyncio.AbstractEventLoop
] = []  # the one of the clients on asyncio, put here before they are used


def client(service: str, distribution: str, title: str) -> Callable[[Callable[[Any, str, int], Use]], None]:
    def added(use: Callable[[Any, str, int], Use]) -> None:
        CLIENTS[use.__name__] = Client(use, service, distribution, title)

    return added


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return loops[0].run_until_complete(work)


def url(host: str, port: int, scheme: str = "http") -> str:
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


# ------------------------------------------------------------------------------------------------ HTTP


@client("http", "", "http.client")
def http_client(recipe: Any, host: str, port: int) -> Use:
    import http.client

    connection = (recipe.MPTCPConnection if recipe else http.client.HTTPConnection)(host, port, timeout=10)

    def request() -> None:
        connection.request("GET", "/")
        connection.getresponse().read()

    return request, connection.close


@client("http", "urllib3", "urllib3")
def urllib3_client(recipe: Any, host: str, port: int) -> Use:
    import urllib3

    pool = urllib3.PoolManager()
    return lambda: pool.request("GET", url(host, port)), pool.clear


@client("http", "requests", "requests")
def requests_client(recipe: Any, host: str, port: int) -> Use:
    import requests

    session = requests.Session()
    return lambda: session.get(url(host, port)), session.close


@client("http", "niquests", "niquests")
def niquests_client(recipe: Any, host: str, port: int) -> Use:
    import niquests

    session = recipe.session() if recipe else niquests.Session()
    return lambda: session.get(url(host, port)), session.close


@client("http", "httpx", "httpx, sync")
def httpx_client(recipe: Any, host: str, port: int) -> Use:
    import httpx

    session = httpx.Client(transport=recipe.transport() if recipe else None)
    return lambda: session.get(url(host, port)), session.close


@client("http", "httpx", "httpx, async")
def httpx_async_client(recipe: Any, host: str, port: int) -> Use:
    import httpx

    session = httpx.AsyncClient()
    return lambda: run(session.get(url(host, port))), lambda: run(session.aclose())


@client("http", "aiohttp", "aiohttp, client")
def aiohttp_client(recipe: Any, host: str, port: int) -> Use:
    import aiohttp

    async def opened() -> Any:
        return aiohttp.ClientSession(connector=recipe.connector() if recipe else None)

    session = run(opened())

    async def request() -> None:
        async with session.get(url(host, port)) as response:
            await response.read()

    return lambda: run(request()), lambda: run(session.close())


@client("http", "tornado", "tornado, client")
def tornado_client(recipe: Any, host: str, port: int) -> Use:
    """It closes the connection after each request."""
    from tornado.simple_httpclient import SimpleAsyncHTTPClient

    async def opened() -> Any:
        return recipe.client() if recipe else SimpleAsyncHTTPClient(force_instance=True)

    made = run(opened())

    async def request() -> None:
        await made.fetch(url(host, port), streaming_callback=lambda data: look())

    return lambda: run(request()), made.close


look: Callable[[], object] = bool  # called while a connection is open that a request closes


# --------------------------------------------------------------------------------------- other protocols


@client("websocket", "websockets", "websockets, asyncio")
def websockets_client(recipe: Any, host: str, port: int) -> Use:
    from websockets.asyncio.client import connect

    async def opened() -> Any:
        return await (recipe.mptcp_connect if recipe else connect)(url(host, port, "ws"))

    connection = run(opened())

    async def request() -> None:
        await connection.send("hello")
        await connection.recv()

    return lambda: run(request()), lambda: run(connection.close())


@client("websocket", "websockets", "websockets, sync")
def websockets_sync_client(recipe: Any, host: str, port: int) -> Use:
    from websockets.sync.client import connect

    connection = (recipe.mptcp_connect if recipe else connect)(url(host, port, "ws"))

    def request() -> None:
        connection.send("hello")
        connection.recv()

    return request, connection.close


@client("redis", "redis", "redis-py, sync")
def redis_client(recipe: Any, host: str, port: int) -> Use:
    import redis

    made = recipe.client(host, port) if recipe else redis.Redis(host=host, port=port)
    return made.ping, made.close


@client("redis", "redis", "redis-py, asyncio")
def redis_async_client(recipe: Any, host: str, port: int) -> Use:
    import redis.asyncio

    made = redis.asyncio.Redis(host=host, port=port)

    async def request() -> None:
        await made.ping()

    return lambda: run(request()), lambda: run(made.aclose())


@client("postgresql", "asyncpg", "asyncpg")
def asyncpg_client(recipe: Any, host: str, port: int) -> Use:
    import asyncpg

    connection = run(asyncpg.connect(host=host, port=port, user="postgres", database="postgres"))
    return lambda: run(connection.fetchval("select 1")), lambda: run(connection.close())


@client("postgresql", "psycopg", "psycopg (libpq)")
def psycopg_client(recipe: Any, host: str, port: int) -> Use:
    import psycopg

    connection = psycopg.connect(host=host, port=port, user="postgres", dbname="postgres", autocommit=True)
    return lambda: connection.execute("select 1").fetchone(), connection.close


@client("lines", "trio", "trio")
def trio_client(recipe: Any, host: str, port: int) -> Use:
    import trio

    token: list[Any] = []
    ready = threading.Event()

    async def main() -> None:
        if recipe:
            trio.socket.set_custom_socket_factory(recipe.SocketFactory())
        token.append(trio.lowlevel.current_trio_token())
        ready.set()
        await trio.sleep_forever()

    threading.Thread(target=trio.run, args=[main], daemon=True).start()
    ready.wait(10)

    def inside(function: Any, *arguments: Any) -> Any:
        return trio.from_thread.run(function, *arguments, trio_token=token[0])

    stream = inside(trio.open_tcp_stream, host, port)

    async def request() -> None:
        await stream.send_all(b"hello\n")
        await stream.receive_some()

    return lambda: inside(request), lambda: inside(stream.aclose)


@client("lines", "anyio", "anyio")
def anyio_client(recipe: Any, host: str, port: int) -> Use:
    import anyio

    stream = run((recipe.connect if recipe else anyio.connect_tcp)(host, port))

    async def request() -> None:
        await stream.send(b"hello\n")
        await stream.receive()

    return lambda: run(request()), lambda: run(stream.aclose())


@client("ssh", "paramiko", "paramiko")
def paramiko_client(recipe: Any, host: str, port: int) -> Use:
    import paramiko

    made = paramiko.SSHClient()
    made.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    options = {"username": "user", "password": "password", "look_for_keys": False, "allow_agent": False}
    if recipe:
        recipe.connect(made, host, port, **options)
    else:
        made.connect(host, port, **options)
    stdin, stdout, _ = made.exec_command("cat")

    def request() -> None:
        stdin.write("hello\n")
        stdin.flush()
        stdout.readline()

    return request, made.close


@client("ssh", "asyncssh", "asyncssh")
def asyncssh_client(recipe: Any, host: str, port: int) -> Use:
    import asyncssh

    options = {"username": "user", "password": "password", "known_hosts": None, "config": None}

    async def opened() -> Any:
        made = await (recipe.connect if recipe else asyncssh.connect)(host, port, **options)
        return made, await made.create_process("cat")

    connection, process = run(opened())

    async def request() -> None:
        process.stdin.write("hello\n")
        await process.stdout.readline()

    async def close() -> None:
        connection.close()
        await connection.wait_closed()

    return lambda: run(request()), lambda: run(close())


@client("lines", "twisted", "twisted, client")
def twisted_client(recipe: Any, host: str, port: int) -> Use:
    from twisted.internet import defer, protocol, reactor, threads

    made: list[Any] = []
    answered: list[Any] = []
    ready = threading.Event()

    class Lines(protocol.Protocol):  # type: ignore[misc, unused-ignore]  # where there is no twisted
        def connectionMade(self) -> None:  # noqa: N802
            made.append(self)
            ready.set()

        def dataReceived(self, data: bytes) -> None:  # noqa: N802
            answered.pop().callback(data)

    def connect() -> Any:
        if recipe:
            return defer.ensureDeferred(recipe.connect(protocol.Factory.forProtocol(Lines), host, port))
        return reactor.connectTCP(host, port, protocol.ClientFactory.forProtocol(Lines))

    if not reactor.running:
        running = threading.Event()
        reactor.callWhenRunning(running.set)
        threading.Thread(target=reactor.run, args=[False], daemon=True).start()
        running.wait(10)
    threads.blockingCallFromThread(reactor, connect)
    ready.wait(10)

    def ask() -> Any:
        answered.append(defer.Deferred())
        made[0].transport.write(b"hello\n")
        return answered[0]

    def close() -> None:
        threads.blockingCallFromThread(reactor, made[0].transport.loseConnection)

    return lambda: threads.blockingCallFromThread(reactor, ask), close


@client("lines", "gevent", "gevent")
def gevent_client(recipe: Any, host: str, port: int) -> Use:
    """Both sides are patched: that is how gevent is used."""
    import gevent.socket

    import mptcp_sockopt as mp

    sock = (mp.create_connection if recipe else gevent.socket.create_connection)((host, port))
    assert isinstance(sock, gevent.socket.socket)

    def request() -> None:
        sock.sendall(b"hello\n")
        sock.recv(4096)

    return request, sock.close


@client("grpc", "grpcio", "grpcio")
def grpcio_client(recipe: Any, host: str, port: int) -> Use:
    import grpc

    channel = grpc.insecure_channel(url(host, port)[len("http://") : -1])
    hello = channel.unary_unary("/greeter/hello")
    return lambda: hello(b"hello", timeout=10), channel.close
