# SPDX-License-Identifier: MIT
"""The status of a client's connection by its two addresses: the same as by its socket, or None."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import resource
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes, testing
from mptcp_sockopt._border import lookups
from mptcp_sockopt._clients import Clients

from .support import (
    DEADLINE,
    LOOPBACK,
    at_work,
    connected,
    exchange,
    fallback_pair,
    in_private_network,
    mptcp_pair,
    tcp_pair,
    until,
)
from .test_connections import of, two_paths
from .test_lookup import link_local_pair, no_dump


@pytest.fixture(autouse=True)
def _mptcp(mptcp: None) -> None:
    """Every test here needs MPTCP."""


def status_between(server: Any, client: Any) -> mp.Status | None:
    return Clients().status(server, client)


def by_addresses(sock: socket.socket) -> mp.Status | None:
    """As servers pass them: host and port."""
    return status_between(sock.getsockname()[:2], sock.getpeername()[:2])


def questions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The questions for a socket that are put to the kernel from now on."""
    asked, once = [], lookups.Asker.both

    def both(*words: Any) -> Any:
        asked.append(words)
        return once(*words)

    monkeypatch.setattr(lookups.Asker, "both", both)
    return asked


def mptcp_server(family: int) -> socket.socket:
    host = LOOPBACK[socket.AddressFamily(family)]
    return mp.create_server((host, 0), family=family, fallback=False)


def test_the_same_as_by_the_socket(family: int) -> None:
    """MPTCP, fallback and TCP; at either end; before data and after, and half closed."""
    tcp_client = connected(mptcp_server(family), socket.socket(socket.AddressFamily(family)))
    for pair, server_says in (
        (mptcp_pair(family), mp.Status.MPTCP),
        (fallback_pair(family), mp.Status.TCP),
        (tcp_pair(family), mp.Status.TCP),
        (tcp_client, mp.Status.TCP),
    ):
        with pair as (client, accepted):
            assert by_addresses(accepted) is mp.status(accepted) is server_says
            assert by_addresses(client) is mp.status(client)
            exchange(client, accepted)
            assert by_addresses(accepted) is server_says
            client.shutdown(socket.SHUT_WR)
            assert accepted.recv(1) == b""
            assert by_addresses(accepted) is mp.status(accepted) is server_says


def test_the_examples_of_docs_clients() -> None:
    """An ASGI application and a WSGI one answer as they are printed to do."""
    page = (Path(__file__).parents[1] / "docs" / "clients.md").read_text()
    for_asgi, for_wsgi = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    mp.mptcp_diag()  # where there is none, this test is skipped
    with mptcp_pair(socket.AF_INET) as (_, accepted):
        (host, port), (peer, peer_port) = accepted.getsockname(), accepted.getpeername()
        names: dict[str, Any] = {}
        exec(for_asgi, names)
        answers: list[Any] = []

        async def send(event: Any) -> None:
            answers.append(event)

        scope = {"type": "http", "server": (host, port), "client": (peer, peer_port)}
        asyncio.run(names["app"](scope, None, send))
        assert answers[1]["body"] == b"you came by mptcp\n"
        exec(for_wsgi, names)
        environ = {"SERVER_NAME": host, "SERVER_PORT": port, "REMOTE_ADDR": peer, "REMOTE_PORT": peer_port}
        assert names["app"](environ, lambda *_: None) == [b"you came by mptcp\n"]
        assert names["app"]({}, lambda *_: None) == [b"you came by None\n"]


def test_a_client_of_either_family_at_a_dual_stack_listener() -> None:
    """Its addresses are IPv4 in IPv6."""
    server = mp.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, fallback=False)
    with server:
        for host in ("127.0.0.1", "::1"):
            address = host, server.getsockname()[1]
            with mp.create_connection(address, 5) as client, server.accept()[0] as accepted:
                assert by_addresses(accepted) is mp.status(accepted) is mp.Status.MPTCP
                assert by_addresses(client) is mp.Status.MPTCP
            with socket.create_connection(address, 5), server.accept()[0] as accepted:
                assert by_addresses(accepted) is mp.status(accepted) is mp.Status.TCP


