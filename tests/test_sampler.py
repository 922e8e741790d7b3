# SPDX-License-Identifier: MIT
"""Sampler and Sample: many sockets in one call, on real ones."""

from __future__ import annotations

import errno
import os
import pickle
import socket
from typing import Any

import pytest
from _mptcp_sockopt import ffi, lib

import mptcp_sockopt as mp
from mptcp_sockopt import _fields
from mptcp_sockopt._border import sockopt

from .support import (
    Refusal,
    exchange,
    has_full_info,
    in_private_network,
    mptcp_pair,
    needs_full_info,
    tcp_pair,
    until,
    where_refused,
)
from .test_older_kernels import BEFORE_5_16, FULL_INFO, IS_MPTCP
from .test_subflows import paths

Pair = tuple[socket.socket, socket.socket]
AGES = ("last_data_sent", "last_data_recv", "last_ack_recv")


def at_rest(info: Any) -> dict[str, int | None]:
    """All fields that stand still while nothing is sent."""
    assert isinstance(info, mp.MPTCPInfo), info
    return {name: value for name, value in info.asdict().items() if name not in AGES}


def await_rest(*socks: socket.socket) -> None:
    """Until the last acknowledgement has come, which may be later than the last byte."""
    until(lambda: not any(mp.mptcp_info(sock).unacked_bytes for sock in socks), "rest")


# --------------------------------------------------------------------------------- rows and columns


def test_rows_are_what_mptcp_info_returns(mptcp_ends: Pair) -> None:
    """In the order of the sockets, for both ends, and for whatever may be passed as a socket."""
    client, accepted = mptcp_ends
    exchange(client, accepted)
    await_rest(client, accepted)
    sampler = mp.Sampler([client, accepted.fileno()])
    sample = sampler.sample()
    assert [at_rest(row) for row in sample] == [at_rest(mp.mptcp_info(sock)) for sock in mptcp_ends]
    assert [type(row) for row in sample] == [mp.MPTCPInfo] * 2
    assert sample.fds == sampler.fds == (client.fileno(), accepted.fileno())
    assert len(sample) == len(sampler) == 2
    assert sample.errnos.tolist() == [0, 0]
    assert sample.lengths.tolist() == [len(mp.mptcp_info(client))] * 2
    assert client in sampler
    assert client.fileno() in sampler
    assert 10**6 not in sampler


def test_a_sample_is_a_sequence(mptcp_ends: Pair) -> None:
    """Indices from either end, slices to tuples, IndexError beyond, any number of iterations."""
    sample = mp.Sampler(mptcp_ends).sample()
    rows = list(sample)
    assert rows == list(sample) == [sample[0], sample[1]] == [sample[-2], sample[-1]]
    assert sample[:] == tuple(rows)
    assert sample[::-1] == tuple(rows[::-1])
    assert sample[5:] == ()
    for index in (2, -3):
        with pytest.raises(IndexError, match="of 2"):
            sample[index]
    with pytest.raises(TypeError):
        sample["token"]  # type: ignore[call-overload]


@pytest.mark.parametrize("full", [False, True])
def test_a_column_is_the_field_of_every_row(full: bool, family: int) -> None:
    """For every field that the kernel reports; 0 where a row failed; not a copy, and not writable."""
    needs_full_info(full)
    with (
        mptcp_pair(family) as (client, accepted),
        tcp_pair(family) as (tcp, _),
        mp.create_server(("127.0.0.1", 0), fallback=False) as listener,
    ):
        exchange(client, accepted, 1000)
        sampler = mp.Sampler([tcp, client, accepted, listener], full=full)
        sample = sampler.sample()
        rows = [None if isinstance(row, OSError) else row.info if full else row for row in sample]
        assert [row is None for row in rows] == [True, False, False, False]
        for name, field in mp.MPTCPInfo.fields.items():
            values = [0 if row is None else getattr(row, name) for row in rows]
            if None in values:
                with pytest.raises(ValueError, match=f"does not report {name}"):
                    sample.column(name)
                continue
            column = sample.column(name)
            assert column.tolist() == values, name
            assert (column.readonly, column.itemsize) == (True, field.place.size)
            with pytest.raises(TypeError):
                column[0] = 1
        assert sample.column("token")[1] == mp.mptcp_info(client).token != 0
        assert sample.column("write_seq").obj is sample.column("token").obj  # the same memory
        if full:
            assert sample.column("num_subflows").tolist() == [
                0,
                1,
                1,
                mp.mptcp_full_info(listener).num_subflows,
            ]


