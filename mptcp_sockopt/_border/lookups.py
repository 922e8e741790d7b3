# SPDX-License-Identifier: MIT
"""One socket from the kernel's tables, by its ends or its token, in constant time."""

from __future__ import annotations

import errno
import socket

from .. import _types as t
from .abi import ffi, layout, lib, packed
from .layouts import DIAG_INFO_AT, DIAG_MSG, DIAG_TCP_INFO_AT, ident_of_ends, ident_of_token
from .sock_diag import allocate, failure, opened, sequence

#: The caller, as named in errors.
CALL = "mptcp_lookup()"
_STATE_AT = DIAG_MSG["state"].offset
_TOKEN = layout("mptcp_info", "mptcpi_")["token"]
_TOKEN_AT = DIAG_INFO_AT + _TOKEN.offset
_token = packed(_TOKEN).unpack_from


class Asker:
    """A netlink socket for some look-ups. Use it with ``with``, in one thread.

    OSError for an answer that no kernel gives. A kernel without MPTCP's table has no connection in it.
    """

    def __enter__(self) -> t.Self:
        self._netlink = opened(CALL)
        self._fd = self._netlink.fileno()
        self._dump = ffi.new("struct mptcp_diag_dump *", {"size": lib.MPTCP_DIAG_ROOM, "single": 1})
        self._records = self._dump.records = allocate("uint64_t[]", lib.MPTCP_DIAG_ROOM // 8)
        self._datagram = allocate("uint8_t[]", lib.MPTCP_DIAG_DATAGRAM)
        return self

    def __exit__(self, *of: object) -> None:
        self._netlink.close()

    def subflow(self, local: t.Address, remote: t.Address, interface: int = 0) -> bytes | None:
        """The TCP socket with these ends, as dump_subflows() has it but without padding; or None.

        A socket that is bound to an interface is found only with that. If there is no such socket, it is a
        listener that would take the connection.
        """
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        which = ident_of_ends(family, local, remote, interface)
        self._dump.datagram = self._datagram
        return self._one(family, which, DIAG_TCP_INFO_AT)

    def subflow_of_any(self, local: t.Address, remote: t.Address, likely: int = 0) -> bytes | None:
        """As subflow(), whatever interface the socket is bound to. likely: the first to be tried."""
        listener = None
        for interface in _interfaces(likely):
            found = self.subflow(local, remote, interface)
            if found is not None and found[_STATE_AT] != lib.TCP_LISTEN:
                return found
            listener = listener or found
        return listener

    def connection(self, token: int) -> bytes | None:
        """The MPTCP connection with this token, as dump() has it but without padding; or None."""
        self._dump.datagram = ffi.NULL
        found = self._one(socket.AF_INET, ident_of_token(token), DIAG_INFO_AT)
        # One that ends meanwhile has no token any more.
        return None if found is None or _token(found, _TOKEN_AT) != (token,) else found

    def _one(self, family: int, which: bytes, head: int) -> bytes | None:
        dump = self._dump
        dump.used = dump.stride = dump.barren = 0
        dump.sequence = sequence()
        result = lib.diag_lookup(self._fd, dump, family, ffi.from_buffer("struct inet_diag_sockid *", which))
        if result < 0 and result != -errno.ENOENT:
            raise failure(-result, CALL)
        return bytes(ffi.buffer(self._records, head + dump.info_length)) if dump.used else None


def _interfaces(likely: int) -> t.Iterator[int]:
    """This, which may be 0 for none, then each."""
    yield likely
    for index, _ in socket.if_nameindex():
        yield index
