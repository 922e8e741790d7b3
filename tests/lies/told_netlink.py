# SPDX-License-Identifier: MIT
"""Lies about sendmsg(2) and recvmsg(2) of sock_diag(7), and about what stands in a datagram."""

from __future__ import annotations

import errno
import socket
import struct
import sys

from mptcp_sockopt._border import abi

from .told import (
    ANSWER,
    ANY,
    ENDLESS,
    FAIL,
    FLAGS,
    LENGTH,
    MESSAGE,
    MESSAGE_HEADER,
    MPTCP_DUMP,
    NO_ERRNO,
    NONE,
    ORIGIN,
    RECEIVE,
    REPEAT,
    ROW_SHIFT,
    SEND,
    SENDER,
    SEQUENCE,
    SIZE,
    SUBFLOW_DUMP,
    TCP_DUMP,
    WORD,
    Lie,
    Lies,
    Telling,
    codes,
    info_of,
    tell,
)

JOINED = ("connections", "connections of a port")
OF_MPTCP = ("mptcp_diag", "mptcp_diag, listening", *JOINED)
DIAG = (*OF_MPTCP, "listeners", "tcp_sockets")
ROW, NOOP, ERROR, DONE, OVERRUN = 20, 1, 2, 3, 4
DUMP_INTERRUPTED = 0x10
INFO = 2  # INET_DIAG_INFO


def receive(kind: int, a: int = 0, b: int = 0, times: int = -1, which: int = ANY) -> Telling:
    return tell(RECEIVE, which, kind, a, b, times)


def once_in_each_dump(kind: int, a: int, b: int = 0) -> tuple[Telling, ...]:
    return tuple(receive(kind, a, b, 1, which) for which in (MPTCP_DUMP, TCP_DUMP, SUBFLOW_DUMP))


def of_calls() -> Lies:
    """sendmsg(2), and what recvmsg(2) says of a datagram."""
    for number in NO_ERRNO:
        yield f"sendmsg: errno {number}", Lie((tell(SEND, 0, FAIL, number),), refused_to=DIAG)
        yield f"recvmsg: errno {number}", Lie((receive(FAIL, number),), refused_to=DIAG)
    for code in ("EINTR", "ENOMEM", "ENOBUFS", "ENOSYS", "EPERM"):
        number = getattr(errno, code)
        yield f"sendmsg: {code}", Lie((tell(SEND, 0, FAIL, number),), codes(code), refused_to=DIAG)
        yield f"recvmsg: {code}", Lie((receive(FAIL, number),), codes(code, "EPROTO"), refused_to=DIAG)
    yield "recvmsg: EINTR twice", Lie((receive(FAIL, errno.EINTR, 0, 2),), NONE)
    for length in (0, 10, 2**30, -5):
        yield f"sendmsg: returns {length}", Lie((tell(SEND, 0, ANSWER, length),), refused_to=DIAG)
    yield "recvmsg: empty for ever", Lie((receive(ANSWER),), refused_to=DIAG)
    yield "recvmsg: empty once", Lie((receive(ANSWER, 0, 0, 1),))
    for length in (1, 15, 17, 32769, 70000, 2**30, -5):
        yield f"recvmsg: length {length}", Lie((receive(LENGTH, length),), refused_to=DIAG)
    for size in (0, 6):
        yield f"recvmsg: an address of {size} bytes", Lie((receive(ORIGIN, size),), refused_to=DIAG)
    another = receive(SENDER, 77)
    yield "recvmsg: another sender for ever", Lie((receive(MESSAGE, NOOP), another), refused_to=DIAG)
    yield "recvmsg: another sender alone", Lie((another,), codes("EAGAIN", "EPROTO"), refused_to=DIAG)
    yield "recvmsg: another sender once", Lie((receive(MESSAGE, DONE, 0, 1), receive(SENDER, 77, 0, 1)), NONE)
    truncated = receive(FLAGS, socket.MSG_TRUNC)
    yield "recvmsg: MSG_TRUNC", Lie((truncated,), codes("ENOBUFS"), refused_to=DIAG)
    yield "recvmsg: MSG_TRUNC once", Lie(once_in_each_dump(FLAGS, socket.MSG_TRUNC), NONE)


