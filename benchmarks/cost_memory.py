# SPDX-License-Identifier: MIT
"""Kernel memory of a connection, counted as objects of the kernel's slab caches.

/proc/net/sockstat counts sockets and the pages of what is queued in them, not the sockets' own memory. A
memory cgroup is not charged for what the kernel's workers allocate: a connection of four subflows seems to
take less there than one of one. /proc/slabinfo has every object, and is exact once the slabs that processors
hold for themselves are given back (shrink, which takes root). Other processes' objects are in it too: what
counts is what came in a whole number for each connection, in the median of several rounds.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from . import fixtures
from .cost_networks import KINDS, Network, loopback
from .measure import Measured, Missing, Spread, exactly, spread

_SLABS, _SHRINK = Path("/proc/slabinfo"), "/sys/kernel/slab/{}/shrink"
_WHOLE = 0.4  # how far from a whole number a median may be


class Cache(NamedTuple):
    """Objects in use, and bytes of one."""

    used: int
    size: int


def caches(names: Iterable[str] = ()) -> dict[str, Cache]:
    """By name; those named are exact. Missing unless root of the machine asks."""
    for name in names:
        with contextlib.suppress(OSError):
            Path(_SHRINK.format(name)).write_text("1")
    try:
        lines = _SLABS.read_text().splitlines()[2:]
    except OSError as error:
        raise Missing(f"{_SLABS}: {error.strerror}") from None
    rows = [line.split() for line in lines]
    return {name: Cache(int(used), int(size)) for name, used, _, size, *_ in rows}


def grown(network: Network, name: str, count: int, names: Iterable[str]) -> dict[str, float]:
    """Objects of each cache for one connection of that kind, both ends and an idle connection."""
    kind = KINDS[name]
    with contextlib.ExitStack() as kept:
        listeners = network.listening()
        for listener in listeners.values():
            kept.enter_context(listener)
        before = caches(names)
        for _ in range(count):
            for sock in network.pair(kind, listeners[kind.listener]):
                # Reset in the end: what TIME-WAIT holds would be freed while others are counted.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                kept.enter_context(sock)
        after = caches(names)
    return {cache: (row.used - before.get(cache, row).used) / count for cache, row in after.items()}


def whole(found: dict[str, Spread]) -> dict[str, int]:
    """The caches that grew by a whole number of objects for each connection, as far as that can be told."""
    return {
        cache: round(one.median)
        for cache, one in found.items()
        if round(one.median) > 0 and abs(one.median - round(one.median)) <= _WHOLE
    }


def memory(rounds: int, count: int) -> Measured:
    """Objects and bytes of a connection of each kind, and its bytes against those of TCP to TCP."""
    sizes = {cache: row.size for cache, row in caches().items()}
    fixtures.allow_descriptors(2 * count + 64)
    network = loopback()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
    for _ in range(rounds):
        for name in random.sample(list(KINDS), len(KINDS)):
            rows[name].append(grown(network, name, count, sizes))
    found = Measured()
    for name, counted in rows.items():
        spreads = {cache: spread([row.get(cache, 0.0) for row in counted]) for cache in sizes}
        objects = whole(spreads)
        for cache, one in spreads.items():
            if one.median > _WHOLE and cache not in objects:
                found.notes.append(f"memory, {KINDS[name].words}: `{cache}` grew by {one.median:.2f} objects")
        found.ratios.update({f"objects {name} {cache}": exactly(each) for cache, each in objects.items()})
        size = sum(sizes[cache] * each for cache, each in objects.items())
        found.ratios[f"bytes {name}"] = exactly(size)
    base = found.ratios["bytes tcp"].median
    if not base:
        raise Missing("a cache of sockets in /proc/slabinfo that grows with them")
    for name in KINDS:
        found.ratios[f"memory {name}"] = exactly(found.ratios[f"bytes {name}"].median / base)
    return found
