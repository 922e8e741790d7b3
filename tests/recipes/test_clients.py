# SPDX-License-Identifier: MIT
"""The recipes of clients: over both families, to an MPTCP and to a TCP peer, what both ends are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .clients import CLIENTS, url
from .environment import SMALL, is_small
from .measured import HOSTS
from .stage import Stage, recipe

pytestmark = pytest.mark.slow

NAMES = [name for name, client in CLIENTS.items() if not is_small() or client.distribution in ("", *SMALL)]
# Whose connections have TCP_NODELAY only while something is written.
SWITCHES_NODELAY = ("tornado_client",)


def arguments(service: str, host: str, port: int) -> list[str]:
    """What a recipe that is run as a command is told."""
    if service in ("http", "websocket"):
        return [url(host, port, {"http": "http", "websocket": "ws"}[service])]
    if service == "grpc":
        return [url(host, port)[len("http://") : -1]]
    return [host, str(port), *(["user", "password"] if service == "ssh" else [])]


@pytest.mark.parametrize("name", NAMES)
def test_what_both_ends_are(stage: Stage, name: str, mptcp: None) -> None:
    """With the recipe, MPTCP to an MPTCP peer, FALLBACK to a TCP peer, and TCP_NODELAY. Without it, TCP."""
    found = recipe(name)
    nodelay = 0 if name in SWITCHES_NODELAY else 1
    told = {"mptcp": ["MPTCP", "MPTCP", nodelay], "tcp": ["FALLBACK", "TCP", nodelay]}
    with stage.measured(name, found.hook == "none", found.prefix) as with_it:
        assert with_it.result["ends"] == {f"{ip} {peer}": [told[peer]] for peer in told for ip in HOSTS}
    with stage.measured(name, plain=True) as without:
        ends = without.result["ends"]
        assert {(client, server) for (client, server, _), *_ in ends.values()} == {("TCP", "TCP")}
        assert len(ends) == 4


ANSWERS = {"redis": "True\n", "postgresql": "hello\n", "grpc": "hello\n"}


@pytest.mark.parametrize("name", NAMES)
def test_as_a_command(stage: Stage, name: str, mptcp: None) -> None:
    """It prints what the server answers; ours answer what both ends are."""
    service = CLIENTS[name].service
    told: dict[str, Any] = {
        "mptcp": {"client": "MPTCP", "server": "MPTCP"},
        "tcp": {"client": "FALLBACK", "server": "TCP"},
    }
    for peer, ports in stage.ports(service).items():
        for host in HOSTS.values():
            printed = stage.output(name, *arguments(service, host, ports[service]))
            assert (printed if service in ANSWERS else json.loads(printed)) == ANSWERS.get(
                service, told[peer]
            )
