# SPDX-License-Identifier: MIT
"""Web applications that answer what they are told of their client, and what the socket itself says.

They run in the environment of the recipes, where the servers are, and not in that of the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt.asgi import MPTCPMiddleware
from mptcp_sockopt.wsgi import client_status

TEXT = [("Content-Type", "application/json")]


def by_socket(client: tuple[str, int]) -> list[str]:
    """The status of each socket of this process whose peer has this address."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # no socket, not connected, or closed meanwhile
            if stat.S_ISSOCK(os.stat(fd := int(name)).st_mode):
                with socket.socket(fileno=os.dup(fd)) as sock:
                    if sock.family != socket.AF_UNIX and sock.getpeername()[:2] == client:
                        found.append(mp.status(sock).value)
    return found


def answer(told: str | None, host: str, port: int) -> bytes:
    return json.dumps({"told": told, "own": by_socket((host, port))}).encode()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body = answer(scope["extensions"]["mptcp"]["status"], *scope["client"])
    headers = [(name.lower().encode(), value.encode()) for name, value in TEXT]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


asgi = MPTCPMiddleware(_app)


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    status = client_status(environ)
    body = answer(status and status.value, environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"]))
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]
