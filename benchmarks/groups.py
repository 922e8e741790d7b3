# SPDX-License-Identifier: MIT
"""The measurements, in groups: each is one interleaved run, or several."""

from __future__ import annotations

import collections
import functools
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from . import fixtures
from .fixtures import MOST_SUBFLOWS, of_subflows
from .measure import (
    Costs,
    Growth,
    Measured,
    Missing,
    Scale,
    Variant,
    cpu_with_children,
    exactly,
    interleave,
    repeated,
)

ROOT = Path(__file__).resolve().parent.parent

# ------------------------------------------------------------- one socket, in one call and every second


def full_info_and_fields(sock: socket.socket) -> list[int]:
    return [path.tcp_info.rtt for path in mp.mptcp_full_info(sock).subflows]


def calls(scale: Scale) -> Measured:
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
        wanted = {
            "S1": "C so_type / C null",
            "S2": "C info / C so_type",
            "T1": "info / stdlib",
            "T1 bound": "C info / stdlib",
            "T2": "info / ctypes",
            "T2 bound": "C info / ctypes",
            "T2s": "info / ctypes structure",
            "T2s bound": "C info / ctypes structure",
            "T3": "full_info / C full_info",
            "T4": "full_info 8 / C full_info 8",
            "T5": "full_info 8 fields / C full_info 8",
            "T16": "full_info 8 / full_info",
            "T16 bound": "C full_info 8 / C full_info",
        }
        # In units of the C call, for the picture.
        wanted |= {f"{name} / C": f"{name} / C info" for name in ("stdlib", "ctypes", "info")}
        found = Measured(interleave(variants, scale.rounds).table(wanted))
        try:  # it runs programs, so their CPU time counts too
            variants = {"mptcplib": repeated(fixtures.mptcplib(), one), "info": variants["info"]}
            costs = interleave(variants, min(scale.rounds, 9), cpu_with_children)
            found.ratios["T2m"] = costs.ratios("mptcplib", "info")
        except Missing as reason:
            found.notes.append(str(reason))
    return found


def snapshot_and_fields(sock: socket.socket) -> tuple[int | None, list[tuple[int | None, int]]]:
    shot = mp.snapshot(sock)
    token = None if shot.info is None else shot.info.token
    return token, [(path.id, path.tcp_info.rtt) for path in shot.subflows]


def follow(scale: Scale) -> Measured:
    """T19 to T21, in units of `mptcp_full_info()` of the same socket, or of the one with 1 path."""
    counts = range(1, MOST_SUBFLOWS + 1)
    with of_subflows(counts) as pairs, fixtures.without_mptcp() as (tcp, fallen):
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
        costs = interleave(variants, scale.rounds)
    found = {}
    for key in ("T19", "T20", "T21"):
        by_count = [costs.ratios(f"{key} {count}", f"unit {count}") for count in counts]
        found[key] = by_count[0]
        found[f"{key}w"] = max(by_count)
        for kind in ("t", "f"):
            found[f"{key}{kind}"] = costs.ratios(f"{key} {kind}", "unit 1")
    return Measured(found)


def by_subflows(scale: Scale) -> Measured:
    """In units of the C call of MPTCP_INFO on the connection with one, of the same rounds."""
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
        costs = interleave(variants, scale.few)
    names = dict.fromkeys(name.rpartition(" ")[0] for name in variants if name != "unit")
    lines: dict[str, list[float | None]] = {
        name: [costs.ratios(f"{name} {count}", "unit").median for count in counts] for name in names
    }
    return Measured(growth={"subflows": Growth(list(counts), lines)})


# ----------------------------------------------------------------------------------------- many sockets


def growing(counts: Iterable[int], found: Measured) -> Iterator[tuple[int, list[socket.socket]]]:
    """More and more sockets, until this process may not have so many: found.missing says so then."""
    socks: list[socket.socket] = []
    for count in counts:
        try:
            fixtures.grow(socks, count)
        except Missing as reason:
            found.missing.append(str(reason))
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


