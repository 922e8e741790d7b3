# SPDX-License-Identifier: MIT
"""``python -m tests.kernels``: boot every row, print tables, fail if a row is not as expected."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from mptcp_sockopt import cli

from . import boot, table
from . import options as socket_options
from .debian import Apt, NotServed, Package, Unobtainable, first_served, kernels, mirrors
from .image import image, image_of_row
from .rows import ARCHES, ROWS, SMALL, Row, expectations
from .verdict import BROKEN, FAIL, GONE, Outcome, broken, judge, unobtainable
from .wheels import build, wheel_in

PLANTS = ("fail", "crash", "hang", "panic", "poweroff", "figure", "gone")


class Options(NamedTuple):
    """The words of the command."""

    only: str
    small: bool
    jobs: int
    cache: Path
    wheels: Path | None
    json: Path | None
    list: bool
    offline: bool
    limit: float
    record: Path | None
    write_docs: bool
    ask: bool
    roll: bool
    plant: str


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kernels",
        description="Boot real Debian kernels under qemu and test the project's wheel in each.",
        epilog="Exit status: 0 if every row is ok, or GONE and not required; 1 if not; 2 usage.",
    )
    parser.add_argument("--only", metavar="REGEX", default="", help="run the rows whose ARCH-SERIES matches")
    parser.add_argument("--small", action="store_true", help="run only the five rows that differ most")
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="guests at a time (default 2)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mptcp-sockopt" / "kernels"
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, default=cache, help=f"downloads and logs (default {cache})"
    )
    parser.add_argument(
        "--wheels", metavar="DIR", type=Path, help="use these wheels instead of building them"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows to FILE, too")
    parser.add_argument("--list", action="store_true", help="list the rows and their packages, and exit")
    parser.add_argument("--offline", action="store_true", help="use the indexes in the cache; ask no mirror")
    parser.add_argument(
        "--limit", metavar="SECONDS", type=float, default=1200, help="time for one guest (default 1200)"
    )
    parser.add_argument("--record", metavar="DIR", type=Path, help="write the bytes of each kernel to DIR")
    parser.add_argument("--write-docs", action="store_true", help="write docs/kernels and docs/options")
    parser.add_argument(
        "--ask", action="store_true", help="ask each kernel what it answers, and run no tests: in a minute"
    )
    parser.add_argument("--roll", action="store_true", help="run reuseport roll instead of the tests")
    # For tests of this command: something that must not pass.
    parser.add_argument("--plant", choices=PLANTS, default="", help=argparse.SUPPRESS)
    return parser


class Workshop:
    """What rows of one architecture share, made once, when the first of them needs it."""

    def __init__(self, arch: str, options: Options, archives: tuple[str, str]) -> None:
        self._arch, self._options = arch, options
        self._lock = threading.Lock()
        self._image: Path | None = None
        self.apt = Apt(options.cache, arch, archives)
        if not options.offline:
            self.apt.update()
        self._packages = self.apt.packages()
        self.kernels: dict[str, list[Package]] = kernels(self._packages, ARCHES[arch].flavour)

    def kernel(self, series: str) -> tuple[Package, Path]:
        """The newest kernel of a series that the mirror serves, and the folder with what is had of it."""
        return first_served(self.apt, self.kernels[series], self._packages)

    def image(self) -> Path:
        with self._lock:
            if self._image is None:
                options = self._options
                wheels = options.wheels or build(options.cache, self._arch)
                self._image = image(self.apt, self._packages, wheel_in(wheels, self._arch), options.cache)
            return self._image


class Matrix:
    """The rows of one run."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.running = boot.Running()
        self.expected = expectations()
        self.workshops: dict[str, Workshop | Unobtainable] = {}
        rows = [row for row in ROWS if re.search(options.only, row.name)]
        self._prepare(dict.fromkeys(row.arch for row in rows))
        if options.small:
            small = {self._first_had(names) for names in SMALL}
            rows = [row for row in rows if row.name in small]
        self.rows = rows

    def _prepare(self, arches: dict[str, None]) -> None:
        for arch in arches:
            try:
                self.workshops[arch] = Workshop(arch, self.options, mirrors())
            except Unobtainable as error:
                self.workshops[arch] = error

    def _first_had(self, names: list[str]) -> str:
        had = [row.name for row in ROWS if row.name in names and self.workshop(row)]
        return next((name for name in names if name in had), names[0])

    def workshop(self, row: Row) -> Workshop | None:
        """Where that row's kernel is to be had."""
        workshop = self.workshops.get(row.arch)
        if not isinstance(workshop, Workshop) or self.options.plant == "gone":
            return None
        return workshop if row.series in workshop.kernels else None

    def run(self, row: Row) -> Outcome:
        """One row from package to verdict."""
        options = self.options
        problem = boot.missing_qemu(row.arch)
        if problem:
            return broken(row, problem)
        workshop = self.workshop(row)
        if workshop is None:
            error = self.workshops[row.arch]
            why = f"no kernel of {row.series} in {ARCHES[row.arch].suites}"
            return unobtainable(row, str(error) if isinstance(error, Unobtainable) else why)
        try:
            package, kernel = workshop.kernel(row.series)
            common = workshop.image()
        except NotServed as error:
            return unobtainable(row, str(error))
        except Unobtainable as error:
            return broken(row, str(error))
        logs, root = options.cache / "logs", options.cache / f"image-{row.name}.cpio"
        try:
            image_of_row(common, kernel, root)
            told = {"PLANT": options.plant, "ASK": "1" * options.ask, "ROLL": "1" * options.roll}
            told = {name: value for name, value in told.items() if value}
            ending = boot.boot(row, kernel / "vmlinuz", root, logs, options.limit, self.running, told)
        finally:
            root.unlink(missing_ok=True)
        expected = self.expected.get(row.name)
        if options.plant == "figure" and expected:
            expected = {**expected, "tcp_info": 1}
        outcome = judge(row, expected, ending, package.version, options.ask)
        otherwise = socket_options.different(outcome, socket_options.load())
        if not otherwise or outcome.bad:
            return outcome
        return outcome._replace(verdict=FAIL, reasons=otherwise)

    def run_all(self) -> Iterator[Outcome]:
        """Outcomes as they come."""
        with concurrent.futures.ThreadPoolExecutor(max(1, self.options.jobs)) as executor:
            try:
                # Those that take longest first: another processor is emulated at a half of the speed.
                rows = sorted(self.rows, key=lambda row: row.arch in ("amd64", "i386"))
                futures = [executor.submit(self.run, row) for row in rows]
                for future in concurrent.futures.as_completed(futures):
                    yield future.result()
            except BaseException:
                self.running.stop()
                executor.shutdown(wait=True, cancel_futures=True)
                raise


