# SPDX-License-Identifier: MIT
"""The guest's whole world: an initramfs of Debian's Python, pytest, the project's wheel, and the tests."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from .debian import Apt, Package, Unobtainable, newest, run
from .rows import ARCHES, HERE
from .wheels import ROOT, modules_of

# Of Debian's packages, what no test needs; it is 60 MB.
DROPPED = (
    "etc",
    "usr/share",
    *(f"usr/lib/python3*/{name}" for name in ("distutils", "ensurepip", "lib2to3", "pydoc_data", "test")),
)


def base(apt: Apt, packages: list[Package], cache: Path) -> Path:
    """A tree with Debian's Python; made once for one set of packages."""
    python = ARCHES[apt.arch].python
    wanted = [newest(packages, name, python.suite) for name in python.packages]
    key = hashlib.sha256("".join(package.sha256 for package in wanted).encode()).hexdigest()
    tree = cache / f"base-{apt.arch}-{key[:16]}"
    if tree.exists():
        return tree
    for old in cache.glob(f"base-{apt.arch}-*"):
        shutil.rmtree(old)
    part, debs = cache / f"base-{apt.arch}-part", cache / f"base-{apt.arch}-debs"
    try:
        for package in wanted:
            run("dpkg-deb", "-x", str(apt.download(package, debs)), str(part))
    finally:
        shutil.rmtree(debs, ignore_errors=True)
    for pattern in (*DROPPED, "**/gconv", "**/audit"):
        for folder in list(part.glob(pattern)):
            shutil.rmtree(folder)
    for name in ("lib", "lib64"):  # from trixie on, packages have files in /usr alone
        if (part / "usr" / name).exists() and not (part / name).exists():
            (part / name).symlink_to(f"usr/{name}")
    compile_python(python.name, part, "usr/lib")
    part.rename(tree)
    return tree


def compile_python(name: str, tree: Path, *folders: str) -> None:
    """Compile, if there is a Python of the guest's release: else the guest does, more slowly.

    With checksums that nobody looks at: the initramfs keeps no times, so that by times all would be stale.
    """
    candidates = [sys.executable, shutil.which(name), shutil.which(f"/usr/bin/{name}")]
    release = f"import sys; sys.exit('python%d.%d' % sys.version_info[:2] != '{name}')"
    for python in filter(None, candidates):
        if subprocess.run([python, "-c", release], capture_output=True, check=False).returncode == 0:
            break
    else:
        return
    words = "-m compileall -q -j 2 --invalidation-mode unchecked-hash".split()
    places = [str(tree / folder) for folder in folders]
    done = subprocess.run(
        [python, *words, "-s", str(tree), "-p", "/", *places], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unobtainable(f"compileall: {(done.stdout + done.stderr)[-300:]}")


def copy_pytest(to: Path) -> None:
    """pytest and what it requires, from where this Python has them: they are of Python alone."""
    left, done = ["pytest"], set()
    while left:
        name = left.pop()
        if name in done:
            continue
        done.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise Unobtainable(f"this Python has no {name}: pip install '.[test]'") from None
        for requirement in distribution.requires or []:
            if ";" not in requirement:  # those are for other releases and systems, or optional
                left.append(re.split(r"[^\w.-]", requirement)[0])
        for file in distribution.files or []:
            if file.parts[0] == ".." or "__pycache__" in file.parts:
                continue
            if file.suffix == ".so":
                raise Unobtainable(f"{name} has a compiled module, {file}")
            target = to / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(distribution.locate_file(file), target)  # type: ignore[arg-type]


def image(apt: Apt, packages: list[Package], wheel: Path, cache: Path) -> Path:
    """The initramfs of an architecture."""
    tree = cache / f"tree-{apt.arch}"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(base(apt, packages, cache), tree, symlinks=True)
    for name in ("dev", "proc", "sys", "tmp"):
        (tree / name).mkdir(exist_ok=True)
    site = tree / "site"
    copy_pytest(site)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    check_wheel(site)
    checkout = tree / "checkout"
    shutil.copytree(ROOT / "tests", checkout / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", checkout / "docs")  # tests ask whether their facts stand there
    shutil.copy(ROOT / "pyproject.toml", checkout)
    python = ARCHES[apt.arch].python.name
    compile_python(python, tree, "site", "checkout")
    (tree / "etc").mkdir()
    (tree / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (tree / "init").write_text(f"#!/usr/bin/{python} -u\n" + (HERE / "guest.py").read_text())
    (tree / "init").chmod(0o755)
    out = cache / f"image-{apt.arch}.cpio"
    with out.open("wb") as file:
        write_cpio(tree, file)
    shutil.rmtree(tree)
    return out


def image_of_row(common: Path, kernel: Path, out: Path) -> None:
    """An architecture's initramfs, and behind it a second one: /modules with those of a kernel's folder.

    The kernel unpacks both (Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    shutil.copyfile(common, out)
    with tempfile.TemporaryDirectory() as folder, out.open("ab") as file:
        (Path(folder) / "modules").mkdir()
        for module in kernel.glob("*.ko"):
            shutil.copy(module, Path(folder) / "modules")
        write_cpio(Path(folder), file)


def check_wheel(site: Path) -> None:
    """The wheel has to be of this checkout: else its tests would be tried on another one's modules."""
    ours, its = modules_of(ROOT), modules_of(site)
    different = sorted(name for name in ours.keys() | its.keys() if ours.get(name) != its.get(name))
    if different:
        raise Unobtainable(f"the wheel is not of this checkout: its {different[0]} is another")


def write_cpio(tree: Path, out: BinaryIO) -> None:
    """A tree as the kernel reads it (newc), and /dev/console, which it opens for PID 1."""
    number = 0

    def entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        nonlocal number
        number += 1
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        out.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    for folder, folders, files in os.walk(tree):
        folders.sort()
        here = Path(folder)
        if here != tree:
            entry(str(here.relative_to(tree)), stat.S_IFDIR | 0o755)
        links = [name for name in folders if (here / name).is_symlink()]
        for path in (here / name for name in sorted(files + links)):
            name = str(path.relative_to(tree))
            if path.is_symlink():
                entry(name, stat.S_IFLNK | 0o777, os.readlink(path).encode())
            else:
                executable = path.stat().st_mode & 0o100
                entry(name, stat.S_IFREG | (0o755 if executable else 0o644), path.read_bytes())
    entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    entry("TRAILER!!!", 0)
