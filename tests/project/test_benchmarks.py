# SPDX-License-Identifier: MIT
"""The figures are rendered from what was measured, and what measures them measures."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import aio, fixtures, groups, loads, measure, report
from benchmarks.measure import Costs, Growth, Measured, Spread, exactly, spread

from ..support import Missing, run

ROOT = Path(__file__).parents[2]
DOCUMENT = report.load((ROOT / "docs" / "benchmarks.json").read_text())
LITTLE = measure.Scale(rounds=3, windows=1, window=0.1, connections=100, seconds=2)


def floors_of_c() -> None:
    try:
        fixtures.c_library()
    except measure.Missing as missing:
        raise Missing(str(missing)) from None


def measured(function: Callable[[], Measured]) -> Measured:
    floors_of_c()
    try:
        return fixtures.apart(function, 60)
    except measure.Missing as missing:
        raise Missing(str(missing)) from None


# ---------------------------------------------------------------------------------- what the pages show


@pytest.mark.parametrize("name", report.PAGES)
def test_the_pages_show_what_was_measured(name: str) -> None:
    """Nothing between the markers is typed by hand."""
    page = (ROOT / name).read_text()
    assert report.between_markers(page, *report.PAGES[name](DOCUMENT)) == page


def test_the_picture_shows_what_was_measured() -> None:
    """It says from which figures it was drawn."""
    assert report.digest(DOCUMENT) in (ROOT / "docs" / "benchmarks.svg").read_text()


def test_no_figure_stands_outside_the_markers() -> None:
    """In the README's section and on the page of the benchmarks: no ratio such as 1.23."""
    readme, page = [(ROOT / name).read_text() for name in report.PAGES]
    for text in (readme[readme.index("## What it costs") : readme.index("## From a checkout")], page):
        generated = f"{re.escape(report.BEGIN)}.*?{re.escape(report.END)}"
        assert not re.findall(r"\d\.\d", re.sub(generated, "", text, flags=re.DOTALL))


def test_everything_was_measured() -> None:
    """Every target, both tables, and no prerequisite missing."""
    assert [target.key for target in measure.TARGETS if target.key not in DOCUMENT.measured.ratios] == []
    assert DOCUMENT.measured.growth.keys() == report.COUNTED.keys()
    assert DOCUMENT.measured.missing == []


def test_json_comes_back_as_it_went() -> None:
    """dump() and load() are each other's reverse."""
    text = (ROOT / "docs" / "benchmarks.json").read_text()
    assert report.load(text).dump() == text


def test_pages_without_their_markers_are_refused() -> None:
    """Rather than written anywhere; each text goes between its own."""
    pair = f"{report.BEGIN}\nold\n{report.END}\n"
    assert report.between_markers(pair * 2, "one", "two") == (
        pair.replace("old", "one") + pair.replace("old", "two")
    )
    assert report.between_markers(f"a\n{report.BEGIN}\nold\n{report.END}\nb", "new") == (
        f"a\n{report.BEGIN}\nnew\n{report.END}\nb"
    )
    for page in ("", report.BEGIN, f"{report.BEGIN}{report.END}" * 2):
        with pytest.raises(ValueError, match="markers"):
            report.between_markers(page, "new")


# ------------------------------------------------------------------------------------------- measuring


def test_the_median_is_that_of_the_ratios_of_each_round() -> None:
    """And not the ratio of the medians: a slow round is slow for both."""
    costs = Costs({"one": [2.0, 40.0, 6.0], "base": [1.0, 10.0, 2.0]})
    assert costs.ratios("one", "base") == Spread(3.0, 2.0, 4.0, 3)
    assert costs.ratios("one", "base", 0.5).median == 1.5
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    assert exactly(0) == Spread(0, 0, 0, 1)


def test_interleaving_with_a_clock_that_is_exact() -> None:
    """Every variant once a round, as often as makes a block, never in one order."""
    now, order = 0, []

    def costing(name: str, cost: int) -> measure.Variant:
        def variant(n: int) -> None:
            nonlocal now
            order.append(name)
            now += cost * n

        return variant

    variants = {
        "one": costing("one", 3_000),
        "other": costing("other", 1_000),
        "heavy": costing("heavy", 10**8),
    }
    costs = measure.interleave(variants, 16, lambda: now)
    assert costs.ratios("one", "other") == Spread(3.0, 3.0, 3.0, 16)
    assert costs.ratios("heavy", "other").median == 100_000
    rounds = [tuple(order[-48:][start : start + 3]) for start in range(0, 48, 3)]
    assert {tuple(sorted(names)) for names in rounds} == {("heavy", "one", "other")}
    assert len(set(rounds)) > 1
    assert measure.calibrate(variants["other"], lambda: now, 5_000_000) == 5_000
    assert measure.calibrate(variants["heavy"], lambda: now, 5_000_000) == 1


