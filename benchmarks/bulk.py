# SPDX-License-Identifier: MIT
"""Many sockets: Sampler, mptcp_diag(), loops of single calls, and `ss`, against a loop in C."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence

import mptcp_sockopt as mp

from . import fixtures
from .fixtures import Many
from .measure import (
    Growth,
    Measured,
    Missing,
    Spread,
    Variant,
    cpu_with_children,
    exactly,
    interleave,
    repeated,
)

SIZES = (100, 300, 1000, 3000, 10000)


def calling(function: Callable[[], object]) -> Variant:
    def variant(n: int) -> None:
        for _ in range(n):
            function()

    return variant


def growing(counts: Sequence[int], missing: list[str]) -> Iterator[tuple[int, list[socket.socket]]]:
    """More and more sockets, until this process may not have so many: missing says so then."""
    many = Many()
    for count in counts:
        try:
            socks = many.grow(count)
        except Missing as reason:
            missing.append(str(reason))
            return
        yield count, socks


def read_column(sampler: mp.Sampler[mp.MPTCPInfo]) -> int:
    return sum(sampler.sample().column("bytes_sent"))


def read_views(sampler: mp.Sampler[mp.MPTCPInfo]) -> int:
    """Each record as an MPTCPInfo, all at once."""
    return len(list(sampler.sample()))


def info_loop(socks: Sequence[socket.socket]) -> int:
    read = mp.mptcp_info
    return len([read(sock) for sock in socks])


def bulk(rounds: int) -> Measured:
    """T6 to T9 and T15."""
    found: dict[str, Spread] = {}
    missing: list[str] = []
    for count, socks in growing((1000, 10_000), missing):
        sampler = mp.Sampler(socks)
        variants: dict[str, Variant] = {
            "C": fixtures.c_loop(socks),
            "sample": calling(sampler.sample),
        }
        if count == 10_000:
            found["T6x"] = interleave(variants, rounds).ratios("sample", "C")
            break
        variants |= {
            "column": repeated(read_column, sampler),
            "views": repeated(read_views, sampler),
            "stdlib": repeated(fixtures.stdlib_loop, socks),
            "loop": repeated(info_loop, socks),
        }
        costs = interleave(variants, rounds)
        found = {
            "T6": costs.ratios("sample", "C"),
            "T7": costs.ratios("column", "C"),
            "T8": costs.ratios("views", "C"),
            "T9": costs.ratios("loop", "sample"),
            "T9s": costs.ratios("stdlib", "sample"),
            "T15": exactly(record_size(sampler) / len(mp.mptcp_info(socks[0]))),
        }
    return Measured(found, missing=missing)


def record_size(sampler: mp.Sampler[mp.MPTCPInfo]) -> int:
    """From row to row of a column, in bytes."""
    strides = sampler.sample().column("bytes_sent").strides
    assert strides
    return strides[0]


def read_diag(count: int) -> None:
    """All of the namespace; there must be so many."""
    found = len(mp.mptcp_diag())
    if found != count:
        raise RuntimeError(f"mptcp_diag() found {found} sockets of {count}")


def diag(rounds: int) -> Measured:
    """T17."""
    found: dict[str, Spread] = {}
    missing: list[str] = []
    keys = {1000: "T17", 10_000: "T17x"}
    for count, socks in growing(tuple(keys), missing):
        variants = {
            "C": fixtures.c_loop(socks),
            "diag": repeated(read_diag, count),
        }
        found[keys[count]] = interleave(variants, rounds).ratios("diag", "C")
    return Measured(found, missing=missing)


def read_ss(count: int) -> None:
    found = len(fixtures.ss())
    if found != count:
        raise RuntimeError(f"ss found {found} sockets of {count}")


def read_ss_of(sock: socket.socket) -> None:
    (_row,) = fixtures.ss(f"sport = :{sock.getsockname()[1]}", f"dport = :{sock.getpeername()[1]}")


def ss(rounds: int) -> Measured:
    """T10 to T12, with the CPU time of children."""
    found: dict[str, Spread] = {}
    missing: list[str] = []
    keys = {100: "T11", 1000: "T10", 10_000: "T11x"}
    for count, socks in growing(tuple(keys), missing):
        variants = {"ss": repeated(read_ss, count), "sample": calling(mp.Sampler(socks).sample)}
        found[keys[count]] = interleave(variants, rounds, cpu_with_children).ratios("ss", "sample")
        if count == 100:
            variants = {"ss": repeated(read_ss_of, socks[0]), "info": repeated(mp.mptcp_info, socks[0])}
            found["T12"] = interleave(variants, rounds, cpu_with_children).ratios("ss", "info")
    return Measured(found, missing=missing)


def growth(rounds: int) -> Measured:
    """By sockets: the cost of one of them, in units of a C call of MPTCP_INFO on one that is hot, of the
    same rounds."""
    lines: dict[str, list[float | None]] = {}
    missing: list[str] = []
    counts = []
    for count, socks in growing(SIZES, missing):
        counts.append(count)
        unit = fixtures.c_call("info", socks[0])
        variants: dict[str, Variant] = {
            "unit": unit,
            "C loop": fixtures.c_loop(socks),
            "`Sampler.sample()`": calling(mp.Sampler(socks).sample),
            "`mptcp_diag()`": repeated(read_diag, count),
            "loop of `mptcp_info()`": repeated(info_loop, socks),
            "loop of `getsockopt` + `unpack`": repeated(fixtures.stdlib_loop, socks),
        }
        costs = interleave(variants, rounds)
        for name in variants:
            if name != "unit":
                lines.setdefault(name, []).append(costs.ratios(name, "unit", 1 / count).median)
        of_ss = lines.setdefault("`ss` + parse", [])
        try:
            costs = interleave({"unit": unit, "ss": repeated(read_ss, count)}, rounds, cpu_with_children)
            of_ss.append(costs.ratios("ss", "unit", 1 / count).median)
        except Missing as reason:
            of_ss.append(None)
            missing.append(str(reason))
    return Measured(growth={"connections": Growth(counts, lines)}, missing=missing)
