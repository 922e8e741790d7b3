# SPDX-License-Identifier: MIT
"""What counts allow to say, against tables, and against what happens to those who believe it."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from reuseport import _statistics
from reuseport._statistics import Restarts, at_most, binomial_cdf, chi_square, clopper_pearson


@pytest.mark.parametrize(
    ("statistic", "degrees", "p"),
    [(3.841459, 1, 0.05), (5.991465, 2, 0.05), (14.06714, 7, 0.05), (18.47531, 7, 0.01), (6.345811, 7, 0.5)],
)
def test_chi_square_against_tables(statistic: float, degrees: int, p: float) -> None:
    """Critical values as printed in tables."""
    assert math.isclose(_statistics.upper_gamma(degrees / 2, statistic / 2), p, rel_tol=1e-5)


def test_chi_square_of_shares() -> None:
    """Even shares are p 1, a skewed one p 0, and random ones in between."""
    assert chi_square([100] * 8) == (0.0, 1.0)
    assert chi_square([800, 0, 0, 0, 0, 0, 0, 0])[1] < 1e-100
    shares = [0] * 8
    draw = random.Random(1)
    for _ in range(10_000):
        shares[draw.randrange(8)] += 1
    assert 0.001 < chi_square(shares)[1] < 0.999


# ----------------------------------------------------------------------------------------- proportions


def exact_cdf(hits: int, trials: int, p: Fraction) -> Fraction:
    """In whole numbers."""
    return sum(
        (math.comb(trials, n) * p**n * (1 - p) ** (trials - n) for n in range(hits + 1)), start=Fraction(0)
    )


@pytest.mark.parametrize("trials", [1, 5, 20, 61, 300])
def test_the_binomial_distribution_is_exact(trials: int) -> None:
    """Against whole numbers, in both tails, where a sum of rounded terms would lose its digits."""
    for p in (Fraction(1, 1000), Fraction(1, 5), Fraction(1, 2), Fraction(97, 100)):
        for hits in {0, 1, trials // 5, trials // 2, trials - 1, trials} - {-1}:
            exact = float(exact_cdf(hits, trials, p))
            assert math.isclose(binomial_cdf(hits, trials, float(p)), exact, rel_tol=1e-9, abs_tol=1e-12)


def test_the_binomial_distribution_of_many() -> None:
    """Its mean is in the middle; nothing overflows, and far away nothing is left."""
    assert math.isclose(binomial_cdf(500_000, 1_000_000, 0.5), 0.5, abs_tol=1e-3)
    assert binomial_cdf(1000, 1_000_000, 0.5) == 0.0
    assert binomial_cdf(999_999, 1_000_000, 0.5) == 1.0


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (7, 60, 0.048170, 0.225720),
        (1, 10, 0.002529, 0.445016),
        (3, 20, 0.032071, 0.378927),
        (10, 10, 0.691503, 1),
    ],
)
def test_the_interval_against_tables(hits: int, trials: int, low: float, high: float) -> None:
    """As other programs print it, 95 %, both sides."""
    assert clopper_pearson(hits, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("trials", [5, 12, 60, 999])
def test_the_bound_of_no_hit(trials: int) -> None:
    """A truth above it would show itself in 95 % of the cases."""
    assert math.isclose(at_most(0, trials), 1 - 0.05 ** (1 / trials), rel_tol=1e-9)


@pytest.mark.parametrize("trials", [5, 20, 60])
def test_a_stated_bound_is_seldom_below_the_truth(trials: int) -> None:
    """Whatever the truth is: exactly, by the odds of all that may be seen."""
    stated = [Restarts(trials, (1,) * hits + (0,) * (trials - hits)).at_most for hits in range(trials + 1)]
    lows = [Restarts(trials, (1,) * hits + (0,) * (trials - hits)).interval[0] for hits in range(trials + 1)]
    for truth in (n / 200 for n in range(1, 200)):
        odds = [
            math.comb(trials, hits) * truth**hits * (1 - truth) ** (trials - hits)
            for hits in range(trials + 1)
        ]
        assert sum(odd for odd, bound in zip(odds, stated, strict=True) if bound < truth) <= 0.0501
        assert sum(odd for odd, low in zip(odds, lows, strict=True) if low > truth) <= 0.0501


def test_audits_of_a_server_that_loses_at_one_restart_in_five() -> None:
    """Of 100 with 5 restarts none states a bound below the truth; of 100 with 20, at most five do."""
    draw = random.Random(14)

    def wrong(restarts: int) -> int:
        found = 0
        for _ in range(100):
            losses = tuple(int(draw.random() < 0.2) * 50 for _ in range(restarts))
            found += Restarts(restarts, losses).at_most < 0.2
        return found

    for _ in range(20):
        assert wrong(5) == 0
        assert wrong(20) <= 5


# -------------------------------------------------------------------------------------------- restarts


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        ((0,) * 60, "0 of 60 restarts lost anybody (at most 4.9 % do, 95 %)"),
        (
            (0,) * 53 + (1, 1, 2, 2, 2, 12, 3),
            "7 of 60 restarts lost somebody (4.8-23 %, 95 %); where they did: median 2, most 12",
        ),
        ((4,) * 5, "5 of 5 restarts lost somebody (55-100 %, 95 %); where they did: median 4, most 4"),
        ((0, 1, 2), "2 of 3 restarts lost somebody (9.4-99 %, 95 %); where they did: median 1.5, most 2"),
        ((), "0 of 0 restarts lost anybody (at most 100 % do, 95 %)"),
        ((0,) * 1000, "0 of 1,000 restarts lost anybody (at most 0.3 % do, 95 %)"),
    ],
)
def test_the_sentence(losses: tuple[int, ...], sentence: str) -> None:
    """As every command says it."""
    assert Restarts(len(losses), losses).sentence() == sentence


def test_as_json() -> None:
    """All that the sentence is made of, and the counts."""
    found = Restarts(8, (0, 0, 3, 0, 0)).asdict()
    assert found.pop("at_most") == pytest.approx(0.716418, abs=1e-6)
    assert found == {"asked": 8, "judged": 5, "losing": 1, "confidence": 0.95, "losses": [0, 0, 3, 0, 0]}
