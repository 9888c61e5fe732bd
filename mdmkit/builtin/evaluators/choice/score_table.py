"""State of the scores: nats of each row, reduced over ranks by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ScoreTable(Metric):
    """What was found about each row, in float64: nats by halves of the draws and all, or hits."""

    full_state_update = False
    nats: Tensor

    def __init__(self, rows: int, columns: int = 3, **kwargs: Any) -> None:
        """Start with zeros for so many rows."""
        super().__init__(**kwargs)
        zeros = torch.zeros(rows, columns, dtype=torch.float64)
        self.add_state("nats", default=zeros, dist_reduce_fx="sum")

    def update(self, rows: Tensor, nats: Tensor) -> None:
        """Add ``nats [B, C]`` float64 to ``rows [B]`` int64."""
        self.nats.index_add_(0, rows, nats)

    def compute(self) -> Tensor:
        """``[R, C]`` float64, over all ranks."""
        return self.nats
