# SPDX-License-Identifier: MIT
"""The loader's kinds of loss, each planted, and what counts allow to say."""

from __future__ import annotations

import contextlib
import errno
import math
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reuseport import _load
from reuseport._load import ClosedLoop, Kind, Tally, Target, attempt, bound_95, chi_square
from reuseport._net import LOOPBACK, listen, name

from ..support import at_work, in_private_network, until


def outcome(serve: Callable[[socket.socket], None], *, family: int, mptcp: bool = False) -> Tally:
    """One connection to a server that does this with its listener."""
    tally = Tally()
    with listen((LOOPBACK[family], 0), family=family, mptcp=mptcp) as listener, at_work(serve, listener):
        attempt(Target(name(listener), family=family, mptcp=mptcp), tally)
    assert tally.total == 1
    return tally


def answer(listener: socket.socket) -> None:
    _load.answer_as(7)(listener.accept()[0])


def hang_up(listener: socket.socket) -> None:
    with listener.accept()[0] as sock:
        sock.recv(1)


def reset(listener: socket.socket) -> None:
    with listener.accept()[0] as sock:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))


def say_half(listener: socket.socket) -> None:
    with listener.accept()[0] as sock:
        sock.recv(1)
        sock.sendall(b"ab")


@pytest.mark.parametrize("mptcp", [False, True], ids=["tcp", "mptcp"])
@pytest.mark.parametrize(
    ("serve", "kind"), [(answer, Kind.SERVED), (hang_up, Kind.EOF), (say_half, Kind.EOF), (reset, Kind.RESET)]
)
def test_kinds(serve: Callable[[socket.socket], None], kind: Kind, mptcp: bool, family: int) -> None:
    """What a server does is what the loader says."""
    tally = outcome(serve, family=family, mptcp=mptcp)
    assert tally.kinds == {kind.value: 1}
    assert tally.lost == (kind is not Kind.SERVED)
    assert tally.served_by == ({7: 1} if kind is Kind.SERVED else {})


def test_refused(family: int) -> None:
    """Nobody listens."""
    tally = Tally()
    with socket.socket(socket.AddressFamily(family)) as unused:
        unused.bind((LOOPBACK[family], 0))
        attempt(Target(name(unused), family=family, mptcp=False), tally)
    assert tally.losses() == {"refused": 1, "reset": 0, "eof": 0, "stalled": 0, "fell back": 0}


