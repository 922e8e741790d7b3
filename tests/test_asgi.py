# SPDX-License-Identifier: MIT
"""MPTCPMiddleware: what an ASGI application is told of its client. Called as a server calls it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.asgi import MPTCPMiddleware

from .support import at_work, fallback_pair, mptcp_pair, tcp_pair


async def receive() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def send(event: Any) -> None:
    """Nothing is answered here."""


def seen(scope: dict[str, Any]) -> dict[str, Any]:
    """The scope that an application behind the middleware gets; each object by its own."""
    scopes: list[Any] = []

    async def app(scope: Any, given: Any, taken: Any) -> None:
        assert (given, taken) == (receive, send)
        scopes.append(scope)

    asyncio.run(MPTCPMiddleware(app)(scope, receive, send))
    (found,) = scopes
    return dict(found)


def scope_of(sock: socket.socket, **more: Any) -> dict[str, Any]:
    ends = {"server": sock.getsockname()[:2], "client": sock.getpeername()[:2]}
    return {"type": "http", "http_version": "1.1", **ends, **more}


def status_of(scope: dict[str, Any]) -> Any:
    return seen(scope)["extensions"]["mptcp"]["status"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_each_kind_of_client(kind: str, family: int) -> None:
    """The value of its status, a plain string, that status() has for its socket."""
    mp.mptcp_diag()  # where there is none, this test is skipped
    for pair in (mptcp_pair, tcp_pair, fallback_pair):
        with pair(family) as (client, accepted):
            told = status_of(scope_of(accepted, type=kind))
            assert type(told) is str
            assert told == mp.status(accepted).value == ("mptcp" if pair is mptcp_pair else "tcp")
            # The client's end of a connection that fell back: only that side calls it so.
            assert status_of(scope_of(client, type=kind)) == mp.status(client).value
            lists = {"server": [*accepted.getsockname()[:2]], "client": [*accepted.getpeername()[:2]]}
            assert status_of(scope_of(accepted, type=kind, **lists)) == told


def test_the_scope_of_the_server_is_left_alone() -> None:
    """The application gets another one with what was there; other extensions stay."""
    tls: dict[str, Any] = {"tls": {"cipher_suite": 1}}
    for extensions in (tls, {}, None):
        scope = {"type": "http", "server": None, "client": None, "extensions": extensions, "state": {"a": 1}}
        before = {**scope}
        found = seen(scope)
        assert scope == before
        assert found["state"] is scope["state"]
        assert found["extensions"] == {**(extensions or {}), "mptcp": {"status": None}}
    assert seen({"type": "http"})["extensions"] == {"mptcp": {"status": None}}


def test_what_is_no_request() -> None:
    """Is passed on as it is."""
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    assert seen(scope) == scope


def test_what_cannot_be_told(family: int) -> None:
    """None: Unix sockets, HTTP/3, a test client, an address out of a proxy's header."""
    with mptcp_pair(family) as (_, accepted):
        for wrong in (
            {"server": ("/run/app.sock", None), "client": None},
            {"client": None},
            {"server": None},
            {"server": ("testserver", 80), "client": ("testclient", 50000)},
            {"http_version": "3"},
            {"client": ("203.0.113.7", 0)},
            {"client": ("203.0.113.7", 50000)},
        ):
            assert status_of(scope_of(accepted, **wrong)) is None


def test_errors_of_the_application_pass() -> None:
    """As they are."""

    async def app(*_: Any) -> None:
        raise LookupError("of the application")

    call: Callable[..., Any] = MPTCPMiddleware(app)
    with pytest.raises(LookupError, match="of the application"):
        asyncio.run(call({"type": "http"}, receive, send))


def test_many_threads_at_once(mptcp: None) -> None:
    """Each gets the answer to its own question."""
    mp.mptcp_diag()
    wrong: list[Any] = []
    with mptcp_pair(socket.AF_INET) as (_, one), tcp_pair(socket.AF_INET) as (_, other):
        wanted = [(scope_of(one), "mptcp"), (scope_of(other), "tcp")]

        def ask(number: int) -> None:
            scope, status = wanted[number % 2]
            wrong.extend(found for _ in range(50) if (found := status_of(scope)) != status)

        with contextlib.ExitStack() as stack:
            for number in range(6):
                stack.enter_context(at_work(ask, number))
    assert wrong == []


def test_nothing_of_it_is_imported_with_the_package() -> None:
    """Nor does it take asyncio, or anything that is not the standard library's."""
    code = (
        "import sys, mptcp_sockopt; before = {*sys.modules}; "
        "import mptcp_sockopt.asgi, mptcp_sockopt.wsgi; "
        "print(*sorted({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = done.stdout.split()
    assert {"mptcp_sockopt.asgi", "mptcp_sockopt.wsgi", "mptcp_sockopt._clients"} <= {*new}
    assert "asyncio" not in new
    roots = {name.partition(".")[0] for name in new}
    assert roots <= {"mptcp_sockopt", *sys.stdlib_module_names}
