"""State of the masked accuracy, reduced over ranks by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class HitTable(Metric):
    """Right and masked tokens of each block in each bin, ``[N, bins]`` float64."""

    full_state_update = False
    hits: Tensor
    masked: Tensor

    def __init__(self, blocks: int, bins: int, **kwargs: Any) -> None:
        """Start with zeros."""
        super().__init__(**kwargs)
        for name in ("hits", "masked"):
            zeros = torch.zeros(blocks, bins, dtype=torch.float64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, blocks: Tensor, bins: Tensor, hits: Tensor, masked: Tensor) -> None:
        """Add ``hits`` and ``masked`` to the cells ``(blocks, bins)``, ``[B]`` each."""
        self.hits.index_put_((blocks, bins), hits, accumulate=True)
        self.masked.index_put_((blocks, bins), masked, accumulate=True)

    def compute(self) -> tuple[Tensor, Tensor]:
        """``[N, bins]`` right and masked tokens, over all ranks."""
        return self.hits, self.masked
