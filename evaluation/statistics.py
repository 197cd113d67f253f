"""Intervals, bands and tests, each in the plainest form that holds for small samples.

Nothing here knows attacks. Several seeds on one image are no independent observations, so every
interval takes the number of *images* as its sample size, however many rows there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval; ``None`` where the data do not determine a bound.

    Attributes:
        value: The point estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None


UNKNOWN = Estimate()


def finite(value: float) -> float | None:
    """``None`` for NaN and infinity, which JSON cannot hold."""
    return float(value) if math.isfinite(value) else None


def normal_quantile(confidence: float) -> float:
    """The two-sided quantile z of the normal distribution: 1.96 for 95 %.

    Raises:
        ValueError: If ``confidence`` does not lie strictly between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence strictly between 0 and 1, got {confidence!r}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(proportion: float, n: int, confidence: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval [#Wil]_.

    Args:
        proportion: The observed share, from 0 to 1.
        n: Number of independent observations; without any, value and bounds are ``None``.
        confidence: Nominal coverage.

    References:
        .. [#Wil] Wilson, "Probable inference, the law of succession, and statistical inference",
           JASA 1927.
    """
    z = normal_quantile(confidence)
    if n == 0:
        return UNKNOWN
    centre = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(proportion * (1 - proportion) / n + (z / (2 * n)) ** 2)
    return Estimate(
        float(proportion),
        0.0 if proportion == 0 else max(0.0, centre - half),
        1.0 if proportion == 1 else min(1.0, centre + half),
    )


def dkw(n: int, confidence: float = 0.95) -> float:
    """Half the width of a band that holds a whole distribution function at once [#Mas]_.

    The Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant: no assumption, any ``n``.

    References:
        .. [#Mas] Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality",
           Annals of Probability 1990.
    """
    normal_quantile(confidence)
    return math.sqrt(math.log(2 / (1 - confidence)) / (2 * n)) if n else 1.0


def quantile(values: Floats, q: float, n: int | None = None, confidence: float = 0.95) -> Estimate:
    """A quantile with the interval of the distances at which a score test does not reject it.

    Args:
        values: Observations, infinite where an attack failed.
        q: The quantile's level, strictly between 0 and 1.
        n: Number of independent observations, by default the number of values.
        confidence: Nominal coverage.

    Returns:
        The smallest value that at least a share ``q`` of the observations does not exceed;
        ``None`` where that is infinite.
    """
    n = len(values) if n is None else n
    if n == 0:
        return UNKNOWN
    ordered = np.sort(values)
    half = normal_quantile(confidence) * math.sqrt(q * (1 - q) / n)
    return Estimate(
        finite(_order_statistic(ordered, q)),
        finite(_order_statistic(ordered, q - half)) if q - half > 0 else 0.0,
        finite(_order_statistic(ordered, q + half)) if q + half <= 1 else None,
    )


def _order_statistic(ordered: Floats, q: float) -> float:
    # The small constant undoes float noise: the .07 quantile of a hundred values is the seventh,
    # not the eighth, though 0.07 * 100 comes out above 7.
    return float(ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)])


def standard_error(values: Floats, images: Integers) -> float | None:
    """The standard error of the mean of ``values``, where rows of one image move together.

    Args:
        values: Observations, ``(R,)``.
        images: The image of each row, ``(R,)``.

    Returns:
        ``s / sqrt(n)`` for one row an image, its cluster-robust form for more; ``None`` for fewer
        than two images.
    """
    names, rows = np.unique(images, return_inverse=True)
    if len(names) < 2:
        return None
    residuals = np.bincount(rows, weights=values - values.mean(), minlength=len(names))
    n = len(names)
    return float(math.sqrt(n / (n - 1) * np.square(residuals).sum()) / len(values))


@lru_cache(maxsize=4)
def resamples(n: int, draws: int, seed: int) -> Floats:
    """How often each of ``n`` images occurs in each of ``draws`` bootstrap samples, ``(draws, n)``.

    The same counts serve all attacks, so that their bootstrap distributions are paired.
    """
    generator = np.random.default_rng(seed)
    counts = np.empty((draws, n))
    for draw in counts:
        draw[:] = np.bincount(generator.integers(n, size=n), minlength=n)
    counts.setflags(write=False)
    return counts


def weighted_sums(counts: Floats, values: Floats) -> Floats:
    """The sum of ``values`` ``(n,)`` over each bootstrap sample of ``counts`` ``(draws, n)``.

    Not a matrix product, whose last digits may depend on the number of threads.
    """
    return np.asarray(np.einsum("bn,n->b", counts, values, optimize=False))


def percentile_interval(draws: Floats, value: float, confidence: float = 0.95) -> Estimate:
    """The percentile bootstrap interval around ``value``; draws that are undefined are left out."""
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        return Estimate(finite(value))
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(finite(value), float(low), float(high))


def sign_test(wins: int, losses: int) -> float:
    """The two-sided p-value of the exact sign test; ties are left out. McNemar's exact test too."""
    if wins + losses == 0:
        return 1.0
    # Not scipy.stats, whose import takes as long as a small run's summary.
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def signed_rank_test(a: Floats, b: Floats) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test on pairs, where infinity means failure.

    A pair in which one side failed counts as the largest difference; two failures are a tie.
    """
    both = np.isfinite(a) | np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) == 0 or np.array_equal(a, b):
        return 1.0
    from scipy.stats import wilcoxon

    # Beyond twice the largest distance any failure outranks every difference of two successes.
    ceiling = 2 * max(np.max(x[np.isfinite(x)], initial=0.0) for x in (a, b)) + 1
    difference = np.minimum(a, ceiling) - np.minimum(b, ceiling)
    return float(wilcoxon(difference, zero_method="wilcox").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: below alpha together, they err with probability at most alpha.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    adjusted: list[float] = [1.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def jsonable(value: Any) -> Any:
    """Plain dictionaries, lists, strings and numbers, with ``None`` for NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return [jsonable(item) for item in value.tolist()]
    if isinstance(value, float):
        return finite(value)
    return value
