"""How many tokens a sampler of few steps draws at each mask count, in expectation.

With L masks at the start and T steps, a mask is still there before step j with probability
s_j = (1 − alpha_{t_j})/(1 − alpha_{t_0}), independently, so m_j ~ Bin(L, s_j); of m_j masks the
step lifts c_j·m_j in expectation, c_j = 1 − s_{j+1}/s_j, and which they are does not depend on the
text. Everything here is float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdmkit.protocols import NoiseSchedule

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Mask rates at which h is told; 0 stands for one masked token."""


def survival(schedule: NoiseSchedule, steps: int) -> Tensor:
    """s_0 … s_T of equal steps from t = 1 to 0: ``[T + 1]``, from 1 to 0, for the last lifts all.

    Args:
        schedule: gives alpha_t.
        steps: T.
    """
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    masked = 1 - schedule.alpha(times)
    left = masked / masked[0]
    left[-1] = 0.0
    return left


def drawn_at(left: Tensor, length: int) -> Tensor:
    """E Σ_j n_j·[m_j = m], the tokens that are drawn while m are masked, m = 1..L: ``[L]``.

    They sum to L. One at a time they would be 1 everywhere.

    Args:
        left: ``[T + 1]``, see `survival`.
        length: L.
    """
    counts = torch.arange(length + 1, dtype=torch.float64)
    ways = math.lgamma(length + 1) - torch.lgamma(counts + 1) - torch.lgamma(length - counts + 1)
    before, after = left[:-1, None], left[1:, None]  # [T, 1]
    lifted = torch.where(before > 0, 1 - after / before.clamp(min=1e-300), 0.0)
    chance: Tensor = torch.exp(
        ways + torch.xlogy(counts, before) + torch.special.xlog1py(length - counts, -before)
    )  # [T, L + 1], that of Bin(L, s_j)
    return (lifted * counts * chance).sum(0)[1:]


def spread_counts(length: Tensor, points: int) -> Tensor:
    """Mask counts from 1 to L, closest together near both ends: ``[B, K]`` int64.

    h changes most where nearly all is masked, and short steps matter where little is. None is
    there twice; for points >= L they are all of them, and those beyond L some of them again.

    Args:
        length: ``[B]`` int64, L of each row.
        points: K, at least 2.
    """
    number = torch.arange(points)
    place = number.double() / (points - 1)
    bent = (1 - (math.pi * place).cos()) / 2
    share = torch.where((points >= length)[:, None], place, bent)
    most = length[:, None]
    counts = (1 + (most - 1) * share).round().long()
    # neighbours that are the same after rounding move apart, away from the ends
    apart = (counts - number).cummax(-1).values.minimum(most - points + 1) + number
    return torch.where(points < most, apart, counts.minimum(most))


def interpolation(counts: Tensor, at: Tensor) -> Tensor:
    """The weights of values at `counts` in those at other places, linear in between: ``[M, K]``.

    Args:
        counts: ``[K]`` int64, rising.
        at: ``[M]`` float64 within their range.
    """
    known = counts.double()
    lower = (torch.searchsorted(known, at, right=True) - 1).clamp(0, len(counts) - 2)
    width = (known[lower + 1] - known[lower]).clamp(min=1)
    share = ((at - known[lower]) / width)[:, None]
    rows = at.new_zeros(len(at), len(counts))
    rows.scatter_(1, lower[:, None], 1 - share)
    return rows.scatter_(1, lower[:, None] + 1, share)


def curve_weights(
    counts: Tensor, length: int, *, steps: Sequence[int], schedule: NoiseSchedule
) -> dict[str, Tensor]:
    """For each measurement of a text of L tokens the weights of h that give its nats: ``[K]``.

    Args:
        counts: ``[K]`` int64, rising, at which h is known.
        length: L.
        steps: each T that is predicted.
        schedule: of the run.
    """
    every = interpolation(counts, torch.arange(1.0, length + 1, dtype=torch.float64))
    told = torch.tensor([max(rate * length, 1.0) for rate in RATES], dtype=torch.float64)
    at = length * interpolation(counts, told)  # [R, K]
    weights = {f"h_{rate:g}": row for rate, row in zip(RATES, at, strict=True)}
    weights["h_mean"] = every.sum(0)
    for total in steps:
        drawn = drawn_at(survival(schedule, total), length)
        weights[f"predicted_error_{total}"] = (drawn - 1) @ every
        weights[f"leading_error_{total}"] = (at[-1] - at[0]) / (2 * total)
    return weights
