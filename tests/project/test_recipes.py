# SPDX-License-Identifier: MIT
"""The recipes of CONTRIBUTING.md, followed in a copy: green at the end, and red if any step is forgotten.

No file is touched that the recipe does not name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mptcp_sockopt.selftest.__main__ import Plan

from ..mutants.__main__ import CannotRun, Workshop
from ..support import Missing

ROOT = Path(__file__).parents[2]
CASES = len(Plan().names)
SECONDS = 1500  # for the tests of a recipe: what takes longer hangs
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


class Edit(NamedTuple):
    """Text that comes behind another one in a file, or in its place; a new file where there is none."""

    file: str
    old: str
    text: str
    instead: bool = False


Step = tuple[Edit, ...]


def line(file: str, behind: str, text: str) -> Edit:
    return Edit(file, f"{behind}\n", f"{text}\n")


FIELD: dict[str, Step] = {
    "struct": (line("csrc/mptcp_abi.h", "\tuint32_t mptcpi_last_ack_recv;", "\tuint32_t mptcpi_foo;"),),
    "assert": (
        line(
            "csrc/mptcp_abi_assert.h",
            "AT(struct mptcp_info, mptcpi_last_ack_recv, 92);",
            "AT(struct mptcp_info, mptcpi_foo, 96);",
        ),
    ),
    "view": (
        line(
            "mptcp_sockopt/_mptcp_info.py",
            '    """Since MPTCP last received an acknowledgement; before the first, since the socket '
            "was made, or, after\n"
            '    connect(AF_UNSPEC), since that of the connection before. (ms; Linux 6.10)"""',
            '    foo: FieldOf[int | None] = newer("9.9", "What a foo is.", "foos", "gauge")\n'
            '    """What a foo is. (foos; Linux 9.9)"""',
        ),
    ),
    "size": (Edit("mptcp_sockopt/_mptcp_info.py", '"6.19": 96,', ' "9.9": 100,'),),
    "row": (
        line(
            "tests/vectors.py",
            '    ("last_ack_recv", 92, 4, 96, "6.10", "ms"),',
            '    ("foo", 96, 4, 100, "9.9", "foos"),',
        ),
    ),
    "changelog": (line("CHANGELOG.md", "### Added\n", "- `MPTCPInfo.foo`."),),
}

