# SPDX-License-Identifier: MIT
"""Runs the audit of a set-up, and makes a row of what it found."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import statistics
import string
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import page
from .setups import SetUp
from .stages import NotHereError, Stage, stage

ROOT = Path(__file__).parents[2]
COMMON = ""  # the audit's own defaults
LATE = "--late 300"
CLIENTS = {"late": LATE, "keepalive": "--keepalive", "slow": "--slow-path /slow"}
WITHIN = 400.0  # seconds for one audit, however slow its restarts are
# The checkout's reuseport, in a folder where only the server's files are.
LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from reuseport.__main__ import main; sys.exit(main())"
)


def command(setup: SetUp, common: str) -> str:
    """The line of the page, as a shell takes it."""
    clients = (CLIENTS[client] for client in setup.clients)
    words = ["reuseport audit", common, *clients, setup.options, "--", setup.command]
    return " ".join(filter(None, words))


def measure(setup: SetUp, common: str = COMMON, install: bool = False) -> dict[str, Any]:
    """The row, or the reason why there is none."""
    try:
        with stage(setup, install) as found:
            line = command(setup, common)
            code, out, words = _audit(line, found)
            return {
                "version": found.version,
                "audit": common,
                "command": line,
                "files": page.digest(setup),
                **_row(code, out, words),
            }
    except NotHereError as error:
        return {"missing": str(error)}


def _audit(line: str, found: Stage) -> tuple[int, str, str]:
    """Exit status, output and last words of the audit of a line, with --json."""
    _, _, *words = shlex.split(string.Template(line).safe_substitute(found.variables))
    done = subprocess.run(
        [*audit_command(), "--json", *words],
        cwd=found.folder,
        env=clean(found.variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    return done.returncode, done.stdout, done.stderr


def audit_command() -> list[str]:
    """``reuseport audit`` of this checkout, for any working directory."""
    options = [sys.executable, "-P"] if sys.version_info >= (3, 11) else [sys.executable]
    return [*options, "-c", LAUNCH, str(ROOT), "audit"]


def clean(variables: Mapping[str, str]) -> dict[str, str]:
    """Without what would make a server's Python another one."""
    return {
        name: value for name, value in variables.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }


def _row(code: int, out: str, words: str) -> dict[str, Any]:
    if code not in page.VERDICTS:
        raise RuntimeError(f"the audit ended with {code}: {words[-2000:]}")
    if not out:
        return {"exit": code, "said": words.strip().splitlines()[-3:], "clients": {}}
    found = json.loads(out)
    kept = ("conns", "lost", "kinds", "idle_ended", "retried", "restarts")
    clients = {name: {key: client[key] for key in kept} for name, client in found["clients"].items()}
    took = found["restart_seconds"]
    said = [found["verdict"], *_last_line(found["ended"])]
    return {
        "exit": code,
        "said": said,
        "seconds": statistics.median_low(took) if took else None,
        "clients": clients,
    }


def _last_line(ended: dict[str, Any] | None) -> list[str]:
    """Of what a server said that ended."""
    return ended["how"].strip().splitlines()[-1:] if ended else []


def surroundings() -> dict[str, Any]:
    """Where and when a table is made."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
    }
