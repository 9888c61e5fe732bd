"""Masked diffusion and next-token prediction in one network, each on a share of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.objectives.autoregressive import shift_right
from mdmkit.builtin.objectives.masked import LiveMaskedDiffusion, MaskedDiffusion
from mdmkit.diffusion import golden_sequence
from mdmkit.head import weighted_loss
from mdmkit.options import option
from mdmkit.protocols import Denoiser, Draws, ObjectiveContext, Prediction, Stratification
from mdmkit.values import Batch, Bound, Loss, MixedNoised, Noised

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_WHOLE_BATCH = 2**62  # a group that every row of a global batch is in


@frozen(kw_only=True)
class MixedCausal:
    """Masked diffusion, but a share of the sequences is trained on the next token.

    These see causal attention and the text shifted right, as in ``autoregressive``; the others
    are masked exactly as in ``masked_diffusion``. The share goes from ``share`` to
    ``final_share``. With S the sum over masked tokens and D its normaliser over the masked rows,
    CE the cross-entropies of the n causal tokens and c = ``causal_weight``, the loss is

        (S + c·Σ CE) / (D + c·n);

    with the normalizer ``sequence`` a causal row, too, counts by its own mean. At a step at which
    the share is 0 this is ``masked_diffusion``, at 1 ``autoregressive``. Validation reports the
    NELBO of masked diffusion. Ours; the near context that a causal row always has is what
    arXiv 2605.13026 finds masked rows to lack.

    Row i of the global batch (i-th sequence, where the mask pattern makes twins) is causal where
    frac(u + i·φ) < share, with φ the golden ratio's conjugate and u one number a step: each row
    as often as the others, whatever its t, and evenly among the strata of t, so that the times of
    the masked rows stay spread over (0, 1).
    """

    stratification: Stratification = option(
        "jittered", doc="how t is spread over the global batch: iid, jittered, offset or mirrored"
    )
    share: float = option(0.5, ge=0, le=1, doc="share of the sequences that are causal, at first")
    final_share: float = option(0.0, ge=0, le=1, doc="the same when the change is complete")
    anneal: Annealing = option(factory=Annealing, doc="when share turns into final_share")
    causal_weight: float = option(1.0, gt=0, le=1000, doc="c, of a causal token")
    needs: ClassVar[frozenset[str]] = frozenset({"causal"})
    prediction: ClassVar[Prediction] = "masked"
    shifts_text: ClassVar[bool] = True
    remark: ClassVar[str] = (
        "the curves are those of the masked rows; beside them a share of the rows is causal, and "
        "their next-token loss is no part of h"
    )

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A change that the run cannot make."""
        if self.share != self.final_share:
            yield from self.anneal.problems(recipe)

    def build(self, context: ObjectiveContext) -> LiveMixedCausal:
        """The live objective."""
        masked = MaskedDiffusion(stratification=self.stratification).build(context)
        course = self.anneal.course(self.share, self.final_share, context.facts)
        return LiveMixedCausal(options=self, masked=masked, share=course)


@frozen(kw_only=True, eq=False)
class LiveMixedCausal:
    """`MixedCausal` with the masked diffusion it mixes, and its share at each step."""

    options: MixedCausal
    masked: LiveMaskedDiffusion
    share: Callable[[int], float]
    exact: ClassVar[bool] = False

    @property
    def group(self) -> int:
        """Rows that share one sequence: the mask pattern's twins."""
        return self.masked.group

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:
        """Mask some rows and shift the others."""
        share = self.share(draws.step)
        if share == 0:
            return self.masked.corrupt(batch, draws)
        parts = self.masked.context
        causal = causal_rows(share, draws, self.group)
        apart, scored = causal[:, None], batch.scored()
        masked = self.masked.corrupt(evolve(batch, maskable=scored & ~apart), draws)
        shifted, predicted = shift_right(batch, parts.vocab.start_id), scored & apart

        weight, tokens = self.options.causal_weight, predicted.sum(-1).double()  # [B]
        weights = torch.full_like(masked.weights, weight)
        denominator = masked.denominator + weight * tokens.sum()
        if parts.loss_weighting.normalizer == "sequence":
            weights = weights / tokens.clamp(min=1).float()[:, None]
            # masked.denominator counts every row, the causal ones too
            denominator = masked.denominator + (weight - 1) * causal.sum()
        return MixedNoised(
            inputs=torch.where(apart, shifted, masked.inputs),
            targets=batch.tokens,
            in_loss=masked.in_loss | predicted,
            weights=torch.where(apart, weights, masked.weights),
            t=None if masked.t is None else masked.t.where(~causal, 0.0),  # they have no time
            attention=masked.attention,
            denominator=denominator,
            causal=causal,
            both=share < 1,
        )

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """The weighted sum over masked and causal rows, in one call of the denoiser each.

        ``nll`` and ``tokens`` of causal rows are 0: they have no time to learn about.
        """
        if not isinstance(noised, MixedNoised):
            return self.masked.loss(denoiser, noised)
        noised, mask_id = noised.placed(), self.masked.context.vocab.mask_id
        causal, masked = noised.causal_part, noised.masked_part
        assert causal is not None  # `placed` makes it
        nll = torch.zeros(len(noised.causal), device=noised.causal.device)
        tokens = torch.zeros_like(noised.causal, dtype=torch.int64)
        total = weighted_loss(denoiser, causal.noised, mask_id).total
        if masked is not None:
            found = weighted_loss(denoiser, masked.noised, mask_id)
            total = found.total + total
            nll = nll.index_copy(0, masked.rows, found.nll)
            tokens = tokens.index_copy(0, masked.rows, found.tokens)
        return Loss(total=total, nll=nll, tokens=tokens)

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:
        """The bound of masked diffusion: see there."""
        return self.masked.bound(denoiser, batch, draws)

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """The masked cross-entropies of masked diffusion: see there."""
        return self.masked.nll(denoiser, batch, mask)


def causal_rows(share: float, draws: Draws, group: int) -> Tensor:
    """Which rows are causal at a step: ``[B]`` bool, twins together."""
    u = draws.uniform("objective/causal", group=_WHOLE_BATCH)  # [B], one number for all
    return golden_sequence(u, draws.rows // group) < share
