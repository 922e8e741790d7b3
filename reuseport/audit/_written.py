# SPDX-License-Identifier: MIT
"""What a command wrote, as the upper directories of its overlays show it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Change(NamedTuple):
    """A file, directory, link or socket that the command wrote."""

    path: str
    what: str
    """created, changed (or opened for writing), or removed."""


class Written(NamedTuple):
    """What the command wrote."""

    changes: list[Change]
    more: int
    """How many more there were."""

    def asdict(self) -> dict[str, Any]:
        """For JSON."""
        return {"changes": [change._asdict() for change in self.changes], "more": self.more}


def written(layers: Iterable[tuple[str, str]], limit: int) -> Written:
    """The contents of upper directories, each with the live directory that it stands for."""
    found = sorted(change for upper, directory in layers for change in _changes(upper, directory))
    return Written(found[:limit], max(0, len(found) - limit))


def _changes(upper: str, directory: str) -> Iterator[Change]:
    with contextlib.suppress(OSError), os.scandir(upper) as entries:
        for entry in entries:
            path = os.path.join(directory, entry.name)
            found = entry.stat(follow_symlinks=False)
            exists = os.path.lexists(path)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                yield Change(path, "removed")
            elif not exists:
                yield Change(path, "created")
            elif not stat.S_ISDIR(found.st_mode):
                yield Change(path, "changed")
            if stat.S_ISDIR(found.st_mode):
                yield from _changes(entry.path, path)
