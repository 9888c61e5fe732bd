"""Weights between the NELBO's and none, as functions of the mask ratio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.weightings.plain import NORMALIZER_DOC
from mdmkit.diffusion import nelbo_weight
from mdmkit.options import option
from mdmkit.protocols import Normalizer

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


@frozen(kw_only=True)
class Clipped:
    """The weight of the NELBO, held between a least and a largest value.

    clip(−alpha'_t/(1 − alpha_t), ``min_weight``, ``max_weight``)/q(t), after GIDD
    (arXiv 2503.04482), which bounds the weights of its own NELBO. The density q is divided out,
    so whatever it is the loss is, with the linear schedule and independent masks,

        ∫ t·clip(1/t, min, max)·h(t) dt:  h weighs min(1, max·t) where min is 0.

    That is no NELBO where something is clipped. The defaults are our choice.
    """

    min_weight: float = option(0.0, ge=0, doc="the least weight, before 1/q; 0: none")
    max_weight: float = option(10.0, gt=0, doc="the largest weight, before 1/q")
    normalizer: Normalizer = option("tokens", doc=NORMALIZER_DOC)

    def check(self, recipe: Recipe) -> Iterator[str]:  # noqa: ARG002 - it knows enough itself
        """Bounds the wrong way round."""
        if self.min_weight > self.max_weight:
            yield f"min_weight: {self.min_weight:g} is above max_weight ({self.max_weight:g})"

    def weight(self, *, alpha_t: Tensor, dalpha_t: Tensor, density: Tensor, **_: Any) -> Tensor:
        """``[B]`` float64, see the class."""
        nelbo = nelbo_weight(alpha_t, dalpha_t)
        return nelbo.clamp(self.min_weight, self.max_weight) / density


@frozen(kw_only=True)
class Power:
    """A power of the mask ratio r = 1 − alpha_t or of t: r^k or t^k.

    *Not* divided by the density q. With the linear schedule, where r = t, and independent masks
    the loss over tokens is ∫ q(t)·t^(k + 1)·h(t) dt: k = −1 is ``inverse_t``, k = 0 ``flat``.
    The family is ours.
    """

    exponent: float = option(-0.5, ge=-1, le=4, doc="k")
    of: Literal["mask_ratio", "t"] = option("mask_ratio", doc="what is raised to it")
    normalizer: Normalizer = option("tokens", doc=NORMALIZER_DOC)

    def weight(self, *, t: Tensor, alpha_t: Tensor, **_: Any) -> Tensor:
        """``[B]`` float64, see the class."""
        base = {"mask_ratio": 1 - alpha_t, "t": t}[self.of]
        return base.pow(self.exponent)


@frozen(kw_only=True)
class Sigmoid:
    """The weight of the NELBO times sigmoid(b − λ_t), λ_t = log(alpha_t/(1 − alpha_t)).

    λ is the log signal-to-noise ratio of masked diffusion (MD4, arXiv 2406.04329). A sigmoid of
    it as a weight on the bound is from diffusion of images (VDM++, arXiv 2303.00848, and
    Simpler Diffusion, arXiv 2410.19324); that reweighted bounds are bounds of their own, in
    masked diffusion too, is in arXiv 2511.19664. The token weight is
    sigmoid(b − λ_t)·(−alpha'_t/(1 − alpha_t))/q(t), so for every density q and independent masks
    the loss over tokens is

        ∫ c·r/(1 − r + c·r)·h(r) dr,  c = e^b,  r = 1 − alpha_t.

    b = 0 gives h the weight r, the objective of ``flat`` with a uniform mask ratio; the NELBO is
    the limit of large b.
    """

    bias: float = option(0.0, ge=-20, le=20, doc="b; larger is nearer to the NELBO")
    normalizer: Normalizer = option("tokens", doc=NORMALIZER_DOC)

    def weight(self, *, alpha_t: Tensor, dalpha_t: Tensor, density: Tensor, **_: Any) -> Tensor:
        """``[B]`` float64, see the class."""
        log_snr = alpha_t.log() - (1 - alpha_t).log()
        return torch.sigmoid(self.bias - log_snr) * nelbo_weight(alpha_t, dalpha_t) / density
