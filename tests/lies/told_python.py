# SPDX-License-Identifier: MIT
"""Lies about recv(2) and recvfrom(2) of the netlink sockets that Python reads itself."""

from __future__ import annotations

import errno
import struct
import sys
from typing import Any

import mptcp_sockopt as mp

from .told import (
    ANSWER,
    FAIL,
    FLAGS,
    LENGTH,
    MESSAGE,
    MESSAGE_HEADER,
    NONE,
    PYTHON,
    SENDER,
    WORD,
    Lie,
    Lies,
    Telling,
    codes,
    tell,
)
from .told_netlink import DONE, DUMP_INTERRUPTED, ERROR, NOOP, OVERRUN

HOST = ("endpoints", "addresses")
EVENTS = "events"


def receive(kind: int, a: int = 0, b: int = 0, times: int = -1) -> Telling:
    return tell(PYTHON, 0, kind, a, b, times)


def empty(reader: str, truth: Any, found: Any) -> bool:
    return bool(found == [])


def another_interface(reader: str, truth: Any, found: Any) -> bool:
    return reader == "addresses" and [host for host, _ in found] == [host for host, _ in truth]


def no_event(reader: str, truth: Any, found: Any) -> bool:
    return reader == EVENTS and found == []


def lost(reader: str, truth: Any, found: Any) -> bool:
    """Some events, those that were kept first."""
    kinds = [parts["kind"] for _, parts in found if (_, parts) not in truth]
    return reader == EVENTS and set(kinds) == {int(mp.MPTCPEventKind.LOST)}


def of_calls() -> Lies:
    """What they return."""
    for code in ("EIO", "ENOMEM", "ENOSYS"):
        number = getattr(errno, code)
        yield f"recv: {code}", Lie((receive(FAIL, number),), codes(code), refused_to=(*HOST, EVENTS))
    yield "recv: ENOBUFS", Lie((receive(FAIL, errno.ENOBUFS),), codes("ENOBUFS"), lost, HOST)
    yield "recv: ENOBUFS once", Lie((receive(FAIL, errno.ENOBUFS, 0, 1),), codes("ENOBUFS"), lost, HOST)
    yield "recv: EINTR twice", Lie((receive(FAIL, errno.EINTR, 0, 2),), NONE)
    yield "recv: empty for ever", Lie((receive(ANSWER),), belief=no_event, refused_to=HOST)
    yield "recv: empty once", Lie((receive(ANSWER, 0, 0, 1),), NONE)
    for length in (1, 15, 17, 19):
        yield f"recv: length {length}", Lie((receive(LENGTH, length),), refused_to=(*HOST, EVENTS))
    yield "recvfrom: another sender", Lie((receive(SENDER, 77),), belief=no_event)


def of_messages() -> Lies:
    """What stands in a datagram."""
    for kind, name in ((NOOP, "NOOP"), (OVERRUN, "OVERRUN"), (99, "type 99")):
        yield f"recv: {name} for ever", Lie((receive(MESSAGE, kind),), belief=no_event, refused_to=HOST)
    for kind, name in ((ERROR, "ERROR"), (DONE, "DONE")):
        for value in (5, -4096, -(2**31)):
            lie = Lie((receive(MESSAGE, kind, value),), belief=no_event, refused_to=HOST)
            yield f"recv: {name} {value}", lie
        lie = Lie((receive(MESSAGE, kind, -errno.EIO),), codes("EIO", "EPROTO"), no_event, HOST)
        yield f"recv: {name} EIO", lie
        yield f"recv: {name} at once", Lie((receive(MESSAGE, kind),), belief=empty, refused_to=("endpoints",))
    for length in (0, 1, 15, 19, 2**31 - 1, 2**32 - 1):
        word = receive(WORD, MESSAGE_HEADER["nlmsg_len"], length)
        yield f"recv: nlmsg_len {length:#x}", Lie((word,), refused_to=(*HOST, EVENTS))
    for length in (0, 1, 3, 0xFFFF):
        both = int.from_bytes(struct.pack("=HH", length, 1), sys.byteorder)
        lie = Lie((receive(WORD, 20, both),), belief=another_interface, refused_to=("endpoints", EVENTS))
        yield f"recv: nla_len {length:#x}", lie
    interrupted = receive(FLAGS, 0, DUMP_INTERRUPTED)
    yield "recv: always interrupted", Lie((interrupted,), codes("EAGAIN"), refused_to=HOST)
    yield "recv: interrupted once", Lie(((*interrupted[:-1], 1),), NONE)


ALL = (of_calls, of_messages)
