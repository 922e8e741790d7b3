# SPDX-License-Identifier: MIT
"""Becoming another program, with exit codes as those of env(1)."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .._border import seccomp
from ._outcome import Parser, escaped

OURS, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


class ProgramParser(Parser):
    """One whose usage errors are not mistaken for the program's."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(OURS, f"{self.prog}: error: {escaped(message)}\n")


def become(name: str, command: Sequence[str]) -> int:
    """Does not return if that succeeds. Otherwise says why and returns the exit code."""
    _forget_locale()
    failed = seccomp.execute(command)
    say(name, f"{command[0]}: {failed.strerror}")
    return NOT_FOUND if failed.errno == errno.ENOENT else NOT_EXECUTABLE


def say(name: str, text: str) -> None:
    """On standard error, if somebody reads it; control characters escaped."""
    if sys.stderr:
        with contextlib.suppress(OSError):  # a full disk does not keep the program from its work
            print(f"{name}: {escaped(text)}", file=sys.stderr, flush=True)


def _forget_locale() -> None:
    """Take back what Python did to LC_CTYPE, for the C locale (PEP 538), before the program inherits it."""
    try:
        with open("/proc/self/environ", "rb") as file:
            before = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0"))
    except OSError:
        return
    if os.environb.get(b"LC_CTYPE") in (b"C.UTF-8", b"C.utf8", b"UTF-8"):
        if b"LC_CTYPE" in before:
            os.environb[b"LC_CTYPE"] = before[b"LC_CTYPE"]
        else:
            del os.environb[b"LC_CTYPE"]
