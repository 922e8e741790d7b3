# SPDX-License-Identifier: MIT
"""The house is what its map says: floors, doors, stubs, names."""

from __future__ import annotations

import ast
import enum
import re
import shutil
from pathlib import Path

import pytest
from _mptcp_sockopt import lib

import mptcp_sockopt as mp
from mptcp_sockopt import aio, host, processes, testing
from mptcp_sockopt._border import abi
from mptcp_sockopt._records import Record
from mptcp_sockopt.selftest.__main__ import Plan

from ..support import FUNCTIONS
from . import house

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "mptcp_sockopt/**/*.py",
    "reuseport/**/*.py",
    "csrc/*",
    "tests/**/*.py",
    "benchmarks/*.[cp]*",
    ".ci/*.py",
    ".github/workflows/*",
    "build_ffi.py",
)
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
SOURCES = sorted(path for pattern in FOLDERS for path in ROOT.glob(pattern))


def test_the_house_keeps_its_rules() -> None:
    """Imports go down, doors are respected, the border keeps its secrets."""
    assert house.problems(ROOT) == []
    assert len(house.modules(ROOT)) >= 40


# Module, what is added to it, and what of the sentence that must be said.
PLANTS = (
    ("reuseport/_net.py", "from mptcp_sockopt import _x", "mptcp_sockopt._x is not public"),
    ("mptcp_sockopt/selftest/_cases.py", "from .._border import one", "_border.one is not public"),
    ("reuseport/_net.py", "from mptcp_sockopt import _views", "mptcp_sockopt._views is not public"),
    ("mptcp_sockopt/selftest/_cases.py", "from .._border import read_info", "read_info is not public"),
    ("mptcp_sockopt/_fields.py", "from ._views import MPTCPInfo", "imports mptcp_sockopt._views"),
    ("mptcp_sockopt/_fields.py", "import mptcp_sockopt._tracker", "imports mptcp_sockopt._tracker"),
    ("mptcp_sockopt/_views.py", 'struct.Struct("=II")', "struct.Struct('=II') is the format of a struct"),
    (
        "mptcp_sockopt/_views.py",
        'from struct import Struct as S\nS("=II")',
        "S('=II') is the format of a struct",
    ),
    ("mptcp_sockopt/_views.py", "int.from_bytes(info[8:12])", "info[8:12] cuts at a number"),
    ("mptcp_sockopt/_fields.py", "from . import _views", "imports mptcp_sockopt._views"),
    ("mptcp_sockopt/_fields.py", "from mptcp_sockopt import _views as v", "imports mptcp_sockopt._views"),
    (
        "mptcp_sockopt/_fields.py",
        "from mptcp_sockopt._views import MPTCPInfo",
        "imports mptcp_sockopt._views",
    ),
    ("mptcp_sockopt/_fields.py", "import mptcp_sockopt as mp\nmp._views", "imports mptcp_sockopt._views"),
    ("mptcp_sockopt/_fields.py", "def later():\n    from . import _views", "imports mptcp_sockopt._views"),
    ("mptcp_sockopt/_fields.py", 'import_module("mptcp_sockopt._views")', "imports mptcp_sockopt._views"),
    ("mptcp_sockopt/_fields.py", 'import_module("._views", __package__)', "imports mptcp_sockopt._views"),
    ("mptcp_sockopt/_growth.py", "import mptcp_sockopt", "imports mptcp_sockopt"),
    ("mptcp_sockopt/selftest/_cases.py", "from .__main__ import Plan", "selftest.__main__, which"),
    ("mptcp_sockopt/cli/__init__.py", "from ..selftest import _cases", "selftest._cases is not public"),
    ("reuseport/_net.py", "import reuseport.demo", "imports reuseport.demo"),
    ("reuseport/demo.py", "import mptcp_sockopt as m\nm._views.MPTCPInfo", "_views.MPTCPInfo is not public"),
    ("reuseport/demo.py", "import mptcp_sockopt._views", "mptcp_sockopt._views is not public"),
    ("reuseport/demo.py", "from mptcp_sockopt import descriptor", "mptcp_sockopt.descriptor is not public"),
    ("mptcp_sockopt/_tracker.py", "from ._fields import _getter", "_fields._getter is not public"),
    ("mptcp_sockopt/_views.py", "import _mptcp_sockopt", "_mptcp_sockopt is cffi's"),
    ("mptcp_sockopt/_border/rows.py", "from _mptcp_sockopt import lib", "imports the compiled module"),
    ("mptcp_sockopt/_views.py", "from ._border.abi import ffi", "mptcp_sockopt._border.abi.ffi is cffi's"),
    ("mptcp_sockopt/_sockets.py", "_border.lib.SOL_MPTCP", "mptcp_sockopt._border.lib.SOL_MPTCP is cffi's"),
    ("mptcp_sockopt/_views.py", "from ._border.abi import layout", "_border.abi.layout is not public"),
    ("mptcp_sockopt/_tcp_info.py", "_border.read_struct", "_border.read_struct is not public"),
    (
        "reuseport/handover/_systemd.py",
        "socket.socket(socket.AF_NETLINK)",
        "socket.AF_NETLINK is for the border",
    ),
    ("mptcp_sockopt/_sockets.py", "MPTCP_INFO = 1", "MPTCP_INFO is a number of the kernel's"),
    ("mptcp_sockopt/_sockets.py", "_A, _TCP_IS_MPTCP = 1, 43", "_TCP_IS_MPTCP is a number of the kernel's"),
    ("mptcp_sockopt/_sockets.py", "sock.getsockopt(284, 1, 256)", "256) numbers an option"),
    ("mptcp_sockopt/_sockets.py", "_border.Place(8, 4)", "_border.Place(8, 4) places a field"),
    ("mptcp_sockopt/new.py", "", "mptcp_sockopt.new: it has no floor"),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("house")
    for package in (house.LIBRARY, house.APPLICATION):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / house.PAGE).parent.mkdir()
    shutil.copy(ROOT / house.PAGE, root / house.PAGE)
    return root