HELLO_VIEW = '''

class MPTCPHello(View):
    """``struct mptcp_hello``: a greeting (Linux 9.9). Thread rule: immutable, use it anywhere."""

    __slots__ = ()
    _places = _border.layout("mptcp_hello", "mptcph_")
    _smallest = 4

    world: FieldOf[int] = always("How many worlds are greeted.", "worlds", "9.9", "gauge")
    """How many worlds are greeted. (worlds; Linux 9.9)"""
'''
HELLO_FUNCTION = '''def mptcp_hello(sock: t.SocketLike) -> MPTCPHello:
    """``getsockopt(fd, SOL_MPTCP, MPTCP_HELLO)``: a greeting. Linux 9.9; raises as mptcp_info()."""
    return _border.read_hello(_border.descriptor(sock), MPTCPHello)


'''
HELLO_READ = '''def read_hello(fd: int, make: type[V]) -> V:
    """MPTCP_HELLO."""
    return read_struct(fd, "MPTCP_HELLO", lib.mptcp_get_hello, lib.MPTCP_HELLO_ROOM, make)


'''
HELLO_C = """int mptcp_get_hello(int fd, void *hello)
{
	clear(hello, 0, MPTCP_HELLO_ROOM);
	return get_length(fd, SOL_MPTCP, MPTCP_HELLO, hello, 4, MPTCP_HELLO_ROOM);
}

"""
HELLO_CASE = """@named("MPTCP_HELLO: greets the world")
def hello(end: End) -> None:
    try:
        check(mp.mptcp_hello(end.sock).world, "no world")
    except mp.UnsupportedOptionError:
        raise Skip("this kernel has no MPTCP_HELLO (Linux 9.9)") from None


"""
HELLO_TESTS = '''# SPDX-License-Identifier: MIT
"""mptcp_hello(): the greeting, where this kernel has one."""

from __future__ import annotations

import socket

import pytest

import mptcp_sockopt as mp

Pair = tuple[socket.socket, socket.socket]


def test_it_greets(mptcp_ends: Pair) -> None:
    """Or says that it cannot."""
    with pytest.raises(mp.UnsupportedOptionError):
        mp.mptcp_hello(mptcp_ends[0])


def test_tcp_is_not_greeted(tcp_ends: Pair, fallback_ends: Pair) -> None:
    """Nor is what fell back."""
    for sock in (tcp_ends[0], fallback_ends[0]):
        with pytest.raises(mp.NotMPTCPError):
            mp.mptcp_hello(sock)
'''
OPTION: dict[str, Step] = {
    "header": (
        line("csrc/mptcp_abi.h", "#define MPTCP_FULL_INFO 4", "#define MPTCP_HELLO 5"),
        Edit(
            "csrc/mptcp_abi.h",
            "#define MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED 2\n\n",
            "/* MPTCP_HELLO */\nstruct mptcp_hello {\n\tuint32_t mptcph_world;\n};\n\n",
        ),
    ),
    "call": (
        line("csrc/mptcp_sockopt.h", "#define MPTCP_INFO_ROOM 256", "#define MPTCP_HELLO_ROOM 64"),
        line(
            "csrc/mptcp_sockopt.h",
            "int tcp_get_info(int fd, void *info);",
            "/* MPTCP_HELLO into hello, of MPTCP_HELLO_ROOM bytes; as mptcp_get_info(). */\n"
            "int mptcp_get_hello(int fd, void *hello);",
        ),
        Edit("csrc/mptcp_sockopt.c", "(*const volatile clear)(void *, int, size_t) = memset;\n\n", HELLO_C),
    ),
    "stub": (
        Edit(
            "csrc/_mptcp_sockopt.pyi",
            "    MPTCP_FULL_INFO: Final[int]\n",
            "    MPTCP_HELLO: Final[int]\n    MPTCP_HELLO_ROOM: Final[int]\n",
        ),
        line(
            "csrc/_mptcp_sockopt.pyi",
            "    def mptcp_get_info(self, fd: int, info: CData, /) -> int: ...",
            "    def mptcp_get_hello(self, fd: int, hello: CData, /) -> int: ...",
        ),
    ),
    "number": (
        line(
            "mptcp_sockopt/_border/abi.py",
            "MPTCP_FULL_INFO: int = lib.MPTCP_FULL_INFO",
            "MPTCP_HELLO: int = lib.MPTCP_HELLO",
        ),
        line("mptcp_sockopt/_border/__init__.py", "    MPTCP_FULL_INFO,", "    MPTCP_HELLO,"),
        line("mptcp_sockopt/_border/__init__.py", '    "MPTCP_FULL_INFO",', '    "MPTCP_HELLO",'),
    ),
    "read": (
        Edit("mptcp_sockopt/_border/sockopt.py", "make, socket.SOL_TCP)\n\n\n", HELLO_READ),
        line("mptcp_sockopt/_border/__init__.py", "    read_full_info,", "    read_hello,"),
        line("mptcp_sockopt/_border/__init__.py", '    "read_full_info",', '    "read_hello",'),
    ),
    "view": (
        Edit(
            "mptcp_sockopt/_views.py",
            '        return f"{type(self).__name__}(local={self.local}, remote={self.remote})"\n',
            HELLO_VIEW,
        ),
        Edit("mptcp_sockopt/_views.py", "from ._fields import ", "FieldOf, always, "),
        Edit("mptcp_sockopt/_views.py", "from . import ", "_border\nfrom . import "),
    ),
    "function": (
        Edit(
            "mptcp_sockopt/_sockopt.py", "return _read_full_info(sock, MPTCPFullInfo)\n\n\n", HELLO_FUNCTION
        ),
        Edit("mptcp_sockopt/_sockopt.py", "import InfoFlag, MPTCPFullInfo, ", "MPTCPHello, "),
    ),
    "types": (
        line(
            "tests/typed_user.py",
            "    assert_type(mp.is_mptcp(sock), bool)",
            "    hello: mp.MPTCPHello = mp.mptcp_hello(sock)\n"
            "    assert_type(hello.world + mp.MPTCP_HELLO, int)",
        ),
        line(
            "tests/typed_wrongly.py",
            "    # Numbers and texts.",
            '    mp.mptcp_hello("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]\n'
            "    mp.MPTCPHello(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]\n"
            "    mp.MPTCP_HELLO()  # type: ignore[operator]  # pyright: ignore[reportCallIssue]",
        ),
    ),
    "public name": (
        line("mptcp_sockopt/__init__.py", "    MPTCP_FULL_INFO,", "    MPTCP_HELLO,"),
        line("mptcp_sockopt/__init__.py", '    "MPTCP_FULL_INFO",', '    "MPTCP_HELLO",\n    "MPTCPHello",'),
        line("mptcp_sockopt/__init__.py", "    mptcp_full_info,", "    mptcp_hello,"),
        line("mptcp_sockopt/__init__.py", '    "mptcp_full_info",', '    "mptcp_hello",'),
        Edit("mptcp_sockopt/__init__.py", "import InfoFlag, MPTCPFullInfo, ", "MPTCPHello, "),
    ),
    "row": (
        line(
            "README.md", "| name | what |\n|---|---|", "| `mptcp_hello(sock)` | `MPTCPHello` (MPTCP_HELLO) |"
        ),
    ),
    "changelog": (line("CHANGELOG.md", "### Added\n", "- `mptcp_hello()`."),),
    "tests": (Edit("tests/test_hello.py", "", HELLO_TESTS),),
    "fuzz": (
        line(
            "tests/fuzz.c",
            "\tCHECK(mptcp_get_info(-1, info) == -EBADF);",
            "\tresult = mptcp_get_hello(3, info);\n\tCHECK(result < 0 || result >= 4);",
        ),
    ),
    "list of readers": (line("tests/support.py", "    mp.mptcp_full_info,", "    mp.mptcp_hello,"),),
    "case": (
        Edit("mptcp_sockopt/selftest/_cases.py", 'before {info} of MPTCP_INFO")\n\n\n', HELLO_CASE),
        Edit("mptcp_sockopt/selftest/__main__.py", "_cases.addrs, ", "_cases.hello, "),
    ),
    "case's test": (
        line("tests/test_cases.py", "                _cases.family_only,", "                _cases.hello,"),
    ),
    "case's page": (
        line(
            "docs/selftest.md",
            "| **mptcp_sockopt.c** | |",
            "| MPTCP_HELLO | `MPTCP_HELLO: greets the world` |",
        ),
    ),
    "number of cases": (
        Edit("README.md", f"\n1..{CASES}\n", f"\n1..{CASES + 4}\n", instead=True),
        Edit("README.md", f"pass:{CASES} ", f"pass:{CASES + 4} ", instead=True),
    ),
}

