# SPDX-License-Identifier: MIT
"""python -m reuseport: one subcommand for each purpose; see their --help."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
from collections.abc import Sequence

from mptcp_sockopt import __version__, cli
from mptcp_sockopt.cli import Command

# Each room has add_arguments(parser, command), Options, a NamedTuple of what that parses, and run(options).
COMMANDS = (
    Command("demo", "reuseport.demo", "run five generations of servers that share a port"),
    Command("serve", "reuseport.demo", "run one server, which forks the next generation, and so on"),
    Command("client", "reuseport.demo", "ask the servers of the demo, five times a second"),
    Command("lesson", "reuseport.lesson", "show what SO_REUSEADDR and SO_REUSEPORT do, in three tests"),
    Command("matrix", "reuseport.matrix", "test which sockets may share a port, against the rule"),
    Command("fair", "reuseport.fair", "measure how evenly listeners share connections"),
    Command("roll", "reuseport.roll", "count the connections that rolling restarts under load lose"),
    Command(
        "who", "reuseport.who.command", "show what has a port and what is wrong, or whether another can bind"
    ),
    Command("audit", "reuseport.audit", "count the connections that restarts of any server lose"),
)


def main(argv: Sequence[str] | None = None) -> int:
    return cli.entry(lambda: run(argv), "reuseport")


def parser() -> argparse.ArgumentParser:
    """The parser of the words before a command's own."""
    return cli.parser_of(
        COMMANDS,
        prog="reuseport",
        description="Do my workers share a port evenly, and does a restart lose connections?",
        version=f"reuseport of mptcp-sockopt {__version__}",
        epilog="Exit status of measuring commands: 0 pass, 1 fail, 2 usage, 3 cannot run here, or nothing "
        "proven. Every command exits with 3 if something is missing, and with 70 after a bug of its own.",
    )


def command_parser(command: Command) -> argparse.ArgumentParser:
    """The parser of a command's own words."""
    parser = cli.Parser(
        prog=f"reuseport {command.name}",
        description=f"{command.purpose[0].upper()}{command.purpose[1:]}.",
    )
    parser.set_defaults(command=command.name)
    importlib.import_module(command.module).add_arguments(parser, command.name)
    return parser


def run(argv: Sequence[str] | None) -> int:
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, children end without a status
    command, words = cli.choose(COMMANDS, parser(), argv)
    room = importlib.import_module(command.module)
    options = room.Options(**vars(cli.parsed(command_parser(command), words)))
    cli.need_streams("stderr" if command.module == "reuseport.demo" else "stdout")
    code: int = room.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
