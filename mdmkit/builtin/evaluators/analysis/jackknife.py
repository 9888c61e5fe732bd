"""Standard errors by leaving out one of some independent repetitions at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def jackknifed(statistic: Callable[..., Tensor], *counts: int) -> tuple[Tensor, Tensor]:
    """A statistic of one or more samples, and its standard error.

    From n values θ_i of the statistic without repetition i the variance is (n − 1)/n·Σ(θ_i − θ̄)²;
    of several independent samples the variances add up (Efron & Stein, Ann. Statist. 9, 1981).

    Args:
        statistic: ``statistic(kept, …)`` of the numbers of the repetitions that are kept, ``[n]``
            int64 for each sample; float64 of any shape.
        counts: how many repetitions each sample has, at least 2.
    """
    every = [torch.arange(count) for count in counts]
    value, variance = statistic(*every), torch.zeros(())
    for place, count in enumerate(counts):
        without = []
        for left_out in range(count):
            kept = [*every]
            kept[place] = every[place][every[place] != left_out]
            without.append(statistic(*kept))
        spread = torch.stack(without).var(0, correction=0)
        variance = variance + (count - 1) * spread
    return value, variance.sqrt()
