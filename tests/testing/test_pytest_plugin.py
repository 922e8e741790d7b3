# SPDX-License-Identifier: MIT
"""The fixtures, in a pytest of their own."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from mptcp_sockopt import testing

from ..support import run

ROOT = Path(__file__).parents[2]
PLUGIN = "mptcp_sockopt.testing.pytest_plugin"


def pytest_of(folder: Path, text: str) -> str:
    """What pytest says of such a file, with this checkout's plugin and no other."""
    (folder / "test_it.py").write_text(text)
    command = (sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-c", os.devnull)
    more = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    options = ("--strict-markers", "-rs", "-q", f"--rootdir={folder}", str(folder))
    done = run(*command, *options, cwd=folder, env=os.environ | more)
    return done.stdout + done.stderr


def test_the_example_of_the_page(mptcp: None, tmp_path: Path) -> None:
    """Runs as it is printed."""
    testing.in_private_network(lambda: None)  # or it is missing here
    page = (ROOT / "docs" / "testing.md").read_text()
    (example,) = re.findall(r"## pytest\n.*?```python\n(.*?)```", page, re.DOTALL)
    out = pytest_of(tmp_path, example)
    assert "2 passed" in out, out


OUTCOMES = """
import os
import socket

import pytest
from mptcp_sockopt.testing import _network

HERE, NAME = os.getpid(), os.readlink("/proc/self/ns/net")

@pytest.fixture
def seven(): return 7

@pytest.mark.parametrize("eight", [8])
def test_elsewhere(mptcp_network, seven, eight):
    assert (seven, eight, os.getpid() == HERE) == (7, 8, False)
    assert os.readlink("/proc/self/ns/net") != NAME
class TestClass:
    def test_in_a_class(self, mptcp_network): assert os.getpid() != HERE
def test_here(): assert os.getpid() == HERE
def test_fails(mptcp_network):
    one = 1
    assert one == 2
def test_dies(mptcp_network): os.kill(os.getpid(), 9)
def test_fails_by_itself(mptcp_network): pytest.fail("of itself")
def test_skips(mptcp_network): pytest.skip("by itself")
def test_xfails(mptcp_network): pytest.xfail("as foreseen")
async def test_coroutine(mptcp_network): pass
def refused(*_): raise PermissionError(1, "Operation not permitted")
@pytest.fixture
def nowhere(monkeypatch): monkeypatch.setattr(_network, "_call", refused)
def test_nowhere(nowhere, mptcp_network): pass
"""


def test_a_test_in_a_child_fails_and_skips_as_any_other(tmp_path: Path) -> None:
    """With the assertion in words. Without a network it is skipped; a child that dies is a failure."""
    testing.in_private_network(lambda: None)  # or it is missing here
    out = pytest_of(tmp_path, OUTCOMES)
    assert "4 failed, 3 passed, 2 skipped, 1 xfailed" in out, out
    assert "assert 1 == 2" in out
    assert "the child was killed by SIGKILL" in out
    assert "call asyncio.run() in it" in out
    assert "by itself" in out
    assert "of itself" in out
    assert "no private network namespace: Operation not permitted" in out


def test_pytest_is_told_of_it() -> None:
    """By an entry point of the package."""
    text = (ROOT / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\nmptcp = "{PLUGIN}"\n' in text
    assert pytest.importorskip(PLUGIN)
