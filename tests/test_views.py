# SPDX-License-Identifier: MIT
"""Bytes in, values out: no kernel needed."""

from __future__ import annotations

import pickle
import re
import sys
import typing

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _annotations, _fields
from mptcp_sockopt._border import abi, options

from . import vectors
from .vectors import (
    MPTCP_INFO,
    TCP_INFO,
    TCP_INFO_BITS,
    TCP_INFO_LENGTHS,
    full_info,
    number,
    pattern,
    sockaddr,
)


@pytest.mark.parametrize("length", [40, 44, 48, 80, 84, 88, 96, 100, 104, 128, 256])
def test_mptcp_info_of_every_kernel(length: int) -> None:
    """A field is present if the kernel's struct had it, and None where padding merely covers it."""
    raw = pattern(length)
    view = mp.MPTCPInfo(raw)
    there = {name: number(raw, at, size) for name, at, size, since, *_ in MPTCP_INFO if length >= since}
    expected = {name: there.get(name) for name, *_ in MPTCP_INFO}
    # Which flags the pattern has, depends on the byte order.
    connected = there["flags"] & 3 == mp.InfoFlag.REMOTE_KEY_RECEIVED
    unacked = (there["write_seq"] - there["snd_una"]) % 2**64 if connected else None
    assert view.asdict() == expected | {"unacked_bytes": unacked}
    assert view.raw == raw


@pytest.mark.parametrize("length", [*range(300), 512])
def test_tcp_info_of_any_length(length: int) -> None:
    """A field is present if it ends within the kernel's length."""
    raw = pattern(length)
    found = mp.TCPInfo(raw).asdict()
    for name, at, size, *_ in TCP_INFO:
        assert found.pop(name) == (number(raw, at, size) if at + size <= length else None), name
    # What is left are bit-fields, which a C compiler fills from the end of the byte that is first in memory.
    shifts = {"little": (0, 4, 0, 1), "big": (4, 0, 7, 5)}[sys.byteorder]
    six, seven = raw[6:7], raw[7:8]
    assert found == {
        "snd_wscale": six[0] >> shifts[0] & 15 if six else None,
        "rcv_wscale": six[0] >> shifts[1] & 15 if six else None,
        "delivery_rate_app_limited": seven[0] >> shifts[2] & 1 if seven else None,
        "fastopen_client_fail": seven[0] >> shifts[3] & 3 if seven else None,
    }


@pytest.mark.parametrize(
    ("view", "layout"),
    [
        (mp.MPTCPInfo, abi.layout("mptcp_info", "mptcpi_")),
        (mp.TCPInfo, abi.layout("tcp_info", "tcpi_")),
    ],
)
def test_every_field_of_the_struct_is_an_attribute(
    view: type[mp.MPTCPInfo], layout: dict[str, abi.Place]
) -> None:
    """In its order, with a sentence, a unit, a release and a kind."""
    assert list(view.fields) == [f"{name}_" if hasattr(bytes, name) else name for name in layout]
    for field in view.fields.values():
        assert field.__doc__
        assert field.__doc__.endswith(f". ({field.unit}; Linux {field.since})")
        assert "\n" not in field.__doc__
        assert field.unit
        assert re.fullmatch(r"\d+\.\d+", field.since)
        assert field.kind in typing.get_args(_annotations.Kind)
        assert repr(field) == f"<Field {field.name}: {field.kind}, {field.unit}, Linux {field.since}>"


@pytest.mark.parametrize(
    ("view", "rows"),
    [
        (mp.MPTCPInfo, [(name, *meaning) for name, _, _, _, *meaning in MPTCP_INFO]),
        (mp.TCPInfo, [(name, *meaning) for name, _, _, *meaning in TCP_INFO] + TCP_INFO_BITS),
    ],
    ids=["mptcp_info", "tcp_info"],
)
def test_releases_and_units_are_the_kernel_s(
    view: type[_fields.View], rows: list[tuple[str, str, str]]
) -> None:
    """Of every field, against the tables typed by hand."""
    found = [(name, field.since, field.unit) for name, field in view.fields.items()]
    assert sorted(found) == sorted(rows)


