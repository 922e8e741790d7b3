# SPDX-License-Identifier: MIT
"""packaging/debian says what the tree says; .ci/debian builds with it, and takes minutes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "packaging" / "debian"
CONTROL = (DEBIAN / "control").read_text()
RULES = (DEBIAN / "rules").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ["setuptools", "cffi"])
def test_what_builds_it_is_as_new_as_pyproject_wants(name: str) -> None:
    """Debian 12 has an older setuptools."""
    (wanted,) = re.findall(rf'^requires = .*"{name}>=([\d.]+)"', PYPROJECT, re.MULTILINE)
    assert re.findall(rf"^ python3-{name} \(>= ([\d.]+)\),$", CONTROL, re.MULTILINE) == [wanted]


def test_every_folder_of_share_is_in_the_package_of_commands() -> None:
    """And bin; the library is in the other one."""
    lines = (DEBIAN / "mptcp-sockopt.install").read_text().split()
    assert lines == ["usr/bin", *sorted(f"usr/share/{path.name}" for path in (ROOT / "share").iterdir())]
    assert re.findall(r"^Package: (.+)$", CONTROL, re.MULTILINE) == ["python3-mptcp-sockopt", "mptcp-sockopt"]


def test_the_tests_that_are_left_out_are_there() -> None:
    """By file, folder and name; and what the others read is copied to them."""
    (left,) = re.findall(r"^SKIP = (.+)$", RULES.replace("\\\n", ""), re.MULTILINE)
    assert [name for name in left.split() if not (ROOT / "tests" / name).exists()] == []
    single = re.findall(r"--deselect=(\S+)::(\w+)", RULES)
    assert len(single) == RULES.count("--deselect")
    assert [name for file, name in single if f"def {name}(" not in (ROOT / file).read_text()] == []
    copied = re.findall(r"\{dir\}/([\w.]+)", RULES)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_licence_is_ours() -> None:
    """Word for word."""
    said = (DEBIAN / "copyright").read_text().split("License: Expat\n")[-1]
    lines = [line[1:].strip() for line in said.splitlines()]
    words = " ".join("" if line == "." else line for line in lines).split()
    assert words == (ROOT / "LICENSE").read_text().split()
