# SPDX-License-Identifier: MIT
"""run: a program as it is, with MPTCP in the place of TCP."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._border import seccomp
from ._program import OURS, ProgramParser, become, say
from ._table import parsed

_NAME = "mptcp-sockopt run"


def parser() -> argparse.ArgumentParser:
    made = ProgramParser(
        prog=_NAME,
        usage="%(prog)s [-h] [--verbose] [--strict] -- CMD ...",
        description="Run a program as it is, with MPTCP in the place of TCP: each TCP socket that it or its "
        "children make is an MPTCP socket. Where MPTCP is refused, the socket stays TCP. This works for "
        "static programs too and needs no privilege, but it needs Linux 5.14 and /proc. The program replaces "
        "this command: it has its PID, terminal and signals. A supervisor, which ends with the last of these "
        "processes, makes the sockets.",
        epilog="Limits: unless you are root, setuid programs that CMD starts gain nothing (no_new_privs). "
        "socket() may fail with EINTR. If the supervisor is killed, socket() fails with ENOSYS. Sockets have "
        "the supervisor's cgroup and security label, and Landlock's rules for TCP do not hold for them. CMD "
        "cannot have a seccomp listener. 32-bit programs on a 64-bit kernel, sockets of io_uring "
        "and other network namespaces stay TCP. Exit status: 125 usage, or this command cannot work, 126 CMD "
        "cannot be executed, 127 CMD was not found; any other is that of CMD.",
    )
    made.add_argument(
        "--verbose", action="store_true", help="at the end, print how many sockets were made or passed on"
    )
    made.add_argument(
        "--strict",
        action="store_true",
        help="no TCP instead: CMD gets the kernel's error where MPTCP is refused, and does not start where "
        "this command cannot work",
    )
    made.add_argument("command", metavar="CMD", nargs="*", help="a program and its arguments")
    return made


def main(argv: Sequence[str]) -> int:
    at = next((at for at, word in enumerate(argv) if word in ("-", "--") or word[:1] != "-"), len(argv))
    made = parser()
    options = parsed(made, argv[:at])
    command = argv[at + (argv[at : at + 1] == ["--"]) :]
    if not command:
        made.error("CMD is missing")
    try:
        begun = seccomp.begin(strict=options.strict, report=_stderr() if options.verbose else -1)
    except OSError as error:
        goes_on = not (options.strict or isinstance(error, seccomp.BrokenError))
        say(_NAME, f"{error.strerror}; {command[0]} runs on TCP" if goes_on else f"{error.strerror}")
        if not goes_on:
            return OURS
    else:
        if options.verbose and not begun:
            say(_NAME, "an outer run makes the sockets, and counts them")
    return become(_NAME, command)


def _stderr() -> int:
    return sys.stderr.fileno() if sys.stderr else -1
