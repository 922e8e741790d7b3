# SPDX-License-Identifier: MIT
"""How anything here is measured, ratios inside one interleaved run; and what each is held against.

Machines are shared and differ, so a time by itself says nothing. Every round runs each variant once, in
random order, for a block of about 5 ms, by the CPU clock of the thread; what counts is the median of the
rounds' ratios. Two runs are never compared.
"""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

BLOCK = 5_000_000  # ns of one variant in one round

Variant = Callable[[int], object]  # does its thing that many times
Clock = Callable[[], int]  # ns
T = TypeVar("T")


class Missing(Exception):  # noqa: N818  # it is no error of this program
    """What this machine lacks for a measurement."""


class Scale(NamedTuple):
    """How much is measured."""

    rounds: int
    windows: int  # of pause, each
    window: float  # seconds
    connections: int  # of soak
    seconds: float

    @property
    def few(self) -> int:
        """Rounds of what takes long."""
        return min(self.rounds, 13)


class Spread(NamedTuple):
    """The median of many ratios, their quartiles, and how many they are."""

    median: float
    low: float
    high: float
    rounds: int


class Growth(NamedTuple):
    """Lines of a table: medians by count; None where one could not be measured."""

    counts: list[int]
    lines: dict[str, list[float | None]]


@dataclass(frozen=True)
class Measured:
    """What was found: ratios by key, tables, and the reasons for what was not found (missing: what the
    measurement cannot do without; notes: what is optional)."""

    ratios: dict[str, Spread] = field(default_factory=dict)
    growth: dict[str, Growth] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, part: Measured) -> None:
        """What another part found."""
        self.ratios.update(part.ratios)
        self.growth.update(part.growth)
        self.missing.extend(part.missing)
        self.notes.extend(part.notes)


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    found = sorted(values)
    low, middle, high = statistics.quantiles(found, n=4) if len(found) > 1 else found * 3
    return Spread(middle, low, high, len(found))


def exactly(value: float) -> Spread:
    """What was counted and not timed."""
    return Spread(value, value, value, 1)


def cpu_with_children() -> int:
    """What this process and the children that it waited for used: for programs that are run."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((children.ru_utime + children.ru_stime) * 1e9)


def repeated(function: Callable[[T], object], argument: T) -> Variant:
    """function(argument), in a loop that costs little."""

    def variant(n: int) -> None:
        call, given = function, argument
        for _ in range(n):
            call(given)

    return variant


def calibrate(variant: Variant, clock: Clock, block: int = BLOCK) -> int:
    """How many times make about one block; the first, cold one does not count."""
    variant(1)
    times = 1
    while True:
        begun = clock()
        variant(times)
        took = clock() - begun
        if took * 3 > block:
            return max(1, round(times * block / took))
        times *= 2


class Costs:
    """What each variant cost, round by round, in ns of its clock."""

    def __init__(self, of: Mapping[str, list[float]]) -> None:
        self.of = of

    def ratios(self, name: str, base: str, scale: float = 1.0) -> Spread:
        """name over base, of the same rounds; times scale."""
        return spread(
            [scale * one / other for one, other in zip(self.of[name], self.of[base], strict=True) if other]
        )

    def table(self, wanted: Mapping[str, str]) -> dict[str, Spread]:
        """The ratios of several keys, each as "name / base"."""
        pairs = {key: pair.split(" / ") for key, pair in wanted.items()}
        return {key: self.ratios(name, base) for key, (name, base) in pairs.items()}


def in_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> Costs:
    """What each measures, once a round, shuffled."""

    def one(way: Callable[[], float]) -> dict[str, float]:
        return {"": way()}

    return several_in_turns({name: partial(one, way) for name, way in ways.items()}, rounds)[""]


def several_in_turns(ways: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int) -> dict[str, Costs]:
    """The same where each measures several things: their costs by name."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):
            for what, cost in ways[name]().items():
                found.setdefault(what, {each: [] for each in ways})[name].append(cost)
    return {what: Costs(costs) for what, costs in found.items()}


def interleave(variants: Mapping[str, Variant], rounds: int, clock: Clock = time.thread_time_ns) -> Costs:
    """Every variant once a round, shuffled. The clock is this thread's CPU, for all that has one thread."""
    times = {name: calibrate(variant, clock) for name, variant in variants.items()}

    def once(name: str) -> float:
        begun = clock()
        variants[name](times[name])
        return (clock() - begun) / times[name]

    return in_turns({name: partial(once, name) for name in variants}, rounds)


