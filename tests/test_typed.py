# SPDX-License-Identifier: MIT
"""What type checkers tell users: ``python -m pytest -m lint``, with mypy and pyright of that extra."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import aio, asgi, host, processes, testing, wsgi

from .support import Missing, run

HERE = Path(__file__).parent
RIGHT, WRONG = "typed_user.py", "typed_wrongly.py"
# Both must be strict: a comment that hides nothing is an error, so each wrong line is proven wrong.
CHECKERS: dict[str, tuple[str, ...]] = {"mypy": ("--strict", RIGHT, WRONG), "pyright": ()}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (mp, "mp"),
        (aio, "aio"),
        (asgi, "asgi"),
        (host, "host"),
        (processes, "processes"),
        (testing, "testing"),
        (wsgi, "wsgi"),
    ],
)
@pytest.mark.parametrize("file", [RIGHT, WRONG])
def test_every_public_name_is_used(file: str, module: ModuleType, name: str) -> None:
    """Rightly in one file, wrongly in the other."""
    tree = ast.parse((HERE / file).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    }
    assert set(module.__all__) - used == set()
    assert used - set(module.__all__) == ({"nonsense"} if file == WRONG else set())


def test_every_wrong_line_is_wrong_for_both() -> None:
    """Each has a comment for mypy and one for pyright, whose settings refuse one that hides nothing."""
    (function,) = [
        node for node in ast.parse((HERE / WRONG).read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    lines = (HERE / WRONG).read_text().splitlines()
    for node in function.body[:-1]:  # the last one uses what the others made
        comments = re.findall(
            r"# (type|pyright): ignore\[\w[\w-]+(?:, [\w-]+)*\]", lines[(node.end_lineno or 0) - 1]
        )
        assert comments == ["type", "pyright"], lines[node.lineno - 1]


def check(folder: Path, checker: str) -> tuple[int, str]:
    """Of copies, so that the package is found as another project finds it; the checkout's own."""
    path = shutil.which(checker, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        raise Missing(f"{checker}: pip install '.[lint]'")
    words = [path, *CHECKERS[checker]]
    words += ["--python-executable" if checker == "mypy" else "--pythonpath", sys.executable]
    root = str(HERE.parent)
    done = run(*words, cwd=folder, env=os.environ | {"MYPYPATH": f"{root}:{root}/csrc", "PYTHONPATH": root})
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def user(tmp_path: Path) -> Path:
    for name in (RIGHT, WRONG, "pyrightconfig.json"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


@pytest.mark.lint
@pytest.mark.parametrize("checker", CHECKERS)
def test_right_is_right_and_wrong_is_wrong(user: Path, checker: str) -> None:
    """Without a complaint, and so with one that is foreseen in each wrong line."""
    code, told = check(user, checker)
    assert code == 0, told


@pytest.mark.lint
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (WRONG, "info.tokn ", "info.token "),
        (WRONG, 'rate("bytes_aked")', 'rate("bytes_acked")'),
        (RIGHT, "assert_type(info.token, int)", "assert_type(info.token, str)"),
        (RIGHT, "info.unacked_bytes", "info.unaked_bytes"),
    ],
)
def test_a_mistake_is_seen(user: Path, checker: str, file: str, old: str, new: str) -> None:
    """The test above can fail: by what is right where it should be wrong, and the other way round."""
    path = user / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    code, told = check(user, checker)
    assert code == 1, told
    assert file in told


@pytest.mark.lint
def test_no_public_type_is_left_to_be_inferred(user: Path) -> None:
    """pyright --verifytypes: checkers infer differently, and editors show what is annotated."""
    path = shutil.which("pyright", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        raise Missing("pyright: pip install '.[lint]'")
    done = run(
        *(path, "--verifytypes", "mptcp_sockopt", "--ignoreexternal", "--pythonpath", sys.executable),
        cwd=user,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )
    told = done.stdout + done.stderr
    assert "Type completeness score" in told
    names = re.findall(
        r"^(mptcp_sockopt\S+)$", told.split("Symbols used in public interface:")[-1], re.MULTILINE
    )
    assert [
        name for name in names if not name.startswith(("mptcp_sockopt.selftest", "mptcp_sockopt.cli"))
    ] == []