def test_what_is_no_column(mptcp_ends: Pair) -> None:
    """ValueError: unknown names, also without a row."""
    for sockets in ((), mptcp_ends):
        sample = mp.Sampler(sockets).sample()
        for name in ("speed", "num_subflows", "", "mptcpi_token"):
            with pytest.raises(ValueError, match="has no field"):
                sample.column(name)
        with pytest.raises(ValueError, match="has no field"):
            mp.Sampler(sockets, full=True).sample().column("tcp_info")


@pytest.mark.parametrize("full", [False, True])
def test_a_column_that_an_older_kernel_does_not_report_is_refused(full: bool, mptcp_ends: Pair) -> None:
    """By the length that it answered: recorded as of Linux 5.16, whose mptcp_info has 48 bytes."""
    needs_full_info(full)
    sampler = mp.Sampler(mptcp_ends, full=full)
    rows = sampler.sample()
    older = []
    row: Any
    for row in rows:
        start = 40 if full else 0
        older.append(row[: start + 48] + row[start + len(mp.mptcp_info(mptcp_ends[0])) :])
    stride, count = rows._stride, len(rows)
    ints = [*map(len, older), *[0] * (2 * count)]
    block = b"".join(row.ljust(stride, b"\0") for row in older) + bytes(ffi.buffer(ffi.new("int[]", ints)))
    sample: mp.Sample[Any] = mp.Sample(full, rows.fds, rows.time, stride, memoryview(block))
    assert sample.column("token").tolist() == rows.column("token").tolist()
    assert sample.column("csum_enabled").tolist() == [0, 0]
    for name in ("retransmits", "bytes_sent", "last_ack_recv"):
        with pytest.raises(ValueError, match=f"this kernel does not report {name}, which Linux 6"):
            sample.column(name)
    row = sample[0]
    info = row.info if full else row
    assert (info.csum_enabled, info.retransmits) == (0, None)
    assert _fields.column(mp.MPTCPInfo, "token", memoryview(b""), 96, 0, 96).tolist() == []


@pytest.mark.parametrize("full", [False, True])
def test_no_sockets(full: bool) -> None:
    """A sample of nothing; every column is empty."""
    sampler = mp.Sampler(full=full)
    sample = sampler.sample()
    assert (len(sampler), len(sample), list(sample), sample.fds, sample[:]) == (0, 0, [], (), ())
    assert sample.column("bytes_sent").tolist() == sample.errnos.tolist() == sample.lengths.tolist() == []


def test_where_nothing_answered_columns_are_zeros() -> None:
    """It is not known what this kernel would report."""
    pipe = os.pipe()
    try:
        for full in (False, True):
            sampler = mp.Sampler(pipe, full=full)
            sample = sampler.sample()
            assert sample.column("endp_fullmesh_max").tolist() == sample.column("token").tolist() == [0, 0]
            assert sample.lengths.tolist() == [0, 0]
            assert sample.errnos.tolist() == [errno.ENOTSOCK] * 2
    finally:
        for fd in pipe:
            os.close(fd)


def test_numpy_takes_columns_as_they_are(mptcp_ends: Pair) -> None:
    """Where numpy is: without copying, strided, not writeable."""
    numpy = pytest.importorskip("numpy")
    column = mp.Sampler(mptcp_ends).sample().column("write_seq")
    array = numpy.asarray(column)
    assert array.tolist() == column.tolist()
    assert array.strides == column.strides
    assert not array.flags.writeable
    assert not array.flags.owndata


# ----------------------------------------------------------------------------------- several subflows


@pytest.mark.parametrize("count", [1, 2, 9])
def test_full_rows_are_what_mptcp_full_info_returns(count: int, family: int) -> None:
    """However many subflows each socket has; rows of fewer stand beside them."""

    def look() -> None:
        needs_full_info()
        with paths(socket.AddressFamily(family), count) as (client, accepted):
            assert_full_rows(client, accepted, count)

    in_private_network(look)


