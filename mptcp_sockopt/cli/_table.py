# SPDX-License-Identifier: MIT
"""A table of commands: its --help, and the one that was chosen. Nothing of a command is imported here."""

from __future__ import annotations

import argparse
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
    chosen = parser.parse_args(words[:1]).command
    (command,) = [command for command in commands if command.name == chosen]
    return command, words[1:]


def _lines(commands: Sequence[Command], epilog: str) -> list[str]:
    width = max(len(command.name) for command in commands)
    lines = ["commands:"]
    for command in commands:
        first = f"  {command.name:<{width}}  "
        lines += textwrap.wrap(
            command.purpose, WIDTH, initial_indent=first, subsequent_indent=" " * len(first)
        )
    return lines + ["", *textwrap.wrap(epilog, WIDTH)] * bool(epilog)
