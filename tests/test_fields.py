# SPDX-License-Identifier: MIT
"""Views of recorded bytes: what is refused, the other byte order, classes made of them."""

from __future__ import annotations

import copy
import pickle
import random
import socket
import sys
import weakref
from typing import Any, Literal

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _border, _records, _unpacking

from .support import rounds
from .vectors import MPTCP_INFO, MPTCP_INFO_LENGTH, TCP_INFO, TCP_INFO_BITS, full_info, pattern, sockaddr

OTHER: Literal["little", "big"] = "big" if sys.byteorder == "little" else "little"
THIS: Literal["little", "big"] = "little" if OTHER == "big" else "big"


@pytest.mark.parametrize("length", [41, 42, 43, 45, 90, 97, 1001])
def test_a_length_that_no_compiler_gives_is_a_value_error(length: int) -> None:
    """struct mptcp_info is padded to 4 bytes by every kernel, in MPTCP_FULL_INFO too."""
    with pytest.raises(ValueError, match=f"MPTCPInfo of {length} bytes: not a multiple of 4"):
        mp.MPTCPInfo(bytes(length))
    with pytest.raises(ValueError, match="its header does not fit"):
        mp.MPTCPFullInfo(full_info(1, info=length))


@pytest.mark.parametrize(("word", "size"), [(0, 276), (2, 268)])
def test_a_kernel_gives_no_more_than_it_has(word: int, size: int) -> None:
    """An element longer than the kernel's own struct is a ValueError, and one as long is none."""
    raw = bytearray(full_info(1, element=320))
    mp.MPTCPFullInfo(raw)
    raw[4 * word : 4 * word + 4] = size.to_bytes(4, sys.byteorder)
    with pytest.raises(ValueError, match="its header does not fit"):
        mp.MPTCPFullInfo(raw)


HEADER = (0, 1, 2, 4, 8, 255, 256, 259, 260, 261, 264, 279, 280, 281, 320, 2**16, 2**31, 2**32 - 1)


def test_full_info_is_refused_or_can_be_read_to_its_end() -> None:
    """Whatever stands in its header, and wherever it ends."""
    dice = random.Random(1)
    accepted = 0
    for _ in range(rounds(2_000)):
        raw = bytearray(full_info(dice.randrange(4), element=dice.choice((260, 264, 320))))
        for n in dice.sample(range(6), dice.randrange(4)):
            raw[4 * n : 4 * n + 4] = dice.choice(HEADER).to_bytes(4, sys.byteorder)
        if dice.randrange(4) == 0:
            del raw[dice.randrange(len(raw)) :]
        order = dice.choice((None, None, None, "little", "big"))
        try:
            view = mp.MPTCPFullInfo(raw, byteorder=order)  # type: ignore[arg-type]
        except ValueError:
            continue
        accepted += 1
        assert len(view.info) >= 40
        assert all(len(path.tcp_info) >= 1 for path in view.subflows)
        assert len(view.asdict(clean=True)["subflows"]) == len(view.subflows)
        assert repr(view).startswith("MPTCPFullInfo(")
    assert accepted > rounds(2_000) // 50


@pytest.mark.parametrize("word", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 2**16 + 1, 2**32 - 1])
def test_full_info_of_impossible_sizes(word: int, size: int) -> None:
    """Of tcp_info and of an element, the kernel's and what it wrote of them."""
    raw = bytearray(full_info(2))
    raw[4 * word : 4 * word + 4] = size.to_bytes(4, sys.byteorder)
    with pytest.raises(ValueError, match="its header does not fit"):
        mp.MPTCPFullInfo(raw)