def sampled_at_rest(
    sampler: mp.Sampler[Any], ends: list[socket.socket]
) -> tuple[mp.Sample[Any], list[mp.MPTCPFullInfo]]:
    """A sample, and what each socket answers before it and after it alike."""
    samples, answers = [], [list(map(mp.mptcp_full_info, ends))]

    def at_rest_around_it() -> bool:
        samples.append(sampler.sample())
        answers.append(list(map(mp.mptcp_full_info, ends)))
        before, after = ([at_rest(one.info) for one in all_ends] for all_ends in answers[-2:])
        return before == after

    until(at_rest_around_it, "a connection at rest")
    return samples[-1], answers[-1]


def assert_full_rows(client: socket.socket, accepted: socket.socket, count: int) -> None:
    with mp.create_socket(fallback=False) as alone:
        sampler = mp.Sampler(ends := [alone, client, accepted], full=True)
        for _ in range(2):  # the second one knows how long rows are
            sample, answers = sampled_at_rest(sampler, ends)
            assert sample.errnos.tolist() == [0, 0, 0]
            rows = list(sample)
            for row, now in zip(rows, answers, strict=True):
                assert isinstance(row, mp.MPTCPFullInfo)
                assert len(row) == len(now)
                assert at_rest(row.info) == at_rest(now.info)
                assert [(p.id, p.addrs) for p in row.subflows] == [(p.id, p.addrs) for p in now.subflows]
            assert rows == [sample[0], sample[1], sample[2]]
            assert sample.column("num_subflows").tolist()[1:] == [count, count]
            assert sample.lengths.tolist() == list(map(len, map(bytes, rows)))  # type: ignore[arg-type]
            assert sample.column("token")[1] == mp.mptcp_info(client).token
            assert list(pickle.loads(pickle.dumps(sample))) == rows