def test_releases_follow_the_length_of_tcp_info() -> None:
    """What a kernel's length holds came in that release or before it."""
    for name, at, size, since, _ in TCP_INFO:
        assert since == next(
            release for release, length in TCP_INFO_LENGTHS.items() if at + size <= length
        ), name


def test_fields_are_readable_by_machines() -> None:
    """The class gives the field itself."""
    assert (mp.TCPInfo.rtt.unit, mp.TCPInfo.rtt.since) == ("us", "2.6")
    assert mp.TCPInfo.snd_ssthresh.sentinel == 0x7FFFFFFF
    assert mp.MPTCPInfo.fields["bytes_sent"] is mp.MPTCPInfo.__dict__["bytes_sent"]
    with pytest.raises(TypeError):
        mp.MPTCPInfo.fields["token"] = mp.MPTCPInfo.fields["flags"]  # type: ignore[index]


def test_sentinels_are_none_when_clean() -> None:
    """And stay numbers otherwise."""
    raw = bytearray(280)
    raw[76:80] = (0x7FFFFFFF).to_bytes(4, sys.byteorder)
    raw[104:120] = b"\xff" * 16
    raw[148:152] = b"\xff" * 4
    view = mp.TCPInfo(raw)
    names = ("snd_ssthresh", "pacing_rate", "max_pacing_rate", "min_rtt")
    assert [view.asdict()[name] for name in names] == [0x7FFFFFFF, 2**64 - 1, 2**64 - 1, 2**32 - 1]
    assert [view.asdict(clean=True)[name] for name in names] == [None] * 4
    assert view.asdict(clean=True)["state"] == 0


@pytest.mark.parametrize(
    "view",
    [
        mp.MPTCPInfo(pattern(96)),
        mp.TCPInfo(pattern(280)),
        mp.SubflowAddrs(sockaddr("127.0.0.1", 80) + sockaddr("::1", 81)),
        mp.MPTCPFullInfo(full_info(3)),
    ],
    ids=lambda view: type(view).__name__,
)
def test_a_view_behaves_as_its_bytes(view: mp.MPTCPInfo) -> None:
    """Compares, hashes, pickles; cannot be changed; shows fields and never bytes."""
    raw = view.raw
    assert type(raw) is bytes
    again = pickle.loads(pickle.dumps(view))
    assert type(again) is type(view)
    assert again == view == type(view)(memoryview(raw)) == type(view)(bytearray(raw))
    assert hash(again) == hash(view)
    assert str(view) == f"{view}"
    assert repr(view).startswith(type(view).__name__ + "(")
    for shown in (str(view), repr(view)):
        assert "\\x" not in shown
        assert "b'" not in shown
    with pytest.raises(AttributeError):
        view.token = 1  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        view.whatever = 1  # type: ignore[attr-defined]


def test_repr_leaves_out_what_is_absent() -> None:
    """Absent is not 0."""
    assert "bytes_sent" not in repr(mp.MPTCPInfo(bytes(48)))
    assert "bytes_sent=0" in repr(mp.MPTCPInfo(bytes(80)))


@pytest.mark.parametrize(
    ("view", "smallest"), [(mp.MPTCPInfo, 40), (mp.SubflowAddrs, 256), (mp.MPTCPFullInfo, 80)]
)
def test_too_few_bytes_are_a_value_error(view: type[mp.MPTCPInfo], smallest: int) -> None:
    """It says how many there must be."""
    with pytest.raises(ValueError, match=f"{smallest - 1} bytes: the smallest is {smallest}"):
        view(bytes(smallest - 1))


@pytest.mark.parametrize("wrong", ["text", 96, None, [1, 2]])
def test_a_view_is_made_of_bytes(wrong: object) -> None:
    """Not of a length, as bytes(96) would be."""
    with pytest.raises(TypeError, match="is made of bytes"):
        mp.MPTCPInfo(wrong)  # type: ignore[arg-type]


