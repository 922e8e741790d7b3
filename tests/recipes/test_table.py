# SPDX-License-Identifier: MIT
"""docs/programs.md and docs/recipes have the same programs; and what pip cannot install."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from . import environment, table
from .clients import CLIENTS
from .servers import SERVERS
from .stage import RECIPES, recipe

PROGRAMS = [name for name in (*CLIENTS, *SERVERS) if not (name in SERVERS and SERVERS[name].command)]
PAGE = table.tables(table.PAGE.read_text())


def test_every_program_is_tested() -> None:
    """A client or a server; and each is short."""
    files = sorted(RECIPES.glob("*.py"))
    assert [path.stem for path in files] == sorted(PROGRAMS)
    assert [path.name for path in files if len(path.read_text().splitlines()) > 36] == []


@pytest.mark.parametrize(("name", "known"), [("clients", CLIENTS), ("servers", SERVERS)])
def test_the_tables_are_of_these_recipes(name: str, known: dict[str, object]) -> None:
    """Row for row, but for what a run finds out: TCP_NODELAY and the time."""
    head, rows = PAGE[name][: len(table.HEAD)], PAGE[name][len(table.HEAD) :].splitlines()
    assert head == table.HEAD
    written = [row.strip("| ").split(" | ")[:3] for row in rows]
    wanted = []
    for each in known:
        kind = CLIENTS.get(each) or SERVERS[each]
        version = table.version(kind.distribution) if kind.distribution else ""
        row = table.Row(each, kind.title, version, False, None)
        wanted.append(str(row).strip("|\n ").split(" | ")[:3])
    for found, should in zip(written, wanted, strict=True):
        assert found[::2] == should[::2]
        assert should[1] in ("", found[1])


def test_private_names_are_said() -> None:
    """A recipe that uses a name with an underscore says that its hook is private; no other does."""
    for name in PROGRAMS:
        tree = ast.parse((RECIPES / f"{name}.py").read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names |= {part for module in modules for part in module.split(".")}
        private = {each for each in names if each.startswith("_") and not each.startswith("__")}
        assert bool(private) == (recipe(name).hook == "private"), (name, private)


@pytest.mark.slow
def test_what_the_index_does_not_serve_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is remembered, and the rest is installed; any other failure of pip is an error, which says why."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    found = environment.environment(("cffi",))
    assert found.gone == {"cffi"}
    assert found.python.exists()
    assert environment.environment(("cffi",)) == found
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "none"))
    with pytest.raises(environment.NoIndexError, match="none"):
        environment.environment(("cffi", "pycparser"))
