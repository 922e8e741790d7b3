# SPDX-License-Identifier: MIT
"""Annotations: what typing, inspect and the tools built on them make of the public names."""

from __future__ import annotations

import inspect
import socket
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _annotations, _types, processes
from mptcp_sockopt._growth import COUNTERS
from mptcp_sockopt._records import Record

from .vectors import full_info, pattern


def functions_of(thing: Any) -> Iterator[Callable[..., Any]]:
    """A function itself; of a class all functions that are written in it and in the classes above."""
    if isinstance(thing, types.FunctionType):
        yield thing
    if not isinstance(thing, type):
        return
    for base in thing.__mro__:
        if base.__module__.partition(".")[0] != "mptcp_sockopt":
            continue
        for part in vars(base).values():
            inner = getattr(part, "fget", None) or getattr(part, "__func__", part)
            if isinstance(inner, types.FunctionType) and inner.__module__.startswith("mptcp_sockopt"):
                yield inner


PUBLIC = [(module, name) for module in (mp, processes) for name in module.__all__]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_annotations_of_public_names_can_be_evaluated(module: types.ModuleType, name: str) -> None:
    """typing.get_type_hints() and inspect.signature(eval_str=True): of a class, of each of its functions."""
    thing = getattr(module, name)
    if isinstance(thing, type):
        typing.get_type_hints(thing)
    for function in functions_of(thing):
        if function.__name__ == "<lambda>":
            continue
        hints = typing.get_type_hints(function)
        assert hints.keys() == function.__annotations__.keys()
        inspect.signature(function, eval_str=True)


@pytest.mark.parametrize("name", sorted(name for names in mp._LATER.values() for name in names))
def test_annotations_can_be_evaluated_whatever_was_loaded_before(name: str) -> None:
    """Those of what is loaded later too, whose parts nobody has used yet."""
    code = f"import typing; from mptcp_sockopt import {name} as thing; typing.get_type_hints(thing)"
    if name not in ("Address", "SocketLike"):  # no class, and no function
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_an_annotation_says() -> None:
    """The same as what type checkers read."""
    hints = typing.get_type_hints(mp.mptcp_info)
    assert hints == {"sock": mp.SocketLike, "return": mp.MPTCPInfo}
    (row,) = typing.get_args(typing.get_type_hints(mp.Sampler.sample)["return"])
    assert row == mp.MPTCPInfo | mp.MPTCPFullInfo
    assert typing.get_args(mp.Sample[mp.MPTCPInfo]) == (mp.MPTCPInfo,)
    local = vars(mp.MPTCPDiagMsg)["local"].fget
    assert typing.get_type_hints(local) == {"return": mp.Address}


def test_socket_like_and_address() -> None:
    """Whoever takes a socket can say so, and ask whether it got one."""

    def take(sock: mp.SocketLike) -> mp.Address | None:
        return None

    assert typing.get_type_hints(take) == {"sock": mp.SocketLike, "return": mp.Address | None}
    with socket.socket() as sock:
        assert isinstance(sock, mp.SocketLike)
    assert not isinstance("3", mp.SocketLike)
    assert {"SocketLike", "Address"} <= set(dir(mp))
    for module in (mp, _types):
        with pytest.raises(AttributeError, match="nonsense"):
            module.nonsense  # noqa: B018


def test_the_door_to_annotations_has_them_all() -> None:
    """_types gives what _annotations has, and importing the package imports neither typing nor that."""
    for name in ("Any", "Literal", "SocketLike", "Counter", "Kind"):
        assert getattr(_types, name) is getattr(_annotations, name)
    code = "import sys; old = set(sys.modules); import mptcp_sockopt; print(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    new = done.stdout.split()
    assert "mptcp_sockopt._types" in new
    assert {"typing", "mptcp_sockopt._annotations"} & set(new) == set()


def test_a_counter_is_one_of_those_that_are_counted() -> None:
    """What checkers let rate() take is what it takes."""
    assert typing.get_args(_annotations.Counter) == COUNTERS


RECORDS = [
    thing for name in mp.__all__ if isinstance(thing := getattr(mp, name), type) and issubclass(thing, Record)
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_says_what_it_is_made_of(record: type[Record]) -> None:
    """Its signature has its parts in their order, each with the type that the class says."""
    signature = inspect.signature(record, eval_str=True)
    assert tuple(signature.parameters) == record._names == record.__match_args__  # type: ignore[attr-defined]
    hints = typing.get_type_hints(record)
    for name, parameter in signature.parameters.items():
        assert parameter.annotation == hints[name], name


def test_records_are_made_by_name_and_matched_by_position() -> None:
    path = mp.MPTCPFullInfo(full_info(2)).subflows[1]
    assert mp.Subflow(tcp_info=path.tcp_info, id=path.id, addrs=path.addrs) == path
    shot = mp.Snapshot(time=1, status=mp.Status.MPTCP, info=mp.MPTCPInfo(pattern(96)), subflows=(path,))
    match shot:
        case mp.Snapshot(_, mp.Status.MPTCP, _, (mp.Subflow(number, _, _),)):
            assert number == path.id
        case _:
            raise AssertionError("no match")
    assert {record.__name__ for record in RECORDS} == {
        "MPTCPConnection", "MPTCPEvent", "Snapshot", "Subflow", "SubflowDelta", "Update"
    }  # fmt: skip
