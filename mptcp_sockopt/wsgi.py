# SPDX-License-Identifier: MIT
"""Did this client come by MPTCP? For WSGI applications: Flask, Django, ...

    client_status(environ)  # Status.MPTCP, Status.TCP, ..., or None: cannot tell

docs/clients.md says what a server's end can know. ``import mptcp_sockopt`` does not import this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._clients import Clients
from ._sockopt import Status, status

__all__ = ["client_status"]

#: Where servers put the client's socket: gunicorn, and werkzeug (Flask's own).
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")


def client_status(environ: Mapping[str, Any]) -> Status | None:
    """The status of the connection that this request came by; None if that cannot be told.

    ``status()`` of the client's socket on gunicorn and werkzeug. Other servers pass no socket: the kernel is
    asked by the addresses in SERVER_ADDR (or SERVER_NAME), SERVER_PORT, REMOTE_ADDR and REMOTE_PORT, without
    privilege and in constant time. That takes a server that says its own address and not a name, and the
    client's port. Raises nothing. May be called from any thread.

    It tells of the hop that the server sees: behind a proxy, of the proxy's connection.
    """
    for name in _SOCKETS:
        sock = environ.get(name)
        if sock is not None:
            try:
                return status(sock)
            except (OSError, TypeError, ValueError):  # a Unix socket, or closed
                return None
    try:
        server = environ.get("SERVER_ADDR") or environ["SERVER_NAME"], int(environ["SERVER_PORT"])
        client = environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"])
    except (KeyError, TypeError, ValueError):
        return None
    return Clients().status(server, client)
