# SPDX-License-Identifier: MIT
"""The documentation site, as it is built: ``python -m pytest -m docs``, with the extra "docs"."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from reuseport import steer

from ..support import Missing, needs
from . import fields, share, site

pytestmark = pytest.mark.docs

DOCS = site.ROOT / "docs"
HANDOVER = (site.ROOT / "reuseport" / "handover" / "__init__.py").read_text()
ROOMS = "aio asgi host metrics processes testing wsgi".split()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("sphinx") is None:
        raise Missing("sphinx: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site") / "one"
    done = site.build(DOCS, out)
    assert done.returncode == 0, done.stderr
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_sources_give_the_same_bytes(built: Path) -> None:
    """Built again from nothing."""
    again = built.with_name("two")
    assert site.build(DOCS, again).returncode == 0
    one, two = files_of(built), files_of(again)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_no_link_is_dead(built: Path) -> None:
    """Within the site; of the others, nobody knows without a network."""
    assert site.dead_links(built) == []
    page = built / "install.html"
    sound = page.read_text()
    page.write_text(sound.replace('href="selftest.html"', 'href="selftest.html#nothing"', 1))
    assert site.dead_links(built) == ["install.html: selftest.html#nothing"]
    page.write_text(sound)


def test_no_page_has_a_red_box(built: Path) -> None:
    """The build may be green, and yet furo draws one."""
    assert [path.name for path in built.rglob("*.html") if site.red_boxes(path.read_text())] == []
    assert site.red_boxes('<div class="admonition error system-message">')
    assert site.red_boxes('<nav class="contents local" id="contents">')


def test_nothing_scrolls_sideways(built: Path) -> None:
    """On a phone of 390 pixels; a table or a block of code may, by itself."""
    chromium = shutil.which("google-chrome") or needs("chromium", "chromium")
    planted = built / "planted.html"
    wide = '<h1>W<div style="width: 2000px">wide</div>'
    planted.write_text((built / "run.html").read_text().replace("<h1>", wide, 1))
    found = site.scrolls_sideways(chromium, built, 390)
    planted.unlink()
    assert found == ["planted.html"]


def public_names() -> set[str]:
    """All that a program may import, with the attributes of results."""
    names = {f"mptcp_sockopt.{name}" for name in mp.__all__}
    for room in ROOMS:
        module = importlib.import_module(f"mptcp_sockopt.{room}")
        names |= {f"{module.__name__}.{name}" for name in module.__all__}
    # These have no __all__: what one imports to export it, and what the other has itself.
    names |= {f"reuseport.handover.{name}" for name in re.findall(r" as (\w+)$", HANDOVER, re.MULTILINE)}
    own = [name for name, thing in vars(steer).items() if getattr(thing, "__module__", "") == steer.__name__]
    names |= {f"reuseport.steer.{name}" for name in own if not name.startswith("_")}
    for result in fields.RESULTS:
        for table in fields.tables(result):
            for row in table.splitlines()[2:]:
                names.add(f"mptcp_sockopt.{result.__name__}.{row.split('`')[1]}")
    return names


def test_the_inventory_is_the_code(built: Path) -> None:
    """Every public name and every attribute of a result, and no other name; every command and option."""
    found = site.inventory(built)
    python = {name for kind, name in found if kind.startswith("py:") and kind != "py:module"}
    wanted = public_names()
    assert len(wanted) > 300
    assert sorted(wanted - python) == []
    # What else there is belongs to a class of these: its methods, the members of an enum. Or it is the
    # private name of one, which leads to the public one.
    others = {name for name in python - wanted if not re.search(r"\._[a-z]", name)}
    assert sorted(name for name in others if name.rpartition(".")[0] not in wanted) == []
    parsers = [
        (parser, parser.prog)
        for program in share.PROGRAMS.values()
        for command in program.commands
        for parser in (program.parser_of(command),)
    ]
    assert {prog for _, prog in parsers} <= {name for kind, name in found if kind == "std:label"}
    options = {
        f"{each.prog.replace(' ', '-')}.{option}"
        for parser, _ in parsers
        for each in (parser, *share.parts(parser))
        for action in each._actions
        if action.help != "==SUPPRESS==" and "--help" not in action.option_strings
        for option in action.option_strings
    }
    assert len(options) > 100
    assert {name for kind, name in found if kind == "std:cmdoption"} == options


#: A page, what is added to it, and what the build says then.
PLANTED = [
    ("show.md", "[gone](gone.md)", "cross-reference target not found: 'gone.md'"),
    ("watch.md", "[gone](show.md#gone)", "'gone'"),
    ("run.md", "[gone](gone.py)", "'gone.py'"),
    ("check.md", "{py:func}`mptcp_sockopt.gone`", "mptcp_sockopt.gone"),
    ("plot.md", "```{eval-rst}\n.. autofunction:: mptcp_sockopt.away\n```", "'away'"),
    ("listen.md", "```{nonsense}\n```", "nonsense"),
    ("forgotten.md", "# A page in no list", "forgotten.md: WARNING: document isn't included in any toctree"),
]


def test_a_fault_in_a_page_is_an_error(built: Path, tmp_path: Path) -> None:
    """A dead link to a page, a heading or a program; a name that is not there; a page that is in no list."""
    copy = tmp_path / "docs"
    shutil.copytree(DOCS, copy)
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(site.ROOT / name, tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text().replace("/main/docs/glossary.md", "/main/docs/glossaries.md"))
    for page, words, _ in PLANTED:
        with (copy / page).open("a") as file:
            file.write(f"\n\n{words}\n")
    # A label that another page leads to: what those who write about symptoms use.
    with (copy / "fleet.md").open("a") as file:
        file.write("\n(a-symptom)=\n## A symptom\n\n[again](#a-symptom)\n")
    done = site.build(copy, tmp_path / "out", "dummy")
    assert done.returncode != 0
    assert [said for _, _, said in PLANTED if said not in done.stderr] == []
    assert "glossaries" in done.stderr
    assert "a-symptom" not in done.stderr