def of_messages() -> Lies:
    """What stands in a datagram."""
    for kind, name in (
        (NOOP, "NOOP"),
        (99, "type 99"),
        (ROW, "rows of 4 bytes"),
        (ERROR, "acknowledgements"),
    ):
        yield f"recvmsg: {name} for ever", Lie((receive(MESSAGE, kind),), refused_to=DIAG)
    yield "recvmsg: NOOP once", Lie((receive(MESSAGE, NOOP, 0, 1),), NONE)
    yield "recvmsg: OVERRUN for ever", Lie((receive(MESSAGE, OVERRUN),), codes("ENOBUFS"), refused_to=DIAG)
    yield "recvmsg: OVERRUN once", Lie(once_in_each_dump(MESSAGE, OVERRUN), NONE)
    yield "recvmsg: an acknowledgement first", Lie((receive(MESSAGE, ERROR, 0, 1),))
    for kind, name in ((ERROR, "ERROR"), (DONE, "DONE")):
        for value in (5, -4096, -(2**31)):
            yield f"recvmsg: {name} {value}", Lie((receive(MESSAGE, kind, value),), refused_to=DIAG)
        yield (
            f"recvmsg: {name} EIO",
            Lie((receive(MESSAGE, kind, -errno.EIO),), codes("EIO"), refused_to=DIAG),
        )
    yield (
        "recvmsg: DONE at once",
        Lie((receive(MESSAGE, DONE),), belief=lambda reader, truth, found: found in ([], [[], []])),
    )
    stale = receive(SEQUENCE, 1)
    yield "recvmsg: stale sequence numbers", Lie((stale,), codes("EAGAIN", "EPROTO"), refused_to=DIAG)
    yield "recvmsg: stale sequence numbers for ever", Lie((receive(MESSAGE, ROW), stale), refused_to=DIAG)
    once = receive(MESSAGE, DONE, -5, 1), receive(SEQUENCE, -1, 0, 1)
    yield "recvmsg: a stale sequence number once", Lie(once, NONE)
    interrupted = receive(FLAGS, 0, DUMP_INTERRUPTED)
    yield "recvmsg: always interrupted", Lie((interrupted,), codes("EAGAIN"), refused_to=DIAG)
    yield "recvmsg: interrupted once", Lie(once_in_each_dump(FLAGS, 0, DUMP_INTERRUPTED), NONE)
    yield "recvmsg: rows without end", Lie((receive(REPEAT),), codes("EMSGSIZE"), refused_to=DIAG)
    yield "recvmsg: no DONE", Lie((receive(ENDLESS),), codes("EAGAIN"), refused_to=DIAG)
    yield "recvmsg: no DONE once", Lie((receive(ENDLESS, 0, 0, 2),), NONE)
    for length in (0, 1, 15, 20, 2**31 - 1, 2**32 - 1):
        lie = Lie(
            (receive(WORD, MESSAGE_HEADER["nlmsg_len"], length),), codes("EPROTO", "EAGAIN"), refused_to=DIAG
        )
        yield f"recvmsg: nlmsg_len {length:#x}", lie
    first = abi.ffi.sizeof("struct nlmsghdr") + abi.ffi.sizeof("struct inet_diag_msg")
    for length in (0, 1, 3, 0xFFFF):
        both = int.from_bytes(struct.pack("=HH", length, 8), sys.byteorder)
        yield f"recvmsg: nla_len {length:#x}", Lie((receive(WORD, first, both),), refused_to=DIAG)
    for size in (0, 1, 39, 40, 41, 95, 97, 100, 232, 248, 4000, 5000, -1):
        room = min(size, abi.lib.MPTCP_INFO_ROOM)
        belief = info_of(room) if size >= 40 and size % 4 == 0 else None
        for row, name in ((0, ""), (2, " in row 2")):
            telling = receive(SIZE, row << ROW_SHIFT | INFO, size, which=MPTCP_DUMP)
            yield f"recvmsg: mptcp_info of {size}{name}", Lie((telling,), belief=None if row else belief)


ALL = (of_calls, of_messages)
