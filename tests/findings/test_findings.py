# SPDX-License-Identifier: MIT
"""Each program of docs/findings shows its fault on this kernel as its page says, and nothing else for it."""

from __future__ import annotations

import json
import platform
import re
import textwrap
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from ..support import Missing, rounds
from . import figures, pages
from .programs import CANNOT, FINDINGS, FOLDER, NOT_SHOWN, RACES, SHOWN, SLOW, Seen, run

FIGURES = figures.load()
PROGRAMS = [name for name in FINDINGS if name not in RACES]


def expected(name: str) -> int:
    """What it does on this kernel, if that is the one of the pages."""
    if not platform.release().startswith(f"{FIGURES['kernel']}."):
        pytest.skip(f"docs/findings was measured on Linux {FIGURES['kernel']}")
    return SHOWN if FIGURES["findings"][name]["shown"] else NOT_SHOWN


def status(seen: Seen) -> int:
    """Its exit status, once it could run."""
    if seen.status == CANNOT and seen.text.splitlines()[-1].startswith("cannot be seen here: "):
        raise Missing(seen.text.splitlines()[-1])
    return seen.status


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in SLOW])
def test_it_shows_as_its_page_says(name: str, mptcp: None) -> None:
    """Once, on this kernel; and over TCP, or in its other control, it does not."""
    seen = run(name)
    assert status(seen) == expected(name), seen.text
    assert len(seen.text.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_shows_each_time(name: str, mptcp: None) -> None:
    """20 of 20, or 0 of 20."""
    assert {status(run(name)) for _ in range(rounds(20))} == {expected(name)}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [("closing_listener", "5"), ("reply_lost", "20000")])
def test_a_race_is_lost_or_not(name: str, words: str, mptcp: None) -> None:
    """Its control never is."""
    seen = run(name, words)
    assert status(seen) in (SHOWN, NOT_SHOWN), seen.text
    assert re.search(r", 0 (of them|without)", seen.text.splitlines()[0]), seen.text


# ------------------------------------------------------------------------------------------- reproduce.py


@pytest.mark.parametrize(
    ("says", "ends"),
    [
        ("return 'seen', protocol != TCP", 1),
        ("return 'seen', False", 0),
        ("return 'seen', True", 3),
        ("return 'seen', protocol == TCP", 3),
        ("raise UnavailableError(0, 'no such thing')", 3),
        ("return 1 // 0", 3),
    ],
)
def test_the_exit_status_says_what_was_seen(says: str, ends: int, tmp_path: Path, mptcp: None) -> None:
    """1 for a fault of MPTCP alone; a mistake of the program, or a control that does the same, is none."""
    program = f"""
    from reproduce import TCP, UnavailableError, reproduce
    def once(protocol):
        {says}
    reproduce(once)
    """
    (tmp_path / "it.py").write_text(textwrap.dedent(program))
    assert run("it", folder=tmp_path).status == ends


def test_a_network_without_mptcp_shows_nothing(tmp_path: Path, mptcp: None) -> None:
    """The reason is printed."""
    program = """
    import mptcp_sockopt as mp
    mp.is_supported = lambda: mp.Support.DISABLED
    from reproduce import reproduce
    reproduce(lambda protocol: ("seen", True))
    """
    (tmp_path / "it.py").write_text(textwrap.dedent(program))
    assert run("it", folder=tmp_path) == (CANNOT, f"cannot be seen here: {mp.Support.DISABLED.value}\n")


# ------------------------------------------------------------------------------------ figures and pages


@pytest.mark.parametrize(
    ("shown", "of", "low", "high"),
    [(20, 20, 0.8316, 1), (0, 20, 0, 0.1684), (10, 20, 0.2720, 0.7280), (9, 1_500_000, 2.744e-6, 1.139e-5)],
)
def test_bounds_are_those_of_the_tables(shown: int, of: int, low: float, high: float) -> None:
    """Of Clopper and Pearson, two-sided, 95 %."""
    assert figures.interval(shown, of) == pytest.approx((low, high), rel=1e-3)


def test_the_pages_are_those_of_the_figures() -> None:
    """Rendered again, they are the same; and so is the file of figures."""
    for path, text in pages.all_pages(FIGURES).items():
        assert path.read_text() == text, path.name
    assert figures.text_of(FIGURES) == figures.FILE.read_text()
    assert list(FIGURES["findings"]) == list(FINDINGS)


def test_a_page_without_its_marks_is_refused() -> None:
    """Rather than left as it was."""
    with pytest.raises(ValueError, match="marks"):
        pages.rendered("no marks", "")


def test_each_finding_has_a_page_and_a_short_program() -> None:
    """Below 60 lines, with its control and its exit status from reproduce.py; the page has a report."""
    programs = {path.stem for path in FOLDER.glob("*.py")} - {"reproduce"}
    assert programs == FINDINGS.keys() == {path.stem for path in FOLDER.glob("*.md")} - {"index"}
    for name in FINDINGS:
        program, page = (FOLDER / f"{name}.py").read_text(), pages.page(name).read_text()
        assert len(program.splitlines()) < 60, name
        assert re.search(r"^    reproduce\(once", program, re.MULTILINE), name
        assert not re.search(r"mptcp_sockopt\._|import _", program), name
        (report,) = re.findall(r"## Report\n\n```text\n(Subject: .*?)```\n$", page, re.DOTALL)
        assert f"{name}.py" in report
        assert "reproduce.py" in report


def test_their_links_lead_somewhere() -> None:
    """To pages of docs, and to files beside them."""
    for path in FOLDER.glob("*.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (FOLDER / link).exists(), (path.name, link)


def test_other_kernels_come_from_a_run_of_them(tmp_path: Path) -> None:
    """Those that it booted, over those that were there; a row without an answer changes nothing."""
    rows = [
        {"arch": "amd64", "series": "6.9", "release": "6.9.1-amd64", "findings": {"first_byte_lost": 0}},
        {"arch": "amd64", "series": "6.10", "release": None, "findings": None},
    ]
    (tmp_path / "rows.json").write_text(json.dumps({"rows": rows}))
    found = figures.with_kernels({**FIGURES, "kernels": {}}, tmp_path / "rows.json")
    assert list(found["kernels"]) == ["amd64-6.9"]
    assert pages.kernels("first_byte_lost", found) == {NOT_SHOWN: ["6.9"]}
    assert pages.kernels("bytes_again", found) == {SHOWN: ["6.9"]}
