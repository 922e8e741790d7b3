# SPDX-License-Identifier: MIT
"""A table of commands: its --help, which was chosen, and its words. Nothing of a command is imported."""

from __future__ import annotations

import argparse
import io
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 79


class Command(NamedTuple):
    """A row of the table."""

    name: str
    module: str
    """Its room, as a dotted name: imported when the command is chosen."""
    purpose: str


def choose(
    commands: Sequence[Command],
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    version: str,
    epilog: str = "",
) -> tuple[Command, list[str]]:
    """The command that the first word of argv names, and the words behind it.

    SystemExit, as argparse has it, for --help, --version, and what is no command.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
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
        help="one of those below; COMMAND --help says more",
    )
    chosen = parsed(parser, words[:1]).command
    (command,) = [command for command in commands if command.name == chosen]
    return command, words[1:]


def parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The options; or SystemExit when help, version or a usage error is printed.

    argparse is silent about what it cannot write. So that entry(), which flushes, hears of it, it waits in a
    buffer, also where Python was told to have none (-u).
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
