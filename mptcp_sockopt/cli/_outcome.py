# SPDX-License-Identifier: MIT
"""How a command ends: exit codes, Ctrl-C, output that cannot be written. And parsers for numbers and ports.

``mptcp_sockopt.cli`` exports these names for every command of this project.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

PASS, FAIL, USAGE, CANNOT = 0, 1, 2, 3  # exit codes of commands that measure
BUG = 70  # exit code for an error in this program (EX_SOFTWARE in sysexits.h)


class CannotRun(Exception):  # noqa: N818  # an outcome: exit code 3
    """What is missing here, as a sentence: a privilege, a kernel feature, a program."""


def entry(main: Callable[[], int], name: str) -> int:
    """Call main; returns its exit code, no matter how it ends. The caller passes it to sys.exit().

    Ctrl-C and a closed pipe end it quietly, with the exit codes that a shell uses for their signals.
    SystemExit comes from argparse, after it printed help, version or a usage error. ended_by() handles all
    other exceptions.
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
    """How an unexpected exception ends a command: prints a message and returns the exit code.

    Commands handle the errors that are a result of their measurement, or of a server. Any other OSError or
    MemoryError means that this machine lacks something. Everything else is an error in this program, and is
    shown with its traceback.
    """
    missing = isinstance(error, (CannotRun, OSError, MemoryError))
    with contextlib.suppress(OSError):  # nobody reads standard error
        if missing:
            # If standard error is closed (None), print() would silently use standard output.
            print(f"{name}: cannot run here: {escaped(reason(error))}", file=sys.stderr or sys.stdout)
        else:
            import traceback  # an expensive import, for an error that nobody should see

            traceback.print_exception(error)
    return CANNOT if missing else BUG


def reason(error: BaseException) -> str:
    """What is missing, as a sentence, from what the system refused."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{error}: `ulimit -n` is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}, and more are needed"
    return str(error) or type(error).__name__


def escaped(text: str) -> str:
    """Text with everything escaped that a terminal might obey; lines stay lines.

    Sentences quote names of files, which may come from another user: ``plot /tmp/*``.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


# -------------------------------------------------------------------------------------------- streams


def need_streams(answers: str) -> None:
    """CannotRun if the stream that a command answers on ("stdout" or "stderr") is closed.

    If another standard stream is closed, /dev/null takes its place from now on. Otherwise a socket would get
    its number, and would be written to, or inherited where everything but 0, 1 and 2 is closed.
    """
    if getattr(sys, answers) is None:
        raise CannotRun(f"{answers} is closed, so the result cannot be written")
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # stays open until the process ends


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turns write errors into BrokenPipeError if nobody reads standard output, and else into CannotRun."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotRun(f"standard output: {error}") from None


def _flush() -> None:
    if sys.stdout:  # None if closed
        with writing():
            sys.stdout.flush()


def _give_up_writing() -> None:
    """Discard buffered output that could not be written: the interpreter would try again at exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# ---------------------------------------------------------------------------------------- for argparse


class Parser(argparse.ArgumentParser):
    """Its usage errors quote words with control characters escaped."""

    def error(self, message: str) -> NoReturn:
        super().error(escaped(message))


N = TypeVar("N", int, float)


def positive(kind: type[N], most: N | None = None) -> Callable[[str], N]:
    """A parser for numbers above 0, and up to most."""

    def parse(text: str) -> N:
        number = _number(kind, text, lambda number: 0 < number < float("inf"), "is not a number above 0")
        if most is not None and number > most:
            raise argparse.ArgumentTypeError(f"{text!r} is more than {most}")
        return number

    return parse


def between(kind: type[N], least: N, most: N) -> Callable[[str], N]:
    """A parser for numbers from least to most."""
    otherwise = f"is not a number from {least} to {most}"
    return lambda text: _number(kind, text, lambda number: least <= number <= most, otherwise)


def port(text: str) -> int:
    """Parse a port number, 1 to 65535."""
    return _number(int, text, lambda number: 0 < number < 65536, "is not a port number (1 to 65535)")


def host_and_port(text: str) -> tuple[str, int]:
    """Parse HOST:PORT; an IPv6 address stands in brackets, and the host may be empty."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host.removeprefix("[").removesuffix("]")
    elif ":" in host:
        raise argparse.ArgumentTypeError(f"{text!r}: an IPv6 address is written in brackets: [::1]:80")
    if not (colon and port.isascii() and port.isdecimal() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def between_samples(text: str) -> float:
    """Parse seconds between two samples, 0.001 to 86400."""
    return between(float, 0.001, 86_400)(text)


def _number(kind: type[N], text: str, holds: Callable[[N], bool], otherwise: str) -> N:
    with contextlib.suppress(ValueError):
        if holds(number := kind(text)):
            return number
    raise argparse.ArgumentTypeError(f"{text!r} {otherwise}")
