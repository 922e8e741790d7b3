# SPDX-License-Identifier: MIT
"""cli/_figure.py: what matplotlib draws, to the byte."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mptcp_sockopt.cli import _figure

from ..support import run
from .recorded import many_paths, written
from .test_page import HOSTILE
from .test_panels import picture

pytestmark = pytest.mark.slow
SVG = "{http://www.w3.org/2000/svg}"
DOCS = Path(__file__).parents[2] / "docs"
COMMAND = (sys.executable, "-m", "mptcp_sockopt", "plot")


@pytest.fixture(autouse=True)
def matplotlib() -> None:
    pytest.importorskip("matplotlib")


def test_an_svg_is_the_same_when_repeated(tmp_path: Path) -> None:
    """In another process, time zone and locale, with other settings of matplotlib; no date in it."""
    file = written(tmp_path / "run.jsonl", many_paths(2, 100))
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: black\nfont.size: 20\nsvg.hashsalt: other\n")
    drawn = []
    for n, changed in enumerate([{}, {"TZ": "Asia/Tokyo", "MPLCONFIGDIR": str(tmp_path), "LC_ALL": "C"}]):
        output = tmp_path / f"{n}.svg"
        found = run(*COMMAND, file, "-o", str(output), env={**os.environ, **changed})
        assert (found.returncode, found.stdout) == (0, ""), found.stderr
        drawn.append(output.read_text())
    assert drawn[0] == drawn[1]
    assert "dc:date" not in drawn[0]


def test_text_is_text(tmp_path: Path) -> None:
    """No markup and no formula, whatever a process is called; letters that the font lacks are no error."""
    name = f"{HOSTILE} $x^2$ _"
    drawn = _figure.figure(picture([*many_paths(2, 100, name=name)]), "svg").decode()
    texts = _texts(drawn)
    assert f"10.0.0.1:40000 -> 10.0.0.2:443  {name}/77" in texts
    assert {"the connection", "0  10.0.0.1 -> 10.0.0.2", "1  10.0.1.1 -> 10.0.1.2"} < set(texts)
    assert {"Goodput of the connection, sent (Mbit/s)", "2.  5.00 s  path 1: no ACKs"} < set(texts)
    assert f"{SVG}script" not in {element.tag for element in ElementTree.fromstring(drawn).iter()}


def test_old_values_are_grey() -> None:
    """Of the stalled path: a line in each of the four panels of paths; none where nothing stalls."""
    for paths, grey in ((1, 0), (2, 4)):
        drawn = _figure.figure(picture([*many_paths(paths, 100)]), "svg").decode()
        assert len(re.findall(rf"stroke: {_figure.OLD}", drawn)) == grey


def test_an_hour_of_nine_paths_is_thinned() -> None:
    """An svg of some 2 MB, not 40."""
    assert len(_figure.figure(picture([*many_paths(9, 36_000)]), "svg")) < 4_000_000


def test_the_command_of_docs_plot(tmp_path: Path) -> None:
    """It draws the picture of the page; to the byte, with the release of matplotlib that drew it."""
    (command,) = re.findall(
        r"^`mptcp-sockopt plot (.*?)` drew this", (DOCS / "plot.md").read_text(), re.MULTILINE
    )
    recording, option, output = command.split()
    found = run(*COMMAND, recording, option, str(tmp_path / "plot.svg"), cwd=DOCS.parent)
    assert (found.returncode, found.stderr) == (0, "")
    drawn, shown = (tmp_path / "plot.svg").read_text(), (DOCS.parent / output).read_text()
    release = r"Matplotlib v[\d.]+"
    assert output == "docs/plot.svg"
    if re.findall(release, drawn) == re.findall(release, shown):
        assert drawn == shown
    assert _texts(drawn) == _texts(shown)


def _texts(drawn: str) -> list[str | None]:
    return [element.text for element in ElementTree.fromstring(drawn).iter(f"{SVG}text")]


def test_a_png(tmp_path: Path) -> None:
    """1350 pixels wide."""
    file = written(tmp_path / "run.jsonl", many_paths(1, 20))
    found = run(*COMMAND, file, "-o", str(tmp_path / "x.PNG"))
    assert (found.returncode, found.stdout) == (0, ""), found.stderr
    drawn = (tmp_path / "x.PNG").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert int.from_bytes(drawn[16:20], "big") == 1350
