# SPDX-License-Identifier: MIT
"""What a kernel says is believed within bounds only, and what failed is told as it was."""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
from decimal import Decimal
from typing import Any, cast

import pytest
from _mptcp_sockopt import ffi, lib

import mptcp_sockopt as mp
from mptcp_sockopt._border import lookups, sock_diag, sockopt

from .support import (
    FUNCTIONS,
    Missing,
    Refusal,
    fallback_pair,
    has_full_info,
    mptcp_pair,
    tcp_pair,
    where_refused,
)

READERS: dict[str, Any] = {
    "mptcp_info": mp.mptcp_info,
    "mptcp_tcpinfo": mp.mptcp_tcpinfo,
    "mptcp_subflow_addrs": mp.mptcp_subflow_addrs,
    "mptcp_full_info": mp.mptcp_full_info,
    "status": mp.status,
    "snapshot": mp.snapshot,
    "Sampler": lambda sock: mp.Sampler([sock]).sample()[0],
    "Sampler, full": lambda sock: mp.Sampler([sock], full=True).sample()[0],
}

ONE_OPTION = [name for name in READERS if name not in ("status", "snapshot")]


def told(read: Any, sock: Any) -> tuple[type, int | None, str]:
    """The OSError that a read raises, or that is its row."""
    try:
        answer = read(sock)
    except OSError as error:
        answer = error
    assert isinstance(answer, OSError), answer
    return type(answer), answer.errno, str(answer)


@pytest.mark.parametrize("reader", READERS)
def test_an_answer_that_nobody_wrote_is_none(reader: str, family: int) -> None:
    """seccomp can let getsockopt succeed without a kernel behind it: no byte of the buffer is believed."""
    read = READERS[reader]

    def look() -> tuple[type, int | None, str]:
        return told(read, sock)

    with mptcp_pair(family) as (sock, _):
        for _ in range(3):  # fill the buffers with what would be believed
            read(sock)
        kind, number, words = where_refused([("getsockopt", {1: mp.SOL_MPTCP}, 0)], look)
        assert (kind, number) == (OSError, errno.EPROTO)
        assert f" on fd {sock.fileno()}: the kernel's answer is out of bounds" in words


QUESTIONS = {
    "SO_DOMAIN": (socket.SOL_SOCKET, socket.SO_DOMAIN),
    "SO_TYPE": (socket.SOL_SOCKET, socket.SO_TYPE),
    "SO_PROTOCOL": (socket.SOL_SOCKET, socket.SO_PROTOCOL),
    "SO_ACCEPTCONN": (socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    "TCP_IS_MPTCP": (socket.SOL_TCP, mp.TCP_IS_MPTCP),
}


def refuse(name: str, number: int) -> Refusal:
    level, option = QUESTIONS[name]
    return "getsockopt", {1: level, 2: option}, number


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("number", [0, errno.EPERM, errno.EBADF])
def test_a_small_question_that_fails_is_named(number: int, name: str) -> None:
    """With its errno, by whoever asked it; EPROTO where it "succeeds" and nothing was written."""
    refusals = [refuse(name, number)]
    reads = [mp.status, mp.snapshot]
    if name == "TCP_IS_MPTCP":
        reads = [mp.is_mptcp]
    elif name != "SO_ACCEPTCONN":
        refusals.append(refuse("TCP_IS_MPTCP", errno.ENOPROTOOPT))
        reads.append(mp.is_mptcp)
    with tcp_pair(socket.AF_INET) as (sock, _):
        for read in reads:
            _, error, words = where_refused(refusals, functools.partial(told, read, sock))
            assert error == (number or errno.EPROTO)
            assert f"{read.__name__}() on fd {sock.fileno()}: " in words
            assert words.endswith(f"(getsockopt({name}))")


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name != "SO_ACCEPTCONN"])
@pytest.mark.parametrize("number", [0, errno.EPERM])
def test_a_refusal_whose_reason_is_not_known_is_no_guess(number: int, name: str) -> None:
    """It is not told as one of the reasons, and the question that failed is named."""

    def look() -> list[tuple[type, int | None, str]]:
        return [told(READERS[reader], sock) for reader in ONE_OPTION]

    with tcp_pair(socket.AF_INET) as (sock, _):
        for kind, error, words in where_refused([refuse(name, number)], look):
            assert (issubclass(kind, mp.MPTCPError), error) == (False, number or errno.EPROTO)
            why = rf"getsockopt\(MPTCP_\w+\) on fd {sock.fileno()}: .*getsockopt\({name}\): "
            assert re.search(why, words), words


def test_a_listener_that_cannot_be_asked_is_no_guess(family: int) -> None:
    """SO_ACCEPTCONN refused: before 6.5 a listener would look as if it were connecting."""

    def look() -> list[tuple[type, int | None, str]]:
        return [told(read, server) for read in (mp.status, mp.snapshot) for server in (mptcp, tcp)]

    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    no_full_info: Refusal = "getsockopt", {1: mp.SOL_MPTCP, 2: mp.MPTCP_FULL_INFO}, errno.EOPNOTSUPP
    with (
        mp.create_server((host, 0), family=family, fallback=False) as mptcp,
        socket.create_server((host, 0), family=family) as tcp,
    ):
        for kind, number, words in where_refused([refuse("SO_ACCEPTCONN", errno.EPERM), no_full_info], look):
            assert (kind, number) == (PermissionError, errno.EPERM)
            assert "SO_ACCEPTCONN" in words


