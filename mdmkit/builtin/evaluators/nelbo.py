"""The NELBO: what every training, however weighted, is measured by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.pairs import Deal, PairDraws, evenly_spaced, shuffled
from mdmkit.errors import DataError, MdmkitError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Split
from mdmkit.values import BlockTable, Bound, Measurement

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.pair_table import PairTable


@frozen(kw_only=True)
class Nelbo:
    """The NELBO in nats and bits per token, and exp of it: a bound on the perplexity.

    An estimate by Monte Carlo: each block is masked ``draws`` times, at times stratified over its
    draws and over the blocks. An objective with an exact NLL is computed once. The standard error
    is over blocks, those of the split taken as a sample of its kind of text; it holds the error
    of the draws, too, and overstates that part, since it takes no account of the stratification.
    """

    split: Split = option("validation", doc="which split: train, validation or test")
    draws: int = option(1, ge=1, doc="masks a block; an exact objective needs one")
    blocks: int = option(0, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")

    def build(self, context: EvaluationContext) -> LiveNelbo:
        """Open the split.

        Raises:
            DataError: where it has fewer than the two blocks that an error needs.
        """
        from mdmkit.builtin.evaluators.pair_table import PairTable  # torchmetrics takes a second

        source = context.blocks(self.split)
        blocks = evenly_spaced(len(source), self.blocks)
        if len(blocks) < 2:
            raise DataError(
                f"nelbo: {len(blocks)} of the {len(source)} blocks of split {self.split!r} are "
                "to be measured; expected at least 2, for there is no standard error of one "
                "(more text, a shorter data.length, or another number of blocks)"
            )
        draws = 1 if context.objective.exact else self.draws
        table = PairTable(len(blocks) * draws, sync_on_compute=context.world_size > 1)
        return LiveNelbo(
            options=self,
            context=context,
            source=source,
            blocks=blocks,
            order=shuffled(context.draws, context.seed, len(blocks), draws),
            deal=Deal(
                pairs=len(blocks) * draws,
                batch_size=context.batch_size,
                rank=context.rank,
                world_size=context.world_size,
            ),
            table=table.to(context.device),
        )


@frozen(kw_only=True, eq=False)
class LiveNelbo:
    """`Nelbo` on one network and one split, made by its ``build``.

    Attributes:
        blocks: ``[N]`` int64, which blocks of the split.
        order: ``[n, N]`` int64, see `mdmkit.builtin.evaluators.pairs.shuffled`.
    """

    options: Nelbo
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    order: Tensor
    deal: Deal
    table: PairTable

    def __len__(self) -> int:
        """Batches a rank."""
        return len(self.deal)

    def update(self, index: int) -> None:
        """Measure one batch of (block, draw) pairs."""
        pairs, weights = self.deal.batch(index)
        places = pairs // len(self.order)
        device = self.context.device
        batch = self.source.batch(self.blocks[places]).to(device)
        draws = PairDraws(
            make=self.context.draws,
            seed=self.context.seed,
            blocks=self.blocks,
            order=self.order,
            rows=pairs,
        )

        def bound(denoiser: Denoiser) -> Bound:
            return self.context.objective.bound(denoiser, batch, draws)

        found = self.context.call(bound)
        masked = torch.zeros_like(found.tokens) if found.masked is None else found.masked
        weights = weights.to(device)  # a row of weight 0 only fills up the batch
        self.table.update(
            pairs.to(device),
            *(part.to(device).double() * weights for part in (found.nats, found.tokens, masked)),
        )

    def by_pair(self) -> BlockTable:
        """What each draw of each block gave, over all ranks."""
        shape = (len(self.blocks), len(self.order))
        nats, tokens, masked = (part.cpu().view(shape) for part in self.table.compute())
        documents = getattr(self.source, "documents", None)
        return BlockTable(
            blocks=self.blocks,
            documents=self.blocks if documents is None else documents(self.blocks),
            nats=nats,
            tokens=tokens,
            masked=masked,
        )

    def compute(self) -> dict[str, Measurement]:
        """NELBO in nats and bits per token and the bound on the perplexity.

        Raises:
            DataError: where no token of the blocks is scored.
            MdmkitError: where the network's cross-entropies are not finite.
        """
        # Draws are averaged, so that a block's tokens count once.
        table = self.by_pair()
        nats, tokens = table.nats.mean(-1), table.tokens.mean(-1)
        if not tokens.sum() > 0:
            raise DataError(f"nelbo: no token of split {self.options.split!r} is scored")
        value, error = ratio_of_sums(nats, tokens)
        if not (math.isfinite(value) and math.isfinite(error)):
            raise MdmkitError(
                f"nelbo: the network's cross-entropies on split {self.options.split!r} are not "
                "finite; its weights are damaged, or training diverged (a smaller "
                "learning_rate.peak, or an earlier --checkpoint)"
            )
        return {
            "nelbo_per_token": Measurement(value=value, stderr=error, unit="nats/token"),
            "bits_per_token": Measurement(
                value=value / math.log(2), stderr=error / math.log(2), unit="bits/token"
            ),
            # delta method: d exp(x) = exp(x) dx
            "ppl": Measurement(value=math.exp(value), stderr=math.exp(value) * error),
        }

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split and its source, the blocks and the draws; read it after `compute`."""
        return {
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "tokens_scored": self._tokens_scored(),
            "draws": len(self.order),
            "exact": self.context.objective.exact,
            "seed": self.context.seed,
            "stratification": "jittered over the draws of a block and over blocks",
            "stderr": "ratio estimator over blocks",
        }

    def _tokens_scored(self) -> int:
        return int(self.by_pair().tokens.mean(-1).sum()) if self.table.update_called else 0


def ratio_of_sums(nats: Tensor, tokens: Tensor) -> tuple[float, float]:
    """Σ nats / Σ tokens with its standard error, blocks being independent.

    The error is that of a ratio estimator: from the residuals nats_b − r·tokens_b.

    Args:
        nats, tokens: ``[N]`` float64 with N >= 2.
    """
    ratio = nats.sum() / tokens.sum()
    residuals = nats - ratio * tokens
    count = len(nats)
    error = (residuals.square().sum() * count / (count - 1)).sqrt() / tokens.sum()
    return float(ratio), float(error)
