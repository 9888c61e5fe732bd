"""An evaluator for mdmkit: the cross-entropy at one mask rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor

from mdmkit import DataError, hookimpl, option
from mdmkit.protocols import BlockSource, EvaluationContext, Evaluator, Split
from mdmkit.values import Measurement

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """Nats per masked token where each token is masked with probability ``rate``."""

    split: Split = option("validation", doc="which split: train, validation or test")
    rate: float = option(0.5, ge=0.05, le=1, doc="share of the tokens that is masked")

    def build(self, context: EvaluationContext) -> LiveExample:
        """Open the split."""
        return LiveExample(self.rate, context, context.blocks(self.split))


@frozen(eq=False)
class LiveExample:
    """`Example` on one network; every rank measures all of the split."""

    rate: float
    context: EvaluationContext
    source: BlockSource
    found: list[Tensor] = field(factory=list)  # [B, 2] float64, nats and masked tokens of a block

    def __len__(self) -> int:
        """Network calls."""
        return math.ceil(len(self.source) / self.context.batch_size)

    def update(self, index: int) -> None:
        """Mask and measure one batch of blocks."""
        rows = torch.arange(len(self.source)).chunk(len(self))[index]
        batch = self.source.batch(rows).to(self.context.device)
        noise = torch.stack([self._noise(row) for row in rows.tolist()])
        mask = (noise.to(self.context.device) < self.rate) & batch.scored()  # [B, L]
        nats = self.context.call(lambda denoiser: self.context.objective.nll(denoiser, batch, mask))
        self.found.append(torch.stack([nats.sum(-1), mask.double().sum(-1)], dim=-1).cpu())

    def _noise(self, block: int) -> Tensor:
        """``[L]``, a function of seed and block alone."""
        draws = self.context.draws(self.context.seed, block, torch.tensor([0]), 1)
        return draws.uniform("mask", self.context.length)[0]

    def compute(self) -> Mapping[str, Measurement]:
        """The ratio of two sums over blocks, and its standard error by the delta method.

        Raises:
            DataError: for fewer than the two blocks that an error needs.
        """
        nats, masked = torch.cat(self.found).unbind(-1)
        if len(nats) < 2:
            raise DataError(f"expected at least 2 blocks in the split, found {len(nats)}")
        ratio = nats.sum() / masked.sum()
        stderr = (nats - ratio * masked).std() * len(nats) ** 0.5 / masked.sum()
        return {"nll": Measurement(value=float(ratio), stderr=float(stderr), unit="nats/token")}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was measured on what."""
        return {"data": dict(self.source.provenance), "rate": self.rate, "seed": self.context.seed}


@hookimpl
def mdmkit_evaluators() -> Mapping[str, type[Evaluator]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[Example]:
    """What the contract checks try."""
    yield Example()
    yield Example(split="test", rate=1.0)
