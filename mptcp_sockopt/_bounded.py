# SPDX-License-Identifier: MIT
"""What stays small however long it counts: values of a label, and histograms. For metrics.py."""

from __future__ import annotations

import bisect

#: More values of a label than these become OTHER: a host may have many addresses one after another.
MOST_LABELS = 64
OTHER = "other"
RTT_BOUNDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SHARE_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)


class Histogram:
    """How often a value was within which bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value


class Labels:
    """The values of a label, of which there are at most so many."""

    def __init__(self, most: int = MOST_LABELS) -> None:
        self._known: set[str] = set()
        self._most = most

    def of(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value
