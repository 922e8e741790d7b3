# SPDX-License-Identifier: MIT
"""mptcp_events(): one subscription for threads, select and asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import functools
import gc
import os
import pickle
import select
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.testing import in_child

from .support import (
    DEADLINE,
    Missing,
    at_work,
    connections,
    exchange,
    in_private_network,
    needs_loopback,
    until,
)
from .test_subflows import paths

Kind = mp.MPTCPEventKind
LOST = Kind.LOST


def privately(test: Callable[..., None]) -> Callable[..., None]:
    """Run the test in a network namespace of its own, where nobody else causes events."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        in_private_network(lambda: test(*arguments, **named))

    return run


def listened(number: int = 1) -> list[tuple[Kind, int]]:
    """Cause two events for each of so many listeners; their kinds and ports."""
    told = []
    for _ in range(number):
        with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
            port = server.getsockname()[1]
        told += [(Kind.LISTENER_CREATED, port), (Kind.LISTENER_CLOSED, port)]
    return told


@contextlib.contextmanager
def subscribed(buffer: int = 1 << 20) -> Iterator[mp.MPTCPEvents]:
    """On a kernel that tells of listeners, whose events come at once."""
    with mp.mptcp_events(buffer=buffer) as events:
        listened()
        if not events.read():
            raise Missing("a kernel that tells of MPTCP listeners (6.2)")
        yield events


def descriptors() -> int:
    """How many this process has; os.listdir() needs one for itself, always."""
    return len(os.listdir("/proc/self/fd"))


def kinds(events: list[mp.MPTCPEvent]) -> list[tuple[Any, int | None]]:
    return [(event.kind, event.local and event.local[1]) for event in events]


# --------------------------------------------------------------------------------------------- what is told


@privately
def test_both_ends_of_a_connection_are_told(mptcp: None, family: int) -> None:
    """Handshake, confirmation and end, by the token of each end; with addresses in all but the last."""
    with mp.mptcp_events() as events:
        with connections(1, family) as (client, server):
            exchange(client, server)
            ends = {mp.mptcp_info(sock).token: sock for sock in (client, server)}
            names = [(sock.getsockname(), sock.getpeername()) for sock in ends.values()]
            tokens = list(ends)
        told: dict[int | None, list[mp.MPTCPEvent]] = {token: [] for token in tokens}

        def is_all() -> bool:
            for event in events.read():
                if event.token:  # a listener has none
                    told[event.token].append(event)
            return all(any(event.kind is Kind.CLOSED for event in end) for end in told.values())

        until(is_all, "the ends of both")
    for token, (local, remote) in zip(tokens, names, strict=True):
        created, established, last = told[token]
        assert [created.kind, established.kind, last.kind] == [Kind.CREATED, Kind.ESTABLISHED, Kind.CLOSED]
        for event in (created, established):
            assert (event.local, event.remote, event.family) == (local, remote, family)
            assert (event.id, event.remote_id, event.error, event.backup) == (0, 0, None, None)
        assert last == mp.MPTCPEvent(Kind.CLOSED, last.time, token)
        assert created.time <= established.time <= last.time
    assert not told[tokens[0]][0].server_side
    assert told[tokens[1]][0].server_side in (True, None)  # Linux 5.19


@privately
def test_a_subflow_has_the_addresses_and_ids_of_a_snapshot(mptcp: None, family: int) -> None:
    """On both sides, by the token of each."""
    with mp.mptcp_events() as events, paths(socket.AddressFamily(family), 2) as ends:
        told: dict[int | None, mp.MPTCPEvent] = {}

        def is_told() -> bool:
            told.update({e.token: e for e in events.read() if e.kind is Kind.SUB_ESTABLISHED})
            return len(told) == 2

        until(is_told, "both sides")
        for sock in ends:
            shot = mp.snapshot(sock)
            assert shot.info
            event, path = told[shot.info.token], shot.subflows[-1]
            assert (event.local, event.remote, event.family) == (path.local, path.remote, family)
            assert (event.backup, event.error, event.ifindex) == (False, None, None)


@privately
def test_an_ipv4_client_of_an_ipv6_listener(mptcp: None) -> None:
    """Each side has the addresses of its own socket."""
    needs_loopback(socket.AF_INET6)
    server = mp.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = server.getsockname()[1]
    with server, mp.mptcp_events() as events, mp.create_connection(("127.0.0.1", port)) as client:
        ends: set[object] = {
            (socket.AF_INET, client.getsockname()),
            (socket.AF_INET6, ("::ffff:127.0.0.1", port, 0, 0)),
        }
        for event in events:
            if event.kind is Kind.CREATED:
                ends.remove((event.family, event.local))
                if not ends:
                    break


