# SPDX-License-Identifier: MIT
"""The loader's clients over TLS and unix sockets; and answers that only a comparison shows to be cut."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from reuseport._net import listen, name
from reuseport.load import Client, Loader, Outcome, Plan, PlanReport, Target, Where, speaks_tls

from .. import tls
from ..support import until
from .serving import OK, Serve, answering, ask, cases, drop, hear, leave_unread, one, saying, served, then

V4 = socket.AF_INET


def secure(serve: Serve) -> Serve:
    """Over TLS."""
    context = tls.contexts()[0]

    def wrapped(sock: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(sock, server_side=True) as shaken:
            serve(shaken)

    return wrapped


def over_tls(client: Client, *serves: Serve, requests: int | None = None, wait: float = 0.1) -> PlanReport:
    plan = Plan(client, (), None, at_once=1, wait=wait, total=requests or len(serves))
    with listen(("127.0.0.1", 0)) as listener, served(listener, serves):
        return ask(Target(name(listener), V4, tls=True), plan).plans[0]


@pytest.mark.parametrize("client", [Client.PLAIN, Client.LATE, Client.SLOW])
def test_over_tls(client: Client) -> None:
    """Long answers too, which come in many records."""
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
    found = over_tls(client, secure(saying(OK)), secure(saying(long)), secure(saying(OK[:-1])))
    assert found.tally.outcomes == {Outcome.SERVED: 2, Outcome.EOF: 1}


def test_the_end_of_tls_is_an_end() -> None:
    """Though the connection below it stays open. Here it comes together with half an answer."""

    def serve(sock: socket.socket) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        hear(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        sock.sendall(OK[:-1])
        with contextlib.suppress(OSError):
            sock.unwrap()

    (loss,) = over_tls(Client.PLAIN, secure(serve)).losses
    assert (loss.outcome, loss.where) == (Outcome.EOF, Where.UNDER_WAY)


def test_kept_over_tls() -> None:
    """What was written, encrypted, is compared with what was acknowledged."""
    found = over_tls(Client.KEEPALIVE, secure(then(2, drop)), secure(answering(2)), requests=4)
    assert cases(found) == [(Outcome.DROPPED, Where.QUEUE, True, False)]
    assert found.tally.outcomes == {Outcome.SERVED: 3, Outcome.DROPPED: 1}


def test_no_tls_where_tls_is_asked_for() -> None:
    """An answer in clear, and silence."""

    def clear(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    def end(sock: socket.socket) -> None:
        sock.recv(1 << 16)

    found = over_tls(Client.PLAIN, clear, end)
    assert [loss.outcome for loss in found.losses] == [Outcome.NO_TLS, Outcome.EOF]


def test_who_speaks_tls() -> None:
    """An explanation for answers of 400."""
    with listen(("127.0.0.1", 0)) as listener:
        target = Target(name(listener), V4)
        with served(listener, [secure(saying(OK))]):
            assert speaks_tls(target)
        with served(listener, [saying(OK)]):
            assert not speaks_tls(target)
    assert not speaks_tls(target)


def test_over_a_unix_socket(tmp_path: Path) -> None:
    """Served, cut, and refused: nobody listens any more, or the path is gone."""
    path = str(tmp_path / "door")
    target = Target(path, socket.AF_UNIX)

    def kinds(plan: Plan) -> list[tuple[Outcome, Where | None]]:
        report = ask(target, plan)
        return [(loss.outcome, loss.where) for loss in report.plans[0].losses]

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with served(listener, [saying(OK), drop, leave_unread]):
            lost = kinds(one(Client.PLAIN)._replace(total=3))
        assert lost == [(Outcome.EOF, Where.QUEUE), (Outcome.RESET, Where.QUEUE)]
        with served(listener, [then(1, drop), answering(1)]):
            found = ask(target, Plan(Client.KEEPALIVE, (), 1.0, total=2, wait=0.05)).plans[0]
        assert cases(found) == [(Outcome.DROPPED, Where.QUEUE, True, False)]
    plain = one(Client.PLAIN)._replace(total=1)
    assert kinds(plain) == [(Outcome.REFUSED, Where.HANDSHAKE)]
    Path(path).unlink()
    assert kinds(plain) == [(Outcome.REFUSED, Where.HANDSHAKE)]
    assert str(target) == f"unix:{path}"


def test_a_full_unix_listener_is_waited_for(tmp_path: Path) -> None:
    """As blocking clients wait: it says EAGAIN until there is room."""
    path = str(tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        with Loader([Plan(Client.PLAIN, (Target(path, socket.AF_UNIX),), None, at_once=3, total=3)]) as load:
            until(lambda: load.live().started == 3, "all to begin")
            stack.enter_context(served(listener, [saying(OK)] * 3))
            until(lambda: load.done, "all to end")
            assert load.stop().tally.outcomes == {Outcome.SERVED: 3}


# ------------------------------------------------------------------------------------------- the baseline


@pytest.mark.parametrize(
    ("said", "kind", "unlike"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nhello", Outcome.SERVED, 0),
        (b"HTTP/1.0 200 OK\r\n\r\nhello again", Outcome.SERVED, 0),
        (b"HTTP/1.0 200 OK\r\n\r\nhel", Outcome.EOF, 0),
        (b"HTTP/1.0 302 Found\r\n\r\nhel", Outcome.SERVED, 1),
        (OK, Outcome.SERVED, 0),
    ],
)
def test_answers_without_length_are_compared(said: bytes, kind: Outcome, unlike: int) -> None:
    """With those of the baseline: shorter than the shortest is half of one."""
    with listen(("127.0.0.1", 0)) as listener:
        plan = Plan(Client.PLAIN, (Target(name(listener), V4),), None, at_once=1, total=3)
        with Loader([plan]) as load:
            with served(
                listener, [saying(b"HTTP/1.0 200 OK\r\n\r\n" + text) for text in (b"hello!", b"hello")]
            ):
                until(lambda: load.live().good == 2, "the baseline")
                load.learned()
            with served(listener, [saying(said)]):
                until(lambda: load.done, "the third answer")
            (found,) = load.stop().plans
    assert found.tally.cases == ({kind: 1} if kind is not Outcome.SERVED else {})
    assert len(found.unlike) == unlike