@pytest.mark.parametrize(("file", "line", "sentence"), PLANTS)
def test_what_is_planted_is_seen(copy: Path, file: str, line: str, sentence: str) -> None:
    """One mistake, one sentence or more, all about the module that it was planted in."""
    path = copy / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        found = house.problems(copy)
    finally:
        path.unlink() if before is None else path.write_text(before)
    assert any(sentence in problem for problem in found), found
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert [problem for problem in found if not problem.startswith(f"{module}:")] == []


def test_a_module_that_is_gone_has_no_floor(copy: Path) -> None:
    """The list names what there is."""
    path = copy / house.PAGE
    text = path.read_text()
    path.write_text(text.replace("\n_views\n", "\n_views _vews\n"))
    try:
        assert house.problems(copy) == ["mptcp_sockopt._vews: no such module"]
    finally:
        path.write_text(text)


def test_an_exception_that_is_not_needed_is_a_breach(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the list of them becomes shorter."""
    monkeypatch.setitem(house.EXCEPTIONS, ("mptcp_sockopt._sockets", "cffi"), "once it was")
    assert house.problems(copy) == [
        "mptcp_sockopt._sockets: nothing of cffi is left, and its exception can go"
    ]


def test_the_tree_is_printed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each module with its floor and its purpose, and at the end that no import climbs."""
    assert house.main(copy) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^ +\w+\.py +\d+  \S.*$", printed, re.MULTILINE)) == len(house.modules(copy))
    assert printed.endswith("none climbs, and no rule is broken\n")


def test_what_is_wrong_is_printed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind the tree; and the exit status says so."""
    path = copy / "mptcp_sockopt" / "new.py"
    path.write_text('"""What it is for."""\n')
    try:
        assert house.main(copy) == 1
    finally:
        path.unlink()
    *tree, problem, last = capsys.readouterr().out.splitlines()
    assert f"  {'new.py':<20}  ?  What it is for" in tree
    assert problem == "mptcp_sockopt.new: it has no floor in docs/house.md"
    assert last.endswith(": broken rules: 1")


def test_every_folder_has_a_row() -> None:
    """In the table of CONTRIBUTING.md, once; and each file that a row names is there."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| folder | what is in it |\n")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()[1:]]
    named = [name for folders, _ in rows for name in re.findall(r"`([^`]+)/`", folders)]
    files = [
        path
        for name in ".ci .github benchmarks csrc deploy docs mptcp_sockopt packaging reuseport tests".split()
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sorted(named) == sorted({"share", *(str(path.parent.relative_to(ROOT)) for path in files)})
    names = {path.name for path in (*files, *ROOT.iterdir())}
    assert {name for _, words in rows for name in re.findall(r"`(\w+\.\w+)`", words)} <= names


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
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#!")]
    if lines:
        assert "SPDX-License-Identifier: MIT" in lines[0]
    assert len(lines) <= 420


@pytest.mark.parametrize(("struct", "prefix"), [("mptcp_info", "mptcpi_"), ("tcp_info", "tcpi_")])
def test_the_last_field_of_what_grows_is_pinned(struct: str, prefix: str) -> None:
    """By an assert of its offset: those of the others follow from it, more or less."""
    name, place = list(abi.layout(struct, prefix).items())[-1]
    asserts = (ROOT / "csrc" / "mptcp_abi_assert.h").read_text()
    assert f"AT(struct {struct}, {prefix}{name}, {place.offset});" in asserts


@pytest.mark.parametrize("view", [mp.MPTCPInfo, mp.TCPInfo])
def test_a_field_of_a_new_kernel_is_in_the_changelog(view: type[mp.MPTCPInfo | mp.TCPInfo]) -> None:
    """Those of 7.3 and before came with our first release."""
    names = {name for name, field in view.fields.items() if [*map(int, field.since.split("."))] > [7, 3]}
    assert names <= set(re.findall(r"\w+", CHANGELOG))


def test_public_names_are_documented() -> None:
    """In docs/api.md, and each with a docstring that help() shows under the public name."""
    page = (ROOT / "docs" / "api.md").read_text()
    for name in mp.__all__:
        assert re.search(rf"`{name}[`(]|\b{name}\b", page), name
        thing = getattr(mp, name)
        if callable(thing):
            assert thing.__doc__
            assert thing.__module__ == "mptcp_sockopt"
    assert sorted(mp.__all__) == sorted(set(mp.__all__))
    for room, file in (
        (aio, "asyncio.md"),
        (host, "api.md"),
        (processes, "processes.md"),
        (testing, "testing.md"),
    ):
        page = (ROOT / "docs" / file).read_text()
        for name in room.__all__:
            assert re.search(rf"`{name}[`(]", page), name
            assert getattr(room, name).__doc__
            assert getattr(room, name).__module__ == room.__name__


def options() -> list[str]:
    """Of SOL_MPTCP, as the header numbers them."""
    header = (ROOT / "csrc" / "mptcp_abi.h").read_text()
    block = header.partition("#define SOL_MPTCP ")[2].partition("\n\n")[0]
    return re.findall(r"^#define (MPTCP_\w+)", block, re.MULTILINE)


@pytest.mark.parametrize("option", options())
def test_an_option_has_a_function_tests_and_a_case(option: str) -> None:
    """Named as it is. The docstring begins with the literal call and names a release; the tests of all
    readers have it in their list, and the self test has a case of it."""
    function = getattr(mp, option.lower())
    assert {option, option.lower()} <= set(mp.__all__)
    assert function.__doc__.startswith(f"``getsockopt(fd, SOL_MPTCP, {option})``")
    assert re.search(r"Linux \d+\.\d+", function.__doc__)
    assert function in FUNCTIONS
    called = f"mp.{option.lower()}("
    assert [path for path in (ROOT / "tests").glob("test_*.py") if called in path.read_text()]
    assert [title for title in Plan().names if option in title]
    assert f"`{option.lower()}(sock)`" in (ROOT / "docs" / "api.md").read_text()
    assert f"`{option.lower()}()`" in CHANGELOG


def test_every_reader_in_c_is_fuzzed() -> None:
    """tests/fuzz.c calls each function that hands out what a kernel wrote."""
    readers = re.findall(r"^int (\w+_get_\w+)\(", (ROOT / "csrc/mptcp_sockopt.h").read_text(), re.MULTILINE)
    assert len(readers) >= 5
    fuzz = (ROOT / "tests" / "fuzz.c").read_text()
    assert [reader for reader in readers if f" {reader}(" not in fuzz] == []


def test_is_mptcp_begins_with_the_call() -> None:
    """It is an option of TCP's."""
    assert (mp.is_mptcp.__doc__ or "").startswith("``getsockopt(fd, SOL_TCP, TCP_IS_MPTCP)``")
    assert len(options()) >= 4


CLASSES = [
    thing
    for room in (mp, host, processes, testing)
    for name in room.__all__
    if isinstance(thing := getattr(room, name), type)
]


@pytest.mark.parametrize("public", CLASSES, ids=lambda public: public.__name__)
def test_classes_state_their_thread_rule(public: type) -> None:
    """At the end of the docstring; values, which are most of them, have the freest."""
    rule = re.search(r"Thread rule: [^.]+\.\Z", (public.__doc__ or "").rstrip())
    assert rule
    if issubclass(public, (bytes, tuple, Record, enum.Enum)):
        assert rule[0] == "Thread rule: immutable, use it anywhere."


def test_no_class_is_forgotten() -> None:
    """Views, records, enums and exceptions are all looked at."""
    assert {mp.MPTCPInfo, mp.Snapshot, mp.Status, mp.InfoFlag, mp.MPTCPError} < set(CLASSES)
