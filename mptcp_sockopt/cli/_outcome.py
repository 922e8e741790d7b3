# SPDX-License-Identifier: MIT
"""How a command ends, and what its words may be: exit codes, Ctrl-C, a closed pipe, numbers, ports.

Public as names of ``mptcp_sockopt.cli``, for every command of this project.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

PASS, FAIL, USAGE, CANNOT = 0, 1, 2, 3  # exit codes of measuring commands


class CannotRun(Exception):  # noqa: N818  # an outcome: exit code 3
    """What is missing here, in a sentence: a privilege, a kernel feature, a program."""


def entry(main: Callable[[], int], name: str) -> int:
    """Call main; its exit code, however it ends.

    CannotRun, and an UnavailableError of ``testing``, is a sentence on stderr and CANNOT. Ctrl-C and a closed
    pipe end it quietly, with the codes that a shell gives for their signals. The caller hands the code to
    sys.exit().
    """
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()  # of --help too, which argparse ends with SystemExit
    except CannotRun as missing:
        print(f"{name}: cannot run here: {missing}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Nothing more can be said; keep the interpreter from trying when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        from .. import testing  # nothing else here needs it

        if not isinstance(error, (testing.UnavailableError, testing.ChildDiedError)):
            raise
        print(f"{name}: cannot run here: {error}", file=sys.stderr)
        return CANNOT


# ---------------------------------------------------------------------------------------- for argparse

N = TypeVar("N", int, float)


def positive(kind: type[N], most: N | None = None) -> Callable[[str], N]:
    """A number above 0, and at most so large."""

    def parse(text: str) -> N:
        number = _number(kind, text)
        if number is None or not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        if most is not None and number > most:
            raise argparse.ArgumentTypeError(f"{text!r} is more than {most}")
        return number

    return parse


def between(kind: type[N], least: N, most: N) -> Callable[[str], N]:
    """A number from least to most."""

    def parse(text: str) -> N:
        number = _number(kind, text)
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return number

    return parse


def port(text: str) -> int:
    """A port number, 1 to 65535."""
    number = _number(int, text)
    if number is None or not 0 < number < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 1 to 65535")
    return number


def _number(kind: type[N], text: str) -> N | None:
    try:
        return kind(text)
    except ValueError:
        return None
