# SPDX-License-Identifier: MIT
"""build_ffi.py: the headers become the cdef, flags come from the environment, Linux is needed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from setuptools import Distribution, Extension
from setuptools.errors import PlatformError, SetupError

import mptcp_sockopt as mp

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def build() -> types.ModuleType:
    specification = importlib.util.spec_from_file_location("build_ffi", ROOT / "build_ffi.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def command(build: Any) -> Any:
    extension = Extension(build.MODULE, ["csrc/mptcp_sockopt.c"])
    distribution = Distribution({"name": "x", "version": "1", "ext_modules": [extension]})
    return build.BuildExt(distribution)


def test_the_cdef_is_the_headers(build: Any) -> None:
    """Every define left to the compiler, no comment, no directive."""
    cdef = build.cdef()
    headers = "".join((ROOT / "csrc" / name).read_text() for name in build.HEADERS)
    numbers = re.findall(r"^#define (\w+) \w+", headers, re.MULTILINE)
    assert len(numbers) > 20
    assert re.findall(r"^#define (\w+) \.\.\.$", cdef, re.MULTILINE) == numbers
    assert not re.search(r"/\*|\*/|#include|#if|_H\b", cdef)
    build.make_ffi()


def test_words_of_the_environment_become_flags(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """asan, ubsan, coverage, werror; an unknown one is named, with those that are known."""
    monkeypatch.setenv("MPTCP_SOCKOPT_BUILD", "asan,werror")
    assert {"-fsanitize=address", "-Werror"} <= set(build.extra_flags())
    monkeypatch.setenv("MPTCP_SOCKOPT_BUILD", "")
    assert build.extra_flags() == []
    monkeypatch.setenv("MPTCP_SOCKOPT_BUILD", "asan,msan")
    with pytest.raises(SetupError, match="unknown word 'msan'; known are asan, ubsan, coverage, werror"):
        build.extra_flags()


def test_off_linux_the_build_ends_in_one_clear_sentence(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it runs, and not before: metadata and sdists work everywhere."""
    build_ext = command(build)
    build_ext.finalize_options()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(
        PlatformError, match=r"works on Linux only, and this is darwin: .*sys_platform == 'linux'"
    ):
        build_ext.run()


def test_it_compiles_even_if_only_flags_changed(build: Any) -> None:
    """And makes one module for all Pythons, where this one can."""
    build_ext = command(build)
    build_ext.finalize_options()
    assert build_ext.force
    (extension,) = build_ext.extensions
    assert extension.py_limited_api is build.STABLE_ABI
    assert (("Py_LIMITED_API", "0x030a0000") in extension.define_macros) is (
        build.STABLE_ABI and not build.FREE_THREADED
    )


def test_the_sdist_holds_what_the_repository_holds(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MANIFEST.in: every file that git tracks, but those that setuptools adds by itself."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    monkeypatch.chdir(ROOT)
    build_ext = command(build)
    build_ext.finalize_options()
    by_setuptools = {"LICENSE", "README.md", "pyproject.toml"}
    tracked = {
        name for name in listed.stdout.split() if not name.startswith(("mptcp_sockopt/", "reuseport/"))
    } - by_setuptools
    assert tracked - set(build_ext.get_source_files()) == set()


def test_the_compiled_module_is_of_this_version() -> None:
    """The one in _version.py, which the metadata has too."""
    from importlib.metadata import version

    assert version("mptcp-sockopt") == mp.__version__