def bulk(scale: Scale) -> Measured:
    """T6 to T9 and T15."""
    found = Measured()
    for count, socks in growing((1000, 10_000), found):
        sampler = mp.Sampler(socks)
        variants: dict[str, Variant] = {
            "C": fixtures.c_loop(socks),
            "sample": repeated(mp.Sampler.sample, sampler),
        }
        if count == 10_000:
            found.ratios["T6x"] = interleave(variants, scale.rounds).ratios("sample", "C")
            break
        variants |= {
            "column": repeated(read_column, sampler),
            "views": repeated(read_views, sampler),
            "stdlib": repeated(fixtures.stdlib_loop, socks),
            "loop": repeated(info_loop, socks),
        }
        wanted = {"T6": "sample / C", "T7": "column / C", "T8": "views / C"}
        wanted |= {"T9": "loop / sample", "T9s": "stdlib / sample"}
        found.ratios.update(interleave(variants, scale.rounds).table(wanted))
        strides = sampler.sample().column("bytes_sent").strides  # from row to row, in bytes
        assert strides
        found.ratios["T15"] = exactly(strides[0] / len(mp.mptcp_info(socks[0])))
    return found


def expect(what: str, rows: Sized, count: int) -> None:
    if len(rows) != count:
        raise RuntimeError(f"{what} found {len(rows)} sockets of {count}")


def read_diag(count: int) -> None:
    """All of the namespace; there must be so many."""
    expect("mptcp_diag()", mp.mptcp_diag(), count)


def diag(scale: Scale) -> Measured:
    """T17."""
    found, keys = Measured(), {1000: "T17", 10_000: "T17x"}
    for count, socks in growing(keys, found):
        variants = {"C": fixtures.c_loop(socks), "diag": repeated(read_diag, count)}
        found.ratios[keys[count]] = interleave(variants, scale.rounds).ratios("diag", "C")
    return found


def read_ss(count: int) -> None:
    expect("ss", fixtures.ss(), count)


def read_ss_of(sock: socket.socket) -> None:
    (_row,) = fixtures.ss(f"sport = :{sock.getsockname()[1]}", f"dport = :{sock.getpeername()[1]}")


def ss(scale: Scale) -> Measured:
    """T10 to T12, with the CPU time of children."""
    found, keys = Measured(), {100: "T11", 1000: "T10", 10_000: "T11x"}
    for count, socks in growing(keys, found):
        variants = {"ss": repeated(read_ss, count), "sample": repeated(mp.Sampler.sample, mp.Sampler(socks))}
        found.ratios[keys[count]] = interleave(variants, scale.few, cpu_with_children).ratios("ss", "sample")
        if count == 100:
            variants = {"ss": repeated(read_ss_of, socks[0]), "info": repeated(mp.mptcp_info, socks[0])}
            found.ratios["T12"] = interleave(variants, scale.few, cpu_with_children).ratios("ss", "info")
    return found


def by_connections(scale: Scale) -> Measured:
    """The cost of one of them, in units of a C call of MPTCP_INFO on one that is hot, of the same rounds."""
    lines: dict[str, list[float | None]] = {}
    counts: list[int] = []
    found = Measured(growth={"connections": Growth(counts, lines)})
    for count, socks in growing((100, 300, 1000, 3000, 10_000), found):
        counts.append(count)
        unit = fixtures.c_call("info", socks[0])
        variants: dict[str, Variant] = {
            "C loop": fixtures.c_loop(socks),
            "`Sampler.sample()`": repeated(mp.Sampler.sample, mp.Sampler(socks)),
            "`mptcp_diag()`": repeated(read_diag, count),
            "loop of `mptcp_info()`": repeated(info_loop, socks),
            "loop of `getsockopt` + `unpack`": repeated(fixtures.stdlib_loop, socks),
        }
        costs = interleave({"unit": unit, **variants}, scale.few)
        for name in variants:
            lines.setdefault(name, []).append(costs.ratios(name, "unit", 1 / count).median)
        of_ss = lines.setdefault("`ss` + parse", [])
        try:
            costs = interleave({"unit": unit, "ss": repeated(read_ss, count)}, scale.few, cpu_with_children)
            of_ss.append(costs.ratios("ss", "unit", 1 / count).median)
        except Missing as reason:
            of_ss.append(None)
            found.missing.append(str(reason))
    return found


# ---------------------------------------------------------------------------------------------- importing


