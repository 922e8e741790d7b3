# SPDX-License-Identifier: MIT
"""Sampler over time: failures, descriptors that were reused, a set that changes, growth."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import resource
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from _mptcp_sockopt import ffi

import mptcp_sockopt as mp

from .support import (
    LOOPBACK,
    Missing,
    exchange,
    fallback_pair,
    has_full_info,
    in_private_network,
    mptcp_pair,
    needs_full_info,
    reset,
    rounds,
    until,
)
from .test_sampler import AGES, at_rest, await_rest
from .vectors import MPTCP_INFO_LENGTH

Pair = tuple[socket.socket, socket.socket]


def problem(row: object) -> OSError:
    assert isinstance(row, OSError), row
    return row


@pytest.fixture
def another(mptcp: None) -> Iterator[int]:
    """The descriptor of another connection, to be put (dup2) in the place of one that was sampled."""
    with mptcp_pair(socket.AF_INET) as (client, accepted):
        exchange(client, accepted)
        yield client.fileno()


# ------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("full", [False, True])
def test_a_failure_is_the_exception_that_the_reader_raises(full: bool, family: int) -> None:
    """As a value, and the other rows are not disturbed."""
    read: Any = mp.mptcp_full_info if full else mp.mptcp_info
    with (
        mptcp_pair(family) as (client, _),
        fallback_pair(family) as (fallen, tcp),
        socket.socket(family, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        open(os.devnull) as file,
    ):
        gone = os.dup(client.fileno())
        sampler = mp.Sampler([fallen, client, tcp, udp, unix, file, gone], full=full)
        os.close(gone)
        sample = sampler.sample()
        answers = has_full_info() or not full
        if answers:
            assert bytes(sample[1])[:16] == read(client)[:16]  # type: ignore[arg-type]
        for index, fd in enumerate(sample.fds):
            if answers and index == 1:
                continue
            with pytest.raises(OSError) as caught:
                read(fd)
            expected, found = caught.value, problem(sample[index])
            assert (type(found), found.errno, str(found)) == (type(expected), expected.errno, str(expected))
            assert getattr(found, "option", None) == getattr(expected, "option", None)
            assert (sample.errnos[index], sample.lengths[index]) == (expected.errno, 0)
        assert isinstance(sample[0], mp.NotMPTCPError)
        assert "fell back" in str(sample[0])
        assert [type(row) for row in sample] == [type(row) for row in sample[:]]


def test_why_a_row_failed_does_not_change(family: int) -> None:
    """It was asked at once: what became of the descriptor since is not what it was."""
    with fallback_pair(family) as (fallen, tcp):
        sample = mp.Sampler([fallen, tcp]).sample()
        before = list(map(str, sample))
    assert fallen.fileno() == -1
    assert list(map(str, sample)) == before
    assert "fell back to TCP" in before[0]
    assert "plain TCP" in before[1]


@pytest.mark.parametrize("full", [False, True])
def test_a_descriptor_of_another_connection_is_stale_until_it_is_added_again(
    full: bool, mptcp_ends: Pair, another: int
) -> None:
    """Neither row nor column shows the other connection's data."""
    needs_full_info(full)
    client, accepted = mptcp_ends
    with client.dup() as sock:
        sampler = mp.Sampler([accepted, sock], full=full)
        before = sampler.sample()
        os.dup2(another, sock.fileno())
        for _ in range(2):
            sample = sampler.sample()
            assert problem(sample[1]).errno == errno.ESTALE
            assert "another connection" in str(sample[1])
            assert sample.errnos.tolist() == [0, errno.ESTALE]
            assert sample.column("token").tolist() == [mp.mptcp_info(accepted).token, 0]
            assert sample.column("write_seq")[1] == sample.lengths[1] == 0
        sampler.remove(accepted)  # what is known of the others stays known
        assert problem(sampler.sample()[0]).errno == errno.ESTALE
        sampler.add(sock)
        assert sampler.sample().column("token").tolist() == [mp.mptcp_info(another).token]
        assert before.column("token")[1] == mp.mptcp_info(client).token


