# SPDX-License-Identifier: MIT
"""The recipes of servers: over both families, for an MPTCP and a TCP client, what both ends are."""

from __future__ import annotations

import pytest

import mptcp_sockopt as mp

from .ends import held, looked_up
from .environment import SMALL, is_small
from .measured import HOSTS
from .servers import SERVERS, connected
from .stage import Stage

pytestmark = pytest.mark.slow

NAMES = [
    name
    for name, server in SERVERS.items()
    if not is_small() or (server.distribution in ("", *SMALL) and not server.command)
]


@pytest.mark.parametrize("name", NAMES)
def test_what_both_ends_are(stage: Stage, name: str, mptcp: None) -> None:
    """MPTCP for an MPTCP client and TCP for a TCP client; the server's end is asked by two ways."""
    with stage.serving(name) as (pid, port):
        for host in HOSTS.values():
            for protocol in ("mptcp", "tcp"):
                with connected(protocol, host, port) as sock:
                    ask = SERVERS[name].asking(sock)
                    assert (ask(), ask()) == (b"hello", b"hello")
                    client, server = sock.getsockname(), sock.getpeername()
                    ends = (
                        mp.status(sock).name,
                        looked_up(server, client),
                        *(mp.status(end).name for end in held(pid, client)),
                    )
                    assert ends == (protocol.upper(),) * 3
