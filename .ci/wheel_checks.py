# SPDX-License-Identifier: MIT
"""What must be true of a wheel that .ci/wheels.py has built. Runs in its workshop."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from abi3info import DATAS, FUNCTIONS
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from targets import PYTHON, SDIST, TARGETS, Target
from workshop import ROOT, Failed, run

MODULE = "_mptcp_sockopt"
PACKAGES = ("mptcp_sockopt", "reuseport")
# Our C allocates nothing, and cffi's generated C asks the backend: a new name here is worth a thought.
LIBC = set(
    "__errno_location bcmp getpeername getsockname getsockopt memcmp memcpy memmove memset recvmsg sendmsg "
    "sendto".split()  # bcmp: clang's memcmp where nobody asks which is less; on RISC-V it is a call
)
# Of `run`, which makes a process of its own and lives in it: csrc/seccomp_*.c. (atoi is strtol in glibc;
# __xstat is stat of an old glibc, and __stat_time64 of musl.)
LIBC_OF_RUN = set(
    "__stat_time64 __xstat _exit atoi chdir close dprintf dup2 execvp fcntl geteuid getpid open poll "
    "prctl program_invocation_name read readlink setfsuid setsid shutdown signal snprintf socket "
    "socketpair stat strtol syscall waitpid write".split()
)
STABLE_ABI = {symbol.name for symbol in (*FUNCTIONS, *DATAS)}


def check(rows: list[tuple[str, str, float]], out: Path) -> None:
    """Check the files, print a table, and fail if anything was wrong with any."""
    problems = []
    contents = []
    for name, file, seconds in rows:
        path = out / file
        wrong = list(problems_of(name, path))
        problems += [f"{file}: {problem}" for problem in wrong]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        print(f"{'no' if wrong else 'ok'}  {name:18} {seconds:5.1f} s {size:8} {digest[:16]}  {file}")
        if name != SDIST:
            contents.append(common_files(path))
    different = {file for files in contents for file, _ in files ^ contents[0]}
    if different:
        problems.append(f"the wheels differ in {sorted(different)}")
    if problems:
        raise Failed("\n".join(problems))


def problems_of(name: str, path: Path) -> Iterator[str]:
    yield from command("twine", "check", "--strict", path)
    if name == SDIST:
        return
    target = TARGETS[name]
    if not re.fullmatch(rf"mptcp_sockopt-[^-]+-{PYTHON}-{target.tag}\.whl", path.name):
        yield f"its name does not end in {PYTHON}-{target.tag}"
    yield from command("check_wheel_contents", "--config", "pyproject.toml", path)
    yield from command("abi3audit", "--strict", path)
    yield from problems_of_tag(target, path)
    with zipfile.ZipFile(path) as wheel:
        modules = [file for file in wheel.namelist() if file.endswith(".so")]
        if modules != [f"{MODULE}.abi3.so"]:
            yield f"its compiled modules are {modules}"
            return
        (metadata,) = [file for file in wheel.namelist() if file.endswith(".dist-info/WHEEL")]
        tags = re.findall(r"^Tag: (\S+)$", wheel.read(metadata).decode(), re.MULTILINE)
        if tags != [f"{PYTHON}-{target.tag}"]:
            yield f"its metadata has the tags {tags}"
        yield from problems_of_module(target, wheel.read(modules[0]))
        yield from problems_of_sources(wheel)
        yield from problems_of_bill(wheel)


def problems_of_bill(wheel: zipfile.ZipFile) -> Iterator[str]:
    """Its bill of materials (PEP 770) has this version, and the cffi and the compiler of this workshop."""
    bills = [file for file in wheel.namelist() if ".dist-info/sboms/" in file]
    if len(bills) != 1 or not bills[0].endswith(".cdx.json"):
        yield f"its bills of materials are {bills}"
        return
    bill = json.loads(wheel.read(bills[0]))
    version = Path(str(wheel.filename)).name.split("-")[1]
    if bill["metadata"]["component"]["purl"] != f"pkg:pypi/mptcp-sockopt@{version}":
        yield f"its bill of materials is of {bill['metadata']['component']}"
    cffi = f"pkg:pypi/cffi@{importlib.metadata.version('cffi')}"
    if [component["purl"] for component in bill["components"]] != [cffi]:
        yield f"its bill of materials lists {bill['components']}, not {cffi} alone"
    tools = [tool["name"] for tool in bill["metadata"]["tools"]["components"]]
    if len(tools) != 2 or not tools[0].startswith("setuptools ") or "clang version" not in tools[1]:
        yield f"its bill of materials has the tools {tools}"


def problems_of_sources(wheel: zipfile.ZipFile) -> Iterator[str]:
    """It has every Python file of the checkout's packages and every file of share, as it is, and no other."""
    ours = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    ours |= {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in (ROOT / "share").rglob("*")
        if path.is_file()
    }
    data = re.compile(r"^[^/]+\.data/(?:data/)?")  # what is below data is installed below the prefix
    its = {
        data.sub("", file): wheel.read(file)
        for file in wheel.namelist()
        if file.endswith(".py") or data.match(file)
    }
    for file in sorted(ours.keys() | its.keys()):
        if ours.get(file) != its.get(file):
            yield f"its {file} is not the checkout's"


