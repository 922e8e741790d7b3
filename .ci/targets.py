# SPDX-License-Identifier: MIT
"""The platforms that have wheels: the one table, for all that build, check, run and release them.

The other files of this folder import it, tests/kernels reads it, and .github/workflows/wheels.yml gets its
jobs from ``python .ci/wheels.py --matrix``.
"""

from __future__ import annotations

from typing import NamedTuple

SDIST = "sdist"
PYTHON = "cp310-abi3"  # of every wheel's tag: one serves this Python and all after it


class Machine(NamedTuple):
    """A processor, by the names that each project has for it."""

    name: str  # of uname -m, and of wheel tags
    elf: str  # class, byte order, machine; of pyelftools
    debian: str
    qemu: str = ""  # of qemu-user; empty: x86_64 runs it
    runner: str = "ubuntu-24.04"  # of GitHub; this one is an x86_64
    suites: tuple[str, ...] = ("trixie", "bookworm")  # Debian's releases that have it, the newest first


X86_64 = Machine("x86_64", "64 LSB EM_X86_64", "amd64")
AARCH64 = Machine("aarch64", "64 LSB EM_AARCH64", "arm64", "aarch64", runner="ubuntu-24.04-arm")
I686 = Machine("i686", "32 LSB EM_386", "i386")
ARMV7L = Machine("armv7l", "32 LSB EM_ARM", "armhf", "arm")
S390X = Machine("s390x", "64 MSB EM_S390", "s390x", "s390x")
PPC64LE = Machine("ppc64le", "64 LSB EM_PPC64", "ppc64el", "ppc64le")
RISCV64 = Machine("riscv64", "64 LSB EM_RISCV", "riscv64", "riscv64", suites=("trixie",))


class Target(NamedTuple):
    """A processor and a C library: one wheel."""

    machine: Machine
    policy: str  # the oldest C library that it runs with, as wheel tags say it
    zig: str  # -target, and -mcpu where zig's own choice is newer than the platform's oldest processor
    libc: str = "libc.so.6"  # the only library that the module needs

    @property
    def name(self) -> str:
        return f"{self.machine.name}-{self.policy.partition('_')[0]}"

    @property
    def tag(self) -> str:
        return f"{self.policy}_{self.machine.name}"

    @property
    def musl(self) -> bool:
        return self.policy.startswith("musl")


_TARGETS = (
    Target(X86_64, "manylinux_2_17", "x86_64-linux-gnu.2.17"),
    Target(AARCH64, "manylinux_2_17", "aarch64-linux-gnu.2.17"),
    Target(I686, "manylinux_2_17", "x86-linux-gnu.2.17 -mcpu=i686"),
    Target(ARMV7L, "manylinux_2_17", "arm-linux-gnueabihf.2.17"),
    Target(S390X, "manylinux_2_17", "s390x-linux-gnu.2.17"),
    # zig has no headers of 2.17 for this one; auditwheel is asked for that tag all the same. With the other
    # kind of long double, snprintf() would be one of glibc 2.32.
    Target(PPC64LE, "manylinux_2_17", "powerpc64le-linux-gnu.2.19 -mabi=ibmlongdouble"),
    # There is no older tag for this one.
    Target(RISCV64, "manylinux_2_31", "riscv64-linux-gnu.2.31"),
    Target(X86_64, "musllinux_1_2", "x86_64-linux-musl", "libc.musl-x86_64.so.1"),
    Target(AARCH64, "musllinux_1_2", "aarch64-linux-musl", "libc.musl-aarch64.so.1"),
    Target(I686, "musllinux_1_2", "x86-linux-musl -mcpu=i686", "libc.musl-x86.so.1"),
    Target(ARMV7L, "musllinux_1_2", "arm-linux-musleabihf", "libc.musl-armv7.so.1"),
)
TARGETS = {target.name: target for target in _TARGETS}


def matrix() -> list[dict[str, str]]:
    """For each machine a job of the workflow: where it runs, what is emulated, what cibuildwheel skips."""
    with_musl = {target.machine for target in _TARGETS if target.musl}
    return [
        {
            "arch": machine.name,
            "runner": machine.runner,
            "emulated": machine.qemu if machine.runner == X86_64.runner else "",
            "skip": "" if machine in with_musl else "*-musllinux_*",
        }
        for machine in dict.fromkeys(target.machine for target in _TARGETS)
    ]