def test_full_info_leaves_nothing_to_ask(family: int) -> None:
    """Its answer proves family, type and protocol; the state of its row tells a listener."""

    def look() -> list[mp.Status]:
        return [found for sock in socks for found in (mp.status(sock), mp.snapshot(sock).status)]

    if not has_full_info():
        raise Missing("this kernel has no MPTCP_FULL_INFO")
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with (
        mptcp_pair(family) as (client, accepted),
        mp.create_server((host, 0), family=family, fallback=False) as server,
        mp.create_socket(family, fallback=False) as fresh,
    ):
        socks = (client, accepted, server, fresh)
        expected = [mp.Status.MPTCP, mp.Status.MPTCP, mp.Status.LISTENING, mp.Status.UNCONNECTED]
        found = where_refused([refuse(name, errno.EPERM) for name in QUESTIONS], look)
        assert found[::2] == found[1::2] == expected


def test_an_errno_is_told_as_it_is(mptcp: None) -> None:
    """ESTALE of the kernel is not ours, which means another connection."""

    def look() -> list[tuple[type, int | None, str]]:
        return [told(READERS[name], sock) for name in ("mptcp_info", "Sampler")]

    with mptcp_pair(socket.AF_INET) as (sock, _):
        for _, number, words in where_refused([("getsockopt", {1: mp.SOL_MPTCP}, errno.ESTALE)], look):
            assert number == errno.ESTALE
            assert words.endswith(os.strerror(errno.ESTALE))


def test_tcp_info_that_nobody_wrote_is_none(family: int) -> None:
    """Nor the names of a socket."""

    def look() -> tuple[type, int | None, str]:
        return told(mp.snapshot, sock)

    with fallback_pair(family) as (sock, _):
        mp.snapshot(sock)
        for refusal, words in (
            (("getsockopt", {1: socket.SOL_TCP, 2: socket.TCP_INFO}, 0), "getsockopt(TCP_INFO)"),
            (("getsockname", {}, 0), "getsockname()"),
            (("getpeername", {}, 0), "getpeername()"),
        ):
            _, number, said = where_refused([cast("Refusal", refusal)], look)
            assert number == errno.EPROTO
            assert f"{words} on fd {sock.fileno()}: " in said


# ------------------------------------------------------------------------------------------- descriptors


class Answers:
    """Something whose fileno() gives these, one after the other."""

    def __init__(self, *numbers: Any) -> None:
        self.numbers = list(numbers)

    def fileno(self) -> Any:
        return self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]


@pytest.mark.parametrize("wrong", [True, False])
def test_a_bool_is_no_descriptor(wrong: bool) -> None:
    """Though it is an int; and it has no fileno() that the words could be about."""
    with pytest.raises(TypeError, match="expected a socket or a file descriptor, not bool"):
        mp.status(wrong)


@pytest.mark.parametrize("kind", [lambda fd: Decimal(fd) + Decimal("0.7"), float, str, bool, lambda fd: None])
def test_a_fileno_that_is_no_int_is_refused_by_every_reader(
    kind: Any, mptcp_ends: tuple[socket.socket, socket.socket]
) -> None:
    """Also one that C would round to an open descriptor."""
    wrong = kind(mptcp_ends[0].fileno())
    for read in (*FUNCTIONS, lambda sock: mp.Sampler([sock]), mp.Tracker):
        with pytest.raises(TypeError, match="fileno"):
            read(Answers(wrong))


@pytest.mark.parametrize("read", FUNCTIONS)
def test_a_failure_names_the_descriptor_that_was_asked(read: Any, tmp_path: Any) -> None:
    """Not what fileno() gives when it is called once more."""
    with (
        open(tmp_path / "file", "w") as file,
        socket.socket() as other,
        pytest.raises(OSError, match=rf" on fd {file.fileno()}: "),
    ):
        read(Answers(file.fileno(), other.fileno()))


# ------------------------------------------------------------------------------------------------ memory


def test_free_lists_have_a_largest_length() -> None:
    """Whatever number of threads once read at a time."""
    lists = [value for name, value in vars(sockopt).items() if name.startswith("_free_")]
    lists += [sockopt._free["MPTCP_TCPINFO"], sockopt._free["another option"], sock_diag._free]
    lists.append(lookups._free)
    assert len(lists) == 6
    assert all(buffers.maxlen <= 4 for buffers in lists)


@pytest.mark.parametrize("option", [mp.MPTCP_TCPINFO, mp.MPTCP_SUBFLOW_ADDRS, mp.MPTCP_FULL_INFO])
def test_a_buffer_is_cleared_of_the_answer_before(
    option: int, mptcp_ends: tuple[socket.socket, socket.socket]
) -> None:
    """A refused read leaves nothing in it of the connection that was read before."""
    size = 8192
    memory = ffi.new("uint64_t[]", size // 8)
    view = memoryview(ffi.buffer(memory))

    def get(sock: socket.socket) -> int:
        if option == mp.MPTCP_FULL_INFO:
            return lib.mptcp_get_full_info(sock.fileno(), memory, size)
        return lib.mptcp_get_subflow_data(sock.fileno(), option, memory, size)

    length = get(mptcp_ends[0])
    if length == -errno.EOPNOTSUPP:
        raise Missing("this kernel has no MPTCP_FULL_INFO")
    head = 64
    assert any(view[head:length])
    with socket.socket() as plain:
        assert get(plain) == -errno.EOPNOTSUPP
    assert not any(view[head:])
