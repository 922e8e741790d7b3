# SPDX-License-Identifier: MIT
"""The types used in annotations. This module imports typing, so _types.py imports it only on demand."""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import AsyncIterator as AsyncIterator
from collections.abc import Callable as Callable
from collections.abc import Container as Container
from collections.abc import Iterable as Iterable
from collections.abc import Iterator as Iterator
from collections.abc import Mapping as Mapping
from collections.abc import Sequence as Sequence
from typing import Any as Any
from typing import ClassVar as ClassVar
from typing import Literal as Literal
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable
from typing import overload as overload

if typing.TYPE_CHECKING:
    from typing_extensions import Buffer as Buffer
    from typing_extensions import Self as Self
else:  # older Pythons lack these
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


#: Anything the functions here accept as a socket: a file descriptor, or an object that has one.
SocketLike: TypeAlias = int | HasFileno | HasExtraInfo

#: An address as socket.getsockname() returns it: (host, port), or (host, port, flowinfo, scope_id) for IPv6.
Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

#: The counters of Update and SubflowDelta.
Counter: TypeAlias = Literal["bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans"]

#: The kind of number in a field. A counter only grows; a gauge is a current value; an age is the time since
#: an event; a limit was configured or negotiated; a sequence is a position in the data; a label is a name, a
#: number that identifies, or a set of flags.
Kind: TypeAlias = Literal["counter", "gauge", "age", "limit", "sequence", "label"]

#: A row of a printed table: name, value, unit.
Row: TypeAlias = tuple[str, object, str]

T = TypeVar("T")


class Raw(Protocol):
    """Bytes, or a view."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...


class MakeView(Protocol):
    """The type of bytes.__new__ where it creates a view without checks."""

    def __call__(self, view: type[T], raw: Buffer, /) -> T: ...
