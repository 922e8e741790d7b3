# SPDX-License-Identifier: MIT
"""docs/fleet.md: its commands and its programs, run as they are printed; and what a fleet costs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ..support import in_private_network, mptcp_pair, needs, rounds, until
from .prometheus import DEPLOY, ROOT, exporter, page, prometheus

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "fleet.md").read_text()
#: Commands that install something, or need a Grafana.
NOT_HERE = ("git clone ", "cd ", "apt-get ", "pip ", "curl -fsS -u admin ")


def test_its_ten_commands(mptcp: None) -> None:
    """From the exporter to a query with an answer; without those that install, and that for Grafana."""
    pytest.importorskip("prometheus_client")
    needs("prometheus", "prometheus")
    needs("curl", "curl")
    (block,) = re.findall(r"```sh\n(git clone.*?)```", PAGE, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) == 10
    left = [line for line in lines if not line.startswith(NOT_HERE)]
    assert len(left) == 5
    program = f"{sys.executable} -m mptcp_sockopt"
    commands = "\n".join(left).replace("mptcp-sockopt export", f"{program} export")
    script = f"set -e; trap 'kill $(jobs -p)' EXIT\n{commands}"

    def run() -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            ["bash", "-c", script], cwd=DEPLOY, env=environment, capture_output=True, text=True, timeout=120
        )

    done = in_private_network(run, within=150)
    assert done.returncode == 0, done
    assert '"__name__":"mptcp_available"' in done.stdout
    assert "SUCCESS" in done.stdout
    json.loads((DEPLOY / "dashboard.json").read_text())


def test_its_programs(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """The collector of prometheus_client, and the instruments of OpenTelemetry, have both ends."""
    pytest.importorskip("prometheus_client")
    pytest.importorskip("opentelemetry.sdk")
    for_prometheus, for_opentelemetry = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    def run_both() -> int:
        with mptcp_pair(socket.AF_INET) as (client, accepted):
            client.sendall(b"x" * 100)
            accepted.recv(100)
            exec(for_prometheus, {})
            print("----")
            exec(for_opentelemetry, {})
            sys.stdout.flush()
            return int(accepted.getsockname()[1])

    port = in_private_network(run_both)
    text, _, found = capfd.readouterr().out.partition("----\n")
    assert f'mptcp_received_bytes_total{{family="ipv4",port="{port}"}} 100.0\n' in text
    assert 'mptcp_path_rtt_seconds_bucket{address="127.0.0.1",family="ipv4",le="+Inf"} 2.0\n' in text
    (scope,) = json.loads(found)["resource_metrics"][0]["scope_metrics"]
    points: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for metric in scope["metrics"]:
        found_points = metric["data"]["data_points"]
        values = {tuple(sorted(point["attributes"].items())): point["value"] for point in found_points}
        points[metric["name"]] = values
    assert points["mptcp_received_bytes_total"][("family", "ipv4"), ("port", str(port))] == 100
    assert sum(points["mptcp_connections"].values()) == 2


def test_what_a_fleet_costs(tmp_path: Path, mptcp: None) -> None:
    """Prometheus scrapes 200 exporters: as many series as the page says, and fewer with its relabelling."""
    needs("prometheus", "prometheus")
    count = rounds(200)
    targets = ", ".join(f'"127.0.1.{number}:10262"' for number in range(1, count + 1))
    (relabelling,) = re.findall(r"```text\n(    metric_relabel.*?)```", PAGE, re.DOTALL)

    def scrape() -> list[float]:
        found: list[float] = []
        after = 0.0
        with mptcp_pair(socket.AF_INET), exporter(listen="0.0.0.0:10262"):
            samples = len(re.findall(r"^\w", page(), re.MULTILINE))
            for more in ("", relabelling):
                folder = tmp_path / str(len(found))
                folder.mkdir()
                with prometheus(folder, "5s", targets=targets, more=more) as seen:
                    until(lambda seen=seen: seen.total("up") == count, "a scrape of each")  # type: ignore[misc]
                    until(lambda seen=seen: seen.total("mptcp_exporter_info") == count, "its rows")  # type: ignore[misc]
                    found.append(seen.total('count({__name__=~"mptcp_.*"})') / count)
                    after = seen.total('scrape_samples_post_metric_relabeling{instance="127.0.1.1:10262"}')
        return [samples, *found, after]

    samples, all_of_them, fewer, after = in_private_network(scrape, within=300)
    print(f"{count} exporters: {all_of_them:g} series each of {samples:g} samples; relabelled {fewer:g}")
    assert abs(all_of_them - samples) <= 8  # what came with later looks, and the recorded ones
    assert all_of_them - fewer > 40
    assert after == fewer
