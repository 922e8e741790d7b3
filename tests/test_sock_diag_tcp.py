# SPDX-License-Identifier: MIT
"""What the C makes of datagrams about TCP sockets, sound and broken."""

from __future__ import annotations

import errno
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from _mptcp_sockopt import ffi, lib

import mptcp_sockopt as mp

from .support import rounds
from .test_sock_diag_parser import END, SEQUENCE, attribute, cut, message

V4 = socket.AF_INET
INFO, V6ONLY, MARK, ULP = 2, 11, 15, 19


def parse(datagram: bytes) -> tuple[int, list[tuple[int, int, int, int]]]:
    """The result, and inode, is_mptcp, privileged and tcp_info of the records."""
    memory = ffi.new("uint8_t[]", len(datagram))
    ffi.buffer(memory)[:] = datagram
    fields = {"records": memory, "size": len(datagram), "sequence": SEQUENCE, "tcp": 1 << 10}
    dump = ffi.new("struct mptcp_diag_dump *", fields)
    result = lib.mptcp_diag_parse(dump, len(datagram))
    found = ffi.from_buffer("struct tcp_socket[]", ffi.buffer(memory, dump.used))
    return result, [(one.msg.idiag_inode, one.is_mptcp, one.privileged, one.tcp_info) for one in found]


def about(number: int, *attributes: bytes, family: int = V4, state: int = 10) -> bytes:
    return message(20, struct.pack("=BB66xI", family, state, number) + b"".join(attributes))


def ulp(name: bytes, kind: int = 1) -> bytes:
    return attribute(ULP, attribute(9, b"\0") + attribute(kind, name))


@pytest.mark.parametrize(
    ("attributes", "is_mptcp"),
    [
        ((), 0),
        ((ulp(b"mptcp\0"),), 1),
        ((ulp(b"mptcp\0", 0x8001),), 1),
        ((attribute(0x8000 | ULP, attribute(1, b"mptcp\0")),), 1),
        ((ulp(b"tls\0"),), 0),
        ((ulp(b"espintcp\0"),), 0),
        ((ulp(b"mptcp"),), 0),
        ((ulp(b"mptcp2\0"),), 0),
        ((ulp(b"mptcp\0\0"),), 0),
        ((ulp(b""),), 0),
        ((ulp(b"mptcp\0", 2),), 0),
        ((attribute(ULP, b""),), 0),
        ((attribute(20, attribute(1, b"mptcp\0")),), 0),
    ],
)
def test_the_name_of_the_ulp_decides(attributes: tuple[bytes, ...], is_mptcp: int) -> None:
    """The kernel's "mptcp", and nothing like it."""
    info, mark = attribute(INFO, bytes(248)), attribute(MARK, bytes(4))
    datagram = about(1, info, *attributes) + about(2, mark, *attributes) + END
    assert parse(datagram) == (1, [(1, is_mptcp, 0, 248), (2, is_mptcp, 1, 0)])


@pytest.mark.parametrize(
    ("told", "v6only"), [(b"", 2), (attribute(V6ONLY, b"\0"), 0), (attribute(V6ONLY, b"\1"), 1)]
)
def test_v6only_is_told_or_not(told: bytes, v6only: int) -> None:
    """Of a socket in a state that was asked for; any other makes no record."""
    memory = ffi.new("uint8_t[]", 200)
    dump = ffi.new("struct mptcp_diag_dump *", {"records": memory, "size": 200, "sequence": SEQUENCE})
    for states, is_told in ((1 << 7, True), (1 << 7 | 1 << 10, True), (1 << 10, False)):
        dump.used, dump.tcp = 0, states
        datagram = about(1, told, state=mp.TCPState.CLOSE) + END
        ffi.buffer(memory)[: len(datagram)] = datagram
        assert lib.mptcp_diag_parse(dump, len(datagram)) == 1
        assert (dump.used > 0) == is_told
        if is_told:
            assert ffi.from_buffer("struct tcp_socket[]", ffi.buffer(memory, dump.used))[0].v6only == v6only


@pytest.mark.parametrize("attributes", [b"", attribute(INFO, b"")])
def test_the_shortest_message(attributes: bytes) -> None:
    """Its record is made in place: what follows is read all the same."""
    assert parse(about(1, attributes) * 3 + END) == (1, [(1, 0, 0, 0)] * 3)


MESSAGE = about(1, ulp(b"mptcp\0"))


@pytest.mark.parametrize(
    "datagram",
    [
        about(1, family=socket.AF_UNIX),
        about(1, attribute(INFO, bytes(4100))),
        *(about(1, attribute(V6ONLY, value)) for value in (b"", b"\2", bytes(2), bytes(4))),
        cut(MESSAGE, 0, 16 + 71, "=I"),
        *(cut(MESSAGE, at, size) for at in (88, 92, 100) for size in (0, 3, 99)),
    ],
)
def test_a_malformed_message_is_a_protocol_error(datagram: bytes) -> None:
    """What no kernel gives, at each depth: no listener is called TCP's because its attributes are broken."""
    assert parse(MESSAGE + END) == (1, [(1, 1, 0, 0)])
    assert parse(datagram)[0] == -errno.EPROTO


def test_a_socket_that_is_in_another_state_by_now_is_left_out() -> None:
    """The kernel chooses by the state, and tells it later."""
    assert parse(MESSAGE + about(2, state=mp.TCPState.ESTABLISHED) + END) == (1, [(1, 1, 0, 0)])


def test_broken_datagrams() -> None:
    """No crash (the sanitizers watch), nothing written beyond the datagram."""
    chance = random.Random(2)
    sound = MESSAGE + about(2, attribute(INFO, bytes(40)), attribute(MARK, bytes(4))) + END
    length, guard = len(sound), b"\xa5" * 64
    memory = ffi.new("uint8_t[]", length + len(guard))
    view = memoryview(ffi.buffer(memory))
    view[length:] = guard
    dump = ffi.new(
        "struct mptcp_diag_dump *", {"records": memory, "size": length, "sequence": SEQUENCE, "tcp": 1 << 10}
    )
    results = set()
    for _ in range(rounds(20_000)):
        view[:length] = sound
        for _ in range(2):
            view[int(chance.random() * length)] = int(chance.random() * 256)
        dump.used = 0
        results.add(lib.mptcp_diag_parse(dump, length))
        assert dump.used <= length
    assert view[length:] == guard
    assert {1, -errno.EPROTO} < results | {0}


def test_the_request_is_refused_where_it_cannot_be_sent() -> None:
    """-errno, as of any other call."""
    refused: Callable[[int, Any, int], int] = lib.tcp_diag_request
    assert refused(-1, ffi.new("struct mptcp_diag_dump *"), 0) == -errno.EBADF