@pytest.mark.parametrize("seen", ["closed", "file", "udp", "tcp", "fallen"])
def test_what_was_seen_not_to_be_mptcp_is_not_trusted_again(seen: str, another: int) -> None:
    """Even if no token was known: what answers there now, with a token or without, is not what was added."""
    with mp.create_socket(fallback=False) as fresh, socket.socket(type=socket.SOCK_DGRAM) as udp:
        with fallback_pair(socket.AF_INET) as (fallen, tcp), open(os.devnull) as file:
            others: dict[str, Any] = {"file": file, "udp": udp, "tcp": tcp, "fallen": fallen}
            fd = os.dup(fresh.fileno())
            sampler = mp.Sampler([fd])
            assert sampler.sample().column("token").tolist() == [0]
            if seen == "closed":
                os.close(fd)
            else:
                os.dup2(others[seen].fileno(), fd)
            for _ in range(2):
                assert problem(sampler.sample()[0]).errno != errno.ESTALE
        for now in (another, fresh.fileno()):
            os.dup2(now, fd)
            assert problem(sampler.sample()[0]).errno == errno.ESTALE
        sampler.add(fd)
        assert sampler.sample().errnos.tolist() == [0]
        os.close(fd)


@pytest.mark.parametrize("other", ["pipe", "udp", "tcp"])
def test_a_descriptor_that_became_something_else_says_so(other: str, mptcp_ends: Pair, another: int) -> None:
    """The kernel's errno; and when the number is a connection's again, it is another one's."""
    with mptcp_ends[0].dup() as sock, contextlib.ExitStack() as stack:
        fd = sock.fileno()
        sampler = mp.Sampler([sock])
        assert sampler.sample().errnos.tolist() == [0]
        if other == "pipe":
            ends = [
                stack.enter_context(os.fdopen(end, mode)) for end, mode in zip(os.pipe(), "rw", strict=True)
            ]
            os.dup2(ends[0].fileno(), fd)
        else:
            kind = socket.SOCK_DGRAM if other == "udp" else socket.SOCK_STREAM
            os.dup2(stack.enter_context(socket.socket(type=kind)).fileno(), fd)
        sample = sampler.sample()
        with pytest.raises(OSError) as caught:
            mp.mptcp_info(fd)
        assert (type(sample[0]), str(sample[0])) == (type(caught.value), str(caught.value))
        assert sample.column("token").tolist() == [0]
        os.dup2(another, fd)
        assert problem(sampler.sample()[0]).errno == errno.ESTALE


def test_a_connection_may_gain_and_lose_its_token(family: int) -> None:
    """Before connect and after a fastclose (reset by the peer) it is 0, which makes it nobody else's."""
    with mptcp_pair(family) as (client, accepted), mp.create_socket(family, fallback=False) as fresh:
        sampler = mp.Sampler([sock := os.dup(fresh.fileno())])
        try:
            assert sampler.sample().column("token")[0] == 0
            fresh.settimeout(5)
            sampler.add(client)
            exchange(client, accepted)
            assert sampler.sample().column("token").tolist() == [0, mp.mptcp_info(client).token]
            reset(accepted, client)
            until(lambda: mp.mptcp_info(client).token == 0, "the fastclose")
            sample = sampler.sample()
            assert sample.errnos.tolist() == sample.column("token").tolist() == [0, 0]
            with mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family) as server:
                fresh.connect(server.getsockname())
                token = mp.mptcp_info(fresh).token
                for _ in range(2):
                    assert sampler.sample().column("token").tolist() == [token, 0]
        finally:
            os.close(sock)


# ---------------------------------------------------------------------------- a set that changes


