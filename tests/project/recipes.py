# SPDX-License-Identifier: MIT
"""The recipes of CONTRIBUTING.md, step by step: what is added to which file. test_recipes.py follows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from mptcp_sockopt.selftest.__main__ import Plan

from . import fields

ROOT = Path(__file__).parents[2]
CASES = len(Plan().names)
# Of MPTCPInfo, in docs/fields.md.
LAST_ROW = re.findall(
    r"^\| `last_ack_recv` \| ms \| age \| 6\.10 .*$", fields.PAGE.read_text(), re.MULTILINE
)[0]


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
            '    """Time since MPTCP last received an acknowledgement. Before the first: since the socket '
            "was created or,\n"
            "    after connect(AF_UNSPEC), since the previous connection last received one. "
            '(ms; Linux 6.10)"""',
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
    "page": (line("docs/fields.md", LAST_ROW, "| `foo` | foos | gauge | 9.9 | What a foo is. |"),),
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
HELLO_FIELDS = """## MPTCPHello

`struct mptcp_hello`: a greeting (Linux 9.9).

| field | unit | kind | Linux | meaning |
| --- | --- | --- | --- | --- |
| `world` | worlds | gauge | 9.9 | How many worlds are greeted. |

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
        line(
            "mptcp_sockopt/_border/__init__.py",
            "from .abi import MPTCP_FULL_INFO as MPTCP_FULL_INFO",
            "from .abi import MPTCP_HELLO as MPTCP_HELLO",
        ),
    ),
    "read": (
        Edit("mptcp_sockopt/_border/sockopt.py", "make, socket.SOL_TCP)\n\n\n", HELLO_READ),
        line(
            "mptcp_sockopt/_border/__init__.py",
            "from .sockopt import read_full_info as read_full_info",
            "from .sockopt import read_hello as read_hello",
        ),
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
            "docs/api.md",
            "| name | what |\n|---|---|",
            "| `mptcp_hello(sock)` | `MPTCPHello` (MPTCP_HELLO) |",
        ),
    ),
    "changelog": (line("CHANGELOG.md", "### Added\n", "- `mptcp_hello()`."),),
    "fields' page": (Edit("docs/fields.md", f"{fields.BEGIN}\n", HELLO_FIELDS),),
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
        Edit("mptcp_sockopt/selftest/_cases.py", 'plus {info} of MPTCP_INFO")\n\n\n', HELLO_CASE),
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
        Edit("docs/selftest.md", f"\n1..{CASES}\n", f"\n1..{CASES + 4}\n", instead=True),
        Edit("docs/selftest.md", f"pass:{CASES} ", f"pass:{CASES + 4} ", instead=True),
    ),
}

HELLO_MAN = """.TH MPTCP\\-SOCKOPT\\-HELLO "1" "" "mptcp\\-sockopt" "User Commands"
.SH NAME
mptcp\\-sockopt\\-hello \\- greet, and end
.SH SYNOPSIS
.B mptcp\\-sockopt hello
.ad l
\\%[\\-h]
.ad b
.SH DESCRIPTION
Greet.

.SH EXIT STATUS
.TP
\\fB0\\fR
greeted
.TP
\\fB2\\fR
usage
.SH SEE ALSO
mptcp\\-sockopt(1), ip\\-mptcp(8), ss(8)
"""
HELLO_BASH = "_shtab_mptcp_sockopt_hello_option_strings=(-h --help)\n"
HELLO_ZSH = """_shtab_mptcp_sockopt_hello_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
)
"""
HELLO_FISH = """complete -c mptcp-sockopt -n '_shtab_mptcp_sockopt_using hello' -s h -l help
"""

COMMAND: dict[str, Step] = {
    "room": (
        Edit(
            "mptcp_sockopt/cli/hello.py",
            "",
            "# SPDX-License-Identifier: MIT\n"
            '"""mptcp-sockopt hello: greets."""\n\n'
            "from __future__ import annotations\n\n"
            "import argparse\n"
            "import sys\n"
            "from collections.abc import Sequence\n\n"
            "from ._outcome import PASS, Parser\n"
            "from ._table import parsed\n\n\n"
            "def parser() -> argparse.ArgumentParser:\n"
            "    return Parser(\n"
            '        prog="mptcp-sockopt hello", description="Greet.", epilog="Exit status: 0 greeted."\n'
            "    )\n\n\n"
            "def main(argv: Sequence[str] | None = None) -> int:\n"
            "    parsed(parser(), sys.argv[1:] if argv is None else argv)\n"
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
    "floor": (Edit("docs/house.md", "cli.plot cli.doctor", " cli.hello"),),
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
    # As python -m tests.project.share writes them; what stands before shows where.
    "man page": (
        Edit("share/man/man1/mptcp-sockopt-hello.1", "", HELLO_MAN),
        Edit("share/man/man1/mptcp-sockopt.1", ".SH COMMANDS\n", ".TP\n\\fBhello\\fR\ngreet, and end\n"),
    ),
    "completions": (
        Edit("share/bash-completion/completions/mptcp-sockopt", "", HELLO_BASH),
        Edit("share/zsh/site-functions/_mptcp-sockopt", "", HELLO_ZSH),
        Edit("share/fish/vendor_completions.d/mptcp-sockopt.fish", "", HELLO_FISH),
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
            "tests/project/test_fields.py",
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
                "tests/project/test_fields.py",
            ),
            *("tests/project/test_docs.py", "-k", "not package_index"),  # which shows what was installed
        ],
    ),
    "command": (
        "A command was added",
        COMMAND,
        ["tests/project/test_house.py", "tests/project/test_share.py", "tests/cli"],
    ),
}
