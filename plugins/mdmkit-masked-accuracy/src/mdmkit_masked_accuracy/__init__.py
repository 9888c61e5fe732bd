"""Masked accuracy for mdmkit: how often the likeliest token is the right one.

A cross-entropy says how sure the network is of the right token; this says how often it would have
named it. By mask ratio, since what can be known of a token depends on how much is visible.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor

from mdmkit import DataError, RecipeError, hookimpl, option
from mdmkit.diffusion import (
    mask_tokens,
    masked_logits,
    sum_by_row,
    time_at_mask_rate,
    uniform_subset,
)
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Split
from mdmkit.values import Batch, Measurement

if TYPE_CHECKING:
    from mdmkit_masked_accuracy.table import HitTable

MDMKIT_API = 1


@frozen(kw_only=True)
class MaskedAccuracy:
    """How often the likeliest token under a mask is the right one, by mask ratio.

    Each block is masked ``draws`` times: ⌈u·n⌉ of its n tokens, uniformly chosen, at u stratified
    over (0, 1). The standard error is over blocks.
    """

    split: Split = option("validation", doc="which split: train, validation or test")
    draws: int = option(4, ge=1, doc="masks a block")
    bins: int = option(5, ge=1, le=100, doc="equal bins of the mask ratio")
    blocks: int = option(0, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")

    def build(self, context: EvaluationContext) -> LiveMaskedAccuracy:
        """Open the split.

        Raises:
            RecipeError: where the network predicts the next token.
            DataError: where the split has fewer than the two blocks that an error needs.
        """
        from mdmkit_masked_accuracy.table import HitTable  # torchmetrics takes a second to load

        if context.prediction != "masked":
            raise RecipeError(
                f"masked_accuracy: the run's network predicts {context.prediction!r}; expected "
                'one that predicts masked tokens (objective.use = "masked_diffusion")'
            )
        source = context.blocks(self.split)
        count = min(self.blocks, len(source)) if self.blocks else len(source)
        if count < 2:
            raise DataError(
                f"masked_accuracy: {count} of the {len(source)} blocks of split {self.split!r} "
                "are to be measured; expected at least 2, for there is no error of one"
            )
        table = HitTable(count, self.bins, sync_on_compute=context.world_size > 1)
        return LiveMaskedAccuracy(
            options=self,
            context=context,
            source=source,
            blocks=torch.arange(count) * len(source) // count,
            table=table.to(context.device),
        )


@frozen(kw_only=True, eq=False)
class LiveMaskedAccuracy:
    """`MaskedAccuracy` on one network and one split.

    Attributes:
        blocks: ``[N]`` int64, which blocks of the split.
    """

    options: MaskedAccuracy
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    table: HitTable

    def __len__(self) -> int:
        """Network calls a rank; as many on every rank."""
        return self._batches * self.options.draws

    @property
    def _batches(self) -> int:
        return math.ceil(len(self.blocks) / (self.context.batch_size * self.context.world_size))

    def update(self, index: int) -> None:
        """Mask and measure one batch of blocks."""
        draw, number = divmod(index, self._batches)
        size, ranks = self.context.batch_size, self.context.world_size
        places = (number * size + torch.arange(size)) * ranks + self.context.rank  # dealt by rank
        inside = places < len(self.blocks)  # past the end, block 0 is called and does not count
        places = torch.where(inside, places, 0)
        rows, device = self.blocks[places], self.context.device
        batch = self.source.batch(rows)
        mask = self._mask(batch, rows, draw)
        hits, masked, bins = self._hits(batch, mask)
        self.table.update(
            places.to(device),
            bins,
            hits * inside.to(device),
            masked * inside.to(device),
        )

    def _mask(self, batch: Batch, rows: Tensor, draw: int) -> Tensor:
        """``[B, L]`` bool, from numbers that are a function of the seed and the block alone."""
        draws = self.options.draws
        u, noise = [], []
        for block in rows.tolist():
            numbers = self.context.draws(
                self.context.seed, block, torch.arange(draws), draws
            )  # the block plays the step
            u.append(numbers.strata("masked_accuracy/time", "jittered")[draw])
            noise.append(numbers.uniform("masked_accuracy/mask", batch.tokens.shape[1])[draw])
        maskable = batch.scored()
        count = (torch.stack(u) * maskable.sum(-1)).ceil().long()
        return uniform_subset(torch.stack(noise), count, maskable)

    def _hits(self, batch: Batch, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Right ones, masked ones (float64) and the bin (int64) of each row, ``[B]`` each."""
        device, mask_id = self.context.device, self.context.tokenizer.vocab.mask_id
        rate = mask.sum(-1).double() / batch.scored().sum(-1).clamp(min=1)
        t = time_at_mask_rate(self.context.noise_schedule.alpha, rate).float().to(device)
        attention, mask = batch.attention().to(device), mask.to(device)
        tokens = batch.tokens.to(device)
        xt = mask_tokens(tokens, mask, mask_id)

        def right(denoiser: Denoiser) -> Tensor:
            h = denoiser(xt, t=t, attention=attention)
            likeliest = masked_logits(denoiser.unembed(h[mask]), mask_id).argmax(-1)
            return sum_by_row((likeliest == tokens[mask]).double(), mask)

        bins = (rate * self.options.bins).ceil().long().clamp(min=1) - 1
        return self.context.call(right), mask.sum(-1).double(), bins.to(device)

    def compute(self) -> dict[str, Measurement]:
        """Accuracy over all masked tokens, and in each bin that has any: ``accuracy_0.2_0.4``.

        Raises:
            DataError: where no token was masked.
        """
        hits, masked = (part.cpu() for part in self.table.compute())  # [N, bins]
        if not masked.sum() > 0:
            raise DataError(f"masked_accuracy: no token of split {self.options.split!r} is scored")
        found = {"accuracy": ratio(hits.sum(-1), masked.sum(-1))}
        edges = [f"{i / self.options.bins:.3g}" for i in range(self.options.bins + 1)]
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            if masked[:, number].sum() > 0:
                found[f"accuracy_{low}_{high}"] = ratio(hits[:, number], masked[:, number])
        return found

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split, its source, the blocks and the masks."""
        return {
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "draws": self.options.draws,
            "tokens_masked": int(self.table.compute()[1].sum()) if self.table.update_called else 0,
            "bins": "of the mask ratio, each with its upper end",
            "seed": self.context.seed,
            "stderr": "ratio estimator over blocks",
        }


def ratio(hits: Tensor, masked: Tensor) -> Measurement:
    """Σ hits / Σ masked with the standard error of a ratio estimator over N >= 2 blocks.

    Where all or none are right the blocks show no scatter; the error is then that of a binomial
    share under a uniform prior, which is never zero.
    """
    count, total = len(hits), masked.sum()
    value = hits.sum() / total
    scatter = (hits - value * masked).square().sum() * count / (count - 1)
    a, b = float(hits.sum()) + 1, float(total - hits.sum()) + 1
    least = math.sqrt(a * b / (a + b + 1)) / (a + b) if min(a, b) == 1 else 0.0
    return Measurement(value=float(value), stderr=max(float(scatter.sqrt() / total), least))


@hookimpl
def mdmkit_evaluators() -> Mapping[str, type]:
    """The evaluator of this plugin."""
    return {"masked_accuracy": MaskedAccuracy}


def contract_examples(directory: Path) -> Iterator[MaskedAccuracy]:  # noqa: ARG001 - needs no files
    """What ``pytest --mdmkit-contract mdmkit-masked-accuracy`` tries."""
    yield MaskedAccuracy()
    yield MaskedAccuracy(split="test", draws=3, bins=1, blocks=5)
    yield MaskedAccuracy(bins=100)
