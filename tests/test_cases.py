# SPDX-License-Identifier: MIT
"""The self test's cases can fail: each is shown a connection, or an answer, that is wrong."""

from __future__ import annotations

import errno
import functools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.selftest import __main__ as selftest
from mptcp_sockopt.selftest import _cases, _ktap

from .support import Missing, exchange, mptcp_pair

Case = Callable[[_cases.End], None]
ARRAYS = (mp.MPTCP_TCPINFO, mp.MPTCP_SUBFLOW_ADDRS)
BOGUS: dict[str, Case] = {
    f"{case.__name__}-{option}": functools.partial(case, option=option)
    for case in _cases.BOGUS
    for option in ARRAYS
}
# Those of them that expect a refusal, and two more.
REFUSED: dict[str, Case] = {
    name: case
    for name, case in BOGUS.items()
    if name.startswith(("zero_header", "short_length", "kernel_size_set", "count_set"))
}
REFUSED |= {"full_info_bogus": _cases.full_info_bogus, "tos_negative_length": _cases.tos_negative_length}
ALL: dict[str, Case] = {
    **BOGUS,
    **{
        case.__name__: case
        for case in (
            *(
                _cases.info,
                _cases.info_length,
                _cases.counters,
                _cases.tcpinfo,
                _cases.addrs,
                _cases.family_only,
            ),
            *(_cases.full_info, _cases.full_info_length, _cases.full_info_bogus),
            *(_cases.tos_round_trip, _cases.tos_no_length, _cases.tos_negative_length),
        )
    },
}


@pytest.fixture
def end(family: int) -> Iterator[_cases.End]:
    """One end of a connection over which 100 bytes went each way."""
    with mptcp_pair(family) as (client, server):
        end = _cases.End(client)
        exchange(client, server)
        end.sent = end.received = 100
        yield end


def passes(case: Case, end: _cases.End) -> None:
    try:
        case(end)
    except _ktap.Skip as reason:
        raise Missing(str(reason)) from None


