# SPDX-License-Identifier: MIT
"""Lies about single requests to sock_diag(7), and about rows of its tables."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt._border import abi, layouts

from .readers import plain
from .told import (
    ANSWER,
    ENDLESS,
    EXTRA,
    FAIL,
    FLAGS,
    IN_ROW,
    MESSAGE,
    MPTCP_DUMP,
    MPTCP_LOOKUP,
    NTH,
    REPEAT,
    ROW_SHIFT,
    SAID,
    SEND,
    SENDER,
    SEQUENCE,
    SIZE,
    SUBFLOW_DUMP,
    SWAP,
    TCP_DUMP,
    TCP_LOOKUP,
    VALUE,
    Belief,
    Lie,
    Lies,
    Telling,
    codes,
    either,
    tell,
)
from .told_netlink import DONE, DUMP_INTERRUPTED, ERROR, INFO, JOINED, NOOP, OVERRUN, receive

# -------------------------------------------------------------------------------------------- one request


def nothing(reader: str, truth: Any, found: Any) -> bool:
    """Where there is one dump only, it is believed to be empty."""
    return reader not in JOINED and found == []


#: The dumps of mptcp_diag(subflows=True), in order.
DUMPS = ("MPTCP's first dump", "the dump of TCP", "MPTCP's second dump")
LOOKUPS = {"look-ups of MPTCP": MPTCP_LOOKUP, "look-ups of TCP": TCP_LOOKUP}


def of_requests() -> Lies:
    """What recvmsg(2) says in one dump of several, or in look-ups alone."""
    for number, name in enumerate(DUMPS):
        which = NTH + number
        once = {
            "EIO": receive(FAIL, errno.EIO, which=which),
            "ENOBUFS": receive(FAIL, errno.ENOBUFS, which=which),
            "ERROR ENOENT": receive(MESSAGE, ERROR, -errno.ENOENT, which=which),
            "NOOP for ever": receive(MESSAGE, NOOP, which=which),
            "OVERRUN": receive(MESSAGE, OVERRUN, which=which),
            "DONE at once": receive(MESSAGE, DONE, which=which),
            "MSG_TRUNC": receive(FLAGS, socket.MSG_TRUNC, which=which),
            "interrupted": receive(FLAGS, 0, DUMP_INTERRUPTED, which=which),
            "another sender": receive(SENDER, 77, which=which),
            "stale sequence numbers": receive(SEQUENCE, 1, which=which),
            "rows without end": receive(REPEAT, which=which),
            "empty for ever": receive(ANSWER, which=which),
            "no DONE": receive(ENDLESS, which=which),
        }
        for what, telling in once.items():
            allowed = codes("EIO", "ENOENT", "EPROTO", "EMSGSIZE", "EAGAIN")
            yield f"{name}: {what}", Lie((telling,), allowed, nothing, variation=number == 0)
    for name, which in LOOKUPS.items():
        for what, telling in {
            "EIO": receive(FAIL, errno.EIO, which=which),
            "ERROR EIO": receive(MESSAGE, ERROR, -errno.EIO, which=which),
            "an acknowledgement": receive(MESSAGE, ERROR, which=which),
            "DONE": receive(MESSAGE, DONE, which=which),
            "OVERRUN": receive(MESSAGE, OVERRUN, which=which),
            "MSG_TRUNC": receive(FLAGS, socket.MSG_TRUNC, which=which),
            "NOOP for ever": receive(MESSAGE, NOOP, which=which),
            "stale sequence numbers": receive(SEQUENCE, 1, which=which),
        }.items():
            yield f"{name}: {what}", Lie((telling,), codes("EIO", "EPROTO", "ENOBUFS", "EAGAIN"))
        yield (
            f"{name}: ERROR ENOENT",
            Lie((receive(MESSAGE, ERROR, -errno.ENOENT, which=which),), belief=less),
        )
    yield "look-ups of TCP: the other end's", Lie((tell(SEND, TCP_LOOKUP, SWAP),), belief=less)
    for what, telling, code in (
        ("interrupted", receive(FLAGS, 0, DUMP_INTERRUPTED, which=SUBFLOW_DUMP), "EAGAIN"),
        ("MSG_TRUNC", receive(FLAGS, socket.MSG_TRUNC, which=SUBFLOW_DUMP), "ENOBUFS"),
        ("no DONE", receive(ENDLESS, which=SUBFLOW_DUMP), "EAGAIN"),
        ("rows without end", receive(REPEAT, which=SUBFLOW_DUMP), "EMSGSIZE"),
    ):
        yield f"each dump of TCP: {what}", Lie((telling,), codes(code), refused_to=JOINED)


# --------------------------------------------------------------------------------------- beliefs about rows

Change = Callable[[bytes], bytes]


#: All rows and paths that there are, by their names in a plain MPTCPConnection.
KNOWN: dict[str, set[bytes]] = {"row": set(), "subflows": set()}


def know(connections: Any) -> None:
    """Called with what readers give if nothing is told."""
    for name, known in KNOWN.items():
        known.update(_raw(connections, name))


def _connections(value: Any) -> list[Any]:
    """The parts of each connection in what a reader gives: some, one, None, or rows without paths."""
    if not isinstance(value, list):
        return [] if value is None else [value[1]]
    if value and isinstance(value[0], list):
        return [parts for _, parts in value[1]]
    return [{"row": row, "subflows": []} for row in value]


def _raw(value: Any, name: str) -> set[bytes]:
    found = [one[name] if name == "subflows" else [one[name]] for one in _connections(value)]
    return {one[0] for some in found for one in some if one}


def _changed(parts: Any, of_row: Change, of_path: Change) -> Any:
    row = parts["row"] and mp.MPTCPDiagMsg(of_row(parts["row"][0]))
    paths = tuple(mp.DiagSubflow(of_path(raw)) for raw, _ in parts["subflows"])
    return plain(mp.MPTCPConnection(row, paths, parts["complete"]))


def unchanged(raw: bytes) -> bytes:
    return raw


def strictly(of_path: Change, of_row: Change = unchanged) -> Belief:
    """The same connections with the same paths, each as the lie makes it."""

    def believed(reader: str, truth: Any, found: Any) -> bool:
        wanted = [_changed(parts, of_row, of_path) for parts in _connections(truth)]
        return bool(found == ([truth[0], wanted] if isinstance(found, list) else wanted[0]))

    return believed


def loosely(*of_path: Change, of_row: Change = unchanged) -> Belief:
    """Known rows and paths, or fewer, as they are or as the lie makes them, however joined.

    Of a look-up, the row that is looked for, and its path unless it took a dump.
    """

    def believed(reader: str, truth: Any, found: Any) -> bool:
        looked_up = reader.startswith("lookup")
        dumped = not looked_up or (found is not None and found[1]["complete"])
        for name, changes in (("row", (of_row,)), ("subflows", of_path)):
            is_any = dumped if name == "subflows" else not looked_up
            known = KNOWN[name] if is_any else _raw(truth, name)
            if not _raw(found, name) <= known.union(*({change(raw) for raw in known} for change in changes)):
                return False
        return True

    return believed


def less(reader: str, truth: Any, found: Any) -> bool:
    """None is known, or not its paths."""
    return loosely()(reader, truth, found)


def with_number(name: str, number: int) -> Change:
    """With this in a field of struct diag_subflow."""
    place = layouts.DIAG_SUBFLOW[name]
    value = (number % 2 ** (8 * place.size)).to_bytes(place.size, sys.byteorder)
    return lambda raw: raw[: place.offset] + value + raw[place.end :]


def untold(name: str) -> Change:
    """Without this field of struct diag_subflow."""
    bit, zeroed = layouts.TOLD[name.upper()], with_number(name, 0)
    return lambda raw: zeroed(with_number("told", layouts.told(raw) & ~bit)(raw))


def with_tcp_info(size: int) -> Change:
    at = layouts.DIAG_TCP_INFO_AT
    return lambda raw: raw[: at + size].ljust(at + size, b"\0")


# ------------------------------------------------------------------------------------------- rows of tables

ULP, NAME, NEST = 19, 1, 3  # INET_DIAG_ULP_INFO, INET_ULP_INFO_NAME, INET_ULP_INFO_MPTCP
ATTRIBUTES = abi.numbers("MPTCP_SUBFLOW_ATTR_")
MSG = {name: place.offset for name, place in layouts.DIAG_MSG.items()}
PORTS = MSG["ifindex"] - 36
SOURCE, DESTINATION = PORTS + 4, PORTS + 20
#: Where the words of family, state, timer and retrans stand.
FIRST = MSG["family"]


def path(*attributes: int) -> int:
    return sum(attribute << 8 * depth for depth, attribute in enumerate(attributes))


def of_tcp(kind: int, a: int, b: int, row: int = 0) -> tuple[Telling, ...]:
    """About rows of TCP's table, in dumps and look-ups."""
    return tuple(receive(kind, row << ROW_SHIFT | a, b, which=which) for which in (SUBFLOW_DUMP, TCP_LOOKUP))


