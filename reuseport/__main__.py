# SPDX-License-Identifier: MIT
"""python -m reuseport: one subcommand a purpose; see each one's --help."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
from collections.abc import Sequence

from mptcp_sockopt import __version__

from ._report import ended_by, flush, give_up_writing, need_streams, parsed

# Command, room, and what it is for. Each room has add_arguments(parser, command) and run(options).
COMMANDS = (
    ("demo", "demo", "five generations of servers share a port (seed 1: ./test.sh; --fork: ./multi)"),
    ("serve", "demo", "one server that forks generations; --nofork --gen N: one generation"),
    ("client", "demo", "ask the servers of the demo, five times a second"),
    ("lesson", "lesson", "SO_REUSEADDR and SO_REUSEPORT in three tests (seed 2)"),
    ("matrix", "matrix", "who may bind beside whom: every pair of options and addresses, against the rule"),
    ("fair", "fair", "how evenly listeners share connections"),
    ("roll", "roll", "rolling restarts under load: who is lost"),
    ("who", "inspect", "who listens on a port, and what is wrong with it"),
    ("audit", "inspect", "any server under restarts, in a private namespace: who is lost"),
)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reuseport",
        description="Does my listening port share fairly, and lose nobody at a restart?",
        epilog="Exit status of measuring commands: 0 pass, 1 fail, 2 usage, 3 cannot run here, or "
        "nothing proven. Of any command: 3 for what is missing, 70 for a fault of its own.",
    )
    parser.add_argument("--version", action="version", version=f"reuseport of mptcp-sockopt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, room, purpose in COMMANDS:
        sub = commands.add_parser(command, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        module = importlib.import_module(f"reuseport.{room}")
        module.add_arguments(sub, command)
        sub.set_defaults(run=module.run, answers="stderr" if room == "demo" else "stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        with contextlib.suppress(ValueError):  # another thread than the main one
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children would end without a status
        options = parsed(parser(), argv)
        need_streams(options.answers)
        code: int = options.run(options)
        flush()
        return code
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        return ended_by(error)
    finally:
        give_up_writing()


if __name__ == "__main__":
    sys.exit(main())
