# SPDX-License-Identifier: MIT
"""What people see of results: dir(), help(), repr(), str(), docstrings, and what an AttributeError says."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import pickle
import pydoc
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import (
    _connections,
    _diag_rows,
    _diag_subflow,
    _fields,
    _mptcp_info,
    _sockopt,
    _tcp_info,
    _tracker,
    _updates,
    _views,
)
from mptcp_sockopt._border import Place

from .vectors import full_info, pattern, sockaddr

INFO, TCP_INFO = mp.MPTCPInfo(pattern(96)), mp.TCPInfo(pattern(280))
ROW = mp.MPTCPDiagMsg(bytes([2, 1]) + bytes(70) + INFO.raw)
FULL = mp.MPTCPFullInfo(full_info(2))
PATH = FULL.subflows[1]
ADDRS = PATH.addrs
VIEWS: list[Any] = [INFO, TCP_INFO, ADDRS, FULL, ROW]


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, sys.byteorder)


def shot(time: int = 1, tcp: bool = False) -> mp.Snapshot:
    """Of MPTCP with one subflow, or of TCP."""
    raw = bytearray(96)
    raw[8:12], raw[12:16] = number(2, 4), number(4_000_000_000, 4)
    for at in (56, 64, 72):  # bytes_sent, bytes_received, bytes_acked
        raw[at : at + 8] = number(10**12, 8)
    path = mp.Subflow(None if tcp else 1, ADDRS, tcp_info(sent=1000, acked=1000))
    status = mp.Status.TCP if tcp else mp.Status.MPTCP
    return mp.Snapshot(time, status, None if tcp else mp.MPTCPInfo(raw), (path,))


def tcp_info(
    state: int = 1, *, sent: int = 0, retrans: int = 0, acked: int = 0, received: int = 0
) -> mp.TCPInfo:
    raw = bytearray(280)
    raw[0] = state
    for at, value in ((120, acked), (128, received), (200, sent), (208, retrans)):
        raw[at : at + 8] = number(value, 8)
    return mp.TCPInfo(raw)


# ---------------------------------------------------------------------------------------- equality, names


def test_views_of_different_structs_are_unequal() -> None:
    """Whatever their bytes; and == and != never agree."""
    raw = pattern(256)
    same = [mp.MPTCPInfo(raw), mp.TCPInfo(raw), mp.SubflowAddrs(sockaddr("::1", 1) * 2)]
    same.append(mp.TCPInfo(same[2].raw))
    for one in same:
        for other in same:
            assert (one == other) is (one is other) is not (one != other)
    assert len({mp.MPTCPInfo(raw), mp.TCPInfo(raw)}) == 2


def test_a_subclass_is_of_the_same_struct() -> None:
    """Its views equal those of its base, and of other classes made of that, in both directions."""

    class Mine(mp.MPTCPInfo):
        pass

    class Yours(mp.MPTCPInfo):
        pass

    class Beside:
        __slots__ = ()

    class Mixed(Beside, Mine):
        pass

    for view in (Mine, Yours, Mixed):
        assert view(INFO.raw) == INFO == view(INFO.raw) == Mine(INFO.raw) == Yours(INFO.raw)
        assert (view(INFO.raw) != INFO) is False
        assert hash(view(INFO.raw)) == hash(INFO)
        assert view(INFO.raw) != mp.TCPInfo(INFO.raw)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_bytes_equal_every_view_of_them(view: Any) -> None:
    """In both directions, with one hash; nothing else does."""
    assert view == view.raw == view
    assert [view != view.raw, view.raw != view] == [False, False]
    assert hash(view) == hash(view.raw)
    for other in (None, 1, "", view.raw + b"\0", object()):
        assert view != other
        assert not view == other  # noqa: SIM201  # __eq__ and not __ne__
    assert pickle.loads(pickle.dumps(view)) == view


METHODS = sorted(name for name in dir(bytes) if not name.startswith("_"))


@pytest.mark.parametrize("name", METHODS)
def test_a_field_named_as_a_method_of_bytes_gets_an_underscore(name: str) -> None:
    """The kernel will name one so some day: ``count_`` is its field, in asdict() and columns too."""
    places = {name: Place(0, 4), "other": Place(4, 4)}
    body = {"_places": places, f"{name}_": _fields.always("A number.", "things", "9.9", "gauge")}
    view: Any = type("Made", (_fields.View,), body)
    one = view(number(7, 4) + number(8, 4))
    assert getattr(one, f"{name}_") == 7 == one.asdict()[f"{name}_"]
    assert callable(getattr(one, name))
    assert _fields.column(view, f"{name}_", memoryview(one.raw), 8, 0, 8).tolist() == [7]
    body = {"_places": places, name: _fields.always("A number.", "things", "9.9", "gauge")}
    with pytest.raises(TypeError, match=rf"Made\.{name}: .* name the field {name}_"):
        type("Made", (_fields.View,), body)


# --------------------------------------------------------------------------------------------- dir, help


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_dir_shows_fields_and_not_bytes(view: Any) -> None:
    """Of the view and of its class: what completion and pydoc go by."""
    own = {*view.fields, "raw", "asdict", "fields"}
    for shown in (dir(view), dir(type(view))):
        assert own <= set(shown)
        assert set(METHODS).isdisjoint(shown)
        assert {"__class__", "__eq__", "__reduce__"} <= set(shown)


def test_dir_shows_what_a_subclass_adds() -> None:
    class Mine(mp.MPTCPInfo):
        more = 1

    one = Mine(INFO.raw)
    one.note = "here"  # type: ignore[attr-defined]
    assert {"more", "token"} <= set(dir(Mine))
    assert {"more", "token", "note"} <= set(dir(one))


def test_help_shows_fields_and_not_bytes() -> None:
    """Each with its sentence."""
    text = pydoc.plain(pydoc.render_doc(mp.TCPInfo))
    for name, field in mp.TCPInfo.fields.items():
        assert re.search(rf"^ \|  {name}\n \|      {re.escape(field.__doc__ or '')}$", text, re.MULTILINE), (
            name
        )
    assert [name for name in METHODS if re.search(rf"^ \|  {name}\(", text, re.MULTILINE)] == []


DOCUMENTED: list[tuple[Any, Any]] = [
    (_mptcp_info, mp.MPTCPInfo),
    (_tcp_info, mp.TCPInfo),
    (_diag_rows, mp.MPTCPDiagMsg),
    (_diag_rows, mp.MPTCPDiag),
    (_diag_subflow, mp.DiagSubflow),
    (_connections, mp.MPTCPConnection),
    (_connections, mp.MPTCPConnections),
    (_views, mp.Subflow),
    (_sockopt, mp.Snapshot),
    (_updates, mp.SubflowDelta),
    (_updates, mp.Update),
]


@pytest.mark.parametrize(("room", "thing"), DOCUMENTED, ids=lambda part: part.__name__.split(".")[-1])
def test_the_docstring_below_an_attribute_is_its_own(room: Any, thing: Any) -> None:
    """Editors show the one at hover, with unit and release; help() shows the other. They are equal."""
    tree = ast.parse(Path(room.__file__).read_text())
    (body,) = [
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == thing.__name__
    ]
    below: dict[str, str] = {}
    for node, after in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                below[node.target.id] = " ".join(text.value.split())
    own = {name: field.__doc__ for name, field in getattr(thing, "fields", {}).items()}
    own |= {name: doc for name, doc in dict(thing.__slots__ or {}).items() if doc}
    assert below == own
    assert len(own) > 1


def test_the_help_of_the_package_begins_with_what_to_call() -> None:
    """The first lines have a call for each thing that people come for."""
    first = (mp.__doc__ or "").strip().splitlines()[:10]
    calls = re.findall(r"(\w+)\(", "\n".join(first))
    assert {"status", "snapshot", "Tracker", "Sampler", "mptcp_diag", "create_connection"} <= set(calls)
    assert set(calls) <= {*mp.__all__, "update", "sample"}
    assert calls.index("status") == 0


# ------------------------------------------------------------------------------------------------- enums


def test_state_and_flags_are_named() -> None:
    """In the views that have them; plain ints in asdict() and JSON."""
    for state in mp.TCPState:
        for found in (tcp_info(state).state, mp.MPTCPDiagMsg(bytes([2, state]) + bytes(70) + INFO.raw).state):
            assert found is state
    for bits in range(4):
        info = mp.MPTCPInfo(bytes(8) + number(bits, 4) + bytes(84))
        assert isinstance(info.flags, mp.InfoFlag)
        assert info.flags == bits
        assert type(info.asdict()["flags"]) is int
    assert type(tcp_info(7).asdict()["state"]) is int
    assert type(ROW.asdict(clean=True)["state"]) is int
    assert json.loads(json.dumps([tcp_info(7).state, INFO.asdict(clean=True)]))[0] == 7


def test_a_number_without_a_name_stays_one() -> None:
    """A newer kernel's state, or flag."""
    for state in set(range(256)) - set(mp.TCPState):
        assert type(tcp_info(state).state) is int
        assert tcp_info(state).state == state
    for bits in (4, 6, 0x8001, 2**32 - 1):
        flags = mp.MPTCPInfo(bytes(8) + number(bits, 4) + bytes(84)).flags
        assert (type(flags), flags) == (int, bits)


