"""State of the NELBO: what each draw of each block gave, reduced over ranks by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PairTable(Metric):
    """Nats, tokens and masked tokens of each (block, draw) pair, in float64.

    By pair, and not summed, since the standard error needs every block by itself, two runs are
    compared pair by pair, and a time sampler may ask what the loss is at which mask ratio.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor
    masked: Tensor

    def __init__(self, pairs: int, **kwargs: Any) -> None:
        """Start with zeros for so many pairs."""
        super().__init__(**kwargs)
        for name in ("nats", "tokens", "masked"):
            zeros = torch.zeros(pairs, dtype=torch.float64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, pairs: Tensor, nats: Tensor, tokens: Tensor, masked: Tensor) -> None:
        """Add ``nats``, ``tokens`` and ``masked``, ``[B]`` float64, to ``pairs [B]`` int64."""
        self.nats.index_add_(0, pairs, nats)
        self.tokens.index_add_(0, pairs, tokens)
        self.masked.index_add_(0, pairs, masked)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """``[G]`` nats, tokens and masked tokens, float64, over all ranks."""
        return self.nats, self.tokens, self.masked
