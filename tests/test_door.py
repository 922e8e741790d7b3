# SPDX-License-Identifier: MIT
"""The public door: what is loaded when, and that nobody notices."""

from __future__ import annotations

import ast
import pickle
import pydoc
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from .support import run

LATER = {"_annotations", "_diag", "_events", "_sampler", "_sockets", "_tracker"}
# What those alone need.
BELOW = {"_border.netlink", "_border.pm_events", "_border.rows", "_border.sock_diag", "_growth", "_shown"}


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = run(sys.executable, "-c", f"import pickle, sys\nimport mptcp_sockopt as mp\n{code}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code: str = "") -> set[str]:
    names = python(f"{code}\nprint(*[n for n in sys.modules if n.startswith('mptcp_sockopt.')])").split()
    return {name.partition(".")[2] for name in names}


def test_rooms_that_few_need_are_loaded_at_first_use() -> None:
    """None by the import, nor by dir(); each by its own names alone."""
    assert not loaded("dir(mp)") & (LATER | BELOW)
    assert loaded("mp.Tracker") & LATER == {"_tracker"}
    assert loaded("from mptcp_sockopt import Sampler") & LATER == {"_sampler"}
    assert loaded("mp.mptcp_diag") & LATER == {"_diag"}
    assert loaded("mp.mptcp_events") & LATER == {"_events"}
    assert loaded("mp.create_server") & LATER == {"_sockets"}
    assert loaded("mp.SocketLike") & LATER == {"_annotations"}
    assert loaded("from mptcp_sockopt import *") >= LATER | BELOW


def test_every_public_name_is_there() -> None:
    """By dir(), by getattr(), by *, and in help(); no other is."""
    names = set(mp.__all__)
    assert names <= set(python("print(*dir(mp))").split())
    assert names == set(python("print(*[name for name in mp.__all__ if hasattr(mp, name)])").split())
    assert names <= set(python("from mptcp_sockopt import *\nprint(*globals())").split())
    page = pydoc.plain(pydoc.render_doc(mp))
    assert {name for name in names if name not in page} == {"__version__"}  # shown as its value
    for name in ("Trackers", "_LATEST", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"module 'mptcp_sockopt' has no attribute '{name}'"):
            getattr(mp, name)


@pytest.mark.parametrize(
    ("name", "room"), [(name, room) for room in mp._LATER if room != "_types" for name in mp._LATER[room]]
)
def test_what_is_loaded_later_has_its_public_name(name: str, room: str) -> None:
    """Also where its room was imported first; so a pickle names no room."""
    pickled = bytes.fromhex(
        python(f"from mptcp_sockopt.{room} import {name}\nprint(pickle.dumps({name}).hex())")
    )
    assert b"mptcp_sockopt" in pickled
    assert f"mptcp_sockopt.{room}".encode() not in pickled
    assert pickle.loads(pickled) is getattr(mp, name)


def test_checkers_see_what_is_loaded_later() -> None:
    """The imports that they read are the table that is looked up."""
    tree = ast.parse(Path(mp.__file__).read_text())
    (block,) = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen: dict[str, tuple[str, ...]] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        room = node.module or ""
        seen[room] = (*seen.get(room, ()), *(alias.name for alias in node.names))
    assert seen == mp._LATER
    assert {name for names in seen.values() for name in names} < set(mp.__all__)
