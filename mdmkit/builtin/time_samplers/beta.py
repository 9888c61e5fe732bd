"""The beta density of t, for any a and b."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional

from mdmkit.diffusion import TINY, invert_increasing
from mdmkit.options import option

_REACH = 60.0  # cells cover logit t in ±60, past everything that float64 holds between 0 and 1
_CELLS = 4096  # 0.03 wide; the narrowest density, a = b = 1000, has a deviation of 0.045 there
_HALVINGS = 44  # of a cell: logit t to 2e-15


@frozen(kw_only=True)
class Beta:
    """t ~ Beta(a, b): q(t) = t^(a−1)·(1 − t)^(b−1) / B(a, b).

    Beta(2, 2), the default, is 6·t·(1 − t): what `information_rate` is where the cross-entropy h
    is linear in t. a = b narrows around 1/2 as it grows (standard deviation 1/(2·sqrt(2a + 1)));
    with a ≤ 1 or b ≤ 1 the density does not vanish at that end. Below 1/4 a share of the mass
    would lie where float64 has no numbers, hence the bound.
    """

    a: float = option(2.0, ge=0.25, le=1000, doc="exponent of t, plus 1")
    b: float = option(2.0, ge=0.25, le=1000, doc="exponent of 1 − t, plus 1")

    def at(self, step: int) -> Beta:  # noqa: ARG002 - the same at every step
        """Itself: the density does not change."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """The quantile of u, ``[B] -> [B]`` float64, exact to rounding."""
        u = u.double()
        edges, reached = _cells(self.a, self.b)
        cell = (torch.searchsorted(reached, u, right=True) - 1).clamp(0, _CELLS - 1)
        start, width = edges[cell], 2 * _REACH / _CELLS
        wanted = u - reached[cell]
        share = invert_increasing(
            lambda x: _mass_between(start, start + x * width, self.a, self.b),
            wanted,
            steps=_HALVINGS,
        )
        return (start + share * width).sigmoid().clamp(TINY, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``."""
        log_q = torch.xlogy(t.new_tensor(self.a - 1), t)
        log_q = log_q + torch.special.xlog1py(t.new_tensor(self.b - 1), -t)
        return torch.exp(log_q - _log_beta(self.a, self.b))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _mass_between(low: Tensor, high: Tensor, a: float, b: float) -> Tensor:
    """The mass of Beta(a, b) between two logits of t, by Gauss-Legendre: ``[B] -> [B]``.

    In s = logit t the density is sigmoid(s)^a·sigmoid(−s)^b / B(a, b): smooth at both ends,
    whatever a and b are, which q(t) is not.
    """
    points, weights = _gauss_legendre()
    s = low[:, None] + (high - low)[:, None] * points  # [B, 8]
    log_p = a * functional.logsigmoid(s) + b * functional.logsigmoid(-s) - _log_beta(a, b)
    return (high - low) * (log_p.exp() @ weights)


@lru_cache(maxsize=32)
def _cells(a: float, b: float) -> tuple[Tensor, Tensor]:
    """Edges of equal cells of logit t, and the mass of Beta(a, b) below each of them."""
    edges = torch.linspace(-_REACH, _REACH, _CELLS + 1, dtype=torch.float64)
    below = math.exp(-a * _REACH - _log_beta(a, b)) / a  # I_t(a, b) → t^a/(a·B(a, b)) for t → 0
    reached = edges.new_full((_CELLS + 1,), below)
    reached[1:] += _mass_between(edges[:-1], edges[1:], a, b).cumsum(0)
    return edges, reached


@lru_cache(maxsize=1)
def _gauss_legendre() -> tuple[Tensor, Tensor]:
    """Eight points and weights on (0, 1), from the Jacobi matrix (Golub and Welsch, 1969)."""
    k = torch.arange(1, 8, dtype=torch.float64)
    off = k / (4 * k**2 - 1).sqrt()
    points, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return (points + 1) / 2, vectors[0] ** 2
