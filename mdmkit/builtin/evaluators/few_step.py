"""What few steps cost, from h alone: the tokens that are drawn at once do not see each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.few_step_looks import Look, looks_of, subsets, walked
from mdmkit.builtin.evaluators.likelihood import (
    Sample,
    bytes_of,
    documents_of,
    ratio_of_sums,
    require_measured,
)
from mdmkit.builtin.evaluators.pairs import Deal, PairDraws, blocks_to_measure
from mdmkit.builtin.evaluators.step_counts import curve_weights, spread_counts
from mdmkit.diffusion import (
    mask_tokens,
    masked_nll,
    sum_by_row,
    time_at_mask_rate,
)
from mdmkit.errors import RecipeError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Split
from mdmkit.values import Batch, Measurement

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable
    from mdmkit.recipe import Recipe

UNIT = "nats/token"


@frozen(kw_only=True)
class FewStep:
    """The error of the sampler `ancestral` in T equal steps, predicted from the curve h.

    h(m) is the cross-entropy of a masked token where a uniform subset of m of a text's L tokens
    is masked. A step that lifts n of m masks pays n·h(m), where one at a time would pay
    h(m) + … + h(m − n + 1), so T steps cost E Σ_j n_j·h(m_j) − Σ_k h(k) nats more. The m_j are
    binomial, by the run's noise schedule; the sum is over their distribution, nothing of it drawn.

    For every network this is by how much the NELBO of the text under T steps is above its NELBO
    under as many as there are tokens. Where each prediction is the exact posterior, it is the
    expected KL divergence of what T steps generate from the text's distribution, for a known
    partition of the positions into steps; with the partition averaged out, it is an upper bound.

    Every mask count is tried on the same blocks with nested masks, and the errors are of the
    differences. Between the counts that are tried h is taken as linear.
    """

    chief: ClassVar[tuple[str, ...]] = ("h_0", "h_0.5", "h_1")
    predicts: ClassVar[tuple[str, ...]] = ("ancestral", "cached")

    split: Split = option("validation", doc="which split: train, validation or test")
    blocks: int = option(64, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")
    points: int = option(
        33, ge=2, doc="mask counts that are tried, 1 and L among them; a network call a block each"
    )
    steps: tuple[int, ...] = option((8, 16, 32, 64, 128), doc="each T that is predicted")
    direct: tuple[int, ...] = option(
        (), doc="each T whose steps are also gone through on the text: T network calls a block"
    )

    def __attrs_post_init__(self) -> None:
        """Refuse numbers of steps that are none, or twice the same."""
        for name, values in (("steps", self.steps), ("direct", self.direct)):
            if any(value < 1 for value in values) or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected different numbers >= 1, got {list(values)}")

    def applies(self, recipe: Recipe) -> bool:
        """Whether the run's network predicts masked tokens."""
        return bool(recipe.objective.prediction == "masked")

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A network that predicts something else."""
        if not self.applies(recipe):
            yield _WRONG_NETWORK

    def build(self, context: EvaluationContext) -> LiveFewStep:
        """Open the split.

        Raises:
            RecipeError: for a network that predicts the next token.
            DataError: where fewer than two blocks are to be measured.
        """
        from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable

        if context.prediction != "masked":
            raise RecipeError(_WRONG_NETWORK)
        source = context.blocks(self.split)
        blocks = blocks_to_measure(source, self.blocks, evaluator="few_step", split=self.split)
        looks = looks_of(min(self.points, max(context.length, 2)), self.direct)
        pairs = len(blocks) * len(looks)
        table = PairTable(pairs, sync_on_compute=context.world_size > 1)
        return LiveFewStep(
            options=self,
            context=context,
            source=source,
            blocks=blocks,
            looks=looks,
            deal=Deal.of(pairs, context),
            table=table.to(context.device),
        )


_WRONG_NETWORK = (
    "the network predicts the next token, one at a time; expected one that predicts masked tokens "
    "(there are no steps to save)"
)


@frozen(kw_only=True, eq=False)
class LiveFewStep:
    """`FewStep` on one network and one split, made by its ``build``.

    Attributes:
        blocks: ``[N]`` int64, which blocks of the split.
        looks: how each of them is looked at; pair p is look p mod K of the block at p div K.
        deal: which rank does which pairs when.
        table: what was found, by pair.
    """

    options: FewStep
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    looks: list[Look]
    deal: Deal
    table: PairTable

    def __len__(self) -> int:
        """Batches a rank."""
        return len(self.deal)

    def update(self, index: int) -> None:
        """Do one batch of looks."""
        pairs, weights = self.deal.batch(index)
        places, device = pairs // len(self.looks), self.context.device
        batch = self.source.batch(self.blocks[places])
        masked, lifted = self._masks(
            batch, places, [self.looks[i] for i in pairs % len(self.looks)]
        )
        nats = self._nats(batch.to(device), masked.to(device), lifted.to(device))
        rows = (weights, batch.scored().sum(-1).double(), lifted.sum(-1).double())
        weights, tokens, counted = (row.to(device) for row in rows)
        self.table.update(pairs.to(device), nats * weights, tokens * weights, counted * weights)

    def _masks(self, batch: Batch, places: Tensor, looks: list[Look]) -> tuple[Tensor, Tensor]:
        """What is masked, and which of the masks count: ``[B, L]`` bool each."""
        scored = batch.scored()
        # one order of the positions for each block: its masks are nested
        subset = subsets(scored, self._counts(scored.sum(-1)), looks, self._noise("mask", places))
        if not self.options.direct:
            return subset, subset
        when = self._noise("steps", places).double()
        return walked(scored, subset, looks, when, self.context.noise_schedule)

    def _noise(self, stream: str, places: Tensor) -> Tensor:
        """A row of noise for each block, the same in all of its looks: ``[B, L]``."""
        blocks, inverse = torch.unique(places, return_inverse=True)
        draws = PairDraws(
            make=self.context.draws,
            seed=self.context.seed,
            blocks=self.blocks,
            order=torch.zeros(1, len(self.blocks), dtype=torch.int64),
            rows=blocks,
        )
        return draws.uniform(f"few_step/{stream}", self.context.length)[inverse]

    def _counts(self, lengths: Tensor) -> Tensor:
        """The mask counts of texts of ``lengths [B]``: ``[B, K]``."""
        return spread_counts(lengths, sum(look.steps == 0 for look in self.looks))

    def _nats(self, batch: Batch, masked: Tensor, lifted: Tensor) -> Tensor:
        """The summed cross-entropies of the tokens that count: ``[B]`` float64."""
        context, vocab = self.context, self.context.tokenizer.vocab
        rate = masked.sum(-1).double() / batch.scored().sum(-1).clamp(min=1)
        t = time_at_mask_rate(context.noise_schedule.alpha, rate)
        xt = mask_tokens(batch.tokens, masked, vocab.mask_id)

        def look(denoiser: Denoiser) -> Tensor:
            h = denoiser(xt, t=t.float(), attention=batch.attention())
            return masked_nll(denoiser.unembed(h[lifted]), batch.tokens[lifted], vocab.mask_id)

        return sum_by_row(context.call(look).double(), lifted)

    def compute(self) -> dict[str, Measurement]:
        """Points of h, its mean (the NELBO per token), and for each T what is predicted.

        Raises:
            DataError: where no token of the blocks is scored.
            MdmkitError: where the network's cross-entropies are not finite.
        """
        curve, walked, tokens = self._found()
        require_measured("few_step", self.options.split, torch.cat([curve, walked], dim=-1), tokens)
        lengths = tokens.long().tolist()
        weights = {
            length: curve_weights(
                self._counts(torch.tensor([length]))[0],
                length,
                steps=self.options.steps,
                schedule=self.context.noise_schedule,
            )
            for length in set(lengths)
        }
        rows = [weights[length] for length in lengths]
        nats = {
            name: torch.stack([row[name] @ h for row, h in zip(rows, curve, strict=True)])
            for name in rows[0]
        }
        for number, steps in enumerate(self.options.direct):
            nats[f"direct_error_{steps}"] = walked[:, number] - nats["h_mean"]
        return {name: self._per_token(values, tokens) for name, values in nats.items()}

    def _found(self) -> tuple[Tensor, Tensor, Tensor]:
        """h of each block ``[N, K]``, its NLL in the steps of each `direct`, its tokens ``[N]``."""
        found, shape = self.table.compute(), (len(self.blocks), len(self.looks))
        nats, masked = found.nats.view(shape), found.masked.view(shape)
        points = sum(look.steps == 0 for look in self.looks)
        walks = torch.split(nats[:, points:], list(self.options.direct), dim=1)
        walked = [walk.sum(-1) for walk in walks]
        return (
            nats[:, :points] / masked[:, :points].clamp(min=1),
            torch.stack(walked, -1) if walked else nats.new_zeros(len(nats), 0),
            found.tokens.view(shape)[:, 0],
        )

    def _per_token(self, nats: Tensor, tokens: Tensor) -> Measurement:
        sample = Sample.of(documents_of(self.source, self.blocks))
        value, error = ratio_of_sums(sample.sums(nats), sample.sums(tokens))
        return Measurement(value=value, stderr=error, unit=UNIT)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split and its source, and after `compute` the whole curve with its errors."""
        sample = Sample.of(documents_of(self.source, self.blocks))
        facts = {
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "predicts": list(self.options.predicts),
            "stderr": f"ratio estimator over {sample.count} {sample.kind}",
        }
        if self.table.update_called:
            facts |= self._curve()
        return facts

    def _curve(self) -> dict[str, Any]:
        """Point by point, with the mean mask count where texts differ in length."""
        curve, _, tokens = self._found()
        counts = self._counts(tokens.long()).double()
        masked = ((counts * tokens[:, None]).sum(0) / tokens.sum()).tolist()
        points = [self._per_token(h * tokens, tokens) for h in curve.unbind(1)]
        size = bytes_of(self.source, self.blocks)
        return {
            "tokens_scored": int(tokens.sum()),
            "bytes_per_token": None if size is None else float(size.sum() / tokens.sum()),
            "curve": [
                {"masked": _whole(count), "nats_per_token": point.value, "stderr": point.stderr}
                for count, point in zip(masked, points, strict=True)
            ],
        }


def _whole(number: float) -> float:
    return round(number) if math.isclose(number, round(number)) else number
