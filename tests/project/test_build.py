# SPDX-License-Identifier: MIT
"""build_ffi.py: the headers become the cdef, flags come from the environment, Linux is needed; it repeats."""

from __future__ import annotations

import ast
import importlib.util
import io
import os
import re
import shutil
import sys
import sysconfig
import tarfile
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import mptcp_sockopt as mp

from ..support import Missing, needs, run

try:
    import setuptools
    from setuptools import Distribution, Extension
    from setuptools.command import bdist_wheel
    from setuptools.errors import PlatformError, SetupError
except ImportError as error:
    pytest.skip(f"setuptools as pyproject.toml wants it: {error}", allow_module_level=True)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build() -> types.ModuleType:
    return load()


def load() -> types.ModuleType:
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


def test_every_folder_of_the_packages_is_shipped() -> None:
    """pyproject.toml names none of them: setuptools finds each that has Python files, however deep."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    (include,) = re.findall(r"^include = (\[.*\])$", pyproject, re.MULTILINE)
    found = setuptools.find_packages(str(ROOT), include=ast.literal_eval(include))
    files = [path for name in ("mptcp_sockopt", "reuseport") for path in (ROOT / name).rglob("*.py")]
    assert set(found) == {".".join(path.relative_to(ROOT).parts[:-1]) for path in files}
    assert {"mptcp_sockopt._border", "mptcp_sockopt.cli", "mptcp_sockopt.selftest"} < set(found)


def test_every_file_of_share_is_installed_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the prefix, as it lies in the checkout: there man and the shells look."""
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(["pyproject.toml"])
    found = {(folder, file) for folder, files in distribution.data_files or [] for file in files}
    files = [path.relative_to(ROOT) for path in (ROOT / "share").rglob("*") if path.is_file()]
    assert found == {(str(path.parent), str(path)) for path in files}
    assert len(found) > 10


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


