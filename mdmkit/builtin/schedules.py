"""Noise schedules: how much of the text survives to time t."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.hookspecs import hookimpl
from mdmkit.options import option


@frozen(kw_only=True)
class Linear:
    """alpha_t = 1 − (1 − ε)·t, the log-linear schedule: sigma_t = −log(1 − (1 − ε)t).

    The weight of the NELBO is 1/t for every ε. With ε = 0 the bound is exact; MDLM
    (arXiv 2406.07524, §C) uses ε = 1e-3, with which alpha ends at ε instead of 0.
    """

    eps: float = option(0.0, ge=0, lt=1, doc="what survives at t = 1")

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability, ``[B] -> [B]``."""
        return 1 - (1 - self.eps) * t

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative, ``[B] -> [B]``: constant."""
        return torch.full_like(t, self.eps - 1)


@frozen(kw_only=True)
class Cosine:
    """alpha_t = 1 − cos(π/2·(1 − t)): slow at the masked end (MD4, arXiv 2406.04329).

    The mask ratio cos(π/2·(1 − t)) is MaskGIT's (arXiv 2202.04200) read backwards in time.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability, ``[B] -> [B]``."""
        return 1 - torch.cos(math.pi / 2 * (1 - t))

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative, ``[B] -> [B]``."""
        return -math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))


@frozen(kw_only=True)
class Polynomial:
    """alpha_t = 1 − t^p: the mask ratio grows as a power of t (MD4, arXiv 2406.04329).

    The weight of the NELBO is p/t. With p = 1 it is the linear schedule; a larger p spends more
    of the time on low mask ratios.
    """

    power: float = option(2.0, ge=0.2, le=5, doc="p, the exponent of t")

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability, ``[B] -> [B]``."""
        return 1 - t**self.power

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative −p·t^(p−1), ``[B] -> [B]``; infinite at t = 0 where p < 1."""
        return -self.power * t ** (self.power - 1)


@frozen(kw_only=True)
class Geometric:
    """alpha_t = exp(−sigma_t), sigma_t = sigma_min^(1−t)·sigma_max^t, which grows geometrically.

    SEDD (arXiv 2310.16834) and, with our defaults, MD4 (arXiv 2406.04329). It stops
    short of both ends: alpha falls from exp(−sigma_min) to exp(−sigma_max), with the defaults
    from 1 − 1e-5 to 2e-9, so the bound leaves out the mask ratios below 1 − exp(−sigma_min) and
    above 1 − exp(−sigma_max).
    """

    sigma_min: float = option(1e-5, ge=1e-9, le=1, doc="sigma at t = 0")
    sigma_max: float = option(20.0, gt=0, le=100, doc="sigma at t = 1; above sigma_min")

    def __attrs_post_init__(self) -> None:
        """Refuse a sigma that does not grow."""
        if self.sigma_max <= self.sigma_min:
            raise ValueError(
                f"sigma_max must be above sigma_min: got sigma_min = {self.sigma_min:g} and "
                f"sigma_max = {self.sigma_max:g}"
            )

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability, ``[B] -> [B]``."""
        return torch.exp(-self._sigma(t))

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative −sigma'_t·alpha_t, ``[B] -> [B]``, sigma' = sigma·ln(max/min)."""
        sigma = self._sigma(t)
        return -math.log(self.sigma_max / self.sigma_min) * sigma * torch.exp(-sigma)

    def _sigma(self, t: Tensor) -> Tensor:
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return torch.exp(low + (high - low) * t)


@hookimpl
def mdmkit_noise_schedules() -> Mapping[str, type]:
    """The schedules of this module."""
    return {
        "linear": Linear,
        "cosine": Cosine,
        "polynomial": Polynomial,
        "geometric": Geometric,
    }


def contract_examples(directory: Path) -> Iterator[tuple[Any, dict[str, Any]]]:  # noqa: ARG001
    """What `mdmkit.testing` tries: schedules that stop short say where."""
    yield Linear(), {}
    yield Linear(eps=1e-3), {"ends": (1.0, 1e-3)}
    yield Geometric(), {"ends": (math.exp(-1e-5), math.exp(-20.0))}
