"""The loss by mask ratio: h at a grid of mask counts, beside what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.loss_over_training import over_training
from mdmkit.builtin.evaluators.analysis.loss_pictures import (
    GAP,
    LOSS,
    WITHOUT,
    gap_picture,
    loss_picture,
)
from mdmkit.builtin.evaluators.analysis.pair_information import contiguous_groups
from mdmkit.builtin.evaluators.few_step_looks import looks_of, subsets
from mdmkit.builtin.evaluators.likelihood import (
    Sample,
    documents_of,
    ratio_of_sums,
    require_measured,
)
from mdmkit.builtin.evaluators.pairs import Deal, PairDraws, blocks_to_measure, evenly_spaced
from mdmkit.builtin.evaluators.step_counts import interpolation, spread_counts
from mdmkit.diffusion import with_padding
from mdmkit.errors import RecipeError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Split, Subject
from mdmkit.values import Batch, Measurement, Picture

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable
    from mdmkit.recipe import Recipe

UNIT = "nats/token"
RATIOS = (0.1, 0.5, 0.9)
"""Mask ratios at which h is told as a number."""

_COUNTED_TOKENS = 2_000_000  # for the unigram entropy; more would change little
_COUNTED_ROWS = 1024
_GROUPS = 16  # for the jackknife of differences between checkpoints
_DIGITS = 7  # of their levels
_WRONG_NETWORK = (
    "the network does not predict masked tokens, and a mask ratio means nothing to it; expected "
    "one that does"
)


@frozen(kw_only=True)
class LossByMaskRatio:
    """h by mask ratio: what a masked token costs where so much of its block is masked.

    h_k is the mean cross-entropy of a masked token where a uniform subset of exactly k of the L
    tokens of a block is masked; the mean of h_1 … h_L is the NELBO per token. It is measured at
    ``points`` counts, on the same blocks with nested masks, which are the same for every run and
    checkpoint that is measured with one seed and on one split; between the counts h is taken as
    linear.

    Beside it: the unigram entropy (of the split, from its counts), and where the corpus knows its
    own (``markov_text``, ``topic_text``) the true conditional entropy, below which no network gets.
    Over training: how the levels fall, and what is gained against what stays.

    To a network that predicts the next token, of any order, a mask ratio means nothing: there it
    does not apply.
    """

    subject: ClassVar[Subject] = "network"
    chief: ClassVar[tuple[str, ...]] = ("h_0.1", "h_0.5", "h_0.9", "h_mean")

    split: Split = option("validation", doc="which split: train, validation or test")
    blocks: int = option(128, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")
    points: int = option(
        17, ge=2, doc="mask counts that are tried, 1 and L among them; a network call a block each"
    )

    over_training = staticmethod(over_training)

    def applies(self, recipe: Recipe) -> bool:
        """Whether the run's network predicts masked tokens."""
        return bool(recipe.objective.prediction == "masked")

    def build(self, context: EvaluationContext) -> LiveLossByMaskRatio:
        """Open the split.

        Raises:
            RecipeError: for a network that does not predict masked tokens.
            DataError: where fewer than two blocks are to be measured.
        """
        from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable

        if context.prediction != "masked":
            raise RecipeError(f"loss_by_mask_ratio: {_WRONG_NETWORK}")
        source = context.blocks(self.split)
        blocks = blocks_to_measure(
            source, self.blocks, evaluator="loss_by_mask_ratio", split=self.split
        )
        points = min(self.points, max(context.length, 2))
        pairs = len(blocks) * points
        table = PairTable(pairs, sync_on_compute=context.world_size > 1)
        return LiveLossByMaskRatio(
            options=self,
            context=context,
            source=source,
            blocks=blocks,
            points=points,
            deal=Deal.of(pairs, context),
            table=table.to(context.device),
            unigram=unigram_entropy(source, context.tokenizer.vocab.size),
        )


