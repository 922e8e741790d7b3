# SPDX-License-Identifier: MIT
"""``mptcp-sockopt show``: every MPTCP connection with its paths, its processes, and why it fell back."""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import sys
from collections.abc import Sequence

from ._blocks import WIDTH, block, totals, troubled_first
from ._looks import Looks, Sample
from ._outcome import PASS, Parser, need_streams, port, positive
from ._table import parsed

SCHEMA = 1


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = Parser(
        prog="mptcp-sockopt show",
        description="Show every MPTCP connection of this network namespace: its peer, its processes, and for "
        "each path the local address, round-trip time, bytes acknowledged and received, and how it is. "
        "Connections with a trouble come first. Nothing is changed, and no privilege is needed; without it, "
        "the processes of other users are not shown.",
        epilog="Exit status: 0 if the question was answered, even if there is no such connection; 3 if this "
        "machine cannot answer it.",
    )
    parser.add_argument("--port", type=port, default=0, metavar="P", help="only connections with port P")
    parser.add_argument("--pid", type=positive(int), metavar="N", help="only connections of process N")
    parser.add_argument(
        "--all-states",
        action="store_true",
        help="also listeners, connections that ended, and subflows whose connection is gone",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object, with every field that the kernel reports"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    need_streams("stdout")
    options = parsed(parser(), argv)
    looks = Looks(
        options.port, options.pid, full=options.json, all_states=options.all_states, drawn=not options.json
    )
    sample = looks.look()
    if options.json:
        print(_json(sample))
    else:
        _print(sample, options)
        for sentence in sample.missing:
            print(f"mptcp-sockopt show: {sentence}", file=sys.stderr)
    gc.freeze()  # this process ends now, and would go through everything that it made once more
    return PASS


def _json(sample: Sample) -> str:
    encode = json.JSONEncoder(separators=(",", ":")).encode
    head = encode({"schema": SCHEMA, "time": round(sample.time, 6), "missing": sample.missing})
    # Thousands of connections take a quarter longer in one piece.
    connections = ",".join(map(encode, sample.connections))
    return f'{head[:-1]},"connections":[{connections}]}}'


def _print(sample: Sample, options: argparse.Namespace) -> None:
    if not sample.connections:
        of = f" of process {options.pid}" * (options.pid is not None)
        of += f" with port {options.port}" * bool(options.port)
        print(f"There is no MPTCP connection{of} in this network namespace.")
        return
    width = WIDTH
    if sys.stdout.isatty():
        width = min(width, shutil.get_terminal_size().columns)
    found = troubled_first(sample.connections)
    print("\n".join([line for connection in found for line in block(connection, width)]))
    print(totals(found))
