# SPDX-License-Identifier: MIT
"""How every command here ends: text for people or one JSON object, a verdict line, an exit code."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

PASS, FAIL, USAGE, CANNOT = 0, 1, 2, 3  # exit codes of measuring commands
_WORDS = {PASS: "PASS", FAIL: "FAIL", CANNOT: "NOT PROVEN"}


class CannotRun(Exception):  # noqa: N818  # an outcome: exit code 3
    """What is missing here, in a sentence: a privilege, a kernel feature, a program."""


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
    if options.json:
        print(json.dumps({"schema": 1, "command": options.command, "verdict": verdict, **found}))
    else:
        for line in lines:
            print(line)
        print(verdict)
    return code
