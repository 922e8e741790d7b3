# SPDX-License-Identifier: MIT
"""How a command ends, and what its words may be: exit codes, Ctrl-C, what cannot be written, numbers, ports.

Public as names of ``mptcp_sockopt.cli``, for every command of this project.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

PASS, FAIL, USAGE, CANNOT = 0, 1, 2, 3  # exit codes of measuring commands
BUG = 70  # and of a fault of this program (EX_SOFTWARE of sysexits.h), which is no answer


class CannotRun(Exception):  # noqa: N818  # an outcome: exit code 3
    """What is missing here, in a sentence: a privilege, a kernel feature, a program."""


def entry(main: Callable[[], int], name: str) -> int:
    """Call main; its exit code, however it ends. The caller hands it to sys.exit().

    Ctrl-C and a closed pipe end it quietly, with the codes that a shell gives for their signals. SystemExit
    is argparse's, once help, version or a usage error is written. What else is raised, ended_by() ends.
    """
    try:
        try:
            code = main()
        except SystemExit:
            _flush()
            raise
        _flush()
        return code
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        return ended_by(error, name)
    finally:
        _give_up_writing()


def ended_by(error: Exception, name: str) -> int:
    """The one rule of how what nobody expected ends a command; says it, and gives the exit code.

    A room deals with the errors that are an answer of its measure, or of a server. Any other that the system
    gives is something that is missing here. What is left is a fault of this program, and shows its traceback.
    """
    missing = isinstance(error, (CannotRun, OSError, MemoryError))
    with contextlib.suppress(OSError):  # nobody is there to hear it
        if missing:
            # Without standard error, print() would choose standard output by itself.
            print(f"{name}: cannot run here: {reason(error)}", file=sys.stderr or sys.stdout)
        else:
            traceback.print_exception(error)
    return CANNOT if missing else BUG


def reason(error: BaseException) -> str:
    """What is missing, in a sentence, by what the system refused."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{error}: `ulimit -n` is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}, and more are needed"
    return str(error) or type(error).__name__


# -------------------------------------------------------------------------------------------- streams


def need_streams(answers: str) -> None:
    """CannotRun without the stream, stdout or stderr, that a command answers on.

    In place of any other that is closed there is /dev/null from now on: a socket with its number would be
    written to, or kept where all but 0, 1 and 2 is closed.
    """
    if getattr(sys, answers) is None:
        raise CannotRun(f"{answers} is closed, where the answer goes")
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for the rest of the process


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """BrokenPipeError where nobody reads standard output, CannotRun where it cannot be written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotRun(f"standard output: {error}") from None


def _flush() -> None:
    if sys.stdout:  # else it is closed
        with writing():
            sys.stdout.flush()


def _give_up_writing() -> None:
    """What could not be written stays in a buffer: keep the interpreter from trying again at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# ---------------------------------------------------------------------------------------- for argparse

N = TypeVar("N", int, float)


def positive(kind: type[N], most: N | None = None) -> Callable[[str], N]:
    """A number above 0, and at most so large."""

    def parse(text: str) -> N:
        number = _number(kind, text, lambda number: 0 < number < float("inf"), "is not a number above 0")
        if most is not None and number > most:
            raise argparse.ArgumentTypeError(f"{text!r} is more than {most}")
        return number

    return parse


def between(kind: type[N], least: N, most: N) -> Callable[[str], N]:
    """A number from least to most."""
    otherwise = f"is not a number from {least} to {most}"
    return lambda text: _number(kind, text, lambda number: least <= number <= most, otherwise)


def port(text: str) -> int:
    """A port number, 1 to 65535."""
    return _number(int, text, lambda number: 0 < number < 65536, "is no port, 1 to 65535")


def _number(kind: type[N], text: str, holds: Callable[[N], bool], otherwise: str) -> N:
    with contextlib.suppress(ValueError):
        if holds(number := kind(text)):
            return number
    raise argparse.ArgumentTypeError(f"{text!r} {otherwise}")
