# SPDX-License-Identifier: MIT
"""A file that is replaced as a whole, again and again, by one process alone."""

from __future__ import annotations

import contextlib
import fcntl
import os

from ._files import replace_and_hold
from ._outcome import CannotRun


class Textfile:
    """The file of this name. What is there is locked, so that a second process that would replace it notices.

    The lock ends with the process, however it ends, so a file that a killed one left behind is in nobody's
    way. A symbolic link of this name is replaced, not followed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ours: int | None = None  # the file that is there, open

    def write(self, data: bytes) -> None:
        """Replace it at once: nobody reads half of it. OSError, and the old file stays whole."""
        self._refuse_another()
        new = replace_and_hold(self._name, data, 0o644)  # node_exporter is another user
        self._forget()
        self._ours = new

    def remove(self) -> None:
        """Remove it, unless another process has replaced it."""
        with contextlib.suppress(OSError):
            if self._is_ours(os.lstat(self._name)):
                os.unlink(self._name)
        self._forget()

    def _refuse_another(self) -> None:
        try:
            there = os.open(self._name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # there is none
        try:
            if not self._is_ours(os.fstat(there)):
                fcntl.flock(there, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"another exporter writes {self._name}") from None
        except OSError:
            pass  # this file system has no locks
        finally:
            os.close(there)

    def _is_ours(self, there: os.stat_result) -> bool:
        return self._ours is not None and os.path.samestat(there, os.fstat(self._ours))

    def _forget(self) -> None:
        if self._ours is not None:
            os.close(self._ours)
            self._ours = None