def test_the_text_of_an_enum_is_its_name() -> None:
    """Of str(), f"{}" and %s, on every Python; a format for numbers gives the number."""
    state = mp.TCPState.FIN_WAIT1
    assert [str(state), f"{state}", "%s" % state, f"{state:>10}"] == ["FIN_WAIT1"] * 3 + [" FIN_WAIT1"]  # noqa: UP031
    assert (f"{state:d}", f"{state:#x}", int(state), repr(state)) == (
        "4",
        "0x4",
        4,
        "<TCPState.FIN_WAIT1: 4>",
    )
    texts = [str(mp.InfoFlag(bits)) for bits in (0, 1, 2, 3, 0x8001)]
    assert texts == [
        "0",
        "FALLBACK",
        "REMOTE_KEY_RECEIVED",
        "FALLBACK|REMOTE_KEY_RECEIVED",
        "FALLBACK|0x8000",
    ]
    assert pickle.loads(pickle.dumps(state)) is state


# --------------------------------------------------------------------------------------------- repr, str

BEFORE, NOW = shot(), shot(10**9)
UPDATE = _tracker._difference(BEFORE, NOW)
RESULTS: list[Any] = [*VIEWS, PATH, NOW, UPDATE, UPDATE.subflows[0]]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_repr_takes_two_screen_lines_and_str_is_a_table(result: Any) -> None:
    """Even of random numbers; each line of the table has a name, a value and its unit."""
    assert len(repr(result)) <= 2 * 80 + 20 * (result in (INFO, TCP_INFO, FULL))  # with numbers of 19 digits
    assert repr(result).startswith(f"{type(result).__name__}(")
    title, *lines = str(result).splitlines()
    assert title == type(result).__name__
    rows = lines[: lines.index("") if "" in lines else None]
    ends = {re.match(r"  \w+ +.*?(?=  |$)", line) for line in rows}
    assert None not in ends
    assert len({match.end() for match in ends if match}) == 1  # values end in one column
    assert "None" not in str(result)


