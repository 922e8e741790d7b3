# SPDX-License-Identifier: MIT
"""The C side of sock_diag(7): the parser against forged datagrams, and what a netlink socket brings."""

from __future__ import annotations

import errno
import random
import socket
import struct
from typing import Any

import pytest
from _mptcp_sockopt import ffi, lib

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .support import rounds

SEQUENCE = 7
BY_FAMILY, ERROR, DONE, OVERRUN = 20, 2, 3, 4
USERSOCK = 2  # NETLINK_USERSOCK


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes = b"", flags: int = 2, sequence: int = SEQUENCE) -> bytes:
    head = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0)
    return head + body + bytes(-len(body) % 4)


def socket_number(number: int, family: int = socket.AF_INET, state: int = 1) -> bytes:
    """struct inet_diag_msg, with this inode."""
    return struct.pack("=BB66xI", family, state, number)


def about(number: int, info: bytes, before: bytes = attribute(8, b"\0")) -> bytes:
    """A message about socket number."""
    return message(BY_FAMILY, socket_number(number) + before + attribute(2, info))


END = message(DONE, bytes(4))


def parse(*datagrams: bytes, room: int = 0) -> tuple[int, bytes, Any]:
    """The last result, the records, the struct. The memory is as small as it may be."""
    length = max(room, sum(map(len, datagrams)))
    memory = ffi.new("uint8_t[]", max(1, length))
    view = memoryview(ffi.buffer(memory))
    dump = ffi.new("struct mptcp_diag_dump *", {"records": memory, "size": length, "sequence": SEQUENCE})
    result = 0
    for datagram in datagrams:
        view[dump.used : dump.used + len(datagram)] = datagram
        result = lib.mptcp_diag_parse(dump, len(datagram))
    return result, bytes(view[: dump.used]), dump


def info_of(length: int) -> bytes:
    """An mptcp_info with no two bytes alike, as far as that goes."""
    return bytes(n % 251 + 1 for n in range(length))


