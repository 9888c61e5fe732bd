"""Autoregressive prediction in any order, on the network of masked diffusion."""

from __future__ import annotations

from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.position_orders import (
    ONE_ORDER,
    Interleaved,
    Order,
    at_queries,
    fixed,
    sorted_positions,
)
from mdmkit.diffusion import scattered, uniform_subset
from mdmkit.head import cross_entropies, weighted_loss
from mdmkit.options import option
from mdmkit.protocols import Denoiser, Draws, ObjectiveContext, Prediction
from mdmkit.values import Batch, Bound, Loss, Noised
from mdmkit.values.mapped import mapped

_MASKS_A_CALL = 8
"""Masks of a row that share a call of `LiveAnyOrder.nll`, at most on average. The number of calls
depends on the length alone, because under FSDP all ranks must make as many."""


@frozen(kw_only=True)
class AnyOrder:
    """Autoregressive prediction in an order of positions, the position to predict being told.

    A row shows the network each position twice, in that order: the mask (a query), then the token.
    Attention is causal and positions are given, so a query sees the tokens that come before it and
    no other: all n tokens are targets in one forward, of 2·L inputs, with an exact likelihood
    under that order. ``left_to_right`` is next-token prediction, ``fixed`` the same in an order
    that is drawn once, and ``random`` in a fresh one for each row and step. The mean of its NLL
    over all orders is the NELBO of masked diffusion, as a functional of the conditionals (arXiv
    2110.02037, eq. 5), so that its loss is an unbiased estimate of that, with L targets a forward
    where masked diffusion has t·L.

    Tokens that are not scored come first in every order, padding last. With ``random`` the
    likelihood of a masked text takes a forward for each mask: ``estimator = "count"`` of the
    evaluator ``nelbo`` takes one a draw.
    """

    order: Order = option(
        "random", doc="left_to_right, fixed (drawn once), or random (fresh for each row and step)"
    )
    target_share: float = option(
        1.0, gt=0, le=1, doc="share of a row's tokens in the loss, drawn anew for each row and step"
    )
    seed: int = option(0, ge=0, doc="of the order fixed")
    needs: ClassVar[frozenset[str]] = frozenset({"causal", "positions"})
    prediction: ClassVar[Prediction] = "any_order"
    shifts_text: ClassVar[bool] = True  # a denoiser that shifts would answer another query

    def build(self, context: ObjectiveContext) -> LiveAnyOrder:
        """The live objective."""
        return LiveAnyOrder(options=self, context=context)


@frozen(kw_only=True, eq=False)
class LiveAnyOrder:
    """`AnyOrder` for one vocabulary."""

    options: AnyOrder
    context: ObjectiveContext
    group: ClassVar[int] = 1

    @property
    def exact(self) -> bool:
        """Whether there is but one order."""
        return self.options.order != "random"

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:
        """Draw orders, and which tokens are in the loss; each has weight 1."""
        scored = batch.scored()
        order = self._order(batch, draws, "objective/order")
        rows = Interleaved.of(batch, order, self.context.vocab.mask_id)
        in_loss = at_queries(self._targets(scored, draws).gather(1, order))
        return Noised(
            inputs=rows.inputs,
            targets=batch.tokens.gather(1, order).repeat_interleave(2, dim=-1),
            in_loss=in_loss,
            weights=torch.ones(in_loss.shape),
            t=None,
            attention=rows.attention,
            denominator=in_loss.sum().double(),
        )

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """The sum of the cross-entropies at the queries."""
        return weighted_loss(denoiser, noised, self.context.vocab.mask_id)

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:
        """The NLL of each row in nats under one order: exact, or one draw of the NELBO."""
        scored = batch.scored()
        order = self._order(batch, draws, "bound/order")
        nll = self._under(denoiser, batch, order, scored)
        return Bound(nats=nll.sum(-1), tokens=scored.sum(-1))

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """The cross-entropies of the tokens under ``mask``, ``[B, L]``.

        With one order each is given all that come before it. With random ones it is given what is
        not masked, in the order ``fixed``, with its own query after that and no other, as in
        training: a row of the network for each masked token.
        """
        mask = mask & _real(batch)
        if self.exact:
            return self._under(denoiser, batch, self._order(batch, None, ""), mask)
        found = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        every, calls = mask.nonzero(), -(-mask.shape[-1] // _MASKS_A_CALL)
        for call in range(calls):
            part = every[call::calls]
            spare = part if len(part) else every.new_zeros(1, 2)
            nll = self._alone(denoiser, batch, mask, spare)
            found[part[:, 0], part[:, 1]] = nll[: len(part)]
        return found

    def _order(self, batch: Batch, draws: Draws | None, stream: str) -> Tensor:
        """The order of each row: what is not scored, what is, padding; ``[B, L]``."""
        scored, make = batch.scored(), ONE_ORDER.get(self.options.order)
        if make is not None:
            keys = make(scored.shape[-1], self.options.seed)
        else:
            assert draws is not None  # `exact` says that there is nothing to draw
            keys = draws.uniform(stream, scored.shape[-1])
        return sorted_positions(keys, _real(batch) & ~scored, scored)

    def _targets(self, scored: Tensor, draws: Draws) -> Tensor:
        """Which of the scored tokens are in the loss: ``[B, L]`` bool."""
        share = self.options.target_share
        if share == 1:
            return scored
        count = (share * scored.sum(-1).double()).ceil().long()
        return uniform_subset(draws.uniform("objective/targets", scored.shape[-1]), count, scored)

    def _under(self, denoiser: Denoiser, batch: Batch, order: Tensor, asked: Tensor) -> Tensor:
        """The cross-entropies of the tokens ``asked [B, L]`` in an order: ``[B, L]``, else 0."""
        mask_id, asked = self.context.vocab.mask_id, asked.gather(1, order)
        rows = Interleaved.of(batch, order, mask_id)
        h = denoiser(rows.inputs, attention=rows.attention)
        targets = batch.tokens.gather(1, order)[asked]
        nll = cross_entropies(denoiser, h[at_queries(asked)], targets, mask_id)
        in_order = scattered(nll.double(), asked)
        return torch.zeros_like(in_order).scatter(1, order, in_order)

    def _alone(self, denoiser: Denoiser, batch: Batch, mask: Tensor, which: Tensor) -> Tensor:
        """The cross-entropy of each of some masked tokens, given what is not masked: ``[N]``.

        Args:
            denoiser: is called once, with N rows.
            batch, mask: the text, and what of it is masked.
            which: ``[N, 2]``, row and position of each token.
        """
        row, place = which.unbind(-1)
        own = mapped(batch, lambda part: part[row])
        asked = torch.zeros_like(mask[row]).scatter(1, place[:, None], True)
        real, scored = _real(own), own.scored()
        keys = fixed(mask.shape[-1], self.options.seed)
        order = sorted_positions(keys, real & ~scored, real & ~mask[row], asked, real)
        return self._under(denoiser, own, order, asked).sum(-1)


def _real(batch: Batch) -> Tensor:
    """Where there is no padding: ``[B, L]`` bool."""
    return batch.tokens >= 0 if batch.real is None else batch.real
