# SPDX-License-Identifier: MIT
"""One socket from the kernel's tables, by its ends or its token, in constant time."""

from __future__ import annotations

import errno
import socket

from .. import _types as t
from .abi import ffi, lib
from .layouts import DIAG_INFO_AT, DIAG_TCP_INFO_AT
from .sock_diag import MPTCP, Dump, failure, opened

# The caller, as named in errors.
_LOOKUP = "mptcp_lookup()"
_ROOM = 1 << 16
# The kernel's answers if there is no such socket; ENOENT is also that of a kernel that lacks MPTCP's tables.
_NONE = (errno.ENOENT, errno.ESTALE)


class Asker:
    """A netlink socket for some look-ups. Use it with ``with``, in one thread."""

    def __enter__(self) -> t.Self:
        self._netlink = opened(_LOOKUP)
        return self

    def __exit__(self, *of: object) -> None:
        self._netlink.close()

    def subflow(self, local: t.Address, remote: t.Address) -> bytes | None:
        """The TCP socket with these ends, as dump_subflows() has it but without padding; or None."""
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        end = [_packed(family, address) for address in (local, remote)]
        scopes = [address[3] for address in (local, remote) if len(address) == 4]
        return self._one(
            family,
            {
                "idiag_sport": local[1].to_bytes(2, "big"),
                "idiag_dport": remote[1].to_bytes(2, "big"),
                "idiag_src": end[0],
                "idiag_dst": end[1],
                "idiag_if": max(scopes, default=0),
                "idiag_cookie": (0xFFFFFFFF, 0xFFFFFFFF),
            },
            subflows=True,
        )

    def connection(self, token: int) -> bytes | None:
        """The MPTCP connection with this token, as dump() has it but without padding; or None."""
        return self._one(socket.AF_INET, {"idiag_cookie": (token, 0)}, subflows=False)

    def _one(self, family: int, ident: dict[str, t.Any], *, subflows: bool) -> bytes | None:
        found = Dump(_ROOM, first=True, subflows=subflows)
        found.number()
        fd = self._netlink.fileno()
        result = lib.diag_lookup_request(fd, found.c, family, ffi.new("struct inet_diag_sockid *", ident))
        while not result:
            result = lib.mptcp_diag_receive(fd, found.c)
        row = found.take()
        if result < 0 and -result not in _NONE:
            raise failure(-result, MPTCP)
        head = DIAG_TCP_INFO_AT if subflows else DIAG_INFO_AT
        return bytes(row[: head + found.c.info_length]) if row else None


def _packed(family: int, address: t.Address) -> bytes:
    return socket.inet_pton(family, address[0])