@pytest.mark.parametrize("length", [40, 44, 48, 80, 84, 88, 96, 128, 256])
def test_every_length_of_mptcp_info(length: int) -> None:
    """Older and newer kernels': a record ends with the kernel's bytes, absent fields are None, not 0."""
    info = info_of(length)
    result, records, dump = parse(about(1, info) + about(2, info), about(3, info) + END)
    assert (result, dump.info_length, dump.stride) == (1, length, 72 + (length + 7) // 8 * 8)
    found = mp.MPTCPDiag(0, dump.info_length, records)
    assert found.column("inode").tolist() == [row.inode for row in found] == [1, 2, 3]
    assert [row.info for row in found] == [mp.MPTCPInfo(info)] * 3
    assert found[:] == tuple(found)
    for name in mp.MPTCPInfo.fields:
        value = getattr(mp.MPTCPInfo(info), name)
        if value is None:
            with pytest.raises(ValueError, match="does not report"):
                found.column(name)
        else:
            assert found.column(name).tolist() == [value] * 3


def test_more_than_the_room_is_cut_off() -> None:
    """As getsockopt would do it."""
    _, records, dump = parse(about(1, info_of(400)) + END)
    assert (dump.info_length, records[72:]) == (lib.MPTCP_INFO_ROOM, info_of(400)[: lib.MPTCP_INFO_ROOM])


@pytest.mark.parametrize("flag", [0x4000, 0x8000])
def test_flags_of_an_attribute_are_no_part_of_its_type(flag: int) -> None:
    """NLA_F_NET_BYTEORDER and NLA_F_NESTED, as netlink has them."""
    info = info_of(96)
    body = socket_number(1) + attribute(flag | 8, b"\0") + attribute(flag | 2, info)
    assert parse(message(BY_FAMILY, body) + END)[1] == socket_number(1) + info


def test_padding_is_zero() -> None:
    """Whatever lay there: nothing of the caller's memory gets into a record."""
    _, records, _ = parse(b"".join(about(n, b"\xff" * 44, attribute(8, b"\xff" * 4)) for n in range(3)))
    assert [records[n * 120 + 116 : n * 120 + 120] for n in range(3)] == [bytes(4)] * 3


def test_what_ends_a_dump() -> None:
    """DONE with 0 or an errno; an error; an overrun. What follows is not looked at."""
    one, junk = about(1, info_of(96)), b"\xff" * 20
    assert parse(one)[0] == 0
    assert parse(one + END + junk)[0] == 1
    assert parse(one + message(DONE, struct.pack("=i", -errno.ENOENT)) + junk)[0] == -errno.ENOENT
    assert parse(message(ERROR, struct.pack("=i", -errno.ENOENT) + bytes(16)) + junk)[0] == -errno.ENOENT
    assert parse(message(OVERRUN) + junk)[0] == -errno.ENOBUFS
    for kind in (ERROR, DONE):
        for number in (1, -4096, -(2**31)):
            assert parse(message(kind, struct.pack("=i", number)))[0] == -errno.EPROTO
        assert parse(message(kind, b"abc"))[0] == -errno.EPROTO
    assert parse(message(ERROR, bytes(20)))[0] == -errno.EPROTO  # acknowledges, which nobody asked for


def test_what_is_left_out() -> None:
    """Messages of other kinds, and those of another request."""
    one = about(1, info_of(96))
    noop, stranger = message(1), message(99, b"abc")
    late = message(DONE, struct.pack("=i", -errno.EIO), flags=0x10, sequence=SEQUENCE - 1)
    result, records, dump = parse(noop + stranger + late + one + noop + END)
    assert (result, len(records), dump.interrupted) == (1, 168, 0)


@pytest.mark.parametrize("kind", [BY_FAMILY, DONE, 1])
def test_an_interrupted_dump_is_known(kind: int) -> None:
    """By the flag of any message, and for good."""
    info = info_of(96)
    body = socket_number(1) + attribute(2, info) if kind == BY_FAMILY else bytes(4)
    _, _, dump = parse(about(1, info), message(kind, body, flags=0x12), about(2, info) + END)
    assert dump.interrupted == 1
    assert parse(about(1, info) + END)[2].interrupted == 0


@pytest.mark.parametrize("length", [None, 0, 36, 39, 41, 42, 4100])
def test_without_mptcp_info_it_is_an_error(length: int | None) -> None:
    """No kernel leaves it out, or makes it of such a length: absent is not zero."""
    info = b"" if length is None else attribute(2, info_of(length))
    body = socket_number(1) + attribute(8, b"\0") + info
    assert parse(ONE + message(BY_FAMILY, body) + END)[0] == -errno.EPROTO
    assert parse(message(BY_FAMILY, body) + END)[:2] == (-errno.EPROTO, b"")


@pytest.mark.parametrize("family", [0, 1, 11, 255])
def test_a_socket_of_no_internet_family_is_an_error(family: int) -> None:
    """Its addresses would be nobody's."""
    assert parse(message(BY_FAMILY, socket_number(1, family) + attribute(2, info_of(96))))[0] == -errno.EPROTO


@pytest.mark.parametrize("state", [0, 32, 255])
def test_a_state_that_no_mask_can_name_is_an_error(state: int) -> None:
    """The request names states as bits of 32."""
    body = socket_number(1, state=state) + attribute(2, info_of(96))
    assert parse(message(BY_FAMILY, body))[0] == -errno.EPROTO
    assert parse(message(BY_FAMILY, socket_number(1, state=31) + attribute(2, info_of(96))))[0] == 0


def cut(datagram: bytes, at: int, value: int, form: str = "=H") -> bytes:
    """datagram with a number changed."""
    return datagram[:at] + struct.pack(form, value) + datagram[at + struct.calcsize(form) :]


ONE = about(1, info_of(96))
MALFORMED = {
    "half a header": ONE[:15],
    "a length of 0": cut(ONE, 0, 0, "=I"),
    "shorter than its header": cut(ONE, 0, 15, "=I"),
    "longer than the datagram": cut(ONE, 0, len(ONE) + 1, "=I"),
    "longer than anything": cut(ONE, 0, 2**32 - 1, "=I"),
    "shorter than inet_diag_msg": cut(ONE, 0, 16 + 71, "=I"),
    "an attribute of length 0": cut(ONE, 88, 0),
    "an attribute shorter than its header": about(1, info_of(96), before=struct.pack("=HH", 3, 8)),
    "an attribute longer than the message": cut(ONE, 96, 101),
    "mptcp_info of two lengths": ONE + about(2, info_of(88)),
    "a second socket without mptcp_info": ONE + message(BY_FAMILY, socket_number(2)),
    "a tail": ONE + b"\x20",
}


@pytest.mark.parametrize("datagram", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_datagram_is_a_protocol_error(datagram: bytes) -> None:
    """What came before it stays, and nothing is made of it."""
    _, one, _ = parse(ONE)
    assert parse(datagram)[:2] == (-errno.EPROTO, one if datagram.startswith(ONE) else b"")
    assert parse(ONE + datagram)[:2] == (-errno.EPROTO, one * (1 + datagram.startswith(ONE)))


def test_a_datagram_beyond_the_room_is_refused() -> None:
    """Before anything is read."""
    memory = ffi.new("uint8_t[]", 64)
    for size, used, length in ((64, 0, 65), (64, 60, 5), (64, 65, 0), (64, 2**64 - 1, 2), (0, 0, 1)):
        dump = ffi.new("struct mptcp_diag_dump *", {"records": memory, "size": size, "used": used})
        assert lib.mptcp_diag_parse(dump, length) == -errno.EINVAL


def test_a_hundred_thousand_broken_datagrams() -> None:
    """No crash (the sanitizers watch), nothing written beyond the datagram, only errnos that are meant."""
    chance = random.Random(1)
    sound = about(1, info_of(96)) + about(2, info_of(96)) + message(1, bytes(20)) + END
    length, guard = len(sound), b"\xa5" * 64
    memory = ffi.new("uint8_t[]", length + len(guard))
    view = memoryview(ffi.buffer(memory))
    dump = ffi.new("struct mptcp_diag_dump *", {"records": memory, "size": length, "sequence": SEQUENCE})
    view[length:] = guard
    numbers = [0, 1, 3, 4, 15, 16, 17, 100, 255]
    results: dict[int, int] = {}
    for _ in range(rounds(100_000)):
        view[:length] = sound
        for _ in range(2):
            view[int(chance.random() * length)] = numbers[int(chance.random() * len(numbers))]
        dump.used = dump.stride = 0
        result = lib.mptcp_diag_parse(dump, length)
        results[result] = results.get(result, 0) + 1
        assert dump.used <= length
    assert view[length:] == guard
    assert {1, 0, -errno.EPROTO} < results.keys()
    for _ in range(1000):
        view[:length] = chance.randbytes(length)
        dump.used = dump.stride = 0
        lib.mptcp_diag_parse(dump, length)
    assert view[length:] == guard


# ---------------------------------------------------------------------------------------------- the socket


def receive(fd: int) -> tuple[int, int]:
    """The result of receiving on fd, and how many bytes of records there are."""
    room = 2 * lib.MPTCP_DIAG_DATAGRAM
    memory = ffi.new("uint8_t[]", room)
    dump = ffi.new("struct mptcp_diag_dump *", {"records": memory, "size": room, "sequence": SEQUENCE})
    for _ in range(lib.MOST_BARREN + 1):  # it comes back after each that brought nothing
        result = lib.mptcp_diag_receive(fd, dump)
        if result:
            break
    return result, dump.used


def test_datagrams_that_bring_nothing_are_counted() -> None:
    """Another process may send any number of them: then it is no dump."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as one,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as other,
    ):
        one.bind((0, 0))
        for count, result in ((lib.MOST_BARREN, -errno.EAGAIN), (lib.MOST_BARREN + 1, -errno.EPROTO)):
            for _ in range(count):
                other.sendto(ONE + END, (one.getsockname()[0], 0))
            assert receive(one.fileno()) == (result, 0)


def test_it_returns_after_what_brings_nothing() -> None:
    """So that Python can look at signals; what came after it is still there."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as one,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as other,
    ):
        one.bind((0, 0))
        for _ in range(2):
            other.sendto(ONE + END, (one.getsockname()[0], 0))
        memory = ffi.new("uint8_t[]", lib.MPTCP_DIAG_DATAGRAM)
        dump = ffi.new("struct mptcp_diag_dump *", {"records": memory, "size": len(memory)})
        for barren in (1, 2):
            assert lib.mptcp_diag_receive(one.fileno(), dump) == 0
            assert dump.barren == barren
        assert lib.mptcp_diag_receive(one.fileno(), dump) == -errno.EAGAIN


def test_only_the_kernel_is_believed() -> None:
    """What a process sends to the netlink socket is left out; what is no netlink socket is an error."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as one,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as other,
    ):
        one.bind((0, 0))
        other.sendto(ONE + END, (one.getsockname()[0], 0))
        assert receive(one.fileno()) == (-errno.EAGAIN, 0)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        right.send(ONE + END)
        assert receive(left.fileno()) == (-errno.EPROTO, 0)
    assert receive(-1) == (-errno.EBADF, 0)


def test_a_dump_that_does_not_end_is_not_waited_for() -> None:
    """EAGAIN at once: nobody was asked."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, lib.NETLINK_SOCK_DIAG) as netlink:
        assert receive(netlink.fileno()) == (-errno.EAGAIN, 0)


def test_without_room_nothing_is_received() -> None:
    """It returns to the caller, who makes room; the datagram stays where it is."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        right.send(ONE)
        memory = ffi.new("uint8_t[]", 100_000)
        for size, used in ((lib.MPTCP_DIAG_DATAGRAM - 1, 0), (100_000, 100_000), (50_000, 20_000), (10, 20)):
            dump = ffi.new("struct mptcp_diag_dump *", {"records": memory, "size": size, "used": used})
            assert lib.mptcp_diag_receive(left.fileno(), dump) == 0
        assert left.recv(1000, socket.MSG_DONTWAIT) == ONE


def test_the_kernel_says_that_it_has_no_such_protocol(mptcp: None) -> None:
    """ENOENT, through the parser: what a kernel without mptcp_diag answers, for a protocol that none has."""
    nobody = 261
    request = struct.pack("=BBBxI48x", socket.AF_INET, 0, 2, 2**32 - 1) + attribute(
        3, struct.pack("=I", nobody)
    )

    def ask() -> int:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, lib.NETLINK_SOCK_DIAG) as netlink:
            netlink.send(message(BY_FAMILY, request, flags=0x301))
            return receive(netlink.fileno())[0]

    assert testing.in_child(ask) == -errno.ENOENT
