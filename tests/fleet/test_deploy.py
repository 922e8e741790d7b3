# SPDX-License-Identifier: MIT
"""The files of deploy/: promtool accepts them, and they name only what there is."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mptcp_sockopt import host, metrics
from mptcp_sockopt.cli import export

from ..cli.exporting import exporting, scraped, value
from ..support import in_private_network, mptcp_pair, needs, needs_root, run
from .prometheus import DEPLOY, ROOT, metrics_of

NAMES = {*metrics.HELP, *export.HELP}
RULES, DASHBOARD = DEPLOY / "mptcp.rules.yml", DEPLOY / "dashboard.json"
PAGE, UNIT = ROOT / "docs" / "fleet.md", DEPLOY / "mptcp-exporter.service"


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


@pytest.mark.parametrize(
    "words", [("check", "config", "prometheus.yml"), ("test", "rules", "mptcp.rules.test.yml")], ids=" ".join
)
def test_promtool_accepts_them(words: tuple[str, ...]) -> None:
    """The configuration with its rules; and each alert fires and resolves as its test says."""
    done = subprocess.run(
        [needs("promtool", "prometheus"), *words], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout + done.stderr


def test_every_alert_has_a_test_and_a_place_in_the_page() -> None:
    """That it fires; docs/fleet.md says what to do."""
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tests = (DEPLOY / "mptcp.rules.test.yml").read_text()
    fired = re.findall(r"alertname: (\w+)\n +exp_alerts:", tests)
    assert set(alerts) == set(fired)
    assert [alert for alert in alerts if f"`{alert}`" not in PAGE.read_text()] == []


@pytest.mark.parametrize("file", [RULES, DASHBOARD, PAGE], ids=lambda path: path.name)
def test_they_name_metrics_that_there_are(file: Path) -> None:
    """In rules, queries and the page; what a recording rule makes has a colon."""
    assert metrics_of(file.read_text()) - NAMES == set()
    recorded = set(re.findall(r"- record: (\S+)", RULES.read_text()))
    assert set(re.findall(r"\binstance\w*:\w+:\w+", file.read_text())) <= recorded


def test_the_page_has_every_metric() -> None:
    """In its table."""
    assert [name for name in sorted(NAMES) if f"`{name}`" not in PAGE.read_text()] == []


def test_the_counters_of_rules_are_the_kernels(mptcp: None) -> None:
    """A name that is misspelt would never fire. Some are newer than some kernels."""
    counters = set(host.counters())
    if "Blackhole" not in counters or "MPJoinSynTxBindErr" not in counters:
        pytest.skip("an older kernel lacks some of the counters")
    for file in (RULES, DASHBOARD):
        text = file.read_text().replace("\\", "")
        named = re.findall(r'counter=~?"([^"]+)"', text)
        assert named
        for pattern in named:
            for part in re.sub(r"(\w*)\(([^)]*)\)(\w*)", _spread, pattern).split("|"):
                assert part in counters, pattern


def _spread(found: re.Match[str]) -> str:
    return "|".join(found[1] + part + found[3] for part in found[2].split("|"))


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    """And it can do little elsewhere: an exposure of at most 2 of 10. Its command is not installed here."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd-analyze")
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"(?m)^Documentation=.*\n", "", text))
    for words in (("verify",), ("security", "--offline=true", "--threshold=20")):
        found = subprocess.run(["systemd-analyze", *words, unit], capture_output=True, text=True, check=False)
        assert (found.returncode, found.stderr) == (0, ""), found


def test_it_works_in_the_sandbox_of_the_unit(mptcp: None) -> None:
    """As another user with the one capability, and a /proc of processes alone: nothing is missing."""
    pytest.importorskip("prometheus_client")
    needs_root()
    needs("setpriv", "util-linux")
    only = (
        "--reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin"
    )
    only += " --bounding-set=-all,+net_admin --no-new-privs"
    if run("setpriv", *only.split(), sys.executable, "-c", "import mptcp_sockopt", cwd=ROOT).returncode:
        pytest.skip("this Python is in a folder that other users may not enter")
    script = f'mount -t proc -o subset=pid,hidepid=invisible proc /proc && exec setpriv {only} "$@"'
    unshare = needs("unshare", "util-linux"), "--mount", "sh", "-c", script, "sh"

    def look() -> None:
        with exporting("--listen", "127.0.0.1:0", before=unshare) as (_, url), mptcp_pair(socket.AF_INET):
            text = scraped(url)
            for part in metrics.PARTS:
                assert value(text, f'mptcp_exporter_missing{{what="{part}"}}') == 0, part
            assert value(text, 'mptcp_events_total{event="created"}') == 2
            assert value(text, "mptcp_exporter_resident_memory_bytes") > 1e6

    in_private_network(look)


def test_every_panel_says_which_question_it_answers() -> None:
    """In its description, which ends in a sentence; and the page has it in its table."""
    page = PAGE.read_text()
    for panel in panels():
        assert "?" in panel["description"], panel["title"]
        assert f"| {panel['title']} |" in page
        assert panel["description"].partition("?")[0] + "?" in page
        assert panel["targets"]
    assert len({panel["title"] for panel in panels()}) == len(panels()) == page.count("? |")


def test_every_axis_begins_at_0() -> None:
    """Or a share that hardly moves looks like a cliff; one panel has what was received below 0."""
    for panel in panels():
        below = any(target["expr"].startswith("-") for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"].get("min") == (None if below else 0), panel["title"]
