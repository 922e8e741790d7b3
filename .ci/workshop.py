# SPDX-License-Identifier: MIT
"""What wheels.py, wheel_checks.py and emulate.py share: the targets, and the environment they work in."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
SDIST = "sdist"
LIMIT = 1800  # seconds for one command: an emulator on a busy machine needs half of that


class Target(NamedTuple):
    machine: str  # as uname -m and wheel tags name it
    zig: str  # -target, and -mcpu where zig's own choice is newer than the platform's oldest processor
    tag: str
    elf: str  # class, byte order, machine; as pyelftools names them
    libc: str  # the only library that the module needs

    @property
    def musl(self) -> bool:
        return self.tag.startswith("musl")


def glibc(machine: str, zig: str, version: str, elf: str) -> Target:
    return Target(machine, zig, f"manylinux_{version}_{machine}", elf, "libc.so.6")


def musl(machine: str, zig: str, name: str, elf: str) -> Target:
    return Target(machine, zig, f"musllinux_1_2_{machine}", elf, f"libc.musl-{name}.so.1")


TARGETS = {
    "x86_64-manylinux": glibc("x86_64", "x86_64-linux-gnu.2.17", "2_17", "64 LSB EM_X86_64"),
    "aarch64-manylinux": glibc("aarch64", "aarch64-linux-gnu.2.17", "2_17", "64 LSB EM_AARCH64"),
    "i686-manylinux": glibc("i686", "x86-linux-gnu.2.17 -mcpu=i686", "2_17", "32 LSB EM_386"),
    "armv7l-manylinux": glibc("armv7l", "arm-linux-gnueabihf.2.17", "2_17", "32 LSB EM_ARM"),
    "s390x-manylinux": glibc("s390x", "s390x-linux-gnu.2.17", "2_17", "64 MSB EM_S390"),
    # zig has no headers of 2.17 for this one; its auditwheel tag is asked for below all the same.
    "ppc64le-manylinux": glibc("ppc64le", "powerpc64le-linux-gnu.2.19", "2_17", "64 LSB EM_PPC64"),
    # There is no older tag for this one.
    "riscv64-manylinux": glibc("riscv64", "riscv64-linux-gnu.2.31", "2_31", "64 LSB EM_RISCV"),
    "x86_64-musllinux": musl("x86_64", "x86_64-linux-musl", "x86_64", "64 LSB EM_X86_64"),
    "aarch64-musllinux": musl("aarch64", "aarch64-linux-musl", "aarch64", "64 LSB EM_AARCH64"),
    "i686-musllinux": musl("i686", "x86-linux-musl -mcpu=i686", "x86", "32 LSB EM_386"),
    "armv7l-musllinux": musl("armv7l", "arm-linux-musleabihf", "armv7", "32 LSB EM_ARM"),
}


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


# ------------------------------------------------------------------------------------------ the workshop


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mptcp-sockopt"


def enter_workshop(cache: Path) -> None:
    """Go on in an environment that has the tools of pyproject's dependency group "wheels"; made once."""
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