def of_mptcp(kind: int, a: int, b: int, row: int = 0) -> tuple[Telling, ...]:
    """About rows of MPTCP's table."""
    return tuple(receive(kind, row << ROW_SHIFT | a, b, which=which) for which in (MPTCP_DUMP, MPTCP_LOOKUP))


def of_tcp_infos() -> Lies:
    """How long tcp_info is."""
    for size in (-1, 0, 3, 104, 231, 228, 232, 248, 284, 300, 2048, 4100, 5000):
        right = 232 <= size <= 4096
        belief = strictly(with_tcp_info(min(size, abi.lib.TCP_INFO_ROOM))) if right else less
        lie = Lie(of_tcp(SIZE, INFO, size), belief=belief if right or size < 0 else None)
        yield (
            f"a row of TCP: tcp_info of {size}",
            lie._replace(variation=size not in (-1, 104, 232, 300, 5000)),
        )
        if size != 300:
            lie = Lie(of_tcp(SIZE, INFO, size, row=2), belief=less if size < 0 else None)
            yield f"a row of TCP: tcp_info of {size} in row 2", lie._replace(variation=size != 232)
        lie = Lie((receive(SIZE, INFO, size, which=TCP_DUMP),))
        yield f"a row of a listener: tcp_info of {size}", lie._replace(variation=size not in (0, 5000))