def test_full_info_of_sizes_that_fit_the_bytes_and_no_kernel() -> None:
    """The arrays are as long as the header says; it says more than the kernel has, or too little."""
    raw = full_info(1)
    head, info, element = raw[:40], raw[40:136], raw[136:400]
    ends = element[8:]

    def build(tcp_info: int, element_of_kernel: int, element: bytes) -> bytes:
        sizes = (280, tcp_info, element_of_kernel, len(element), 1, 9)
        words = b"".join(size.to_bytes(4, sys.byteorder) for size in sizes)
        return words + head[24:] + info + element + pattern(tcp_info)

    assert mp.MPTCPFullInfo(build(280, 264, element)).subflows[0].local == ("10.0.0.1", 1001)
    for impossible in (
        build(0, 264, element),  # no tcp_info
        build(281, 264, element),  # more than the kernel's
        build(280, 264, element + bytes(8)),  # the same of an element
        build(280, 259, b"\1\0\0" + ends),  # no room for an id before the addresses
    ):
        with pytest.raises(ValueError, match="its header does not fit"):
            mp.MPTCPFullInfo(impossible)


@pytest.mark.parametrize(("at", "number", "size"), [(48, 2, 4), (144, 2, 2), (272, 2, 2), (416, 1460, 4)])
def test_a_part_of_full_info_of_the_other_byte_order(at: int, number: int, size: int) -> None:
    """flags, the two families and snd_mss of a subflow are looked at as in the views of their own."""
    raw = bytearray(full_info(1))
    raw[at : at + size] = number.to_bytes(size, sys.byteorder)
    mp.MPTCPFullInfo(raw)
    raw[at : at + size] = number.to_bytes(size, OTHER)
    with pytest.raises(ValueError, match="of the other byte order"):
        mp.MPTCPFullInfo(raw)


def test_full_info_asked_without_arrays() -> None:
    """A raw call may want the connection alone: sizes of 0, room for none, and a count."""
    raw = bytearray(full_info(2, room=0))
    for word in (1, 3):
        raw[4 * word : 4 * word + 4] = bytes(4)
    view = mp.MPTCPFullInfo(raw)
    assert (view.num_subflows, view.subflows, view.info.raw) == (2, (), pattern(96))


def test_bytes_of_the_other_byte_order() -> None:
    """Every number is what it was there; the view holds it in this machine's order."""
    raw = pattern(280)
    info, tcp_info = mp.MPTCPInfo(raw[:MPTCP_INFO_LENGTH], byteorder=OTHER), mp.TCPInfo(raw, byteorder=OTHER)
    for name, at, size, *_ in MPTCP_INFO:
        assert getattr(info, name) == int.from_bytes(raw[at : at + size], OTHER), name
    for name, at, size, *_ in TCP_INFO:
        assert getattr(tcp_info, name) == int.from_bytes(raw[at : at + size], OTHER), name
    shifts = {"big": (0, 4, 0, 1), "little": (4, 0, 7, 5)}[sys.byteorder]
    assert [getattr(tcp_info, name) for name, *_ in TCP_INFO_BITS] == [
        raw[6] >> shifts[0] & 15,
        raw[6] >> shifts[1] & 15,
        raw[7] >> shifts[2] & 1,
        raw[7] >> shifts[3] & 3,
    ]
    assert mp.MPTCPInfo(info.raw) == mp.MPTCPInfo(raw[:MPTCP_INFO_LENGTH], byteorder=OTHER) == info
    assert pickle.loads(pickle.dumps(tcp_info)) == tcp_info


def test_a_tail_and_a_cut_field_are_left_as_they_are() -> None:
    """What this release does not know, it cannot turn; and half a field is none."""
    raw = pattern(300)
    assert mp.TCPInfo(raw, byteorder=OTHER).raw[280:] == raw[280:]
    assert mp.TCPInfo(raw[:22], byteorder=OTHER).raw[20:] == raw[20:22]


def test_addresses_of_the_other_byte_order() -> None:
    """Families and scope_ids are turned; ports and addresses are in network order everywhere."""
    raw = bytearray(sockaddr("fe80::1", 9) + sockaddr("192.0.2.7", 443))
    for at in (0, 128):
        raw[at : at + 2] = raw[at : at + 2][::-1]
    raw[24:28] = (3).to_bytes(4, OTHER)
    view = mp.SubflowAddrs(raw, byteorder=OTHER)
    assert (view.local, view.remote) == (("fe80::1", 9, 0, 3), ("192.0.2.7", 443))
    with pytest.raises(ValueError, match="other byte order"):
        mp.SubflowAddrs(raw)


