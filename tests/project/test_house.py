# SPDX-License-Identifier: MIT
"""The house is what its map says: floors, doors, stubs, names."""

from __future__ import annotations

import ast
import enum
import re
from pathlib import Path

import pytest
from _mptcp_sockopt import lib

import mptcp_sockopt as mp
import reuseport
from mptcp_sockopt._fields import Record

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mptcp_sockopt"
REUSEPORT = ROOT / "reuseport"

# From the ground up. A module imports from floors below its own only.
FLOORS = [
    {"_version", "_descriptor", "_errors", "_ktap", "_netlink"},
    {"_abi", "_sandbox"},
    {"_fields", "_sock_diag", "_rows"},
    {"_tcp_info"},
    {"_views"},
    {"_sockopt", "_sockets", "_diag", "_growth"},
    {"_sampler", "_tracker"},
    {"__init__"},
    {"_cases"},
    {"_inq_cases", "_path_cases", "_socket_cases"},
    {"selftest"},
    {"cli"},
    {"__main__"},
]
# reuseport has a house of its own, on top of this one: of mptcp_sockopt it uses public names.
REUSEPORT_FLOORS = [
    {"_report", "_net", "_diag", "_children", "_programs"},
    {"_lab", "_load", "steer", "_borrow"},
    {"handover"},
    {"demo", "lesson", "matrix", "fair", "roll", "_audit"},
    {"inspect"},
    {"__init__"},
    {"__main__"},
]
DOORS = {  # these use public names
    "_cases", "_inq_cases", "_path_cases", "_socket_cases", "selftest", "cli/__init__",
}  # fmt: skip
FOLDERS = (
    "mptcp_sockopt/**/*.py",
    "csrc/*",
    "tests/*.py",
    "tests/kernels/*.py",
    "benchmarks/*.[cp]*",
    ".github/workflows/*",
    "build_ffi.py",
)
SOURCES = sorted(path for pattern in FOLDERS for path in ROOT.glob(pattern))


def floor_of(module: str) -> int:
    (floor,) = [number for number, modules in enumerate(FLOORS) if module in modules]
    return floor


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports, and "_mptcp_sockopt"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or node.module == "mptcp_sockopt"):
            names = {alias.name for alias in node.names}
            own = {name for name in names if (PACKAGE / f"{name}.py").exists()}
            if node.level == 1 and node.module:
                found.add(node.module)
            else:
                found |= own or {"__init__"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mptcp_sockopt."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "_mptcp_sockopt":
            found.add("_mptcp_sockopt")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "mptcp_sockopt":
                    found.add("__init__")
                elif alias.name == "_mptcp_sockopt":
                    found.add("_mptcp_sockopt")
    return found


def test_every_room_has_a_floor() -> None:
    """And the map in the package's docstring shows it, as that of reuseport does."""
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {"cli"}
    assert rooms == set().union(*FLOORS)
    others = {path.stem for path in REUSEPORT.glob("*.py")}
    for package, names in ((mp, rooms), (reuseport, others)):
        shown = re.findall(r"^    (?:csrc/)?([\w.]+)  ", package.__doc__ or "", re.MULTILINE)
        assert sorted(shown) == sorted(set(shown))
        assert names - {"__init__", "__main__"} <= set(shown)


def test_the_table_of_rooms_is_whole() -> None:
    """That of CONTRIBUTING.md: each source once, and nothing that is not there."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| room | what is in it |")[1].split("\n\n")[0]
    named: list[str] = []
    for line in table.splitlines()[2:]:
        for name in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            if "/" in name or name == "build_ffi.py":
                named.append(name)
            elif name.startswith("."):  # the same with another suffix
                named.append(named[-1].rpartition(".")[0] + name)
            else:  # in the same folder
                named.append(f"{named[-1].rpartition('/')[0]}/{name}")
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert sorted(named) == sorted(set(named))
    folders = "csrc mptcp_sockopt reuseport benchmarks .ci .github/workflows".split()
    sources = [path for folder in folders for path in (ROOT / folder).iterdir() if path.name != "__pycache__"]
    found = {f"{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in sources if path.stat().st_size}
    assert found - {"mptcp_sockopt/py.typed"} <= set(named)


ROOMS = {path.stem: path for path in PACKAGE.glob("*.py")} | {"cli": PACKAGE / "cli" / "__init__.py"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_only_go_down(room: str) -> None:
    """And _abi alone sees the compiled module."""
    path = ROOMS[room]
    for module in imports_of(path):
        if module == "_mptcp_sockopt":
            assert room == "_abi"
        else:
            assert floor_of(module) < floor_of(room), f"{room} imports {module}"


def test_cffi_is_seen_at_the_border_only() -> None:
    """_abi, and the other two rooms of the border."""
    users = {
        path.stem
        for path in PACKAGE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & {"ffi", "lib"})
        or (isinstance(node, ast.Attribute) and node.attr in ("ffi", "lib"))
    }
    assert users == {"_abi", "_sock_diag", "_rows"}


@pytest.mark.parametrize("path", sorted(REUSEPORT.glob("*.py")), ids=lambda path: path.stem)
def test_imports_of_reuseport_only_go_down(path: Path) -> None:
    """And of mptcp_sockopt only public names are used."""
    floors = {room: number for number, rooms in enumerate(REUSEPORT_FLOORS) for room in rooms}
    assert floors.keys() == {path.stem for path in REUSEPORT.glob("*.py")}
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                assert floors[name] < floors[path.stem], f"{path.stem} imports {name}"
        elif isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith(("mptcp_sockopt.", "_mptcp")), path.stem
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id not in ("mp", "mptcp_sockopt") or node.attr in mp.__all__, node.attr


def test_the_map_of_reuseport_shows_every_room() -> None:
    """In the package's docstring and in CONTRIBUTING.md."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    door = (REUSEPORT / "__init__.py").read_text()
    for rooms in REUSEPORT_FLOORS:
        for room in rooms - {"__init__", "__main__"}:
            assert f"    {room} " in door, room
            assert f"`reuseport/{room}.py`" in contributing, room


def test_a_climbing_import_is_seen(tmp_path: Path) -> None:
    """The test above can fail, in all four spellings."""
    for line in (
        "from ._views import MPTCPInfo",
        "from . import _views",
        "from mptcp_sockopt import _views",
        "from mptcp_sockopt._views import MPTCPInfo",
    ):
        path = tmp_path / "_abi.py"
        path.write_text(line)
        assert imports_of(path) == {"_views"}
    path.write_text("import mptcp_sockopt as mp")
    assert imports_of(path) == {"__init__"}


@pytest.mark.parametrize("door", sorted(DOORS))
def test_doors_use_public_names(door: str) -> None:
    """Every mp.name is in __all__."""
    tree = ast.parse((PACKAGE / f"{door}.py").read_text())
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mp"
    }
    assert names <= set(mp.__all__)
    assert names


