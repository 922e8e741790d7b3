# SPDX-License-Identifier: MIT
"""What a client's connection is, asked at the server's end by its two addresses."""

from __future__ import annotations

import os
from collections import deque

from . import _types as t
from ._border import lookups
from ._connections import looked_up
from ._sockopt import Status

_KEPT = 2


class Clients:
    """Asks for one client after another, and keeps a netlink socket in between: that halves the cost.

    The first question opens the socket, in the network namespace of its thread. A forked process opens its
    own. Thread rule: any number of threads may ask at a time.
    """

    def __init__(self) -> None:
        # Taken by pop and given back by append, which are atomic: each belongs to one question at a time.
        self._idle: deque[tuple[int, lookups.Asker]] = deque()

    def __del__(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    def status(self, server: t.Any, client: t.Any) -> Status | None:
        """The status of the connection between these addresses, seen from the server; None: cannot tell.

        Two questions to the kernel's tables, without privilege, with any number of connections; never a dump.
        Addresses that no connection has, and what is no address, are None.
        """
        try:
            (host, port), (peer, peer_port) = server, client
            # A proxy's header names the client's host, and no port.
            if not (peer_port and isinstance(host, str) and isinstance(peer, str)):
                return None
            asker = self._taken()
            try:
                path, row = asker.accepted((host, port), (peer, peer_port))
            except BaseException:
                asker.close()  # an answer may be left in it
                raise
        except (OSError, TypeError, ValueError):
            return None
        if len(self._idle) < _KEPT:
            self._idle.append((os.getpid(), asker))
        else:
            asker.close()
        found = looked_up(path, row)
        # Without a row, a connection with a token has ended meanwhile.
        if found is None or (found.row is None and found.token):
            return None
        return found.status

    def _taken(self) -> lookups.Asker:
        while True:
            try:
                owner, asker = self._idle.pop()
            except IndexError:
                return lookups.Asker()
            if owner == os.getpid():
                return asker
            asker.close()
