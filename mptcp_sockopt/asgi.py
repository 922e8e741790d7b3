# SPDX-License-Identifier: MIT
"""Did this client come by MPTCP? For ASGI applications, on any server: FastAPI, Starlette, Django, ...

    app = MPTCPMiddleware(app)
    scope["extensions"]["mptcp"]["status"]  # "mptcp", "tcp", ..., or None: cannot tell

docs/clients.md says what a server's end can know. ``import mptcp_sockopt`` does not import this module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ._clients import Clients

__all__ = ["MPTCPMiddleware"]

# As in ASGI's specification.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class MPTCPMiddleware:
    """Calls an ASGI application with the status of the client's connection in ``scope``.

    ``scope["extensions"]["mptcp"]`` is ``{"status": ...}`` in every request and WebSocket: the value of a
    ``Status``, such as "mptcp", "tcp" or "fallback"; or None if that cannot be told. An application that is
    called without this middleware has no such extension.

    ASGI passes no socket, so the kernel is asked by the addresses, ``scope["server"]`` and
    ``scope["client"]``: once for each request, without privilege and in constant time. It tells of the hop
    that the server sees: behind a proxy, of the proxy's connection. None if a proxy's headers have changed
    ``scope["client"]``, for Unix sockets, HTTP/3, and a client that has gone; docs/clients.md lists all.

    It keeps a netlink socket, which the first request opens in the network namespace of its thread, and a
    forked process opens again. Thread rule: any thread and event loop may use it at any time.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self._clients = Clients()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            extensions = {**(scope.get("extensions") or {}), "mptcp": {"status": self._status(scope)}}
            scope = {**scope, "extensions": extensions}
        await self.app(scope, receive, send)

    def _status(self, scope: Scope) -> str | None:
        if scope.get("http_version") == "3":  # by UDP
            return None
        found = self._clients.status(scope.get("server"), scope.get("client"))
        return None if found is None else found.value
