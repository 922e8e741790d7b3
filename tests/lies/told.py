# SPDX-License-Identifier: MIT
"""What a lie is, what must be believed of it, and lies about one socket."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt._border import abi

from .readers import plain

# As in liar.h: calls in place of a level, which requests are meant, and kinds.
NAME, PEER, SEND, RECEIVE, SOCKET, PYTHON = -1, -2, -3, -4, -5, -6
ANY, MPTCP_DUMP, TCP_DUMP, SUBFLOW_DUMP, MPTCP_LOOKUP, TCP_LOOKUP = range(6)
NTH = 10
(
    FAIL, ANSWER, LENGTH, LONGER, WORD, ROOM, ELEMENT, STALE_ROOM,
    MESSAGE, SENDER, ORIGIN, SEQUENCE, FLAGS, REPEAT, ENDLESS, SWAP,
    SIZE, SAID, VALUE, EXTRA, IN_ROW,
) = range(21)  # fmt: skip
ROW_SHIFT = 24

Telling = tuple[int, int, int, int, int, int]
#: From the reader, its value without the lie, and the one with it: whether that is what the lie makes of it.
Belief = Callable[[str, Any, Any], bool]


def tell(level: int, option: int, kind: int, a: int = 0, b: int = 0, times: int = -1) -> Telling:
    """As in liar.c; for ever, unless times is given."""
    return level, option, kind, a, b, times


class Lie(NamedTuple):
    """What is told, which errnos may come of it, what must be believed of it, and who must not believe it."""

    tellings: tuple[Telling, ...]
    errnos: frozenset[int] = frozenset({errno.EPROTO})
    belief: Belief | None = None
    refused_to: tuple[str, ...] = ()
    #: Much the same as another one: not in the short table.
    variation: bool = False


Lies = Iterator[tuple[str, Lie]]


def _places(struct_name: str) -> dict[str, int]:
    return {name: place.offset for name, place in abi.layout(struct_name).items()}


MPTCP = abi.SOL_MPTCP
TCP_INFO = (socket.SOL_TCP, socket.TCP_INFO)
ANSWERS = {
    "MPTCP_INFO": (MPTCP, abi.MPTCP_INFO),
    "MPTCP_TCPINFO": (MPTCP, abi.MPTCP_TCPINFO),
    "MPTCP_SUBFLOW_ADDRS": (MPTCP, abi.MPTCP_SUBFLOW_ADDRS),
    "MPTCP_FULL_INFO": (MPTCP, abi.MPTCP_FULL_INFO),
    "TCP_INFO": TCP_INFO,
}
SMALL = {
    "SO_TYPE": (socket.SOL_SOCKET, socket.SO_TYPE),
    "SO_PROTOCOL": (socket.SOL_SOCKET, socket.SO_PROTOCOL),
    "SO_DOMAIN": (socket.SOL_SOCKET, socket.SO_DOMAIN),
    "SO_ACCEPTCONN": (socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    "TCP_IS_MPTCP": (socket.SOL_TCP, abi.TCP_IS_MPTCP),
}
DATA, FULL, MESSAGE_HEADER = _places("mptcp_subflow_data"), _places("mptcp_full_info"), _places("nlmsghdr")
#: No errno of a kernel's.
NO_ERRNO = (0, -5, 4096, 2**31 - 1)
NONE: frozenset[int] = frozenset()

OLDER = tell(*ANSWERS["MPTCP_FULL_INFO"], FAIL, errno.EOPNOTSUPP)  # a kernel before 6.5
ALL_STALE = (tell(MPTCP, -1, STALE_ROOM), tell(*TCP_INFO, STALE_ROOM), tell(RECEIVE, 0, STALE_ROOM))


def codes(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names)


PROTO = codes("EPROTO")

# ------------------------------------------------------------------------------------------------ beliefs


def changed(value: Any, change: Callable[[bytes], bytes]) -> Any:
    """The value with this done to the bytes of each MPTCPInfo in it."""
    if isinstance(value, list):
        return [changed(one, change) for one in value]
    if not isinstance(value, tuple) or not isinstance(value[1], dict):
        return value
    raw, parts = value
    if raw is not None and "token" in parts:
        return plain(mp.MPTCPInfo(change(raw)))
    new = {name: changed(part, change) for name, part in parts.items()}
    if raw is not None and "info" in parts:
        raw = raw.replace(parts["info"][0], new["info"][0], 1)
    return raw, new


def info_changed(change: Callable[[bytes], bytes]) -> Belief:
    return lambda reader, truth, found: found == changed(truth, change)


def info_of(length: int) -> Belief:
    """A kernel whose mptcp_info is of this length; what it did not write is 0."""
    return info_changed(lambda raw: raw[:length].ljust(length, b"\0"))


def raw_of(length: int) -> Belief:
    """The raw call gives the length that it got, and what was written."""
    return lambda reader, truth, found: found == [length, truth[1]]


def tcp_info_of(length: int) -> Belief:
    """A kernel whose tcp_info is of this length; what it did not write is 0."""
    ends = {name: field.needed for name, field in mp.TCPInfo.fields.items()}

    def resized(value: Any) -> Any:
        if isinstance(value, dict):
            if "rto" in value:
                return {name: (old or 0) if ends[name] <= length else None for name, old in value.items()}
            # What was removed is as it was when it was last read, which no lie was told of.
            return {name: part if name == "removed" else resized(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(resized, value))
        return value

    return lambda reader, truth, found: bool(found == resized(truth))


def either(*beliefs: Belief) -> Belief:
    return lambda reader, truth, found: any(belief(reader, truth, found) for belief in beliefs)


def without_options(reader: str, truth: Any, found: Any) -> bool:
    """An MPTCP socket on a kernel without SOL_MPTCP, which lets TCP_INFO be asked."""
    if reader == "status":
        return bool(found == "UNKNOWN")
    if "snapshot" in truth[1]:
        truth, found = truth[1]["snapshot"], found[1]["snapshot"]
    first, only = truth[1]["subflows"][0], found[1]["subflows"]
    return (
        found[1]["status"] == {"mptcp": "unknown"}.get(truth[1]["status"], truth[1]["status"])
        and found[1]["info"] is None
        and [(path["local"], path["remote"]) for path in only] == [(first["local"], first["remote"])]
    )


# ----------------------------------------------------------------------------------------- getsockopt(2)


def of_errnos() -> Lies:
    """Of every option: how it is refused."""
    for name, place in {**ANSWERS, **SMALL}.items():
        for code in ("EINTR", "ENOMEM", "EPERM", "ENOBUFS", "ENOSYS", "EIO", "EACCES", "EFAULT", "EINVAL"):
            lie = Lie((tell(*place, FAIL, getattr(errno, code)),), codes(code))
            yield f"{name}: {code}", lie._replace(variation=code not in ("EINTR", "ENOMEM"))
        for number in NO_ERRNO:
            yield (
                f"{name}: errno {number}",
                Lie((tell(*place, FAIL, number),), variation=number not in (0, 4096)),
            )
        yield f"{name}: returns 1", Lie((tell(*place, ANSWER, 1),), variation=name in SMALL)
    for code in ("EOPNOTSUPP", "ENOPROTOOPT"):
        refused = tell(MPTCP, -1, FAIL, getattr(errno, code))
        yield f"SOL_MPTCP: {code}", Lie((refused,), codes(code), without_options)
        # As a socket answers that is connected again between the refusal and the question why.
        if code == "EOPNOTSUPP":
            yield "SOL_MPTCP: EOPNOTSUPP once", Lie((tell(MPTCP, -1, FAIL, errno.EOPNOTSUPP, 0, 1),), NONE)
        for name in ("SO_TYPE", "SO_PROTOCOL", "SO_DOMAIN", "TCP_IS_MPTCP"):
            asking = ("mptcp_info", "mptcp_tcpinfo", "mptcp_subflow_addrs", "mptcp_full_info")
            tellings = refused, tell(*SMALL[name], FAIL, errno.EIO)
            other = code == "ENOPROTOOPT"
            yield f"SOL_MPTCP: {code}, {name}: EIO", Lie(tellings, codes("EIO"), None, asking, other)
            tellings = refused, tell(*SMALL[name], WORD, 0, -13)
            yield f"SOL_MPTCP: {code}, {name}: value -13", Lie(tellings, PROTO, None, asking, True)
    yield "socket: ENOMEM", Lie((tell(SOCKET, 0, FAIL, errno.ENOMEM),), codes("ENOMEM"))


def of_lengths() -> Lies:
    """Of every option: how long it is."""
    for name, place in {**ANSWERS, **SMALL}.items():
        few = (0, 3, -1) if name in SMALL else (0, 15, 39, -1, 2**31 - 1)
        of_a_kernel = {"MPTCP_INFO": (44, 100), "MPTCP_FULL_INFO": (124,), "TCP_INFO": (232,)}.get(name, ())
        for length in sorted({*few, *of_a_kernel, 1, 2, 5, 17, 41, 232, -(2**31), 65536}):
            belief: Belief | None = raw_of(length) if name in ("MPTCP_INFO", "TCP_INFO") else None
            if name == "MPTCP_INFO" and length in (44, 100, 232):
                belief = either(raw_of(length), info_of(length))
            if name == "MPTCP_FULL_INFO" and length in (124, 232):
                belief = info_of(length - FULL["mptcp_info"])
            if name == "TCP_INFO" and length == 232:
                belief = either(raw_of(length), tcp_info_of(length))
            lie = Lie((tell(*place, LENGTH, length),), belief=belief)
            yield f"{name}: length {length}", lie._replace(variation=length not in (*few, *of_a_kernel))
        for more in (0, 1, 8):
            belief = None
            if more == 0 and name in ("MPTCP_INFO", "TCP_INFO"):
                belief = either(
                    raw_of(120),
                    raw_of(300),
                    info_of(abi.lib.MPTCP_INFO_ROOM),
                    tcp_info_of(abi.lib.TCP_INFO_ROOM),
                )
            if more == 0 and name == "MPTCP_FULL_INFO":
                belief = info_of(abi.lib.MPTCP_INFO_ROOM)
            yield (
                f"{name}: length as offered + {more}",
                Lie((tell(*place, LONGER, more),), belief=belief, variation=more == 8),
            )


def of_values() -> Lies:
    """What stands in an answer."""
    for name, place in SMALL.items():
        for value in (2, -1, -95, 2**31 - 1, -(2**31)):
            # A socket of another family, type or protocol would be no TCP socket.
            errnos = (
                codes("EPROTO", "EOPNOTSUPP") if name in ("SO_DOMAIN", "SO_TYPE", "SO_PROTOCOL") else PROTO
            )
            yield (
                f"{name}: value {value}",
                Lie((tell(*place, WORD, 0, value),), errnos, variation=value in (-95, -(2**31))),
            )
    for name in ("MPTCP_TCPINFO", "MPTCP_SUBFLOW_ADDRS", "MPTCP_FULL_INFO"):
        place = ANSWERS[name]
        fields = FULL if name == "MPTCP_FULL_INFO" else DATA
        for field in [field for field in fields if field.startswith(("size_", "num_"))]:
            for value in (0, 1, 3, 100, 257, 1_000_000, 2**31 - 9, 2**31 - 1, 2**31, 2**32 - 1):
                lie = Lie((tell(*place, WORD, fields[field], value),))
                yield (
                    f"{name}: {field} {value:#x}",
                    lie._replace(variation=value not in (0, 1, 1_000_000, 2**32 - 1)),
                )
        for ahead in (1, 9, 100):
            # After a few attempts, unless it comes sooner to more subflows than a kernel has: by large steps,
            # or where an element takes much less than its room.
            sooner = ahead == 100 or name == "MPTCP_TCPINFO"
            given_up = codes("EAGAIN", "EPROTO") if sooner else codes("EAGAIN")
            lie = Lie((tell(*place, ROOM, ahead),), given_up, variation=ahead == 100)
            yield f"{name}: {ahead} more than room", lie
            lie = Lie((tell(*place, ROOM, ahead, 0, 1),), NONE, variation=ahead == 100)
            yield f"{name}: {ahead} more than room, once", lie
    addrs = _places("mptcp_subflow_info")["addrs"]
    first = abi.ffi.sizeof("struct mptcp_subflow_data")
    ends = _places("mptcp_subflow_addrs")
    for family in (0, 1, 10, 99, 0xFFFF):
        variation = family not in (0, 10)
        for name, kind, at in (("MPTCP_FULL_INFO", ELEMENT, addrs), ("MPTCP_SUBFLOW_ADDRS", WORD, first)):
            local, remote = [
                tell(*ANSWERS[name], kind, at + ends[end], family)
                for end in ("sa_family", "sa_family_remote")
            ]
            yield f"{name}: family {family}", Lie((local,), variation=variation)
            # An IPv4 address read as one of IPv6 is another address, and nobody could tell.
            if family != 10:
                yield f"{name}: family {family} of both ends", Lie((local, remote), variation=variation)
    token = _places("mptcp_info")["mptcpi_token"]

    def with_token(raw: bytes) -> bytes:
        return raw[:token] + struct.pack("=I", 77) + raw[token + 4 :]

    def another_token(reader: str, truth: Any, found: Any) -> bool:
        if reader == "getsockopt_into":
            return bool(found == [truth[0], with_token(truth[1])])
        return bool(found == changed(truth, with_token))

    yield (
        "MPTCP_INFO: another token",
        Lie(
            (tell(*ANSWERS["MPTCP_INFO"], WORD, token, 77),),
            codes("ESTALE"),
            another_token,
            ("a row of Sampler",),
        ),
    )


def of_names() -> Lies:
    """getsockname(2) and getpeername(2)."""
    for call, name in ((NAME, "getsockname"), (PEER, "getpeername")):
        for length in (0, 1, 2, 15, 17, 28, 129, -1):
            lie = Lie((tell(call, 0, LENGTH, length),), variation=length in (1, 17, 129))
            yield f"{name}: length {length}", lie
        for family in (0, 1, 10, 99):
            yield f"{name}: family {family}", Lie((tell(call, 0, WORD, 0, family),))
        for number in NO_ERRNO:
            yield f"{name}: errno {number}", Lie((tell(call, 0, FAIL, number),))
        yield f"{name}: EIO", Lie((tell(call, 0, FAIL, errno.EIO),), codes("EIO"))
        yield f"{name}: returns 1", Lie((tell(call, 0, ANSWER, 1),))
