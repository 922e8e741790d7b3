# SPDX-License-Identifier: MIT
"""Every block of code in a page is run, compared or parsed by some test; what is only shown says ``text``."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import share

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))
}
BLOCK = re.compile(r"^ *```(.*)\n((?:.*\n)*?)^ *```$", re.MULTILINE)
#: What a kind means. Of the others, the build of the site runs those in braces: they are directives.
KINDS = {
    "pycon": "a session, which test_pages.py runs as a doctest",
    "python": "a program, which the test of its page runs",
    "": "what a program printed, which the test of its page compares",
    "sh": "commands; those of this project are parsed below",
    "text": "only shown",
    "text floors": "read by house.py",
}
DIRECTIVES = {"include", "toctree", "eval-rst", "commands", "contents"}
TESTS = {
    path: path.read_text() for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name
}
#: Programs of others, which a page may call.
OTHERS = set(
    """
    . apt-get bash cat cd curl do done git grep haproxy jq kill mktemp mv mypy nginx pip prometheus promtool
    prove python3 ruff sed sleep sysctl systemctl until zcat
    """.split()
)


def unknown_kinds(text: str) -> list[str]:
    kinds = [match[1] for match in BLOCK.finditer(text)]
    directives = [re.match(r"\{([\w-]+)\}", kind) for kind in kinds]
    return [
        kind
        for kind, directive in zip(kinds, directives, strict=True)
        if kind not in KINDS and not (directive and directive[1] in DIRECTIVES)
    ]


def is_named_by_a_test(page: str) -> bool:
    """As ROOT / "docs" / "page.md", or DOCS / "page.md", in a test or in what writes the page."""
    name = re.escape(page.rpartition("/")[2])
    return any(re.search(rf'(?:"docs"|DOCS|\.parent) / "{name}"', text) for text in TESTS.values())


def test_every_block_is_of_a_known_kind() -> None:
    """Its kind says how it is tested."""
    assert {page: found for page, text in PAGES.items() if (found := unknown_kinds(text))} == {}
    assert unknown_kinds("```rust\n```\n```{raw} html\n```\n```{include} x\n```\n```\n```\n") == [
        "rust",
        "{raw} html",
    ]


def test_no_block_is_left_to_nobody() -> None:
    """A page with a program or its output has a test; sessions are in pages whose sessions are run."""
    for kind in ("python", ""):
        pages = [page for page, text in PAGES.items() if kind in [match[1] for match in BLOCK.finditer(text)]]
        assert len(pages) > 5
        assert [page for page in pages if not is_named_by_a_test(page)] == []
    assert not is_named_by_a_test("docs/show.md")
    sessions = [page for page, text in PAGES.items() if "```pycon" in text]
    assert [page for page in sessions if Path(page).parent.name not in ("", "docs")] == []


# ---------------------------------------------------------------------------------------------- commands


def commands(block: str) -> Iterator[list[str]]:
    """The words of each command of a block; of one that shows output too, what stands after $."""
    lines = block.replace("\\\n", " ").splitlines()
    if any(line.lstrip().startswith("$ ") for line in lines):
        lines = [line.lstrip()[2:] for line in lines if line.lstrip().startswith("$ ")]
    for line in lines:
        words: list[str] = []
        for word in shlex.split(re.sub(r"\$?\(|\)", " ; ", line), comments=True):
            if word in ("&&", "||", "|", "&", ";") or word.endswith(";"):
                yield [*words, *filter(None, [word.rstrip("&|;")])]
                words = []
            else:
                words.append(word)
        yield words


def refused(words: list[str]) -> str | None:
    """Why a command of this project cannot be given so; of others, that they are not known here."""
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    if not words or words[0] in OTHERS or words[0].startswith(("-", ">")):
        return None
    if words[0] == "python" and words[1] == "-m":
        name = {"mptcp_sockopt.selftest": "mptcp-sockopt selftest", "reuseport": "reuseport"}.get(words[2])
        if name is None:
            return None if importlib.util.find_spec(words[2]) else f"no module {words[2]}"
        words = [*name.split(), *words[3:]]
    if words[0] == "python":
        return None if (ROOT / words[1]).is_file() else f"no file {words[1]}"
    if words[0] not in share.PROGRAMS:
        return f"nobody knows {words[0]}"
    program = share.PROGRAMS[words[0]]
    found = [command for command in program.commands if command.name == words[1]]
    if not found:
        return f"no command {words[1]}"
    try:
        program.parser_of(found[0]).parse_args(words[2:])
    except (SystemExit, argparse.ArgumentError) as error:
        return f"{shlex.join(words)}: {error}"
    return None


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "```sh\n" in text])
def test_commands_can_be_given_so(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of this project, with these options; a program of somebody else is one that is known."""
    blocks = [match[2] for match in BLOCK.finditer(PAGES[page]) if match[1] == "sh"]
    said = [refused(words) for block in blocks for words in commands(block)]
    assert said
    assert [reason for reason in said if reason] == []


@pytest.mark.parametrize(
    "line",
    [
        "mptcp-sockopt show --nonsense",
        "mptcp-sockopt nonsense",
        "reuseport who",
        "true && reuseport audit --late soon -- nginx",
        "python -m tests.nonsense",
        "python docs/nonsense.py",
        "nonsense",
    ],
)
def test_a_command_that_cannot_be_given_is_seen(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option, a command, an argument, a module, a file or a program that there is not."""
    assert [reason for words in commands(line) if (reason := refused(words))]