def test_an_event_is_a_record() -> None:
    """Immutable, equal by its parts, pickled; what was not told is None; an unknown kind is a number."""
    event = mp.MPTCPEvent(11, 5, 0xABC, local=("10.0.0.1", 80), error=errno.ECONNREFUSED, id=0)
    assert event.kind is Kind.SUB_CLOSED
    assert pickle.loads(pickle.dumps(event)) == event != mp.MPTCPEvent(11, 6, 0xABC)
    assert hash(event) == hash(copy.copy(event))
    with pytest.raises(AttributeError):
        event.token = 1  # type: ignore[misc]
    assert event.asdict().keys() == set(mp.MPTCPEvent._names)
    assert type(event.asdict()["kind"]) is int
    assert {name for name, part in event.asdict().items() if part is not None} == {
        "kind", "time", "token", "local", "error", "id",
    }  # fmt: skip
    assert str(event) == "SUB_CLOSED token 00000abc local 10.0.0.1:80 id 0 error 111"
    assert repr(event) == "MPTCPEvent(kind=SUB_CLOSED, token=2748, local=('10.0.0.1', 80), id=0, error=111)"
    newer = mp.MPTCPEvent(99, 0)
    assert (type(newer.kind), newer.kind, str(newer)) == (int, 99, "99")


def test_kinds_are_the_kernels() -> None:
    """Once more by hand, from <linux/mptcp_pm.h>; LOST is no number that it could send."""
    numbers = [1, 2, 3, 6, 7, 10, 11, 13, 15, 16]
    assert [int(kind) for kind in Kind] == [*numbers, -1]
    assert f"{Kind.SUB_CLOSED} {Kind.SUB_CLOSED:d}" == "SUB_CLOSED 11"


# -------------------------------------------------------------------------------------------------- waiting


@privately
def test_read_never_waits_and_wait_does(mptcp: None) -> None:
    """All there is, in order; an empty list if there is nothing, from wait() after its time."""
    with subscribed() as events:
        assert events.read() == events.wait(0) == events.wait(0.01) == events.wait(-1) == []
        told = listened(3)
        assert kinds(events.read()) == told
        told = listened()
        assert kinds(events.wait(DEADLINE)) == told
        with at_work(listened):
            assert events.wait()


@privately
def test_select_finds_it_readable(mptcp: None) -> None:
    """If there are events, and not if there are none."""
    with subscribed() as events:
        assert select.select([events], [], [], 0)[0] == []
        listened()
        assert select.select([events], [], [], 0)[0] == [events]
        events.read()
        assert select.select([events], [], [], 0)[0] == []


@privately
def test_an_iteration_that_ends_early_loses_nothing(mptcp: None) -> None:
    """The next one goes on, as does read()."""
    with subscribed() as events:
        told = listened(2)
        assert kinds([next(iter(events))]) == told[:1]
        for event in events:
            assert kinds([event]) == told[1:2]
            break
        assert kinds(events.read()) == told[2:]


@privately
def test_an_iteration_waits(mptcp: None) -> None:
    """Until another thread causes an event."""
    with subscribed() as events, at_work(listened):
        assert next(iter(events)).kind is Kind.LISTENER_CREATED


@privately
def test_tasks_of_one_loop_share_the_events(mptcp: None) -> None:
    """Each event goes to one of them; close() ends all of them."""

    async def main() -> None:
        found: list[mp.MPTCPEvent] = []

        async def collect() -> None:
            async for event in events:
                found.append(event)

        tasks = [asyncio.create_task(collect()) for _ in range(3)]
        told = []
        for _ in range(3):
            await asyncio.sleep(0)
            told += listened()
        while len(found) < len(told):
            await asyncio.sleep(0.001)
        assert kinds(found) == told
        events.close()
        await asyncio.gather(*tasks)

    with subscribed() as events:
        asyncio.run(asyncio.wait_for(main(), DEADLINE), debug=True)


@privately
def test_a_cancelled_iteration_leaves_nothing_in_the_loop(mptcp: None) -> None:
    """No reader and no descriptor; nor does aclose(), nor a loop that ends. And it can be iterated again."""

    async def main() -> None:
        async def first() -> mp.MPTCPEvent:
            async for event in events:
                return event
            raise AssertionError

        before = descriptors()
        for _ in range(3):
            task = asyncio.create_task(first())
            there = set(os.listdir("/proc/self/fd"))
            await asyncio.sleep(0)
            new = [int(name) for name in set(os.listdir("/proc/self/fd")) - there]
            assert len(new) == 2
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert descriptors() == before
            assert not any(map(asyncio.get_running_loop().remove_reader, new))
        told = listened()
        assert kinds([await first()]) == told[:1]
        iterator = events.__aiter__()
        assert kinds([await iterator.__anext__()]) == told[1:]
        await iterator.aclose()  # type: ignore[attr-defined]
        assert descriptors() == before

    with subscribed() as events:
        asyncio.run(main())
        asyncio.run(main())