def test_addresses_that_no_connection_has(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, by one question while their listener listens; a port of 0, as a proxy's header gives, by none."""
    host = LOOPBACK[socket.AddressFamily(family)]
    with mptcp_server(family) as server:
        address = server.getsockname()[:2]
        asked = questions(monkeypatch)
        assert status_between(address, (host, 1)) is None
        assert len(asked) == 1
        assert status_between(address, (host, 0)) is None
        assert len(asked) == 1
    assert status_between(address, (host, 1)) is None
    assert status_between((host, 0), (host, 1)) is None


def test_a_client_that_has_gone(family: int) -> None:
    """None."""
    with mptcp_pair(family) as (client, accepted):
        ends = accepted.getsockname()[:2], accepted.getpeername()[:2]
        accepted.close()
        client.close()
    until(lambda: status_between(*ends) is None, "the end of a connection")


@pytest.mark.parametrize(
    "pair",
    [
        (None, None),
        (("/run/app.sock", None), None),
        (("/run/app.sock", None), ("", 0)),
        (("testserver", 80), ("testclient", 50000)),
        (("127.0.0.1", 80), ("::1", 50000)),
        (("127.0.0.1", 80), ("127.0.0.1", "50000")),
        (("127.0.0.1", 80), ("127.0.0.1", 70000)),
        (("127.0.0.1", 80), ("127.0.0.1",)),
        ((b"127.0.0.1", 80), (b"127.0.0.1", 50000)),
        ("127.0.0.1", 5),
    ],
    ids=repr,
)
def test_what_is_no_pair_of_addresses(pair: tuple[Any, Any]) -> None:
    """None: a server may pass what it likes."""
    assert status_between(*pair) is None


def test_where_the_initial_path_is_gone(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses are the connection's, and no path has them: None, and never a dump."""

    def look() -> None:
        with two_paths(family) as (client, accepted):
            assert by_addresses(accepted) is mp.Status.MPTCP
            testing.delete_initial_address(client.getsockname()[0])
            until(lambda: len(of(client).subflows) == 1, "the end of the initial subflow")
            no_dump(monkeypatch)
            assert by_addresses(client) is None
            assert mp.status(client) is mp.Status.MPTCP

    in_private_network(look)


def test_a_listener_that_is_bound_to_an_interface(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it accepts is bound too, and found all the same."""

    def look() -> None:
        with mptcp_server(family) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            with mp.create_connection(server.getsockname()[:2], 5) as client, server.accept()[0] as accepted:
                no_dump(monkeypatch)
                assert by_addresses(accepted) is mp.status(accepted) is mp.Status.MPTCP
                assert by_addresses(client) is mp.Status.MPTCP

    in_private_network(look)


def test_a_link_local_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is bound to an interface, which host and port do not name."""

    def look() -> None:
        with link_local_pair() as (_, accepted, _):
            no_dump(monkeypatch)
            assert by_addresses(accepted) is mp.status(accepted) is mp.Status.MPTCP

    in_private_network(look)


def test_where_the_kernel_withholds(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.15, for nobody, TCP's table says nothing of MPTCP: None, for plain TCP too."""
    once = lookups.Asker.both

    def both(*of: Any) -> tuple[bytes | None, bytes | None]:
        found, _ = once(*of)
        return found and found[:72] + bytes(40) + found[112 : 112 + 248], None

    monkeypatch.setattr(lookups.Asker, "both", both)
    for pair in (mptcp_pair(family), tcp_pair(family)):
        with pair as (_, accepted):
            assert by_addresses(accepted) is None


def test_an_answer_that_came_too_late(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path was found, and its connection had ended before that was asked for: None."""
    once = lookups.Asker.both
    monkeypatch.setattr(lookups.Asker, "both", lambda *of: (once(*of)[0], None))
    with mptcp_pair(family) as (_, accepted):
        assert by_addresses(accepted) is None


def test_without_a_descriptor() -> None:
    """None, and no error: the request is answered all the same."""

    def look() -> None:
        with mptcp_pair(socket.AF_INET) as (_, accepted):
            ends = accepted.getsockname(), accepted.getpeername()
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
            found = status_between(*ends)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert (found, status_between(*ends)) == (None, mp.Status.MPTCP)

    in_private_network(look)


# ------------------------------------------------------------------------------------------ what is kept


def netlinks() -> int:
    """How many netlink sockets this process has."""
    found = 0
    for owner in processes.iter_sockets(os.getpid()):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(owner.fd)) as sock:
            found += sock.family == socket.AF_NETLINK
    return found


def test_a_netlink_socket_is_kept_and_closed_at_the_end() -> None:
    """One for one thread, without a warning; few however many threads asked at a time."""

    def ask(ends: tuple[mp.Address, mp.Address]) -> None:
        clients = Clients()
        assert netlinks() == 0
        for _ in range(3):
            assert clients.status(*ends) is mp.Status.MPTCP
            assert netlinks() == 1
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(at_work(lambda: [clients.status(*ends) for _ in range(50)]))
        assert 1 <= netlinks() <= 8

    def look() -> None:
        with mptcp_pair(socket.AF_INET) as (_, accepted), warnings.catch_warnings():
            warnings.simplefilter("error")
            ask((accepted.getsockname(), accepted.getpeername()))
            assert netlinks() == 0

    in_private_network(look)


def test_a_forked_process_asks_by_itself(family: int) -> None:
    """Parent and child at the same time: neither gets the other's answers."""
    with mptcp_pair(family) as (_, one), tcp_pair(family) as (_, other):
        clients = Clients()
        wanted = {one: mp.Status.MPTCP, other: mp.Status.TCP}

        def ask() -> int:
            wrong = 0
            for _ in range(200):
                for sock, status in wanted.items():
                    found = clients.status(sock.getsockname()[:2], sock.getpeername()[:2])
                    wrong += found is not status
            return wrong

        assert ask() == 0
        with testing.Child(ask) as first, testing.Child(ask) as second:
            assert (ask(), first.result(DEADLINE), second.result(DEADLINE)) == (0, 0, 0)


def test_after_an_error_the_next_question_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket of the one that failed is not used again."""
    with mptcp_pair(socket.AF_INET) as (_, accepted):
        ends = accepted.getsockname(), accepted.getpeername()
        clients = Clients()
        assert clients.status(*ends) is mp.Status.MPTCP
        with monkeypatch.context() as patch:

            def fail(*_: Any) -> Any:
                raise OSError(errno.ENOBUFS, "lost")

            patch.setattr(lookups.Asker, "both", fail)
            assert clients.status(*ends) is None
        assert clients.status(*ends) is mp.Status.MPTCP