def test_a_row_of_a_dump_of_the_other_byte_order() -> None:
    """Turned, it says what it said there; unturned, it is refused."""
    raw = bytearray(bytes([socket.AF_INET, 1]) + pattern(168)[2:])
    words = {"ifindex": 40, "expires": 52, "rqueue": 56, "wqueue": 60, "uid": 64, "inode": 68}
    row = mp.MPTCPDiagMsg(raw, byteorder=OTHER)
    for name, at in words.items():
        assert getattr(row, name) == int.from_bytes(raw[at : at + 4], OTHER), name
    low, high = (int.from_bytes(raw[at : at + 4], OTHER) for at in (44, 48))
    assert row.cookie == high << 32 | low
    assert row.local == mp.MPTCPDiagMsg(raw).local
    assert row.info == mp.MPTCPInfo(raw[72:], byteorder=OTHER)
    raw[80:84] = (2).to_bytes(4, OTHER)
    with pytest.raises(ValueError, match="MPTCPInfo: these bytes are of the other byte order"):
        mp.MPTCPDiagMsg(raw)
    with pytest.raises(ValueError, match="not a multiple of 4"):
        mp.MPTCPDiagMsg(raw[:-1])


@pytest.mark.parametrize("order", ["native", "", "BIG", 1])
def test_there_are_two_byte_orders(order: object) -> None:
    with pytest.raises(ValueError, match="byteorder must be 'little' or 'big', not"):
        mp.MPTCPInfo(bytes(96), byteorder=order)  # type: ignore[arg-type]


def test_unknown_values_of_a_newer_kernel_are_taken() -> None:
    """Bits of flags, states and families that have no name yet."""
    assert mp.MPTCPInfo(bytes(8) + (0x8001).to_bytes(4, sys.byteorder) + bytes(84)).flags == 0x8001
    assert mp.TCPInfo(b"\xff" + bytes(279)).state == 255
    assert mp.SubflowAddrs((99).to_bytes(2, sys.byteorder) + bytes(254)).local is None


class Mine(mp.MPTCPInfo):
    """A user's own view: one more property, one field renamed in words."""

    __slots__ = ()

    @property
    def doubled(self) -> int:
        return 2 * self.subflows

    @property
    def token(self) -> str:  # type: ignore[override]
        return f"{super().token:#x}"


class Plain(mp.TCPInfo):
    """Nothing added; without __slots__, as most are written."""


class Whole(mp.MPTCPFullInfo):
    __slots__ = ()


class Ends(mp.SubflowAddrs):
    __slots__ = ()


class Row(mp.MPTCPDiagMsg):
    __slots__ = ()


class Path(mp.Subflow):
    __slots__ = ()


ROW = bytes([socket.AF_INET, 1]) + bytes(70) + pattern(96)
SUBCLASSES = [
    (Mine, pattern(96)),
    (Plain, pattern(280)),
    (Whole, full_info(2)),
    (Ends, sockaddr("127.0.0.1", 80) + sockaddr("::1", 81)),
    (Row, ROW),
]


@pytest.mark.parametrize(("view", "raw"), SUBCLASSES, ids=lambda part: getattr(part, "__name__", ""))
def test_a_subclass_of_a_view_is_one(view: Any, raw: bytes) -> None:
    """It has all fields, shows its own name, and copies and pickles to its own kind."""
    base = view.__mro__[1]
    one, original = view(raw), base(raw)
    assert view.fields == base.fields
    assert one.asdict().keys() == original.asdict().keys()
    assert repr(one).startswith(f"{view.__name__}(")
    for again in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert type(again) is view
        assert again == one == original
        assert hash(again) == hash(one) == hash(original)
        assert again.asdict(clean=True) == one.asdict(clean=True)


