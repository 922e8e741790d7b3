# SPDX-License-Identifier: MIT
"""Finding and fetching Debian packages, by an apt with folders of its own.

Mirrors are those of this machine's apt; indexes are checked against Debian's keys as ever, and every
package against the SHA256 in them. Nothing in the system's own apt changes.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import NamedTuple, cast

from .rows import ARCHES

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CAT_FILE = ["/usr/lib/apt/apt-helper", "cat-file"]
FIELDS = ("Package", "Version", "Size", "SHA256")
DAY = 24 * 3600.0
# None needs one that comes after it. The last two are for paths, which programs of docs/findings have.
MODULES = ("inet_diag", "tcp_diag", "mptcp_diag", "af_packet", "veth")
SMALLEST_KERNEL = 100_000  # less is a package that only depends on others


class Unobtainable(Exception):  # noqa: N818  # it is not always an error
    """A package that cannot be had, and why."""


class NotServed(Unobtainable):
    """The index names a file, and the mirror answers 404: it is amid its own update, or never whole."""


class Package(NamedTuple):
    """One line of an index."""

    name: str
    version: str
    size: int
    sha256: str
    suite: str


def run(*command: str, **options: object) -> str:
    """Run a command to its end; its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise Unobtainable(f"{command[0]} is not installed: this needs Debian's apt and dpkg") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        kind = (
            NotServed
            if re.search(r"^E: Failed to fetch .* 404 ", done.stderr, re.MULTILINE)
            else Unobtainable
        )
        raise kind(f"{command[0]} ended with {done.returncode}: {last}")
    return cast("str", done.stdout)


def mirrors() -> tuple[str, str]:
    """Debian's main and security archives, as this machine's apt is told to reach them."""
    found: dict[bool, str] = {}
    for line in run("apt-get", "update", "--print-uris").splitlines():
        # Others have folders named after Debian's releases too, but no section called main in them.
        match = re.match(r"'(\S+)/dists/[a-z]+(-security)?/main/binary-", line)
        if match:
            found.setdefault(bool(match[2]), match[1])
    if len(found) < 2:
        raise Unobtainable("apt is not told of Debian and Debian security (apt-get update --print-uris)")
    return found[False], found[True]


