# SPDX-License-Identifier: MIT
"""What wheels.py, wheel_checks.py and emulate.py share: how they start, run others, and find wheels."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from targets import PYTHON, SDIST, TARGETS

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
LIMIT = 1800  # seconds for one command: an emulator on a busy machine needs half of that


class Failed(Exception):  # noqa: N818
    """A sentence for people."""


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None, code: int = 0) -> str:
    """Run a command to its end and return what it printed, or show that and fail."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except FileNotFoundError:
        raise Failed(f"{words[0]} is not here") from None
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace")
        raise Failed(f"{said}\ndid not end within {LIMIT} s: {shlex.join(words)}") from None
    if done.returncode != code:
        raise Failed(f"{done.stdout}\nended with {done.returncode}: {shlex.join(words)}")
    return done.stdout


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let others who want to fill the same folder wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def file_of(name: str, folder: Path) -> Path:
    """The one file of that target in a folder."""
    found = sorted(folder.glob("*.tar.gz" if name == SDIST else f"*-{PYTHON}-{TARGETS[name].tag}.whl"))
    if len(found) != 1:
        raise Failed(f"{len(found)} files of {name} in {folder}: {[path.name for path in found]}")
    return found[0]


# ------------------------------------------------------------------------------------------ the workshop


def enter_workshop(cache: Path) -> None:
    """Go on in an environment that has the tools of pyproject's dependency group "wheels"; made once."""
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = str(cache / "zig")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    group = pyproject.partition("[dependency-groups]")[2].partition("\n[")[0]
    wanted = sys.version + group + CONSTRAINTS.read_text(encoding="utf-8")
    home = cache / f"workshop-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if Path(sys.prefix) == home:
        return
    with alone(home):
        if not (home / "done").exists():
            print(f"Tools from PyPI (zig alone is 100 MB) into {home}", file=sys.stderr)
            shutil.rmtree(home, ignore_errors=True)
            run(sys.executable, "-m", "venv", home)
            pip = (home / "bin" / "python", "-m", "pip", "install", "-q", "-c", CONSTRAINTS)
            run(*pip, "-U", "pip")
            run(*pip, "--group", f"{ROOT / 'pyproject.toml'}:wheels")
            (home / "done").touch()
    python = str(home / "bin" / "python")
    os.execv(python, [python, *sys.argv])


# --------------------------------------------------------------------------------------- the command lines


def parser(about: str | None) -> argparse.ArgumentParser:
    """With the options that both commands have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print all names, and do nothing else")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mptcp-sockopt"
    parser.add_argument("--cache", type=Path, metavar="DIR", default=cache, help="default: %(default)s")
    return parser


def chosen(parser: argparse.ArgumentParser, names: list[str], known: list[str]) -> list[str]:
    """The names that the user gave, or all; a usage error for one that is not known."""
    for name in names:
        if name not in known:
            parser.error(f"unknown name {name!r}; known are {', '.join(known)}")
    return names or known


def entry(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit: with its status, or with 1 and the sentence if it failed."""
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(str(failure))