def test_calls_of_one_socket(mptcp: None) -> None:
    """Each target of the group gets its ratio (mptcplib is optional), and C is what nothing is below."""
    found = measured(lambda: groups.calls(LITTLE))
    wanted = {target.key for target in measure.TARGETS if target.group == "calls"} - {"T2m"}
    assert wanted <= found.ratios.keys()
    assert ("T2m" in found.ratios) != bool(found.notes)
    for key in ("S1", "S2", "T3", "T4", "T5", "info / C"):
        assert found.ratios[key].median > 1, key
    assert found.missing == []


def test_asyncio(mptcp: None) -> None:
    """Two small writes do not wait for an acknowledgement; uvloop is optional here."""
    found = measured(lambda: aio.on_asyncio(LITTLE)).ratios
    assert found.keys() == {"T25", "T26"}
    assert found["T25"].median < 20  # without TCP_NODELAY it is 500
    if importlib.util.find_spec("uvloop"):
        assert measured(lambda: aio.on_uvloop(LITTLE)).ratios.keys() == {"T25u"}


def test_the_load_of_reuseport(mptcp: None) -> None:
    """Against threads and C: at least, each is measured, and the three do the same."""
    found = measured(lambda: loads.loads(LITTLE)).ratios
    assert found.keys() == {"T28", "T28c", "T28p"}
    assert all(0.01 < spread.median < 100 for spread in found.values())


def test_one_socket_every_second(mptcp: None) -> None:
    """Each target of the group; the worst of all counts is no better than that with one path. How much it is
    is for quiet machines."""
    found = measured(lambda: groups.follow(LITTLE)).ratios
    assert found.keys() == {target.key for target in measure.TARGETS if target.group == "follow"}
    for key in ("T19", "T20", "T21"):
        assert found[f"{key}w"].median >= found[key].median > 0.01


def test_connections_that_come_and_go(mptcp: None) -> None:
    """Leave no descriptor behind."""
    found = measured(lambda: groups.soak(LITTLE)).ratios
    assert found["T18f"].median == 0
    assert found["T18c"].median > 0
    assert 0.5 < found["T18"].median < 2


def test_exactly_so_many_sockets(mptcp: None) -> None:
    """A namespace has those that were asked for, and both ends of each connection answer."""

    def count() -> Measured:
        socks: list[socket.socket] = []
        counts = []
        for size in (10, 30):
            fixtures.grow(socks, size)
            counts.append(len(socks))
        fixtures.c_loop(socks)(1)
        return Measured({str(size): exactly(size) for size in counts})

    assert measured(count).ratios.keys() == {"10", "30"}


def test_too_many_descriptors_are_named(mptcp: None) -> None:
    """What the hard limit forbids is missing, not an error in the middle."""
    floors_of_c()

    def too_many() -> Measured:
        fixtures.grow([], 10**9)
        return Measured()

    with pytest.raises(Missing, match=r"descriptors: the hard limit is \d+"):
        measured(too_many)


# ----------------------------------------------------------------------------------- verdicts, and peers


@pytest.mark.parametrize(
    ("ratio", "at_least", "wanted"),
    [
        (1.0, False, "ambitious"), (1.1, False, "ambitious"), (1.2, False, "ok"), (1.3, False, "ok"),
        (1.31, False, "above"), (40.0, True, "ambitious"), (1.2, True, "ok"), (1.0, True, "below"),
    ],
)  # fmt: skip
def test_verdicts(ratio: float, at_least: bool, wanted: str) -> None:
    """Against the aim, then the gate; both included."""
    gate, aim = (1.1, 1.3) if at_least else (1.3, 1.1)
    target = measure.Target("T", "calls", "", gate, aim, at_least=at_least)
    assert measure.verdict(target, {"T": exactly(ratio)}) == wanted


