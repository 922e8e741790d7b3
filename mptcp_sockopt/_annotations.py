# SPDX-License-Identifier: MIT
"""What annotations name. It imports typing, so _types.py imports it when somebody evaluates them."""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable as Callable
from collections.abc import Container as Container
from collections.abc import Iterable as Iterable
from collections.abc import Iterator as Iterator
from collections.abc import Mapping as Mapping
from typing import Any as Any
from typing import ClassVar as ClassVar
from typing import Literal as Literal
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable
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

#: What Update and SubflowDelta count.
Counter: TypeAlias = Literal["bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans"]

#: What a field's number is: a total that only grows, a value of this moment, the time since something
#: happened, a bound that was configured or negotiated, a position in the data, or what names or describes.
Kind: TypeAlias = Literal["counter", "gauge", "age", "limit", "sequence", "label"]

#: Of a table: name, value, unit.
Row: TypeAlias = tuple[str, object, str]

T = TypeVar("T")


class Raw(Protocol):
    """Bytes, or a view, which is made of them."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...


class MakeView(Protocol):
    """bytes.__new__, as what makes a view of bytes that need no check."""

    def __call__(self, view: type[T], raw: Buffer, /) -> T: ...