def test_addresses_are_tuples_as_getsockname_gives_them() -> None:
    """Two parts of IPv4, four of IPv6, v4-mapped as the C library writes it."""
    four, six, mapped = (
        sockaddr("192.0.2.7", 443),
        sockaddr("2001:db8::7", 65535),
        sockaddr("::ffff:10.1.2.3", 1),
    )
    assert mp.SubflowAddrs(four + six).asdict() == {
        "local": ("192.0.2.7", 443),
        "remote": ("2001:db8::7", 65535, 0, 0),
    }
    assert mp.SubflowAddrs(mapped + four).local == ("::ffff:10.1.2.3", 1, 0, 0)


def test_scope_and_flowinfo_are_decoded() -> None:
    """Should a kernel ever fill them: flowinfo in network order, scope_id in the host's."""
    raw = bytearray(sockaddr("fe80::1", 9))
    raw[4:8] = (0x12345).to_bytes(4, "big")
    raw[24:28] = (3).to_bytes(4, sys.byteorder)
    assert mp.SubflowAddrs(bytes(raw) + bytes(128)).local == ("fe80::1", 9, 0x12345, 3)


def test_an_unknown_family_has_no_address() -> None:
    """None, rather than a guess."""
    assert mp.SubflowAddrs(bytes(256)).local is None
    assert mp.SubflowAddrs(bytes(256)).remote is None


