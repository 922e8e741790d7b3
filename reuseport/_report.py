# SPDX-License-Identifier: MIT
"""How every measuring command here ends: text for people or one JSON object, a verdict line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Protocol

from mptcp_sockopt.cli import CANNOT, FAIL, PASS, writing

_WORDS = {PASS: "PASS", FAIL: "FAIL", CANNOT: "NOT PROVEN"}


def verdict_line(name: str, sentence: str, code: int) -> str:
    """``NAME: what was found: PASS``, the last line of every measuring command."""
    return f"{name.upper()}: {sentence}: {_WORDS[code]}"


class Options(Protocol):
    """What every measuring command is told."""

    @property
    def command(self) -> str: ...
    @property
    def json(self) -> bool: ...


def finish(
    options: Options, found: Mapping[str, object], lines: Iterable[str], sentence: str, code: int
) -> int:
    """Print what was found: with --json one object on stdout, else the lines and the verdict."""
    verdict = verdict_line(options.command, sentence, code)
    with writing():
        if options.json:
            print(json.dumps({"schema": 1, "command": options.command, "verdict": verdict, **found}))
        else:
            for line in lines:
                print(line)
            print(verdict)
    return code