def of_ulps() -> Lies:
    """What stands in INET_DIAG_ULP_INFO."""
    for name, at in (("ULP_INFO", path(ULP)), ("its name", path(ULP, NAME)), ("its nest", path(ULP, NEST))):
        yield f"a row of TCP: no {name}", Lie(of_tcp(SIZE, at, -1), belief=loosely(_no_nest, _no_ulp))
        for size in (0, 1, 3, 5, 7):
            lie = Lie(of_tcp(SIZE, at, size), belief=loosely(_no_nest, _no_ulp), variation=size not in (0, 5))
            yield f"a row of TCP: {name} of {size}", lie
        for said in (0, 3, 5, 6, 0xFFFF):
            lie = Lie(of_tcp(SAID, at, said), belief=loosely(_no_nest, _no_ulp), variation=said not in (3, 5))
            yield f"a row of TCP: nla_len {said} of {name}", lie
    for name, at in (("ULP_INFO", path(ULP)), ("its nest", path(ULP, NEST))):
        for size in (0, 1, 3, 200):
            lie = Lie(of_tcp(EXTRA, at, size), belief=strictly(unchanged), variation=size != 3)
            yield f"a row of TCP: an unknown attribute of {size} in {name}", lie
    for name, number in ATTRIBUTES.items():
        at, field = path(ULP, NEST, number), name.lower()
        variation = name not in ("TOKEN_LOC", "ID_LOC", "MAP_SEQ", "FLAGS")
        kind = loosely if name in ("TOKEN_LOC", "FLAGS") else strictly
        yield (
            f"a row of TCP: no {name}",
            Lie(of_tcp(SIZE, at, -1), belief=kind(untold(field)), variation=variation),
        )
        size = layouts.DIAG_SUBFLOW[field].size
        for wrong in sorted({0, 1, 3, 5, 9} - {size}):
            lie = Lie(of_tcp(SIZE, at, wrong), refused_to=JOINED)
            yield f"a row of TCP: {name} of {wrong}", lie._replace(variation=variation or wrong != 5)
        for said in (0, 3, 0xFFFF):
            lie = Lie(of_tcp(SAID, at, said), refused_to=JOINED, variation=variation or said != 0)
            yield f"a row of TCP: nla_len {said} of {name}", lie
        for value in (0, 77, 2**32 - 1) if size < 8 else ():
            lie = Lie(of_tcp(VALUE, at, value), belief=kind(with_number(field, value)))
            yield f"a row of TCP: {name} {value}", lie._replace(variation=variation or value == 0)


