# SPDX-License-Identifier: MIT
"""Files that commands write, in folders where other users may write too, as /tmp.

A file of ours is new: created under a name that nothing had, so that no link of somebody else leads the
command to another file, and no file of somebody else gets what we write.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import BinaryIO

#: What the owner alone may read.
PRIVATE = 0o600


def create(path: str, mode: int = PRIVATE) -> BinaryIO:
    """A new file, to be written without a buffer. A pipe or device that exists is written as it is.

    FileExistsError for every other file that exists, except one of this user that is empty and no link.
    """
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        fd, is_link = _existing(path, flags, error)
        there = os.fstat(fd)
        ours = there.st_uid == os.geteuid() and not there.st_size and not is_link
        if stat.S_ISREG(there.st_mode) and not ours:
            os.close(fd)
            raise error from None
    return open(fd, "wb", buffering=0)


def _existing(path: str, flags: int, error: OSError) -> tuple[int, bool]:
    """A descriptor of what is there, unaltered, and whether the path is a link, as /dev/stdout is."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW), False
    except OSError as refused:
        if refused.errno != errno.ELOOP:
            raise
    try:
        return os.open(path, flags), True
    except FileNotFoundError:
        raise error from None  # a link to nothing


def replace(path: str, data: bytes, mode: int) -> None:
    """Put a new file in the place of path, at once: nobody reads half of it, and a link is not followed.

    OSError, and what was there before is still there.
    """
    os.close(replace_and_hold(path, data, mode))


def replace_and_hold(path: str, data: bytes, mode: int) -> int:
    """As replace(): the new file's descriptor, locked by flock(2), if the file system has locks, before
    anybody else can open it by this path."""
    beside = f"{path}.{os.getpid()}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)  # of a process that was killed, or somebody else's
    try:
        new = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(new, "wb", closefd=False) as file:
                file.write(data)
            os.fchmod(new, mode)  # whatever the umask
            os.replace(beside, path)
        except OSError:
            os.close(new)
            raise
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise OSError(error.errno, error.strerror, path) from None
    return new
