# SPDX-License-Identifier: MIT
"""What tests/kernels boots: packages, wheels, archives; nothing is fetched or booted here."""

from __future__ import annotations

import io
import lzma
import shutil
from pathlib import Path

import pytest

from ..kernels import debian, image, wheels
from ..kernels.debian import NotServed, Package, Unobtainable, first_served
from ..kernels.rows import ARCHES
from ..support import Missing


def package(name: str, version: str, size: int = 10**7, suite: str = "sid") -> Package:
    return Package(name, version, size, "00", suite)


def test_the_newest_kernel_of_each_series_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Debian's order; no debugging, real-time or empty packages; a signed one before its twin."""
    monkeypatch.setattr(debian, "newer", lambda one, other: one.replace("~", " ") > other.replace("~", " "))
    found = debian.kernels(
        [
            package("linux-image-6.1.0-9-cloud-amd64", "6.1.1-1"),
            package("linux-image-6.1.0-10-cloud-amd64", "6.1.2-1"),
            package("linux-image-6.1.0-11-cloud-amd64", "6.1.3-1", size=2000),
            package("linux-image-6.1.0-11-cloud-amd64-dbg", "6.1.3-1"),
            package("linux-image-6.1.0-11-rt-amd64", "6.1.3-1"),
            package("linux-binary-7.3-cloud-amd64", "7.3~rc7-1"),
            package("linux-binary-unsigned-7.3.4-cloud-amd64", "7.3.4-1"),
            package("linux-binary-7.3.4-cloud-amd64", "7.3.4-1"),
            package("linux-headers-7.3.5-cloud-amd64", "7.3.5-1"),
        ],
        "-cloud-amd64",
    )
    assert {series: [one.name for one in some] for series, some in found.items()} == {
        "6.1": ["linux-image-6.1.0-10-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"],
        "7.3": [
            "linux-binary-7.3.4-cloud-amd64",
            "linux-binary-unsigned-7.3.4-cloud-amd64",
            "linux-binary-7.3-cloud-amd64",
        ],
    }


def test_the_newest_kernel_that_the_mirror_serves_is_booted(tmp_path: Path) -> None:
    """A file that it answers 404 for is passed over; nothing else is."""
    some = [package("linux-image-6.1", f"6.1.{minor}-1") for minor in (3, 2, 1)]

    class Mirror:
        def __init__(self, *errors: type[Unobtainable] | None) -> None:
            self.errors = dict(zip(some, errors, strict=True))

        def kernel(self, package: Package, modules: Package | None) -> Path:
            error = self.errors[package]
            if error:
                raise error(package.version)
            return tmp_path

    def booted(*errors: type[Unobtainable] | None) -> Package:
        return first_served(Mirror(*errors), some, [])[0]  # type: ignore[arg-type]

    assert booted(None, None, None) == some[0]
    assert booted(NotServed, None, None) == some[1]
    assert booted(NotServed, NotServed, None) == some[2]
    with pytest.raises(NotServed, match=r"6\.1\.1-1"):
        booted(NotServed, NotServed, NotServed)
    with pytest.raises(Unobtainable) as caught:
        booted(Unobtainable, None, None)
    assert caught.type is Unobtainable


def test_a_file_that_is_not_served_is_told_from_other_trouble() -> None:
    """By apt's words: the index names it, and the answer is 404."""
    for words, kind in (
        ("E: Failed to fetch http://m/linux_6.1_s390x.deb  404  Not Found [IP: 192.0.2.1 80]", NotServed),
        ("E: Failed to fetch http://m/linux_6.1_s390x.deb  Connection failed", Unobtainable),
        ("E: Unable to locate package linux", Unobtainable),
    ):
        with pytest.raises(Unobtainable) as caught:
            debian.run("sh", "-c", f"echo '{words}' >&2; exit 100")
        assert caught.type is kind


def test_packages_of_python_come_from_one_suite() -> None:
    """A newer C library would be of another Debian."""
    some = [package("libc6", "2.36", suite="bookworm"), package("libc6", "2.41", suite="sid")]
    assert debian.newest(some, "libc6", "bookworm").version == "2.36"
    with pytest.raises(Unobtainable, match="no package libc6 in trixie"):
        debian.newest(some, "libc6", "trixie")


def test_a_wheel_is_chosen_by_architecture(tmp_path: Path) -> None:
    """Of glibc, one and only one."""
    for tag in ("manylinux_2_17_x86_64", "musllinux_1_2_x86_64", "manylinux_2_17_i686"):
        (tmp_path / f"mptcp_sockopt-1-cp310-abi3-{tag}.whl").touch()
    assert wheels.wheel_in(tmp_path, "amd64").name.endswith("manylinux_2_17_x86_64.whl")
    assert wheels.wheel_in(tmp_path, "i386").name.endswith("manylinux_2_17_i686.whl")
    with pytest.raises(Unobtainable, match=r"s390x\.whl, and has none"):
        wheels.wheel_in(tmp_path, "s390x")


def test_each_architecture_has_a_wheel_and_a_release_of_debian() -> None:
    """In the table that the wheels are built from: its Python comes from a release that has it."""
    missing = [
        name for name, arch in ARCHES.items() if arch.python.suite not in wheels.TARGETS[name].machine.suites
    ]
    assert missing == []


