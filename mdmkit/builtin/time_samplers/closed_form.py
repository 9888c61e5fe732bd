"""Densities of t whose quantiles have a closed form, and the bell."""

from __future__ import annotations

import math

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import TINY, invert_increasing
from mdmkit.options import option


@frozen(kw_only=True)
class Uniform:
    """t uniform on [ε, 1): standard training.

    MDLM (arXiv 2406.07524, in its code) draws t in [1e-3, 1]; the NELBO is then truncated by
    that share. Ours is exact by default.
    """

    eps: float = option(0.0, ge=0, lt=1, doc="the smallest t that is drawn")

    def at(self, step: int) -> Uniform:  # noqa: ARG002 - the same at every step
        """Itself: the density does not change."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """t = ε + (1 − ε)·u, ``[B] -> [B]``."""
        return (self.eps + (1 - self.eps) * u).clamp(TINY, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """1/(1 − ε) on [ε, 1), 0 below."""
        return (t >= self.eps).to(t.dtype) / (1 - self.eps)


@frozen(kw_only=True)
class Bell:
    """A normal density truncated to (0, 1), with an optional uniform floor.

    q(t) = (1 − f)·φ((t − c)/w) / (w·(Φ((1 − c)/w) − Φ(−c/w))) + f, with centre c, width w and
    floor f. Bell-shaped time sampling is the remedy of arXiv 2605.13026; the family and its
    defaults are our choice.
    """

    centre: float = option(0.5, ge=0, le=1, doc="mode of the density")
    width: float = option(0.2, gt=0, le=1000, doc="standard deviation before truncation, in t")
    floor: float = option(0.0, ge=0, le=1, doc="share of the mass that is spread uniformly")

    def at(self, step: int) -> Bell:  # noqa: ARG002 - the same at every step
        """Itself: the density does not change."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """The quantile of u, ``[B] -> [B]`` float64: closed form, or bisection with a floor."""
        u = u.double()
        if self.floor > 0:
            return invert_increasing(self._cdf, u)
        low, high = self._tails()
        t: Tensor = self.centre + self.width * torch.special.ndtri(low + (high - low) * u)
        return t.clamp(TINY, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``."""
        z = (t - self.centre) / self.width
        low, high = self._tails()
        normal: Tensor = torch.exp(-z * z / 2) / (
            self.width * math.sqrt(2 * math.pi) * (high - low)
        )
        return (1 - self.floor) * normal + self.floor

    def _cdf(self, t: Tensor) -> Tensor:
        low, high = self._tails()
        normal: Tensor = (torch.special.ndtr((t - self.centre) / self.width) - low) / (high - low)
        return (1 - self.floor) * normal + self.floor * t

    def _tails(self) -> tuple[float, float]:
        """Φ of the two ends, the mass of the untruncated normal below 0 and below 1."""
        ends = torch.tensor([-self.centre, 1 - self.centre], dtype=torch.float64) / self.width
        low, high = torch.special.ndtr(ends).tolist()
        return low, high


@frozen(kw_only=True)
class Window:
    """t uniform on [low, high], and never outside (arXiv 2601.22450).

    Mask ratios outside of the window are not trained at all, so no weight makes the loss the
    whole NELBO.
    """

    low: float = option(0.45, ge=0, lt=1, doc="the smallest t that is drawn")
    high: float = option(0.55, gt=0, le=1, doc="the largest t; above low")

    def __attrs_post_init__(self) -> None:
        """Refuse a window without width."""
        refuse_empty(self.low, self.high)

    def at(self, step: int) -> Window:  # noqa: ARG002 - the same at every step
        """Itself: the density does not change."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """t = low + (high − low)·u, ``[B] -> [B]``."""
        return (self.low + (self.high - self.low) * u).clamp(TINY, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """1/(high − low) on [low, high], 0 elsewhere."""
        inside = (t >= self.low) & (t <= self.high)
        return inside.to(t.dtype) / (self.high - self.low)


@frozen(kw_only=True)
class LogitNormal:
    """t = sigmoid(m + s·z) with z standard normal (arXiv 2403.03206, §3.1).

    q(t) = φ((logit t − m)/s) / (s·t·(1 − t)). With m = 0 it is symmetric; it is a bell up to
    about s = 1.4 and has two modes above.
    """

    mean: float = option(0.0, ge=-5, le=5, doc="m, mean of logit t")
    std: float = option(1.0, gt=0, le=5, doc="s, standard deviation of logit t")

    def at(self, step: int) -> LogitNormal:  # noqa: ARG002 - the same at every step
        """Itself: the density does not change."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """t = sigmoid(m + s·Φ⁻¹(u)), ``[B] -> [B]`` float64."""
        z: Tensor = torch.special.ndtri(u.double())
        return (self.mean + self.std * z).sigmoid().clamp(TINY, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``; 0 at the ends."""
        inside = t.clamp(TINY, 1 - 2.0**-53)
        z = (inside.logit() - self.mean) / self.std
        return torch.exp(-z * z / 2) / (self.std * math.sqrt(2 * math.pi) * inside * (1 - inside))


def refuse_empty(low: float, high: float) -> None:
    """Refuse an interval of t without width.

    Raises:
        ValueError: where `high` is not above `low`.
    """
    if high <= low:
        raise ValueError(f"high must be above low: got low = {low:g} and high = {high:g}")
