# SPDX-License-Identifier: MIT
"""Break the code on purpose, one place at a time, and check that the tests notice:

    python -m tests.mutants [--only REGEX] [--quarter WORD] [--jobs N] [--list]

Each mutation is applied to a copy of the checkout. If it is in C, the module is compiled again. Then the test
files that it names are run. A failed test, a signal or the time limit kills the mutant. One that lives is a
mistake that those tests would not notice.

Exit status: 0 if at least 95 % of the mutants that a test can tell from the code were killed; 1 if not, or if
a mutation no longer applies; 2 usage; 3 cannot run here.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import importlib
import os
import queue
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import Mutation

ROOT = Path(__file__).parent.parent.parent
ROOMS = sorted(path.stem for path in Path(__file__).parent.glob("of_*.py"))
MUTATIONS: tuple[Mutation, ...] = tuple(
    mutation for room in ROOMS for mutation in importlib.import_module(f"tests.mutants.{room}").MUTATIONS
)
ENOUGH = 0.95
SECONDS = 150  # for one run of tests; a mutant that goes round for ever is killed by it
WIDTH = 110
COPIED = (
    *("mptcp_sockopt", "csrc", "tests", "docs", "reuseport", "benchmarks", "share", "deploy", "packaging"),
    *(".github", ".ci"),
    *("build_ffi.py", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
)
GENERATED = "objects/generated.c"  # what cffi makes of the headers


class CannotRun(Exception):  # noqa: N818  # an outcome: exit status 3
    """What is missing, or wrong before anything was mutated."""


class Verdict(NamedTuple):
    mutation: Mutation
    fate: str  # killed, LIVES, equivalent, or GONE: it no longer applies
    by: str  # the test that failed first, a signal or "time"; or the reason
    seconds: float


class Workshop:
    """A copy of the checkout, with the module compiled into it, where one mutation at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tests: subprocess.Popen[bytes] | None = None  # the last that were begun
        self.closed = False
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, folder / name)
        (folder / "objects").mkdir()
        self.temporary = folder / "tmp"  # what killed tests leave
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        if problem := self.make():
            raise CannotRun(f"the module cannot be built:\n{problem}")

    def make(self) -> str:
        """The module, from the headers on; why that cannot be."""
        generate = f"import build_ffi; build_ffi.make_ffi().emit_c_code({GENERATED!r})"
        return self.said(sys.executable, "-c", generate) or self.compile(
            *sorted(str(path.relative_to(self.folder)) for path in self.folder.glob("csrc/*.c")), GENERATED
        )

    def said(self, *words: str) -> str:
        """What a command says if it fails."""
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False)
        return done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else ""

    def compile(self, *sources: str) -> str:
        """These, and link the module; what the compiler says if it refuses."""
        version = runpy.run_path(str(ROOT / "mptcp_sockopt" / "_version.py"))["__version__"]
        flags = ["-std=gnu11", "-O1", "-fPIC", "-fwrapv", "-w", "-DPy_LIMITED_API=0x030a0000"]
        flags += [f'-DMPTCP_SOCKOPT_VERSION="{version}"', "-Icsrc", f"-I{sysconfig.get_path('include')}"]
        for source in sources:
            problem = self.said("cc", *flags, "-c", source, "-o", f"objects/{Path(source).stem}.o")
            if problem:
                return problem
        objects = [str(path) for path in self.folder.glob("objects/*.o")]
        return self.said("cc", "-shared", *objects, "-o", "_mptcp_sockopt.abi3.so")

    @contextlib.contextmanager
    def applied(self, mutation: Mutation) -> Iterator[str]:
        """The copy with the mutation in it; what the compiler says if it refuses."""
        path = self.folder / mutation.file
        sound = path.read_text(encoding="utf-8")
        path.write_text(sound.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            yield self.build(mutation.file)
        finally:
            path.write_text(sound, encoding="utf-8")
            self.build(mutation.file)

    def build(self, file: str) -> str:
        """What has changed; why that is no program."""
        if file.endswith(".c"):
            return self.compile(file)
        if not file.endswith(".py"):  # a page
            return ""
        try:
            compile((self.folder / file).read_text(encoding="utf-8"), file, "exec")
        except SyntaxError as error:
            return str(error)
        return ""

    def try_out(self, mutation: Mutation) -> Verdict:
        begun = time.monotonic()
        fate, by = self.fate_of(mutation)
        return Verdict(mutation, fate, by, time.monotonic() - begun)

    def fate_of(self, mutation: Mutation) -> tuple[str, str]:
        if not applies(mutation, self.folder):
            return "GONE", "its old text is not in the file exactly once"
        if mutation.equivalent:
            return "equivalent", mutation.equivalent
        with self.applied(mutation) as problem:
            if problem:
                return "GONE", f"the mutated file does not compile: {problem}"
            by = self.killer(tests_of(mutation))
        return ("killed", by) if by else ("LIVES", "")

    def killer(self, tests: Sequence[str], *, required: bool = True, seconds: float = SECONDS) -> str:
        """The first test that fails, or what else ended the run; empty if all pass."""
        # What is skipped kills nobody.
        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", *["--require-mptcp"] * required]
        words = [sys.executable, "-m", "pytest", *options, *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        environment["TMPDIR"] = str(self.temporary)
        environment.pop("PYTEST_ADDOPTS", None)
        with tempfile.TemporaryFile() as output:
            self.tests = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                code = self.tests.wait(0 if self.closed else seconds)
            except subprocess.TimeoutExpired:
                return "time"
            finally:
                self.stop()
            output.seek(0)
            text = output.read().decode(errors="replace")
        if code < 0:
            return signal.Signals(-code).name
        if code == 0:
            return ""
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        return failed[1] if failed else text.strip().splitlines()[-1]

    def stop(self) -> None:
        """The tests that run, and all that they have begun."""
        if self.tests is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.tests.pid, signal.SIGKILL)
            self.tests.wait()

    def close(self) -> None:
        """Stop, and begin nothing more."""
        self.closed = True
        self.stop()


def applies(mutation: Mutation, root: Path) -> bool:
    path = root / mutation.file
    return path.exists() and path.read_text(encoding="utf-8").count(mutation.old) == 1


def tests_of(mutation: Mutation) -> list[str]:
    names = [name.rpartition("/") for name in mutation.tests.split()]
    return [f"tests/{folder}{slash}test_{name}.py" for folder, slash, name in names]


def place(mutation: Mutation) -> str:
    """File and line."""
    if not applies(mutation, ROOT):
        return mutation.file
    before, _, _ = (ROOT / mutation.file).read_text(encoding="utf-8").partition(mutation.old)
    indent = mutation.old[: len(mutation.old) - len(mutation.old.lstrip())]
    return f"{mutation.file}:{(before + indent).count(chr(10)) + 1}"


def change(mutation: Mutation) -> str:
    """Old and new text, as in a diff."""
    lines = [f"  - {line}" for line in mutation.old.splitlines()]
    return "\n".join([*lines, *[f"  + {line}" for line in mutation.new.splitlines()]])


def run(mutations: Sequence[Mutation], jobs: int) -> Iterator[Verdict]:
    """Each in whichever workshop is free, after their tests have passed without any."""
    shops: list[Workshop] = []
    free: queue.Queue[Workshop] = queue.Queue()

    @contextlib.contextmanager
    def workshop() -> Iterator[Workshop]:
        shop = free.get()
        try:
            yield shop
        finally:
            free.put(shop)

    def killer(test: str) -> str:
        with workshop() as shop:
            return shop.killer([test])

    def try_out(mutation: Mutation) -> Verdict:
        with workshop() as shop:
            return shop.try_out(mutation)

    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
    ):
        os.chmod(folder, 0o755)  # some tests go on as nobody
        try:
            for number in range(jobs):
                room = Path(folder) / f"{number}"
                room.mkdir()
                shops.append(Workshop(room))
                free.put(shops[-1])
            tests = sorted({test for mutation in mutations for test in tests_of(mutation)})
            for by in filter(None, pool.map(killer, tests)):
                raise CannotRun(f"without any mutation, the tests end with {by}")
            yield from pool.map(try_out, mutations)
        finally:
            for shop in shops:
                shop.close()