@frozen(kw_only=True, eq=False)
class LiveLossByMaskRatio:
    """`LossByMaskRatio` on one network and one split, made by its ``build``.

    Attributes:
        blocks: ``[N]`` int64, which blocks of the split.
        points: K, mask counts; pair p is count p mod K of the block at p div K.
        deal: which rank does which pairs when.
        table: what was found, by pair.
        unigram: entropy of a token by itself, in nats.
    """

    options: LossByMaskRatio
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    points: int
    deal: Deal
    table: PairTable
    unigram: float

    def __len__(self) -> int:
        """Batches a rank."""
        return len(self.deal)

    def update(self, index: int) -> None:
        """Measure one batch of (block, count) pairs."""
        pairs, weights = self.deal.batch(index)
        batch = self.source.batch(self.blocks[pairs // self.points])
        mask, scored = self._masks(batch, pairs), batch.scored()
        objective, device = self.context.objective, self.context.device
        here, hidden = batch.to(device), mask.to(device)

        def nats(denoiser: Denoiser) -> Tensor:
            return objective.nll(denoiser, here, hidden).sum(-1)

        found = self.context.call(nats).double() * weights.to(device)
        tokens, masked = scored.sum(-1) * weights, (mask & scored).sum(-1) * weights
        self.table.update(pairs.to(device), found, tokens.to(device), masked.to(device))

    def _masks(self, batch: Batch, pairs: Tensor) -> Tensor:
        """Uniform subsets of exact size, nested over the counts of a block: ``[B, L]`` bool."""
        scored, looks = batch.scored(), looks_of(self.points, ())
        draws = PairDraws(
            make=self.context.draws,
            seed=self.context.seed,
            blocks=self.blocks,
            order=torch.zeros(1, len(self.blocks), dtype=torch.int64),
            rows=pairs // self.points,
        )
        noise = draws.uniform("loss_by_mask_ratio/mask", scored.shape[-1])
        counts = spread_counts(scored.sum(-1), self.points)
        chosen = [looks[place] for place in (pairs % self.points).tolist()]
        mask = subsets(scored, counts, chosen, noise)
        if batch.padding_seen and batch.real is not None:
            mask = with_padding(mask, noise, ~batch.real)
        return mask

    def compute(self) -> dict[str, Measurement]:
        """h at some mask ratios, its mean (the NELBO per token), and the gap where it is known.

        Raises:
            DataError: where no token of the blocks is scored.
            MdmkitError: where the network's cross-entropies are not finite.
        """
        h, tokens = self._found()
        require_measured("loss_by_mask_ratio", self.options.split, h, tokens)
        numbers = {
            f"h_{ratio:g}": self._at(h, tokens, partial(_count_at, ratio)) for ratio in RATIOS
        }
        mean = numbers["h_mean"] = self._at(h, tokens, _every_count)
        length = self.context.length
        true = self._true(range(1, length + 1))
        if true is not None:
            gap = mean.value - float(true.mean())
            numbers["gap_mean"] = Measurement(value=gap, stderr=mean.stderr, unit=UNIT)
        return numbers

    def _found(self) -> tuple[Tensor, Tensor]:
        """h of each block at each count, ``[N, K]``, and its tokens ``[N]``."""
        found, shape = self.table.compute(), (len(self.blocks), self.points)
        h = found.nats.view(shape) / found.masked.view(shape).clamp(min=1)
        return h, found.tokens.view(shape)[:, 0]

    def _at(
        self, h: Tensor, tokens: Tensor, places: Callable[[int], Iterable[float]]
    ) -> Measurement:
        """The mean of h over some counts of masks of a text of n tokens, linear in between."""
        rows = {}
        for length in set(tokens.long().tolist()):
            at = torch.tensor(list(places(length)), dtype=torch.float64)
            rows[length] = interpolation(self._counts(length), at).mean(0)
        weights = torch.stack([rows[length] for length in tokens.long().tolist()])
        return self._per_token((weights * h).sum(-1), tokens)

    def _counts(self, length: int) -> Tensor:
        """The mask counts of a text of so many tokens, ``[K]``."""
        return spread_counts(torch.tensor([length]), self.points)[0]

    def _per_token(self, h: Tensor, tokens: Tensor) -> Measurement:
        """The mean of a number of each block, ``[N]``, blocks counting as their tokens do."""
        sample = Sample.of(documents_of(self.source, self.blocks))
        value, error = ratio_of_sums(sample.sums(h * tokens), sample.sums(tokens))
        return Measurement(value=value, stderr=error, unit=UNIT)

    def _true(self, counts: Iterable[int]) -> Tensor | None:
        """The true conditional entropy at mask counts of whole blocks, where it is known."""
        entropy = getattr(self.context.corpus, "masked_entropy", None)
        packing = self.source.provenance.get("packing", {})
        if entropy is None or packing.get("use") != "packed":  # other packings may move tokens
            return None
        length = self.context.length
        return torch.tensor([entropy(k, length) for k in counts], dtype=torch.float64)

    def pictures(self) -> dict[str, Picture]:
        """h by mask ratio, and the gap to the true curve where that is known."""
        h, tokens = self._found()
        lengths = tokens.long().tolist()
        counts = torch.stack([self._counts(length) for length in lengths]).double()
        x = counts.sum(0) / tokens.sum()
        points = [self._per_token(column, tokens) for column in h.unbind(1)]
        values = torch.tensor([point.value for point in points])
        stderr = torch.tensor([point.stderr for point in points])
        true = self._true(self._counts(self.context.length).tolist())
        drawn = {LOSS: loss_picture(x, values, stderr, unigram=self.unigram, true=true)}
        if true is not None:
            drawn[GAP] = gap_picture(x, values - true, stderr)
        return drawn

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split and its source, and how the errors are made."""
        sample = Sample.of(documents_of(self.source, self.blocks))
        facts = {
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "mask_counts": self._counts(self.context.length).tolist(),
            "unigram_entropy": self.unigram,
            "stderr": f"ratio estimator over {sample.count} {sample.kind}",
        }
        if self.table.update_called:  # so that differences between checkpoints have errors
            facts[WITHOUT] = self._without_each_group(sample)
        return facts

    def _without_each_group(self, sample: Sample) -> list[list[float]]:
        """h at each count, without each of some groups of units: ``[G, K]``."""
        h, tokens = self._found()
        groups = contiguous_groups(sample.unit, _GROUPS)
        sums, sizes = h.new_zeros(_GROUPS, self.points), tokens.new_zeros(_GROUPS)
        sums.index_add_(0, groups, h * tokens[:, None])
        sizes.index_add_(0, groups, tokens)
        left = (sums.sum(0) - sums) / (sizes.sum() - sizes).clamp(min=1)[:, None]
        return [[round(one, _DIGITS) for one in row] for row in left[: groups.max() + 1].tolist()]


def _count_at(ratio: float, length: int) -> list[float]:
    return [max(ratio * length, 1.0)]


def _every_count(length: int) -> range:
    return range(1, length + 1)


def unigram_entropy(source: BlockSource, vocab_size: int) -> float:
    """The entropy of the tokens of a split by themselves, in nats, from their counts.

    Args:
        source: the split; some two million of its tokens are counted, in evenly spaced blocks.
        vocab_size: V.
    """
    length = source.batch(torch.arange(1)).tokens.shape[1]
    rows, counts = evenly_spaced(len(source), _COUNTED_TOKENS // length), torch.zeros(vocab_size)
    for some in torch.split(rows, _COUNTED_ROWS):
        batch = source.batch(some)
        counts += torch.bincount(batch.tokens[batch.scored()], minlength=vocab_size)
    shares = counts.double() / counts.sum().clamp(min=1)
    return float(-torch.xlogy(shares, shares).sum())
