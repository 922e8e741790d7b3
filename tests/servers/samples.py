# SPDX-License-Identifier: MIT
"""The commands of docs/audit.md, run as they stand there, and what they print.

A block of text that begins with ``$ reuseport audit`` holds a command and its output.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..recipes.environment import environment
from .measured import WITHIN, audit_command, clean
from .setups import FILES, MADE
from .stages import NotHereError

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
_SAMPLE = re.compile(r"```text\n\$ (reuseport audit .+)\n((?:.*\n)*?)```\n")
COUNT = r"[\d,]+"
# What a report consists of; a line that was broken is one again.
SHAPES = (
    r"asked: \S+(, \S+)*",
    rf"restarts: {COUNT} by .+, [\d.]+ s each \(median\), [\d.]+ s the longest",
    rf"(plain|late|keepalive|slow): {COUNT} of {COUNT} lost in restarts(; .+)?",
    rf"restart {COUNT} lost ({COUNT} [\w ]+)(, {COUNT} [\w ]+)*",
    rf"lost while nothing was restarted: {COUNT} .+",
    rf"nobody listened for [\d.]+ s at most in a restart; {COUNT} clients found that, .+",
    rf"restarts that the load did not see, because it got no CPU: {COUNT}",
    rf"CMD wrote to memory in /\S+(, /\S+)*; all else was read-only(\. It wrote {COUNT} files?: .+)?",
    r"handshakes in flight were not tested: there are none without --rtt",
    r".+ 30 s after restart \d+.*",
    r"AUDIT: (PASS|FAIL|NOT PROVEN): .+",
)


class Sample(NamedTuple):
    """A command of the page, and its output."""

    command: str
    output: str

    @property
    def lines(self) -> list[str]:
        """Those of the report, unbroken."""
        return re.sub(r"\n {4}", " ", self.output).splitlines()


def samples(page: str) -> list[Sample]:
    return [Sample(*found) for found in _SAMPLE.findall(page)]


def sections(page: str) -> dict[str, list[str]]:
    """The commands of each server of the page."""
    found = re.findall(r"^## (\w+) in five commands\n\n```sh\n((?:.*\n)*?)```\n", page, re.MULTILINE)
    return {name: commands.splitlines() for name, commands in found}


def shapeless(lines: list[str]) -> list[str]:
    """The lines that no report has."""
    return [line for line in lines if not any(re.fullmatch(shape, line) for shape in SHAPES)]


@contextlib.contextmanager
def folder(server: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Where the commands of a server run, and their environment."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    if server in ("gunicorn", "uvicorn"):
        found = environment((server,))
        if server in found.gone:
            raise NotHereError(f"the package index does not serve {server} for this Python")
        path = f"{found.python.parent}:{path}"
    elif not shutil.which(server, path=path):
        raise NotHereError(f"{server} is not installed")
    with tempfile.TemporaryDirectory(prefix="servers-") as name:
        for file in FILES.iterdir():
            if file.is_file():
                shutil.copy(file, name)
        for made, data in MADE.items():
            (Path(name) / made).write_bytes(data)
        yield Path(name), {**os.environ, "PATH": path}


def run(command: str, where: tuple[Path, dict[str, str]], *more: str) -> tuple[int, str]:
    """Exit status and output; ``more`` are options of the audit, after those of the page."""
    words = shlex.split(command)
    if words[:2] == ["reuseport", "audit"]:
        end = words.index("--")
        words = [*audit_command(), *words[2:end], *more, *words[end:]]
    done = subprocess.run(
        words,
        cwd=where[0],
        env=clean(where[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
    )
    return done.returncode, done.stdout


def written(page: str) -> str:
    """The page, with what its commands print here and now."""
    outputs = {}
    for server in sections(page):
        for sample in samples(page):
            if server in shlex.split(sample.command):
                with folder(server) as where:
                    outputs[sample.command] = run(sample.command, where)[1].replace(str(where[0]), "/tmp/app")

    def filled(found: re.Match[str]) -> str:
        return f"```text\n$ {found[1]}\n{outputs[found[1]]}```\n"

    return _SAMPLE.sub(filled, page)
