# SPDX-License-Identifier: MIT
"""What MPTCP costs: the page and its picture are rendered from what was measured, and it can be measured."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import socket
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from benchmarks import cost, cost_memory, cost_networks, cost_page, fixtures, report
from benchmarks.cost_networks import KINDS, check
from benchmarks.measure import Costs, Measured, Missing, Spread, exactly, several_in_turns

from ..support import run

ROOT = Path(__file__).parents[2]
DOCUMENT = report.load((ROOT / "docs" / "cost.json").read_text())
PAGE = (ROOT / "docs" / "cost.md").read_text()


def of(ratios: dict[str, Spread]) -> report.Document:
    """The document with other figures."""
    measured = dataclasses.replace(DOCUMENT.measured, ratios=DOCUMENT.measured.ratios | ratios)
    return DOCUMENT._replace(measured=measured)


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_shows_what_was_measured() -> None:
    """Nothing between the markers is typed by hand; a figure that is another makes another page."""
    assert report.between_markers(PAGE, *cost_page.for_docs(DOCUMENT), begin=cost_page.BEGIN) == PAGE
    other = of({"paths C throughput mptcp 2": Spread(7.77, 7.7, 7.8, 3)})
    assert "7.77 (7.70 to 7.80)" in report.between_markers(
        PAGE, *cost_page.for_docs(other), begin=cost_page.BEGIN
    )


def test_the_picture_shows_what_was_measured() -> None:
    """It is made anew from the figures, which it names; others make another picture."""
    drawn = (ROOT / "docs" / "cost.svg").read_text()
    assert cost_page.svg(DOCUMENT) == drawn
    assert report.digest(DOCUMENT) in drawn
    other = cost_page.svg(of({"paths C throughput mptcp 2": Spread(1.01, 1.0, 1.02, 3)}))
    assert set(re.findall(r"<circle.*", other)) != set(re.findall(r"<circle.*", drawn))


def test_no_figure_stands_outside_the_markers() -> None:
    """No ratio such as 1.23 is typed."""
    generated = f"{re.escape(cost_page.BEGIN)}.*?{re.escape(report.END)}"
    assert not re.findall(r"\d\.\d", re.sub(generated, "", PAGE, flags=re.DOTALL))
    assert f"Each path has a rate of {cost_networks.RATE} Mbit/s." in PAGE


def test_everything_was_measured() -> None:
    """Both programs on both networks, memory and Nagle; a JSON that comes back as it went."""
    wanted = {
        cost_page.key(network, program, what, kind)
        for network in cost_page.NETWORKS
        for program in cost_page.PROGRAMS
        for what in cost.WHATS
        for kind in KINDS.keys() - {"tcp"}
    }
    wanted |= {f"{what} {kind}" for what in ("memory", "bytes") for kind in KINDS}
    wanted |= {"nagle tcp", "nagle mptcp 1"}
    assert wanted <= DOCUMENT.measured.ratios.keys()
    assert DOCUMENT.measured.missing == []
    text = (ROOT / "docs" / "cost.json").read_text()
    assert report.load(text).dump() == text


def test_sockets_of_a_connection_are_counted_whole() -> None:
    """Both ends: a TCP socket for each subflow, and an MPTCP socket where both asked for MPTCP."""
    for kind, (_, client, listener, subflows) in KINDS.items():
        both = client == listener == mp.IPPROTO_MPTCP
        counted = [
            DOCUMENT.measured.ratios.get(f"objects {kind} {cache}", exactly(0)).median
            for cache in cost_page.SOCKETS
        ]
        assert counted == [2 * subflows, 2 * both], kind
    assert DOCUMENT.measured.ratios["memory again"].median == pytest.approx(1, abs=0.03)


def test_a_noisy_run_says_so() -> None:
    """By its A/A rows: what they cannot be told from is in italics, and a noisy run is named."""
    quiet = {name: Spread(1, 0.99, 1.02, 9) for name in DOCUMENT.measured.ratios if name.endswith(" again")}
    assert "noisy" not in cost_page.origin(of(quiet))
    for edges in ((0.5, 1.0), (1.0, 1.2)):
        noisy = {"loopback C opening again": Spread(1, *edges, 9)}
        assert "**This run was noisy" in cost_page.origin(of(quiet | noisy))
    noise = Spread(1, 0.9, 1.1, 9)
    assert cost_page.cell(Spread(1.05, 1.0, 1.2, 9), noise) == "*1.05 (1.00 to 1.20)*"
    assert cost_page.cell(Spread(1.15, 1.0, 1.2, 9), noise) == "1.15 (1.00 to 1.20)"


def test_without_c_the_page_says_so() -> None:
    """Its tables are left out, and the reason stands above."""
    kept = {name: one for name, one in DOCUMENT.measured.ratios.items() if " C " not in name}
    measured = dataclasses.replace(DOCUMENT.measured, ratios=kept, notes=["programs in C: no C compiler"])
    without = DOCUMENT._replace(measured=measured)
    origin, c, python, *_ = cost_page.for_docs(without)
    assert "Not measured: programs in C: no C compiler." in origin
    assert c == "Programs in C were not measured."
    assert python == cost_page.for_docs(DOCUMENT)[2]
    assert cost_page.svg(without).count(cost_page.BLUE) == 2  # in the legend


def luminance(colour: str) -> float:
    """Of WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["#ffffff", "#131416"])
