# SPDX-License-Identifier: MIT
"""The self test's cases on sockets of their own can fail: each is shown an answer that is wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._border import netlink
from mptcp_sockopt.selftest import _cases, _ktap, _path_cases, _socket_cases
from mptcp_sockopt.testing import _network

from .support import Missing

KINDS = _socket_cases.CASES[:5]
Case = Callable[[int], None]


def passes(case: Case, family: int) -> None:
    try:
        case(family)
    except _ktap.Skip as reason:
        raise Missing(str(reason)) from None


@pytest.mark.parametrize("case", _socket_cases.CASES, ids=lambda case: case.__name__)
def test_every_case_passes(case: Case, family: int) -> None:
    """So that what follows fails for the one thing that is wrong."""
    passes(case, family)


@pytest.mark.parametrize(
    ("name", "lie", "found"),
    [
        ("status", lambda sock: mp.Status.UNKNOWN, "is Status.UNKNOWN|status is UNKNOWN"),
        ("is_mptcp", lambda sock: None, r"is_mptcp\(\) returned"),
    ],
)
@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.__name__)
def test_a_wrong_status_is_seen(
    case: Callable[[int], None],
    name: str,
    lie: Any,
    found: str,
    family: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of every kind of socket."""
    monkeypatch.setattr(mp, name, lie)
    with pytest.raises(_ktap.Failure, match=found):
        case(family)


def test_another_dead_subflow_is_seen(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The initial one is the only one that may be listed and not live."""
    snapshot = mp.snapshot

    def doctored(sock: socket.socket) -> mp.Snapshot:
        shot = snapshot(sock)
        closed = mp.Subflow(99, shot.subflows[-1].addrs, mp.TCPInfo(bytes([mp.TCPState.CLOSE])))
        return mp.Snapshot(shot.time, shot.status, shot.info, (*shot.subflows, closed))

    def look() -> None:
        try:
            _path_cases.enter_sandbox(socket.AF_INET)
        except _ktap.Skip as reason:
            raise Missing(str(reason)) from None
        monkeypatch.setattr(mp, "snapshot", doctored)
        with pytest.raises(_ktap.Failure, match="subflows that are not live"):
            _path_cases.initial_removed(socket.AF_INET)

    testing.in_child(look)


def test_joins_that_take_their_time_are_waited_for(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subflow is counted before it is established, and live from then on."""
    snapshot, looks = mp.snapshot, []

    def late(sock: socket.socket) -> mp.Snapshot:
        looks.append(shot := snapshot(sock))
        joining = mp.Subflow(99, shot.subflows[-1].addrs, mp.TCPInfo(bytes([mp.TCPState.CLOSE])))
        return shot if len(looks) > 5 else mp.Snapshot(shot.time, shot.status, shot.info, (joining,))

    def look() -> None:
        try:
            _path_cases.enter_sandbox(socket.AF_INET)
        except _ktap.Skip as reason:
            raise Missing(str(reason)) from None
        monkeypatch.setattr(mp, "snapshot", late)
        _path_cases.several_subflows(socket.AF_INET)
        assert len(looks) > 5

    testing.in_child(look)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_shortage_is_no_reason_to_skip(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a private network cannot be made is one; that descriptors are lacking is not."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_network, "_call", refuse)
    with pytest.raises(OSError) as caught:
        _path_cases.enter_sandbox(socket.AF_INET)
    assert caught.value.errno == number


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_shortage_is_no_want_of_netlink(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where a token is looked up, nor where paths are added."""

    @contextlib.contextmanager
    def refuse(protocol: int) -> Iterator[socket.socket]:
        raise netlink.NoNetlinkError(number, os.strerror(number))
        yield

    monkeypatch.setattr(netlink, "connected", refuse)
    monkeypatch.setattr(testing, "enter_private_network", lambda: None)
    for ask in (_socket_cases.needs_netlink, lambda: _path_cases.enter_sandbox(socket.AF_INET)):
        with pytest.raises(OSError) as caught:
            ask()
        assert caught.value.errno == number


def test_a_byte_that_the_subflows_lost_or_doubled_is_seen(
    family: int, mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that the connection has not."""
    tcpinfo, info = mp.mptcp_tcpinfo, mp.mptcp_info
    monkeypatch.setattr(_cases, "PATIENCE", 0.1)

    def other(view: Any, at: int, by: int) -> Any:
        raw = bytearray(view)
        value = int.from_bytes(raw[at : at + 8], sys.byteorder) + by
        raw[at : at + 8] = value.to_bytes(8, sys.byteorder)
        return type(view)(raw)

    for by, found in ((-1, "subflows received 999 bytes"), (1, "received 1001 bytes, not 0 and 1000")):
        with monkeypatch.context() as patch:
            patch.setattr(
                mp, "mptcp_tcpinfo", lambda sock, by=by: tuple(other(x, 128, by) for x in tcpinfo(sock))
            )
            with pytest.raises(_ktap.Failure, match=found):
                _socket_cases.unread(family)
    count = iter(range(10))
    monkeypatch.setattr(mp, "mptcp_info", lambda sock: other(info(sock), 32, next(count) * 5000))
    with pytest.raises(_ktap.Failure, match="rcv_nxt moved by 6000, 1000 bytes were sent"):
        _socket_cases.unread(family)


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        (lambda ports, info, _: ((ports[1], ports[0]), info), "the lookup found ports"),
        (lambda ports, info, other: (ports, other), "token is"),
    ],
)
def test_another_connection_is_seen(
    lie: Callable[..., Any], found: str, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ports, or its token."""
    passes(_socket_cases.look_up, family)
    by_token = _socket_cases.by_token
    with _cases.pair(family) as (client, _):
        other = mp.mptcp_info(client)
        monkeypatch.setattr(_socket_cases, "by_token", lambda token: lie(*by_token(token), other))
        with pytest.raises(_ktap.Failure, match=found):
            _socket_cases.look_up(family)


def test_a_token_that_nobody_has_must_be_refused(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for last."""
    passes(_socket_cases.look_up, family)
    by_token, answers = _socket_cases.by_token, list[Any]()

    def doctored(token: int) -> Any:
        if len(answers) < 2:
            answers.append(by_token(token))
        return answers[-1]

    monkeypatch.setattr(_socket_cases, "by_token", doctored)
    with pytest.raises(_ktap.Failure, match="the lookup of an unused token found a connection"):
        _socket_cases.look_up(family)


def test_an_answer_without_mptcp_info_is_no_answer(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one without ports."""
    passes(_socket_cases.look_up, family)
    for answer in (b"", bytes(7), bytes(72)):
        monkeypatch.setattr(netlink, "call", lambda *_, answer=answer: answer)
        with pytest.raises((_ktap.Failure, OSError, ValueError)):
            _socket_cases.look_up(family)