COMMAND: dict[str, Step] = {
    "room": (
        Edit(
            "mptcp_sockopt/cli/hello.py",
            "",
            "# SPDX-License-Identifier: MIT\n"
            '"""mptcp-sockopt hello: greets."""\n\n'
            "from __future__ import annotations\n\n"
            "from collections.abc import Sequence\n\n"
            "from ._outcome import PASS\n\n\n"
            "def main(argv: Sequence[str] | None = None) -> int:\n"
            '    print("hello")\n'
            "    return PASS\n",
        ),
    ),
    "table": (
        Edit(
            "mptcp_sockopt/cli/__init__.py",
            "COMMANDS = (\n",
            '    Command("hello", "mptcp_sockopt.cli.hello", "greet, and end"),\n',
        ),
    ),
    "floor": (line("docs/house.md", "cli._outcome cli._table", "cli.hello"),),
    "test": (
        Edit(
            "tests/cli/test_hello.py",
            "",
            "# SPDX-License-Identifier: MIT\n"
            '"""mptcp-sockopt hello."""\n\n'
            "from __future__ import annotations\n\n"
            "import pytest\n\n"
            "from mptcp_sockopt import cli\n\n\n"
            "def test_it_greets(capsys: pytest.CaptureFixture[str]) -> None:\n"
            '    """And ends with 0."""\n'
            '    assert cli.main(["hello"]) == 0\n'
            '    assert capsys.readouterr().out == "hello\\n"\n',
        ),
    ),
    "page": (Edit("docs/selftest.md", "", "\n`mptcp-sockopt hello` greets.\n"),),
    "changelog": (line("CHANGELOG.md", "### Added\n", "- `mptcp-sockopt hello`."),),
}