def parser() -> argparse.ArgumentParser:
    summary, _, exits = f"{__doc__}".partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=summary.rstrip(":"),
        epilog=exits[exits.index("Exit status") :],
    )
    parser.add_argument(
        "--only", metavar="REGEX", default="", help="only mutations whose file or text matches"
    )
    parser.add_argument(
        "--quarter", metavar="WORD", help="only a quarter of them, drawn by this word, such as a commit"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="mutants at a time (default %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="show the mutations and exit")
    return parser


def quarter(mutations: Sequence[Mutation], word: str) -> list[Mutation]:
    """The same quarter for the same word, in the same order."""
    return random.Random(word).sample(mutations, (len(mutations) + 3) // 4)


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    chosen = [m for m in MUTATIONS if re.search(options.only, f"{m.file}: {m.old} -> {m.new}")]
    if options.quarter:
        chosen = quarter(chosen, options.quarter)
    if not chosen or options.jobs < 1:
        print("tests.mutants: nothing to do", file=sys.stderr)
        return 2
    if options.list:
        for mutation in chosen:
            print(place(mutation), change(mutation), sep="\n")
        return 0
    if shutil.which("cc") is None:
        print("tests.mutants: cannot run here: no C compiler (cc)", file=sys.stderr)
        return 3
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    verdicts: list[Verdict] = []
    try:
        for verdict in run(chosen, options.jobs):
            verdicts.append(verdict)
            line = f"{verdict.fate:<10} {verdict.seconds:5.1f} s  {place(verdict.mutation):<32} {verdict.by}"
            print(line[:WIDTH].rstrip(), flush=True)
    except CannotRun as problem:
        print(f"tests.mutants: cannot run here: {problem}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return conclude(verdicts)


def conclude(verdicts: Sequence[Verdict]) -> int:
    fates = [verdict.fate for verdict in verdicts]
    killed, lives, gone = fates.count("killed"), fates.count("LIVES"), fates.count("GONE")
    enough = killed >= ENOUGH * (killed + lives) and not gone
    for verdict in verdicts:
        if verdict.fate != "killed":
            print(f"\n{verdict.fate}: {place(verdict.mutation)}", change(verdict.mutation), sep="\n")
            if verdict.by:
                print(textwrap.fill(verdict.by, WIDTH, initial_indent="  ", subsequent_indent="  "))
    share = f"{killed / (killed + lives):.1%}" if killed + lives else "none"
    print(
        f"\nMUTANTS: {killed} of {killed + lives} killed ({share}), {fates.count('equivalent')} equivalent, "
        f"{gone} no longer apply: {'PASS' if enough else 'FAIL'}"
    )
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
