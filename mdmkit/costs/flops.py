"""Training FLOPs a token: what the matrix products of a denoiser cost.

Torch counts the products that one more row adds to a forward on the meta device, two FLOPs a
multiply-add, so that any denoiser that runs there can be counted. For a plain transformer, with N_b
matrix parameters in d blocks and a share s of positions whose logits are computed, that is

    forward a token = 2·N_b + 4·d·L·D + s·2·D·V,        training = 3 · forward

since the backward has two products for each of the forward's (arXiv 2001.08361 §2.1). The head
costs no more than that, since its gradient is made in the forward. What activation checkpointing
computes again is the machine's work and not the model's, so it is left out, as is everything that
is no matrix product: norms, activations, loss, optimizer, averages.
"""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mdmkit.costs.meta import META, LikeCuda, in_words, on_meta
from mdmkit.protocols import Denoiser
from mdmkit.values import Attention

TRAINING = 3
"""Forwards that a training step costs: one, and two for the backward."""

_WEIGHTS = ("mm", "addmm", "_scaled_mm", "convolution")
"""Products of activations with parameters; all others are of activations: attention."""


@frozen(kw_only=True)
class Flops:
    """FLOPs of a forward, a token.

    Attributes:
        blocks: products with parameters, of the blocks and of whatever stands around them.
        attention: products of activations with each other.
        head: of the logits, on average over positions with and without.
    """

    blocks: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        """All three."""
        return self.blocks + self.attention + self.head

    @property
    def training(self) -> float:
        """Of forward and backward: 3 × total."""
        return TRAINING * self.total


def flops_per_token(
    denoiser: nn.Module,
    *,
    length: int,
    vocab_size: int,
    scored_share: float,
    causal_share: float = 0.0,
    width: int = 1,
) -> Flops:
    """Count the FLOPs of a token; the weights of `denoiser` are not read, whatever device has them.

    Args:
        denoiser: a `mdmkit.protocols.Denoiser`, not sharded.
        length: L.
        vocab_size: V. Of logits that are more, so that their number is round, the others are not
            counted; those that the network cuts off by itself are.
        scored_share: share of the positions whose logits are computed, in [0, 1].
        causal_share: share of the rows with causal attention, in [0, 1]. Their attention counts
            (S + 1)/2S of the full one, with S inputs: input i sees i.
        width: inputs for each position of the text: S = width·L.

    Raises:
        RecipeError: where the network does not run on the meta device.
    """
    network, shown = on_meta(denoiser), width * length
    with in_words("called"), torch.no_grad(), LikeCuda(autocast=False):
        one, _ = _body(network, 1, shown)
        two, h = _body(network, 2, shown)
        with FlopCounterMode(display=False) as head:
            logits = network.unembed(h[0])
    # What is done once for all rows, such as a constant conditioning, costs a row nothing.
    weights, others = (more - less for more, less in zip(two, one, strict=True))
    real = min(vocab_size / logits.shape[-1], 1.0)
    causal = causal_share * (shown + 1) / (2 * shown)
    return Flops(
        blocks=weights / length,
        attention=others / length * (1 - causal_share + causal),
        head=head.get_total_flops() / shown * real * scored_share,
    )


def _body(network: Denoiser, rows: int, length: int) -> tuple[tuple[int, int], Tensor]:
    """FLOPs of products with parameters, of the others, and the features ``[rows, L, D]``."""
    tokens = torch.zeros(rows, length, dtype=torch.int64, device=META)
    with FlopCounterMode(display=False) as counter:
        h = network(tokens, t=torch.full((rows,), 0.5, device=META), attention=Attention())
    return _split(counter.get_flop_counts()["Global"]), h


def _split(counts: dict[Any, int]) -> tuple[int, int]:
    """FLOPs of products with parameters, and of the others."""
    weights = sum(
        flops for op, flops in counts.items() if str(op).removeprefix("aten.") in _WEIGHTS
    )
    return weights, sum(counts.values()) - weights
