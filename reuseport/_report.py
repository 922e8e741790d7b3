# SPDX-License-Identifier: MIT
"""What commands have in common: options, and how they report: text or one JSON object, with a verdict."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from mptcp_sockopt.cli import CANNOT, FAIL, PASS, escaped, writing

_WORDS = {PASS: "PASS", FAIL: "FAIL", CANNOT: "NOT PROVEN"}


def add_sockets(parser: argparse.ArgumentParser) -> None:
    """--mptcp and -6: the kind of sockets."""
    parser.add_argument("--mptcp", action="store_true", help="MPTCP instead of TCP")
    parser.add_argument(
        "-6",
        dest="family",
        action="store_const",
        const=socket.AF_INET6,
        default=socket.AF_INET,
        help="IPv6 instead of IPv4",
    )


def add_numbers(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    *options: tuple[str, Callable[[str], float], float, str, str],
) -> None:
    """Options that take a number: flag, parser, default, unit or N, help."""
    for flag, kind, default, unit, words in options:
        words = f"{words} (default: {default})"
        parser.add_argument(flag, type=kind, default=default, metavar=unit, help=words)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def verdict_line(name: str, sentence: str, code: int) -> str:
    """``NAME: PASS: what was found``, the last line of every measuring command."""
    return f"{name.upper()}: {_WORDS[code]}: {sentence}"


def show(text: str) -> None:
    """Print at once what may have names in it, also in a locale that has not all letters."""
    encoding = sys.stdout.encoding or "utf-8"
    print(escaped(text).encode(encoding, "replace").decode(encoding), flush=True)


class Options(Protocol):
    """What the options of every measuring command have in common."""

    @property
    def command(self) -> str: ...
    @property
    def json(self) -> bool: ...


def finish(
    options: Options,
    found: Mapping[str, object],
    lines: Iterable[str],
    sentence: str,
    code: int,
) -> int:
    """Print what was found, and return the code: with --json one object, else the lines and the verdict."""
    verdict = verdict_line(options.command, sentence, code)
    with writing():
        if options.json:
            print(json.dumps({"schema": 1, "command": options.command, "verdict": verdict, **found}))
        else:
            show("\n".join([*lines, verdict]))
    return code
