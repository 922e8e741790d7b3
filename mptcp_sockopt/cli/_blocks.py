# SPDX-License-Identifier: MIT
"""Connections as text: a block each, troubled ones first, and their totals. They are drawn from records.

A block is a line for the connection, a line for each path, and a sentence for each trouble. Lines fit the
width, and columns are at the same place in every block. A path shows its round-trip time, what it sent (and
the peer's TCP acknowledged) and received, as totals or, where the record has them, as rates; and a word.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import mptcp_sockopt as mp

Record = Mapping[str, Any]

WIDTH = 79
_LONGEST = 39  # an IPv6 address in full
_INDENT = "     "


class Line(NamedTuple):
    """A line of a block: its text, and what it is about."""

    text: str
    kind: str
    """"connection", "path", or "note": a sentence, or the rest of a long line above it."""
    word: str
    """For a path, the word at its end, as "ok" and "stalled"; for the others ""."""


def block(connection: Record, width: int = WIDTH) -> list[str]:
    """The lines of a connection; see lines()."""
    return [line.text for line in lines(connection, width)]


def lines(connection: Record, width: int = WIDTH) -> list[Line]:
    """The lines of a connection, none longer than width."""
    found = _head(connection, width)
    peer = connection["remote"]
    for path in connection["subflows"]:
        found += _path(path, peer, rates=connection["rates"] is not None, width=width)
    for sentence in _sentences(connection):
        for text in textwrap.wrap(sentence, max(width - len(_INDENT), 1)):
            found.append(Line(_INDENT + text, "note", ""))
    return [line._replace(text=line.text[:width].rstrip()) for line in found]


def totals(connections: Sequence[Record]) -> str:
    """One line about all of them: "4 connections: 3 MPTCP, 1 fell back; 7 paths, 0 stalled"."""
    kinds = Counter(connection["status"] for connection in connections)
    parts = [f"{kinds[status]} {word}" for status, word in _IN_TOTALS.items() if kinds[status]]
    paths = [path for connection in connections for path in connection["subflows"]]
    stalled = sum(path["stalled"] is True for path in paths)
    found = counted(len(connections), "connection") + (": " if parts else "") + ", ".join(parts)
    found += f"; {counted(len(paths), 'path')}, {stalled} stalled"
    if without := sum("no_path" in connection["troubles"] for connection in connections):
        found += f"; {without} without a path"
    if moving := [connection["rates"] for connection in connections if connection["rates"]]:
        sent, received = (
            sum(rates[name] or 0 for rates in moving) for name in ("bytes_acked", "bytes_received")
        )
        found += f"; {rate(sent)} sent, {rate(received)} received"
    return found


def troubled_first(connections: Iterable[Record]) -> list[Record]:
    """The same connections: those with the worst trouble first, else in their order."""
    return sorted(connections, key=_badness)


def _badness(connection: Record) -> int:
    troubles = connection["troubles"]
    return min([_WORST.get(word, 0) for word in troubles]) if troubles else len(_WORST)


#: What can be wrong with a connection, from bad to less bad.
TROUBLES = ("no_path", "resending", "stalled", "fell_back")
_WORST = {word: number for number, word in enumerate(TROUBLES)}

_IN_TOTALS = {
    "mptcp": "MPTCP",
    "fallback": "fell back",
    "tcp": "TCP",
    "connecting": "connecting",
    "closed": "closed",
    "closing": "closing",
    "listening": "listening",
}


def counted(number: int, noun: str) -> str:
    """ "1 path", "2 paths"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------------------------- its lines


def _head(connection: Record, width: int) -> list[Line]:
    status = connection["status"]
    name = printable(status).upper()
    paths = connection["subflows"]
    if status == "listening":
        first = f"{name} at {endpoint(connection['local'])}"
    elif status == "tcp" or (paths and paths[0]["opened_by"] == "remote"):
        first = f"{name} from {endpoint(connection['remote'])} to :{connection['local'][1]}"
    else:
        first = f"{name} to {endpoint(connection['remote'])}"
    owners = processes(connection["processes"])
    if owners and len(first) + 2 + len(owners) > width:
        wrapped = textwrap.wrap(owners, max(width - len(_INDENT), 1))
        return [
            Line(first, "connection", ""),
            *(Line(_INDENT + text, "note", "") for text in wrapped),
        ]
    return [Line(f"{first}  {owners}", "connection", "")]


def processes(found: Sequence[Record] | None) -> str:
    """ "python/19913", or several, or "" where it is not known."""
    if found is None:
        return ""
    if not found:
        return "no process"
    names = list(dict.fromkeys(f"{printable(owner['name'])}/{owner['pid']}" for owner in found))
    return ", ".join(names[:2]) + f" and {len(names) - 2} more" * (len(names) > 2)


