# SPDX-License-Identifier: MIT
"""One socket, one call: against the C call, the standard library, ctypes and mptcplib."""

from __future__ import annotations

import socket

import mptcp_sockopt as mp

from . import fixtures
from .fixtures import MOST_SUBFLOWS, of_subflows, without_mptcp
from .measure import (
    Costs,
    Growth,
    Measured,
    Missing,
    Spread,
    Variant,
    cpu_with_children,
    interleave,
    repeated,
)


def full_info_and_fields(sock: socket.socket) -> list[int]:
    return [path.tcp_info.rtt for path in mp.mptcp_full_info(sock).subflows]


def calls(rounds: int) -> Measured:
    """T1 to T5, T16, and the sanity ratios, on connections of 1 and of 8 subflows."""
    with of_subflows(range(1, 9, 7)) as pairs:
        (one, _), (eight, _) = pairs.values()
        variants: dict[str, Variant] = {
            f"C {name}": fixtures.c_call(name, one) for name in ("null", "so_type", "info", "full_info")
        }
        variants |= {
            "C full_info 8": fixtures.c_call("full_info", eight),
            "stdlib": fixtures.stdlib(one),
            "ctypes": repeated(fixtures.ctypes_same_result, one),
            "ctypes structure": repeated(fixtures.ctypes_structure, one),
            "info": repeated(mp.mptcp_info, one),
            "full_info": repeated(mp.mptcp_full_info, one),
            "full_info 8": repeated(mp.mptcp_full_info, eight),
            "full_info 8 fields": repeated(full_info_and_fields, eight),
        }
        costs = interleave(variants, rounds)
        found = {
            "S1": costs.ratios("C so_type", "C null"),
            "S2": costs.ratios("C info", "C so_type"),
            "T1": costs.ratios("info", "stdlib"),
            "T1 bound": costs.ratios("C info", "stdlib"),
            "T2": costs.ratios("info", "ctypes"),
            "T2 bound": costs.ratios("C info", "ctypes"),
            "T2s": costs.ratios("info", "ctypes structure"),
            "T2s bound": costs.ratios("C info", "ctypes structure"),
            "T3": costs.ratios("full_info", "C full_info"),
            "T4": costs.ratios("full_info 8", "C full_info 8"),
            "T5": costs.ratios("full_info 8 fields", "C full_info 8"),
            "T16": costs.ratios("full_info 8", "full_info"),
            "T16 bound": costs.ratios("C full_info 8", "C full_info"),
        }
        # In units of the C call, for the picture.
        for name in ("stdlib", "ctypes", "info"):
            found[f"{name} / C"] = costs.ratios(name, "C info")
        notes = []
        try:
            found["T2m"] = mptcplib(one, min(rounds, 9))
        except Missing as reason:
            notes.append(str(reason))
    return Measured(found, notes=notes)


def mptcplib(sock: socket.socket, rounds: int) -> Spread:
    """It runs programs, so their CPU time counts too."""
    variants = {"mptcplib": repeated(fixtures.mptcplib(), sock), "info": repeated(mp.mptcp_info, sock)}
    return interleave(variants, rounds, cpu_with_children).ratios("mptcplib", "info")


def snapshot_and_fields(sock: socket.socket) -> tuple[int | None, list[tuple[int | None, int]]]:
    shot = mp.snapshot(sock)
    token = None if shot.info is None else shot.info.token
    return token, [(path.id, path.tcp_info.rtt) for path in shot.subflows]


def follow(rounds: int) -> Measured:
    """T19 to T21, in units of `mptcp_full_info()` of the same socket, or of the one with 1 path."""
    counts = range(1, MOST_SUBFLOWS + 1)
    with of_subflows(counts) as pairs, without_mptcp() as (tcp, fallen):
        fixtures.c_call("full_info", pairs[1][0])  # Missing where the kernel has none
        socks = {str(count): client for count, (client, _) in pairs.items()} | {"t": tcp, "f": fallen}
        variants: dict[str, Variant] = {}
        for name, sock in socks.items():
            tracker = mp.Tracker(sock)
            variants[f"T19 {name}"] = repeated(mp.status, sock)
            variants[f"T20 {name}"] = repeated(snapshot_and_fields, sock)
            variants[f"T21 {name}"] = repeated(mp.Tracker.update, tracker)
            if sock not in (tcp, fallen):
                variants[f"unit {name}"] = repeated(mp.mptcp_full_info, sock)
        costs = interleave(variants, rounds)
    found = {}
    for key in ("T19", "T20", "T21"):
        by_count = [costs.ratios(f"{key} {count}", f"unit {count}") for count in counts]
        found[key] = by_count[0]
        found[f"{key}w"] = max(by_count)
        for kind in ("t", "f"):
            found[f"{key}{kind}"] = costs.ratios(f"{key} {kind}", "unit 1")
    return Measured(found)


def growth(rounds: int) -> Measured:
    """By subflows, in units of the C call of MPTCP_INFO on the connection with one, of the same rounds."""
    counts = range(1, MOST_SUBFLOWS + 1)
    readers = {
        "`mptcp_info`": mp.mptcp_info,
        "`mptcp_full_info`": mp.mptcp_full_info,
        "`mptcp_full_info`, a field of each": full_info_and_fields,
    }
    with of_subflows(counts) as pairs:
        variants: dict[str, Variant] = {"unit": fixtures.c_call("info", pairs[1][0])}
        for count, (client, _) in pairs.items():
            for name in fixtures.C_CALLS[2:]:
                variants[f"C: MPTCP_{name.upper()} {count}"] = fixtures.c_call(name, client)
            for name, reader in readers.items():
                variants[f"{name} {count}"] = repeated(reader, client)
        return Measured(growth={"subflows": lines(interleave(variants, rounds), counts)})


def lines(costs: Costs, counts: range) -> Growth:
    """A line for each "name count": the medians of the ratios to "unit", by count."""
    names = dict.fromkeys(name.rpartition(" ")[0] for name in costs.of if name != "unit")
    found: dict[str, list[float | None]] = {
        name: [costs.ratios(f"{name} {n}", "unit").median for n in counts] for name in names
    }
    return Growth(list(counts), found)
