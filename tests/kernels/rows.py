# SPDX-License-Identifier: MIT
"""Which kernels are booted, and what each architecture needs for it.

A row names an architecture and a series, never a package: names and point releases change weekly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
EXPECTED = HERE / "expected.json"


class Python(NamedTuple):
    """Debian's own CPython. The wheel is of the stable ABI, so any one is enough."""

    name: str
    suite: str

    @property
    def packages(self) -> list[str]:
        names = f"{self.name}-minimal lib{self.name}-minimal lib{self.name}-stdlib python3-cffi-backend "
        # The C library loads libgcc_s where a thread ends itself; 32-bit ARM links to it as well.
        return (names + "libc6 libgcc-s1 zlib1g libexpat1 libffi8 liblzma5 libbz2-1.0 libuuid1").split()


BOOKWORM = Python("python3.11", "bookworm")
TRIXIE = Python("python3.13", "trixie")  # the first release with riscv64


class Arch(NamedTuple):
    """What a Debian architecture needs: kernels, qemu, Python. Its wheel is in .ci/targets.py."""

    flavour: str  # how its kernel packages end
    suites: str
    qemu: str
    qemu_package: str
    console: str  # the kernel's
    report: str  # the guest's words; another port where there are two
    python: Python = BOOKWORM


# Where the mirrors' indexes of security and backports are seldom whole, those are not asked.
ARCHES = {
    "amd64": Arch(
        "-cloud-amd64",
        "bookworm bullseye-security bookworm-security bookworm-backports trixie-security trixie-backports "
        "experimental",
        "qemu-system-x86_64 -M pc -cpu max",
        "qemu-system-x86",
        "ttyS0",
        "ttyS1",
    ),
    "arm64": Arch(
        "-cloud-arm64",
        "bookworm bullseye-security bookworm-security bookworm-backports trixie-security trixie-backports",
        "qemu-system-aarch64 -M virt -cpu cortex-a57",
        "qemu-system-arm",
        "ttyAMA0",
        "ttyAMA0",
    ),
    "i386": Arch(
        "-686",
        "bookworm bookworm-backports",
        "qemu-system-i386 -M pc -cpu max",
        "qemu-system-x86",
        "ttyS0",
        "ttyS1",
    ),
    "s390x": Arch(
        "-s390x",
        "bookworm bookworm-backports",
        "qemu-system-s390x -M s390-ccw-virtio -cpu max",
        "qemu-system-misc",
        "ttysclp0",
        "console",
    ),
    "armhf": Arch(
        "-armmp",
        "bookworm trixie",
        "qemu-system-arm -M virt -cpu cortex-a15",
        "qemu-system-arm",
        "ttyAMA0",
        "ttyAMA0",
    ),
    "ppc64el": Arch(
        "-powerpc64le",
        "bookworm trixie",
        # Without what TCG cannot emulate, of which qemu would warn.
        "qemu-system-ppc64 -M pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
        "qemu-system-ppc",
        "hvc0",
        "hvc0",
    ),
    "riscv64": Arch(
        "-riscv64",
        "trixie",
        "qemu-system-riscv64 -M virt",
        "qemu-system-misc",
        "ttyS0",
        "ttyS0",
        TRIXIE,
    ),
}


class Row(NamedTuple):
    """One kernel. Those of backports and experimental leave Debian one day: not required."""

    arch: str
    series: str
    required: bool

    @property
    def name(self) -> str:
        return f"{self.arch}-{self.series}"


ROWS = [
    Row("amd64", "5.10", True),
    Row("amd64", "6.1", True),
    Row("amd64", "6.12", True),
    Row("amd64", "6.16", False),
    Row("amd64", "6.17", False),
    Row("amd64", "6.18", False),
    Row("amd64", "6.19", False),
    Row("amd64", "7.0", False),
    Row("amd64", "7.1", False),
    Row("amd64", "7.2", False),
    Row("amd64", "7.3", False),
    Row("arm64", "6.1", True),
    Row("arm64", "6.12", True),
    Row("arm64", "7.2", False),
    Row("i386", "6.1", True),
    Row("i386", "6.5", False),
    Row("s390x", "6.1", False),
    Row("s390x", "6.12", False),
    Row("armhf", "6.1", False),
    Row("armhf", "6.12", False),
    Row("ppc64el", "6.1", False),
    Row("ppc64el", "6.12", False),
    Row("riscv64", "6.12", False),
]

# The quick set: of each line the first that can be had.
SMALL = [
    ["amd64-5.10"],
    ["amd64-6.1"],
    ["i386-6.5", "i386-6.1"],
    ["arm64-6.12"],
    ["amd64-7.3", "amd64-7.2", "amd64-7.1", "amd64-7.0"],
]


def expectations() -> dict[str, dict[str, Any]]:
    """What each row is to answer: what is common to all, and over it each of the row's groups in their order.

    Counts of skipped tests are replaced one by one, all else as a whole.
    """
    data = json.loads(EXPECTED.read_text())
    found = {}
    for name, groups in data["rows"].items():
        figures: dict[str, Any] = {}
        for group in (data["common"], *groups):
            more = data["groups"][group] if isinstance(group, str) else group
            skipped = {**figures.get("skipped", {}), **more.get("skipped", {})}
            figures = {**figures, **more, "skipped": skipped}
        found[name] = figures
    return found
