# SPDX-License-Identifier: MIT
"""How the compiled module ``_mptcp_sockopt`` is built.

The headers in ``csrc`` are the only declarations: their text becomes cffi's cdef here, and the generated C
code ``#include``s the same files. pyproject.toml names the setuptools commands at the end of this file, so no
setup.py and no MANIFEST.in are needed. The extension is declared here, because setuptools calls a declaration
in pyproject.toml experimental.

``MPTCP_SOCKOPT_BUILD=asan,ubsan,coverage,werror`` in the environment adds compiler flags. With
``SOURCE_DATE_EPOCH``, builds of sdist and wheel are reproducible bit for bit.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from cffi import FFI
from cffi import __version__ as cffi_version
from setuptools import Distribution, Extension
from setuptools import __version__ as setuptools_version
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.egg_info import egg_info
from setuptools.command.sdist import sdist
from setuptools.errors import CCompilerError, ExecError, PlatformError, SetupError

if TYPE_CHECKING:
    from typing import Any

MODULE = "_mptcp_sockopt"
HERE = Path(__file__).resolve().parent
HEADERS = (
    "mptcp_abi.h",
    "inet_diag_abi.h",
    "options_abi.h",
    "mptcp_sockopt.h",
    "mptcp_diag.h",
    "seccomp_run.h",
)
SOURCES = (
    "csrc/mptcp_sockopt.c",
    "csrc/mptcp_diag.c",
    "csrc/mptcp_diag_tcp.c",
    "csrc/seccomp_filter.c",
    "csrc/seccomp_run.c",
    "csrc/seccomp_supervisor.c",
)

# What the sdist contains in addition to the packages: everything in the repository.
SDIST_FILES = ("build_ffi.py", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", ".gitignore")
SDIST_FOLDERS = (".ci", ".github", "benchmarks", "csrc", "deploy", "docs", "packaging", "share", "tests")

# The stable ABI: one wheel for every CPython from 3.10 on. cffi refuses it on free-threaded builds before
# 3.15, and debug builds do not have it.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
STABLE_ABI = (
    sys.implementation.name == "cpython"
    and not hasattr(sys, "gettotalrefcount")
    and (not FREE_THREADED or sys.version_info >= (3, 15))
)
WHEEL_TAG = "cp315" if FREE_THREADED else "cp310"

# asan and ubsan: keep frame pointers, and abort at the first finding.
BUILD_WORDS = {
    "asan": ["-fsanitize=address", "-fno-omit-frame-pointer", "-g", "-O1"],
    # Python's own flags contain -fwrapv, which defines signed overflow and so disables its check.
    "ubsan": ["-fsanitize=undefined", "-fno-sanitize-recover=undefined", "-fno-wrapv", "-g", "-O1"],
    "coverage": ["--coverage", "-g", "-O0"],
    "werror": ["-Werror"],
}


def cdef() -> str:
    """The headers as cffi reads them.

    Integer #defines are left to the C compiler; there is no other preprocessing.
    """
    lines = []
    for name in HEADERS:
        text = (HERE / "csrc" / name).read_text(encoding="utf-8")
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        for line in text.splitlines():
            define = re.match(r"#define (\w+) \w+\s*$", line)
            if define:
                lines.append(f"#define {define[1]} ...")
            elif not line.startswith("#"):
                lines.append(line)
    return "\n".join(lines)


def make_ffi() -> FFI:
    ffi = FFI()
    ffi.cdef(cdef())
    ffi.set_source(MODULE, "".join(f'#include "{name}"\n' for name in HEADERS))
    return ffi


def extra_flags() -> list[str]:
    flags = []
    for word in filter(None, os.environ.get("MPTCP_SOCKOPT_BUILD", "").split(",")):
        if word not in BUILD_WORDS:
            known = ", ".join(BUILD_WORDS)
            raise SetupError(f"MPTCP_SOCKOPT_BUILD: unknown word {word!r}; known are {known}")
        flags += BUILD_WORDS[word]
    return flags


def add_extension(distribution: Distribution) -> None:
    """Declare the compiled module once, for whichever command comes first."""
    if distribution.ext_modules:
        return
    headers = sorted(str(path.relative_to(HERE)) for path in (HERE / "csrc").glob("*.h"))
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden"]
    distribution.ext_modules = [
        Extension(MODULE, [*SOURCES], include_dirs=["csrc"], depends=headers, extra_compile_args=flags)
    ]


def what_is_missing(compiler: str, folders: list[str]) -> str | None:
    """What this machine lacks to build the extension, as a sentence for whoever has to install it."""
    if shutil.which(compiler) is None:
        missing = f"there is no C compiler ({compiler})"
    elif not any((Path(folder) / "Python.h").exists() for folder in folders):
        missing = f"Python's headers are not installed (no Python.h in {', '.join(folders)})"
    else:
        return None
    return (
        f"mptcp-sockopt could not be built: {missing}. It needs a C compiler and Python's headers "
        "(Debian, Ubuntu: apt install gcc python3-dev; Fedora: dnf install gcc python3-devel; "
        "Alpine: apk add gcc musl-dev python3-dev), or a wheel"
    )


class BuildExt(build_ext):
    """build_ext that generates the C code and sets the compiler flags."""

    def finalize_options(self) -> None:
        for ext in self.distribution.ext_modules or []:
            if ext.name == MODULE:
                self.choose_abi(ext)
        super().finalize_options()
        # setuptools does not notice a change of flags alone, and would ship an old sanitizer build.
        self.force = True

    def choose_abi(self, ext: Extension) -> None:
        ext.py_limited_api = STABLE_ABI
        macro: tuple[str, str | None]
        if not STABLE_ABI:
            macro = ("_CFFI_NO_LIMITED_API", None)
        elif FREE_THREADED:
            macro = ("Py_TARGET_ABI3T", "0x030f0000")
        else:
            macro = ("Py_LIMITED_API", "0x030a0000")
        # bdist_wheel and install each create their own command for the same extension.
        if macro not in ext.define_macros:
            ext.define_macros.append(macro)

    def run(self) -> None:
        # Not at import time: metadata, lock files and sdists must work on every platform.
        if not sys.platform.startswith("linux"):
            raise PlatformError(
                f"mptcp-sockopt works on Linux only, and this is {sys.platform}: "
                "depend on it with the marker sys_platform == 'linux'"
            )
        super().run()

    def build_extension(self, ext: Extension) -> None:
        if ext.name == MODULE:
            generated = Path(self.build_temp) / f"{MODULE}.c"
            generated.parent.mkdir(parents=True, exist_ok=True)
            make_ffi().emit_c_code(str(generated))
            ext.sources = [*ext.sources, str(generated)]
            ext.define_macros.append(("MPTCP_SOCKOPT_VERSION", f'"{self.distribution.get_version()}"'))
            flags = extra_flags()
            if "SOURCE_DATE_EPOCH" in os.environ:  # reproducible, wherever the source folder is
                flags.append(f"-fdebug-prefix-map={HERE}=.")
            ext.extra_compile_args += flags
            ext.extra_link_args += [f for f in flags if f.startswith(("-fsanitize", "--coverage"))]
        try:
            super().build_extension(ext)
        except (CCompilerError, ExecError) as error:
            # Checked only after a failure: if it compiles, nothing is missing.
            missing = what_is_missing(self.compiler.compiler[0], [*self.compiler.include_dirs])
            if missing is None:
                raise
            raise PlatformError(missing) from error

    def get_source_files(self) -> list[str]:
        """What the sdist takes from this command: the whole repository, except what setuptools adds."""
        found = {*super().get_source_files(), *SDIST_FILES}
        for folder in SDIST_FOLDERS:
            found.update(
                str(path.relative_to(HERE))
                for path in (HERE / folder).rglob("*")
                if path.is_file() and "__pycache__" not in path.parts
            )
        return sorted(path for path in found if (HERE / path).is_file())


class EggInfo(egg_info):
    """egg_info, with which every kind of build begins."""

    def initialize_options(self) -> None:
        add_extension(self.distribution)
        super().initialize_options()


def bill_of_materials(version: str, compiler: str) -> dict[str, Any]:
    """What is in a wheel, as CycloneDX: our code, and what cffi generated for the compiled module.

    No library is copied into it. There is no time and no serial number, so that builds repeat.
    """

    def package(name: str, version: str, **more: Any) -> dict[str, Any]:
        url = f"pkg:pypi/{name}@{version}"
        return {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url, **more}

    ours = package("mptcp-sockopt", version, licenses=[{"license": {"id": "MIT"}}])
    cffi = package("cffi", cffi_version, description="generated code in the compiled module")
    tools = [{"type": "application", "name": name} for name in (f"setuptools {setuptools_version}", compiler)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours, "tools": {"components": tools}},
        "components": [cffi],
        "dependencies": [{"ref": ours["bom-ref"], "dependsOn": [cffi["bom-ref"]]}, {"ref": cffi["bom-ref"]}],
    }


class BdistWheel(bdist_wheel):
    """bdist_wheel that tags the wheel for the ABI that BuildExt chose, with a bill of materials (PEP 770)."""

    def write_wheelfile(self, wheelfile_base: str, *words: Any, **options: Any) -> None:
        super().write_wheelfile(wheelfile_base, *words, **options)
        compiler = self.get_finalized_command("build_ext").compiler.compiler
        told = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
        bill = bill_of_materials(self.distribution.get_version(), (told or compiler[0]).splitlines()[0])
        folder = Path(wheelfile_base) / "sboms"
        folder.mkdir()
        text = json.dumps(bill, indent=1, sort_keys=True)
        (folder / "mptcp-sockopt.cdx.json").write_text(text + "\n", encoding="utf-8")

    def initialize_options(self) -> None:
        add_extension(self.distribution)
        super().initialize_options()

    def finalize_options(self) -> None:
        self.py_limited_api = WHEEL_TAG if STABLE_ABI else False
        super().finalize_options()


class Sdist(sdist):
    """sdist that is reproducible bit for bit if SOURCE_DATE_EPOCH sets the time, like bdist_wheel."""

    def make_archive(self, base_name: Any, format: str, *words: Any, **options: Any) -> str:
        name: str = super().make_archive(base_name, format, *words, **options)
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch and format == "gztar":
            with (
                tarfile.open(name) as archive,
                open(f"{name}.new", "wb") as raw,
                gzip.GzipFile("", "wb", fileobj=raw, mtime=int(epoch)) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as repeatable,
            ):
                for member in sorted(archive.getmembers(), key=lambda member: member.name):
                    file = archive.extractfile(member)
                    member.uid, member.gid, member.uname, member.gname = 0, 0, "", ""
                    member.mtime, member.pax_headers = int(epoch), {}
                    member.mode = 0o755 if member.mode & 0o100 else 0o644
                    repeatable.addfile(member, file)
            os.replace(f"{name}.new", name)
        return name
