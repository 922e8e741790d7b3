# SPDX-License-Identifier: MIT
"""The recipes of CONTRIBUTING.md, followed in a copy: green at the end, and red if any step is forgotten.

No file is touched that the recipe does not name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..mutants.__main__ import CannotRun, Workshop
from ..support import Missing
from .recipes import RECIPES, ROOT, Step

SECONDS = 1500  # for the tests of a recipe: what takes longer hangs
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def section(heading: str) -> str:
    return CONTRIBUTING.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    try:
        yield Workshop(tmp_path_factory.mktemp("recipes"))
    except (CannotRun, FileNotFoundError) as problem:
        raise Missing(f"a compiler and Python.h: {problem}") from None


def follow(workshop: Workshop, steps: dict[str, Step], tests: list[str]) -> str:
    """Take these steps in the copy, and back: what is red then, or nothing."""
    edits = [edit for step in steps.values() for edit in step]
    files = {edit.file for edit in edits}
    try:
        for edit in edits:
            path = workshop.folder / edit.file
            before = path.read_text() if path.exists() else ""
            assert edit.old in before, edit
            if edit.old:
                new = edit.text if edit.instead else edit.old + edit.text
                path.write_text(before.replace(edit.old, new, 1))
            else:
                path.write_text(before + edit.text)
        own = [file for file in files if Path(file).name.startswith("test_") and file not in tests]
        return workshop.make() or workshop.killer([*tests, *own], required=False, seconds=SECONDS)
    finally:
        for file in files:
            if (ROOT / file).exists():
                shutil.copy(ROOT / file, workshop.folder / file)
            else:
                (workshop.folder / file).unlink()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_names_every_file(recipe: str) -> None:
    """That its steps touch: by its path, or by its name."""
    heading, steps, _ = RECIPES[recipe]
    words = section(heading).replace("<name>", "hello")
    for step, edits in steps.items():
        for edit in edits:
            path = Path(edit.file)
            names = [edit.file, path.name, f"{path.parent.name}/{path.name}"]
            if step == "page":  # any of them
                names.append(f"`{path.parent}/`")
            if path.parts[0] == "share":  # one program writes them all
                names.append("`share/`")
            assert any(name in words for name in names), edit.file


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_ends_green(recipe: str, workshop: Workshop) -> None:
    """All of its steps, and nothing else."""
    _, steps, tests = RECIPES[recipe]
    assert follow(workshop, steps, tests) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "forgotten"), [(name, step) for name, (_, steps, _) in RECIPES.items() for step in steps]
)
def test_what_is_forgotten_is_red(recipe: str, forgotten: str, workshop: Workshop) -> None:
    """A test says so, or the compiler."""
    _, steps, tests = RECIPES[recipe]
    red = follow(workshop, {name: step for name, step in steps.items() if name != forgotten}, tests)
    print(f"{recipe}, without {forgotten}: {red}")
    assert red not in ("", "time")
