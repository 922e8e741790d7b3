# SPDX-License-Identifier: MIT
"""Sampler called from threads, handlers and finalizers, which take turns or come in the middle."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import socket
import threading
import time

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._border.rows import Rows

from .support import mptcp_pair, rounds

Pair = tuple[socket.socket, socket.socket]


def test_threads_share_a_sampler(mptcp_ends: Pair) -> None:
    """Samples and changes take turns: every sample is whole, of one set of sockets."""
    client, accepted = mptcp_ends
    tokens = {sock.fileno(): mp.mptcp_info(sock).token for sock in mptcp_ends}
    others = [os.dup(client.fileno()) for _ in range(20)]
    tokens.update(dict.fromkeys(others, tokens[client.fileno()]))
    sampler = mp.Sampler([accepted, client])
    wrong: list[object] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            sample = sampler.sample()
            if sample.column("token").tolist() != [tokens[fd] for fd in sample.fds]:
                wrong.append((sample.fds, sample.column("token").tolist()))

    threads = [threading.Thread(target=look, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            for fd in others:
                sampler.add(fd)
            for fd in others:
                sampler.remove(fd)
    finally:
        done.set()
        for thread in threads:
            thread.join(10)
        for fd in others:
            os.close(fd)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_call_in_the_middle_of_a_call(mptcp_ends: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a handler or a finalizer, at the worst moment: each answer is of one set, and no change is lost."""
    with mptcp_pair(socket.AF_INET) as (other, _):
        another = other.fileno()
        client, accepted = mptcp_ends
        sampler = mp.Sampler(mptcp_ends)
        inner: list[mp.Sample[mp.MPTCPInfo]] = []
        tokens = {sock: mp.mptcp_info(sock).token for sock in (client.fileno(), accepted.fileno(), another)}

        def interrupt() -> int:
            monkeypatch.undo()
            sampler.remove(client)
            sampler.add(another)
            inner.append(sampler.sample())
            return 1

        for _ in range(2):
            monkeypatch.setattr(time, "monotonic_ns", interrupt)
            outer = sampler.sample()
            inner.append(sampler.sample())
            assert outer.fds == (client.fileno(), accepted.fileno())
            for sample in (outer, *inner):
                assert sample.column("token").tolist() == [tokens[fd] for fd in sample.fds]
            assert inner[0].fds == inner[1].fds == (accepted.fileno(), another)
            inner.clear()
            sampler.remove(accepted)
            sampler.remove(another)
            for sock in mptcp_ends:
                sampler.add(sock)


def test_a_change_while_the_set_is_put(mptcp_ends: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came too late for that sample, and is in the next."""
    client, accepted = mptcp_ends
    sampler = mp.Sampler(mptcp_ends)
    put = Rows.put

    def interrupted(rows: Rows, added: dict[int, int]) -> None:
        monkeypatch.undo()
        put(rows, added)
        sampler.remove(client)

    monkeypatch.setattr(Rows, "put", interrupted)
    assert sampler.sample().fds == (client.fileno(), accepted.fileno())
    assert sampler.sample().fds == (accepted.fileno(),)


def test_a_finalizer_that_removes_its_socket(mptcp_ends: Pair) -> None:
    """Wherever the collector runs it, in the thread that is in a call: nobody waits for himself."""
    sampler = mp.Sampler(mptcp_ends)
    seen: list[int] = []

    class Connection:
        def __init__(self) -> None:
            self.me, self.fd = self, os.dup(mptcp_ends[0].fileno())
            sampler.add(self.fd)

        def __del__(self) -> None:
            sampler.remove(self.fd)
            os.close(self.fd)
            seen.append(self.fd)

    def handler(*_: object) -> None:
        Connection()
        gc.collect()
        sampler.sample()

    token = [mp.mptcp_info(sock).token for sock in mptcp_ends]
    before = signal.signal(signal.SIGALRM, handler)
    gc.freeze()  # the collector need not walk the whole suite each time
    try:
        for _ in range(rounds(500)):
            count, deadline = len(seen), time.monotonic() + 10
            # In 0 to 100 us: before, in and behind the call.
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + count % 50 * 2e-6)
            while len(seen) == count:
                assert sampler.sample().column("token")[:2].tolist() == token
                assert time.monotonic() < deadline
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.unfreeze()
    assert sampler.fds == tuple(sock.fileno() for sock in mptcp_ends)


def test_what_holds_a_lock_is_not_copied(mptcp_ends: Pair) -> None:
    """Two that share arrays would disturb each other."""
    sampler = mp.Sampler(mptcp_ends)
    for copies in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copies(sampler)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # with threads: that is the point
def test_a_child_of_a_fork_in_the_middle_of_a_call_can_sample(mptcp_ends: Pair) -> None:
    """The lock of the parent's other thread is not the child's."""
    sampler = mp.Sampler(mptcp_ends)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with sampler._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        assert held.wait(60)
        assert testing.in_child(lambda: sampler.sample().errnos.tolist()) == [0, 0]
    finally:
        done.set()
        thread.join(60)
