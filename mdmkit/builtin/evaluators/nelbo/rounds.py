"""Rounds of draws: each is stratified in itself and independent of the others."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.nelbo.control import (
    FEATURES,
    PRIOR,
    PRIOR_DRAWS,
    Controls,
    controls,
    fitted,
)
from mdmkit.builtin.evaluators.nelbo.designs import Ask, Design, times_by_half
from mdmkit.builtin.evaluators.nelbo.neighbours import NeighbourCounts
from mdmkit.builtin.evaluators.nelbo.pair_table import Gathered, PairTable
from mdmkit.builtin.evaluators.pairs import PairDraws, shuffled
from mdmkit.protocols import Denoiser, EvaluationContext
from mdmkit.values import Batch, Bound


@frozen(kw_only=True, eq=False)
class Found:
    """What some pairs gave.

    Attributes:
        nats, tokens, masked: ``[B]``.
        controls: None where there are none.
    """

    nats: Tensor
    tokens: Tensor
    masked: Tensor
    controls: Controls | None = None


@frozen(kw_only=True, eq=False)
class Round:
    """One round of n draws of each of N blocks.

    Attributes:
        context: the network and where it lives.
        design: how masks are made.
        counts: of neighbours, for the control variate; None without.
        sampling_eps: no time is drawn below.
        blocks: ``[N]`` int64, which blocks of the split.
        number: of the round, from 0.
        order: ``[n, N]`` int64, see `mdmkit.builtin.evaluators.pairs.shuffled`.
        times: ``[N, n]``, see `mdmkit.builtin.evaluators.nelbo.designs.times_by_half`.
        table: what was found.
    """

    context: EvaluationContext
    design: Design
    counts: NeighbourCounts | None
    sampling_eps: float
    blocks: Tensor
    number: int
    order: Tensor
    times: Tensor
    table: PairTable

    @classmethod
    def start(
        cls,
        context: EvaluationContext,
        design: Design,
        *,
        counts: NeighbourCounts | None,
        sampling_eps: float,
        blocks: Tensor,
        draws: int,
        number: int,
    ) -> Round:
        """Draw the times of a round; its random numbers depend on the seed and its number."""
        make, seed, count = context.draws, context.seed, len(blocks)
        table = PairTable(
            count * draws,
            FEATURES if design.controlled else 0,
            sync_on_compute=context.world_size > 1,
        )
        return cls(
            context=context,
            design=design,
            counts=counts,
            sampling_eps=sampling_eps,
            blocks=blocks,
            number=number,
            order=shuffled(make, seed, count, draws, number),
            times=times_by_half(make, seed, number, count, draws),
            table=table.to(context.device),
        )

    def draws(self, pairs: Tensor) -> PairDraws:
        """The random numbers of the pairs ``[B]``."""
        return PairDraws(
            make=self.context.draws,
            seed=self.context.seed,
            blocks=self.blocks,
            order=self.order,
            rows=pairs,
            step=self.number,
        )

    def measure(self, pairs: Tensor, weights: Tensor, batch: Batch, here: Batch) -> None:
        """Call the network on some pairs and put what it says into the table.

        Args:
            pairs: ``[B]`` int64.
            weights: ``[B]`` float64; 0 where a pair only fills up the batch.
            batch: their text, on the CPU.
            here: the same on the device.
        """
        device = self.context.device
        if self.design.masks is None:
            found = self._bound(pairs, here)
        else:
            found = self._masked(pairs, weights, batch, here)
        weights = weights.to(device)
        nats, tokens, masked = (
            part.to(device).double() * weights for part in (found.nats, found.tokens, found.masked)
        )
        self.table.update(pairs.to(device), nats, tokens, masked, found.controls)

    def _bound(self, pairs: Tensor, here: Batch) -> Found:
        """By the objective's own estimate."""
        draws = self.draws(pairs)

        def bound(denoiser: Denoiser) -> Bound:
            return self.context.objective.bound(denoiser, here, draws)

        found = self.context.call(bound)
        masked = torch.zeros_like(found.tokens) if found.masked is None else found.masked
        return Found(nats=found.nats, tokens=found.tokens, masked=masked)

    def _masked(self, pairs: Tensor, weights: Tensor, batch: Batch, here: Batch) -> Found:
        """By the masks of the design."""
        context, design, draws = self.context, self.design, self.draws(pairs)
        assert design.masks is not None
        scored = batch.scored()
        made = design.masks(
            Ask(
                scored=scored,
                draws=draws,
                times=self.times,
                sampling_eps=self.sampling_eps,
                padding=~batch.real if batch.padding_seen and batch.real is not None else None,
            )
        )
        mask, factor = made.mask.to(context.device), made.factor.to(context.device)

        def nll(denoiser: Denoiser) -> Tensor:
            return context.objective.nll(denoiser, here, mask)

        costs = context.call(nll)
        extra = None
        if self.counts is not None:
            extra = controls(
                here,
                self.counts.costs(batch).to(context.device),
                mask & here.scored(),
                costs,
                factor * weights.to(context.device),
                (draws.place % 2).to(context.device),
            )
        return Found(
            nats=factor * costs.sum(-1),
            tokens=scored.sum(-1),
            masked=(mask & here.scored()).sum(-1),
            controls=extra,
        )


def estimates(
    rounds: list[Gathered], blocks: int, *, prior: Tensor = PRIOR, worth: float = PRIOR_DRAWS
) -> Tensor:
    """The estimate of each draw of each block, control variates subtracted.

    Args:
        rounds: what each gave, over all ranks.
        blocks: N.
        prior, worth: see `mdmkit.builtin.evaluators.nelbo.control.fitted`.

    Returns:
        ``[N, D]`` float64, D draws in all.
    """
    nats = torch.cat([part.nats.view(blocks, -1) for part in rounds], -1)
    features = rounds[0].differences.shape[-1]
    if not features:
        return nats
    differences = torch.cat([part.differences.view(blocks, -1, features) for part in rounds], 1)
    made = torch.cat([part.masked.view(blocks, -1) for part in rounds], -1) > 0
    draws = torch.stack([made[half::2].sum() for half in (0, 1)])
    gram = torch.stack([part.gram for part in rounds]).sum(0)
    multiples = fitted(gram, draws, prior=prior, worth=worth)
    own = multiples[torch.arange(blocks) % 2]  # [N, F]
    return nats - (differences * own[:, None]).sum(-1)