# -------------------------------------------------------------------------------------------------- closing


@privately
def test_another_thread_closes_it(mptcp: None) -> None:
    """wait() raises EBADF, an iteration ends, and no descriptor is left."""
    before = descriptors()
    caught: list[object] = []

    def waiting(use: Callable[[mp.MPTCPEvents], object], events: mp.MPTCPEvents) -> None:
        try:
            caught.append(use(events))
        except OSError as error:
            caught.append(error.errno)

    for use in (mp.MPTCPEvents.wait, list):
        with subscribed() as events, at_work(waiting, use, events), at_work(waiting, use, events):
            until(lambda: descriptors() == before + 2 + 2 * 2, "threads that wait")
            events.close()
            assert events.fileno() == -1
        assert descriptors() == before
    assert caught == [errno.EBADF, errno.EBADF, [], []]


@privately
def test_closed_is_closed(mptcp: None) -> None:
    """Every use of it raises EBADF, at once; closing it again does nothing, however often."""
    events = mp.mptcp_events()
    assert repr(events) == f"<MPTCPEvents fd={events.fileno()}>"
    with events:
        pass
    events.close()
    assert (events.fileno(), repr(events)) == (-1, "<MPTCPEvents closed>")
    for use in (events.read, events.wait, lambda: next(iter(events))):
        with pytest.raises(OSError, match="closed") as caught:
            use()
        assert caught.value.errno == errno.EBADF


@privately
def test_what_is_left_open_is_a_resource_warning(mptcp: None) -> None:
    """One, and its descriptors are closed."""
    before = descriptors()
    events = mp.mptcp_events()
    shown = repr(events)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del events
        gc.collect()
    assert [(w.category, str(w.message)) for w in caught] == [(ResourceWarning, f"unclosed {shown}")]
    assert descriptors() == before


@privately
def test_it_cannot_be_copied(mptcp: None) -> None:
    """Two objects would close the same descriptors."""
    with mp.mptcp_events() as events:
        for double in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="copied or pickled"):
                double(events)


@privately
def test_ctrl_c_ends_a_wait_and_nothing_else(mptcp: None) -> None:
    """The subscription goes on, and closes as ever."""

    def interrupt() -> None:
        until(lambda: descriptors() > before, "a wait")
        while descriptors() > before:
            os.kill(os.getpid(), signal.SIGINT)
            # Lost, as to any Python, if it came between the last look for signals and poll(2): press again.
            deadline = time.monotonic() + 5
            while descriptors() > before and time.monotonic() < deadline:
                time.sleep(0.002)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subscribed() as events:
        before = descriptors()
        for use in (events.wait, lambda: next(iter(events))):
            with at_work(interrupt), pytest.raises(KeyboardInterrupt):
                use()
        assert descriptors() < before + 2
        told = listened()
        assert kinds(events.read()) == told


# ---------------------------------------------------------------------------------------------------- forks


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # with threads: that is the point
@privately
def test_a_fork_shares_the_events(mptcp: None) -> None:
    """Each goes to whoever reads it; what the child closes stays open in the parent, whose wait goes on."""
    with subscribed() as events:
        told = listened()
        assert kinds(in_child(events.read)) == told
        found: list[Any] = []
        before = descriptors()
        with at_work(lambda: found.extend(events.wait())):
            until(lambda: descriptors() > before, "a wait")

            def close() -> tuple[int, int]:
                before = descriptors()
                events.close()
                return events.fileno(), before - descriptors()

            assert in_child(close) == (-1, 2)
            assert select.select([events._waker], [], [], 0)[0] == []
            assert (descriptors(), found) == (before + 2, [])
            told = listened()
        assert kinds(found + events.read()) == told


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # with threads: that is the point
@privately
def test_a_fork_in_the_middle_of_a_read(mptcp: None) -> None:
    """Of another thread: the child's lock is free."""
    with subscribed() as events:
        inside, done = threading.Event(), threading.Event()

        def hold() -> None:
            with events._lock:
                inside.set()
                done.wait(DEADLINE)

        with at_work(hold):
            assert inside.wait(DEADLINE)
            told = listened()
            assert kinds(in_child(events.read)) == told
            done.set()