def _path(path: Record, peer: Sequence[Any], *, rates: bool, width: int) -> list[Line]:
    local, remote = host(path["local"]), _elsewhere(path["remote"], peer)
    word = word_of(path)
    number = "" if path["id"] is None else path["id"]
    figures = _figures(path, rates)
    gap, size = (1, 9) if rates else (2, 7)
    columns = [f"{figures[0]:>7}", *(f"{text:>{size}}" for text in figures[1:]), f"{word:<7}"]
    values = (" " * gap).join(columns)
    room = min(width - 3 - gap - 1 - len(values), _LONGEST)
    whole, device = local + remote, path["interface"]
    if device and len(whole) + 2 + len(printable(device)) <= room:
        whole += f"  {printable(device)}"
    start = f"{number:>3}{' ' * gap}"
    if len(whole) <= room:
        return [Line(f"{start}{whole:<{room}} {values}", "path", word)]
    rest = [Line(_INDENT + remote.lstrip(), "note", "")] if remote else []
    if len(local) <= room:
        return [Line(f"{start}{local:<{room}} {values}", "path", word), *rest]
    # A narrow terminal: the word comes first, so that it is not what is cut off.
    narrow = f"{_INDENT}{word} {' '.join(figures)}"
    return [Line(start + local, "path", word), *rest, Line(narrow, "note", word)]


def _elsewhere(remote: Sequence[Any], peer: Sequence[Any]) -> str:
    """Where a path goes, if not to the address of the connection."""
    if remote[1] != peer[1]:
        return f" to {endpoint(remote)}"
    return f" to {host(remote)}" if host(remote) != host(peer) else ""


def _figures(path: Record, rates: bool) -> list[str]:
    tcp_info = path["tcp_info"] or {}
    found = [duration(tcp_info.get("rtt") or None)]
    if rates:
        moving = path["rates"] or {}
        return found + [rate(moving.get(name)) for name in ("bytes_acked", "bytes_received")]
    acked = tcp_info.get("bytes_acked")
    if acked and path["opened_by"] == "local":
        acked -= 1  # the SYN
    return [*found, size_of(acked), size_of(tcp_info.get("bytes_received"))]


def word_of(path: Record) -> str:
    """One word: "ok", "stalled", "backup", "opening", "closing" or "dead"."""
    if not path["live"]:
        return _NOT_LIVE.get(path["state"], "dead")
    if path["stalled"]:
        return "stalled"
    if path["state"] != "ESTABLISHED":
        return "closing"
    return "backup" if path["backup_local"] or path["backup_remote"] else "ok"


_NOT_LIVE = {
    "SYN_SENT": "opening",
    "SYN_RECV": "opening",
    "NEW_SYN_RECV": "opening",
    "LAST_ACK": "closing",
    "CLOSING": "closing",
    "TIME_WAIT": "closing",
}


def _sentences(connection: Record) -> list[str]:
    troubles, found = connection["troubles"], []
    if "no_path" in troubles:
        found.append(
            "No path is left. What is sent now waits until a new path joins, or the kernel gives up."
        )
    if "fell_back" in troubles:
        found.append(_why(connection["fallback_reason"]))
    if "resending" in troubles:
        found.append(_RESENDING)
    return found


_RESENDING = (
    "The peer's TCP acknowledges the data and its MPTCP does not: the same bytes are sent again and again. "
    "The peer may have fallen back alone."
)


def _why(reason: str | None) -> str:
    try:
        return str(mp.FallbackReason(reason or "").sentence)
    except ValueError:
        return f"Reason: {printable(reason)}." if reason else "Why it fell back is not known."


# ---------------------------------------------------------------------------------------- words, numbers


def printable(text: object) -> str:
    """Text of a peer, a process or a file, with control and other unusual characters escaped."""
    told = str(text)
    if told.isascii() and told.isprintable():  # as nearly always
        return told
    return "".join(
        character if " " <= character <= "~" else character.encode("unicode_escape").decode()
        for character in told
    )


def host(address: Sequence[Any]) -> str:
    """The host of an address, with the interface's number if it is of one link only (fe80::1%2)."""
    scope = address[3] if len(address) > 3 else 0
    return printable(address[0]) + (f"%{printable(scope)}" if scope else "")


def endpoint(address: Sequence[Any]) -> str:
    """Host and port in their usual notation."""
    name = host(address)
    port = printable(address[1])  # a recording may have anything there
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def size_of(number: float | None) -> str:
    """A number of bytes in at most 7 columns: "0 B", "68.1 kB", "123 MB"; "-" for None."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB", "PB", "EB"))


def rate(number: float | None) -> str:
    """Bytes per second in at most 9 columns."""
    return "-" if number is None else f"{size_of(number)}/s"


def duration(microseconds: float | None) -> str:
    """A time in at most 7 columns: "250 us", "9.9 ms", "1.2 s"; "-" for None."""
    return _scaled(microseconds, ("us", "ms", "s", "ks", "Ms"))


def _scaled(number: float | None, units: Sequence[str]) -> str:
    if number is None:
        return "-"
    if number < 999.5:
        return f"{number:.0f} {units[0]}"
    for unit in units[1:]:
        number /= 1000
        if number < 99.95:
            return f"{number:.1f} {unit}"
        if number < 999.5:
            return f"{number:.0f} {unit}"
    return f"{number:.0e} {units[-1]}"
