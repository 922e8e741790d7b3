# SPDX-License-Identifier: MIT
"""The project's wheel for each architecture: from a folder, or made by .ci/wheels.py."""

from __future__ import annotations

import hashlib
import runpy
import subprocess
import sys
import threading
from pathlib import Path

from .debian import Unobtainable
from .rows import HERE

ROOT = HERE.parent.parent
BUILDER = ROOT / ".ci" / "wheels.py"
# By Debian's name of the architecture.
TARGETS = {
    target.machine.debian: target
    for target in runpy.run_path(str(ROOT / ".ci" / "targets.py"))["TARGETS"].values()
    if not target.musl
}
PACKAGES = ("mptcp_sockopt", "reuseport")
# All that a wheel is made of, so that it is made again when one of them changes.
SOURCES = (
    *("build_ffi.py", "pyproject.toml", "README.md", "csrc/**/*", "share/**/*"),
    *(".ci/targets.py", ".ci/w*.py", ".ci/constraints.txt"),
)

_one_at_a_time = threading.Lock()


def modules_of(folder: Path) -> dict[str, bytes]:
    """The Python files of our packages below a folder, however deep."""
    found = [path for name in PACKAGES for path in (folder / name).rglob("*.py")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def digest(root: Path) -> str:
    """Of all that a wheel of that checkout is made of."""
    parts = modules_of(root)
    for path in (path for pattern in SOURCES for path in root.glob(pattern)):
        if path.is_file():
            parts[str(path.relative_to(root))] = path.read_bytes()
    return hashlib.sha256(
        b"".join(b"%b\0%b\0" % (name.encode(), parts[name]) for name in sorted(parts))
    ).hexdigest()


def wheel_in(folder: Path, arch: str) -> Path:
    """The one wheel of the stable ABI for glibc on a Debian architecture."""
    pattern = f"mptcp_sockopt-*-abi3-*_{TARGETS[arch].machine.name}.whl"
    found = sorted(path for path in folder.glob(pattern) if "musllinux" not in path.name)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise Unobtainable(f"{folder} is to have one {pattern}, and has {names}")
    return found[0]


def build(cache: Path, arch: str) -> Path:
    """Let .ci/wheels.py make the wheel if it is not there yet; the folder that it is in."""
    with _one_at_a_time:
        return _build(cache, arch)


def _build(cache: Path, arch: str) -> Path:
    target = TARGETS[arch]
    folder = cache / f"wheels-{digest(ROOT)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(f"*-{target.tag}.whl")):
        command = [sys.executable, str(BUILDER), "--out", str(folder), target.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            for refused in folder.glob(f"*-{target.tag}.whl"):
                refused.unlink()  # else the next row would take it
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            raise Unobtainable(f".ci/wheels.py ended with {done.returncode}:\n{tail}")
    return folder
