# SPDX-License-Identifier: MIT
"""A table of commands: its --help, and which command and arguments were given. Imports no command."""

from __future__ import annotations

import argparse
import io
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from ._outcome import Parser

WIDTH = 79


class Command(NamedTuple):
    """A command in the table."""

    name: str
    module: str
    """The dotted name of its module, which is imported when the command is chosen."""
    purpose: str


def parser_of(
    commands: Sequence[Command], *, prog: str, description: str, version: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """The parser of the words before a command's own. Its --help lists the commands."""
    parser = Parser(
        prog=prog,
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description=description,
        epilog="\n".join(_lines(commands, epilog)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument(
        "command",
        metavar="COMMAND",
        choices=[command.name for command in commands],
        help="one of the commands below; see COMMAND --help",
    )
    return parser


def choose(
    commands: Sequence[Command], parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[Command, list[str]]:
    """The command that argv names, and the arguments after it.

    SystemExit, as usual for argparse, for --help, --version, and an unknown command.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = parsed(parser, words[:1]).command
    (command,) = [command for command in commands if command.name == chosen]
    return command, words[1:]


def parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The parsed options; SystemExit after printing help, version or a usage error.

    argparse ignores errors when it writes. So its output stays in a buffer, even with python -u, until
    entry() flushes it and sees the error.
    """
    unbuffered = isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.write_through
    if unbuffered:
        sys.stdout.reconfigure(write_through=False)  # type: ignore[union-attr]
    options = parser.parse_args(words)
    if unbuffered:
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    return options


def _lines(commands: Sequence[Command], epilog: str) -> list[str]:
    width = max(len(command.name) for command in commands)
    lines = ["commands:"]
    for command in commands:
        first = f"  {command.name:<{width}}  "
        lines += textwrap.wrap(
            command.purpose, WIDTH, initial_indent=first, subsequent_indent=" " * len(first)
        )
    return lines + ["", *textwrap.wrap(epilog, WIDTH)] * bool(epilog)
