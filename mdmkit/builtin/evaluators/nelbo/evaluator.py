"""The evaluator of the NELBO: its options, its numbers, and drawing until they are precise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from attrs import field, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.likelihood import (
    Sample,
    bytes_of,
    documents_of,
    measurements,
    require_measured,
)
from mdmkit.builtin.evaluators.nelbo.designs import DESIGNS, Design
from mdmkit.builtin.evaluators.nelbo.errors import error_of_draws
from mdmkit.builtin.evaluators.nelbo.neighbours import NeighbourCounts, count_neighbours
from mdmkit.builtin.evaluators.pairs import Deal, blocks_to_measure
from mdmkit.errors import RecipeError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, EvaluationContext, Split
from mdmkit.values import BlockTable, Measurement

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.nelbo.rounds import Round
    from mdmkit.recipe import Recipe

Estimator = Literal["controlled", "count", "pairs", "time"]


@frozen(kw_only=True)
class Nelbo:
    """The NELBO in nats and bits per token, and exp of it: a bound on the perplexity.

    An estimate by Monte Carlo from ``draws`` masks a block, all estimators unbiased:

    - ``controlled``: counts of masked tokens drawn as often as they are noisy, and a control
      variate: what the visible neighbours let one expect of a masked token, from the counts of
      the text, fitted on the other half of the blocks;
    - ``count``: counts uniform, nothing else; what validation during training uses;
    - ``pairs``: the same, each second mask being the complement of the first;
    - ``time``: MDLM's (arXiv 2406.07524): times t uniform in [``sampling_eps``, 1], every token
      masked by itself at (1 − ``sampling_eps``)·t, weight 1/t, whatever the run's schedule; at
      ``sampling_eps = 0`` only it is unbiased, else it leaves a little of the bound out.

    An objective with an exact NLL is computed once. ``stderr`` is over documents where the split
    has ten or more, else over blocks, taken as a sample of their kind of text; ``draws_stderr`` is
    the part that is due to the draws. With ``precision`` rounds of ``draws`` masks a block are
    added until draws_stderr, relative to the NELBO, is no larger. More draws do not lower the rest
    of ``stderr``: that takes more text.
    """

    chief: ClassVar[tuple[str, ...]] = ("nelbo_per_token", "ppl", "bits_per_byte")

    split: Split = option("validation", doc="which split: train, validation or test")
    draws: int = option(1, ge=1, doc="masks a block; an exact objective needs one")
    blocks: int = option(0, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")
    estimator: Estimator = option(
        "controlled", doc="controlled, count, pairs (an even number of draws) or time"
    )
    sampling_eps: float = option(
        0.0, ge=0, lt=1, doc="of estimator time: no time is drawn below (MDLM: 0.001)"
    )
    precision: float = option(
        0.0, ge=0, lt=1, doc="draw until draws_stderr over the NELBO is no larger; 0: draw once"
    )
    max_draws: int = option(256, ge=1, doc="masks a block at most, with precision")

    def build(self, context: EvaluationContext) -> LiveNelbo:
        """Open the split.

        Raises:
            DataError: where it has fewer than the two blocks that an error needs.
            RecipeError: for options that do not go together.
        """
        for problem in self.check():
            raise RecipeError(f"nelbo: {problem}")
        source = context.blocks(self.split)
        blocks = blocks_to_measure(source, self.blocks, evaluator="nelbo", split=self.split)
        exact = context.objective.exact
        design = DESIGNS["count" if exact else self.estimator]
        live = LiveNelbo(
            options=self,
            context=context,
            source=source,
            blocks=blocks,
            design=design,
            counts=count_neighbours(source) if design.controlled else None,
            draws=1 if exact else self.draws,
            deal=Deal.of(len(blocks) * (1 if exact else self.draws), context),
        )
        live.add_round()
        return live

    def check(self, recipe: Recipe | None = None) -> Iterator[str]:  # noqa: ARG002 - not needed
        """Options that do not go together."""
        group = DESIGNS[self.estimator].group
        name = f'estimator = "{self.estimator}"'
        if self.draws % group:
            yield (
                f"draws: {name} takes {group} masks at a time; expected a multiple of {group}, "
                f"got {self.draws}"
            )
        if self.sampling_eps and self.estimator != "time":
            yield f'sampling_eps: {name} draws no times; it belongs to estimator = "time"'
        if self.precision and self.max_draws < max(self.draws, 2 * group):
            yield (
                "max_draws: precision is judged from a round of draws, and at least "
                f"{2 * group} masks a block; got {self.max_draws} with draws = {self.draws}"
            )


@frozen(kw_only=True, eq=False)
class LiveNelbo:
    """`Nelbo` on one network and one split, made by its ``build``.

    Attributes:
        blocks: ``[N]`` int64, which blocks of the split.
        draws: of a round.
        rounds: begun so far; `precision` adds more.
    """

    options: Nelbo
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    design: Design
    counts: NeighbourCounts | None
    draws: int
    deal: Deal
    rounds: list[Round] = field(factory=list)

    def add_round(self) -> None:
        """Go on with as many draws again."""
        from mdmkit.builtin.evaluators.nelbo.rounds import Round  # torchmetrics takes a second

        self.rounds.append(
            Round.start(
                self.context,
                self.design,
                counts=self.counts,
                sampling_eps=self.options.sampling_eps,
                blocks=self.blocks,
                draws=self.draws,
                number=len(self.rounds),
            )
        )

    def __len__(self) -> int:
        """Batches a rank, in the rounds begun so far."""
        return len(self.deal) * len(self.rounds)

    def update(self, index: int) -> None:
        """Measure one batch of (block, draw) pairs; after the last, begin more rounds if needed."""
        pairs, weights = self.deal.batch(index % len(self.deal))
        batch = self.source.batch(self.blocks[pairs // self.draws])
        here = batch.to(self.context.device)
        self.rounds[index // len(self.deal)].measure(pairs, weights, batch, here)
        if self.options.precision and index == len(self) - 1:
            for _ in range(self._rounds_wanted()):
                self.add_round()

    def _rounds_wanted(self) -> int:
        """How many more: decided from all ranks' numbers, so the same on each."""
        if self.context.objective.exact:
            return 0
        done = len(self.rounds)
        left = self.options.max_draws // self.draws - done
        found = self.compute()["nelbo_per_token"]
        if found.draws_stderr is None:
            return min(1, left)
        ratio = found.draws_stderr / (self.options.precision * found.value)
        if ratio <= 1:
            return 0
        # the error falls as 1/√draws; its estimate is uncertain, so at most twice as many at once
        return max(0, min(math.ceil(done * ratio**2) - done, done, left))

    def by_pair(self) -> BlockTable:
        """What each draw of each block gave, over all ranks."""
        from mdmkit.builtin.evaluators.nelbo.rounds import estimates

        found = [part.table.compute() for part in self.rounds]
        count = len(self.blocks)
        return BlockTable(
            blocks=self.blocks,
            documents=documents_of(self.source, self.blocks),
            nats=estimates(found, count),
            tokens=torch.cat([part.tokens.view(count, -1) for part in found], -1),
            masked=torch.cat([part.masked.view(count, -1) for part in found], -1),
        )

    def compute(self) -> dict[str, Measurement]:
        """NELBO in nats and bits per token (and per byte), and the bound on the perplexity.

        Raises:
            DataError: where no token of the blocks is scored.
            MdmkitError: where the network's cross-entropies are not finite.
        """
        # Draws are averaged, so that a block's tokens count once.
        table = self.by_pair()
        nats, tokens = table.nats.mean(-1), table.tokens.mean(-1)
        require_measured("nelbo", self.options.split, nats, tokens)
        exact = self.context.objective.exact
        spread = 0.0 if exact else error_of_draws(table.nats, self.design.group, self.draws)
        return measurements(
            "nelbo_per_token",
            nats,
            tokens,
            sample=Sample.of(table.documents),
            draws_error=spread,
            size=bytes_of(self.source, self.blocks),
        )

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split and its source, the blocks and the draws; read it after `compute`."""
        options, exact = self.options, self.context.objective.exact
        done = any(part.table.update_called for part in self.rounds)
        table = self.by_pair() if done else None
        sample = None if table is None else Sample.of(table.documents)
        facts: dict[str, Any] = {
            "split": options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "tokens_scored": 0 if table is None else int(table.tokens.mean(-1).sum()),
            "draws": self.draws * len(self.rounds),
            "exact": exact,
            "seed": self.context.seed,
            "estimator": "exact" if exact else options.estimator,
            "stratification": self.design.says,
            "stderr": "ratio estimator over "
            + ("blocks" if sample is None else f"{sample.count} {sample.kind}"),
        }
        if options.estimator == "time" and not exact:
            facts["sampling_eps"] = options.sampling_eps
        if options.precision and done and not exact:
            found = self.compute()["nelbo_per_token"]
            error = found.draws_stderr
            reached = error is not None and error <= options.precision * found.value
            facts["wanted_precision"] = {"asked": options.precision, "reached": reached}
            if not reached:
                facts["wanted_precision"]["note"] = (
                    f"stopped at max_draws = {options.max_draws} before the error of the draws "
                    "was as small as asked"
                )
        return facts
