# SPDX-License-Identifier: MIT
"""``mptcp-sockopt plot``: a picture of one recorded connection and its paths."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ._blocks import size_of
from ._figure import figure, need_matplotlib
from ._files import replace
from ._outcome import PASS, CannotRun, Parser, need_streams
from ._page import page
from ._panels import Picture, picture_of
from ._recording import read_recording
from ._series import Entry, Found, series_of, survey
from ._table import parsed

DRAWN: dict[str, Callable[[Picture], bytes]] = {
    ".svg": lambda picture: figure(picture, "svg"),
    ".png": lambda picture: figure(picture, "png"),
    ".html": lambda picture: page(picture).encode(),
}
LISTED = 9  # other connections


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = Parser(
        prog="mptcp-sockopt plot",
        description="Draw a connection of a recording of `mptcp-sockopt record`: its goodput; and the rate, "
        "round-trip time, congestion window and unsent bytes of each path, with events. svg and png need "
        "matplotlib: pip install 'mptcp-sockopt[plot]'. html is one page for a browser, which zooms.",
        epilog="Exit status: 0 drawn, 2 usage, 3 cannot be drawn.",
    )
    parser.add_argument("file", metavar="FILE", help="a recording")
    parser.add_argument(
        "-o",
        dest="output",
        required=True,
        type=_output,
        metavar="FILE.svg|png|html",
        help="what to write, as the name ends",
    )
    parser.add_argument(
        "--connection",
        type=_token_or_number,
        metavar="TOKEN|N",
        help="the token of a connection, or its number, the busiest being 1 (default: 1)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    need_streams("stderr")
    options = parsed(parser(), argv)
    suffix = os.path.splitext(options.output)[1].lower()
    if suffix != ".html":
        need_matplotlib()  # before a long recording is read
    if os.path.exists(options.file) and not os.path.isfile(options.file):
        raise CannotRun(f"{options.file} is no regular file, and it has to be read twice")
    header, lines = read_recording(options.file)
    with contextlib.closing(lines), _as_written(options.file):
        connections = survey(_followed(lines))
    chosen = _chosen(connections, options.connection, options.file)
    header, lines = read_recording(options.file)
    with contextlib.closing(lines), _as_written(options.file):
        picture = picture_of(series_of(chosen, header, _followed(lines)))
        drawn = DRAWN[suffix](picture)
    # Who may read the recording may read its picture.
    replace(options.output, drawn, stat.S_IMODE(os.stat(options.file).st_mode) & 0o666)
    _tell(connections, chosen)
    return PASS


# -------------------------------------------------------------------------------------------- arguments


def _output(text: str) -> str:
    if os.path.splitext(text)[1].lower() not in DRAWN:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(DRAWN)}")
    return text


def _token_or_number(text: str) -> int:
    with contextlib.suppress(ValueError):
        number = int(text, 0)
        if 0 < number < 2**32:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is neither a token (such as 0x1f2e3d4c) nor a number from 1")


def _chosen(connections: Sequence[Found], wanted: int | None, file: str) -> Found:
    if not connections:
        raise CannotRun(f"{file} has no connection in it")
    tokens = {one.identity: one for one in connections}
    number = wanted or 1
    if number not in tokens and number > len(connections):
        there = "\n".join(_listed(connections))
        raise CannotRun(f"{file} has no connection {number:#x} ({number}). It has:\n{there}")
    chosen = tokens.get(number) or connections[number - 1]
    if chosen.samples < 2:
        raise CannotRun(f"{file} has one sample of {chosen.name}, and a rate takes two")
    return chosen


# ---------------------------------------------------------------------------------------------- reading


@contextlib.contextmanager
def _as_written(file: str) -> Iterator[None]:
    """CannotRun where a line is JSON, but not what `record` writes."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CannotRun(f"{file} is damaged: a line is not as `record` writes it ({error!r})") from None


def _followed(lines: Iterable[Entry]) -> Iterator[Entry]:
    """The same lines; after two seconds a terminal is told how many there were."""
    due, told = time.monotonic() + 2, False
    for number, line in enumerate(lines):
        if time.monotonic() > due and sys.stderr.isatty():
            print(f"\rmptcp-sockopt plot: {number:,} lines read", end="", file=sys.stderr, flush=True)
            due, told = due + 1, True
        yield line
    if told:
        print(file=sys.stderr)


# -------------------------------------------------------------------------------------------- sentences


def _tell(connections: Sequence[Found], chosen: Found) -> None:
    """Which of several connections was drawn."""
    if len(connections) == 1:
        return
    number = connections.index(chosen) + 1
    busiest = ", the busiest" if number == 1 else ""
    print(f"mptcp-sockopt plot: connection {number} of {len(connections)}{busiest}:", file=sys.stderr)
    print(*_listed([chosen]), "The others, for --connection:", sep="\n", file=sys.stderr)
    print(*_listed(connections, but=chosen), sep="\n", file=sys.stderr)


def _listed(connections: Sequence[Found], but: Found | None = None) -> list[str]:
    lines = []
    for number, one in enumerate(connections, 1):
        if one != but:
            token = f"{one.identity:#010x}" if isinstance(one.identity, int) else "no token"
            lines.append(f"  {number:>3}  {token:<10}  {size_of(one.moved):>7}  {one.name}")
    more = len(lines) - LISTED
    return [*lines[:LISTED], f"  and {more} more"] if more > 0 else lines
