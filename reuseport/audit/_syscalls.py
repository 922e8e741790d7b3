# SPDX-License-Identifier: MIT
"""System calls that the standard library of Python 3.10 lacks. A failure is an OSError with its errno."""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x8000000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000

_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SYS_MOUNT_SETATTR = 442  # on every architecture but alpha
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1


def _checked(what: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """unshare(2): new namespaces for this process, or for its next child (CLONE_NEWPID)."""
    _checked("unshare", _libc().unshare(flags))


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = [os.fsencode(text) or None for text in (source, target, kind)]
    _checked(f"mount {target}", _libc().mount(*words, ctypes.c_ulong(flags), os.fsencode(data) or None))


def detach(target: str) -> None:
    """umount2(2), lazily: the mount goes once nothing uses it any more."""
    _checked(f"umount {target}", _libc().umount2(os.fsencode(target), _MNT_DETACH))


def make_read_only(directory: str) -> None:
    """mount_setattr(2): a mount, and all mounts below it, at once. ENOSYS before Linux 5.12."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY)  # struct mount_attr
    result = _libc().syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(_AT_FDCWD),
        os.fsencode(directory),
        ctypes.c_ulong(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _checked("mount_setattr", result)


def die_with_parent(number: signal.Signals) -> None:
    """This process gets the signal when the thread that forked it ends. Other credentials reset it."""
    _checked("prctl", _libc().prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number)))


def become_subreaper() -> None:
    """Descendants whose parents end become children of this process."""
    _checked("prctl", _libc().prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1)))
