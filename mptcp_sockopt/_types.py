# SPDX-License-Identifier: MIT
"""The types used in annotations, resolved on demand.

Modules write ``from . import _types as t`` and annotate with ``t.SocketLike``. Importing them evaluates no
annotation, so typing is not imported. ``typing.get_type_hints()`` evaluates annotations and ends up in
``__getattr__`` here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from ._annotations import *  # noqa: F403  # everything that __getattr__ finds
else:

    def __getattr__(name: str) -> object:
        if name.startswith("__"):  # import and inspect ask every module for these
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _annotations

        return getattr(_annotations, name)
