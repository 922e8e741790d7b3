# SPDX-License-Identifier: MIT
"""Virtual environments with the libraries of the recipes: made once by pip, in the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mptcp_sockopt

ROOT = Path(__file__).parents[2]
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
# What .ci/run tests, which asks for fewer repetitions of everything.
SMALL = ("aiohttp", "cffi", "httpx", "redis", "requests", "urllib3", "uvicorn", "websockets")
ALL = (
    *SMALL,
    *("anyio", "asyncpg", "asyncssh", "fastapi", "gevent", "granian", "grpcio", "gunicorn", "hypercorn"),
    *("paramiko", "psycopg[binary]", "tornado", "trio", "twisted", "uvloop", "waitress"),
)
# It takes over the name urllib3, and requests with it.
NIQUESTS = ("cffi", "niquests")


class NoIndexError(Exception):
    """The package index cannot be asked, or pip failed for another reason."""


class Environment(NamedTuple):
    python: Path
    gone: frozenset[str]  # what the index does not serve, at that version and for this Python

    def command(self, *words: str) -> list[str]:
        return [str(self.python), *words]


def is_small() -> bool:
    return "MPTCP_SOCKOPT_FEWER" in os.environ


def environment(names: tuple[str, ...]) -> Environment:
    """One that has these, made now if need be. Its Python is the one that runs this."""
    wanted = "\n".join((sys.version, *names, CONSTRAINTS.read_text()))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mptcp-sockopt"
    home = cache / f"recipes-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python, done = home / "bin" / "python", home / "done"
    with _alone(home):
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
            done.write_text(" ".join(_install(python, names)))
    return Environment(python, frozenset(done.read_text().split()))


def variables(folder: Path) -> dict[str, str]:
    """The environment variables by which a Python of these imports mptcp_sockopt as this one does.

    folder is an empty one, for links: whatever else is installed here stays unseen.
    """
    spec = importlib.util.find_spec("_mptcp_sockopt")
    assert spec is not None
    assert spec.origin is not None
    package = Path(mptcp_sockopt.__file__).parent
    for target in (package, Path(spec.origin), ROOT / "tests"):
        with contextlib.suppress(FileExistsError):
            (folder / target.name).symlink_to(target)
    # No proxy stands between two programs of one machine.
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _install(python: Path, names: tuple[str, ...]) -> list[str]:
    """Returns those that the index does not serve, or of whose dependencies it does not serve one."""
    gone: list[str] = []
    while left := [name for name in names if name not in gone]:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--only-binary=:all:"]
        said = subprocess.run([*pip, "-c", str(CONSTRAINTS), *left], capture_output=True, text=True)
        if said.returncode == 0:
            break
        words = re.findall(r"(?:No matching distribution found for|Cannot install) (.+)", said.stderr)
        missing = re.findall(r"[\w.-]+", " ".join(words))
        served = [name for name in left if name.partition("[")[0] in missing]
        if "Retrying" in said.stderr or not served:  # it did not hear from the index, or something else
            raise NoIndexError(f"pip cannot install the libraries of the recipes: {said.stderr[-2000:]}")
        gone += served
    return gone


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Nobody else makes the same one meanwhile."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
