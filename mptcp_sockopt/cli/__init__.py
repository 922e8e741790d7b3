# SPDX-License-Identifier: MIT
"""The command line: ``mptcp-sockopt``, or ``python -m mptcp_sockopt``.

COMMANDS lists the commands. A command's module is imported only when the command is chosen, and gets the
arguments after its name. entry() and the argument parsers are also used by the project's other commands.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

import mptcp_sockopt as mp

from ._outcome import BUG as BUG
from ._outcome import CANNOT as CANNOT
from ._outcome import FAIL as FAIL
from ._outcome import PASS as PASS
from ._outcome import USAGE as USAGE
from ._outcome import CannotRun as CannotRun
from ._outcome import Parser as Parser
from ._outcome import between as between
from ._outcome import ended_by as ended_by
from ._outcome import entry as entry
from ._outcome import escaped as escaped
from ._outcome import need_streams as need_streams
from ._outcome import port as port
from ._outcome import positive as positive
from ._outcome import reason as reason
from ._outcome import writing as writing
from ._table import Command as Command
from ._table import choose as choose
from ._table import parsed as parsed
from ._table import parser_of as parser_of

# Each module has parser(), and main(argv), which returns the exit code.
COMMANDS = (
    Command("show", "mptcp_sockopt.cli.show", "every MPTCP connection with its paths, and why it fell back"),
    Command("watch", "mptcp_sockopt.cli.watch", "the same with rates, full screen; or a recording again"),
    Command("events", "mptcp_sockopt.cli.events", "connections, paths and addresses that come and go"),
    Command("check", "mptcp_sockopt.cli.check", "can this host, does that peer, and if not, why?"),
    Command("record", "mptcp_sockopt.cli.record", "samples and events of the connections, into a file"),
    Command("plot", "mptcp_sockopt.cli.plot", "a picture of a recorded connection and its paths"),
    Command("doctor", "mptcp_sockopt.cli.doctor", "how MPTCP is set up here, and what is wrong with it"),
    Command("export", "mptcp_sockopt.cli.export", "metrics for Prometheus: connections, fallbacks, paths"),
    Command("run", "mptcp_sockopt.cli.run", "a program as it is, with MPTCP in the place of TCP"),
    Command("listen", "mptcp_sockopt.cli.listen", "a server with an MPTCP listener that it need not make"),
    Command("selftest", "mptcp_sockopt.selftest.__main__", "test this kernel: its own checks and more"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that argv names; returns its exit code, no matter how it ends."""
    return entry(lambda: _run(argv), "mptcp-sockopt")


def parser() -> argparse.ArgumentParser:
    """The parser of the words before a command's own."""
    return parser_of(
        COMMANDS,
        prog="mptcp-sockopt",
        description="What is Linux doing with my Multipath TCP connection?",
        version=f"mptcp-sockopt {mp.__version__}",
        epilog="Exit status of most commands: 0 yes or done, 1 no, 2 usage, 3 cannot tell or cannot run "
        "here, 70 a bug of its own.",
    )


def _run(argv: Sequence[str] | None) -> int:
    command, words = choose(COMMANDS, parser(), argv)
    code: int = importlib.import_module(command.module).main(words)
    return code