def test_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers within the patience."""
    monkeypatch.setattr(_load, "PATIENCE", 1)
    with listen(("127.0.0.1", 0)) as listener:
        tally = Tally()
        attempt(Target(name(listener), family=socket.AF_INET, mptcp=False), tally)
    assert tally.kinds == {"stalled": 1}


def test_fell_back(family: int) -> None:
    """An MPTCP client that a TCP listener served."""
    tally = Tally()
    with listen((LOOPBACK[family], 0), family=family) as listener, at_work(answer, listener):
        attempt(Target(name(listener), family=family, mptcp=True), tally)
    assert tally.kinds == {"fell back": 1}


def request_lies_in_the_queue(port: int, family: int) -> bool:
    """By /proc/net/tcp: rows of the established, with bytes to be acknowledged and bytes to be read."""
    table = Path("/proc/self/net/tcp6" if family == socket.AF_INET6 else "/proc/self/net/tcp")
    queues = {}
    for row in table.read_text().splitlines()[1:]:
        _, local, remote, state, waiting, *_ = row.split()
        if state == "01":
            queues[int(local.split(":")[1], 16), int(remote.split(":")[1], 16)] = waiting
    server = [queue for (local, _), queue in queues.items() if local == port]
    client = [queue for (_, remote), queue in queues.items() if remote == port]
    return (server, client) == (["00000000:00000001"], ["00000000:00000000"])


def test_a_reset_of_a_queued_connection_is_told_from_a_handshake(family: int) -> None:
    """On TCP: the request was acknowledged, so the connection waited in a queue."""
    tally = Tally()
    with contextlib.ExitStack() as closed:
        listener = closed.enter_context(listen((LOOPBACK[family], 0), family=family))
        port = name(listener)[1]
        with at_work(attempt, Target(name(listener), family=family, mptcp=False), tally):
            # Both ends are in the kernel's table, though nobody has accepted: the request is there, unread
            # by the server, and nothing is left for the client to have acknowledged.
            until(lambda: request_lies_in_the_queue(port, family), "the request to be acknowledged")
            closed.close()
    assert tally.losses()["reset"] == 1
    assert tally.reset_where == {"queue": 1}


def test_a_closed_loop_counts_and_ends() -> None:
    """Several processes at once; what they report is what they did."""

    def roll() -> tuple[int, int, dict[int, int]]:
        with listen(("127.0.0.1", 0)) as listener:
            target = Target(name(listener), family=socket.AF_INET, mptcp=False)
            serving = True

            def serve() -> None:
                listener.settimeout(0.1)
                while serving:
                    try:
                        sock, _ = listener.accept()
                    except TimeoutError:
                        continue
                    _load.answer_as(3)(sock)

            with ClosedLoop(target, in_flight=3) as load, at_work(serve):
                until(lambda: load.done >= 200, "200 connections")
                tally = load.stop()
                done = load.done
                serving = False
            return tally.total, done, dict(tally.served_by)

    total, done, served_by = in_private_network(roll)
    assert total == done >= 200
    assert served_by == {3: total}


def test_an_error_that_is_no_loss_ends_a_load() -> None:
    """Of either loop, with the error: here there is no route to the server."""

    def errors() -> list[int | None]:
        target = Target(("192.0.2.1", 80), family=socket.AF_INET, mptcp=False)
        with ClosedLoop(target, in_flight=2) as load:
            until(lambda: load.failed, "a loader to fail")
            with pytest.raises(OSError) as closed:  # compared below
                load.stop()
        with pytest.raises(OSError) as opened:
            _load.open_loop(target, rate=100.0, until=lambda _: False)
        return [closed.value.errno, opened.value.errno]

    assert in_private_network(errors) == [errno.ENETUNREACH] * 2


def test_an_open_loop_keeps_its_rate() -> None:
    """Whether or not anybody answers: here nobody does until all have been begun. And never faster."""
    rate, count = 100.0, 50
    ended: list[float] = []
    with listen(("127.0.0.1", 0)) as listener:

        def enough(tally: Tally) -> bool:
            if tally.started < count:
                return False
            ended.append(time.monotonic())
            servers.enter_context(at_work(answer_all))
            return True

        def answer_all() -> None:
            for _ in range(count):
                answer(listener)

        begun = time.monotonic()
        with contextlib.ExitStack() as servers:
            target = Target(name(listener), family=socket.AF_INET, mptcp=False)
            tally = _load.open_loop(target, rate=rate, until=enough)
    assert tally.kinds == {"served": count}
    assert ended[0] - begun >= (count - 1) / rate


def test_tallies_add_up() -> None:
    """Kinds, servers, slow ones."""
    one, other = Tally(), Tally()
    one.add(Kind.SERVED, 1, 0.1)
    other.add(Kind.SERVED, 1, 0.7)
    other.add(Kind.RESET, None, 0.9)
    one += other
    assert (one.total, one.lost, one.slow, one.slowest) == (3, 1, 1, 0.9)
    assert one.served_by == {1: 2}


@pytest.mark.parametrize(
    ("lost", "total", "bound"),
    [(0, 1000, 2.9957 / 1000), (1, 1000, 4.7439 / 1000), (10, 10**6, 16.962 / 10**6)],
)
def test_the_bound(lost: int, total: int, bound: float) -> None:
    """Upper 95 % limits of a Poisson mean, from tables: 0 of n is 3/n."""
    assert math.isclose(bound_95(lost, total), bound, rel_tol=1e-4)


def test_the_bound_of_nothing_is_everything() -> None:
    """No connection, no knowledge."""
    assert bound_95(0, 0) == 1.0


@pytest.mark.parametrize(
    ("statistic", "degrees", "p"),
    [(3.841459, 1, 0.05), (5.991465, 2, 0.05), (14.06714, 7, 0.05), (18.47531, 7, 0.01), (6.345811, 7, 0.5)],
)
def test_chi_square_against_tables(statistic: float, degrees: int, p: float) -> None:
    """Critical values as printed in tables."""
    assert math.isclose(_load._upper_gamma(degrees / 2, statistic / 2), p, rel_tol=1e-5)


def test_chi_square_of_shares() -> None:
    """Even shares are p 1, a skewed one p 0, and random ones in between."""
    assert chi_square([100] * 8) == (0.0, 1.0)
    assert chi_square([800, 0, 0, 0, 0, 0, 0, 0])[1] < 1e-100
    shares = [0] * 8
    draw = random.Random(1)
    for _ in range(10_000):
        shares[draw.randrange(8)] += 1
    assert 0.001 < chi_square(shares)[1] < 0.999
