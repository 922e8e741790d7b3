# SPDX-License-Identifier: MIT
"""``python -m tests.recipes.peers``: servers for the recipes of clients, each over MPTCP and over TCP.

Prints their ports as JSON, {"mptcp": {"http": 40001, ...}, "tcp": ...}, and ends when stdin does. Listeners
are dual-stack and have TCP_NODELAY, which accepted sockets inherit. Answers name the statuses of both ends,
which are looked up once for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import socket
import sys
from typing import Any

import mptcp_sockopt as mp

from .ends import answer


def listener(protocol: str) -> socket.socket:
    create = mp.create_server if protocol == "mptcp" else socket.create_server
    sock = create(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return mp.as_tcp(sock)


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Head and body are written one after the other, as many servers do."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        body = b""
        while await reader.readuntil(b"\r\n\r\n"):
            body = body or answer(writer.get_extra_info("socket"))
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode())
            writer.write(body)
    writer.close()


async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A line for each that it gets."""
    with contextlib.suppress(ConnectionError):
        line = b""
        while await reader.readline():
            line = line or answer(writer.get_extra_info("socket")) + b"\n"
            writer.write(line)
    writer.close()


async def websocket(sock: socket.socket) -> None:
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

    async def each(connection: Any) -> None:
        found = answer(connection.transport.get_extra_info("socket")).decode()
        with contextlib.suppress(ConnectionClosed):
            async for _ in connection:
                await connection.send(found)

    await serve(each, sock=sock)


async def ssh(sock: socket.socket) -> None:
    """A server that lets everybody in, and whose commands answer each line."""
    import asyncssh

    class Open(asyncssh.SSHServer):  # type: ignore[misc]
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return True

    async def command(process: Any) -> None:
        found = answer(process.get_extra_info("socket")).decode()
        async for _ in process.stdin:
            process.stdout.write(found + "\n")

    keys = [asyncssh.generate_private_key("ssh-ed25519")]
    await asyncssh.listen(sock=sock, server_factory=Open, server_host_keys=keys, process_factory=command)


async def main() -> None:
    ports: dict[str, dict[str, int]] = {}
    for protocol in ("mptcp", "tcp"):
        services: dict[str, Any] = {"http": http, "lines": lines}
        sockets = {name: listener(protocol) for name in ("http", "lines", "websocket", "ssh")}
        for name, service in services.items():
            await asyncio.start_server(service, sock=sockets[name])
        if importlib.util.find_spec("websockets"):
            await websocket(sockets["websocket"])
        if importlib.util.find_spec("asyncssh"):
            await ssh(sockets["ssh"])
        ports[protocol] = {name: sock.getsockname()[1] for name, sock in sockets.items()}
    print(json.dumps(ports), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
