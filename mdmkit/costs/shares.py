"""Which share of the positions has its logits computed, as the recipe implies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import frozen

from mdmkit.draws import StepDraws
from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.network import bring_to_life
from mdmkit.protocols import RunFacts
from mdmkit.values import Batch, MixedNoised, Vocabulary

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_STAGES = 8
"""Moments of training that are looked at."""

_POSITIONS = 2**18
"""Drawn at each of them."""

_VOCAB = Vocabulary(size=512, mask_id=511, bos_id=0, eos_id=0, pad_id=1)


@frozen(kw_only=True)
class Shares:
    """Means over training.

    Attributes:
        scored: share of the positions whose cross-entropy is in the loss.
        causal: share of the rows with causal attention.
    """

    scored: float
    causal: float


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
    length, steps = recipe.data.length, recipe.train.steps
    facts = RunFacts(
        vocab=_VOCAB,
        length=length,
        steps=steps,
        global_batch_size=recipe.train.global_batch_size,
        learning_rate=learning_rate_fraction(recipe.learning_rate, steps),
        token_counts=lambda: torch.ones(_VOCAB.size, dtype=torch.float64),
    )
    objective = bring_to_life(recipe, facts).objective
    rows = max(_POSITIONS // length, 64) // objective.group * objective.group
    batch = Batch(tokens=torch.zeros(rows, length, dtype=torch.int64) + 2)
    scored = causal = 0.0
    for stage in range(_STAGES):
        draws = StepDraws(
            seed=0,
            step=int(steps * (stage + 0.5) / _STAGES),
            rows=torch.arange(rows),
            global_rows=rows,
        )
        noised = objective.corrupt(batch, draws)
        scored += float(noised.in_loss.double().mean()) / _STAGES
        if isinstance(noised, MixedNoised):
            causal += float(noised.causal.double().mean()) / _STAGES
        else:
            causal += noised.attention.causal / _STAGES
    return Shares(scored=scored, causal=causal)
