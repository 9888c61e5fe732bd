"""What a step has to do at least: FLOPs and bytes, counted on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from attrs import frozen
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mdmkit.protocols import Denoiser


@frozen(kw_only=True)
class Flops:
    """FLOPs of a forward, for each token; a multiply-add is two.

    Attributes:
        blocks: matrix products with weights.
        attention: queries with keys, and their weights with values.
        head: logits where they are computed, spread over all tokens.
    """

    blocks: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        """All three."""
        return self.blocks + self.attention + self.head


def flops_per_token(
    denoiser: nn.Module,
    *,
    length: int,
    vocab_size: int,  # noqa: ARG001 - the network has it
    scored_share: float,
    causal_share: float = 0.0,
) -> Flops:
    """FLOPs of a forward of `denoiser`, which is on the meta device."""
    network = cast("Denoiser", denoiser)
    tokens = torch.zeros(1, length, dtype=torch.int64, device="meta")
    t = torch.full((1,), 0.5, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as body:
        h = network(tokens, t=t)
    with torch.no_grad(), FlopCounterMode(display=False) as head:
        network.unembed(h[0])
    counts: Mapping[Any, int] = body.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if str(op) in ("aten.mm", "aten.addmm"))
    attention = sum(counts.values()) - products
    return Flops(
        blocks=products / length,
        attention=attention * (1 - causal_share / 2) / length,
        head=scored_share * head.get_total_flops() / length,
    )