def test_what_is_not_judged() -> None:
    """What was not measured, what has no gate, and all of a machine with other system calls."""
    target = measure.Target("T", "calls", "", 1.3)
    assert measure.verdict(target, {}) == "missing"
    assert measure.verdict(target._replace(gate=None), {"T": exactly(1)}) == "recorded"
    assert measure.verdict(target, {"T": exactly(1), "S1": exactly(2)}) == "ok"
    assert measure.verdict(target, {"T": exactly(1), "S1": exactly(3)}) == "recorded"


def test_the_best_of_several_tries_is_kept() -> None:
    """Target by target, with the bound of the same rounds."""
    first = Measured({"T1": exactly(1.4), "T1 bound": exactly(0.7), "T9": exactly(1.0)}, missing=["a"])
    second = Measured({"T1": exactly(1.5), "T1 bound": exactly(0.6), "T9": exactly(2.0)})
    assert command.best(first, second).ratios == {
        "T1": exactly(1.4), "T1 bound": exactly(0.7), "T9": exactly(2.0)
    }  # fmt: skip
    assert command.best(first, second).missing == []


def test_a_group_is_repeated_while_a_verdict_is_not_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times at most."""
    values = itertools.chain([1.5, 1.4, 1.2], itertools.repeat(9.0))
    group = command.Group("", [lambda scale: Measured({"T1": exactly(next(values))})], in_namespace=False)
    monkeypatch.setitem(command.GROUPS, "calls", group)
    assert command.measure("calls", command.SMALL).ratios["T1"].median == 1.2
    assert next(values) == 9.0
    assert command.measure("calls", command.SMALL).ratios["T1"].median == 9.0


def test_every_group_has_parts_and_every_target_a_group() -> None:
    """And every key is there once; what a page shows exists."""
    assert all(group.parts for group in command.GROUPS.values())
    keys = [target.key for target in measure.TARGETS]
    assert len(keys) == len(set(keys))
    assert {target.group for target in measure.TARGETS} == command.GROUPS.keys() - {"growth"}
    assert set(report.OF_README) <= set(keys)


def test_numbers_are_short() -> None:
    """Three digits, counts as counts, nothing for None."""
    shown = [report.number(value) for value in (1.234, 12.34, 1234.5, 0, 2.0, None)]
    assert shown == ["1.23", "12.3", "1,234", "0", "2.00", ""]


def test_growth_is_a_table() -> None:
    """A gap for what could not be measured; no column is out of line."""
    table = Growth([1, 1000], {"`a` b": [1.0, 2.5], "c": [3.25, None]})
    document = report.Document({"kernel": "Linux"}, 3, Measured(growth={"connections": table}))
    assert report.text(document, []).splitlines()[-3:] == ["     1     1000", "a b  1.00  2.50", "c    3.25"]


def test_ss_is_parsed_on_one_line_and_on_two() -> None:
    """A dictionary for every socket."""
    head = "ESTAB 0 0 127.0.0.1:50000 127.0.0.1:80"
    found = [
        fixtures.parse_ss(text) for text in (f"{head}\n\t token:1a flags:00\n{head}\n", f"{head} token:1a\n")
    ]
    assert [len(rows) for rows in found] == [2, 1]
    assert found[0][0]["token"] == found[1][0]["token"] == "1a"
    assert (found[0][1]["local"], found[0][1]["peer"]) == ("127.0.0.1:50000", "127.0.0.1:80")


# --------------------------------------------------------------------------------------------- the command


def benchmarks(*arguments: str, **options: Any) -> tuple[int, str, str]:
    done = run(sys.executable, "-m", "benchmarks", *arguments, cwd=ROOT, **options)
    return done.returncode, done.stdout, done.stderr


def test_the_list() -> None:
    """Tells every group and target, and measures nothing."""
    code, out, err = benchmarks("--list")
    assert (code, err) == (0, "")
    for group in command.GROUPS:
        assert f"{group}: " in out
    for target in measure.TARGETS:
        assert target.what in out


@pytest.mark.parametrize(
    "arguments",
    [["speed"], ["--write", "calls"], ["--write", "--small"], ["--rounds", "1"], ["--seconds", "0"]],
)
def test_usage(arguments: list[str]) -> None:
    """Exit status 2, and a sentence."""
    code, out, err = benchmarks(*arguments)
    assert (code, out) == (2, "")
    assert "error: " in err


def test_a_missing_compiler_is_named(mptcp: None) -> None:
    """Exit status 3; the table says so too."""
    code, out, err = benchmarks("calls", env={**os.environ, "PATH": ""})
    assert code == 3
    assert "MISSING: calls: no C compiler" in err
    assert re.search(r"T1 .* missing\n", out)
