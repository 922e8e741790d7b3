# SPDX-License-Identifier: MIT
"""Many sockets: raw reads in one C call, into leased memory.

Like sockopt.py, it knows descriptors, buffers and lengths, but not the meaning of any field.
"""

from __future__ import annotations

import errno
import time

from .. import _types as t
from .abi import MPTCP_INFO, ffi, in_words, lib
from .sockopt import BUFFER_SIZE, MORE

_allocate = ffi.new_allocator(should_clear_after_alloc=False)
_get_rows = lib.mptcp_get_rows
_INT = ffi.sizeof("int")
_SPARE = 2  # blocks that are kept: callers often hold the last two answers
_ATTEMPTS = 8  # if a connection grows, both the scratch memory and the row must grow


class Rows:
    """MPTCP_INFO or MPTCP_FULL_INFO (option) of many sockets; see socket_rows in csrc/mptcp_sockopt.h.

    The memory of an answer is leased: it is returned when the last view of it is gone, and the next answer is
    written there. (malloc is as good up to 32 MB. Above that, its new pages cost as much as the read.)

    Thread rule: one thread at a time. A signal handler or a finalizer may call any method in the middle of
    another call: each works on what it found at its start, and always leaves a consistent state.
    """

    def __init__(self, option: int) -> None:
        self._option = option
        if option == MPTCP_INFO:
            names, self._room = ["mptcp_info"], lib.MPTCP_INFO_ROOM
        else:  # room for one subflow
            names, self._room = ["mptcp_full_info", "mptcp_subflow_info", "tcp_info"], BUFFER_SIZE
        self._narrow = self._stride = _whole_words(sum(ffi.sizeof(f"struct {name}") for name in names))
        self._scratch = _new_scratch(self._room)
        self._asked: tuple[dict[int, int], tuple[int, ...], t.Any, t.Any]
        self._asked = {}, (), ffi.new("int[]", 0), ffi.new("uint64_t[]", 0)
        spare: list[t.Any] = []
        self._spare = spare

        def come_back(block: t.Any) -> None:
            """When all that was made of a lease is gone, in whatever thread that happens."""
            if len(spare) < _SPARE:
                spare.append(block)

        self._come_back = come_back

    def put(self, added: t.Mapping[int, int]) -> None:
        """Set the descriptors to read. If the number of a descriptor has changed, its token is forgotten."""
        added = dict(added)
        before, fds, _, known = self._asked
        tokens = dict(zip(fds, known, strict=True))
        kept = [tokens[fd] if before.get(fd) == number else 0 for fd, number in added.items()]
        fds = tuple(added)
        self._asked = added, fds, ffi.new("int[]", fds), ffi.new("uint64_t[]", kept)

    def read(self) -> tuple[tuple[int, ...], int, int, memoryview]:
        """The descriptors, time.monotonic_ns() just before, the stride, and the block as in socket_rows."""
        _, fds, numbers, tokens = self._asked
        spare, count = self._spare, len(fds)
        for _ in range(_ATTEMPTS):
            scratch, stride = self._scratch, self._stride
            room = ffi.sizeof(scratch)
            size = count * (stride + 3 * _INT)
            words = in_words(size)
            block = spare.pop() if spare else None
            if block is None or len(block) != words:
                block = _allocate("uint64_t[]", words)
            lease = ffi.gc(block, self._come_back)
            parts = numbers, tokens, count, self._option, stride, lease, scratch, room
            asked = ffi.new("struct socket_rows *", parts)
            now = time.monotonic_ns()
            longest = _get_rows(asked)
            if longest <= stride:
                if stride > self._narrow and longest * 2 < stride:  # the long connection is gone
                    self._stride = max(self._narrow, _whole_words(longest))
                    self._scratch = _new_scratch(max(self._room, 2 * longest))
                return fds, now, stride, memoryview(ffi.buffer(lease, size)).toreadonly()
            if longest > room:
                self._scratch = _new_scratch(longest + lib.mptcp_full_info_room(MORE))
            else:
                self._stride = _whole_words(longest)
        raise OSError(errno.EAGAIN, f"Sampler: subflows were added during each of {_ATTEMPTS} reads")


def _whole_words(size: int) -> int:
    """size, rounded up to a multiple of 8."""
    return in_words(size) * 8


def _new_scratch(size: int) -> t.Any:
    return ffi.new("uint64_t[]", in_words(size))
