# SPDX-License-Identifier: MIT
"""python -m reuseport: one subcommand a purpose; see each one's --help."""

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
    Command(
        "demo",
        "reuseport.demo",
        "five generations of servers share a port (seed 1: ./test.sh; --fork: ./multi)",
    ),
    Command(
        "serve",
        "reuseport.demo",
        "one server that forks generations; --nofork --gen N: one generation",
    ),
    Command("client", "reuseport.demo", "ask the servers of the demo, five times a second"),
    Command("lesson", "reuseport.lesson", "SO_REUSEADDR and SO_REUSEPORT in three tests (seed 2)"),
    Command(
        "matrix",
        "reuseport.matrix",
        "who may bind beside whom: every pair of options and addresses, against the rule",
    ),
    Command("fair", "reuseport.fair", "how evenly listeners share connections"),
    Command("roll", "reuseport.roll", "rolling restarts under load: who is lost"),
    Command("who", "reuseport.inspect", "who listens on a port, and what is wrong with it"),
    Command("audit", "reuseport._audit", "any server under restarts, in a private namespace: who is lost"),
)


def main(argv: Sequence[str] | None = None) -> int:
    return cli.entry(lambda: run(argv), "reuseport")


def run(argv: Sequence[str] | None) -> int:
    with contextlib.suppress(ValueError):  # another thread than the main one
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children would end without a status
    command, words = cli.choose(
        COMMANDS,
        argv,
        prog="reuseport",
        description="Does my listening port share fairly, and lose nobody at a restart?",
        version=f"reuseport of mptcp-sockopt {__version__}",
        epilog="Exit status of measuring commands: 0 pass, 1 fail, 2 usage, 3 cannot run here, or nothing "
        "proven. Of any command: 3 for what is missing, 70 for a fault of its own.",
    )
    room = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=f"reuseport {command.name}",
        description=f"{command.purpose[0].upper()}{command.purpose[1:]}.",
    )
    parser.set_defaults(command=command.name)
    room.add_arguments(parser, command.name)
    options = room.Options(**vars(cli.parsed(parser, words)))
    cli.need_streams("stderr" if command.module == "reuseport.demo" else "stdout")
    code: int = room.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
