# SPDX-License-Identifier: MIT
"""Many sockets at once: Sampler reads them, Sample is the result."""

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
    V = MPTCPInfo | MPTCPFullInfo  # what typing.get_type_hints() returns

    class Generic:
        """As typing.Generic, without importing typing."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


#: Fields that str() shows in each row.
_SHOWN = ("token", "subflows", "bytes_sent", "bytes_acked", "bytes_received")


class Sample(Generic[V]):
    """The result of Sampler.sample(): a sequence with one row for each socket, in the order of the Sampler.

    A row is the MPTCPInfo (with full=True, the MPTCPFullInfo) that mptcp_info() would have returned, or the
    OSError that it would have raised: one failure does not affect the other rows. In addition, ESTALE means
    that the descriptor now belongs to another connection. Rows are created at each access. A Sample can be
    pickled.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ("_block", "_fds", "_full", "_ints", "_stride", "_time")

    def __init__(self, full: bool, fds: tuple[int, ...], time: int, stride: int, block: memoryview) -> None:
        """Called by Sampler.sample(). block: as in socket_rows in csrc/mptcp_sockopt.h."""
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
        """The number of bytes that the kernel returned for each row; 0 if it failed. Read-only C ints."""
        return self._ints[: len(self._fds)]

    @property
    def errnos(self) -> memoryview:
        """The errno of each row that failed; 0 for the others. Read-only C ints."""
        return self._ints[len(self._fds) : 2 * len(self._fds)]

    @property
    def _rows(self) -> memoryview:
        return self._block[: len(self._fds) * self._stride]

    def column(self, name: str) -> memoryview:
        """One field of all rows, without copying: a read-only memoryview of native unsigned ints.

        name is a field of MPTCPInfo or, with full=True, "num_subflows". The value is 0 for rows that failed;
        see ``errnos``. ValueError for any other name, and for a field that this kernel does not report, which
        is every field if it lacks the option.
        """
        answered = next((index for index, length in enumerate(self.lengths) if length), None)
        # All answers of a kernel have mptcp_info of one length. Without any answer, assume today's.
        start, length = layouts.INFO_AT if self._full else 0, layouts.MPTCP_INFO_SIZE
        if answered is not None:
            row: t.Any = self[answered]
            length = len(row.info if self._full else row)
        if self._full and name == "num_subflows":
            column = strided(layouts.NUM_SUBFLOWS, self._rows, self._stride, 0)
        else:
            column = _column(MPTCPInfo, name, self._rows, self._stride, start, length)
        if answered is None and any(isinstance(row, UnsupportedOptionError) for row in self):
            raise ValueError(f"this kernel does not report {name}, because it lacks the option")
        return column

    def columns(self) -> dict[str, memoryview]:
        """column() for every field that this kernel reports, by name; empty if it lacks the option."""
        columns = {}
        for name in [*MPTCPInfo.fields, *["num_subflows"] * self._full]:
            try:
                columns[name] = self.column(name)
            except ValueError:
                continue
        return columns

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Everything by name; each row as its own ``asdict()``, or None if it failed."""
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
            # All rows have the same length, as usual: no Python step for each row.
            records = struct.Struct(f"{length}s{self._stride - length}x").iter_unpack(self._rows)
            return starmap(self._make._trusted, records)
        return self._one_by_one()

    def _one_by_one(self) -> t.Iterator[V | OSError]:
        block, stride, make, start = self._block, self._stride, self._make._trusted, 0
        for index, length in enumerate(self.lengths):
            yield make(block[start : start + length]) if length else self._row(index)
            start += stride

    def __reduce__(self) -> tuple[t.Any, ...]:
        # Leave out the memory behind a short row, which may hold other data.
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
    """MPTCP_INFO, or with full=True MPTCP_FULL_INFO, of many sockets in one C call.

    A Sampler holds descriptors, not sockets: it neither keeps them open nor closes them. remove() a socket
    before you close it, or by its number afterwards. Forgetting this is safe: the row of a closed descriptor
    is EBADF, and the row of a descriptor that now belongs to another connection is ESTALE, until it is added
    again. This is detected when a sample sees a different token, or has seen the socket closed, fallen back
    or not MPTCP. It cannot be detected before the first sample has seen the token of the original connection.

    Thread rule: calls wait for each other, other threads run during system calls, and a signal handler or
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
        """ValueError for a descriptor that occurs twice; TypeError and ValueError as mptcp_info()."""
        # Reentrant: a signal handler in the middle of a call must not wait for that call.
        self._lock = _thread.RLock()
        _samplers.add(ref(self, _samplers.discard))
        self._full = bool(full)
        self._rows = Rows(_border.MPTCP_FULL_INFO if full else _border.MPTCP_INFO)
        #: Each descriptor, with the value of _changes when it was added.
        self._added: dict[int, int] = {}
        #: _changes counts changes of the set, after each change. _asked is its value when _rows was last
        #: updated.
        self._changes = self._asked = 0
        if hasattr(socks, "fileno") or hasattr(socks, "get_extra_info") or not hasattr(socks, "__iter__"):
            kind = type(socks).__name__
            raise TypeError(f"Sampler takes an iterable of sockets, not one {kind}: Sampler([sock])")
        for sock in socks:
            fd = _border.descriptor(sock)
            if fd in self._added:
                raise ValueError(f"fd {fd} occurs twice")
            self._added[fd] = 0
            self._changes = 1

    def add(self, sock: t.SocketLike) -> None:
        """Add a socket, in a row after the others.

        If it is already there, what is known of its connection is forgotten.
        """
        fd = _border.descriptor(sock)
        with self._lock:
            self._added[fd] = self._changes
            self._changes += 1

    def remove(self, sock: t.SocketLike) -> None:
        """Remove a socket. If it is closed, pass its former number. KeyError if it is not in the Sampler."""
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
        """Read all sockets in one C call, during which other threads run.

        With full=True, OSError with EAGAIN if subflows were added during each of several calls.
        """
        with self._lock:
            changes = self._changes
            if self._asked != changes:
                self._rows.put(self._added)
                self._asked = changes
            return Sample(self._full, *self._rows.read())

    def __reduce__(self) -> t.Any:
        raise TypeError("a Sampler cannot be copied or pickled: create another one with the same sockets")

    def __repr__(self) -> str:
        return f"<Sampler of {len(self)} sockets{', full' if self._full else ''}>"


# All Samplers of this process. (As a weakref.WeakSet, but without its import.)
_samplers: set[ref[Sampler[t.Any]]] = set()


def _forked() -> None:
    """In a forked child: a thread that held a lock does not exist here, and would never release it."""
    for alive in list(_samplers):
        sampler = alive()
        if sampler is not None:
            sampler._lock = _thread.RLock()


os.register_at_fork(after_in_child=_forked)


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (Sample, Sampler):
    _public.__module__ = "mptcp_sockopt"
