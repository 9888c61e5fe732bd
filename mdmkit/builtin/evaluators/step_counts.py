"""How many tokens a sampler of few steps draws at each mask count, in expectation.

With L masks at the start and T steps, a mask is still there before step j with probability
s_j = (1 − alpha_{t_j})/(1 − alpha_{t_0}), independently, so m_j ~ Bin(L, s_j); of m_j masks the
step lifts c_j·m_j in expectation, c_j = 1 − s_{j+1}/s_j, and which they are does not depend on the
text. Everything here is float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdmkit.protocols import NoiseSchedule


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

    h changes most where nearly all is masked, and short steps matter where little is. For
    points >= L they are all of them.

    Args:
        length: ``[B]`` int64, L of each row.
        points: K, at least 2.
    """
    place = torch.arange(points, dtype=torch.float64) / (points - 1)
    bent = (1 - (math.pi * place).cos()) / 2
    share = torch.where((points >= length)[:, None], place, bent)
    return (1 + (length[:, None] - 1) * share).round().long().clamp(max=length[:, None])


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
