# SPDX-License-Identifier: MIT
"""The mounts of a command that may not change the live system: everything read-only, overlays over a few
directories, a /proc of its own.

All of it is done in a new mount namespace, by the process that is PID 1 of a new PID namespace. Nothing has
to be undone: mounts end with their namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import _syscalls

# Kernel interfaces, which are no lower layer for an overlay. They stay what they are, read-only.
_PSEUDO = frozenset(
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue"
    " nsfs proc pstore rpc_pipefs securityfs sysfs tracefs".split()
)
# Where a tmpfs is mounted until the overlays stand on it: a directory that exists, and that they do not need.
_SCRATCH = ("/sys", "/mnt", "/media", "/srv", "/boot", "/opt")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    number: int
    point: str
    kind: str


class Overlay(NamedTuple):
    """A directory over which an overlay was mounted."""

    directory: str
    upper: str
    """What was written there, relative to the tmpfs."""


class Mounted(NamedTuple):
    """What protect() did."""

    overlays: tuple[Overlay, ...]
    refused: tuple[tuple[str, str], ...]
    """The wanted directories without an overlay, and why."""
    unsealed: str
    """Why everything else is not read-only; empty if it is."""


def mounts() -> list[Mount]:
    """The mounts of this process, as they were made one over the other."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words, _, rest = line.partition(" - ")
            number, _, _, _, point = words.split(" ")[:5]
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
            found.append(Mount(int(number), point, rest.split(" ")[0]))
    return found


def wanted(directories: Iterable[str]) -> list[str]:
    """Those that exist and may be entered, without symbolic links and repetitions, outer ones first."""
    found = {os.path.realpath(directory) for directory in directories if directory}
    usable = (path for path in found - {"/"} if os.path.isdir(path) and os.access(path, os.X_OK))
    return sorted(usable, key=lambda path: (path.count("/"), path))


def protect(directories: Iterable[str]) -> tuple[Mounted, int]:
    """Make everything read-only but the directories, whose changes go to memory. Mount a new /proc.

    Returns what was done, and a descriptor of the tmpfs that has the changes. OSError if there can be no /proc.
    """
    _syscalls.mount("none", "/", flags=_syscalls.MS_REC | _syscalls.MS_PRIVATE)
    unsealed = ""
    try:
        _syscalls.make_read_only("/")
    except OSError as error:
        unsealed = _why_unsealed(error)
    layers = _Layers(wanted(directories))
    layers.cover_all()
    # /proc comes last: so far, the old one had the descriptors of this process.
    flags = _syscalls.MS_NOSUID | _syscalls.MS_NODEV | _syscalls.MS_NOEXEC
    _syscalls.mount("proc", "/proc", "proc", flags)
    return Mounted(tuple(layers.overlays), tuple(layers.refused), unsealed), layers.memory


class _Layers:
    """Overlays on one tmpfs."""

    def __init__(self, directories: list[str]) -> None:
        self.directories = directories
        self.overlays: list[Overlay] = []
        self.refused: list[tuple[str, str]] = []
        self._numbers: set[int] = set()  # of the mounts made here

    def cover_all(self) -> None:
        scratch = _scratch(self.directories)
        _syscalls.mount("tmpfs", scratch, "tmpfs", _syscalls.MS_NOSUID | _syscalls.MS_NODEV, "mode=0755")
        self._scratch = scratch
        self.memory = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        for directory in self.directories:
            if why := self._cover(directory):
                self.refused.append((directory, why))
        _syscalls.detach(scratch)  # the overlays, and the descriptor, keep it

    def _cover(self, directory: str) -> str:
        """Mount an overlay over a directory, and put back what was mounted below it. Returns why not."""
        with contextlib.ExitStack() as stack:
            here = stack.enter_context(_opened(directory))
            if _mount_number(here) in self._numbers:
                return ""  # part of an overlay
            inside = [(mount, fd) for mount in _below(directory) for fd in [stack.enter_context(_opened(mount.point))]]
            inside = [(mount, fd) for mount, fd in inside if _mount_number(fd) == mount.number]
            try:
                self._overlay(here, directory)
            except OSError as error:
                # Without privilege, the kernel reveals nothing that is below a mount.
                for mount, _ in inside:
                    if mount.kind not in _PSEUDO:
                        self._cover(mount.point)
                return _why_no_overlay(error, bool(inside))
            for mount, fd in inside:
                self._put_back(mount, fd)
        return ""

    def _put_back(self, mount: Mount, fd: int) -> None:
        if mount.kind not in _PSEUDO and stat.S_ISDIR(os.fstat(fd).st_mode):
            with contextlib.suppress(OSError):
                return self._overlay(fd, mount.point)
        with contextlib.suppress(OSError):  # not seen by the command, then
            _syscalls.mount(f"/proc/self/fd/{fd}", mount.point, flags=_syscalls.MS_BIND)  # as it is: read-only
        return None

    def _overlay(self, lower: int, point: str) -> None:
        name = str(len(self.overlays))
        upper, work = (f"{self._scratch}/{name}/{kind}" for kind in ("upper", "work"))
        for path in (upper, work):
            os.makedirs(path, exist_ok=True)
        # The root of an overlay looks as its upper directory.
        like = os.stat(f"/proc/self/fd/{lower}")
        with contextlib.suppress(OSError):  # without privilege, nobody else can own something
            os.chown(upper, like.st_uid, like.st_gid)
        os.chmod(upper, stat.S_IMODE(like.st_mode))
        # By descriptor: a path may have any character.
        options = f"lowerdir=/proc/self/fd/{lower},upperdir={upper},workdir={work}"
        try:
            _syscalls.mount("overlay", point, "overlay", 0, f"{options},userxattr" * _in_user_namespace() or options)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _syscalls.mount("overlay", point, "overlay", 0, options)
        self.overlays.append(Overlay(point, f"{name}/upper"))
        with _opened(point) as fd:
            self._numbers.add(_mount_number(fd))


def _scratch(directories: list[str]) -> str:
    for path in _SCRATCH:
        if os.path.isdir(path) and not any(f"{directory}/".startswith(f"{path}/") for directory in directories):
            return path
    raise OSError(errno.ENOENT, f"none of {', '.join(_SCRATCH)} exists")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_PATH)
    try:
        yield fd
    finally:
        os.close(fd)


def _below(directory: str) -> list[Mount]:
    """The mounts below a directory, outer ones first; of several at one place, the one that is seen."""
    seen = {mount.point: mount for mount in mounts() if mount.point.startswith(f"{directory}/")}
    found = (mount for mount in seen.values() if mount.kind != "autofs" and os.path.lexists(mount.point))
    return sorted(found, key=lambda mount: mount.point.count("/"))


def _mount_number(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _in_user_namespace() -> bool:
    with open("/proc/self/uid_map") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def _why_unsealed(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return "this kernel cannot make everything read-only (mount_setattr: Linux 5.12)"
    return f"everything cannot be made read-only ({error.strerror})"


def _why_no_overlay(error: OSError, has_mounts: bool) -> str:
    if error.errno == errno.ENODEV:
        return "this kernel has no overlays"
    if error.errno == errno.EPERM:
        return "this kernel refuses overlays without privilege (they need Linux 5.11)"
    if error.errno == errno.EINVAL and has_mounts:
        return "something is mounted below it"
    return os.strerror(error.errno or 0)
