"""Training FLOPs, counted from a recipe: what the network's matrix products cost.

`mdmkit.costs` counts a forward; a step costs three, of the body for every position and of the head
for the positions in the loss alone:

    3 · rows · (body(L) + share · L · head)

An objective that shows the network more than one input a position is counted with all of them.
Attention counts in full where it is causal, too. Norms, activations, the loss, the optimizer,
averaged weights and validations are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from attrs import frozen

from mdmkit.comparison.smoothing import Floats
from mdmkit.costs.flops import TRAINING, flops_per_token
from mdmkit.costs.meta import build_on_meta
from mdmkit.costs.shares import inputs_per_position
from mdmkit.errors import RecipeError
from mdmkit.metrics_log import MetricColumns
from mdmkit.values import Vocabulary

if TYPE_CHECKING:
    from torch import nn

    from mdmkit.recipe import Recipe

MASKED_SHARE = "train/masked_share"
_QUANTILES = 4096  # midpoints in u over which the mask rate is averaged
_STAGES = 16  # moments of training at which it is taken


@frozen(kw_only=True)
class ForwardFlops:
    """FLOPs of a forward.

    Attributes:
        body: of one row of L tokens.
        head: of the logits of one position.
    """

    body: float
    head: float

    def step(self, *, rows: int, length: int, share: float) -> float:
        """Training FLOPs of an optimizer step.

        Args:
            rows: of the global batch.
            length: L.
            share: of a row's positions that are in the loss, between 0 and 1.
        """
        return TRAINING * rows * (self.body + share * length * self.head)


def forward_flops(recipe: Recipe, vocab: Vocabulary) -> ForwardFlops | None:
    """Count the forward of the recipe's denoiser, or None where it does not run without data."""
    length = recipe.data.length
    try:
        found = flops_per_token(
            cast("nn.Module", build_on_meta(recipe, vocab.size)),
            length=length,
            vocab_size=vocab.size,
            scored_share=1.0,
            width=inputs_per_position(recipe),
        )
    except RecipeError:  # a network may look at values, which the meta device does not have
        return None
    return ForwardFlops(body=(found.blocks + found.attention) * length, head=found.head)


@frozen(kw_only=True, eq=False)
class LossShare:
    """The share of positions in the loss, over training.

    Attributes:
        steps: ``[M]``, rising; a share holds from the step before to this one.
        shares: ``[M]``.
        source: where it comes from, in words.
    """

    steps: Floats
    shares: Floats
    source: str

    def cumulative(self, per_step: Callable[[float], float], at: Floats) -> Floats:
        """The sum of ``per_step(share)`` over the steps up to each of `at`: ``[K]``."""
        edges = np.concatenate([[0.0], self.steps])
        costs = np.array([per_step(float(share)) for share in self.shares])
        sums = np.concatenate([[0.0], (np.diff(edges) * costs).cumsum()])
        beyond = np.maximum(at - edges[-1], 0.0) * costs[-1]
        found: Floats = np.interp(at, edges, sums) + beyond
        return found


def loss_share(recipe: Recipe, metrics: MetricColumns) -> LossShare:
    """The share of positions in the loss: as logged, else as the recipe implies.

    Args:
        recipe: of the run.
        metrics: what it logged.
    """
    logged = metrics[MASKED_SHARE]
    steps, shares = np.asarray(logged.steps), np.asarray(logged.values)
    if shares.any():
        known = (shares != 0) & (steps > 0)
        at, places = np.unique(steps[known][::-1], return_index=True)  # the last of each step
        return LossShare(
            steps=at.astype(float),
            shares=shares[known][::-1][places],
            source="as logged by training",
        )
    if recipe.objective.prediction == "next_token":
        share, source = 1.0, "1: next-token prediction"
    elif (expected := _if_masked(recipe)) is not None:
        share, source = expected, "the recipe's mean mask rate, by quadrature"
    else:
        share, source = 1.0, "1, an upper bound: not logged, and the recipe alone does not say"
    last = np.array([float(recipe.train.steps)])
    return LossShare(steps=last, shares=np.array([share]), source=source)


def _if_masked(recipe: Recipe) -> float | None:
    return expected_mask_rate(recipe) if recipe.objective.prediction == "masked" else None


def expected_mask_rate(recipe: Recipe) -> float | None:
    """E[1 − alpha(t)] under the recipe's density, averaged over training.

    None where schedule or density are made from facts of the run.
    """
    alpha = getattr(recipe.noise_schedule, "alpha", None)
    at = getattr(recipe.time_sampler, "at", None)
    if alpha is None or at is None:
        return None
    u = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    stages = [round(recipe.train.steps * (i + 0.5) / _STAGES) for i in range(_STAGES)]
    return float(np.mean([float((1 - alpha(at(step).icdf(u))).mean()) for step in stages]))
