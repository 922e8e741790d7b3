# SPDX-License-Identifier: MIT
"""The command line: ``mptcp-sockopt``, or ``python -m mptcp_sockopt``.

One table says which commands there are. The room of a command is imported when the command is chosen, and
gets the words behind its name.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence

import mptcp_sockopt as mp

# Name, module with main(argv) -> exit code, and what it is for.
COMMANDS = (
    (
        "selftest",
        "mptcp_sockopt.selftest.__main__",
        "test this machine's kernel: the kernel's own checks, and more",
    ),
)


def parser() -> argparse.ArgumentParser:
    width = max(len(name) for name, _, _ in COMMANDS)
    parser = argparse.ArgumentParser(
        prog="mptcp-sockopt",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="What is Linux doing with my Multipath TCP connection?",
        epilog="commands:\n" + "\n".join(f"  {name:<{width}}  {purpose}" for name, _, purpose in COMMANDS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mptcp-sockopt {mp.__version__}")
    parser.add_argument(
        "command",
        metavar="COMMAND",
        choices=[name for name, _, _ in COMMANDS],
        help="one of those below; COMMAND --help says more",
    )
    words = parser.add_argument("words", metavar="...", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    words.required = False  # else it is named too where COMMAND is missing
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that argv names; its exit code."""
    options = parser().parse_args(argv)
    (module,) = [module for name, module, _ in COMMANDS if name == options.command]
    code: int = importlib.import_module(module).main(options.words)
    return code


def entry() -> None:
    """main() for the script and ``python -m``: Ctrl-C and a closed pipe end it quietly."""
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        # Nothing more can be said; keep the interpreter from trying when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    sys.exit(code)
