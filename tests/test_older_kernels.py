# SPDX-License-Identifier: MIT
"""What older kernels refuse, refused by this one (seccomp), and recorded answers where none will come."""

from __future__ import annotations

import errno
import re
import socket
import sys
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _border, _sockopt
from mptcp_sockopt.selftest import __main__ as selftest

from .support import (
    Refusal,
    exchange,
    fallback_pair,
    mptcp_pair,
    run,
    tcp_pair,
    where_refused,
)
from .vectors import pattern, sockaddr

Pair = tuple[socket.socket, socket.socket]
Status = mp.Status
SELFTEST = (sys.executable, "-m", "mptcp_sockopt.selftest")


def refused(level: int, option: int, number: int = errno.EOPNOTSUPP) -> Refusal:
    return "getsockopt", {1: level, 2: option}, number


FULL_INFO = refused(mp.SOL_MPTCP, mp.MPTCP_FULL_INFO)
IS_MPTCP = refused(socket.SOL_TCP, mp.TCP_IS_MPTCP)
SOL_MPTCP: Refusal = ("getsockopt", {1: mp.SOL_MPTCP}, errno.EOPNOTSUPP)
TCP_INFO = refused(socket.SOL_TCP, socket.TCP_INFO)
NODELAY: Refusal = ("setsockopt", {1: socket.SOL_TCP, 2: socket.TCP_NODELAY}, errno.EOPNOTSUPP)
BEFORE_5_16 = [SOL_MPTCP, IS_MPTCP, TCP_INFO, NODELAY]


def test_before_6_10_a_living_socket_refuses_tcp_is_mptcp_as_not_supported(family: int) -> None:
    """EOPNOTSUPP means that the socket speaks MPTCP, so an option that is missing is missing."""

    def look() -> None:
        with mptcp_pair(family) as ends:
            for sock in ends:
                assert mp.is_mptcp(sock) is True
                assert mp.status(sock) is mp.snapshot(sock).status is Status.MPTCP
                with pytest.raises(mp.UnsupportedOptionError):
                    mp.getsockopt_into(sock, mp.SOL_MPTCP, 100, bytearray(8))

    where_refused([IS_MPTCP], look)


def test_before_6_10_a_tcp_socket_has_no_such_option(family: int) -> None:
    """ENOPROTOOPT means that the socket speaks TCP: always did, or fell back."""

    def look() -> None:
        with fallback_pair(family) as (client, accepted):
            for sock, status, sentence in (
                (client, Status.FALLBACK, "fell back to TCP"),
                (accepted, Status.TCP, "plain TCP"),
            ):
                assert mp.is_mptcp(sock) is False
                assert mp.status(sock) is mp.snapshot(sock).status is status
                with pytest.raises(mp.NotMPTCPError, match=sentence):
                    mp.mptcp_info(sock)

    where_refused([refused(socket.SOL_TCP, mp.TCP_IS_MPTCP, errno.ENOPROTOOPT)], look)


def test_another_refusal_of_tcp_is_mptcp_is_raised(family: int) -> None:
    """It tells nothing of the socket."""

    def look() -> None:
        with mptcp_pair(family) as (client, _), pytest.raises(PermissionError, match="TCP_IS_MPTCP"):
            mp.is_mptcp(client)

    where_refused([refused(socket.SOL_TCP, mp.TCP_IS_MPTCP, errno.EPERM)], look)


def test_before_6_5_a_snapshot_has_no_ids(family: int) -> None:
    """MPTCP_FULL_INFO is unsupported, and all but the ids comes from the older options."""

    def look() -> None:
        with mptcp_pair(family) as (client, accepted):
            exchange(client, accepted)
            with pytest.raises(mp.UnsupportedOptionError) as caught:
                mp.mptcp_full_info(client)
            assert caught.value.option == "MPTCP_FULL_INFO"
            shot = mp.snapshot(client)
            assert shot.status is mp.status(client) is Status.MPTCP
            assert shot.info is not None
            assert shot.info.token == mp.mptcp_info(client).token
            (path,) = shot.subflows
            assert (path.id, path.local, path.remote) == (None, client.getsockname(), client.getpeername())
            assert path.tcp_info.bytes_sent == 100

    where_refused([FULL_INFO], look)


def test_before_6_5_the_self_test_skips_what_is_not_there(mptcp: None) -> None:
    """The cases of MPTCP_FULL_INFO at either end; everything else passes."""
    found = where_refused([FULL_INFO], lambda: run(*SELFTEST))
    assert found.returncode == 0, found.stdout
    skipped = re.findall(r"^ok \d+ (.*) # SKIP this kernel has no MPTCP_FULL_INFO", found.stdout, re.M)
    assert skipped == [name for name in selftest.Plan().names if "after: MPTCP_FULL_INFO: " in name]
    assert len(skipped) > 3


