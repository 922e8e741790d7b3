# SPDX-License-Identifier: MIT
"""What counts allow to say: of connections, of restarts, of shares."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


def chi_square(counts: Sequence[int]) -> tuple[float, float]:
    """Pearson's statistic of counts against equal shares, and its p: the odds that chance is as uneven.

    Only for independent draws. Connections are independent if all their 4-tuples differ, because the kernel's
    hash sends the same 4-tuple to the same listener.
    """
    mean = sum(counts) / len(counts)
    statistic = sum((count - mean) ** 2 for count in counts) / mean
    return statistic, upper_gamma((len(counts) - 1) / 2, statistic / 2)


def upper_gamma(a: float, x: float) -> float:
    """Q(a, x), the regularized upper incomplete gamma function, where 2a is a whole number.

    Q(1, x) or Q(1/2, x), then Q(a + 1, x) = Q(a, x) + x^a exp(-x) / gamma(a + 1): DLMF 8.4.5, 8.4.6, 8.8.6.
    """
    if x <= 0:
        return 1.0
    at, found = (1.0, math.exp(-x)) if a % 1 == 0 else (0.5, math.erfc(math.sqrt(x)))
    while at < a:
        found += math.exp(at * math.log(x) - x - math.lgamma(at + 1))
        at += 1
    return min(1.0, found)


# ---------------------------------------------------------------------------------------- proportions


def binomial_cdf(hits: int, trials: int, p: float) -> float:
    """The odds of at most so many hits."""
    if hits >= trials or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if hits < trials * p:
        return _tail(hits, trials, p)
    return 1.0 - _tail(trials - hits - 1, trials, 1 - p)  # of the misses that are left over


def _tail(hits: int, trials: int, p: float) -> float:
    """binomial_cdf() below the mean. The largest term comes first: each is the next one's, times a ratio."""
    log = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    term = math.exp(log + hits * math.log(p) + (trials - hits) * math.log1p(-p))
    total = 0.0
    while hits >= 0 and term > total * 1e-17:
        total += term
        term *= hits / (trials - hits + 1) * (1 - p) / p
        hits -= 1
    return total


def at_most(hits: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The proportion that hides behind so few hits with odds of 1 - confidence (Clopper-Pearson, one side).

    Whatever the truth is, it is above this bound in at most 1 - confidence of the cases.
    """
    if hits >= trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if binomial_cdf(hits, trials, p) > 1 - confidence else (low, p)
    return high


def clopper_pearson(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Both ends of the exact interval. Each is wrong in at most (1 - confidence) / 2 of the cases."""
    side = (1 + confidence) / 2
    return 1 - at_most(trials - hits, trials, side), at_most(hits, trials, side)


class Restarts(NamedTuple):
    """The evidence of restarts: one either loses somebody, or nobody.

    Connections are not independent: if one is lost, so are those beside it. So a restart counts once.
    """

    asked: int
    losses: tuple[int, ...]
    """How many each judged restart lost."""
    confidence: float = CONFIDENCE

    @property
    def judged(self) -> int:
        return len(self.losses)

    @property
    def losing(self) -> int:
        """How many lost somebody."""
        return sum(map(bool, self.losses))

    @property
    def lost(self) -> int:
        """Whom all of them lost."""
        return sum(self.losses)

    @property
    def interval(self) -> tuple[float, float]:
        """Which share of all restarts loses somebody.

        If none did, or each did, only one end says anything, and all that may be wrong is at that end.
        """
        if not self.losing:
            return 0.0, at_most(0, self.judged, self.confidence)
        if self.losing == self.judged:
            return 1 - at_most(0, self.judged, self.confidence), 1.0
        return clopper_pearson(self.losing, self.judged, self.confidence)

    @property
    def at_most(self) -> float:
        """The upper end: it is below the truth in at most 1 - confidence of the cases."""
        return self.interval[1]

    def asdict(self) -> dict[str, object]:
        return {
            "asked": self.asked,
            "judged": self.judged,
            "losing": self.losing,
            "at_most": self.at_most,
            "confidence": self.confidence,
            "losses": list(self.losses),
        }

    def sentence(self) -> str:
        low, high = map(percent, self.interval)
        sure = f"{percent(self.confidence)} %"
        found = f"{self.losing:,} of {self.judged:,} restarts lost"
        if not self.losing:
            return f"{found} anybody (at most {high} % do, {sure})"
        where = [count for count in self.losses if count]
        most = f"median {statistics.median(where):,g}, most {max(where):,}"
        return f"{found} somebody ({low}-{high} %, {sure}); where they did: {most}"


def percent(share: float) -> str:
    """Two digits of it: 0.31, 4.9, 23, 100."""
    found = 100 * share
    return f"{found:.0f}" if found >= 9.95 else f"{found:.2g}"