def test_the_stub_is_the_module() -> None:
    """csrc/_mptcp_sockopt.pyi lists what the compiled module has, and nothing else."""
    tree = ast.parse((ROOT / "csrc" / "_mptcp_sockopt.pyi").read_text())
    (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_Lib"]
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    numbers = {
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert functions | numbers == set(dir(lib))
    assert {name for name in dir(lib) if callable(getattr(lib, name))} == functions


def test_the_header_has_no_second_truth() -> None:
    """No system header of MPTCP or TCP is included, and no struct is declared twice."""
    text = "".join(path.read_text() for path in ROOT.glob("csrc/*.[ch]"))
    assert not re.search(r"#include <(linux|netinet)/", text)
    structs = re.findall(r"^(?:struct|union) (\w+) \{", text, re.MULTILINE)
    assert len(structs) == len(set(structs)) >= 6


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_source_names_its_license_and_can_be_held_in_the_head(path: Path) -> None:
    """The SPDX line, and at most about 400 lines."""
    lines = path.read_text().splitlines()
    if lines:
        assert "SPDX-License-Identifier: MIT" in lines[0]
    assert len(lines) <= 420


def test_public_names_are_documented() -> None:
    """In the README, and each with a docstring that help() shows under the public name."""
    readme = (ROOT / "README.md").read_text()
    for name in mp.__all__:
        assert re.search(rf"`{name}[`(]|\b{name}\b", readme), name
        thing = getattr(mp, name)
        if callable(thing):
            assert thing.__doc__
            assert thing.__module__ == "mptcp_sockopt"
    assert sorted(mp.__all__) == sorted(set(mp.__all__))


def test_option_functions_begin_with_the_call() -> None:
    """The first line of the docstring is the literal call."""
    for function, option in (
        (mp.mptcp_info, "SOL_MPTCP, MPTCP_INFO"),
        (mp.mptcp_tcpinfo, "SOL_MPTCP, MPTCP_TCPINFO"),
        (mp.mptcp_subflow_addrs, "SOL_MPTCP, MPTCP_SUBFLOW_ADDRS"),
        (mp.mptcp_full_info, "SOL_MPTCP, MPTCP_FULL_INFO"),
        (mp.is_mptcp, "SOL_TCP, TCP_IS_MPTCP"),
    ):
        assert (function.__doc__ or "").startswith(f"``getsockopt(fd, {option})``")


CLASSES = [thing for name in mp.__all__ if isinstance(thing := getattr(mp, name), type)]


@pytest.mark.parametrize("public", CLASSES, ids=lambda public: public.__name__)
def test_classes_state_their_thread_rule(public: type) -> None:
    """At the end of the docstring; values, which are most of them, have the freest."""
    rule = re.search(r"Thread rule: [^.]+\.\Z", (public.__doc__ or "").rstrip())
    assert rule
    if issubclass(public, (bytes, Record, enum.Enum)):
        assert rule[0] == "Thread rule: immutable, use it anywhere."


def test_no_class_is_forgotten() -> None:
    """Views, records, enums and exceptions are all looked at."""
    assert {mp.MPTCPInfo, mp.Snapshot, mp.Status, mp.InfoFlag, mp.MPTCPError} < set(CLASSES)
