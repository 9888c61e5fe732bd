"""State of the NELBO: sums by block, reduced over ranks by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class BlockSums(Metric):
    """Nats and tokens of each block, in float64.

    Sums by block, and not over blocks, since the standard error needs every block's mean over its
    draws, which may be spread over batches and ranks.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor

    def __init__(self, blocks: int, **kwargs: Any) -> None:
        """Start with zeros for so many blocks."""
        super().__init__(**kwargs)
        zeros = torch.zeros(blocks, dtype=torch.float64)
        self.add_state("nats", default=zeros, dist_reduce_fx="sum")
        self.add_state("tokens", default=zeros.clone(), dist_reduce_fx="sum")

    def update(self, places: Tensor, nats: Tensor, tokens: Tensor) -> None:
        """Add ``nats [B]`` and ``tokens [B]`` float64 to the blocks at ``places [B]`` int64."""
        self.nats.index_add_(0, places, nats)
        self.tokens.index_add_(0, places, tokens)

    def compute(self) -> tuple[Tensor, Tensor]:
        """``[N]`` nats and ``[N]`` tokens, float64, over all ranks."""
        return self.nats, self.tokens
