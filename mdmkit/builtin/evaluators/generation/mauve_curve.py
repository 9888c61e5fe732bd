"""MAUVE of two histograms, and how much it would change with other texts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdmkit.draws import derive_seed

SCALE = 5.0
POINTS = 25
REPLICATES = 200


def mauve_of(p: Tensor, q: Tensor) -> Tensor:
    """Area under the divergence curve (Pillutla et al. 2021, arXiv 2102.01454, eq. 1 to 3).

    With r_w = w·p + (1 − w)·q the curve is (exp(−c·KL(q|r_w)), exp(−c·KL(p|r_w))), c = 5, from
    (1, 0) to (0, 1).

    Args:
        p, q: ``[..., K]`` float64, histograms that sum to 1.

    Returns:
        ``[...]`` in (0, 1]; 1 where they are equal.
    """
    w = torch.linspace(1e-6, 1 - 1e-6, POINTS, dtype=p.dtype)[:, None]  # [W, 1]
    p, q = p[..., None, :], q[..., None, :]
    r = w * p + (1 - w) * q  # [..., W, K]
    x, y = (
        (-SCALE * (torch.xlogy(s, s) - torch.xlogy(s, r)).sum(-1)).exp() for s in (q, p)
    )  # [..., W] each
    one, zero = torch.ones_like(x[..., :1]), torch.zeros_like(x[..., :1])
    x, y = torch.cat([one, x, zero], -1), torch.cat([zero, y, one], -1)
    return -torch.trapezoid(y, x)


def sampling_variance(p: Tensor, q: Tensor, counts: tuple[int, int], seed: int) -> float:
    """Variance of `mauve_of` between samples of texts, the clusters being what they are.

    By a bootstrap: texts fall into the clusters as the histograms say.

    Args:
        p, q: ``[K]`` float64.
        counts: how many texts each is of.
        seed: of the bootstrap.
    """
    source = torch.Generator().manual_seed(derive_seed(seed, "mauve"))
    drawn = []
    for shares, count in zip((p, q), counts, strict=True):
        labels = torch.multinomial(shares, REPLICATES * count, replacement=True, generator=source)
        hits = torch.nn.functional.one_hot(labels.view(REPLICATES, count), len(shares))
        drawn.append(hits.double().mean(1))  # [REPLICATES, K]
    return float(mauve_of(*drawn).var())


def combined_error(between: float, within: float, seeds: int) -> tuple[float, float | None]:
    """Standard error, and the part of it that is due to the seeds.

    Args:
        between: the variance of MAUVE between seeds of the clustering.
        within: its variance between samples of texts.
        seeds: how many there are; of one there is no variance between.
    """
    if seeds == 1:
        return math.sqrt(within), None
    return math.sqrt(within + between / seeds), math.sqrt(between / seeds)