def test_before_5_16_an_mptcp_socket_is_unknown(family: int) -> None:
    """It connects, though nothing can be read of it: not even TCP_NODELAY may be set, or TCP_INFO read."""

    def look() -> None:
        with mptcp_pair(family) as ends:
            for sock in ends:
                assert mp.is_mptcp(sock) is True
                assert mp.status(sock) is Status.UNKNOWN
                shot = mp.snapshot(sock)
                assert (shot.status, shot.info, shot.subflows) == (Status.UNKNOWN, None, ())
                for read in (mp.mptcp_info, mp.mptcp_tcpinfo, mp.mptcp_subflow_addrs, mp.mptcp_full_info):
                    with pytest.raises(mp.UnsupportedOptionError):
                        read(sock)

    where_refused(BEFORE_5_16, look)


@pytest.mark.parametrize("refusals", [BEFORE_5_16, [SOL_MPTCP, IS_MPTCP]], ids=["5.15", "qemu-user"])
def test_without_sol_mptcp_the_self_test_says_why_it_cannot(mptcp: None, refusals: list[Refusal]) -> None:
    """One sentence, and the exit code of a skip."""
    found = where_refused(refusals, lambda: run(*SELFTEST))
    assert found.returncode == 4
    assert (
        "1..0 # SKIP this kernel has no SOL_MPTCP (before Linux 5.16, or user-mode emulation)" in found.stdout
    )


def test_tcp_info_alone_is_a_subflow(family: int) -> None:
    """User-mode emulation: MPTCP sockets and TCP_INFO, and no SOL_MPTCP."""

    def look() -> None:
        with mptcp_pair(family) as (client, _):
            shot = mp.snapshot(client)
            assert (shot.status, shot.info) == (Status.UNKNOWN, None)
            (path,) = shot.subflows
            assert (path.id, path.local, path.remote) == (None, client.getsockname(), client.getpeername())

    where_refused([SOL_MPTCP, IS_MPTCP], look)


def test_a_failure_of_tcp_info_is_raised(family: int) -> None:
    """No subflows is an answer; that the kernel ran out of memory is another."""

    def look() -> None:
        with tcp_pair(family) as (client, _), pytest.raises(OSError, match="TCP_INFO") as caught:
            mp.snapshot(client)
        assert caught.value.errno == errno.ENOBUFS

    where_refused([refused(socket.SOL_TCP, socket.TCP_INFO, errno.ENOBUFS)], look)


# -------------------------------------------------------------- two arrays from two calls, before 6.5

A, B, C = (mp.SubflowAddrs(sockaddr(f"10.0.0.{n}", n) + sockaddr("10.0.0.9", 9)) for n in (1, 2, 3))
STATE = mp.TCPInfo(pattern(232))


def answer_with(monkeypatch: pytest.MonkeyPatch, *answers: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The arrays of addresses, states, addresses, states ... that the kernel will return."""
    left = list(answers)
    monkeypatch.setattr(_border, "read_info", lambda fd, make: make(pattern(80)))
    monkeypatch.setattr(_border, "read_elements", lambda fd, option, make: left.pop(0))
    return left


@pytest.mark.parametrize(
    "answers",
    [
        [(A,), (STATE,), (A,)],
        [(A,), (STATE,), (A, B), (STATE,) * 2, (A, B)],  # another address after than before
        [(A,), (STATE,) * 2, (A,), (STATE,), (A,)],  # as many addresses as before, and more states
        [(A,), (STATE,), (B,), (STATE,), (C,), (STATE,), (A,), (STATE,), (A,)],  # at the fourth try
    ],
    ids=len,
)
def test_addresses_are_equal_around_their_states(
    answers: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again until they are: what is returned is of one moment."""
    left = answer_with(monkeypatch, *answers)
    info, subflows = _sockopt._older_mptcp_subflows(7)
    assert info.raw == pattern(80)
    assert tuple(path.addrs for path in subflows) == answers[-1]
    assert {(path.id, path.tcp_info) for path in subflows} == {(None, STATE)}
    assert left == []


def test_subflows_that_never_rest_are_eagain(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the fourth try."""
    left = answer_with(monkeypatch, (A,), *[(STATE,), (B,), (STATE,), (A,)] * 2)
    with pytest.raises(BlockingIOError, match="change faster than they can be read"):
        _sockopt._older_mptcp_subflows(7)
    assert left == []
