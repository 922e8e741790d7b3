# SPDX-License-Identifier: MIT
"""The loader's clients that take their time, or keep their connection."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from reuseport._net import listen, name
from reuseport.load import Client, Loader, Outcome, Plan, PlanReport, Request, Target, Where

from ..support import DEADLINE, at_work, until
from .serving import (
    OK,
    Serve,
    answering,
    cases,
    drop,
    hear,
    leave_unread,
    one,
    outcome,
    queues,
    reset_at_close,
    saying,
    served,
    then,
)

V4 = socket.AF_INET


# ----------------------------------------------------------------------------------------- late and slow


def test_a_late_client_is_silent_first() -> None:
    """It has connected long before its request comes."""
    silent = []

    def serve(sock: socket.socket) -> None:
        begun = time.monotonic()
        hear(sock)
        silent.append(time.monotonic() - begun)
        sock.sendall(OK)

    tally = outcome(one(Client.LATE)._replace(wait=0.2), serve).tally
    assert tally.outcomes == {Outcome.SERVED: 1}
    assert silent[0] > 0.1


@pytest.mark.parametrize("cut", [False, True], ids=["end", "reset"])
def test_a_late_client_that_is_sent_away(cut: bool) -> None:
    """A loss before it asked, and told when it happens."""

    def serve(sock: socket.socket) -> None:
        if cut:
            reset_at_close(sock)

    (loss,) = outcome(one(Client.LATE)._replace(wait=4), serve).plans[0].losses
    assert (loss.outcome, loss.where) == (Outcome.RESET if cut else Outcome.EOF, Where.ASKING)
    assert loss.at == loss.ended < loss.begun + 3_000_000_000


def test_a_slow_client_takes_its_time() -> None:
    """To ask: the end of its request comes later. Then to read: a long answer stays with the server."""
    seen: dict[str, float] = {}
    long = b"x" * (1 << 23)

    def serve(sock: socket.socket) -> None:
        begun = time.monotonic()
        first = sock.recv(1 << 16)
        assert first.endswith(b"\r\n\r")
        assert sock.recv(10) == b"\n"
        seen["asked"] = time.monotonic() - begun
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(long) + long)
        seen["answered"] = time.monotonic() - begun

    tally = outcome(one(Client.SLOW)._replace(wait=0.4), serve).tally
    assert tally.outcomes == {Outcome.SERVED: 1}
    assert seen["asked"] > 0.1
    assert seen["answered"] > seen["asked"] + 0.1


@pytest.mark.parametrize("when", ["asking", "under way"])
def test_a_slow_client_that_is_cut(when: str) -> None:
    """Half asked is a loss, and so is half read: a reset destroys what is still with the server."""

    def serve(sock: socket.socket) -> None:
        if when == "under way":
            hear(sock)
            sock.setblocking(False)
            sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
            until(lambda: queues(name(sock)[1])[1][1] > 1000, "a part to lie with the client, unread")
        else:
            sock.recv(1 << 16)
        reset_at_close(sock)

    (loss,) = outcome(one(Client.SLOW)._replace(wait=1), serve).plans[0].losses
    assert (loss.outcome, loss.where) == (Outcome.RESET, Where(when))


# --------------------------------------------------------------------------------------------- keep-alive


def kept(*serves: Serve, method: str = "GET", requests: int = 1) -> PlanReport:
    """What a client that keeps its connections makes of these."""
    plan = Plan(Client.KEEPALIVE, (), 1.0, request=Request(method), total=requests, wait=0.05)
    return outcome(plan, *serves).plans[0]


def test_a_connection_is_kept() -> None:
    """Many requests on one."""
    found = kept(answering(5), requests=5)
    assert (found.tally.outcomes, found.tally.reused, found.losses) == ({Outcome.SERVED: 5}, 4, ())


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_the_end_of_an_idle_connection_is_no_loss(reset: bool) -> None:
    """The client sees it before it asks, and connects again."""

    def close(sock: socket.socket) -> None:
        if reset:
            reset_at_close(sock)

    found = kept(then(2, close), answering(1), requests=3)
    assert (found.tally.outcomes, found.tally.idle_ended, found.losses) == ({Outcome.SERVED: 3}, 1, ())


def test_an_end_that_came_while_the_client_slept() -> None:
    """It looks once more before it asks: the end is there, though nothing has told it yet."""
    over = threading.Event()

    def close_later(sock: socket.socket) -> None:
        answering(1)(sock)
        assert over.wait(DEADLINE)

    with listen(("127.0.0.1", 0)) as listener, served(listener, [close_later, answering(1)]):
        plan = Plan(Client.KEEPALIVE, (Target(name(listener), V4),), 1.0, total=2, wait=0.2)
        with Loader([plan]) as load:
            until(lambda: load.live().served == 1, "the first answer")
            os.kill(load.pid, signal.SIGSTOP)
            over.set()
            slept = time.monotonic()
            until(lambda: time.monotonic() > slept + 0.4, "the time of the next request")
            os.kill(load.pid, signal.SIGCONT)
            until(lambda: load.done, "the second answer")
            tally = load.stop().tally
    assert (tally.outcomes, tally.idle_ended) == ({Outcome.SERVED: 2}, 1)


def test_a_kept_connection_that_waits_for_its_answer_is_held() -> None:
    """It asks less often, because of the server."""

    def late(sock: socket.socket) -> None:
        hear(sock)
        begun = time.monotonic()
        until(lambda: time.monotonic() > begun + 0.2, "the time of the answer")
        sock.sendall(OK)

    assert kept(late).held >= 4


def test_a_server_that_says_close() -> None:
    """The client believes it: nothing is reused, nothing ended while idle."""
    said = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    found = kept(saying(said), saying(said), requests=2)
    assert found.tally.outcomes == {Outcome.SERVED: 2}
    assert (found.tally.reused, found.tally.idle_ended) == (0, 0)


@pytest.mark.parametrize(("after", "kind"), [(drop, Outcome.DROPPED), (leave_unread, Outcome.UNREAD)])
def test_a_request_that_is_cut_and_asked_again(after: Serve, kind: Outcome) -> None:
    """Told, but no loss: a new connection served it."""
    found = kept(then(1, after), answering(1), requests=2)
    assert cases(found) == [(kind, Where.QUEUE, True, False)]
    assert (found.tally.served, found.tally.retried, found.tally.lost, found.tally.total) == (1, 1, 0, 2)


@pytest.mark.parametrize(("after", "kind"), [(drop, Outcome.DROPPED), (leave_unread, Outcome.UNREAD)])
def test_a_request_that_is_cut_and_must_not_be_asked_again(after: Serve, kind: Outcome) -> None:
    """POST: nobody knows what the server has done."""
    found = kept(then(1, after), method="POST", requests=2)
    assert cases(found) == [(kind, Where.QUEUE, None, True)]
    assert found.tally.lost == 1


@pytest.mark.parametrize("again", [drop, saying(OK.replace(b"200 OK", b"503 No"))], ids=["end", "503"])
def test_a_request_that_is_cut_again(again: Serve) -> None:
    """One request, one loss: the second try did not help."""
    found = kept(then(1, drop), again, requests=2)
    assert cases(found) == [(Outcome.DROPPED, Where.QUEUE, False, True)]
    assert (found.tally.lost, found.tally.total) == (1, 2)


def test_half_an_answer_is_not_asked_again() -> None:
    """The server has begun to answer: as on any connection."""

    def half(sock: socket.socket) -> None:
        hear(sock)
        sock.sendall(OK[:30])

    found = kept(then(1, half), requests=2)
    assert cases(found) == [(Outcome.EOF, Where.UNDER_WAY, None, True)]


def test_the_first_request_is_one_like_any() -> None:
    """A new connection that ends without an answer was not cut: it never served."""
    assert cases(kept(drop)) == [(Outcome.EOF, Where.QUEUE, None, True)]


def test_a_request_that_crosses_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is blind here until it has asked. The kernel tells: it was not acknowledged."""
    from reuseport.load import keepalive

    monkeypatch.setattr(keepalive.KeepAlive, "_look", lambda *_: None)

    found = kept(answering(1), answering(1), requests=2)
    assert cases(found) == [(Outcome.CROSSED, None, True, False)]


def test_a_full_load_of_kept_connections() -> None:
    """The rate is of requests; the connections that it takes are few."""
    accepted: list[socket.socket] = []
    with listen(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        listener.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    sock, _ = listener.accept()
                    sock.settimeout(DEADLINE)
                    accepted.append(sock)
                    stack.enter_context(at_work(answer_for_ever, sock))

        def answer_for_ever(sock: socket.socket) -> None:
            with sock, contextlib.suppress(ConnectionError):
                while hear(sock):
                    sock.sendall(OK)

        with at_work(serve):
            plan = Plan(Client.KEEPALIVE, (Target(name(listener), V4),), 100.0, wait=0.05)
            with Loader([plan]) as load:
                until(lambda: load.live().served > 50, "50 answers")
                report = load.stop()
            over.set()
    assert report.tally.lost == 0
    assert len(accepted) == 5
