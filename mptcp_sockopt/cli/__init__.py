# SPDX-License-Identifier: MIT
"""The command line: ``mptcp-sockopt``, or ``python -m mptcp_sockopt``.

One table says which commands there are. The room of a command is imported when the command is chosen, and
gets the words behind its name. entry() and the parsers of words serve the project's other commands too.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import mptcp_sockopt as mp

from ._outcome import (
    BUG,
    CANNOT,
    FAIL,
    PASS,
    USAGE,
    CannotRun,
    between,
    ended_by,
    entry,
    need_streams,
    port,
    positive,
    reason,
    writing,
)
from ._table import Command, choose, parsed

__all__ = [
    "BUG",
    "CANNOT",
    "COMMANDS",
    "FAIL",
    "PASS",
    "USAGE",
    "CannotRun",
    "Command",
    "between",
    "choose",
    "ended_by",
    "entry",
    "main",
    "need_streams",
    "parsed",
    "port",
    "positive",
    "reason",
    "writing",
]

# Each room has main(argv) -> exit code.
COMMANDS = (
    Command(
        "selftest",
        "mptcp_sockopt.selftest.__main__",
        "test this machine's kernel: the kernel's own checks, and more",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that argv names; its exit code, however it ends."""
    return entry(lambda: _run(argv), "mptcp-sockopt")


def _run(argv: Sequence[str] | None) -> int:
    command, words = choose(
        COMMANDS,
        argv,
        prog="mptcp-sockopt",
        description="What is Linux doing with my Multipath TCP connection?",
        version=f"mptcp-sockopt {mp.__version__}",
    )
    code: int = importlib.import_module(command.module).main(words)
    return code