def fails(case: Case, end: _cases.End, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with that sentence."""
    monkeypatch.setattr(_cases, "PATIENCE", 0.0)
    with pytest.raises(_ktap.Failure, match=found):
        passes(case, end)


Change = Callable[[bytearray], None]


def doctor(name: str, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the bytes of what mp.name() answers, or of every element that it does."""
    read = getattr(mp, name)

    def changed(view: Any) -> Any:
        raw = bytearray(view)
        change(raw)
        return bytes.__new__(type(view), raw)  # as a reader makes it: unchecked

    def doctored(sock: socket.socket) -> Any:
        answer = read(sock)
        return tuple(map(changed, answer)) if type(answer) is tuple else changed(answer)

    monkeypatch.setattr(mp, name, doctored)


def put(at: int, *numbers: int) -> Change:
    """These numbers of 32 bits instead."""

    def change(raw: bytearray) -> None:
        struct.pack_into(f"={len(numbers)}I", raw, at, *numbers)

    return change


def flip(at: int) -> Change:
    """Another byte there."""

    def change(raw: bytearray) -> None:
        raw[at] ^= 0x55

    return change


def flip_id() -> Change:
    """Another number of the first subflow in MPTCP_FULL_INFO."""

    def change(raw: bytearray) -> None:
        _, tcp_info, _, subflow, count = struct.unpack_from("=5I", raw)
        raw[len(raw) - count * (tcp_info + subflow)] ^= 0x55

    return change


def flip_address(at: int) -> Change:
    """Another byte there in the first address of MPTCP_FULL_INFO, which a 32-bit kernel has at 4, not 8."""

    def change(raw: bytearray) -> None:
        _, tcp_info, subflow_of_kernel, subflow, count = struct.unpack_from("=5I", raw)
        raw[len(raw) - count * (tcp_info + subflow) + min(subflow_of_kernel - 256, 8) + at] ^= 0x55

    return change


def flip_tcp_info(at: int) -> Change:
    """Another byte there in the first tcp_info of MPTCP_FULL_INFO."""

    def change(raw: bytearray) -> None:
        _, tcp_info, _, _, count = struct.unpack_from("=5I", raw)
        raw[len(raw) - count * tcp_info + at] ^= 0x55

    return change


def nothing(raw: bytearray) -> None:
    """Every byte as it was."""


@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_every_case_passes(case: Case, end: _cases.End) -> None:
    """Where the end is right, so that what follows fails for the one thing that is wrong."""
    passes(case, end)


def test_every_case_is_here() -> None:
    """All of those that the plan has for one end."""
    planned = [function for _, function in (*selftest.ONE_END, *selftest.TOS, *selftest.WITH_DATA)]
    names = {
        f"{function.func.__name__}-{function.keywords['option']}"
        if isinstance(function, functools.partial)
        else function.__name__
        for function in planned
    }
    assert names == ALL.keys()


@pytest.mark.parametrize(
    ("case", "attribute", "found"),
    [
        (_cases.info, "sent", "write_seq moved by 100, 101 bytes"),
        (_cases.info, "received", "rcv_nxt moved by 100, 101 bytes and 0 FIN"),
        (_cases.info, "fin", "rcv_nxt moved by 100, 100 bytes and 1 FIN"),
        (_cases.counters, "sent", "bytes_sent is 100, 101"),
        (_cases.counters, "received", "bytes_received is 100, not 101"),
        (_cases.tcpinfo, "sent", "sent 100 and received 100 bytes, not 101 and 100"),
        (_cases.tcpinfo, "received", "sent 100 and received 100 bytes, not 100 and 101"),
    ],
)
def test_a_byte_more_or_less_is_seen(
    case: Case, attribute: str, found: str, end: _cases.End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was never sent, never came, or a FIN that did not."""
    setattr(end, attribute, getattr(end, attribute) + 1)
    fails(case, end, found, monkeypatch)


def test_a_fin_that_came_is_counted(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a sequence number: with it the case passes, without it it fails."""
    with mptcp_pair(family) as (client, server):
        end = _cases.End(client)
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        fails(_cases.info, end, "rcv_nxt moved by 1, 0 bytes and 0 FIN", monkeypatch)
        end.fin = 1
        passes(_cases.info, end)


@pytest.mark.parametrize(
    ("case", "name", "change", "found"),
    [
        (_cases.info, "mptcp_info", put(8, 0), "flags are 0: the peer's key is missing"),
        (_cases.info, "mptcp_info", put(12, 0), "the token is 0"),
        (_cases.counters, "mptcp_info", flip(72), "bytes_acked is .*, 100 were written and no FIN"),
        (_cases.addrs, "mptcp_subflow_addrs", flip(3), "no subflow is"),  # the port of this side
        (_cases.addrs, "mptcp_subflow_addrs", flip(131), "no subflow is"),  # the port of the peer
        (_cases.addrs, "mptcp_subflow_addrs", flip(127), "bytes after the address are not 0"),
        (_cases.addrs, "mptcp_subflow_addrs", flip(255), "bytes after the address are not 0"),
        (_cases.full_info, "mptcp_full_info", put(0, 1), "size_tcpinfo_user is"),
        (_cases.full_info, "mptcp_full_info", put(16, 2, 1), "2 subflows"),
        (_cases.full_info, "mptcp_full_info", flip(40), "one subflow, but 85 additional ones"),
        (_cases.full_info, "mptcp_full_info", flip(40 + 12), "token is"),
        (_cases.full_info, "mptcp_full_info", flip(40 + 16), "write_seq is"),
        (_cases.full_info, "mptcp_full_info", flip(40 + 32), "rcv_nxt is"),
        (_cases.full_info, "mptcp_full_info", flip(40 + 56), "bytes_sent is"),
        (_cases.full_info, "mptcp_full_info", flip(40 + 64), "bytes_received is"),
        (_cases.full_info, "mptcp_full_info", flip_id(), r"subflow 1 is \[\], not"),
        (_cases.full_info, "mptcp_full_info", flip_address(3), "addresses differ"),
        (_cases.full_info, "mptcp_full_info", flip_tcp_info(200), "bytes_sent of subflow 1 is"),
        (_cases.full_info, "mptcp_tcpinfo", flip(128), "bytes_received of subflow 1 is"),
        (_cases.full_info, "mptcp_subflow_addrs", flip(128 + 3), "addresses differ"),
        (_cases.full_info_length, "mptcp_info", lambda raw: raw.append(0), r"not 40 plus \d+ of"),
    ],
)
def test_a_wrong_field_is_seen(
    case: Case, name: str, change: Change, found: str, end: _cases.End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer has another byte, or another count."""
    passes(case, end)
    doctor(name, change, monkeypatch)
    fails(case, end, found, monkeypatch)


def test_addresses_of_another_connection_are_seen(end: _cases.End, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though MPTCP_FULL_INFO and MPTCP_SUBFLOW_ADDRS agree on them."""
    doctor("mptcp_full_info", flip_address(3), monkeypatch)
    doctor("mptcp_subflow_addrs", flip(3), monkeypatch)
    fails(_cases.full_info, end, "subflow 1 is", monkeypatch)
    fails(_cases.addrs, end, "no subflow is", monkeypatch)


def test_a_number_given_twice_is_seen(end: _cases.End, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers have every subflow twice, and so its id."""

    def twice(full: mp.MPTCPFullInfo) -> mp.MPTCPFullInfo:
        raw = bytearray(full)
        _, tcp_info, _, subflow = struct.unpack_from("=4I", raw)
        struct.pack_into("=I", raw, 16, 2)
        behind = raw[-tcp_info - subflow :]
        return mp.MPTCPFullInfo(raw[: -len(behind)] + behind[:subflow] * 2 + behind[subflow:] * 2)

    full_info, tcpinfo, addrs = mp.mptcp_full_info, mp.mptcp_tcpinfo, mp.mptcp_subflow_addrs
    monkeypatch.setattr(mp, "mptcp_full_info", lambda sock: twice(full_info(sock)))
    monkeypatch.setattr(mp, "mptcp_tcpinfo", lambda sock: tcpinfo(sock) * 2)
    monkeypatch.setattr(mp, "mptcp_subflow_addrs", lambda sock: addrs(sock) * 2)
    fails(_cases.full_info, end, r"ids are not unique: \[1, 1\]", monkeypatch)


# --------------------------------------------------------------------------------------- the raw call


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_should_be_refused_is_not_to_be_taken(
    case: Case, end: _cases.End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor refused for another reason, nor with another length."""
    get = mp.getsockopt_into

    def take(sock: socket.socket, level: int, option: int, buffer: Any, length: int | None = None) -> int:
        return length or 0

    def refuse(number: int, longer: int) -> Callable[..., int]:
        def doctored(*arguments: Any) -> int:
            try:
                return get(*arguments)
            except OSError as error:
                error.errno = number
                error.optlen += longer  # type: ignore[attr-defined]
                raise

        return doctored

    for doctored, found in (
        (take, "the kernel accepted it"),
        (refuse(errno.EFAULT, 0), "refused with EFAULT, not EINVAL"),
        (refuse(errno.EINVAL, 1), r"the length came back as \d+, not -?\d+"),
    ):
        monkeypatch.setattr(mp, "getsockopt_into", doctored)
        fails(case, end, found, monkeypatch)
    monkeypatch.setattr(mp, "getsockopt_into", refuse(errno.EINVAL, 0))
    passes(case, end)


@pytest.mark.parametrize(
    ("case", "change", "longer", "found"),
    [
        ("tcpinfo", put(4, 0), 0, "num_subflows is 0"),
        ("tcpinfo", put(12, 1), 0, "size_user is 1, size_kernel"),
        ("tcpinfo", nothing, 1, r"\d+ bytes for 1 elements of"),
        ("addrs", put(4, 2), 0, "272 bytes for 2 elements of 256"),
        ("family_only", nothing, 1, "the length is 19, not 18"),
        ("family_only", put(12, 3), 0, "size_user is 3, not 2"),
        ("family_only", flip(16), 0, "the family is"),
        ("family_only", flip(18), 0, "more than the family was written"),
        ("header_alone", nothing, 1, "length 17, size_subflow_data 16, not 16"),
        ("header_alone", put(0, 17), 0, "length 16, size_subflow_data 17, not 16"),
        ("header_alone", put(4, 0), 0, "num_subflows is 0"),
        ("header_alone", put(8, 0), 0, "size_kernel is 0"),
        ("header_alone", put(12, 1), 0, "size_user is 1, not 0"),
        ("header_alone", flip(16), 0, "something was written after the header"),
        ("larger_header", nothing, 2, "the length is 18, not 16"),
        ("larger_header", put(0, 16), 0, "size_subflow_data is 16, not 18"),
        ("gap", nothing, -1, "the length is 17, not 18"),
        ("gap", put(0, 16), 0, "size_subflow_data is 16, not 17"),
        ("gap", flip(16), 0, "the gap was written"),
        ("gap", flip(17), 0, r"the byte is \d+, not"),
        ("gap", flip(18), 0, "more than one byte was written"),
        ("info_length", nothing, 1, "the length is 1, 0 of"),
        ("info_length", nothing, -1, "the length is -1, 0 of"),
        ("info_length", flip(1000), 0, "more than 0 bytes were written"),
        ("full_info_length", nothing, 1, "the length is 41, 40 of"),
        ("full_info_length", flip(1000), 0, "more than 40 bytes were written"),
        ("tos_round_trip", nothing, 3, "the length is 4, not 1"),
        ("tos_round_trip", flip(0), 0, "set to 0x"),
        ("tos_no_length", nothing, 1, "the length is 1, not 0"),
    ],
)
def test_a_wrong_answer_to_the_raw_call_is_seen(
    case: str, change: Change, longer: int, found: str, end: _cases.End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another byte in the buffer, or another length."""
    get = mp.getsockopt_into

    def doctored(sock: socket.socket, level: int, option: int, buffer: bytearray, *length: int) -> int:
        answer = get(sock, level, option, buffer, *length)
        change(buffer)
        return answer + longer

    monkeypatch.setattr(mp, "getsockopt_into", doctored)
    for name in (case, *(f"{case}-{option}" for option in ARRAYS)):
        if name in ALL:
            fails(ALL[name], end, found, monkeypatch)
