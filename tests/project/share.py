# SPDX-License-Identifier: MIT
"""Man pages and shell completions, from the parsers of the commands: ``python -m tests.project.share`` writes
the folder ``share``.

argparse-manpage and shtab, of the extra "lint", do the work. What lies in ``share`` has no date and no
version: it changes only when a parser does.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mptcp_sockopt import cli
from mptcp_sockopt.cli import Command
from reuseport import __main__ as reuseport

SHARE = Path(__file__).parents[2] / "share"
URL = "https://github.com/mptcp-sockopt/mptcp-sockopt"
#: Where each shell looks for the completions of a program, below share.
SHELLS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
OTHERS = "ip-mptcp(8), ss(8)"
#: Of a command whose epilog says nothing about it.
EXIT_STATUS = "0 done, 3 cannot run here"
WIDE = 9999  # no text is wrapped


class Program(NamedTuple):
    parser: Callable[[], argparse.ArgumentParser]
    """Of the words before a command's own."""
    commands: Sequence[Command]
    parser_of: Callable[[Command], argparse.ArgumentParser]
    purpose: str


def parser_of(command: Command) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = importlib.import_module(command.module).parser()
    return parser


PROGRAMS = {
    "mptcp-sockopt": Program(
        cli.parser, cli.COMMANDS, parser_of, "see what Linux does with Multipath TCP connections"
    ),
    "reuseport": Program(
        reuseport.parser,
        reuseport.COMMANDS,
        reuseport.command_parser,
        "test how listeners share a port, and what a restart loses",
    ),
}


def written() -> dict[str, str]:
    """Every file of the folder: its path below share, and its text."""
    files = {}
    for name, program in PROGRAMS.items():
        pages = [f"{name}-{command.name}" for command in program.commands]
        seen = ", ".join(f"{page}(1)" for page in pages)
        files[f"man/man1/{name}.1"] = man_page(
            program.parser(), name, program.purpose, f"{seen}, {OTHERS}", program.commands
        )
        for command, page in zip(program.commands, pages, strict=True):
            parser = program.parser_of(command)
            files[f"man/man1/{page}.1"] = man_page(parser, page, command.purpose, f"{name}(1), {OTHERS}")
        for shell, path in SHELLS.items():
            files[path.format(name)] = completions(program, shell)
    return files


# ------------------------------------------------------------------------------------------- man pages


def man_page(
    parser: argparse.ArgumentParser,
    name: str,
    purpose: str,
    see_also: str,
    commands: Sequence[Command] = (),
) -> str:
    from argparse_manpage.manpage import Manpage

    status, rest = exit_status(parser.epilog or "")
    words = [*paragraphs(parser, parser.description or ""), *paragraphs(parser, rest)]
    parser.description = "\n.PP\n".join(f".nf\n{text}\n.fi" if raw else text for text, raw in words)
    parser.epilog = None  # it would become a section COMMENTS
    parser._positionals.title = "arguments"
    for each in (parser, *parts(parser)):
        each.formatter_class = functools.partial(argparse.HelpFormatter, width=WIDE)
    page = Manpage(parser)
    page.prog, page.description = name, purpose
    page.date, page.source, page.manual = "", "mptcp-sockopt", "User Commands"
    page.synopsis = [parser.prog, synopsis(" ".join(page.synopsis).removeprefix(parser.prog))]
    if commands:
        page.add_section("commands", "=", items((each.name, each.purpose) for each in commands))
    page.add_section("exit status", "=", items(status))
    page.add_section("see also", "=", f"{roff(see_also)}\n.PP\n.UR {URL}\nThe project's pages\n.UE")
    return str(page)


def exit_status(epilog: str) -> tuple[list[tuple[str, str]], str]:
    """Each status with its meaning, from the epilog's sentence "Exit status: 0 pass, 1 fail."; the rest."""
    found = re.search(r"Exit status[^:\d]*:?\s*(\d.*?)\.(?:\s|$)", epilog, re.DOTALL)
    listed = " ".join(found[1].split()) if found else EXIT_STATUS
    meanings = dict(re.findall(r"(\d+):? (.*?)(?:[,;] (?=\d+:? )|$)", listed))
    if "125" not in meanings:  # of what becomes another program, whose status may be 2
        meanings["2"] = "usage"  # argparse's own
    rest = epilog.replace(found[0], "") if found else epilog
    return sorted(meanings.items(), key=lambda item: int(item[0])), rest


def paragraphs(parser: argparse.ArgumentParser, text: str) -> list[tuple[str, bool]]:
    """Of a description or an epilog; and whether its lines stay, as indented ones may."""
    if "%(prog)" in text:
        text %= {"prog": parser.prog}
    raw = isinstance(parser._get_formatter(), argparse.RawDescriptionHelpFormatter)
    found = []
    for part in re.split(r"\n\s*\n", text) if raw else [text]:
        if part.startswith("commands:"):
            continue  # they have a section
        if raw and re.search("^ ", part, re.MULTILINE):
            found.append((part.rstrip(), True))
        elif part.strip():
            found.append((" ".join(part.split()), False))
    return found


def items(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n\\fB{roff(word)}\\fR\n{roff(meaning)}" for word, meaning in rows)


def synopsis(words: str) -> str:
    """A short option with its value stays on one line; no word is hyphenated, and no line is stretched."""
    kept = re.sub(r"\[[^]]{,60}\]", lambda option: option[0].replace(" ", "\\ "), roff(words.strip()))
    return ".ad l\n" + " ".join(f"\\%{word}" for word in re.split(r"(?<!\\) ", kept)) + "\n.ad b"


def roff(text: str) -> str:
    return text.replace("\\", "\\\\").replace("-", "\\-")


# ----------------------------------------------------------------------------------------- completions


def completions(program: Program, shell: str) -> str:
    import shtab

    parser = whole(program)
    for action in [action for each in (parser, *parts(parser)) for action in each._actions]:
        if str(action.metavar).startswith("FILE"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell)
    return f"{text.rstrip()}\n"


def whole(program: Program) -> argparse.ArgumentParser:
    """A parser of all words: those before the command, and its own."""
    parser = program.parser()
    parser._actions[:] = [action for action in parser._actions if action.option_strings]  # without COMMAND
    rooms = parser.add_subparsers()
    for command in program.commands:
        own = program.parser_of(command)
        rooms.add_parser(command.name, help=command.purpose, parents=[own], add_help=False)
    return parser


def parts(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of its subcommands, and theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield part
                yield from parts(part)


if __name__ == "__main__":
    shutil.rmtree(SHARE, ignore_errors=True)
    for path, text in written().items():
        file = SHARE / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
