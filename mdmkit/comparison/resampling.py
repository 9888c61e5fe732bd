"""The bootstrap over seeds and validation documents, and intervals of censored ratios.

Row 0 of everything here is the data as they are; rows 1 to R are resamples. Both levels draw one
unit fewer than there are, with replacement: then the variance of a resampled mean of n units is
s²/n, where n draws would give (1 − 1/n)·s²/n, half of it for two seeds (McCarthy and Snowden,
Vital and Health Statistics 2(95), 1985; Rao and Wu, JASA 83, 1988).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mdmkit.comparison.smoothing import Floats

Integers = NDArray[np.int64]


@frozen(kw_only=True)
class Bootstrap:
    """Which units each resample takes, as a function of a seed and a name.

    Attributes:
        resamples: R.
        seed: of the bootstrap.
    """

    resamples: int
    seed: int

    def weights(self, units: int, *name: object) -> Floats:
        """How much each of the units counts, ``[1 + R, units]``; every row adds up to 1.

        One unit is no sample: it always counts 1, and the resamples do not vary.

        Args:
            units: n, of which each resample draws n − 1.
            name: equal names give equal draws, which is what pairs two methods.
        """
        same = np.full((1, units), 1 / units)
        if units == 1:
            return np.ones((1 + self.resamples, 1))
        key = zlib.crc32(repr(name).encode())
        source = np.random.Generator(np.random.PCG64([self.seed, key]))
        counts = source.multinomial(units - 1, same[0], size=self.resamples)
        return np.concatenate([same, counts / (units - 1)])


def cluster_sums(values: Floats, clusters: Integers, count: int) -> Floats:
    """Sums over the blocks of each cluster: ``[K, N] -> [K, count]``.

    Args:
        values: ``[K, N]``.
        clusters: ``[N]``, the number of each block's cluster, from 0.
        count: how many clusters there are.
    """
    table = np.zeros((len(values), count))
    for row, out in zip(values, table, strict=True):
        out += np.bincount(clusters, weights=row, minlength=count)
    return table


def resampled_ratios(nats: Floats, tokens: Floats, weights: Floats) -> Floats:
    """Nats per token of each resample: ``[1 + R, K]``.

    Args:
        nats: ``[K, D]``, of each validation and document.
        tokens: ``[D]``.
        weights: ``[1 + R, D]``.
    """
    total = weights @ tokens
    # A resample of few documents can miss all that have tokens in it.
    ratios: Floats = (weights @ nats.T) / np.where(total > 0, total, np.nan)[:, None]
    return ratios


def spread(replicates: Floats) -> float:
    """The standard deviation of the resamples, row 0 left out; 0 where there are fewer than two.

    Args:
        replicates: ``[1 + R]``.
    """
    drawn = replicates[1:][np.isfinite(replicates[1:])]
    return float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0


@frozen(kw_only=True)
class Interval:
    """An interval of a number that may be known by a bound only.

    Attributes:
        low, high: its ends; None where it is open.
    """

    low: float | None
    high: float | None


def interval(low: Floats, high: Floats, confidence: float = 0.95) -> Interval:
    """The percentile interval of resamples that are known to lie between `low` and `high`.

    The lower end is a quantile of the lower bounds and the upper end one of the upper bounds, so
    that a resample of which only a bound is known counts as what it can be at worst.

    Args:
        low, high: ``[R]``, equal where the value is known; −inf and inf where it is unbounded.
        confidence: of the two-sided interval.
    """
    tail = (1 - confidence) / 2
    ends = (
        np.quantile(low, tail, method="lower"),
        np.quantile(high, 1 - tail, method="higher"),
    )
    found = [float(end) if np.isfinite(end) else None for end in ends]
    return Interval(low=found[0], high=found[1])


def one_sided_quantile(degrees: float, probability: float = 0.95) -> float:
    """The quantile of Student's t, found by bisection of its distribution function.

    Args:
        degrees: of freedom, 1 or more; may be fractional.
        probability: between 0.5 and 1.

    >>> round(one_sided_quantile(2.0), 4), round(one_sided_quantile(1e6), 4)
    (2.92, 1.6449)
    """
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        if _student_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_cdf(x: float, degrees: float) -> float:
    """P(T <= x) for x >= 0: with x = √v·tan(a), the density is ∝ cos(a)^(v − 1)."""
    end = np.arctan(x / np.sqrt(degrees))
    nodes, weights = _gauss_legendre()

    def mass(upper: float) -> float:
        angle = (nodes + 1) / 2 * upper
        return float((weights * np.cos(angle) ** (degrees - 1)).sum() * upper / 2)

    return 0.5 + 0.5 * mass(float(end)) / mass(np.pi / 2)


@cache
def _gauss_legendre() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(400)


def mean_of(rows: Sequence[Floats], weights: Floats) -> Floats:
    """The weighted mean over seeds: S curves ``[1 + R, K]``, weights ``[1 + R, S]``."""
    total = np.zeros_like(rows[0])
    for index, row in enumerate(rows):
        total += weights[:, index : index + 1] * row
    return total
