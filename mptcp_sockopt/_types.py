# SPDX-License-Identifier: MIT
"""The names in annotations, each resolved when somebody asks for it.

Rooms say ``from . import _types as t`` and annotate with ``t.SocketLike``. An import evaluates none of it, so
typing is not imported; ``typing.get_type_hints()`` evaluates it all, and comes to ``__getattr__`` here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from ._annotations import *  # noqa: F403  # all of it is what __getattr__ finds
else:

    def __getattr__(name: str) -> object:
        if name.startswith("__"):  # asked by import and inspect, of every module
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _annotations

        return getattr(_annotations, name)
