# SPDX-License-Identifier: MIT
"""The C functions against a kernel that answers anything, under sanitizers: tests/fuzz.c."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest

from .support import Missing, run

ROOT = Path(__file__).resolve().parent.parent
# Signed overflow is undefined in C, and Python's own flags may define it.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-wrapv"]
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", '-DMPTCP_SOCKOPT_VERSION=""', f"-I{ROOT / 'csrc'}"]
# Without a preloaded sanitizer, where the tests run under one.
ENVIRONMENT = {**os.environ, "LD_PRELOAD": "", "ASAN_OPTIONS": "detect_leaks=0"}


def build(folder: Path) -> str:
    """Compile tests/fuzz.c with the C that it is about."""
    csrc, program = ROOT / "csrc", str(folder / "fuzz")
    sources = (
        ROOT / "tests" / "fuzz.c",
        csrc / "mptcp_sockopt.c",
        csrc / "mptcp_diag.c",
        csrc / "mptcp_diag_tcp.c",
    )
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    try:
        if run("cc", *SANITIZERS, "-o", program, str(empty), env=ENVIRONMENT).returncode:
            raise Missing("a compiler with sanitizers")
    except FileNotFoundError:
        raise Missing("a compiler (cc)") from None
    done = run("cc", *SANITIZERS, *FLAGS, "-o", program, *map(str, sources), env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return program


def fuzz(folder: Path, seed: int, answers: int, dumps: int, timeout: float) -> None:
    words = [build(folder), str(seed), str(answers), str(dumps)]
    try:
        done = run(*words, timeout=timeout, env=ENVIRONMENT)
    except subprocess.TimeoutExpired:
        pytest.fail(f"fuzz {seed} does not end")
    print(done.stdout)
    assert done.returncode == 0, f"fuzz {' '.join(words[1:])}: {done.stderr}"
    assert f"; {dumps} dumps, " in done.stdout


def test_no_answer_breaks_the_c(tmp_path: Path) -> None:
    """No bad access, no undefined arithmetic, no result out of its bounds, nothing of an earlier answer."""
    fuzz(tmp_path, seed=1, answers=300_000, dumps=60_000, timeout=120)


@pytest.mark.slow
def test_no_answer_of_millions_breaks_the_c(tmp_path: Path) -> None:
    """With another seed each time, which is printed."""
    fuzz(tmp_path, secrets.randbits(32), answers=10_000_000, dumps=2_000_000, timeout=1800)
