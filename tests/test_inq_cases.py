# SPDX-License-Identifier: MIT
"""The self test's cases on what waits in a socket can fail: each is shown a number that is wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from mptcp_sockopt.selftest import __main__ as selftest
from mptcp_sockopt.selftest import _cases, _inq_cases, _ktap

from .support import Missing, tcp_pair

Case = Callable[[int, _inq_cases.Kind], None]
kinds = pytest.mark.parametrize("kind", _inq_cases.KINDS, ids=str)


def passes(case: Case, family: int, kind: _inq_cases.Kind) -> None:
    try:
        case(family, kind)
    except _ktap.Skip as reason:
        raise Missing(str(reason)) from None


@kinds
@pytest.mark.parametrize("case", _inq_cases.CASES, ids=lambda case: case.__name__)
def test_every_case_passes(case: Case, family: int, kind: _inq_cases.Kind, mptcp: None) -> None:
    """So that what follows fails for the one thing that is wrong."""
    passes(case, family, kind)


def test_every_case_is_planned() -> None:
    """For every kind."""
    planned = {title for title, _ in selftest.OTHERS}
    assert {f"{kind}: {case.__doc__}" for kind in _inq_cases.KINDS for case in _inq_cases.CASES} <= planned


@kinds
@pytest.mark.parametrize(
    ("case", "request_", "change", "found"),
    [
        ("waiting", "SIOCINQ", lambda n: n + 1, r"SIOCINQ is \d+, \d+ bytes were sent"),
        ("waiting", "SIOCINQ", lambda n: max(n - 1, 0), r"SIOCINQ is \d+, \d+ bytes were sent"),
        ("waiting", "SIOCINQ", lambda n: n or 1, "SIOCINQ is 1 after everything was read"),
        ("sending", "SIOCOUTQ", lambda n: 1 << 14, r"SIOCOUTQ is 16384, \d+ bytes were sent"),
        ("sending", "SIOCOUTQ", lambda n: -22, r"SIOCOUTQ is -22, \d+ bytes were sent"),
        ("sending", "SIOCOUTQ", lambda n: n or 1, "SIOCOUTQ is 1 after everything was read"),
        ("sending", "SIOCOUTQNSD", lambda n: 1 << 14, r"SIOCOUTQNSD is 16384, SIOCOUTQ \d+"),
        ("sending", "SIOCOUTQNSD", lambda n: -1, r"SIOCOUTQNSD is -1, SIOCOUTQ \d+"),
    ],
)
def test_a_wrong_length_of_a_queue_is_seen(
    case: str,
    request_: str,
    change: Callable[[int], int],
    found: str,
    kind: _inq_cases.Kind,
    monkeypatch: pytest.MonkeyPatch,
    mptcp: None,
) -> None:
    """A byte too many, one too few, one that stays, a negative number."""
    right, wrong = _inq_cases.queued, getattr(_inq_cases, request_)

    def queued(sock: socket.socket, request: int) -> int:
        return change(right(sock, request)) if request == wrong else right(sock, request)

    monkeypatch.setattr(_inq_cases, "queued", queued)
    monkeypatch.setattr(_cases, "PATIENCE", 0.2)
    with pytest.raises(_ktap.Failure, match=found):
        passes(getattr(_inq_cases, case), socket.AF_INET, kind)


@kinds
@pytest.mark.parametrize(
    ("case", "change", "found"),
    [
        ("waiting", lambda data, inq: (data, inq + 1), r"TCP_INQ is \d+, not \d+"),
        ("waiting", lambda data, inq: (data[:-1], inq), r"\d+ bytes read of \d+, room for 1"),
        ("streaming", lambda data, inq: (data, 1 << 21), r"TCP_INQ is 2097152, but \d+ bytes were left"),
        ("streaming", lambda data, inq: (data, -1), r"TCP_INQ is -1, but \d+ bytes were left"),
        ("streaming", lambda data, inq: (b"", inq), r"the stream ended after 0 of \d+ bytes"),
        ("ending", lambda data, inq: (data, 0), "TCP_INQ is 0 with b'x', not 1"),
        ("ending", lambda data, inq: (data, 1 if data else 0), "TCP_INQ is 0 with b'', not 1"),
        ("ending", lambda data, inq: (b"y", inq), "b'y' was read, not b'x'"),
    ],
)
def test_a_wrong_answer_to_a_read_is_seen(
    case: str,
    change: Callable[[bytes, int], tuple[bytes, int]],
    found: str,
    kind: _inq_cases.Kind,
    monkeypatch: pytest.MonkeyPatch,
    mptcp: None,
) -> None:
    """Another number, other data, less of it, none."""
    read = _inq_cases.read
    monkeypatch.setattr(_inq_cases, "read", lambda sock, size: change(*read(sock, size)))
    with pytest.raises(_ktap.Failure, match=found):
        passes(getattr(_inq_cases, case), socket.AF_INET, kind)


def test_a_read_without_a_number_is_seen(family: int) -> None:
    """As of a socket that was not told to say it."""
    with tcp_pair(family) as (client, server):
        client.sendall(b"xy")
        with pytest.raises(_ktap.Failure, match="no TCP_CM_INQ was received with 1 bytes"):
            _inq_cases.read(server, 1)


def test_an_end_that_does_not_come_is_seen(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read then: it would be waited for."""
    monkeypatch.setattr(_inq_cases, "eventually", lambda truth: False)
    with pytest.raises(_ktap.Failure, match="the end of the stream did not arrive"):
        _inq_cases.ending(family, _inq_cases.Kind(client=False, server=False))