def test_sockets_come_and_go_and_old_samples_stay(family: int) -> None:
    """A result never changes: neither rows nor columns, whatever is sampled after it."""
    with mptcp_pair(family) as one, mptcp_pair(family) as two:
        exchange(*one)
        sampler = mp.Sampler(one)
        first = sampler.sample()
        column, rows = first.column("write_seq"), list(first)
        values = column.tolist()
        for sock in two:
            sampler.add(sock)
        sampler.remove(one[0])
        exchange(*one, 1000)
        exchange(*two, 1000)
        await_rest(*one, *two)
        second = sampler.sample()
        assert second.fds == sampler.fds == tuple(sock.fileno() for sock in (one[1], *two))
        assert [at_rest(row) for row in second] == [at_rest(mp.mptcp_info(s)) for s in (one[1], *two)]
        many = [sampler.sample() for _ in range(8)]
        assert first.time <= second.time <= many[0].time <= many[-1].time
        del first, second, many
        gc.collect()
        for _ in range(8):  # into memory that came back
            sampler.sample()
        assert column.tolist() == values
        assert [row.write_seq for row in rows if isinstance(row, mp.MPTCPInfo)] == values


def test_memory_comes_back_when_the_last_view_of_it_is_gone(mptcp_ends: Pair) -> None:
    """A sample, a column, a slice of a column: each keeps it; none needs the Sampler."""
    sampler = mp.Sampler(mptcp_ends)
    spare = sampler._rows._spare
    column = sampler.sample().column("token")
    part = column[1:]
    del column
    assert spare == []
    sampler.sample()
    assert len(spare) == 1
    token = mp.mptcp_info(mptcp_ends[1]).token
    for _ in range(4):
        sampler.sample()
    assert (part.tolist(), len(spare)) == ([token], 1)
    del part
    assert len(spare) == 2
    held = [sampler.sample() for _ in range(9)]
    del held
    assert len(spare) == 2
    sampler.add(mptcp_ends[0])
    last = sampler.sample()
    del sampler
    assert last.column("token")[1] == token


def test_memory_for_more_sockets_is_not_kept(mptcp_ends: Pair) -> None:
    """Once some are gone, it is as that of a Sampler which never had them."""
    sampler, another = mp.Sampler(mptcp_ends), mp.Sampler(mptcp_ends[:1])
    sampler.sample()
    sampler.remove(mptcp_ends[1])
    for one in (sampler, another):
        one.sample()
    assert list(map(len, sampler._rows._spare)) == list(map(len, another._rows._spare))


def test_wide_rows_become_narrow_again(mptcp_ends: Pair) -> None:
    """After a sample in which none took half of one; before that they stay."""
    sampler = mp.Sampler(mptcp_ends)
    narrow = sampler.sample()._stride
    half_full = 2 * len(mp.mptcp_info(mptcp_ends[0])) - 8
    for stride, after in ((half_full, half_full), (4000, narrow)):
        sampler._rows._stride = stride
        assert [sampler.sample()._stride for _ in range(3)] == [stride, after, after]


@pytest.mark.parametrize("full", [False, True])
def test_memory_that_came_back_tells_nothing(full: bool, mptcp_ends: Pair) -> None:
    """Whatever was in it: failed rows are zeros in every column, and good ones hold their own bytes only."""
    needs_full_info(full)
    inward, outward = os.pipe()
    sampler = mp.Sampler([inward, *mptcp_ends, outward], full=full)
    expected = sampler.sample()
    sampler.sample()
    (spare,) = sampler._rows._spare
    memory = memoryview(ffi.buffer(spare))
    memory[:] = b"\xee" * len(memory)
    sample = sampler.sample()
    assert sample._block.obj is not expected._block.obj
    assert sampler._rows._spare == []  # it was taken
    info = mp.mptcp_info(mptcp_ends[0])
    for name in info.fields:
        value = getattr(info, name)
        if name not in AGES and value is not None:
            assert sample.column(name).tolist() == expected.column(name).tolist(), name
            assert sample.column(name)[0] == sample.column(name)[3] == 0, name
    assert sample.lengths.tolist() == expected.lengths.tolist()
    assert list(map(str, sample[::3])) == list(map(str, expected[::3]))
    assert b"\xee" * 8 not in pickle.dumps(sample)
    os.close(inward)
    os.close(outward)


