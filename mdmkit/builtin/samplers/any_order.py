"""Sampling one token after the other in any order, for networks trained to be asked so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.position_orders import (
    ONE_ORDER,
    Interleaved,
    Order,
    at_queries,
    sorted_positions,
)
from mdmkit.builtin.samplers.canvas import texts_ended
from mdmkit.choosing import Choosing
from mdmkit.options import option
from mdmkit.protocols import Prediction, SamplerContext
from mdmkit.values import Batch, Generation

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


@frozen(kw_only=True)
class AnyOrderSampler(Choosing):
    """One token a call, each given all that are visible, at the next position of an order.

    It drives networks of the objective ``any_order``, which are shown what they saw in training:
    a mask at each position, then its token. With ``random`` what is visible from the start comes
    first, and so conditions everything; in another order it conditions what comes later in it. A
    network trained in one order knows no other.
    """

    order: Order = option(
        "random", doc="random (fresh for each row), left_to_right, or fixed, that of the objective"
    )
    seed: int = option(0, ge=0, doc="of the order fixed")
    prediction: ClassVar[Prediction] = "any_order"

    def check(self, recipe: Recipe) -> Iterator[str]:
        """An order that the network does not know."""
        trained: Any = recipe.objective
        known = getattr(trained, "order", "random")
        if known in ONE_ORDER and known != self.order:
            yield f'order: the objective trains the order "{known}", got "{self.order}"'
        elif known == "fixed" and self.seed != trained.seed:
            yield f"seed: the objective trains the order of seed {trained.seed}, got {self.seed}"
        if known in ONE_ORDER and _context_moved(recipe.data.packing, known):
            yield (
                "order: training puts BOS, which it does not score, before all others, and the "
                f'order "{known}" of the sampler does not; expected packing.score_bos = true, or '
                'the order "random" in both'
            )

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`."""
        vocab = context.vocab
        generated = tokens == vocab.mask_id
        keys, noise = context.uniform(), context.uniform()  # [B, L], both always drawn
        if self.order in ONE_ORDER:
            keys = ONE_ORDER[self.order](tokens.shape[1], self.seed)
            order = keys.argsort().expand(tokens.shape).to(tokens.device)  # [B, L]
        else:
            order = sorted_positions(keys, ~generated)
        log_p, calls = torch.zeros_like(noise), 0
        for j in range(tokens.shape[1]):
            place = order[:, j : j + 1]  # [B, 1]
            hidden = tokens.gather(1, place) == vocab.mask_id
            if hidden.any():
                logits = _logits(tokens, order, j, context)
                calls += 1
                drawn = self.choose(logits, noise.gather(1, place)[:, 0], vocab.mask_id)
                tokens = _written(tokens, place, hidden, drawn.tokens)
                log_p = _written(log_p, place, hidden, drawn.log_p)
                if self.eos == "stop":
                    tokens = texts_ended(tokens, generated, vocab)
            yield Generation(tokens=tokens, step=j + 1, network_evaluations=calls, log_p=log_p)


def _context_moved(packing: Any, order: str) -> bool:
    """Whether a packing has BOS that is not scored, and in another place than first in an order."""
    moved = order != "left_to_right"
    while hasattr(packing, "of"):  # it moves what another packing cuts
        packing, moved = packing.of, True
    return moved and getattr(packing, "score_bos", True) is False


def _logits(tokens: Tensor, order: Tensor, j: int, context: SamplerContext) -> Tensor:
    """``[B, V]`` of the j-th position of each row's order, given those before it."""
    rows = Interleaved.of(Batch(tokens=tokens), order[:, : j + 1], context.vocab.mask_id)
    at = torch.zeros_like(order[:, : j + 1], dtype=torch.bool)
    at[:, j] = True
    return context.logits(rows.inputs, None, rows.attention, at_queries(at))


def _written(values: Tensor, place: Tensor, where: Tensor, new: Tensor) -> Tensor:
    """``values [B, L]`` with ``new [B]`` at ``place [B, 1]`` in the rows ``where [B, 1]``."""
    return values.scatter(1, place, torch.where(where, new[:, None], values.gather(1, place)))
