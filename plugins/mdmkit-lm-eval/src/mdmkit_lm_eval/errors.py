"""Errors of the harness's metrics: over documents, and due to the draws of masks.

A metric is an aggregation of one item a document: a mean of zeros and ones, or the exponential of
a ratio of sums, say. What items there are and how they are aggregated is the harness's business;
here the items come with a version by each half of the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from attrs import frozen

RESAMPLES = 200
"""Their standard deviation is then known to 5%."""

Aggregate = Callable[[list[Any]], Any]


@frozen(kw_only=True)
class Items:
    """What each document gives to a metric.

    Attributes:
        all: by all draws.
        halves: by either half of them.
    """

    all: list[Any]
    halves: tuple[list[Any], list[Any]]


def draws_stderr(items: Items, aggregate: Aggregate, *, is_mean: bool) -> float:
    """The standard error of a metric that is due to the draws.

    The halves are independent, so that a document's d = (one half − the other)/2 has the variance
    of their mean. An item that is such a mean (a likelihood) has just that; one that is not (who
    has the highest likelihood) is taken to have the variance of one half, twice as much, which is
    an upper bound as it is for mdmkit's own accuracies.

    Args:
        items: of N documents.
        aggregate: makes the metric of N items.
        is_mean: whether that is their mean.
    """
    if items.halves[0] == items.halves[1]:
        return 0.0
    factor = 1.0 if _are_means(items) else math.sqrt(2)
    one, two = items.halves
    if is_mean:
        apart = np.asarray(one, dtype=np.float64) - np.asarray(two, dtype=np.float64)
        return factor * float(np.sqrt(np.square(apart).sum())) / (2 * len(one))
    coins = np.random.default_rng(0).integers(0, 2, size=(RESAMPLES, len(one)))
    found = [
        aggregate([(one, two)[coin][i] for i, coin in enumerate(row)]) for row in coins.tolist()
    ]
    return factor * float(np.std(found))


def bootstrap_stderr(items: Sequence[Any], aggregate: Aggregate) -> float:
    """The standard error of a metric over documents, by resampling them."""
    places = np.random.default_rng(0).integers(0, len(items), size=(RESAMPLES, len(items)))
    return float(np.std([aggregate([items[i] for i in row]) for row in places.tolist()]))


def _are_means(items: Items) -> bool:
    """Whether each item is the mean of its halves, number by number."""
    for whole, one, two in zip(items.all, *items.halves, strict=True):
        numbers = zip(_numbers(whole), _numbers(one), _numbers(two), strict=False)
        if not all(math.isclose(x, (a + b) / 2, rel_tol=1e-9, abs_tol=1e-9) for x, a, b in numbers):
            return False
    return True


def _numbers(item: Any) -> Iterable[float]:
    if isinstance(item, list | tuple | np.ndarray):
        for part in item:
            yield from _numbers(part)
    else:
        yield float(item)
