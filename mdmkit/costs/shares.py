"""Which share of the positions has its logits computed, as the recipe implies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from mdmkit.costs.dry import dry_objective
from mdmkit.values import MixedNoised, Noised

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_STAGES = 8
"""Moments of training that are looked at."""

_POSITIONS = 2**18
"""Drawn at each of them."""


@frozen(kw_only=True)
class Shares:
    """Means over training.

    Attributes:
        scored: share of the positions of the text whose cross-entropy is in the loss.
        causal: share of the rows with causal attention.
        width: inputs of a row of the network for each position of the text.
    """

    scored: float
    causal: float
    width: int = 1


def inputs_per_position(recipe: Recipe) -> int:
    """How many inputs the objective shows the network for each position of the text."""
    dry = dry_objective(recipe)
    return _width(recipe, dry.corrupted(dry.objective.group))


def scored_share(recipe: Recipe) -> float:
    """The expected share of positions whose logits are computed: see `expected_shares`."""
    return expected_shares(recipe).scored


def expected_shares(recipe: Recipe) -> Shares:
    """What the objective puts into the loss, on average over the run.

    For masked diffusion the expected scored share is ∫₀¹ 1 − alpha(icdf(u)) du, for next-token
    prediction 1, for a mixture between them. It is not derived but drawn: the objective of the
    recipe, whoever wrote it, corrupts rows of text with stratified times at moments spread over
    the run, two million positions in all. The error is below 0.001.

    A time sampler that adapts is taken as it is at the start. Rows are taken as full, without
    padding.
    """
    dry = dry_objective(recipe)
    group = dry.objective.group
    rows = max(_POSITIONS // recipe.data.length, 64) // group * group
    scored = causal = 0.0
    for stage in range(_STAGES):
        noised = dry.corrupted(rows, int(recipe.train.steps * (stage + 0.5) / _STAGES))
        width = _width(recipe, noised)
        scored += width * float(noised.in_loss.double().mean()) / _STAGES
        if isinstance(noised, MixedNoised):
            causal += float(noised.causal.double().mean()) / _STAGES
        else:
            causal += noised.attention.causal / _STAGES
    return Shares(scored=scored, causal=causal, width=width)


def _width(recipe: Recipe, noised: Noised) -> int:
    return noised.inputs.shape[-1] // recipe.data.length
