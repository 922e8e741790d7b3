# SPDX-License-Identifier: MIT
"""What annotations name. It imports typing, so _types.py imports it when somebody evaluates them."""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable as Callable
from collections.abc import Iterable as Iterable
from collections.abc import Iterator as Iterator
from collections.abc import Mapping as Mapping
from typing import Any as Any
from typing import ClassVar as ClassVar
from typing import Literal as Literal
from typing import Protocol, TypeAlias, runtime_checkable
from typing import overload as overload

if typing.TYPE_CHECKING:
    from typing_extensions import Buffer as Buffer
    from typing_extensions import Self as Self
else:  # as far as this Python has them
    Buffer = getattr(collections.abc, "Buffer", bytes | bytearray | memoryview)
    Self = getattr(typing, "Self", typing.Any)


@runtime_checkable
class HasFileno(Protocol):
    """A socket, a file, a TransportSocket ..."""

    def fileno(self) -> int: ...


@runtime_checkable
class HasExtraInfo(Protocol):
    """An asyncio transport or StreamWriter ..."""

    def get_extra_info(self, name: str, /) -> Any: ...


#: What every function here takes as a socket: a descriptor, or what has one.
SocketLike: TypeAlias = int | HasFileno | HasExtraInfo

#: As socket.getsockname() gives it: (host, port) of IPv4, (host, port, flowinfo, scope_id) of IPv6.
Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