# Recipe: its heading, its steps, the tests that are run.
RECIPES: dict[str, tuple[str, dict[str, Step], list[str]]] = {
    "field": (
        "A field was added to a kernel struct",
        FIELD,
        [
            "tests/project/test_house.py",
            *(f"tests/test_{name}.py" for name in "views fields recorded shown columns".split()),
        ],
    ),
    "option": (
        "An option was added",
        OPTION,
        [
            *(
                "tests/project/test_house.py",
                "tests/test_abi.py",
                "tests/test_bounds.py",
                "tests/test_cases.py",
                "tests/test_selftest.py",
                "tests/test_typed.py",
            ),
            *("tests/project/test_docs.py", "-k", "not package_index"),  # which shows what was installed
        ],
    ),
    "command": ("A command was added", COMMAND, ["tests/project/test_house.py", "tests/cli"]),
}


def section(heading: str) -> str:
    return CONTRIBUTING.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    try:
        yield Workshop(tmp_path_factory.mktemp("recipes"))
    except (CannotRun, FileNotFoundError) as problem:
        raise Missing(f"a compiler and Python.h: {problem}") from None


def follow(workshop: Workshop, steps: dict[str, Step], tests: list[str]) -> str:
    """Take these steps in the copy, and back: what is red then, or nothing."""
    edits = [edit for step in steps.values() for edit in step]
    files = {edit.file for edit in edits}
    try:
        for edit in edits:
            path = workshop.folder / edit.file
            before = path.read_text() if path.exists() else ""
            assert edit.old in before, edit
            if edit.old:
                new = edit.text if edit.instead else edit.old + edit.text
                path.write_text(before.replace(edit.old, new, 1))
            else:
                path.write_text(before + edit.text)
        own = [file for file in files if Path(file).name.startswith("test_") and file not in tests]
        return workshop.make() or workshop.killer([*tests, *own], required=False, seconds=SECONDS)
    finally:
        for file in files:
            if (ROOT / file).exists():
                shutil.copy(ROOT / file, workshop.folder / file)
            else:
                (workshop.folder / file).unlink()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_names_every_file(recipe: str) -> None:
    """That its steps touch: by its path, or by its name."""
    heading, steps, _ = RECIPES[recipe]
    words = section(heading).replace("<name>", "hello")
    for step, edits in steps.items():
        for edit in edits:
            path = Path(edit.file)
            names = [edit.file, path.name, f"{path.parent.name}/{path.name}"]
            if step == "page":  # any of them
                names.append(f"`{path.parent}/`")
            assert any(name in words for name in names), edit.file


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_ends_green(recipe: str, workshop: Workshop) -> None:
    """All of its steps, and nothing else."""
    _, steps, tests = RECIPES[recipe]
    assert follow(workshop, steps, tests) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "forgotten"), [(name, step) for name, (_, steps, _) in RECIPES.items() for step in steps]
)
def test_what_is_forgotten_is_red(recipe: str, forgotten: str, workshop: Workshop) -> None:
    """A test says so, or the compiler."""
    _, steps, tests = RECIPES[recipe]
    red = follow(workshop, {name: step for name, step in steps.items() if name != forgotten}, tests)
    print(f"{recipe}, without {forgotten}: {red}")
    assert red not in ("", "time")