def command(module: str, *words: str | Path) -> Iterator[str]:
    try:
        run(sys.executable, "-m", module, *words)
    except Failed as failure:
        yield str(failure)


def problems_of_tag(target: Target, path: Path) -> Iterator[str]:
    """auditwheel must find nothing newer than what the tag promises; older is luck, and not promised."""
    try:
        shown = run(sys.executable, "-m", "auditwheel", "show", "--json", path)
    except Failed as failure:  # it may stumble over what is not of its architecture
        yield str(failure)
        return
    found = json.loads(shown[shown.index("{") :])["overall_tag"]
    pattern = r"(manylinux|musllinux)_(\d+)_(\d+)_(\w+)"
    ours, theirs = (re.fullmatch(pattern, tag) for tag in (target.tag, found))
    if not ours or not theirs or ours[1] != theirs[1] or ours[4] != theirs[4]:
        yield f"auditwheel calls it {found}"
    elif (int(theirs[2]), int(theirs[3])) > (int(ours[2]), int(ours[3])):
        yield f"auditwheel calls it {found}, which is newer"


def problems_of_module(target: Target, data: bytes) -> Iterator[str]:
    elf = ELFFile(io.BytesIO(data))
    kind = f"{elf.elfclass} {'LSB' if elf.little_endian else 'MSB'} {elf['e_machine']}"
    if kind != target.machine.elf:
        yield f"the module is {kind}, not {target.machine.elf}"
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            tags = {tag.entry.d_tag for tag in section.iter_tags()}
            for unwanted in tags & {"DT_RPATH", "DT_RUNPATH", "DT_TEXTREL"}:
                yield f"the module has a {unwanted}"
            needed = [tag.needed for tag in section.iter_tags("DT_NEEDED")]
            if needed != [target.libc]:
                yield f"the module needs {needed}, not {target.libc}"
    stack = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_GNU_STACK"]
    if len(stack) != 1 or stack[0]["p_flags"] & 1:
        yield "the module wants an executable stack"
    if elf.get_section_by_name(".debug_info") or elf.get_section_by_name(".symtab"):
        yield "the module is not stripped"
    exported, taken = symbols_of(elf)
    if exported != {f"PyInit_{MODULE}"}:
        yield f"the module exports {sorted(exported)}"
    foreign = taken - LIBC - LIBC_OF_RUN - STABLE_ABI
    if foreign or "getsockopt" not in taken:
        yield f"the module takes {sorted(foreign or taken)} from neither libc nor the stable ABI"


def symbols_of(elf: ELFFile) -> tuple[set[str], set[str]]:
    """The names that a module gives, and those that it takes from elsewhere."""
    symbols = [symbol for symbol in elf.get_section_by_name(".dynsym").iter_symbols() if symbol.name]
    taken = {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"}
    return {symbol.name for symbol in symbols} - taken, taken


def common_files(path: Path) -> set[tuple[str, int]]:
    """What is the same for all, with checksums: not the module, nor the files that name it or the tag."""
    with zipfile.ZipFile(path) as wheel:
        return {
            (file.filename, file.CRC)
            for file in wheel.infolist()
            if not file.filename.endswith((".so", ".dist-info/WHEEL", ".dist-info/RECORD"))
        }
