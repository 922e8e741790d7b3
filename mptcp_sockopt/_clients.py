# SPDX-License-Identifier: MIT
"""What a client's connection is, asked at the server's end by its two addresses."""

from __future__ import annotations

from . import _types as t
from ._border import lookups
from ._connections import looked_up
from ._sockopt import Status


def status_between(server: t.Any, client: t.Any) -> Status | None:
    """The status of the connection between these addresses, seen from the server; None: cannot tell.

    Two questions to the kernel's tables, without privilege, with any number of connections; never a dump.
    Addresses that no connection has, and what is no address, are None.
    """
    try:
        (host, port), (peer, peer_port) = server, client
        # A proxy's header names the client's host, and no port.
        if not (peer_port and isinstance(host, str) and isinstance(peer, str)):
            return None
        with lookups.Asker() as asker:
            path, row = asker.accepted((host, port), (peer, peer_port))
    except (OSError, TypeError, ValueError):
        return None
    found = looked_up(path, row)
    # Without a row, a connection with a token has ended meanwhile.
    if found is None or (found.row is None and found.token):
        return None
    return found.status
