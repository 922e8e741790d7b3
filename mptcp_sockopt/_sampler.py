# SPDX-License-Identifier: MIT
"""Many sockets at once: Sampler asks, a Sample is what they answered."""

from __future__ import annotations

import _thread
import os
import struct
import sys
from _weakref import ref
from itertools import starmap
from types import GenericAlias

from . import _border
from . import _types as t
from ._border import layouts
from ._border.rows import Rows
from ._errors import UnsupportedOptionError
from ._fields import column as _column
from ._fields import strided, unpickled
from ._shown import listed, units_of
from ._views import MPTCPFullInfo, MPTCPInfo

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from typing import Generic, TypeVar

    V = TypeVar("V", MPTCPInfo, MPTCPFullInfo)
else:
    V = MPTCPInfo | MPTCPFullInfo  # what typing.get_type_hints() gives

    class Generic:
        """As typing.Generic, without importing typing."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


#: Fields of a row in str().
_SHOWN = ("token", "subflows", "bytes_sent", "bytes_acked", "bytes_received")


class Sample(Generic[V]):
    """What the sockets of a Sampler answered at one moment: a sequence with a row for each, in its order.

    A row is an MPTCPInfo (of ``Sampler(full=True)`` an MPTCPFullInfo) as mptcp_info() would have returned
    it, or the OSError that it would have raised: a failure is a value. Besides what mptcp_info() raises,
    ESTALE means that the descriptor's number belongs to another connection now. Rows are made at each
    access. A Sample can be pickled. Thread rule: immutable, use it anywhere.
    """

    __slots__ = ("_block", "_fds", "_full", "_ints", "_stride", "_time")

    def __init__(self, full: bool, fds: tuple[int, ...], time: int, stride: int, block: memoryview) -> None:
        """Made by Sampler.sample(). block: as of socket_rows in csrc/mptcp_sockopt.h."""
        self._fds = fds
        self._full = full
        self._time = time
        self._stride = stride
        self._block = block
        self._ints = block[len(fds) * stride :].cast("i")

    @property
    def time(self) -> int:
        """time.monotonic_ns() just before the read."""
        return self._time

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptor of each row."""
        return self._fds

    @property
    def lengths(self) -> memoryview:
        """How many bytes the kernel returned for each row; 0 where it failed. Read-only, of C ints."""
        return self._ints[: len(self._fds)]

    @property
    def errnos(self) -> memoryview:
        """Why each row failed, or 0. Read-only, of C ints."""
        return self._ints[len(self._fds) : 2 * len(self._fds)]

    @property
    def _rows(self) -> memoryview:
        return self._block[: len(self._fds) * self._stride]

    def column(self, name: str) -> memoryview:
        """One field of all rows, without copying: a read-only memoryview of native unsigned ints.

        name is a field of MPTCPInfo, or "num_subflows" with full=True. 0 where the row failed; ``errnos``
        tells. ValueError for what is no field, and for what this kernel does not report: a field that came
        later, or all of them where it lacks the option.
        """
        answered = next((index for index, length in enumerate(self.lengths) if length), None)
        # The kernel's mptcp_info is of one length; that of today where nothing answered.
        start, length = layouts.INFO_AT if self._full else 0, layouts.MPTCP_INFO_SIZE
        if answered is not None:
            row: t.Any = self[answered]
            length = len(row.info if self._full else row)
        if self._full and name == "num_subflows":
            column = strided(layouts.NUM_SUBFLOWS, self._rows, self._stride, 0)
        else:
            column = _column(MPTCPInfo, name, self._rows, self._stride, start, length)
        if answered is None and any(isinstance(row, UnsupportedOptionError) for row in self):
            raise ValueError(f"this kernel does not report {name}: it lacks the option")
        return column

    def columns(self) -> dict[str, memoryview]:
        """column() of every field that this kernel reports, by name; empty where it lacks the option."""
        columns = {}
        for name in [*MPTCPInfo.fields, *["num_subflows"] * self._full]:
            try:
                columns[name] = self.column(name)
            except ValueError:
                continue
        return columns

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All of it by name: the rows as of their own ``asdict()``, None for one that failed."""
        rows = [None if isinstance(row, OSError) else row.asdict(clean=clean) for row in self]
        return {"time": self.time, "fds": list(self.fds), "errnos": list(self.errnos), "rows": rows}

    def __len__(self) -> int:
        return len(self._fds)

    if TYPE_CHECKING:

        @t.overload
        def __getitem__(self, index: int) -> V | OSError: ...
        @t.overload
        def __getitem__(self, index: slice) -> tuple[V | OSError, ...]: ...

    def __getitem__(self, index: int | slice) -> V | OSError | tuple[V | OSError, ...]:
        if isinstance(index, slice):
            return tuple([self._row(i) for i in range(*index.indices(len(self._fds)))])
        try:
            return self._row(range(len(self._fds))[index])
        except IndexError:
            raise IndexError(f"row {index} of {len(self._fds)}") from None

    def _row(self, index: int) -> V | OSError:
        length = self._ints[index]
        if not length:
            count = len(self._fds)
            errno, refusal = self._ints[index + count], self._ints[index + 2 * count]
            option = "MPTCP_FULL_INFO" if self._full else "MPTCP_INFO"
            return _border.failed(self._fds[index], option, errno, refusal)
        start = index * self._stride
        return self._make._trusted(self._block[start : start + length])

    @property
    def _make(self) -> type[V]:
        return MPTCPFullInfo if self._full else MPTCPInfo  # type: ignore[return-value]

    def __iter__(self) -> t.Iterator[V | OSError]:
        lengths = self.lengths
        length = lengths[0] if lengths else 0
        if length and lengths.tobytes() == lengths[:1].tobytes() * len(lengths):
            # All alike, as usual: without a step of Python for each row.
            records = struct.Struct(f"{length}s{self._stride - length}x").iter_unpack(self._rows)
            return starmap(self._make._trusted, records)
        return self._one_by_one()

    def _one_by_one(self) -> t.Iterator[V | OSError]:
        block, stride, make, start = self._block, self._stride, self._make._trusted, 0
        for index, length in enumerate(self.lengths):
            yield make(block[start : start + length]) if length else self._row(index)
            start += stride

    def __reduce__(self) -> tuple[t.Any, ...]:
        # Behind a short row lies old memory, which is nobody's information.
        starts = range(0, len(self._rows), self._stride)
        rows = [self._block[i : i + n].tobytes() for i, n in zip(starts, self.lengths, strict=True)]
        block = b"".join([row.ljust(self._stride, b"\0") for row in rows]) + self._ints.tobytes()
        return unpickled, (sys.byteorder, _restored, self._full, self._fds, self.time, self._stride, block)

    def __repr__(self) -> str:
        bad = sum(map(bool, self.errnos))
        return f"<Sample of {len(self._fds)} sockets, {bad} failed, time {self.time}>"

    def __str__(self) -> str:
        rows: list[list[object]] = []
        for fd, row in zip(self._fds, self, strict=True):
            if isinstance(row, OSError):
                rows.append([fd, *[None] * len(_SHOWN), row.strerror])
            else:
                info: t.Any = getattr(row, "info", row)
                rows.append([fd, *(getattr(info, name) for name in _SHOWN), ""])
        head: list[str] = ["fd", *_SHOWN, "failure"]
        units: list[str] = ["", *units_of(MPTCPInfo.fields, _SHOWN), ""]
        return "\n".join([repr(self), *listed(head, units, rows, left=(6,))])


def _restored(full: bool, fds: tuple[int, ...], time: int, stride: int, block: bytes) -> Sample[t.Any]:
    return Sample(full, fds, time, stride, memoryview(block))


class Sampler(Generic[V]):
    """MPTCP_INFO, or with full=True MPTCP_FULL_INFO, of many sockets by one C call.

    It holds descriptors, not sockets: it neither keeps a socket open nor closes it. remove() a socket
    before it is closed, or its number afterwards. What is left behind is no danger: a closed descriptor's
    row is EBADF, and one whose number was given to another connection is ESTALE from the first sample that
    sees another token, or where a sample saw it closed, fallen back or not MPTCP, until it is added again. A
    connection whose token no sample has seen yet cannot be told from another.

    Thread rule: calls take turns, other threads run while the kernel works, and a signal handler or a
    finalizer may call it in the middle of a call.
    """

    __slots__ = ("__weakref__", "_added", "_asked", "_changes", "_full", "_lock", "_rows")

    if TYPE_CHECKING:

        @t.overload
        def __init__(
            self: Sampler[MPTCPInfo], socks: t.Iterable[t.SocketLike] = (), *, full: t.Literal[False] = False
        ) -> None: ...
        @t.overload
        def __init__(
            self: Sampler[MPTCPFullInfo], socks: t.Iterable[t.SocketLike] = (), *, full: t.Literal[True]
        ) -> None: ...
        @t.overload
        def __init__(self: Sampler[t.Any], socks: t.Iterable[t.SocketLike] = (), *, full: bool) -> None: ...

    def __init__(self, socks: t.Iterable[t.SocketLike] = (), *, full: bool = False) -> None:
        """ValueError for a descriptor that comes twice; TypeError and ValueError as mptcp_info()."""
        # A handler that runs in the middle of a call must not wait for that call: it may enter again.
        self._lock = _thread.RLock()
        _samplers.add(ref(self, _samplers.discard))
        self._full = bool(full)
        self._rows = Rows(_border.MPTCP_FULL_INFO if full else _border.MPTCP_INFO)
        #: Each descriptor, and what _changes was as it was added.
        self._added: dict[int, int] = {}
        #: How often the set was changed (counted behind each change), and how often when _rows was told.
        self._changes = self._asked = 0
        if hasattr(socks, "fileno") or hasattr(socks, "get_extra_info") or not hasattr(socks, "__iter__"):
            kind = type(socks).__name__
            raise TypeError(f"Sampler takes an iterable of sockets, not one {kind}: Sampler([sock])")
        for sock in socks:
            fd = _border.descriptor(sock)
            if fd in self._added:
                raise ValueError(f"fd {fd} comes twice")
            self._added[fd] = 0
            self._changes = 1

    def add(self, sock: t.SocketLike) -> None:
        """Sample this socket too, in a row after the others. One that is there is started anew."""
        fd = _border.descriptor(sock)
        with self._lock:
            self._added[fd] = self._changes
            self._changes += 1

    def remove(self, sock: t.SocketLike) -> None:
        """Sample it no longer. A closed socket is removed by the number that it had. KeyError if unknown."""
        fd = _border.descriptor(sock)
        with self._lock:
            if self._added.pop(fd, None) is None:
                raise KeyError(f"fd {fd} is not in this Sampler")
            self._changes += 1

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors, in the order of the rows."""
        with self._lock:
            return tuple(self._added)

    def __len__(self) -> int:
        return len(self._added)

    def __contains__(self, sock: t.SocketLike) -> bool:
        return _border.descriptor(sock) in self._added

    def sample(self) -> Sample[V]:
        """Ask all sockets, in one C call during which other threads run.

        With full=True, OSError EAGAIN if their subflows became more during each of several calls.
        """
        with self._lock:
            changes = self._changes
            if self._asked != changes:
                self._rows.put(self._added)
                self._asked = changes
            return Sample(self._full, *self._rows.read())

    def __reduce__(self) -> t.Any:
        raise TypeError("a Sampler can be neither copied nor pickled: make another one of its sockets")

    def __repr__(self) -> str:
        return f"<Sampler of {len(self)} sockets{', full' if self._full else ''}>"


# Those of this process. (weakref.WeakSet is this, and an import.)
_samplers: set[ref[Sampler[t.Any]]] = set()


def _forked() -> None:
    """In a child: who held a lock may be a thread that is not here, and would never give it back."""
    for alive in list(_samplers):
        sampler = alive()
        if sampler is not None:
            sampler._lock = _thread.RLock()


os.register_at_fork(after_in_child=_forked)


# As mptcp_sockopt/__init__.py does for what it imports at once.
for _public in (Sample, Sampler):
    _public.__module__ = "mptcp_sockopt"
