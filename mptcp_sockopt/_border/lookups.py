# SPDX-License-Identifier: MIT
"""One socket from the kernel's tables, by its ends or its token, in constant time."""

from __future__ import annotations

import errno
import socket
from collections import deque

from .. import _types as t
from .abi import ffi, lib
from .layouts import (
    DIAG_INFO_AT,
    DIAG_MSG,
    DIAG_TCP_INFO_AT,
    diag_end,
    ident_of_ends,
    ident_of_record,
    ident_of_token,
)
from .sock_diag import allocate, failure, fields_of_msg, opened

#: The caller, as named in errors.
CALL = "mptcp_lookup()"
_AF_INET, _AF_INET6, _NONE = int(socket.AF_INET), int(socket.AF_INET6), -errno.ENOENT
_IDENT, _from_buffer, _buffer = ffi.typeof("struct inet_diag_sockid *"), ffi.from_buffer, ffi.buffer
_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")
_LISTEN: int = lib.TCP_LISTEN
_STATE_AT, _FAMILY_AT = DIAG_MSG["state"].offset, DIAG_MSG["family"].offset


class _Memory:
    """What a subflow and a connection are written into: each a struct mptcp_diag_dump, and its records."""

    def __init__(self) -> None:
        self.path, self.paths = self._dump()
        self.row, self.rows = self._dump()
        self._datagram = self.path.datagram = allocate("uint8_t[]", lib.MPTCP_DIAG_DATAGRAM)

    @staticmethod
    def _dump() -> tuple[t.Any, t.Any]:
        dump = ffi.new("struct mptcp_diag_dump *", {"size": lib.MPTCP_DIAG_ROOM, "single": 1})
        dump.records = records = allocate("uint64_t[]", lib.MPTCP_DIAG_ROOM // 8)
        return dump, records

    def found_path(self) -> bytes | None:
        path = self.path
        return _buffer(self.paths, DIAG_TCP_INFO_AT + path.info_length)[:] if path.used else None

    def found_row(self) -> bytes | None:
        row = self.row
        return _buffer(self.rows, DIAG_INFO_AT + row.info_length)[:] if row.used else None


# As in sock_diag.py: reusing it saves a fifth of a look-up.
_free: deque[_Memory] = deque(maxlen=2)


class Asker:
    """A netlink socket for look-ups, in the network namespace of this thread. It is to be closed.

    One call at a time, and not in a forked process: its answers would be the parent's. OSError for an answer
    that no kernel gives. A kernel without MPTCP's table has no connection in it.
    """

    def __init__(self) -> None:
        self._netlink = opened(CALL)
        self._fd = self._netlink.fileno()
        try:
            self._memory = _free.pop()
        except IndexError:
            self._memory = _Memory()

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *of: object) -> None:
        self.close()

    def close(self) -> None:
        """Once."""
        self._netlink.close()
        _free.append(self._memory)

    def subflow(self, local: t.Address, remote: t.Address, interface: int = 0) -> bytes | None:
        """The TCP socket with these ends, as dump_subflows() has it but without padding; or None.

        A socket that is bound to an interface is found only with that. If there is no such socket, it is a
        listener that would take the connection.
        """
        memory, family = self._memory, _family(local)
        which = _from_buffer(_IDENT, ident_of_ends(family, local, remote, interface))
        self._check(lib.diag_lookup(self._fd, memory.path, family, which))
        return memory.found_path()

    def both(
        self, local: t.Address, remote: t.Address, interface: int = 0
    ) -> tuple[bytes | None, bytes | None]:
        """subflow(), and if it has a token, the connection() with that."""
        memory, family = self._memory, _family(local)
        which = _from_buffer(_IDENT, ident_of_ends(family, local, remote, interface))
        self._check(lib.diag_lookup_both(self._fd, memory.path, memory.row, family, which))
        return memory.found_path(), memory.found_row()

    def both_of_any(
        self, local: t.Address, remote: t.Address, likely: int = 0
    ) -> tuple[bytes | None, bytes | None]:
        """As both(), whatever interface the socket is bound to. likely: the first to be tried."""
        first = found = self.both(local, remote, likely)
        if _is_no_listener(found[0]):
            return found
        for interface, _ in socket.if_nameindex():
            found = self.both(local, remote, interface)
            if _is_no_listener(found[0]):
                return found
            first = first if first[0] else found
        return first

    def accepted(self, local: t.Address, remote: t.Address) -> tuple[bytes | None, bytes | None]:
        """As both_of_any(), for a connection that a listener accepted.

        Addresses that no connection has take one question: what a listener accepts is bound to an interface
        only if the listener is, which this question does not find, or if the addresses are link-local.
        """
        path, row = self.both(local, remote)
        if path is None or (path[_STATE_AT] == _LISTEN and remote[0][:3].lower() in _LINK_LOCAL):
            path, row = self.both_of_any(local, remote)
        return path, row

    def subflow_of_any(self, local: t.Address, remote: t.Address, likely: int = 0) -> bytes | None:
        """As subflow(), whatever interface the socket is bound to. likely: the first to be tried."""
        return self.both_of_any(local, remote, likely)[0]

    def initial(self, row: bytes) -> bytes | None:
        """As subflow_of_any(): the initial subflow of a connection(), unless that ended."""
        memory, which = self._memory, _from_buffer(_IDENT, ident_of_record(row))
        self._check(lib.diag_lookup(self._fd, memory.path, row[_FAMILY_AT], which))
        path = memory.found_path()
        if _is_no_listener(path):
            return path
        return self.subflow_of_any(diag_end(row, remote=False), diag_end(row, remote=True))

    def connection(self, token: int) -> bytes | None:
        """The MPTCP connection with this token, as dump() has it but without padding; or None."""
        memory = self._memory
        which = _from_buffer(_IDENT, ident_of_token(token))
        self._check(lib.diag_lookup(self._fd, memory.row, _AF_INET, which))
        return memory.found_row()

    def _check(self, result: int) -> None:
        if result < 0 and result != _NONE:
            raise failure(-result, CALL)


def tcp_socket(local: t.Address, remote: t.Address) -> dict[str, t.Any] | None:
    """The socket with these ends, as a dict of the fields of inet_diag_msg; None if there is no such one."""
    with Asker() as asker:
        path = asker.subflow_of_any(local, remote)
    if path is None or path[_STATE_AT] == _LISTEN:
        return None
    messages = _from_buffer("struct inet_diag_msg[]", path[:DIAG_INFO_AT])  # an element keeps no memory alive
    return fields_of_msg(messages[0])


def _family(local: t.Address) -> int:
    return _AF_INET6 if ":" in local[0] else _AF_INET


def _is_no_listener(path: bytes | None) -> bool:
    return path is not None and path[_STATE_AT] != _LISTEN
