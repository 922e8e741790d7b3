# SPDX-License-Identifier: MIT
"""The C side of subflows: the parser against forged datagrams, and what a look-up is answered with."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Any

import pytest
from _mptcp_sockopt import ffi, lib

import mptcp_sockopt as mp

from .test_sock_diag_parser import BY_FAMILY, END, SEQUENCE, attribute, message

LISTEN, ESTABLISHED, TIME_WAIT = 10, 1, 6
INFO, MARK, ULP = 2, 15, 19
TCP_INFO = bytes(n % 251 + 1 for n in range(280))
# By number: the attributes of a subflow, with no two values alike.
SAID = {
    1: struct.pack("=I", 0x11111111),
    2: struct.pack("=I", 0x22222222),
    3: struct.pack("=I", 3),
    4: struct.pack("=Q", 4 << 40),
    5: struct.pack("=I", 5),
    6: struct.pack("=I", 6),
    7: struct.pack("=H", 7),
    8: struct.pack("=I", 195),
    9: b"\x09",
    10: b"\x0a",
}
NAMES = (
    "token_remote", "token_local", "relwrite_seq", "map_seq", "map_sfseq", "ssn_offset", "map_datalen",
    "flags", "remote_id", "id",
)  # fmt: skip
VALUES = (0x11111111, 0x22222222, 3, 4 << 40, 5, 6, 7, 195, 9, 10)


def row(state: int = ESTABLISHED, port: int = 80, inode: int = 7) -> bytes:
    """struct inet_diag_msg of an IPv4 socket with this local port."""
    return struct.pack("=BBxxHH60xI", socket.AF_INET, state, socket.htons(port), 0, inode)


def ulp(said: dict[int, bytes] | None = None, name: bytes = b"mptcp\0") -> bytes:
    nest = (
        b""
        if said is None
        else attribute(3, b"".join(attribute(kind, value) for kind, value in said.items()))
    )
    return attribute(ULP, attribute(1, name) + nest)


def about(*parts: bytes, tcp_info: bytes = TCP_INFO) -> bytes:
    return message(BY_FAMILY, b"".join([parts[0], attribute(INFO, tcp_info), *parts[1:]]))


def parse(
    *messages: bytes, sets: bytes | None = b"", room: int = 1 << 16, **options: int
) -> tuple[int, bytes, Any]:
    """The last result, the records, the struct."""
    datagram = b"".join(messages)
    memory = ffi.new("uint8_t[]", room)
    bits = ffi.NULL if sets is None else ffi.new("uint8_t[]", sets.ljust(lib.DIAG_SETS // 8, b"\0"))
    arriving = ffi.new("uint8_t[]", datagram)
    start = {"records": memory, "size": room, "sequence": SEQUENCE, "datagram": arriving, "sets": bits}
    dump = ffi.new("struct mptcp_diag_dump *", {**start, **options})
    result = lib.mptcp_diag_parse(dump, len(datagram))
    kept = None if sets is None else bytes(ffi.buffer(bits))
    return result, bytes(ffi.buffer(memory, dump.used)), (dump, kept, memory, arriving, bits)


def subflow(*parts: bytes, tcp_info: bytes = TCP_INFO) -> mp.DiagSubflow:
    result, records, _ = parse(about(*parts, tcp_info=tcp_info), END)
    assert result == 1
    return mp.DiagSubflow(records)


def test_everything_that_the_kernel_says() -> None:
    """In any order; what is not known is left out."""
    for said in (SAID, dict(reversed(SAID.items())), {**SAID, 11: b"abc", 99: b""}):
        path = subflow(row(), ulp(said))
        assert tuple(getattr(path, name) for name in NAMES) == VALUES
        assert (path.inode, path.local) == (7, ("0.0.0.0", 80))
        assert path.tcp_info == mp.TCPInfo(TCP_INFO)


@pytest.mark.parametrize("left_out", SAID)
def test_what_the_kernel_leaves_out_is_none(left_out: int) -> None:
    """And not 0; the others are there."""
    path = subflow(row(), ulp({kind: value for kind, value in SAID.items() if kind != left_out}))
    wanted = [None if number == left_out else value for number, value in enumerate(VALUES, 1)]
    assert [getattr(path, name) for name in NAMES] == wanted
    if left_out == 8:
        assert (path.backup_local, path.backup_remote, path.opened_by) == (None, None, None)


@pytest.mark.parametrize("kind", SAID)
def test_a_value_of_another_size_is_an_error(kind: int) -> None:
    for value in (b"", SAID[kind] + b"\0", SAID[kind][:-1]):
        assert parse(about(row(), ulp({**SAID, kind: value})), END)[0] == -errno.EPROTO


def test_attributes_beyond_their_nest_are_an_error() -> None:
    """At each of the three levels."""
    broken = struct.pack("=HH", 200, 2)
    for one in (
        about(row(), broken),
        about(row(), attribute(ULP, broken)),
        about(row(), attribute(ULP, attribute(1, b"mptcp\0") + struct.pack("=HH", 200, 3))),
        about(row(), attribute(ULP, attribute(1, b"mptcp\0") + attribute(3, struct.pack("=HH", 8, 2)))),
        about(row(), attribute(ULP, attribute(1, b"mptcp\0") + attribute(3, broken))),
        about(row(), attribute(ULP, attribute(1, b"mptcp\0") + attribute(3, struct.pack("=HH", 3, 2)))),
    ):
        assert parse(one, END)[0] == -errno.EPROTO


def test_what_is_left_out() -> None:
    """Plain TCP, another ULP, TIME_WAIT, a handshake; they are counted. Without sets, TCP is kept."""
    strangers = [about(row()), about(row(), ulp(name=b"tls\0")), message(BY_FAMILY, row(TIME_WAIT))]
    result, records, (dump, *_) = parse(*strangers, END)
    assert (result, records, dump.met) == (1, b"", 3)
    result, records, (dump, *_) = parse(*strangers, END, sets=None)
    assert (result, len(records)) == (1, 2 * 392)


def test_what_a_listener_of_mptcp_has_accepted_is_kept() -> None:
    """Sockets with its local port. Each listener is kept, so that it can be told whose they are."""
    result, records, (_, bits, *_) = parse(
        about(row(LISTEN, 443, 1), ulp()), about(row(LISTEN, 80, 2)),
        about(row(port=443, inode=3)), about(row(port=444, inode=4)), about(row(port=80, inode=5)), END,
    )  # fmt: skip
    assert result == 1
    assert [mp.DiagSubflow(records[at : at + 392]).inode for at in range(0, len(records), 392)] == [1, 2, 3]
    assert [n for n, byte in enumerate(bits) if byte] == [443 // 8]
    assert bits[443 // 8] == 1 << 443 % 8


def test_what_has_an_inode_of_the_set_is_kept() -> None:
    """By its low 16 bits; inode 0 is nobody's."""
    at = lib.DIAG_SET_INODES + 9
    bits = bytearray(lib.DIAG_SETS // 8)
    bits[at // 8] |= 1 << at % 8
    bits[lib.DIAG_SET_INODES // 8] |= 1
    sockets = [about(row(inode=number)) for number in (8, 9, 9 + (5 << 16), 0, 1 << 16)]
    _, records, _ = parse(*sockets, END, sets=bytes(bits))
    kept = [mp.DiagSubflow(records[at : at + 392]).inode for at in range(0, len(records), 392)]
    assert kept == [9, 9 + (5 << 16), 1 << 16]


@pytest.mark.parametrize("length", [232, 240, 280, 284, 512, 516, 4096])
def test_every_length_of_tcp_info(length: int) -> None:
    """An older kernel's is shorter. What is beyond our room is cut off; padding is zero."""
    info = bytes(n % 251 + 1 for n in range(length))
    result, records, (dump, *_) = parse(
        about(row(), ulp(SAID), tcp_info=info), about(row(), ulp(SAID), tcp_info=info)
    )
    kept = min(length, lib.TCP_INFO_ROOM)
    assert (result, dump.info_length, dump.stride) == (0, kept, 112 + (kept + 7) // 8 * 8)
    assert records[112 : 112 + kept] == info[:kept]
    assert not any(records[112 + kept : dump.stride])
    assert len(records) == 2 * dump.stride


@pytest.mark.parametrize("length", [0, 104, 228, 233, 4100])
def test_a_length_that_no_kernel_has_is_an_error(length: int) -> None:
    assert parse(about(row(), ulp(SAID), tcp_info=bytes(length)), END)[0] == -errno.EPROTO
    # All are of one length.
    assert parse(about(row(), ulp(SAID)), about(row(), ulp(SAID), tcp_info=bytes(284)))[0] == -errno.EPROTO


def test_no_record_is_written_where_there_is_no_room() -> None:
    one = about(row(), ulp(SAID))
    assert parse(one, room=392)[0] == 0
    assert parse(one, one, room=2 * 392 - 8)[0] == -errno.EINVAL
    assert parse(one, room=391)[0] == -errno.EINVAL


def test_the_first_socket_ends_a_single_answer() -> None:
    """What follows is not looked at."""
    result, records, _ = parse(about(row(inode=1), ulp(SAID)), about(row(inode=2), ulp(SAID)), single=1)
    assert (result, len(records), mp.DiagSubflow(records).inode) == (1, 392, 1)
    assert parse(message(BY_FAMILY, row(TIME_WAIT)), single=1)[:2] == (1, b"")


def test_a_caller_who_is_told_all_is_known() -> None:
    """By the mark, which only CAP_NET_ADMIN gets: then a socket without ULP has none."""
    assert parse(about(row(), attribute(MARK, bytes(4))), END, sets=None)[1][110] == 1
    assert parse(about(row()), END, sets=None)[1][110] == 0


def test_a_view_of_recorded_bytes() -> None:
    """Of the other byte order, too. Too short is an error."""
    path = subflow(row(), ulp(SAID), tcp_info=bytes(280))
    other: Any = {"little": "big", "big": "little"}[sys.byteorder]
    turned = mp.DiagSubflow(path.raw, byteorder=other)
    assert turned.raw[84:88] == path.raw[84:88][::-1]  # a token, for one
    back = mp.DiagSubflow(turned.raw, byteorder=other)
    assert (back, back.token_local, back.flags) == (path, 0x22222222, 195)
    with pytest.raises(ValueError, match="the smallest is 112"):
        mp.DiagSubflow(path.raw[:108])
