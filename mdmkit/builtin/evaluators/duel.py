"""The exact likelihood of a text that is unmasked in a deterministic order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.likelihood import (
    Sample,
    bytes_of,
    documents_of,
    measurements,
    require_measured,
)
from mdmkit.builtin.evaluators.pairs import Deal, blocks_to_measure
from mdmkit.builtin.orders import ORDERS, Order
from mdmkit.diffusion import mask_tokens, masked_logits, scattered, time_at_mask_rate
from mdmkit.errors import RecipeError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Split
from mdmkit.values import Batch, Measurement

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable
    from mdmkit.recipe import Recipe


@frozen(kw_only=True)
class Duel:
    """The exact NLL under a deterministic unmasking order (DUEL, arXiv 2603.01367).

    All scored tokens are masked. At each step the network looks at what is visible, a rule picks
    masked positions by its distributions alone, their true tokens count −log p, and are revealed.
    The rule never sees the tokens it picks, so this is the likelihood of a sampler that unmasks by
    the same rule: exp(−NLL) over all texts sums to 1, with several tokens a step, too. No
    Monte-Carlo noise, but one network call for every ``tokens_per_step`` tokens of the length.

    ``order``: margin (between the two likeliest tokens; arXiv 2603.01367 names it a strong
    default), confidence (probability of the likeliest), entropy (lowest) or left_to_right; ties go
    to the left.
    """

    chief: ClassVar[tuple[str, ...]] = ("nll_per_token", "ppl", "bits_per_byte")

    split: Split = option("validation", doc="which split: train, validation or test")
    blocks: int = option(0, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")
    order: Order = option("margin", doc="margin, confidence, entropy or left_to_right")
    tokens_per_step: int = option(1, ge=1, doc="tokens revealed at a time")

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A network that predicts something else."""
        if recipe.objective.prediction != "masked":
            yield _WRONG_NETWORK

    def build(self, context: EvaluationContext) -> LiveDuel:
        """Open the split.

        Raises:
            RecipeError: for a network that predicts the next token.
            DataError: where it has fewer than the two blocks that an error needs.
        """
        from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable  # torchmetrics: a second

        if context.prediction != "masked":
            raise RecipeError(f"duel: {_WRONG_NETWORK}")
        source = context.blocks(self.split)
        blocks = blocks_to_measure(source, self.blocks, evaluator="duel", split=self.split)
        table = PairTable(len(blocks), sync_on_compute=context.world_size > 1)
        return LiveDuel(
            options=self,
            context=context,
            source=source,
            blocks=blocks,
            deal=Deal.of(len(blocks), context),
            table=table.to(context.device),
        )


_WRONG_NETWORK = (
    "the network predicts the next token, in one order only; expected one that predicts masked "
    "tokens (its exact NLL is what the evaluator nelbo gives)"
)


@frozen(kw_only=True, eq=False)
class LiveDuel:
    """`Duel` on one network and one split, made by its ``build``.

    Attributes:
        blocks: ``[N]`` int64, which blocks of the split.
        deal: which rank measures which of them when.
        table: what was found.
    """

    options: Duel
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    deal: Deal
    table: PairTable

    def __len__(self) -> int:
        """Batches a rank."""
        return len(self.deal)

    def update(self, index: int) -> None:
        """Measure one batch of blocks, from all masked to all revealed."""
        places, weights = self.deal.batch(index)
        batch = self.source.batch(self.blocks[places]).to(self.context.device)
        nats, weights = self._nats(batch), weights.to(self.context.device)
        tokens = batch.scored().sum(-1).double()
        self.table.update(
            places.to(self.context.device), nats * weights, tokens * weights, tokens * weights
        )

    def _nats(self, batch: Batch) -> Tensor:
        """The NLL of each row: ``[B]`` float64."""
        masked, step = batch.scored(), self.options.tokens_per_step
        nats = torch.zeros(len(masked), dtype=torch.float64, device=masked.device)
        # as many calls for every batch, on every rank: sharded networks call together
        for _ in range(-(-masked.shape[1] // step)):
            score, nll = self._look(batch, masked)
            score = score.masked_fill(~masked, -torch.inf)
            first = score.argsort(stable=True, dim=-1, descending=True)[:, :step]
            chosen = torch.zeros_like(masked).scatter_(1, first, value=True) & masked
            nats += (nll * chosen).sum(-1)
            masked = masked & ~chosen
        return nats

    def _look(self, batch: Batch, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the order and NLLs of the true tokens, at masked positions: ``[B, L]``."""
        context, vocab = self.context, self.context.tokenizer.vocab
        rate = masked.sum(-1).double() / batch.scored().sum(-1).clamp(min=1)
        t = time_at_mask_rate(context.noise_schedule.alpha, rate)
        xt = mask_tokens(batch.tokens, masked, vocab.mask_id)

        def look(denoiser: Denoiser) -> tuple[Tensor, Tensor]:
            h = denoiser(xt, t=t.float(), attention=batch.attention())
            log_p = masked_logits(denoiser.unembed(h[masked]), vocab.mask_id).double()
            log_p = log_p.log_softmax(-1)
            nll = -log_p.gather(-1, batch.tokens[masked][:, None])[:, 0]
            return ORDERS[self.options.order](log_p), nll

        score, nll = context.call(look)
        return scattered(score, masked), scattered(nll, masked)

    def compute(self) -> dict[str, Measurement]:
        """The NLL in nats and bits per token (and per byte), and the perplexity.

        Raises:
            DataError: where no token of the blocks is scored.
            MdmkitError: where the network's cross-entropies are not finite.
        """
        found = self.table.compute()
        require_measured("duel", self.options.split, found.nats, found.tokens)
        return measurements(
            "nll_per_token",
            found.nats,
            found.tokens,
            sample=Sample.of(documents_of(self.source, self.blocks)),
            draws_error=0.0,
            size=bytes_of(self.source, self.blocks),
        )

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split and its source, the blocks and the order; read it after `compute`."""
        sample = Sample.of(documents_of(self.source, self.blocks))
        return {
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "tokens_scored": int(self.table.compute().tokens.sum())
            if self.table.update_called
            else 0,
            "order": self.options.order,
            "tokens_per_step": self.options.tokens_per_step,
            "exact": True,
            "stderr": f"ratio estimator over {sample.count} {sample.kind}",
        }
