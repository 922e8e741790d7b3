# SPDX-License-Identifier: MIT
"""How each server is started, and how a client asks it, over MPTCP or TCP."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from typing import NamedTuple

import mptcp_sockopt as mp

from ..support import DEADLINE

Asking = Callable[[socket.socket], Callable[[], bytes]]  # gives a request over a connected socket


def http_asking(sock: socket.socket) -> Callable[[], bytes]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock, connection.auto_open = sock, 0

    def ask() -> bytes:
        connection.request("GET", "/")
        return connection.getresponse().read()

    return ask


def websocket_asking(sock: socket.socket) -> Callable[[], bytes]:
    head = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    sock.sendall((head + key).encode())
    while b"\r\n\r\n" not in sock.recv(4096, socket.MSG_PEEK):
        pass
    sock.recv(4096)

    def ask() -> bytes:
        """A text frame, masked with zeros."""
        sock.sendall(b"\x81\x85\0\0\0\0hello")
        return sock.recv(4096).removeprefix(b"\x81\x05")

    return ask


class Server(NamedTuple):
    """``command`` is what a shell is told, in docs/recipes, where the recipe is no program of Python."""

    title: str  # in the table
    distribution: str  # none for the standard library and for what Debian has
    asking: Asking = http_asking
    command: str = ""


# By the name of the recipe.
SERVERS = {
    "http_server": Server("http.server", ""),
    "uvicorn_server": Server("uvicorn", "uvicorn"),
    "hypercorn_server": Server("hypercorn", "hypercorn"),
    "waitress_server": Server("waitress", "waitress"),
    "aiohttp_server": Server("aiohttp, server", "aiohttp"),
    "tornado_server": Server("tornado, server", "tornado"),
    "twisted_server": Server("twisted, server", "twisted"),
    "gevent_server": Server("gevent.pywsgi", "gevent"),
    "websockets_server": Server("websockets, server", "websockets", websocket_asking),
    "uvicorn": Server(
        "uvicorn",
        "uvicorn",
        command="mptcp-sockopt listen :8000 -- uvicorn --fd {fd} uvicorn_server:app",
    ),
    "hypercorn": Server(
        "hypercorn",
        "hypercorn",
        command="mptcp-sockopt listen :8000 -- hypercorn --bind fd://{fd} hypercorn_server:app",
    ),
    "gunicorn": Server(
        "gunicorn",
        "gunicorn",
        command="mptcp-sockopt listen :8000 -- gunicorn --worker-class gthread waitress_server:app",
    ),
    "nginx_listen": Server(
        "nginx",
        "",
        command="mptcp-sockopt listen :8000 -- env 'NGINX={fd};' nginx -p . -c nginx.conf",
    ),
    "granian": Server(
        "granian",
        "granian",
        command="mptcp-sockopt run -- granian --interface asgi --host :: --port 8000 uvicorn_server:app",
    ),
    "nginx": Server("nginx", "", command="mptcp-sockopt run -- nginx -p . -c nginx.conf"),
}


def connected(protocol: str, host: str, port: int) -> socket.socket:
    """A client with TCP_NODELAY."""
    if protocol == "mptcp":
        return mp.create_connection((host, port), DEADLINE / 2, fallback=False)
    sock = socket.create_connection((host, port), DEADLINE / 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
