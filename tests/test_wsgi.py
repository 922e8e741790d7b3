# SPDX-License-Identifier: MIT
"""client_status(): what a WSGI application is told of its client, on the standard library's server."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.wsgi import client_status

from .support import LOOPBACK, at_work, fallback_pair, mptcp_pair, tcp_pair


def environ_of(sock: socket.socket) -> dict[str, Any]:
    """As a server that passes addresses."""
    (host, port), (peer, peer_port) = sock.getsockname()[:2], sock.getpeername()[:2]
    names = ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT")
    return dict(zip(names, (host, str(port), peer, str(peer_port)), strict=True))


class Handler(WSGIRequestHandler):
    """Of wsgiref, which says neither its address nor the client's port."""

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), **environ_of(self.connection)}

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def served(listener: socket.socket) -> Iterator[list[Any]]:
    """A wsgiref server on this socket; what it found for each request."""
    found: list[Any] = []

    def app(environ: Any, start: Any) -> list[bytes]:
        found.append(client_status(environ))
        start("200 OK", [("Content-Length", "0")])
        return []

    server = WSGIServer(("", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket, server.server_name, server.server_port = listener, "localhost", 0
    server.setup_environ()
    server.set_app(app)
    with at_work(server.serve_forever, 0.02):
        try:
            yield found
        finally:
            server.shutdown()


def test_a_client_of_wsgiref(family: int) -> None:
    """MPTCP or TCP, by its addresses."""
    mp.mptcp_diag()  # where there is none, this test is skipped
    host = LOOPBACK[socket.AddressFamily(family)]
    listener = mp.create_server((host, 0), family=family, fallback=False)
    with listener, served(listener) as found:
        address = listener.getsockname()[:2]
        for connect in (mp.create_connection, socket.create_connection):
            client = http.client.HTTPConnection(*address)
            client.sock = connect(address, 10)
            client.request("GET", "/")
            assert client.getresponse().status == 200
            client.close()
    assert found == [mp.Status.MPTCP, mp.Status.TCP]


@pytest.mark.parametrize("name", ["gunicorn.socket", "werkzeug.socket"])
def test_by_the_socket_where_the_server_passes_one(name: str, family: int) -> None:
    """Whatever the addresses say."""
    for pair in (mptcp_pair, tcp_pair, fallback_pair):
        with pair(family) as (client, accepted):
            assert client_status({name: accepted}) is mp.status(accepted)
            assert client_status({name: client, **environ_of(accepted)}) is mp.status(client)


def test_a_server_that_says_its_address_and_its_name(family: int) -> None:
    """As Apache does: the address is taken."""
    mp.mptcp_diag()
    with mptcp_pair(family) as (_, accepted):
        environ = environ_of(accepted)
        apache = {**environ, "SERVER_NAME": "www.example.org", "SERVER_ADDR": environ["SERVER_NAME"]}
        assert client_status(apache) is mp.Status.MPTCP


def test_what_cannot_be_told(family: int) -> None:
    """None, and never an error."""
    one, other = socket.socketpair()
    with one, other:
        assert client_status({"gunicorn.socket": one}) is None
    assert client_status({"gunicorn.socket": one}) is None
    assert client_status({"gunicorn.socket": "no socket"}) is None
    assert client_status({}) is None
    with mptcp_pair(family) as (_, accepted):
        environ = environ_of(accepted)
        for name in environ:
            assert client_status({**environ, name: ""}) is None
            assert client_status({key: value for key, value in environ.items() if key != name}) is None
        assert client_status({**environ, "SERVER_NAME": "localhost"}) is None
        assert client_status({**environ, "REMOTE_ADDR": "203.0.113.7"}) is None
