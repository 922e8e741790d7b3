# SPDX-License-Identifier: MIT
"""A Prometheus and exporters at work, in the network namespace of the calling thread."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..support import DEADLINE, needs, until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXPORTER = "127.0.0.1:10262"
SERVER = "127.0.0.1:9090"


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program at work, which is ended with the block."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
        assert process.poll() is None, f"{command[0]} has ended: {process.returncode}"
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def exporter(*words: str, listen: str = EXPORTER) -> Iterator[int]:
    """mptcp-sockopt export, once it serves; its PID."""
    command = sys.executable, "-m", "mptcp_sockopt", "export", "--listen", listen, *words
    with running(*command) as process:
        until(lambda: answers(f"http://{listen}/metrics"), "the exporter")
        yield process.pid


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=DEADLINE).close()
    except OSError:
        return False
    return True


def page(listen: str = EXPORTER) -> str:
    with urllib.request.urlopen(f"http://{listen}/metrics", timeout=DEADLINE) as answer:
        text: bytes = answer.read()
    return text.decode()


class Prometheus:
    """What its API answers."""

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The value of each series, by its labels. AssertionError for what it does not understand."""
        return {
            tuple(sorted(row["metric"].items())): float(row["value"][1])
            for row in self._asked("query", query=expression)["result"]
        }

    def total(self, expression: str) -> float:
        """The sum of all series."""
        return sum(self.query(expression).values())

    def matrix(self, expression: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """The samples of each series of a range selector: times and values."""
        found = self._asked("query", query=expression)["result"]
        return [(row["metric"], [(at, float(value)) for at, value in row["values"]]) for row in found]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._asked("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _asked(self, what: str, **words: str) -> Any:
        url = f"http://{SERVER}/api/v1/{what}?{urllib.parse.urlencode(words)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{words}: {error.read().decode()}") from None
        assert found["status"] == "success", found
        return found["data"]


@contextlib.contextmanager
def prometheus(
    folder: Path, interval: str = "1s", *, wait: str | None = None, targets: str = "", more: str = ""
) -> Iterator[Prometheus]:
    """Prometheus with the files of deploy/, but another interval; wait: in the place of every `for:`; more:
    at the end of the job."""
    program = needs("prometheus", "prometheus")
    config = re.sub(r"_interval: \w+", f"_interval: {interval}", (DEPLOY / "prometheus.yml").read_text())
    if targets:
        config = re.sub(r"targets: .*", f"targets: [{targets}]", config)
    rules = (DEPLOY / "mptcp.rules.yml").read_text()
    if wait:
        rules = re.sub(r"for: \w+", f"for: {wait}", rules)
    (folder / "prometheus.yml").write_text(config + more)
    (folder / "mptcp.rules.yml").write_text(rules)
    words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with running(program, *words, f"--web.listen-address={SERVER}", "--log.level=error"):
        until(lambda: answers(f"http://{SERVER}/-/ready"), "Prometheus")
        yield Prometheus()


def metrics_of(text: str) -> set[str]:
    """The names of our metrics in a query, a rule or a page, without what a histogram appends."""
    names = set(re.findall(r"(?<![\w:])mptcp_\w+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name != "mptcp_sockopt"}
