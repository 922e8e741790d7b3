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


class Wanted(NamedTuple):
    """A directory in which the command should be able to write."""

    path: str
    since: str
    """An overlay here or below, on the way to path, gives the same as one of its own."""


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


def wanted(directories: Iterable[str], *, privileged: bool) -> list[Wanted]:
    """Directories in which the command should be able to write, without symbolic links, outer ones first.

    They exist, and with them come the mounts below. Without privilege, they are those in which the user may
    write, and an overlay copies nothing that belongs to somebody else: neither a file nor a directory on the
    way to one. To be called before there is a new user namespace, where owners cannot be told any more.
    """
    outer = {os.path.realpath(directory) for directory in directories if directory} - {"/"}
    found = {*outer, *(mount.point for path in outer for mount in _below(path) if mount.kind not in _PSEUDO)}
    if not privileged:
        found |= {path for directory in outer for path in _writable_below(directory, 2)}
    rights = os.X_OK if privileged else os.X_OK | os.W_OK
    usable = (path for path in found if os.path.isdir(path) and os.access(path, rights))
    ordered = sorted(usable, key=lambda path: (path.count("/"), path))
    return [Wanted(path, "/" if privileged else _owned_from(path)) for path in ordered]


def _writable_below(directory: str, depth: int) -> Iterator[str]:
    if os.access(directory, os.W_OK):
        yield directory
    elif depth:
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _writable_below(entry.path, depth - 1)


def _owned_from(path: str) -> str:
    """The outermost directory from which on everything down to path is the user's own."""
    while path != "/":
        found = os.stat(path)
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            break
        path = os.path.dirname(path)
    return path


def protect(directories: Iterable[Wanted]) -> tuple[Mounted, int]:
    """Make everything read-only but the directories, whose changes go to memory. Mount a new /proc.

    Returns what was done, and a descriptor of the tmpfs with the changes. OSError if there can be no /proc.
    """
    _syscalls.mount("none", "/", flags=_syscalls.MS_REC | _syscalls.MS_PRIVATE)
    unsealed = ""
    try:
        _syscalls.make_read_only("/")
    except OSError as error:
        unsealed = _why_unsealed(error)
    layers = _Layers(list(directories))
    layers.cover_all()
    # /proc comes last: so far, the old one had the descriptors of this process.
    flags = _syscalls.MS_NOSUID | _syscalls.MS_NODEV | _syscalls.MS_NOEXEC
    _syscalls.mount("proc", "/proc", "proc", flags)
    with contextlib.suppress(OSError):  # a user cannot write there anyway
        _syscalls.mount("/proc/sys", "/proc/sys", flags=_syscalls.MS_BIND)
        _syscalls.make_read_only("/proc/sys")
    return Mounted(tuple(layers.overlays), tuple(layers.refused), unsealed), layers.memory


class _Layers:
    """Overlays on one tmpfs."""

    def __init__(self, directories: list[Wanted]) -> None:
        self.directories = directories
        self.overlays: list[Overlay] = []
        self.refused: list[tuple[str, str]] = []
        self._points: dict[int, str] = {}  # of the overlays made here, by the number of the mount

    def cover_all(self) -> None:
        self._scratch = _scratch([directory.path for directory in self.directories])
        flags = _syscalls.MS_NOSUID | _syscalls.MS_NODEV
        _syscalls.mount("tmpfs", self._scratch, "tmpfs", flags, "mode=0755")
        self.memory = os.open(self._scratch, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.ExitStack() as stack:
            # Before the first overlay, which would be below the next one.
            opened = [(each, stack.enter_context(_opened(each.path))) for each in self.directories]
            for each, fd in opened:
                if why := self._cover(each, fd):
                    self.refused.append((each.path, why))
        _syscalls.detach(self._scratch)  # the overlays, and the descriptor, keep it

    def _cover(self, directory: Wanted, fd: int) -> str:
        """Mount an overlay over a directory, and put back what was mounted below it. Returns why not."""
        with contextlib.ExitStack() as stack:
            here = stack.enter_context(_opened(directory.path))
            point = self._points.get(_mount_number(here))
            if point is not None and len(point) >= len(directory.since):
                return ""  # an overlay has it
            inside = []
            for mount in _below(directory.path):
                with contextlib.suppress(OSError):  # a mount that is covered by another
                    inside.append((mount, stack.enter_context(_opened(mount.point))))
            inside = [(mount, each) for mount, each in inside if _mount_number(each) == mount.number]
            try:
                self._overlay(fd, directory.path)
            except OSError as error:
                # Without privilege, the kernel reveals nothing that is below a mount.
                return _why_no_overlay(error, bool(inside))
            for mount, each in inside:  # as they are: read-only, until their turn comes
                with contextlib.suppress(OSError):  # not seen by the command, then
                    source = f"/proc/self/fd/{each}"
                    _syscalls.mount(source, mount.point, flags=_syscalls.MS_BIND)
        return ""

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
            _syscalls.mount("overlay", point, "overlay", 0, options + ",userxattr" * _in_user_namespace())
        except OSError as error:
            if error.errno != errno.EINVAL or not _in_user_namespace():
                raise
            _syscalls.mount("overlay", point, "overlay", 0, options)
        self.overlays.append(Overlay(point, f"{name}/upper"))
        with _opened(point) as fd:
            self._points[_mount_number(fd)] = point


def _scratch(directories: list[str]) -> str:
    for path in _SCRATCH:
        if os.path.isdir(path) and not any(
            f"{directory}/".startswith(f"{path}/") for directory in directories
        ):
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
