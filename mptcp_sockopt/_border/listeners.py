# SPDX-License-Identifier: MIT
"""The MPTCP listeners in the network namespace. The kernel lists them in two tables, both incomplete."""

from __future__ import annotations

import struct

from .._errors import UnsupportedOptionError
from .abi import ffi, in_words, layout, lib, packed
from .layouts import COOKIE, DIAG_INFO_AT, DIAG_MSG, NO_COOKIE, TCP_INFO_OF_6_18
from .sock_diag import LIMIT, MPTCP, allocate, dump, dump_tcp, stride_of, too_much

# The size of tcp_info since Linux 6.2. A kernel that returns it can list MPTCP listeners (since 5.19).
_TCP_INFO_OF_6_2 = layout("tcp_info", "tcpi_")["rehash"].end
_COOKIE = slice(COOKIE[0].offset, COOKIE[-1].end)
_NO_COOKIE = packed(*COOKIE).pack(*NO_COOKIE)
_INODE_AT = DIAG_MSG["inode"].offset
# Of struct tcp_socket: the inode (the last field of its first part), is_mptcp, privileged, tcp_info.
_LISTENER = struct.Struct(f"={_INODE_AT}xIBBH4x")
_RACES = 4  # how often both tables are read, if they do not tell whether something is missing


def _inodes(stride: int) -> struct.Struct:
    return struct.Struct(f"={_INODE_AT}xI{stride - _INODE_AT - 4}x")


class _Union:
    """The listeners in MPTCP's dump, and those in TCP's table that are marked as MPTCP, by inode.

    Of TCP's table, only these are kept, plus what shows whether the kernel withholds something.
    """

    def __init__(self, records: bytearray, stride: int) -> None:
        self._stride = stride
        self._told: dict[int, int] = {}  # offsets by inode; two datagrams may list the same listener
        again = False
        for at, (inode,) in enumerate(_inodes(stride).iter_unpack(records)):
            again = again or not inode or inode in self._told  # no inode: it is being closed
            self._told[inode] = at * stride
        if again:
            self._told.pop(0, None)
            records[:] = b"".join([records[at : at + stride] for at in self._told.values()])
            self._told = {inode: n * stride for n, inode in enumerate(self._told)}
        self.records = records
        self.start()

    def start(self) -> None:
        """Called before TCP's table is read, or read again."""
        del self.records[len(self._told) * self._stride :]
        self._tells = self._confirmed = False
        self._others = 0
        self._shortest = lib.MOST_STRUCT

    def take(self, table: memoryview) -> None:
        """Take some of TCP's listeners (struct tcp_socket)."""
        records, told = self.records, self._told
        size = _LISTENER.size
        for n, (inode, is_mptcp, privileged, tcp_info) in enumerate(_LISTENER.iter_unpack(table)):
            at = told.get(inode)
            if at is not None:
                # As in TCP's table, except for the cookie of the MPTCP socket.
                record = bytearray(table[n * size : n * size + DIAG_INFO_AT])
                record[_COOKIE] = records[at + _COOKIE.start : at + _COOKIE.stop]
                records[at : at + DIAG_INFO_AT] = record
                self._confirmed = True
            elif is_mptcp and inode:
                more = bytearray(self._stride)
                more[:DIAG_INFO_AT] = table[n * size : n * size + DIAG_INFO_AT]
                more[_COOKIE] = _NO_COOKIE
                records += more
            else:
                self._others += 1
            if is_mptcp or privileged:
                self._tells = True
            if tcp_info < self._shortest:
                self._shortest = tcp_info

    def missing(self) -> str | None:
        """Why some listeners may be missing; None if none is, "" if these two tables do not show it."""
        if self._tells or not self._others:
            return None
        before_6_15 = (
            "before Linux 6.15, only CAP_NET_ADMIN can see "
            f"whether {self._others} more TCP listeners are MPTCP"
        )
        # An MPTCP listener was listed without its ULP: this kernel withholds it.
        if self._confirmed:
            return before_6_15
        if self._shortest >= TCP_INFO_OF_6_18:
            return None
        if self._told:
            return ""
        # The dump of MPTCP listeners, which always lists the first one of a bucket, was empty.
        return None if self._shortest >= _TCP_INFO_OF_6_2 else before_6_15


def listeners(
    info_length: int, limit: int = LIMIT, before: memoryview | bytes = b"", port: int = 0
) -> tuple[memoryview, int, str | None]:
    """The records before, followed by those of the MPTCP listeners.

    Also returns the size of mptcp_info in each record, and a sentence if some listeners may be missing.
    info_length: the size of mptcp_info on this kernel, or 0 if unknown. limit is for all records. port: only
    listeners on this port (0: any).
    """
    records, info_length, missing = _listeners(info_length, limit, len(before), port)
    whole = memoryview(ffi.buffer(allocate("uint64_t[]", in_words(len(before) + len(records)) + 1)))
    whole = whole[: len(before) + len(records)]
    whole[len(before) :] = records
    del records
    whole[: len(before)] = before
    return whole.toreadonly(), info_length, missing


def mptcp_listeners() -> tuple[frozenset[int], str | None]:
    """The inodes of the MPTCP listeners, which their inner TCP sockets share; missing as listeners()."""
    records, info_length, missing = _listeners(0, LIMIT, 0, 0)
    return frozenset([inode for (inode,) in _inodes(stride_of(info_length)).iter_unpack(records)]), missing


def _listeners(info_length: int, limit: int, before: int, port: int) -> tuple[bytearray, int, str | None]:
    """As listeners(), where the first before bytes of limit are in use.

    The kernel's dump of MPTCP listeners skips some if several are in one bucket of its table, and lacks the
    address of those that its path manager created. But every MPTCP listener contains a TCP socket with the
    same inode, and TCP's table is complete. So we build the union of both, by inode.
    """
    missing: str | None = ""
    for _ in range(_RACES):
        rows, seen = dump(1 << lib.TCP_LISTEN, limit, before, port)
        info_length = seen or info_length or lib.LEAST_MPTCP_INFO
        records = bytearray(rows)
        del rows  # large: free it as early as possible
        union = _Union(records, stride_of(info_length))
        if not _tcp_listeners(limit, union, port):
            missing = "listeners that share a port may be missing: this kernel has no tcp_diag"
        elif before + len(records) > limit:
            raise too_much("the sockets", limit)
        else:
            missing = union.missing()
        del union
        if missing != "":
            break
    if missing == "":
        missing = "listeners may be missing: sockets were opened and closed during the dump"
    return records, info_length, missing


def _tcp_listeners(limit: int, union: _Union, port: int) -> bool:
    """Read TCP's listeners into union; False if the kernel cannot list them.

    They are not rows, so they have a limit of their own.
    """
    try:
        most = max(limit, LIMIT)
        dump_tcp(1 << lib.TCP_LISTEN, union, port=port, limit=most, what="TCP's listeners", call=MPTCP)
    except UnsupportedOptionError:
        return False
    return True
