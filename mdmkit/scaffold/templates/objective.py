"""An objective for mdmkit: masked diffusion whose weights are bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from attrs import evolve, frozen
from torch import Tensor

from mdmkit import component, hookimpl, option
from mdmkit.protocols import (
    Denoiser,
    Draws,
    Objective,
    ObjectiveContext,
    ObjectiveOptions,
    Prediction,
)
from mdmkit.values import Batch, Bound, Loss, Noised

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """Trains like another objective, but no cross-entropy weighs more than ``most``.

    It is evaluated by the other one: a bound does not depend on how the network was trained.
    """

    base: ObjectiveOptions = component("masked_diffusion", doc="whose weights they are")
    most: float = option(5.0, gt=0, doc="the largest weight of a token")
    needs: ClassVar[frozenset[str]] = frozenset()
    prediction: ClassVar[Prediction] = "masked"

    def build(self, context: ObjectiveContext) -> LiveExample:
        """The live objective, around the other one."""
        return LiveExample(options=self, base=self.base.build(context))


@frozen(kw_only=True, eq=False)
class LiveExample:
    """`Example` in a run."""

    options: Example
    base: Objective

    @property
    def exact(self) -> bool:
        """Whether `bound` is exact."""
        return self.base.exact

    @property
    def group(self) -> int:
        """Rows that share one sequence."""
        return self.base.group

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:
        """The other's task, its weights ``[B, L]`` cut off."""
        noised = self.base.corrupt(batch, draws)
        return evolve(noised, weights=noised.weights.clamp(max=self.options.most))

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """The weighted sum of cross-entropies."""
        return self.base.loss(denoiser, noised)

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:
        """One unbiased estimate of each row's NELBO."""
        return self.base.bound(denoiser, batch, draws)

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """The cross-entropy of each token under ``mask``, ``[B, L]``."""
        return self.base.nll(denoiser, batch, mask)


@hookimpl
def mdmkit_objectives() -> Mapping[str, type[ObjectiveOptions]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}