def test_a_wheel_of_another_checkout_is_refused(tmp_path: Path) -> None:
    """By its Python files, also those of subpackages, and those too many; one is named."""
    package = tmp_path / "mptcp_sockopt"
    for name in wheels.PACKAGES:
        shutil.copytree(wheels.ROOT / name, tmp_path / name)
    image.check_wheel(tmp_path)
    (package / "sub").mkdir()
    (package / "sub" / "old.py").touch()
    with pytest.raises(Unobtainable, match=r"not of this checkout: its mptcp_sockopt/sub/old\.py"):
        image.check_wheel(tmp_path)
    shutil.rmtree(package / "sub")
    (package / "_views.py").write_text("")
    with pytest.raises(Unobtainable, match=r"not of this checkout: its mptcp_sockopt/_views\.py"):
        image.check_wheel(tmp_path)
    (package / "_views.py").unlink()
    with pytest.raises(Unobtainable, match=r"_views\.py"):
        image.check_wheel(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("mptcp_sockopt/_a.py", "mptcp_sockopt/sub/deeper/b.py", "reuseport/c.py", "csrc/sub/d.h"),
        ".ci/targets.py",
    ],
)
def test_a_wheel_is_built_anew_when_any_of_its_sources_changes(tmp_path: Path, name: str) -> None:
    """In whichever subfolder: if it comes, changes, or has another name."""
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    seen = [wheels.digest(tmp_path)]
    for text in ("", "one", "two"):
        path.write_text(text)
        seen.append(wheels.digest(tmp_path))
    path.rename(path.with_name(f"w{path.name}"))
    seen.append(wheels.digest(tmp_path))
    assert len(set(seen)) == 5
    (tmp_path / "notes.txt").touch()
    assert wheels.digest(tmp_path) == seen[-1]


def test_a_wheel_that_its_builder_refuses_is_not_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder leaves it there to be looked at."""
    builder = tmp_path / "wheels.py"
    builder.write_text(
        "import pathlib, sys\n"
        "out = pathlib.Path(sys.argv[2])\n"
        "(out / 'mptcp_sockopt-1-cp310-abi3-manylinux_2_17_x86_64.whl').touch()\n"
        "sys.exit('it takes a name from nowhere')\n"
    )
    monkeypatch.setattr(wheels, "BUILDER", builder)
    for _ in "ab":
        with pytest.raises(Unobtainable, match="ended with 1:\nit takes a name from nowhere"):
            wheels.build(tmp_path, "amd64")


def test_modules_of_a_kernel(tmp_path: Path) -> None:
    """In a package of their own from 7.2; in a second archive behind the first, on its boundary of four."""
    binary = package("linux-binary-7.2.1-cloud-amd64", "7.2.1-1")
    modules = package("linux-modules-7.2.1-cloud-amd64", "7.2.1-1")
    others = [binary, package("linux-modules-7.2.1-cloud-amd64", "7.2.2-1")]
    assert debian.modules_of(binary, [*others, modules]) == modules
    assert debian.modules_of(binary, others) is None
    assert (
        debian.modules_of(package("linux-image-6.1", "6.1.1-1"), [package("linux-image-6.1", "6.1.1-1")])
        is None
    )
    (tmp_path / "inet_diag.ko").write_bytes(b"12345")
    (tmp_path / "vmlinuz").touch()
    (tmp_path / "common").write_bytes(b"first " * 10)
    image.image_of_row(tmp_path / "common", tmp_path, tmp_path / "out")
    first, second = (tmp_path / "out").read_bytes().split(b"070701", 1)
    assert first == b"first " * 10
    assert b"modules/inet_diag.ko\0" in second
    assert b"vmlinuz" not in second


def test_a_kernel_and_its_modules_are_unpacked(tmp_path: Path) -> None:
    """Wherever in the package they are, compressed or not; nothing else."""
    if not shutil.which("dpkg-deb"):
        raise Missing("dpkg-deb")
    tree = tmp_path / "tree"
    files = {
        "boot/vmlinuz-6.1": b"kernel",
        "lib/modules/6.1/kernel/net/ipv4/inet_diag.ko": b"plain",
        "usr/lib/modules/6.1/kernel/net/mptcp/mptcp_diag.ko.xz": lzma.compress(b"packed"),
        "lib/modules/6.1/kernel/net/sctp/sctp_diag.ko": b"other",
        "DEBIAN/control": b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n",
    }
    for name, data in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    deb, to = tmp_path / "x.deb", tmp_path / "to"
    to.mkdir()
    debian.run("dpkg-deb", "--root-owner-group", "-b", str(tree), str(deb))
    debian.unpack_kernel(deb, to)
    found = {path.name: path.read_bytes() for path in to.iterdir()}
    assert found == {"vmlinuz": b"kernel", "inet_diag.ko": b"plain", "mptcp_diag.ko": b"packed"}


def test_the_archive_is_one_that_others_read(tmp_path: Path) -> None:
    """newc: magic, eight hexadecimal digits a field, everything on multiples of four."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("folder")
    out = io.BytesIO()
    image.write_cpio(tmp_path, out)
    raw, at, found = out.getvalue(), 0, {}
    while at < len(raw):
        assert raw[at : at + 6] == b"070701"
        fields = [int(raw[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = raw[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) & ~3
        found[name] = (fields[1], raw[start : start + fields[6]])
        at = (start + fields[6] + 3) & ~3
    assert found["folder/file"] == (0o100644, b"12345")
    assert found["link"] == (0o120777, b"folder")
    assert found["folder"][0] == 0o40755
    assert list(found)[-2:] == ["dev/console", "TRAILER!!!"]