@contextlib.contextmanager
def alone(cache: Path) -> Iterator[None]:
    """One run at a time in one cache."""
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run uses {cache}: waiting for it to end", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def no_row() -> int:
    print("no row matches; --list names them", file=sys.stderr)
    return 2


def show_list(matrix: Matrix) -> int:
    for row in matrix.rows:
        workshop, what = matrix.workshop(row), GONE
        if workshop:
            package = workshop.kernels[row.series][0]
            what = f"{package.name} {package.version}, {package.size / 1e6:.1f} MB"
        print(f"{row.arch:7} {row.series:5} {'required' if row.required else 'optional':9} {what}")
    return 0 if matrix.rows else no_row()


def report(outcomes: list[Outcome], options: Options, complete: bool) -> int:
    """The table, the files, the exit status."""
    order = {row: number for number, row in enumerate(ROWS)}
    outcomes.sort(key=lambda outcome: order[outcome.row])
    records = [table.record_of(outcome) for outcome in outcomes]
    for columns in table.TABLES:
        print("\n" + table.markdown(records, columns), end="")
    print("\n" + table.left_out(outcomes))
    for outcome in outcomes:
        for text in outcome.rolls:
            print(f"{outcome.row.name}: {text}")
    if options.json:
        options.json.write_text(table.to_json(records))
    for outcome in outcomes:
        if options.record and not outcome.bad:
            table.write_vectors(outcome, options.record)
    bad = [outcome.row.name for outcome in outcomes if outcome.bad]
    gone = [outcome.row.name for outcome in outcomes if outcome.verdict == GONE]
    if options.write_docs:
        socket_options.write_docs([outcome for outcome in outcomes if outcome.verdict != BROKEN])
    if options.write_docs and not options.ask:
        if complete and not bad:
            table.write_docs(records)
        else:
            print("docs/kernels.md is not written: that takes a full run in which all is ok", file=sys.stderr)
            bad = bad or ["the docs"]
    summary = f"{len(outcomes)} rows: {len(outcomes) - len(bad) - len(gone)} ok"
    for name, rows in (("gone", gone), ("not ok", bad)):
        if rows:
            summary += f"; {name}: {', '.join(rows)}"
    print(summary)
    return 1 if bad else 0


def terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    commands = parser()
    options = Options(**vars(commands.parse_args(argv)))
    if options.write_docs and not options.ask and (options.only or options.small or options.plant):
        commands.error("--write-docs needs all rows: leave out --only and --small, or add --ask")
    options = options._replace(
        cache=options.cache.resolve(),
        wheels=options.wheels and options.wheels.resolve(),
        record=options.record and options.record.resolve(),
        ask=options.ask or options.roll,
    )
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.list:
        return show_list(Matrix(options))
    signal.signal(signal.SIGTERM, terminated)
    start = time.monotonic()
    try:
        with alone(options.cache):
            matrix = Matrix(options)
            if not matrix.rows:
                return no_row()
            outcomes = []
            for outcome in matrix.run_all():
                outcomes.append(outcome)
                print(f"[{len(outcomes)}/{len(matrix.rows)}] {table.line(outcome)}", flush=True)
            code = report(outcomes, options, len(matrix.rows) == len(ROWS) and not options.plant)
            print(f"{time.monotonic() - start:.0f} s")
            return code
    except KeyboardInterrupt:
        print("stopped; no guest is left running", file=sys.stderr)
        raise


if __name__ == "__main__":
    sys.exit(cli.entry(main, "tests.kernels"))