# ----------------------------------------------------------------------------------------------- targets


class Target(NamedTuple):
    """A ratio by its key, and what it is held against."""

    key: str
    group: str
    what: str
    gate: float | None = None  # what it must reach
    aim: float | None = None  # what it should
    bound: float | str | None = None  # what physics allows, or the key of such a ratio in the same rounds
    at_least: bool = False

    def badness(self, ratio: float) -> float:
        """The ratio, or its negative where more is better."""
        return -ratio if self.at_least else ratio


TARGETS = [
    Target("S1", "calls", "sanity check in C: `SO_TYPE` / `getppid`"),
    Target("S2", "calls", "sanity check in C: `MPTCP_INFO` / `SO_TYPE`"),
    Target("T1", "calls", "`mptcp_info()` / `socket.getsockopt` + `Struct.unpack`", 1.3, 1.1, "T1 bound"),
    Target("T2", "calls", "`mptcp_info()` / ctypes, with the same result", 0.6, 0.55, "T2 bound"),
    Target("T2s", "calls", "`mptcp_info()` / ctypes, with a structure of its own", bound="T2s bound"),
    Target("T2m", "calls", "mptcplib's `get_nb_used_subflows()` / `mptcp_info()`, with child processes"),
    Target("T3", "calls", "`mptcp_full_info()` / the C call, 1 subflow", 2.0, 1.7, 1.0),
    Target("T4", "calls", "`mptcp_full_info()` / the C call, 8 subflows", 1.5, 1.4, 1.0),
    Target("T5", "calls", "`mptcp_full_info()` and a field of each of 8 / the C call", 3.8, 3.0, 1.0),
    Target("T16", "calls", "`mptcp_full_info()`, 8 subflows / 1 subflow", 2.6, bound="T16 bound"),
    Target("T19", "follow", "`status()` / `mptcp_full_info()`, 1 subflow", 3.0, 1.6, 1.0),
    Target("T19w", "follow", "the same, the worst of 1 to 9 subflows", 3.0, bound=1.0),
    Target("T19t", "follow", "`status()` of plain TCP / `mptcp_full_info()`, 1 subflow", 4.0),
    Target("T19f", "follow", "`status()` of a fallback / `mptcp_full_info()`, 1 subflow", 4.0),
    Target("T20", "follow", "`snapshot()`, token, ids, rtts / `mptcp_full_info()`, 1 subflow", 6.0, 4.0, 1.0),
    Target("T20w", "follow", "the same, the worst of 1 to 9 subflows", 6.0, bound=1.0),
    Target("T20t", "follow", "`snapshot()`, id, rtt of plain TCP / `mptcp_full_info()`, 1 subflow", 6.0),
    Target("T20f", "follow", "`snapshot()`, id, rtt of a fallback / `mptcp_full_info()`, 1 subflow", 6.0),
    Target("T21", "follow", "`Tracker.update()` / `mptcp_full_info()`, 1 subflow", 20.0, 10.0, 1.0),
    Target("T21w", "follow", "the same, the worst of 1 to 9 subflows", 20.0, bound=1.0),
    Target("T21t", "follow", "`Tracker.update()` of plain TCP / `mptcp_full_info()`, 1 subflow", 20.0),
    Target("T21f", "follow", "`Tracker.update()` of a fallback / `mptcp_full_info()`, 1 subflow", 20.0),
    Target("T6", "bulk", "`Sampler.sample()` / a loop in C, 1,000 sockets", 1.05, 1.02, 1.0),
    Target("T6x", "bulk", "`Sampler.sample()` / a loop in C, 10,000 sockets", bound=1.0),
    Target("T7", "bulk", "`sample()` and the sum of a column / a loop in C, 1,000 sockets", 1.15, 1.05, 1.0),
    Target("T8", "bulk", "`sample()` and all records as views / a loop in C, 1,000 sockets", 1.6, 1.45, 1.0),
    Target("T9", "bulk", "loop of `mptcp_info()` / `sample()`, 1,000 sockets", 1.6, 1.75, at_least=True),
    Target("T9s", "bulk", "loop of `socket.getsockopt` + `Struct.unpack` / `sample()`, 1,000 sockets"),
    Target("T15", "bulk", "bytes of a record of `sample()` / of the kernel's struct", 1.0, bound=1.0),
    Target("T17", "diag", "`mptcp_diag()` / a loop of getsockopt(2) in C, 1,000 sockets", 0.95, 0.85),
    Target("T17x", "diag", "`mptcp_diag()` / a loop of getsockopt(2) in C, 10,000 sockets", 0.95, 0.85),
    Target("T11", "ss", "`ss -M -i -n -H` + parse / `sample()`, 100 sockets", 30, 40, at_least=True),
    Target("T10", "ss", "`ss -M -i -n -H` + parse / `sample()`, 1,000 sockets", 8, 10, at_least=True),
    Target("T11x", "ss", "`ss -M -i -n -H` + parse / `sample()`, 10,000 sockets", 3.5, 4.5, at_least=True),
    Target("T12", "ss", "`ss` for one socket of 100 / `mptcp_info()`", 1000, 1300, at_least=True),
    Target("T22", "paths", "`mptcp_diag(subflows=True)` / `ss -Mni; ss -tni`, 1,000 sockets", 0.35),
    Target("T22p", "paths", "the same of one port / of all, beside 18,000 TCP sockets", 0.3),
    Target("T22l", "paths", "`mptcp_lookup()` by addresses / `mptcp_info()`", 21, 18),
    Target("T22t", "paths", "`mptcp_lookup()` by token / `mptcp_info()`", 21, 18),
    Target("T23", "commands", "`show --json` / `ss -Mnip; ss -tnip`, 1,000 sockets of 50 processes", 3, 2),
    Target("T23t", "commands", "the same of `show`", 3, 2),
    Target("T24", "commands", "a look at 1,000 sockets every second, in cores", 0.03, 0.01),
    Target("T24r", "commands", "recording 1,000 sockets ten times a second, in cores", 1, 0.5),
    Target("T27", "servers", "GET, FastAPI on uvicorn by `listen` / on TCP with NODELAY (wall)", 1.2, 1.1),
    Target("T27m", "servers", "the same by `listen`, with MPTCPMiddleware / without (wall)", 1.25, 1.1),
    Target("T27u", "servers", "MPTCPMiddleware: an unknown address / a client of 1,000", 2.0, 1.0),
    Target("T28", "loads", "CPU of a connection at 1,000/s: `reuseport` / a pool of threads", 0.7, 0.6),
    Target("T28c", "loads", "connections per second, 48 at once: `reuseport` / C (wall)", 0.55, 0.7,
           at_least=True),
    Target("T28p", "loads", "the same per second of the loader's CPU", at_least=True),
    Target("T25", "aio", "two writes each way on asyncio: `aio` / TCP with NODELAY (wall)", 1.25, 1.15),
    Target("T25u", "aio", "the same on uvloop (wall)", 1.6, 1.25),
    Target("T26", "aio", "`aio.create_connection()` / asyncio's over TCP (wall)", 1.3, 1.25),
    Target("T14", "import", "`import mptcp_sockopt` / `import socket`", 1.8, 1.6, 1.0),
    Target("T14m", "import", "of dataclasses, ctypes, cffi and numpy, how many it imports", 0),
    Target("T13", "pause", "longest pauses (p99.9) of another thread: sampling a busy sender / not (wall)",
           3.0, 1.5, 1.0),
    Target("T13s", "pause", "the same pauses: `mptcp_info()` / `socket.getsockopt` (wall)", 0.5),
    Target("T13g", "pause", "the same pauses: `socket.getsockopt` / not sampling (wall)"),
    Target("T18", "soak", "memory under churn: last third / middle third", 1.02, 1.01, 1.0),
    Target("T18f", "soak", "descriptors leaked under churn", 0),
    Target("T18c", "soak", "connections that came and went / live ones", 0.1, 1.0, at_least=True),
]  # fmt: skip

# Nothing is judged on a machine whose system calls cost other than usual.
SANITY = {"S1": (1.8, 2.2), "S2": (1.8, 2.2)}

Results = Mapping[str, Spread]


def usual(results: Results) -> bool:
    """Whether system calls cost here what they usually do, as far as that was measured."""
    return all(low <= results[key].median <= high for key, (low, high) in SANITY.items() if key in results)


def bound_of(target: Target, results: Results) -> float | None:
    if isinstance(target.bound, str):
        return results[target.bound].median if target.bound in results else None
    return target.bound


def verdict(target: Target, results: Results) -> str:
    """ambitious, ok, above or below (the gate); recorded where nothing is judged; missing."""
    if target.key not in results:
        return "missing"
    if target.gate is None or not usual(results):
        return "recorded"
    badness = target.badness(results[target.key].median)
    if target.aim is not None and badness <= target.badness(target.aim):
        return "ambitious"
    if badness <= target.badness(target.gate):
        return "ok"
    return "below" if target.at_least else "above"