def _no_nest(raw: bytes) -> bytes:
    """A subflow, and no more is told."""
    for name in ATTRIBUTES:
        raw = with_number(name.lower(), 0)(raw)
    return with_number("told", layouts.TOLD_MPTCP)(raw)


def _no_ulp(raw: bytes) -> bytes:
    return with_number("told", 0)(_no_nest(raw))


def in_message(offset: int, word: int) -> Change:
    return lambda raw: raw[:offset] + word.to_bytes(4, sys.byteorder) + raw[offset + 4 :]


def _with_another_listener(reader: str, truth: Any, found: Any) -> bool:
    """Both tables have it, but it is told by its inode."""
    return reader == "mptcp_diag, listening" and len(found) <= len(truth) + 1


def _of_a_token(change: Change) -> Belief:
    """A look-up does not believe it."""
    in_a_dump = loosely(of_row=change)
    return lambda reader, *of: (less if reader.startswith("lookup") else in_a_dump)(reader, *of)


def of_heads() -> Lies:
    """What stands in inet_diag_msg."""
    for family, state in ((2, 0), (2, 7), (2, 8), (2, 10), (2, 31), (2, 32), (0, 1), (1, 1), (10, 1)):
        word = int.from_bytes(bytes([family, state, 0, 0]), sys.byteorder)
        change = in_message(FIRST, word)
        believed = family in (2, 10) and 0 < state < 32
        name, variation = f"family {family}, state {state}", state in (0, 8, 31) or family == 1
        lie = Lie(of_tcp(IN_ROW, FIRST, word), belief=loosely(change) if believed else None)
        yield f"a row of TCP: {name}", lie._replace(variation=variation)
        lie = Lie(of_mptcp(IN_ROW, FIRST, word, row=1), belief=loosely(of_row=change) if believed else None)
        yield f"a row of MPTCP: {name} in row 1", lie._replace(variation=variation)
    for name, at, word in (
        ("other ports", PORTS, 0x01020304),
        ("another source", SOURCE, 0x01020304),
        ("another destination", DESTINATION, 0x01020304),
        ("another inode", MSG["inode"], 77),
        ("no inode", MSG["inode"], 0),
        ("another interface", MSG["ifindex"], 77),
        ("another uid", MSG["uid"], 77),
    ):
        change = in_message(at, word)
        of_a_row = loosely(of_row=change)
        if at == MSG["inode"]:
            of_a_row = either(of_a_row, _with_another_listener)
        yield f"a row of TCP: {name}", Lie(of_tcp(IN_ROW, at, word), belief=loosely(change))
        yield f"a row of MPTCP: {name} in row 1", Lie(of_mptcp(IN_ROW, at, word, row=1), belief=of_a_row)
    token = abi.layout("mptcp_info")["mptcpi_token"].offset
    for number in (0, 1, 77):
        change = in_message(layouts.DIAG_INFO_AT + token, number)
        yield (
            f"a row of MPTCP: token {number} in row 1",
            Lie(of_mptcp(VALUE, path(INFO, token // 4), number, row=1), belief=_of_a_token(change)),
        )


ALL = (of_requests, of_tcp_infos, of_ulps, of_heads)
