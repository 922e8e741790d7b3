# SPDX-License-Identifier: MIT
"""sock_diag(7): dumps larger than a buffer, refused, disturbed; the C parser against forged datagrams."""

from __future__ import annotations

import errno
import random
import socket
import struct
from typing import Any

import pytest
from _mptcp_sockopt import ffi, lib

import mptcp_sockopt as mp
from mptcp_sockopt import _sock_diag

from .support import connections, in_a_child, in_private_network, rounds, where_refused


def test_families_one_by_one_give_the_same(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the request for all of them is refused (before 5.7), or its answer may be about TCP sockets."""
    ask = _sock_diag._Dump.ask
    asked: list[tuple[int, int]] = []
    refuse = True

    def note(dump: Any, fd: int, family: int, states: int) -> int:
        result = ask(dump, fd, family, states)
        asked.append((family, dump.c.sequence))
        return -errno.EINVAL if refuse and family == socket.AF_UNSPEC else result

    all_three = [(socket.AF_UNSPEC, 1), (socket.AF_INET, 1), (socket.AF_INET6, 2)]

    def look() -> None:
        nonlocal refuse
        with connections(2), connections(3, socket.AF_INET6) as ends:
            wanted = sorted(row.inode for row in mp.mptcp_diag())
            assert len(wanted) == 10
            info = len(mp.mptcp_info(ends[0]))
            monkeypatch.setattr(_sock_diag._Dump, "ask", note)
            assert sorted(row.inode for row in mp.mptcp_diag()) == wanted
            assert asked == all_three
            refuse = False
            # An INET_DIAG_INFO of at least this length may be a tcp_info.
            for length, expected in ((info, all_three), (info + 1, all_three[:1])):
                asked.clear()
                monkeypatch.setattr(_sock_diag, "_TCP_INFO", length)
                assert sorted(row.inode for row in mp.mptcp_diag()) == wanted
                assert asked == expected

    in_private_network(look)
    assert _sock_diag._TCP_INFO == 232  # of Linux 5.7 and 5.8


def test_an_answer_of_several_kinds_is_left_alone(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of TCP sockets, in the middle: that netlink socket is busy, and another is used."""
    ask = _sock_diag._Dump.ask

    def leave(dump: Any, fd: int, family: int, states: int) -> int:
        if family == socket.AF_UNSPEC:
            assert lib.mptcp_diag_request(fd, dump.c, family, states) == 0
            return -errno.EPROTO
        return ask(dump, fd, family, states)

    def look() -> None:
        with connections(100):
            monkeypatch.setattr(_sock_diag._Dump, "ask", leave)
            assert len(mp.mptcp_diag()) == 200

    in_private_network(look)


def test_nothing_found_proves_nothing(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without mptcp_diag may have found no TCP socket: asked by family, it says so."""
    ask = _sock_diag._Dump.ask

    def refuse(dump: Any, fd: int, family: int, states: int) -> int:
        return ask(dump, fd, family, states) if family == socket.AF_UNSPEC else -errno.ENOENT

    def look() -> None:
        assert len(mp.mptcp_diag()) == 0
        monkeypatch.setattr(_sock_diag._Dump, "ask", refuse)
        with pytest.raises(mp.UnsupportedOptionError):
            mp.mptcp_diag()
        with connections(1):
            assert len(mp.mptcp_diag()) == 2

    in_private_network(look)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_kernel_without_mptcp_diag(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """UnsupportedOptionError that names what is missing."""
    monkeypatch.setattr(_sock_diag._Dump, "ask", lambda *arguments: -number)
    with pytest.raises(mp.UnsupportedOptionError, match="CONFIG_INET_MPTCP_DIAG") as caught:
        mp.mptcp_diag()
    assert (caught.value.errno, caught.value.option) == (number, "mptcp_diag")


def test_a_kernel_without_sock_diag() -> None:
    """Says so at socket(2); what a sandbox forbids is no statement about the kernel."""

    def ask() -> tuple[type, int]:
        try:
            mp.mptcp_diag()
        except OSError as error:
            return type(error), error.errno or 0
        return type(None), 0

    for number, error in ((errno.EPROTONOSUPPORT, mp.UnsupportedOptionError), (errno.EPERM, PermissionError)):
        refusal = ("socket", {0: int(socket.AF_NETLINK)}, number)
        assert where_refused([refusal], ask) == (error, number)


@pytest.mark.parametrize(
    ("result", "number"), [(0, errno.EAGAIN), (-errno.EAGAIN, errno.EAGAIN), (-errno.ENOBUFS, errno.ENOBUFS)]
)
def test_a_disturbed_dump_is_made_again(
    result: int, number: int, mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few times; then it is an OSError. 0 stands for NLM_F_DUMP_INTR."""
    attempt, left = _sock_diag._attempt, [3]

    def disturb(states: int, *families: int) -> tuple[int, Any]:
        answer, found = attempt(states, *families)
        if left[0]:
            left[0] -= 1
            found.c.interrupted = 1
            return result, found
        return answer, found

    monkeypatch.setattr(_sock_diag, "_attempt", disturb)
    mp.mptcp_diag()
    assert left == [0]
    left[0] = 1000
    with pytest.raises(OSError, match=r"mptcp_diag\(\): ") as caught:
        mp.mptcp_diag()
    assert caught.value.errno == number
    assert left[0] > 900


def test_any_other_errno_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, as the OSError that it is."""
    monkeypatch.setattr(_sock_diag._Dump, "ask", lambda *arguments: -errno.ENOMEM)
    with pytest.raises(OSError, match=r"mptcp_diag\(\)") as caught:
        mp.mptcp_diag()
    assert caught.value.errno == errno.ENOMEM


# ---------------------------------------------------------------------------------------------- the parser

SEQUENCE = 7
BY_FAMILY, ERROR, DONE, OVERRUN = 20, 2, 3, 4


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes = b"", flags: int = 2, sequence: int = SEQUENCE) -> bytes:
    head = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0)
    return head + body + bytes(-len(body) % 4)


def about(number: int, info: bytes, before: bytes = attribute(8, b"\0")) -> bytes:
    """A message about socket number."""
    return message(BY_FAMILY, struct.pack("=68xI", number) + before + attribute(2, info))


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
    assert (result, dump.info, dump.stride) == (1, length, 72 + (length + 7) // 8 * 8)
    found = mp.MPTCPDiag(0, dump.info, records)
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
    assert (dump.info, records[72:]) == (lib.MPTCP_INFO_ROOM, info_of(400)[: lib.MPTCP_INFO_ROOM])


@pytest.mark.parametrize("flag", [0x4000, 0x8000])
def test_flags_of_an_attribute_are_no_part_of_its_type(flag: int) -> None:
    """NLA_F_NET_BYTEORDER and NLA_F_NESTED, as netlink has them."""
    info = info_of(96)
    body = bytes(72) + attribute(flag | 8, b"\0") + attribute(flag | 2, info)
    assert parse(message(BY_FAMILY, body) + END)[1] == bytes(72) + info


def test_padding_is_zero() -> None:
    """Whatever lay there: nothing of the caller's memory gets into a record."""
    _, records, _ = parse(b"".join(about(n, b"\xff" * 44, attribute(8, b"\xff" * 4)) for n in range(3)))
    assert [records[n * 120 + 116 : n * 120 + 120] for n in range(3)] == [bytes(4)] * 3


def test_what_ends_a_dump() -> None:
    """DONE, with or without an errno; an error; an overrun. What follows is not looked at."""
    one, junk = about(1, info_of(96)), b"\xff" * 20
    assert parse(one)[0] == 0
    assert parse(one + END + junk)[0] == 1
    assert parse(message(DONE))[0] == 1
    assert parse(one + message(DONE, struct.pack("=i", -errno.ENOENT)) + junk)[0] == -errno.ENOENT
    assert parse(message(ERROR, struct.pack("=i", -errno.ENOENT) + bytes(16)) + junk)[0] == -errno.ENOENT
    assert parse(message(ERROR, bytes(20)))[0] == 0  # an acknowledgement
    assert parse(message(OVERRUN) + junk)[0] == -errno.ENOBUFS
    assert parse(message(DONE, struct.pack("=i", -(2**31))))[0] == -errno.EPROTO


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
    body = struct.pack("=68xI", 1) + attribute(2, info) if kind == BY_FAMILY else bytes(4)
    _, _, dump = parse(about(1, info), message(kind, body, flags=0x12), about(2, info) + END)
    assert dump.interrupted == 1
    assert parse(about(1, info) + END)[2].interrupted == 0


@pytest.mark.parametrize("attributes", [b"", attribute(8, b"\0"), attribute(2, b""), attribute(2, bytes(39))])
def test_without_mptcp_info_it_is_an_error(attributes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel leaves it out: absent is not zero."""
    result, records, dump = parse(message(BY_FAMILY, bytes(72) + attributes) + END)
    assert (result, dump.info < 40, len(records)) == (1, True, dump.stride)
    found = _sock_diag._Dump()
    found.c.used, found.c.info = len(records), dump.info
    monkeypatch.setattr(_sock_diag, "_attempt", lambda *arguments: (0, found))
    with pytest.raises(OSError, match=r"mptcp_diag\(\): an mptcp_info of") as caught:
        mp.mptcp_diag()
    assert caught.value.errno == errno.EPROTO


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
    "an attribute shorter than its header": cut(ONE, 88, 3),
    "an attribute longer than the message": cut(ONE, 96, 101),
    "mptcp_info of two lengths": ONE + about(2, info_of(88)),
    "a second socket without mptcp_info": ONE + message(BY_FAMILY, bytes(72)),
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
    sound = about(1, info_of(96)) + about(2, info_of(96)) + message(ERROR, bytes(20)) + END
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
    return lib.mptcp_diag_receive(fd, dump), dump.used


def test_only_the_kernel_is_believed() -> None:
    """What a process sends to the netlink socket is left out; what is no netlink socket is an error."""
    usersock = 2
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as one,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as other,
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

    assert in_a_child(ask) == -errno.ENOENT