def test_removing_and_adding() -> None:
    """By socket, or by number when it is closed; what is not there is a KeyError."""
    with socket.socket() as one, socket.socket() as two:
        sampler = mp.Sampler([one])
        sampler.add(two)
        sampler.add(one)
        assert list(sampler.fds) == [one.fileno(), two.fileno()]
        fd = two.fileno()
        two.close()
        with pytest.raises(ValueError, match="closed"):
            sampler.remove(two)
        sampler.remove(fd)
        assert list(sampler.fds) == [one.fileno()]
        with pytest.raises(KeyError, match=f"fd {fd} is not in this Sampler"):
            sampler.remove(fd)
        sampler.remove(one)
        assert (len(sampler), list(sampler.sample())) == (0, [])


def test_bad_input() -> None:
    """Refused before the kernel is asked; nothing is added by a call that fails."""
    with socket.socket() as sock, socket.socket() as closed:
        closed.close()
        sampler = mp.Sampler([sock])
        bad: Any
        for bad, kind in ((True, TypeError), ("3", TypeError), (None, TypeError), (-1, ValueError),
                          (2**31, ValueError), (closed, ValueError)):  # fmt: skip
            for call in (
                sampler.add,
                sampler.remove,
                sampler.__contains__,
                lambda bad: mp.Sampler([sock, bad]),
            ):
                with pytest.raises(kind):
                    call(bad)
        with pytest.raises(ValueError, match=f"fd {sock.fileno()} occurs twice"):
            mp.Sampler([sock, sock.fileno()])
        with pytest.raises(TypeError):
            mp.Sampler(sock)  # type: ignore[call-overload]
        assert sampler.fds == (sock.fileno(),)


def test_nothing_grows(mptcp_ends: Pair) -> None:
    """Neither descriptors nor memory, over many samples, changes and failures."""
    with socket.socket() as tcp:
        sampler = mp.Sampler([*mptcp_ends, tcp])
        full = mp.Sampler(mptcp_ends, full=True)

        def work(times: int) -> None:
            for _ in range(times):
                list(sampler.sample())
                sampler.sample().column("token").tolist()
                list(full.sample())
                sampler.remove(tcp)
                sampler.sample()
                sampler.add(tcp)

        work(50)
        descriptors = len(os.listdir("/proc/self/fd"))
        gc.collect()
        tracemalloc.start()
        try:
            work(5)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            work(rounds(500))
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 20_000
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_more_than_a_thousand_sockets(family: int) -> None:
    """Rows beyond any small buffer, and descriptors beyond what select(2) takes."""
    count = 3000

    def look() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most < count + 100:
            raise Missing(f"{count} descriptors: the limit is {most}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with mptcp_pair(family) as (client, accepted), contextlib.ExitStack() as stack:
            exchange(client, accepted)
            fds = [os.dup((client, accepted)[n % 2].fileno()) for n in range(count)]
            for fd in fds:
                stack.callback(os.close, fd)
            sampler = mp.Sampler(fds)
            sample = sampler.sample()
            assert max(fds) > 1024
            tokens = [mp.mptcp_info(sock).token for sock in (client, accepted)]
            assert sample.column("token").tolist() == tokens * (count // 2)
            assert [row.token for row in sample if isinstance(row, mp.MPTCPInfo)] == tokens * (count // 2)
            assert 0 <= sample._stride - max(MPTCP_INFO_LENGTH, len(mp.mptcp_info(client))) < 8

    in_private_network(look)