def test_more_subflows_than_there_is_room_for_are_read_again(
    mptcp_ends: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the place that the kernel writes to and the rows grow."""
    needs_full_info()
    monkeypatch.setattr(sockopt, "BUFFER_SIZE", lib.mptcp_full_info_room(0))
    sampler = mp.Sampler(mptcp_ends, full=True)
    sampler._rows._stride = 8
    sample = sampler.sample()
    assert sample.errnos.tolist() == [0, 0]
    for row, sock in zip(sample, mptcp_ends, strict=True):
        assert isinstance(row, mp.MPTCPFullInfo)
        (path,) = row.subflows
        assert (path.local, path.remote) == (sock.getsockname(), sock.getpeername())


def test_a_longer_struct_is_kept_whole(mptcp_ends: Pair) -> None:
    """Rows shorter than the kernel's answer are enlarged: no byte is lost, also of one alone."""
    for sockets in (mptcp_ends[:1], mptcp_ends):
        sampler = mp.Sampler(sockets)
        sampler._rows._stride = 40
        assert sampler.sample().lengths[0] == len(sampler.sample()[0].raw) > 40  # type: ignore[union-attr]
    sampler._rows._stride = 40
    sample = sampler.sample()
    assert [at_rest(row) for row in sample] == [at_rest(mp.mptcp_info(sock)) for sock in mptcp_ends]
    assert [len(bytes(row)) for row in sample] == [len(mp.mptcp_info(mptcp_ends[0]))] * 2  # type: ignore[arg-type]
    assert 0 <= sample._stride - len(mp.mptcp_info(mptcp_ends[0])) < 8  # and not one word more


def test_older_kernels(family: int) -> None:
    """Without MPTCP_FULL_INFO (before 6.5), TCP_IS_MPTCP (6.10), or any of it (5.16)."""

    def look(full: bool, sound: bool) -> None:
        with mptcp_pair(family) as ends:
            sampler = mp.Sampler(ends, full=full)
            row: Any
            for row in (sample := sampler.sample()):
                assert isinstance(row, mp.UnsupportedOptionError) is not sound, row
                if not sound:
                    assert row.option == ("MPTCP_FULL_INFO" if full else "MPTCP_INFO")
            for name in () if sound else ("token", "num_subflows" if full else "subflows"):
                with pytest.raises(ValueError, match=f"does not report {name}, because it lacks the option"):
                    sample.column(name)

    where_refused([FULL_INFO, IS_MPTCP], lambda: look(True, False))
    where_refused([FULL_INFO, IS_MPTCP], lambda: look(False, True))
    where_refused(BEFORE_5_16, lambda: look(False, False))


def test_what_became_of_a_descriptor_meanwhile_is_the_errno(family: int) -> None:
    """Closed between the refusal and the question why: as mptcp_info() says; then ESTALE."""
    closed: Refusal = ("getsockopt", {1: socket.SOL_SOCKET, 2: socket.SO_DOMAIN}, errno.EBADF)

    def look() -> None:
        with tcp_pair(family) as (tcp, _), mptcp_pair(family) as (client, _):
            sampler = mp.Sampler([fd := os.dup(tcp.fileno())])
            sample = sampler.sample()
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                mp.mptcp_info(tcp)
            assert (sample.errnos.tolist(), sample.lengths.tolist()) == ([errno.EBADF], [0])
            assert type(sample[0]) is type(caught.value) is OSError
            os.dup2(client.fileno(), fd)
            assert sampler.sample().errnos.tolist() == [errno.ESTALE]
            os.close(fd)

    where_refused([closed], look)


def test_full_rows_of_this_kernel(mptcp_ends: Pair) -> None:
    """MPTCPFullInfo, or, before 6.5, a value that says so in every row, and no columns."""
    sample = mp.Sampler(mptcp_ends, full=True).sample()
    kind = mp.MPTCPFullInfo if has_full_info() else mp.UnsupportedOptionError
    assert [type(row) for row in sample] == [kind] * 2
    if not has_full_info():
        for row in sample:
            assert isinstance(row, mp.UnsupportedOptionError)
            assert (row.option, row.errno) == ("MPTCP_FULL_INFO", errno.EOPNOTSUPP)
        assert sample.errnos.tolist() == [errno.EOPNOTSUPP] * 2
        for name in ("token", "bytes_sent", "num_subflows"):
            with pytest.raises(ValueError, match=f"does not report {name}, because it lacks the option"):
                sample.column(name)


# ------------------------------------------------------------------------------------- what it is


def test_a_sample_cannot_be_changed(mptcp_ends: Pair) -> None:
    """Neither its parts, nor the memory behind them."""
    sample = mp.Sampler(mptcp_ends).sample()
    for name in ("time", "fds", "errnos", "lengths", "more"):
        with pytest.raises(AttributeError):
            setattr(sample, name, 1)
    for view in (sample.errnos, sample.lengths, sample.column("token"), sample._block):
        assert view.readonly


@pytest.mark.parametrize("full", [False, True])
def test_samples_pickle(full: bool, family: int) -> None:
    """With all that they say, and no byte of old memory behind short rows."""
    needs_full_info(full)
    with mptcp_pair(family) as (client, _), tcp_pair(family) as (tcp, _):
        sampler = mp.Sampler([client, tcp], full=full)
        sampler._rows._stride = 4000
        again: mp.Sample[Any] = pickle.loads(pickle.dumps(sample := sampler.sample()))
        assert (again[0], str(again[1]), type(again[1])) == (sample[0], str(sample[1]), mp.NotMPTCPError)
        assert (again.time, again.fds) == (sample.time, sample.fds)
        assert again.errnos.tolist() == sample.errnos.tolist()
        assert again.column("token") == sample.column("token")
        assert not any(again._block[sample.lengths[0] : 4000])
        assert not any(again._block[4000:8000])


def test_how_they_look(mptcp_ends: Pair) -> None:
    """One line, whatever the number of sockets."""
    with socket.socket() as tcp:
        sampler = mp.Sampler([*mptcp_ends, tcp])
        assert repr(sampler) == "<Sampler of 3 sockets>"
        sample = sampler.sample()
        assert repr(sample) == f"<Sample of 3 sockets, 1 failed, time {sample.time}>"
        assert repr(mp.Sampler(full=True)) == "<Sampler of 0 sockets, full>"
