# SPDX-License-Identifier: MIT
"""How anything here is measured: ratios inside one interleaved run.

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
from typing import NamedTuple, TypeVar

BLOCK = 5_000_000  # ns of one variant in one round

Variant = Callable[[int], object]  # does its thing that many times
Clock = Callable[[], int]  # ns
T = TypeVar("T")


class Missing(Exception):  # noqa: N818  # it is no error of this program
    """What this machine lacks for a measurement."""


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


def thread_cpu() -> int:
    """What this thread used: for all that has one thread."""
    return time.thread_time_ns()


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


def interleave(variants: Mapping[str, Variant], rounds: int, clock: Clock = thread_cpu) -> Costs:
    """Every variant once a round, shuffled."""
    times = {name: calibrate(variant, clock) for name, variant in variants.items()}
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            begun = clock()
            variants[name](times[name])
            found[name].append((clock() - begun) / times[name])
    return Costs(found)
