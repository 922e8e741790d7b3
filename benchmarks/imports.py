# SPDX-License-Identifier: MIT
"""What `import mptcp_sockopt` costs beside `import socket`, which it needs anyway; in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .measure import Costs, Measured, Variant, cpu_with_children, exactly, interleave

ROOT = Path(__file__).resolve().parent.parent
UNWANTED = ("dataclasses", "ctypes", "cffi", "numpy")


def python(code: str, cache: str) -> str:
    """Run it in a fresh interpreter that stands in the checkout; what it printed. The byte code is kept in
    the folder cache, whatever the environment says of it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout


def running(code: str, cache: str) -> Variant:
    def variant(n: int) -> None:
        for _ in range(n):
            python(code, cache)

    return variant


def imports(rounds: int) -> Measured:
    """T14: above what an interpreter costs that imports nothing."""
    with tempfile.TemporaryDirectory() as cache:
        return _imports(rounds, cache)


def _imports(rounds: int, cache: str) -> Measured:
    codes = {"nothing": "", "socket": "import socket", "package": "import mptcp_sockopt"}
    variants = {name: running(code, cache) for name, code in codes.items()}
    costs = interleave(variants, rounds, cpu_with_children)
    above = Costs(
        {
            name: [cost - empty for cost, empty in zip(costs.of[name], costs.of["nothing"], strict=True)]
            for name in ("socket", "package")
        }
    )
    loaded = python(f"import sys, mptcp_sockopt; print(len(set({UNWANTED}) & set(sys.modules)))", cache)
    return Measured({"T14": above.ratios("package", "socket"), "T14m": exactly(int(loaded))})
