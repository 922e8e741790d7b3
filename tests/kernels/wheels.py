# SPDX-License-Identifier: MIT
"""The project's wheel for each architecture: from a folder, or made by .ci/wheels.py."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

from .debian import Unobtainable
from .rows import ARCHES, HERE

ROOT = HERE.parent.parent
BUILDER = ROOT / ".ci" / "wheels.py"
# All that a wheel is made of, so that it is made again when one of them changes.
SOURCES = ("build_ffi.py", "pyproject.toml", "README.md", ".ci/w*.py", "csrc/*", "*/*.py")

_one_at_a_time = threading.Lock()


def wheel_in(folder: Path, arch: str) -> Path:
    """The one wheel of the stable ABI for glibc on a Debian architecture."""
    tag = ARCHES[arch].wheel
    found = [
        path for path in folder.glob(f"mptcp_sockopt-*-abi3-*_{tag}.whl") if "musllinux" not in path.name
    ]
    if len(found) != 1:
        names = ", ".join(sorted(path.name for path in found)) or "none"
        raise Unobtainable(f"{folder} is to have one mptcp_sockopt-*-abi3-*_{tag}.whl, and has {names}")
    return found[0]


def build(cache: Path, arch: str) -> Path:
    """Let .ci/wheels.py make the wheel if it is not there yet; the folder that it is in."""
    with _one_at_a_time:
        return _build(cache, arch)


def _build(cache: Path, arch: str) -> Path:
    if not BUILDER.exists():
        raise Unobtainable("the checkout has no .ci/wheels.py: say --wheels DIR")
    digest = hashlib.sha256()
    packages = ("mptcp_sockopt", "reuseport")
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            if pattern != "*/*.py" or path.parent.name in packages:
                digest.update(path.read_bytes())
    folder = cache / f"wheels-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(f"*_{ARCHES[arch].wheel}.whl")):
        command = [sys.executable, str(BUILDER), "--out", str(folder), ARCHES[arch].target]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            raise Unobtainable(f".ci/wheels.py ended with {done.returncode}:\n{tail}")
    return folder
