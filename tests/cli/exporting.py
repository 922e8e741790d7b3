# SPDX-License-Identifier: MIT
"""mptcp-sockopt export at work, and what reads its pages."""

from __future__ import annotations

import contextlib
import importlib
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..support import DEADLINE, needs

ROOT = Path(__file__).parents[2]
EXPORT = (sys.executable, "-m", "mptcp_sockopt", "export")


@contextlib.contextmanager
def exporting(
    *words: str, code: int = 0, before: Sequence[str] = (), **more: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command at work, and the first line that is news: where it serves. It must end with this code.
    before: a command that executes it."""
    command = [*before, *EXPORT, *words]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **more)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        while "missing: " in line:
            line = process.stderr.readline()
        yield process, line.removeprefix("mptcp-sockopt export: ").strip()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == code
        rest = process.stderr.read()
        assert "Traceback" not in rest, rest
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def plain(text: str) -> list[Any]:
    """Read by prometheus_client's own parser."""
    return list(importlib.import_module("prometheus_client.parser").text_string_to_metric_families(text))


def openmetrics(text: str) -> list[Any]:
    """The same for the other format, whose parser is strict."""
    parser = importlib.import_module("prometheus_client.openmetrics.parser")
    return list(parser.text_string_to_metric_families(text))


def scraped(url: str, accept: str = "text/plain") -> str:
    """What a scraper gets."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        text: bytes = answer.read()
    return text.decode()


def value(text: str, series: str) -> float:
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found)


def promtool(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    program = needs("promtool", "prometheus")
    return subprocess.run([program, *words], input=text, capture_output=True, text=True, check=False)
