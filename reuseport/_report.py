# SPDX-License-Identifier: MIT
"""How every command here ends: text for people or one JSON object, a verdict line, an exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

PASS, FAIL, USAGE, CANNOT = 0, 1, 2, 3  # exit codes of measuring commands
BUG = 70  # and of a fault of this program (EX_SOFTWARE of sysexits.h), which is no answer
_WORDS = {PASS: "PASS", FAIL: "FAIL", CANNOT: "NOT PROVEN"}


class CannotRun(Exception):  # noqa: N818  # an outcome: exit code 3
    """What is missing here, in a sentence: a privilege, a kernel feature, a program."""


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; or SystemExit when help, version or a usage error is written. Raises as flush() does."""
    unbuffered = isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.write_through
    if unbuffered:  # argparse is silent about what it cannot write, and the flush below would not know
        sys.stdout.reconfigure(write_through=False)  # type: ignore[union-attr]
    try:
        return parser.parse_args(argv)
    except SystemExit:
        flush()
        raise
    finally:
        if unbuffered:
            sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]


def flush() -> None:
    """Write what was printed: BrokenPipeError where nobody reads it, CannotRun where it cannot be written."""
    if sys.stdout:  # else it is closed
        with _writing():
            sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotRun(f"standard output: {error}") from None


def give_up_writing() -> None:
    """What could not be written stays in a buffer: keep the interpreter from trying again at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def reason(error: BaseException) -> str:
    """What is missing, in a sentence, by what the system refused."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{error}: `ulimit -n` is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}, and more are needed"
    return str(error) or type(error).__name__


def ended_by(error: Exception) -> int:
    """The one rule of how what nobody expected ends a command; says it, and gives the exit code.

    A room deals with the errors that are an answer of its measure, or of a server. Any other that the system
    gives is something that is missing here. What is left is a fault of this program, and shows its traceback.
    """
    missing = isinstance(error, (CannotRun, OSError, MemoryError))
    with contextlib.suppress(OSError):  # nobody is there to hear it
        if missing:
            # Without standard error, print() would choose standard output by itself.
            print(f"reuseport: cannot run here: {reason(error)}", file=sys.stderr or sys.stdout)
        else:
            traceback.print_exception(error)
    return CANNOT if missing else BUG


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


N = TypeVar("N", int, float)


def positive(kind: type[N]) -> Callable[[str], N]:
    """For argparse: a number above 0."""

    def parse(text: str) -> N:
        try:
            number = kind(text)
        except ValueError:
            number = kind(0)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return number

    return parse


def verdict_line(name: str, sentence: str, code: int) -> str:
    """``NAME: what was found: PASS``, the last line of every measuring command."""
    return f"{name.upper()}: {sentence}: {_WORDS[code]}"


def finish(
    options: argparse.Namespace, found: Mapping[str, object], lines: Iterable[str], sentence: str, code: int
) -> int:
    """Print what was found: with --json one object on stdout, else the lines and the verdict."""
    verdict = verdict_line(options.command, sentence, code)
    with _writing():
        if options.json:
            print(json.dumps({"schema": 1, "command": options.command, "verdict": verdict, **found}))
        else:
            for line in lines:
                print(line)
            print(verdict)
    return code
