# SPDX-License-Identifier: MIT
"""The loader: outcomes, each planted; its rate; live figures; that it was starved, if it was."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from reuseport._net import LOOPBACK, Reuse, listen, name
from reuseport.load import (
    Client,
    Loader,
    Loss,
    Outcome,
    Plan,
    Tally,
    Target,
    Where,
    answer_as,
    attribute,
)

from ..support import at_work, in_private_network, until
from .serving import OK, Serve, ask, one, outcome, queues, reset_at_close, saying, served

WHO = one(Client.WHO)
PLAIN = one(Client.PLAIN)


def hang_up(sock: socket.socket) -> None:
    sock.recv(1)


def reset(sock: socket.socket) -> None:
    sock.recv(1)
    reset_at_close(sock)


def say_half(sock: socket.socket) -> None:
    sock.recv(1)
    sock.sendall(b"ab")


@pytest.mark.parametrize("mptcp", [False, True], ids=["tcp", "mptcp"])
@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        (answer_as(7), Outcome.SERVED),
        (hang_up, Outcome.EOF),
        (say_half, Outcome.EOF),
        (reset, Outcome.RESET),
    ],
)
def test_outcomes(serve: Serve, kind: Outcome, mptcp: bool, family: int) -> None:
    """What a server does is what the loader says."""
    tally = outcome(WHO, serve, family=family, mptcp=mptcp).tally
    assert tally.outcomes == {kind: 1}
    assert tally.lost == (kind is not Outcome.SERVED)
    assert tally.statuses == ({7: 1} if kind is Outcome.SERVED else {})


def test_refused(family: int) -> None:
    """Nobody listens."""
    with socket.socket(socket.AddressFamily(family)) as unused:
        unused.bind((LOOPBACK[family], 0))
        tally = ask(Target(name(unused), family), WHO._replace(total=1)).tally
    assert {kind: count for kind, count in tally.losses().items() if count} == {"refused": 1}
    assert tally.where == {Where.HANDSHAKE: 1}


@pytest.mark.parametrize(
    "client", [Client.WHO, Client.PLAIN, Client.RAW, Client.LATE, Client.SLOW, Client.KEEPALIVE]
)
def test_stalled(client: Client) -> None:
    """Nobody answers within the patience; it happened when there was progress last."""
    with listen(("127.0.0.1", 0)) as listener:
        plan = one(client)._replace(total=1, wait=0.1)
        (found,) = ask(Target(name(listener), socket.AF_INET), plan, patience=0.3).plans[0].losses
    assert (found.outcome, found.lost) == (Outcome.STALLED, True)
    assert found.ended - found.at >= 300_000_000


def test_fell_back(family: int) -> None:
    """An MPTCP client that a TCP listener served."""
    with listen((LOOPBACK[family], 0), family=family) as listener, served(listener, [answer_as(7)]):
        tally = ask(Target(name(listener), family, mptcp=True), WHO._replace(total=1)).tally
    assert tally.outcomes == {Outcome.FELL_BACK: 1}


@pytest.mark.parametrize(
    ("said", "kind", "where"),
    [
        (OK, Outcome.SERVED, None),
        (OK[:-1], Outcome.EOF, Where.UNDER_WAY),
        (OK[:20], Outcome.EOF, Where.UNDER_WAY),
        (b"", Outcome.EOF, Where.QUEUE),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", Outcome.EOF, Where.UNDER_WAY),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Outcome.EOF,
            Where.UNDER_WAY,
        ),
        (b"\x15\x03\x01\x00\x02\x02\x46", Outcome.TLS, Where.UNDER_WAY),
        (b"220 ready\r\n", Outcome.GARBAGE, Where.UNDER_WAY),
    ],
)
def test_answers(said: bytes, kind: Outcome, where: Where | None) -> None:
    """Half of one is a loss, and so is what is none."""
    report = outcome(PLAIN, saying(said))
    assert report.tally.outcomes == {kind: 1}
    assert [loss.where for loss in report.plans[0].losses] == [where][: kind is not Outcome.SERVED]


@pytest.mark.parametrize(
    ("status", "expect", "good"),
    [(200, None, 1), (302, None, 1), (404, None, 0), (503, None, 0), (404, 404, 1), (200, 404, 0)],
)
def test_the_expected_status(status: int, expect: int | None, good: int) -> None:
    """Any other is served too, and kept apart."""
    said = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
    (found,) = outcome(PLAIN._replace(expect=expect), saying(said)).plans
    assert (found.tally.served, found.tally.good, found.tally.other) == (1, good, 1 - good)
    assert found.tally.statuses == {status: 1}
    assert [(case.status, case.lost) for case in found.unlike] == [(status, False)] * (1 - good)


def test_a_reset_of_a_queued_connection_is_told_from_a_handshake(family: int) -> None:
    """On TCP: the request was acknowledged, so the connection waited in a queue."""
    reports = []
    with contextlib.ExitStack() as closed:
        listener = closed.enter_context(listen((LOOPBACK[family], 0), family=family))
        port = name(listener)[1]

        def attempt() -> None:
            reports.append(ask(Target(name(listener), family), WHO._replace(total=1)))

        with at_work(attempt):
            # Both ends are in the kernel's table, though nobody has accepted: the request is there, unread
            # by the server, and nothing is left for the client to have acknowledged.
            until(lambda: queues(port, family=family) == [(0, 1), (0, 0)], "the request to be acknowledged")
            closed.close()
    (tally,) = (report.tally for report in reports)
    assert tally.outcomes == {Outcome.RESET: 1}
    assert tally.where == {Where.QUEUE: 1}


# ------------------------------------------------------------------------------------------- the loader


@contextlib.contextmanager
def serving(listener: socket.socket, serve: Serve) -> Iterator[None]:
    """For ever beside the block."""
    listener.settimeout(0.1)
    over = False

    def work() -> None:
        while not over:
            with contextlib.suppress(TimeoutError):
                sock, _ = listener.accept()
                sock.settimeout(5)
                serve(sock)

    with at_work(work):
        yield
        over = True


def test_a_closed_loop_counts_and_ends() -> None:
    """What it reports is what it did, and the live figures say the same."""
    with listen(("127.0.0.1", 0)) as listener, serving(listener, answer_as(3)):
        target = Target(name(listener), socket.AF_INET)
        with Loader([Plan(Client.WHO, (target,), None, at_once=3)]) as load:
            until(lambda: load.live().ended >= 200, "200 connections")
            report = load.stop()
            live = load.live()
    tally = report.tally
    assert tally.total == tally.started == live.ended == live.served == live.good >= 200
    assert tally.statuses == {3: tally.total}
    assert live.last_good
    assert sum(report.plans[0].begun_at.values()) == tally.started
    assert not load.failed


def test_several_plans_and_targets_at_once() -> None:
    """Each plan has its own figures; its targets take turns."""
    with contextlib.ExitStack() as stack:
        targets = []
        for number in range(2):
            listener = stack.enter_context(listen(("127.0.0.1", 0)))
            stack.enter_context(serving(listener, answer_as(number)))
            targets.append(Target(name(listener), socket.AF_INET))
        plans = [Plan(Client.WHO, (*targets,), 200, total=10), Plan(Client.WHO, (targets[1],), 100, total=7)]
        with Loader(plans) as load:
            until(lambda: load.done, "all to end")
            report = load.stop()
            lives = [load.live(number).ended for number in range(2)]
    assert [plan.tally.statuses for plan in report.plans] == [{0: 5, 1: 5}, {1: 7}]
    assert report.tally.statuses == {0: 5, 1: 12}
    assert lives == [10, 7]


def test_an_error_that_is_no_loss_ends_a_load() -> None:
    """With the error: here there is no route to the server."""

    def error() -> int | None:
        target = Target(("192.0.2.1", 80), socket.AF_INET)
        with Loader([Plan(Client.WHO, (target,), 100.0)]) as load:
            until(lambda: load.failed, "the loader to fail")
            with pytest.raises(OSError) as told:  # compared below
                load.stop()
        return told.value.errno

    assert in_private_network(error) == errno.ENETUNREACH


def test_an_open_loop_keeps_its_rate() -> None:
    """Whether or not anybody answers: here nobody does until all have been begun. And never faster."""
    rate, count = 100.0, 50
    with listen(("127.0.0.1", 0)) as listener:
        begun = time.monotonic()
        target = Target(name(listener), socket.AF_INET)
        with Loader([Plan(Client.WHO, (target,), rate, total=count)]) as load:
            until(lambda: load.live().started == count, "all to be begun")
            took = time.monotonic() - begun
            assert load.live().ended == 0
            with served(listener, [answer_as(1)] * count):
                until(lambda: load.done, "all to end")
            report = load.stop()
    assert report.tally.outcomes == {Outcome.SERVED: count}
    assert took >= (count - 1) / rate


def test_what_too_many_open_ones_hold_back_is_told() -> None:
    """The server is slow then, and not the loader."""
    with listen(("127.0.0.1", 0)) as listener:
        target = Target(name(listener), socket.AF_INET)
        with Loader([Plan(Client.WHO, (target,), 1000.0, at_once=5)], patience=0.3) as load:
            until(lambda: load.live().started >= 6, "the first to be given up")
            (found,) = load.stop().plans
    assert found.held > 10
    assert found.rate < 500
    assert found.tally.cases[Outcome.STALLED] == found.tally.total >= 5


def test_a_loader_that_gets_no_cpu_says_so() -> None:
    """A pause of its own is told apart from a slow server, and no long burst follows."""
    with listen(("127.0.0.1", 0)) as listener, serving(listener, answer_as(1)):
        target = Target(name(listener), socket.AF_INET)

        with Loader([Plan(Client.WHO, (target,), 500.0)]) as load:
            until(lambda: load.live().served > 20, "the load")
            os.kill(load.pid, signal.SIGSTOP)
            stopped = time.monotonic_ns()
            until(lambda: time.monotonic_ns() - load.live().beat > 400_000_000, "a pause")
            before = load.live().started
            resumed = time.monotonic_ns()
            os.kill(load.pid, signal.SIGCONT)
            until(lambda: load.live().started > before + 60, "the load to go on")
            report = load.stop()
    (found,) = report.plans
    assert found.skipped >= 100
    assert found.lag >= 0.1
    assert found.held == 0
    assert any(begun <= stopped + 20_000_000 and ended >= resumed for begun, ended in report.pauses)


def test_source_ports_are_chosen() -> None:
    """Each connection has the next one."""

    def ports() -> list[int]:
        seen: list[int] = []
        with listen(("127.0.0.1", 80), Reuse.NONE) as listener:

            def serve(sock: socket.socket) -> None:
                seen.append(name_of_peer(sock))
                answer_as(1)(sock)

            with served(listener, [serve] * 3):
                plan = WHO._replace(total=3, source=("127.0.0.1", 10_000))
                ask(Target(name(listener), socket.AF_INET), plan)
        return seen

    assert in_private_network(ports) == [10_000, 10_001, 10_002]


def name_of_peer(sock: socket.socket) -> int:
    port: int = sock.getpeername()[1]
    return port


# --------------------------------------------------------------------------------------------- the counts


def lost(at: int, kind: Outcome = Outcome.RESET, *, begun: int = 0, ended: int | None = None) -> Loss:
    return Loss(Client.PLAIN, 0, begun, at if ended is None else ended, at, kind, Where.QUEUE)


def test_tallies_add_up() -> None:
    """Outcomes, statuses, slow ones, and where they were."""
    one, other = Tally(), Tally()
    one.started = 1
    one.serve(0.1)
    other.started = 3
    other.serve(0.7)
    other.lose(lost(1))
    other.lose(lost(1, Outcome.CROSSED)._replace(lost=False, retried=True))
    one += other
    assert (one.started, one.total, one.served, one.lost, one.slow, one.slowest) == (4, 4, 2, 1, 1, 0.7)
    assert (one.retried, one.where) == (1, {Where.QUEUE: 1})
    assert one.outcomes == {Outcome.SERVED: 2, Outcome.RESET: 1, Outcome.CROSSED: 1}
    assert one.seconds_at(0.5) == pytest.approx(0.1, rel=0.08)
    assert one.seconds_at(1.0) == pytest.approx(0.7, rel=0.08)


def test_losses_belong_to_the_restart_before_them() -> None:
    """One that stalled belongs to the nearest, if it was under way then."""
    moments = [100, 200, 300]
    losses = [lost(99), lost(100), lost(199), lost(250), lost(1000)]
    assert [[loss.at for loss in found] for found in attribute(losses, moments)] == [
        [99],
        [100, 199],
        [250],
        [1000],
    ]
    stalled = [lost(at, Outcome.STALLED, ended=at + 150) for at in (95, 140, 190, 310)]
    assert [[loss.at for loss in found] for found in attribute(stalled, moments)] == [
        [],
        [95, 140],
        [190],
        [310],
    ]
    assert attribute([lost(95, Outcome.STALLED, ended=99)], moments)[0]