def test_the_sanitizer_sees_signed_overflow(
    build: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Behind -fwrapv too, which stands in Python's own flags and defines it."""
    compiler = needs("cc", "gcc")
    source = tmp_path / "add.c"
    source.write_text("int add(int a, int b) { return a + b; }\n")
    monkeypatch.setenv("MPTCP_SOCKOPT_BUILD", "ubsan")
    command = [compiler, "-fwrapv", *build.extra_flags(), "-S", "-o", "-", str(source)]
    made = run(*command)
    assert "__ubsan_handle_add_overflow" in made.stdout


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


def test_the_extension_is_declared_once(build: Any) -> None:
    """By whichever command comes first; its headers make it be built anew."""
    distribution = Distribution({"name": "x", "version": "1"})
    build.EggInfo(distribution)
    build.BdistWheel(distribution)
    (extension,) = distribution.ext_modules or []
    assert (extension.name, extension.sources) == (build.MODULE, list(build.SOURCES))
    assert {ROOT / name for name in extension.sources} == set((ROOT / "csrc").glob("*.c"))
    assert {ROOT / name for name in extension.depends} == set((ROOT / "csrc").glob("*.h"))


@pytest.mark.parametrize(
    ("compiler", "headers", "missing"),
    [
        ("no-such-compiler", True, "there is no C compiler (no-such-compiler)"),
        ("env", False, "Python's headers are not installed (no Python.h in "),
        ("env", True, None),
    ],
)
def test_what_a_machine_lacks_is_named(
    build: Any, compiler: str, headers: bool, missing: str | None, tmp_path: Path
) -> None:
    """A compiler or Python.h, and what to install; anything else is the compiler's own business."""
    if headers:
        (tmp_path / "Python.h").touch()
    sentence = build.what_is_missing(compiler, [str(tmp_path)])
    if missing is None:
        assert sentence is None
    else:
        assert missing in sentence
        assert "apt install gcc python3-dev" in sentence


def test_a_build_without_a_compiler_ends_in_that_sentence(tmp_path: Path) -> None:
    """As pip shows it: the last line of the backend."""
    for name in ("csrc", "mptcp_sockopt", "reuseport"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("build_ffi.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    found = run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "CC": "no-such-compiler"})
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert last.startswith(
        "error: mptcp-sockopt could not be built: there is no C compiler (no-such-compiler)"
    )
    assert "experimental" not in found.stdout + found.stderr


class Version(NamedTuple):
    """As sys.version_info, which nobody can make."""

    major: int
    minor: int
    micro: int = 0
    releaselevel: str = "final"
    serial: int = 0


LIMITED = ("Py_LIMITED_API", "0x030a0000")
FREE = ("Py_TARGET_ABI3T", "0x030f0000")
NO_STABLE_ABI = ("_CFFI_NO_LIMITED_API", None)


@pytest.mark.parametrize(
    ("version", "free_threaded", "macro", "tag"),
    [
        ((3, 10), False, LIMITED, ("cp310", "abi3")),
        ((3, 14), False, LIMITED, ("cp310", "abi3")),
        ((3, 15), False, LIMITED, ("cp310", "abi3")),
        ((3, 13), True, NO_STABLE_ABI, ("cp313", "cp313t")),
        ((3, 14), True, NO_STABLE_ABI, ("cp314", "cp314t")),
        ((3, 15), True, FREE, ("cp315", "abi3.abi3t")),
        ((3, 16), True, FREE, ("cp315", "abi3.abi3t")),
    ],
)
def test_each_python_gets_the_widest_abi_that_it_takes(
    version: tuple[int, int],
    free_threaded: bool,
    macro: tuple[str, str | None],
    tag: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One stable ABI with the GIL; without, one from 3.15 and none before. Macro and wheel tag agree."""
    if free_threaded and not hasattr(bdist_wheel, "stable_abi_tag"):
        raise Missing(f"a setuptools that knows abi3t: this is {setuptools.__version__}")
    build, build_ext = pretend(monkeypatch, version, free_threaded)
    (extension,) = build_ext.extensions
    assert extension.define_macros == [macro]
    assert extension.py_limited_api is tag[1].startswith("abi3")
    wheel = build.BdistWheel(build_ext.distribution)
    wheel.finalize_options()
    assert wheel.get_tag()[:2] == tag


@pytest.mark.parametrize("kind", ["debug", "another implementation"])
def test_no_stable_abi_without_cpython_s_release_build(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A debug build lacks it, and nobody else promises it."""
    if kind == "debug":
        monkeypatch.setattr(sys, "gettotalrefcount", int, raising=False)
    else:
        cache_tag = sys.implementation.cache_tag
        monkeypatch.setattr(sys, "implementation", types.SimpleNamespace(name="pypy", cache_tag=cache_tag))
    _, build_ext = pretend(monkeypatch, (3, 12), False)
    assert build_ext.extensions[0].define_macros == [NO_STABLE_ABI]
    assert build_ext.extensions[0].py_limited_api is False


def pretend(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], free_threaded: bool
) -> tuple[Any, Any]:
    """build_ffi.py as another Python would run it, and its build_ext command."""
    real = sysconfig.get_config_var
    threads = "t" if free_threaded else ""
    fake = {
        "Py_GIL_DISABLED": int(free_threaded),
        "VERSION": f"{version[0]}.{version[1]}",
        "SOABI": f"cpython-{version[0]}{version[1]}{threads}-x86_64-linux-gnu",
    }
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: fake[name] if name in fake else real(name))
    monkeypatch.setattr(sys, "version_info", Version(*version))
    build = load()
    build_ext = command(build)
    build_ext.finalize_options()
    return build, build_ext


def test_the_sdist_holds_what_the_repository_holds(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MANIFEST.in: every file that git tracks, but those that setuptools adds by itself."""
    git = needs("git", "git")
    if not (ROOT / ".git").exists():
        raise Missing("a git checkout")  # an sdist, perhaps inside another project's repository
    listed = run(git, "-c", f"safe.directory={ROOT}", "ls-files", cwd=ROOT)
    if listed.returncode:
        raise Missing(f"a git checkout: {listed.stderr}")
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


def test_an_sdist_repeats(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SOURCE_DATE_EPOCH, whatever the times, modes and owners of its files; without, times are kept."""
    packed: list[bytes] = []
    for epoch, minute, mode in (("1700000000", 1, 0o600), ("1700000000", 2, 0o644), ("", 1, 0o600)):
        folder = tmp_path / f"{len(packed)}"
        (folder / "x-1" / "inner").mkdir(parents=True)
        for name in ("b", "inner/a"):
            path = folder / "x-1" / name
            path.write_text(name)
            path.chmod(mode)
            os.utime(path, (60 * minute, 60 * minute))
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        monkeypatch.chdir(folder)
        sdist = build.Sdist(Distribution({"name": "x", "version": "1"}))
        packed.append(Path(sdist.make_archive("x-1", "gztar", base_dir="x-1")).read_bytes())
    assert packed[0] == packed[1]
    assert packed[0][4:8] == (1700000000).to_bytes(4, "little")  # gzip's own time
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as archive:
        members = {member.name: member for member in archive}
        assert archive.extractfile("x-1/inner/a").read() == b"inner/a"  # type: ignore[union-attr]
    assert sorted(members) == ["x-1", "x-1/b", "x-1/inner", "x-1/inner/a"]
    assert {(member.mtime, member.uid, member.uname) for member in members.values()} == {(1700000000, 0, "")}
    with tarfile.open(fileobj=io.BytesIO(packed[2])) as archive:
        assert archive.getmember("x-1/b").mtime == 60


def test_the_bill_of_materials_of_a_wheel(build: Any) -> None:
    """The package, what cffi generated, and the tools; nothing that differs from build to build."""
    import cffi

    bill = build.bill_of_materials("1.2.3", "cc 4.5")
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/mptcp-sockopt@1.2.3"
    assert [part["purl"] for part in bill["components"]] == [f"pkg:pypi/cffi@{cffi.__version__}"]
    tools = [tool["name"] for tool in bill["metadata"]["tools"]["components"]]
    assert tools == [f"setuptools {setuptools.__version__}", "cc 4.5"]
    assert {"timestamp", "serialNumber"} & (bill.keys() | bill["metadata"].keys()) == set()
    known = {part["bom-ref"] for part in [bill["metadata"]["component"], *bill["components"]]}
    assert {row["ref"] for row in bill["dependencies"]} == known
