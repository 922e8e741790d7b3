# SPDX-License-Identifier: MIT
"""A record of an event, live or from a recording, in words."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from ._blocks import endpoint, printable

# Of reset_reason; RFC 8684, section 3.6.
RESET_REASONS = {
    0: "unspecified error",
    1: "MPTCP-specific error",
    2: "lack of resources",
    3: "administratively prohibited",
    4: "too much outstanding data",
    5: "unacceptable performance",
    6: "middlebox interference",
}
# What is true of a connection or a reset if its flags are odd.
_NO_INITIAL_JOINS = ", whose initial address takes no joins"
_TRANSIENT = " (transient)"

Record = Mapping[str, Any]


def in_words(record: Record, connection: tuple[Any, Any] | None = None) -> str:
    """What happened, as a line without clock and token.

    record may be from a file. connection: the local and the remote address of the connection, if known.
    """
    name = record["event"]
    told = _WORDS[name](record) if name in _WORDS else f"event {printable(name)}, which is not known here"
    if connection and name == "CLOSED":
        told += f" ({_end(connection[0])} to {_end(connection[1])})"
    if connection and name in ("ANNOUNCED", "REMOVED"):
        told += f" (of {_end(connection[1])})"
    return told


def token_of(record: Record) -> str:
    """The token in eight digits, as ss(8) has it; a dash if there is none."""
    token = record.get("token")
    return f"{token:08x}" if isinstance(token, int) else "-"


def _end(address: Any) -> str:
    return endpoint(address) if address else "?"


def _path(record: Record) -> str:
    return f"path {_end(record.get('local'))} to {_end(record.get('remote'))}"


def _is_odd(number: object) -> bool:
    return isinstance(number, int) and bool(number & 1)


def _created(record: Record) -> str:
    local, remote = _end(record.get("local")), _end(record.get("remote"))
    told = f"accepted {remote} at {local}" if record.get("server_side") else f"connected {local} to {remote}"
    return told + _NO_INITIAL_JOINS * _is_odd(record.get("flags"))


def _announced(record: Record) -> str:
    return f"peer announced {_end(record.get('remote'))}, id {printable(record.get('remote_id'))}"


def _joined(record: Record) -> str:
    interface = record.get("ifindex")
    bound = "" if interface is None else f", bound to interface {printable(interface)}"
    return f"{_path(record)} joined{' as backup' * bool(record.get('backup'))}{bound}"


def _ended(record: Record) -> str:
    told, error, reason = f"{_path(record)} ended", record.get("error"), record.get("reset_reason")
    if error is not None:
        told += f": {errno.errorcode.get(error, printable(error))}"
    if reason is not None:
        told += f", reset: {RESET_REASONS.get(reason, f'reason {printable(reason)}')}"
        told += _TRANSIENT * _is_odd(record.get("reset_flags"))
    return told


def _changed(record: Record) -> str:
    return f"{_path(record)}: peer made it {'a backup' if record.get('backup') else 'no backup any more'}"


_WORDS: dict[object, Callable[[Record], str]] = {
    "CREATED": _created,
    "ESTABLISHED": lambda record: "confirmed by the peer",
    "CLOSED": lambda record: "closed",
    "ANNOUNCED": _announced,
    "REMOVED": lambda record: f"peer withdrew its address with id {printable(record.get('remote_id'))}",
    "SUB_ESTABLISHED": _joined,
    "SUB_CLOSED": _ended,
    "SUB_PRIORITY": _changed,
    "LISTENER_CREATED": lambda record: f"listening at {_end(record.get('local'))}",
    "LISTENER_CLOSED": lambda record: f"no longer listening at {_end(record.get('local'))}",
    "LOST": lambda record: "events were lost here: they came faster than they were read",
}