def python(cache: str, code: str) -> str:
    """Run it in a fresh interpreter that stands in the checkout; what it printed. The byte code is kept in
    the folder cache, whatever the environment says of it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache
    command = [sys.executable, "-c", code]
    return subprocess.check_output(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def imports(scale: Scale) -> Measured:
    """T14: above what an interpreter costs that imports nothing."""
    codes = {"nothing": "", "socket": "import socket", "package": "import mptcp_sockopt"}
    unwanted = {"dataclasses", "ctypes", "cffi", "numpy"}
    with tempfile.TemporaryDirectory() as cache:
        fresh = functools.partial(python, cache)
        variants = {name: repeated(fresh, code) for name, code in codes.items()}
        costs = interleave(variants, scale.rounds, cpu_with_children).of
        loaded = fresh(f"import sys, mptcp_sockopt; print(len({unwanted} & set(sys.modules)))")
    above = Costs(
        {
            name: [cost - empty for cost, empty in zip(costs[name], costs["nothing"], strict=True)]
            for name in ("socket", "package")
        }
    )
    return Measured({"T14": above.ratios("package", "socket"), "T14m": exactly(int(loaded))})


# --------------------------------------------------------------------------- the other threads' pauses
#
# The kernel holds the lock of a saturated sender for milliseconds, and a reader waits for it. The standard
# library's getsockopt() waits with the GIL, so that every other thread waits too; this library does not.
# Wall time: a heartbeat of half a millisecond in one thread, the sampler in another, and the longest pauses
# of the heartbeat (p99.9), in windows that take turns.

BEAT = 0.0005  # seconds
SAMPLES = 0.001  # seconds between two samples


def longest_pause(sample: Callable[[], object] | None, seconds: float) -> float:
    """p99.9 of the time from one heartbeat to the next, in ns."""
    stop = threading.Event()

    def sampler() -> None:
        while not stop.is_set():
            if sample:
                sample()
            time.sleep(SAMPLES)

    thread = threading.Thread(target=sampler)
    thread.start()
    pauses, last = [], time.monotonic_ns()
    end = last + round(seconds * 1e9)
    while last < end:
        time.sleep(BEAT)
        now = time.monotonic_ns()
        pauses.append(now - last)
        last = now
    stop.set()
    thread.join()
    return float(sorted(pauses)[len(pauses) * 999 // 1000])


def pauses(scale: Scale) -> Measured:
    """T13: windows without sampling, with this library, with the standard library."""
    with fixtures.saturated() as client:
        samplers: dict[str, Callable[[], object] | None] = {
            "none": None,
            "ours": lambda: mp.mptcp_info(client),
            "stdlib": lambda: client.getsockopt(284, 1, 96),
        }
        found: dict[str, list[float]] = {name: [] for name in samplers}
        for _ in range(scale.windows):
            for name in random.sample(list(samplers), len(samplers)):
                found[name].append(longest_pause(samplers[name], scale.window))
    wanted = {"T13": "ours / none", "T13s": "ours / stdlib", "T13g": "stdlib / none"}
    return Measured(Costs(found).table(wanted))


# ------------------------------------------------------------------------------------------------- soaking
#
# Thousands of live connections, sampled all the while, as some close and others open: memory and descriptors
# must stay what they were.

LISTENERS = 8  # each with an address of its own: closed connections occupy their ports for a minute
TURN = 20  # connections that close, and open, between two samples
LEAST_POINTS = 9


def resident() -> int:
    """Pages of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def soak(scale: Scale) -> Measured:
    """T18."""
    count, seconds = scale.connections, scale.seconds
    fixtures.allow_descriptors(count)
    before = descriptors()
    servers = [fixtures.listen(f"127.0.2.{number}") for number in range(1, LISTENERS + 1)]
    addresses = [server.getsockname() for server in servers]
    with testing.Child(lambda: fixtures.serve(servers, count)):
        for server in servers:
            server.close()
        live = collections.deque(fixtures.connect(addresses[n % LISTENERS]) for n in range(count))
        sampler = mp.Sampler(live)
        memory, opened, unanswered, samples = [], 0, 0, 0
        now = begun = time.monotonic()
        while now < begun + seconds:
            unanswered += sum(map(bool, sampler.sample().errnos))
            samples += 1
            for _ in range(TURN):
                with live.popleft() as oldest:
                    sampler.remove(oldest)
                live.append(fixtures.connect(addresses[opened % LISTENERS]))
                sampler.add(live[-1])
                opened += 1
            now = time.monotonic()
            memory.append(resident())
        if samples < LEAST_POINTS:
            raise Missing(f"{seconds:g} s are time for {samples} samples only: give it more (--seconds)")
        if unanswered:
            raise RuntimeError(f"{unanswered} of {samples * count} live connections did not answer")
        for sock in live:
            sock.close()
    third = len(memory) // 3
    middle, last = memory[third : 2 * third], memory[-third:]
    return Measured(
        {
            "T18": exactly(statistics.median(last) / statistics.median(middle)),
            "T18f": exactly(descriptors() - before),
            "T18c": exactly(opened / count),
        }
    )