def test_repr_has_identity_and_what_matters() -> None:
    text = repr(NOW)
    for part in ("status=Status.MPTCP", "token=4000000000", "live_count=1", f"bytes_sent={10**12}"):
        assert part in text
    assert "state=ESTABLISHED, rtt=0" in repr(tcp_info())
    assert "flags=REMOTE_KEY_RECEIVED" in repr(NOW.info)
    assert f"token={FULL.info.token}, " in repr(FULL)
    assert "id=3, local=('10.0.0.2', 1002)" in repr(PATH)
    assert "state=ESTABLISHED, fallback=" in repr(ROW)
    assert "token" not in repr(shot(tcp=True))


def test_a_table_leaves_out_what_is_absent_and_what_means_nothing() -> None:
    """Absent fields, sentinels, ages of what never happened; 0 is neither."""
    raw = bytearray(tcp_info())
    raw[76:80] = number(0x7FFFFFFF, 4)
    names = [line.split()[0] for line in str(mp.TCPInfo(raw)).splitlines()[1:]]
    clean = mp.TCPInfo(raw).asdict(clean=True)
    assert names == [name for name, value in clean.items() if value is not None]
    assert not {"snd_ssthresh", "last_data_sent"} & set(names)
    assert "bytes_sent" not in str(mp.MPTCPInfo(bytes(48)))
    assert re.search(r"^  rtt +0  us$", str(tcp_info()), re.MULTILINE)
    assert re.search(r"^  state +ESTABLISHED$", str(tcp_info()), re.MULTILINE)
    assert re.search(r"^  unacked_bytes +0  bytes$", str(NOW.info), re.MULTILINE)


def test_tables_of_subflows_have_a_line_for_each() -> None:
    """Below the connection's own: addresses as people write them, and units."""
    *_, head, units, one, two = str(FULL).splitlines()
    assert head.split()[:5] == ["id", "local", "remote", "state", "rtt"]
    assert units.split() == ["us", "bytes", "bytes", "segments"]
    assert one.split()[:4] == ["1", "10.0.0.1:1001", "192.0.2.1:443", "CLOSE"]
    assert two.split()[0] == "3"
    assert str(NOW).splitlines()[-1].split()[0] == "1"
    assert str(UPDATE).splitlines()[-1].split()[0] == "1"
    assert str(shot(tcp=True)).splitlines()[-1].split()[0] == "-"
    assert re.search(r"^  bytes_acked_rate +0  bytes/s$", str(UPDATE), re.MULTILINE)


# ----------------------------------------------------------------------------------------- where to look


@pytest.mark.parametrize(
    ("result", "name", "where"),
    [
        (PATH, "rtt", "tcp_info.rtt"),
        (NOW, "token", "info.token"),
        (NOW, "unacked_bytes", "info.unacked_bytes"),
        (NOW, "rtt", "subflows[n].tcp_info.rtt"),
        (FULL, "token", "info.token"),
        (FULL, "rtt", "subflows[n].tcp_info.rtt"),
        (UPDATE, "rtt", "subflows[n].subflow.tcp_info.rtt"),
        (ROW, "token", "info.token"),
        (UPDATE, "token", "snapshot.info.token"),
        (UPDATE.subflows[0], "rtt", "subflow.tcp_info.rtt"),
    ],
)
def test_an_attribute_of_a_part_is_pointed_to(result: Any, name: str, where: str) -> None:
    """There is no such attribute, and none is shown; the message names the one that is meant."""
    kind = type(result).__name__
    with pytest.raises(
        AttributeError, match=f"^{re.escape(f'{kind!r} object has no attribute {name!r}: see .{where}')}$"
    ):
        getattr(result, name)
    assert not hasattr(result, name)
    assert not hasattr(type(result), name)
    assert name not in dir(result)
    assert name not in dir(type(result))
    assert name not in dict(inspect.getmembers(result))
    with pytest.raises(AttributeError, match="'nonsense'"):
        result.nonsense  # noqa: B018