class Apt:
    """The packages of one architecture. Its folder is kept between runs."""

    def __init__(self, cache: Path, arch: str, archives: tuple[str, str]) -> None:
        if not KEYRING.exists():
            raise Unobtainable(f"{KEYRING} is missing: install debian-archive-keyring")
        self.arch, self.cache = arch, cache
        self.folder = cache / f"apt-{arch}"
        for name in ("lists/partial", "archives/partial", "parts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        suites = dict.fromkeys([ARCHES[arch].python.suite, *ARCHES[arch].suites.split()])
        sources = "".join(
            f"deb [arch={arch} signed-by={KEYRING}] {archives[suite.endswith('-security')]} {suite} main\n"
            for suite in suites
        )
        self._sources = self.folder / "sources.list"
        if not self._sources.exists() or self._sources.read_text() != sources:
            self._sources.write_text(sources)
            self._stamp.unlink(missing_ok=True)
        config = self.folder / "apt.conf"
        settings = (
            f'Dir::Etc::sourcelist "{self._sources}";\n'
            f'Dir::Etc::sourceparts "{self.folder}/parts";\n'
            f'Dir::Etc::preferencesparts "{self.folder}/parts";\n'
            f'Dir::State::Lists "{self.folder}/lists";\n'
            f'Dir::Cache "{self.folder}";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
            f'APT::Architecture "{arch}";\nAPT::Architectures {{ "{arch}"; }};\n'
            'Acquire::Languages "none";\nAcquire::Retries "3";\nAPT::Sandbox::User "";\n'
        )
        if not config.exists() or config.read_text() != settings:
            config.write_text(settings)  # not while another run reads it
        self._environment = {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C"}

    @property
    def _stamp(self) -> Path:
        return self.folder / "updated"

    def update(self) -> None:
        """Fetch the indexes, unless that was done within a day.

        A mirror caught in the middle of its own update fails some of them; the others are still good, so
        the rows decide, not apt's exit status: an index that is not had has no kernels.
        """
        if self._stamp.exists() and 0 <= time.time() - self._stamp.stat().st_mtime < DAY:
            return
        done = subprocess.run(
            ["apt-get", "-qq", "update"], env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            self._stamp.touch()

    def packages(self) -> list[Package]:
        """All that the indexes hold. apt may keep them compressed, so it reads them."""
        found = []
        for path in sorted((self.folder / "lists").glob("*_Packages*")):
            suite = path.name.partition("_dists_")[2].partition("_main_")[0]
            for paragraph in run(*CAT_FILE, str(path), env=self._environment).split("\n\n"):
                fields = dict(re.findall(rf"^({'|'.join(FIELDS)}): (.*)$", paragraph, re.MULTILINE))
                if len(fields) == 4:
                    name, version, size, sha256 = (fields[key] for key in FIELDS)
                    found.append(Package(name, version, int(size), sha256, suite))
        if not found:
            raise Unobtainable(f"no index of {self.arch} packages")
        return found

    def download(self, package: Package, to: Path) -> Path:
        """The package's file in the folder to, checked."""
        to.mkdir(parents=True, exist_ok=True)
        before = set(to.iterdir())
        name = f"{package.name}={package.version}"
        run("apt-get", "-qq", "download", name, cwd=to, env=self._environment)
        found = set(to.iterdir()) - before
        if len(found) != 1:
            raise Unobtainable(f"apt-get download {name} left {len(found)} files")
        (deb,) = found
        if hashlib.sha256(deb.read_bytes()).hexdigest() != package.sha256:
            raise Unobtainable(f"{package.name} {package.version} is not what the index promises")
        return deb

    def kernel(self, package: Package, modules: Package | None) -> Path:
        """A folder of the cache with its vmlinuz, and the modules that there are of MODULES."""
        kept = self.cache / f"kernel-{self.arch}-{package.sha256[:16]}-{len(MODULES)}"
        if not kept.exists():
            folder = self.cache / f"fetching-{package.sha256[:16]}"
            shutil.rmtree(folder, ignore_errors=True)
            part = folder / "part"
            part.mkdir(parents=True)
            try:
                for one in filter(None, (package, modules)):
                    deb = self.download(one, folder)
                    unpack_kernel(deb, part)
                    deb.unlink()
                if not (part / "vmlinuz").exists():
                    raise Unobtainable(f"no vmlinuz in {package.name}")
                part.rename(kept)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return kept


def unpack_kernel(deb: Path, to: Path) -> None:
    """boot/vmlinuz-VERSION, or usr/lib/modules/VERSION/vmlinuz from 7.2; MODULES, .ko or .ko.xz.

    ppc64el and riscv64 have their kernel uncompressed, as vmlinux-VERSION.
    """
    wanted = {"vmlinu[xz]*": "vmlinuz"}
    for name in MODULES:
        wanted[f"{name}.ko"] = wanted[f"{name}.ko.xz"] = f"{name}.ko"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as dpkg:
        assert dpkg.stdout
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive:
            for member in archive:
                for pattern, name in wanted.items() if member.isfile() else ():
                    if fnmatch.fnmatch(member.name, f"*/{pattern}"):
                        source = archive.extractfile(member)
                        assert source
                        data = source.read()
                        (to / name).write_bytes(lzma.decompress(data) if pattern.endswith(".xz") else data)
        dpkg.stdout.read()  # so that it need not die of a closed pipe
    if dpkg.returncode:
        raise Unobtainable(f"dpkg-deb cannot read {deb.name}")


def newer(one: str, other: str) -> bool:
    """By Debian's order, where 7.3~rc7 comes before 7.3.4."""
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other], check=False).returncode == 0


def _compare(one: Package, other: Package) -> int:
    if one.version != other.version:
        return 1 if newer(one.version, other.version) else -1
    return ("unsigned" not in one.name) - ("unsigned" not in other.name)  # the signed one is last


def kernels(packages: list[Package], flavour: str) -> dict[str, list[Package]]:
    """The kernels of each series, the newest first. -dbg, -rt and what depends only are none."""
    pattern = re.compile(rf"linux-(?:image|binary)(?:-unsigned)?-\d(?!.*-rt[-\d]).*{re.escape(flavour)}$")
    found: dict[str, list[Package]] = {}
    for package in packages:
        series = re.match(r"\d+\.\d+", package.version)
        if series and package.size >= SMALLEST_KERNEL and pattern.match(package.name):
            found.setdefault(series[0], []).append(package)
    order = functools.cmp_to_key(_compare)
    return {series: sorted(some, key=order, reverse=True) for series, some in found.items()}


def modules_of(package: Package, packages: list[Package]) -> Package | None:
    """The package of a kernel's modules, if they have one of their own (from 7.2); 6.19 to 7.1 have none."""
    name = re.sub(r"^linux-binary(-unsigned)?-", "linux-modules-", package.name)
    found = [one for one in packages if (one.name, one.version) == (name, package.version)]
    return found[0] if found and name != package.name else None


def first_served(apt: Apt, some: list[Package], packages: list[Package]) -> tuple[Package, Path]:
    """The first of some kernels that the mirror has, and its folder in the cache."""
    *others, last = some
    for package in others:
        with contextlib.suppress(NotServed):
            return package, apt.kernel(package, modules_of(package, packages))
    return last, apt.kernel(last, modules_of(last, packages))


def newest(packages: list[Package], name: str, suite: str) -> Package:
    """The newest package of that name in a suite."""
    found = [package for package in packages if (package.name, package.suite) == (name, suite)]
    if not found:
        raise Unobtainable(f"no package {name} in {suite}")
    return max(found, key=functools.cmp_to_key(_compare))
