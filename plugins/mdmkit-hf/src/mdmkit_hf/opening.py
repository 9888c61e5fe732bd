"""Attention that is causal at first and opens: for a network that was autoregressive before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit import component, option
from mdmkit.diffusion import golden_sequence
from mdmkit.protocols import (
    Denoiser,
    Draws,
    Objective,
    ObjectiveContext,
    ObjectiveOptions,
    Prediction,
)
from mdmkit.values import Batch, Bound, Loss, Noised

if TYPE_CHECKING:
    from mdmkit import Recipe


@frozen(kw_only=True)
class OpeningAttention:
    """Another objective, whose attention is causal at a share of the steps that falls to 0.

    The share falls from 1 at the first step to 0 at step ``steps``, in a straight line. Step s is
    causal where frac(s·φ) < share, with φ the golden ratio's conjugate, so that causal and open
    steps alternate evenly. Masks, times and weights are those of the objective inside, and the
    text is not shifted: the network learns to fill masks from what is left of them, as an
    autoregressive network can, and from both sides, in turns. Validation sees open attention from
    the beginning.

    DiffuLLaMA (arXiv 2410.17891) anneals, too, but opens single pairs of positions at random.
    Whole steps need no mask: causal and open attention have fast kernels, a random mask has none.
    Which of both learns sooner we did not measure.
    """

    steps: int = option(0, ge=0, doc="when attention is open for good; 0: from the beginning")
    masked: ObjectiveOptions = component(
        "masked_diffusion", doc="the objective whose attention it is"
    )
    prediction: ClassVar[Prediction] = "masked"
    remark: ClassVar[str] = (
        "the curves hold at every step; what changes over the first steps is who sees whom"
    )

    @property
    def needs(self) -> frozenset[str]:
        """Causal attention, and what the objective inside asks for."""
        return self.masked.needs | {"causal"}

    @property
    def shifts_text(self) -> bool:
        """Whether the objective inside does."""
        return bool(getattr(self.masked, "shifts_text", False))

    def check(self, recipe: Recipe) -> Iterator[str]:
        """An objective inside that does not fill masks, and attention that never opens."""
        if self.masked.prediction != "masked":
            yield (
                f'masked: predicts "{self.masked.prediction}"; expected an objective that predicts '
                "what is masked, such as masked_diffusion"
            )
        if self.steps >= recipe.train.steps:
            yield (
                f"steps: attention would be causal up to step {self.steps}, but the run has "
                f"{recipe.train.steps}; expected fewer"
            )

    def build(self, context: ObjectiveContext) -> LiveOpeningAttention:
        """The live objective."""
        return LiveOpeningAttention(steps=self.steps, masked=self.masked.build(context))


@frozen(kw_only=True, eq=False)
class LiveOpeningAttention:
    """`OpeningAttention` with the live objective inside."""

    steps: int
    masked: Objective

    @property
    def exact(self) -> bool:
        """That of the objective inside."""
        return self.masked.exact

    @property
    def group(self) -> int:
        """That of the objective inside."""
        return self.masked.group

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:
        """The task of the objective inside, with causal attention at some of the steps."""
        noised = self.masked.corrupt(batch, draws)
        if not is_causal(draws.step, self.steps):
            return noised
        return evolve(noised, attention=evolve(noised.attention, causal=True))

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """That of the objective inside."""
        return self.masked.loss(denoiser, noised)

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:
        """That of the objective inside: attention is open."""
        return self.masked.bound(denoiser, batch, draws)

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """That of the objective inside: attention is open."""
        return self.masked.nll(denoiser, batch, mask)

    def state_dict(self) -> dict[str, Any]:
        """That of the objective inside; nothing where it keeps no state."""
        return self.masked.state_dict() if hasattr(self.masked, "state_dict") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        if hasattr(self.masked, "load_state_dict"):
            self.masked.load_state_dict(state)


def is_causal(step: int, steps: int) -> bool:
    """Whether a 0-based step is causal where attention is open from step `steps` on.

    >>> [is_causal(step, 8) for step in range(9)]
    [True, True, True, False, True, True, False, False, False]
    """
    if step >= steps:
        return False
    place = golden_sequence(torch.zeros(()), torch.tensor(step))
    return float(place) < 1 - step / steps