def test_the_picture_can_be_read_in_light_and_dark(ground: str) -> None:
    """It has no ground of its own; each colour has a contrast of 3.9 on white, and on the site's black."""
    drawn = (ROOT / "docs" / "cost.svg").read_text()
    colours = set(re.findall(r"#[0-9a-f]{6}", drawn))
    assert colours == {cost_page.INK, cost_page.BLUE, cost_page.ORANGE}
    for colour in colours:
        light, dark = sorted(map(luminance, (ground, colour)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3.9, colour


# ------------------------------------------------------------------------------------------------ measuring


def test_several_things_of_one_round() -> None:
    """Each way once a round, and each thing has its own costs."""
    ways = {"one": lambda: {"time": 2.0, "cpu": 6.0}, "base": lambda: {"time": 1.0, "cpu": 2.0}}
    found = several_in_turns(ways, 3)
    assert found["time"].ratios("one", "base") == Spread(2.0, 2.0, 2.0, 3)
    assert found["cpu"].ratios("one", "base").median == 3.0


def test_more_is_better_for_throughput_only() -> None:
    """Twice the time is half the throughput, and the base is TCP to TCP of the same program."""
    times = {f"{kind} {program}": [2.0] for kind in KINDS for program in ("C", "Python")}
    costs = {what: Costs(times | {"tcp C": [1.0], "tcp Python": [4.0]}) for what in cost.WHATS}
    found = cost.compared("loopback", costs, ["C", "Python"]).ratios
    medians = {what: found[f"loopback C {what} mptcp 1"].median for what in cost.WHATS}
    assert medians == {what: 0.5 if what == "throughput" else 2.0 for what in cost.WHATS}
    assert found["loopback Python latency mptcp 1"].median == 0.5


def test_objects_that_came_for_other_reasons_are_not_counted() -> None:
    """What is no whole number for each connection, in the median, is another's."""
    found = {
        "TCP": Spread(3.99, 3.9, 4.2, 5),
        "kmalloc-512": Spread(2.0, 1.9, 2.6, 5),
        "kmalloc-96": Spread(0.51, 0.4, 0.6, 5),
        "dentry": Spread(2.45, 2.0, 3.0, 5),
        "buffer_head": Spread(0.1, 0.0, 9.0, 5),
    }
    assert cost_memory.whole(found) == {"TCP": 4, "kmalloc-512": 2}


def test_a_connection_that_is_not_what_it_should_be() -> None:
    """Is not measured as if it were."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), 5) as client,
    ):
        check(KINDS["listener"], client)
        with pytest.raises(RuntimeError, match=r"MPTCP, 2 subflows: it is tcp with 1 subflows"):
            check(KINDS["mptcp 2"], client)


def test_a_missing_compiler_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs in Python are measured without it."""
    monkeypatch.setenv("PATH", "")
    fixtures.c_library.cache_clear()
    notes: list[str] = []
    assert list(cost.programs_here(notes)) == ["Python"]
    assert notes == ["programs in C: no C compiler (cc): the floors are written in C"]


def test_a_part_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit status 3; memory, for which root is needed, is no more than a note unless the page is written."""

    def missing(scale: cost.Scale) -> Measured:
        raise Missing("no tc (iproute2)")

    monkeypatch.setattr(fixtures, "apart", lambda function, seconds: function())
    monkeypatch.setattr(cost, "ROOT", tmp_path)  # nothing of the checkout is written
    monkeypatch.setattr(cost, "PARTS", {"memory": missing})
    assert cost.main(["--small"]) == 0
    assert "Not measured: memory: no tc (iproute2)" in capsys.readouterr().err
    assert cost.main(["--write"]) == 3
    assert "MISSING: memory: no tc (iproute2)\nNothing was written." in capsys.readouterr().err
    monkeypatch.setattr(cost, "PARTS", {"paths": missing})
    assert cost.main(["--small"]) == 3


@pytest.mark.parametrize("words", [["--write", "--small"], ["--rounds", "1"], ["loopback"]])
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and a sentence."""
    with pytest.raises(SystemExit) as ended:
        cost.main(words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_small_run(mptcp: None, tmp_path: Path) -> None:
    """Measures all that the page has, in seconds; Nagle's timer is seen on TCP and on MPTCP."""
    file = tmp_path / "cost.json"
    done = run(sys.executable, "-m", "benchmarks", "cost", "--small", "--json", str(file), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["ratios"]
    programs = [name for name in cost_page.PROGRAMS if f"loopback {name} latency again" in found]
    assert "Python" in programs
    assert ("C" in programs) != ("programs in C" in done.stderr)
    for network, words in cost_page.NETWORKS.items():
        for program in programs:
            assert f"{words}, {program}, against TCP to TCP" in done.stdout
            for what in cost.WHATS:
                for kind in KINDS.keys() - {"tcp"}:
                    ratio = found[cost_page.key(network, program, what, kind)]["median"]
                    assert 0 < ratio < math.inf, (network, program, what, kind)
    for kind in ("tcp", "mptcp 1"):
        assert found[f"nagle {kind}"]["median"] > 10
