# SPDX-License-Identifier: MIT
"""Break the code on purpose, one place at a time, and see the fast tests go red:

    python -m tests.mutants [--only REGEX] [--jobs N] [--list]

Each mutation of its lists is applied to a copy of the checkout, and the module is compiled if it is
of C. Then the tests of that room are run, and after them the core's others. A mutant is killed by a test that
fails, by a signal, or by the time. One that lives means that no test would notice that mistake.

Exit status: 0 if at least 95 % of those that are not equivalent were killed, 1 if not or if one no longer
applies, 2 usage, 3 cannot run here.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import importlib.util
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import Mutation, of_border, of_c, of_objects

ROOT = Path(__file__).parent.parent.parent
MUTATIONS = of_c.MUTATIONS + of_border.MUTATIONS + of_objects.MUTATIONS
ENOUGH = 0.95
SECONDS = 150  # for one run of tests; a mutant that goes round for ever is killed by it
# What a survivor must survive too: the core's fast tests.
ELSEWHERE = (
    "reuseport_*",
    "benchmarks",
    "build",
    "docs",
    "house",
    "kernels*",
    "mutants",
    "two_paths",
    "workflows",
)
COPIED = ("mptcp_sockopt", "reuseport", "tests", "csrc", "benchmarks", "build_ffi.py", "pyproject.toml")


class CannotRun(Exception):  # noqa: N818  # an outcome: exit status 3
    """What is missing, or wrong before anything was mutated."""


class Verdict(NamedTuple):
    mutation: Mutation
    fate: str  # killed, LIVES, equivalent, or GONE: it no longer applies
    by: str  # the test that failed first, a signal, "time", "compiler", or the reason
    seconds: float


class Workshop:
    """A copy of the checkout, with the module compiled into it, where one mutation at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        self.objects = folder / "objects"
        self.objects.mkdir()
        self.generate()
        problem = self.compile(sorted(folder.glob("csrc/*.c")))
        if problem:
            raise CannotRun(f"the module does not compile:\n{problem}")

    def generate(self) -> None:
        """The C that cffi makes of the headers."""
        path = self.folder / "build_ffi.py"
        specification = importlib.util.spec_from_file_location("build_ffi", path)
        assert specification is not None
        assert specification.loader is not None
        build = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(build)
        build.make_ffi().emit_c_code(str(self.objects / "generated.c"))

    def compile(self, sources: Sequence[Path]) -> str:
        """What has changed, and what cffi made; what the compiler says if it refuses."""
        generated = self.objects / "generated.c"
        if not (self.objects / "generated.o").exists():
            sources = [*sources, generated]
        version = f'-DMPTCP_SOCKOPT_VERSION="{self.version()}"'
        include = sysconfig.get_path("include")
        flags = ["-std=gnu11", "-O1", "-fPIC", "-fwrapv", "-DPy_LIMITED_API=0x030a0000", version]
        words = ["cc", *flags, f"-I{include}", f"-I{self.folder / 'csrc'}", "-w"]
        for source in sources:
            problem = said(*words, "-c", str(source), "-o", str(self.objects / f"{source.stem}.o"))
            if problem:
                return problem
        objects = [str(path) for path in sorted(self.objects.glob("*.o"))]
        # Another file each time: a test process of the mutant before may have the last one mapped.
        module = self.folder / "_mptcp_sockopt.abi3.so"
        module.unlink(missing_ok=True)
        return said("cc", "-shared", *objects, "-o", str(module))

    def version(self) -> str:
        text = (self.folder / "mptcp_sockopt" / "_version.py").read_text(encoding="utf-8")
        (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
        return str(version)

    @contextlib.contextmanager
    def applied(self, mutation: Mutation) -> Iterator[str]:
        """The copy with the mutation in it; what the compiler says if it refuses."""
        path = self.folder / mutation.file
        before = path.read_text(encoding="utf-8")
        of_c = path.suffix in (".c", ".h")
        sources = sorted(self.folder.glob("csrc/*.c")) if path.suffix == ".h" else [path]
        path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            if path.suffix == ".h":
                (self.objects / "generated.o").unlink()
                self.generate()
            yield self.compile(sources) if of_c else ""
        finally:
            path.write_text(before, encoding="utf-8")
            if path.suffix == ".h":
                (self.objects / "generated.o").unlink(missing_ok=True)
                self.generate()
            if of_c:
                self.compile(sources)

    def try_out(self, mutation: Mutation) -> Verdict:
        begun = time.monotonic()
        fate, by = self.fate_of(mutation)
        return Verdict(mutation, fate, by, time.monotonic() - begun)

    def fate_of(self, mutation: Mutation) -> tuple[str, str]:
        if not applies(mutation, self.folder):
            return "GONE", "its old text does not stand in the file exactly once"
        if mutation.equivalent:
            return "equivalent", mutation.equivalent
        with self.applied(mutation) as problem:
            if problem:
                return "killed", "compiler"
            own = tests_of(mutation)
            by = self.killer(own) or self.killer(others(self.folder, own))
        return ("killed", by) if by else ("LIVES", "")

    def killer(self, tests: Sequence[str]) -> str:
        """The first test that fails, or what else ended the run; empty if all pass."""
        words = [
            sys.executable,
            "-B",
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        with tempfile.TemporaryFile() as output:
            child = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                code = child.wait(SECONDS)
            except subprocess.TimeoutExpired:
                return "time"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            output.seek(0)
            text = output.read().decode(errors="replace")
        if code < 0:
            return signal.Signals(-code).name
        if code == 0:
            return ""
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        return failed[1] if failed else text.strip().splitlines()[-1]


def said(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else ""


def applies(mutation: Mutation, root: Path) -> bool:
    path = root / mutation.file
    return path.exists() and path.read_text(encoding="utf-8").count(mutation.old) == 1


def tests_of(mutation: Mutation) -> list[str]:
    return [f"tests/test_{name}.py" for name in mutation.tests.split()]


def others(root: Path, own: Sequence[str]) -> list[str]:
    """The core's other fast tests."""
    left_out = {path for name in ELSEWHERE for path in (root / "tests").glob(f"test_{name}.py")}
    files = sorted(set((root / "tests").glob("test_*.py")) - left_out)
    return [name for name in (str(path.relative_to(root)) for path in files) if name not in own]


def run(mutations: Sequence[Mutation], jobs: int) -> Iterator[Verdict]:
    """Each in whichever workshop is free."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        os.chmod(folder, 0o755)  # some tests go on as nobody
        free: queue.Queue[Workshop] = queue.Queue()
        for number in range(jobs):
            room = Path(folder) / f"{number}"
            room.mkdir()
            free.put(Workshop(room))
        shop = free.get()
        problem = shop.killer(others(shop.folder, []))
        free.put(shop)
        if problem:
            raise CannotRun(f"without any mutation, the tests end with {problem}")

        def one(mutation: Mutation) -> Verdict:
            shop = free.get()
            try:
                return shop.try_out(mutation)
            finally:
                free.put(shop)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, mutations)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=f"{__doc__}".split("\n\n")[0],
        epilog="Wants cc and pytest.",
    )
    parser.add_argument("--only", metavar="REGEX", help="those whose file or text matches")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="side by side")
    parser.add_argument("--list", action="store_true", help="name them, and try none")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    chosen = [m for m in MUTATIONS if re.search(options.only or "", f"{m.file}: {m.old} -> {m.new}")]
    if not chosen or options.jobs < 1:
        print("tests.mutants: nothing to do", file=sys.stderr)
        return 2
    if options.list:
        for mutation in chosen:
            print(f"{mutation.file}: {mutation}")
        return 0
    if shutil.which("cc") is None:
        print("tests.mutants: cannot run here: no C compiler (cc)", file=sys.stderr)
        return 3
    verdicts: list[Verdict] = []
    try:
        for verdict in run(chosen, options.jobs):
            verdicts.append(verdict)
            line = f"{verdict.fate:<10} {verdict.seconds:5.1f} s  {verdict.mutation.file}: {verdict.mutation}"
            print(line, f"           {verdict.by}", sep="\n" if verdict.by else "", flush=True)
    except CannotRun as problem:
        print(f"tests.mutants: cannot run here: {problem}", file=sys.stderr)
        return 3
    return conclude(verdicts)


def conclude(verdicts: Sequence[Verdict]) -> int:
    fates = [verdict.fate for verdict in verdicts]
    killed, lives, gone = fates.count("killed"), fates.count("LIVES"), fates.count("GONE")
    enough = killed >= ENOUGH * (killed + lives) and not gone
    for verdict in verdicts:
        if verdict.fate in ("LIVES", "GONE"):
            print(f"{verdict.fate}: {verdict.mutation.file}: {verdict.mutation}")
    share = f"{killed / (killed + lives):.1%}" if killed + lives else "none"
    print(
        f"MUTANTS: {killed} of {killed + lives} killed ({share}), {fates.count('equivalent')} equivalent, "
        f"{gone} no longer apply: {'PASS' if enough else 'FAIL'}"
    )
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
