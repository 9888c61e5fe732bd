"""State of the NELBO: what each draw of each block gave, reduced over ranks by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torchmetrics import Metric

from mdmkit.builtin.evaluators.nelbo.control import Controls


class PairTable(Metric):
    """What each (block, draw) pair of one round gave, in float64.

    By pair, and not summed, since the standard error needs every block by itself, two runs are
    compared pair by pair, and a time sampler may ask what the loss is at which mask ratio.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor
    masked: Tensor
    differences: Tensor
    gram: Tensor

    def __init__(self, pairs: int, features: int = 0, **kwargs: Any) -> None:
        """Start with zeros for so many pairs, and so many features of control variates."""
        super().__init__(**kwargs)
        shapes = {
            "nats": (pairs,),
            "tokens": (pairs,),
            "masked": (pairs,),
            "differences": (pairs, features),
            "gram": (2, features + 1, features + 1),
        }
        for name, shape in shapes.items():
            zeros = torch.zeros(shape, dtype=torch.float64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(
        self,
        pairs: Tensor,
        nats: Tensor,
        tokens: Tensor,
        masked: Tensor,
        controls: Controls | None = None,
    ) -> None:
        """Add ``nats``, ``tokens`` and ``masked``, ``[B]`` float64, to ``pairs [B]`` int64."""
        self.nats.index_add_(0, pairs, nats)
        self.tokens.index_add_(0, pairs, tokens)
        self.masked.index_add_(0, pairs, masked)
        if controls is not None:
            self.differences.index_add_(0, pairs, controls.differences)
            self.gram += controls.gram

    def compute(self) -> Gathered:
        """Everything, over all ranks."""
        return Gathered(
            nats=self.nats.cpu(),
            tokens=self.tokens.cpu(),
            masked=self.masked.cpu(),
            differences=self.differences.cpu(),
            gram=self.gram.cpu(),
        )


@frozen(kw_only=True, eq=False)
class Gathered:
    """The states of a `PairTable`, on the CPU.

    Attributes:
        nats, tokens, masked: ``[G]``.
        differences: ``[G, F]``; F is 0 without control variates.
        gram: ``[2, F + 1, F + 1]``.
    """

    nats: Tensor
    tokens: Tensor
    masked: Tensor
    differences: Tensor
    gram: Tensor
