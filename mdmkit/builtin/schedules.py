"""Noise schedules: how much of the text survives to time t."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
    """alpha_t = 1 − cos(π/2·(1 − t)): slow at the masked end (MD4, arXiv 2406.04329, table 1).

    The mask ratio cos(π/2·(1 − t)) is MaskGIT's (arXiv 2202.04200) read backwards in time.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability, ``[B] -> [B]``."""
        return 1 - torch.cos(math.pi / 2 * (1 - t))

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative, ``[B] -> [B]``."""
        return -math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))


@hookimpl
def mdmkit_noise_schedules() -> Mapping[str, type]:
    """The schedules of this module."""
    return {"linear": Linear, "cosine": Cosine}
