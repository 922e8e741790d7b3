# SPDX-License-Identifier: MIT
"""What is no fault of a port's listeners, and yet surprises people."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence

from .. import _lookup, _net, _programs
from .._programs import Program
from . import listeners
from .listeners import Row

_HOSTS = "/etc/hosts"
_LOCALHOST = {"localhost": ("::1", "127.0.0.1")}  # resolvers know it without that file


def notes(rows: Sequence[Row]) -> list[str]:
    """Sentences."""
    programs = _programs.programs(owner.pid for row in rows for owner in row.owners)
    return [*_wildcards(rows), *_names(rows, programs)]


def _wildcards(rows: Sequence[Row]) -> Iterator[str]:
    dual = {
        listeners.address(row.listener)
        for row in rows
        if row.listener.host == _net.ANY[socket.AF_INET6] and row.listener.v6only is False
    }
    for address in sorted(dual):
        yield f"{address} takes IPv4 too: it is without IPV6_V6ONLY"


def _names(rows: Sequence[Row], programs: Mapping[int, Program]) -> Iterator[str]:
    """Names with two addresses at which two programs answer. Clients try IPv6 first."""
    told: dict[tuple[str, ...], list[str]] = {}
    for name, addresses in _resolved().items():
        answering = [(address, serving) for address in addresses if (serving := _serving(rows, address))]
        for address, serving in answering[1:]:
            first_address, first = answering[0]
            stranger = _programs.stranger(first.owners, serving.owners, programs)
            if stranger:
                told.setdefault((first_address, first_pid(first), address, first_pid(serving)), []).append(
                    name
                )
    for (first_address, one, address, other), names in told.items():
        yield (
            f"{', '.join(sorted(names))} is two programs: {first_address}, which clients try first, "
            f"is {one}; {address} is {other}"
        )


def first_pid(row: Row) -> str:
    """``pid 7 (nginx)``, of the first owner."""
    owner = row.owners[0]
    return f"pid {owner.pid} ({owner.command})"


def _serving(rows: Sequence[Row], address: str) -> Row | None:
    """A listener that gets connections to an address; of a group, any."""
    to = _lookup.Destination(6 if ":" in address else 4, address, 0)
    found = _lookup.first([row.listener for row in rows], to)
    return next((row for row in rows if row.owners and row.listener in found), None)


def _resolved() -> dict[str, tuple[str, ...]]:
    """Names with their addresses, IPv6 first. Nobody is asked: no name server, and no other service."""
    found: dict[str, set[str]] = {name: set(addresses) for name, addresses in _LOCALHOST.items()}
    try:
        with open(_HOSTS, errors="replace") as file:
            lines = [line.partition("#")[0].split() for line in file]
    except OSError:
        lines = []
    for address, *names in filter(None, lines):
        for name in names:
            found.setdefault(name, set()).add(address)
    return {
        name: tuple(sorted(addresses, key=lambda address: (":" not in address, address)))
        for name, addresses in found.items()
    }