@pytest.mark.parametrize(
    "layout",
    [
        {"element": 264},
        {"element": 260},  # of a 32-bit kernel
        {"element": 320, "element_of_kernel": 320},  # of a kernel to come
        {"element": 264, "info": 80, "tcp_info": 240},  # Linux 6.5
        {"element": 264, "info": 200, "tcp_info": 512},
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_full_info_of_every_kernel(layout: dict[str, int], count: int) -> None:
    """Elements are stepped by the sizes that the kernel returned."""
    raw = full_info(count, **layout)
    view = mp.MPTCPFullInfo(raw)
    assert view.num_subflows == count
    assert view.info == pattern(layout.get("info", 96))
    assert [path.id for path in view.subflows] == [2 * n - 1 for n in range(1, count + 1)]
    assert [path.local for path in view.subflows] == [(f"10.0.0.{n}", 1000 + n) for n in range(1, count + 1)]
    assert all(path.remote == ("192.0.2.1", 443) for path in view.subflows)
    assert [len(path.tcp_info) for path in view.subflows] == [layout.get("tcp_info", 280)] * count
    # The first one is in state CLOSE: removed, but still listed.
    assert [path.live for path in view.subflows] == [n > 1 for n in range(1, count + 1)]
    assert view.live_count == max(0, count - 1)
    assert view.asdict()["live_count"] == max(0, count - 1)
    assert len(view.asdict()["subflows"]) == count


def test_full_info_with_fewer_slots_than_subflows() -> None:
    """The kernel's count stays; those that fitted are there."""
    view = mp.MPTCPFullInfo(full_info(5, room=2))
    assert (view.num_subflows, len(view.subflows)) == (5, 2)


@pytest.mark.parametrize("cut", [1, 8, 16, 48, 56, 57, 264, 300, 600])
def test_full_info_that_does_not_fit_its_header(cut: int) -> None:
    """Cut bytes are a ValueError, not an address of somewhere else."""
    raw = full_info(2)
    view = mp.MPTCPFullInfo(raw)
    assert view.info.raw == pattern(96)
    with pytest.raises(ValueError, match="its header does not fit"):
        mp.MPTCPFullInfo(raw[:-cut])
    with pytest.raises(ValueError, match="its header does not fit"):
        mp.MPTCPFullInfo(raw + bytes(cut))


@pytest.mark.parametrize("more", [128, 256, 264, 280, 544, 1088])
@pytest.mark.parametrize("count", [1, 2])
def test_full_info_with_more_behind_it(count: int, more: int) -> None:
    """The arrays would start elsewhere, as at the remote end of a path."""
    for element in (260, 264, 320):
        raw = full_info(count, element=element)
        for behind in (bytes(more), b"\2\0" * (more // 2), raw[-more:]):
            if len(behind) == more:
                with pytest.raises(ValueError, match="MPTCPFullInfo of"):
                    mp.MPTCPFullInfo(raw + behind)


@pytest.mark.parametrize(
    ("at", "value"), [(8, 0), (8, 10), (8, 1), (136, 0), (136, 10), (264, 0), (264, 32), (264, 255)]
)
def test_full_info_of_what_no_subflow_is(at: int, value: int) -> None:
    """Two ends of one family, IPv4 or IPv6, and a state of TCP, as the reader demands."""
    raw = bytearray(full_info(1))
    assert mp.MPTCPFullInfo(bytes(raw)).num_subflows == 1
    size = 1 if at == 264 else 2  # the state is a byte, a family two
    raw[40 + 96 + at : 40 + 96 + at + size] = value.to_bytes(size, sys.byteorder)
    with pytest.raises(ValueError, match="MPTCPFullInfo of"):
        mp.MPTCPFullInfo(bytes(raw))


@pytest.mark.parametrize("element", [200, 256, 259])
def test_full_info_of_impossible_elements(element: int) -> None:
    """Elements that cannot hold two addresses are refused as well."""
    with pytest.raises(ValueError, match="its header does not fit"):
        mp.MPTCPFullInfo(full_info(2, element=element))


def test_records_are_immutable_values() -> None:
    """Subflow and Snapshot compare, hash and pickle by their parts."""
    path = mp.MPTCPFullInfo(full_info(2)).subflows[1]
    shot = mp.Snapshot(1, mp.Status.MPTCP, mp.MPTCPInfo(pattern(96)), (path,))
    for record in (path, shot):
        assert pickle.loads(pickle.dumps(record)) == record
        assert hash(pickle.loads(pickle.dumps(record))) == hash(record)
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(record, next(iter(record.__slots__)), None)
        with pytest.raises(AttributeError, match="cannot be changed"):
            delattr(record, next(iter(record.__slots__)))
    assert path != mp.Subflow(9, path.addrs, path.tcp_info)
    assert path != shot
    assert shot.asdict()["status"] == "mptcp"
    assert shot.asdict(clean=True)["subflows"][0]["id"] == path.id


def test_enums_name_the_header_s_numbers() -> None:
    """And no number is left without a name."""
    assert {f"MPTCP_INFO_FLAG_{name}" for name in mp.InfoFlag.__members__} == {
        f"MPTCP_INFO_FLAG_{name}" for name in abi.numbers("MPTCP_INFO_FLAG_")
    }
    tried = {name.removeprefix("TCP_") for known in options._options().values() for _, name, _ in known}
    others = {"IS_MPTCP", "INFO", "INFO_ROOM"} | tried
    assert mp.TCPState.__members__.keys() == abi.numbers("TCP_").keys() - others
    assert (mp.TCPState.ESTABLISHED, mp.TCPState.CLOSE, mp.TCPState.LISTEN) == (1, 7, 10)
    assert (mp.InfoFlag.FALLBACK, mp.InfoFlag.REMOTE_KEY_RECEIVED) == (1, 2)
    assert vectors.MPTCP_INFO[7][0] == "token"


@pytest.mark.parametrize("start", [0, 40, 72])
def test_a_column_is_the_field_of_every_record(start: int) -> None:
    """At any stride that is a multiple of 8, behind any prefix that is one, without copying."""
    length = vectors.MPTCP_INFO_LENGTH
    stride = start + length
    rows = bytearray(vectors.pattern(stride * 5))
    for name, offset, size, *_ in vectors.MPTCP_INFO:
        column = _fields.column(mp.MPTCPInfo, name, memoryview(rows), stride, start, length)
        there = [vectors.number(bytes(rows), n * stride + start + offset, size) for n in range(5)]
        assert column.tolist() == there, name
        assert column.obj is rows
        assert column.readonly


def test_a_column_that_is_none_is_refused() -> None:
    """Unknown names, bit-fields, and what the kernel does not report: never zeros."""
    rows = memoryview(bytes(280))
    for view, name, length, reason in (
        (mp.MPTCPInfo, "nonsense", 96, "no field 'nonsense'"),
        (mp.MPTCPInfo, "bytes_sent", 48, "which Linux 6.5 added"),
        (mp.MPTCPInfo, "retransmits", 48, "which Linux 6.5 added"),
        (mp.TCPInfo, "snd_wscale", 280, "bit-field"),
    ):
        with pytest.raises(ValueError, match=reason):
            _fields.column(view, name, rows, 280, 0, length)