def test_a_pickle_knows_its_byte_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view of another machine is turned; a sample and a dump, which are many structs, are refused."""
    view = mp.MPTCPInfo(pattern(96))
    pickles = [pickle.dumps(one) for one in (view, mp.MPTCPDiag(1, 96, ROW), mp.Sampler([0]).sample())]
    assert pickle.loads(pickles[0]) == view
    with monkeypatch.context() as context:
        context.setattr(sys, "byteorder", OTHER)
        assert pickle.loads(pickles[0]).raw == mp.MPTCPInfo(view.raw, byteorder=THIS).raw != view.raw
        for one in pickles[1:]:
            with pytest.raises(ValueError, match="pickled on a machine of the other byte order"):
                pickle.loads(one)
    assert [type(pickle.loads(one)) for one in pickles[1:]] == [mp.MPTCPDiag, mp.Sample]


def test_what_a_subclass_keeps_beside_its_bytes_is_copied() -> None:
    one = Plain(pattern(280))
    one.note = "over the air"  # type: ignore[attr-defined]
    assert vars(pickle.loads(pickle.dumps(one))) == vars(copy.copy(one)) == {"note": "over the air"}


def test_a_subclass_may_say_a_field_in_its_own_way() -> None:
    """asdict() and repr() go by what the attribute is there."""
    one = Mine(pattern(96))
    assert one.doubled == 2 * mp.MPTCPInfo(pattern(96)).subflows
    assert one.token == one.asdict()["token"] == f"{mp.MPTCPInfo(pattern(96)).token:#x}"
    assert f"token={one.token!r}" in repr(one)


def test_what_a_view_says_of_itself_does_not_hang_on_what_a_subclass_shows() -> None:
    """Sequence numbers as strings, for JSON, and flags in words."""

    class Texts(mp.MPTCPInfo):
        __slots__ = ()

        @property
        def flags(self) -> str:  # type: ignore[override]
            return repr(mp.InfoFlag(super().flags))

        @property
        def write_seq(self) -> str:  # type: ignore[override]
            return str(super().write_seq)

    raw = bytearray(pattern(96))
    raw[8:12] = (2).to_bytes(4, sys.byteorder)
    one = Texts(raw)
    assert one.asdict()["write_seq"] == str(mp.MPTCPInfo(raw).write_seq)
    assert one.unacked_bytes == one.asdict()["unacked_bytes"] == mp.MPTCPInfo(raw).unacked_bytes
    raw[8:12] = (2).to_bytes(4, OTHER)
    with pytest.raises(ValueError, match="Texts: these bytes are of the other byte order"):
        Texts(raw)


@pytest.mark.parametrize("view", [mp.MPTCPInfo, mp.TCPInfo])
@pytest.mark.parametrize("length", [40, 80, 84, 96, 104, 192, 232, 240, 280, 512])
def test_several_fields_at_once_are_what_each_is(view: type[mp.TCPInfo], length: int) -> None:
    """In the order that was asked for; None where the kernel did not return one."""
    whole = [name for name, field in view.fields.items() if not field.place.mask]
    found = view(pattern(length))
    for names in (whole, whole[::-1], ("bytes_sent", "bytes_acked", "bytes_received"), whole[5:0:-2]):
        assert _unpacking.several(view, *names)(found) == tuple([getattr(found, name) for name in names])


@pytest.mark.parametrize("view", [mp.MPTCPInfo, mp.TCPInfo])
@pytest.mark.parametrize("length", [40, 80, 84, 96, 104, 192, 232, 240, 276, 280, 512])
def test_asdict_has_what_each_attribute_has(view: type[mp.TCPInfo], length: int) -> None:
    """In the order of the struct, as plain ints, of any length; a subclass may show something else."""

    class Other(view):  # type: ignore[misc, valid-type]
        retransmits = property(lambda raw: "some")

    for shown in (view, Other):
        found = shown(pattern(length))
        given = found.asdict()
        given.pop("unacked_bytes", None)
        assert list(given.items()) == [(name, getattr(found, name)) for name in view.fields]
        assert {type(value) for value in given.values()} <= {int, type(None), str}
        assert given["retransmits"] == found.retransmits
        assert found.asdict(clean=True).keys() == found.asdict().keys()


@pytest.mark.parametrize("view", [mp.MPTCPInfo, mp.TCPInfo])
@pytest.mark.parametrize("length", [40, 80, 84, 96, 104, 192, 232, 240, 276, 280, 512])
def test_a_plan_gives_a_part_of_asdict(view: type[mp.TCPInfo], length: int) -> None:
    """Of any length, clean, with bit-fields and what is computed."""
    for raw in (pattern(length), bytes(length), b"\xff" * length, b"\0\0\0\1" * (length // 4)):
        found = view._trusted(raw)
        whole = found.asdict(clean=True)
        for names in (list(whole), list(whole)[::-3], ["last_ack_recv", "last_data_sent"], []):
            plan = _unpacking.Plan(view, names, length)
            numbers = [number(raw, place) for place in plan.places]
            assert plan.finish(numbers) == {name: whole[name] for name in names}


def number(raw: bytes, place: _border.Place) -> int:
    return int.from_bytes(raw[place.offset : place.end], sys.byteorder)


def test_a_subclass_of_a_record_is_one() -> None:
    """With no parts of its own, or with one more."""

    class Longer(mp.Subflow):
        __slots__ = ("note",)

        def __init__(self, id: int, addrs: mp.SubflowAddrs, tcp_info: mp.TCPInfo, note: str) -> None:
            _records.Record.__init__(self, id, addrs, tcp_info, note)

    path = mp.MPTCPFullInfo(full_info(2)).subflows[1]
    one = Path(path.id, path.addrs, path.tcp_info)
    assert (one.id, one.live, one.asdict()) == (path.id, path.live, path.asdict())
    assert pickle.loads(pickle.dumps(one)) == one == copy.copy(one)
    assert repr(one).startswith("Path(")
    assert one != path
    longer = Longer(3, path.addrs, path.tcp_info, "over the air")
    assert (longer.id, longer.note) == (3, "over the air")  # type: ignore[attr-defined]
    assert longer != Longer(3, path.addrs, path.tcp_info, "by cable")


@pytest.mark.parametrize(
    "record", [mp.Snapshot, mp.Subflow, mp.SubflowDelta, mp.Update], ids=lambda record: record.__name__
)
def test_a_record_is_made_of_its_parts_in_order(record: Any) -> None:
    """By position and by name, no more and no fewer, but for parts that have a default."""
    names = record._names
    one = record(*range(len(names)))
    assert one._parts() == tuple(range(len(names)))
    assert record(**dict(zip(names, range(len(names)), strict=True))) == one
    least = len(names) - len(record.__init__.__defaults__ or ())
    assert record(*range(least))._parts()[:least] == tuple(range(least))
    for wrong in (least - 1, len(names) + 1):
        with pytest.raises(TypeError):
            record(*range(wrong))
    more = type("More", (record,), {"__slots__": ("note",)})(*range(len(names)))
    assert [getattr(more, name) for name in names] == list(range(len(names)))


@pytest.mark.parametrize("slots", ["__weakref__", ("__weakref__",), ("__dict__", "__weakref__")], ids=str)
def test_what_python_keeps_in_an_object_is_no_part_of_a_record(slots: object) -> None:
    """A subclass can be weakly referenced, with the parts of its parent alone."""
    path = mp.MPTCPFullInfo(full_info(2)).subflows[1]
    one = type("Seen", (mp.Subflow,), {"__slots__": slots})(path.id, path.addrs, path.tcp_info)
    assert weakref.ref(one)() is one
    assert copy.copy(one) == one
    assert repr(one) == repr(path).replace("Subflow", "Seen")
