"""Where what predicts a token sits: its cross-entropy by how near the nearest visible text is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.hiding import Scene, rooms
from mdmkit.builtin.evaluators.analysis.locality_looks import Looks
from mdmkit.builtin.evaluators.analysis.locality_pictures import (
    LookTable,
    during_training,
    pictures,
)
from mdmkit.builtin.evaluators.likelihood import Sample, documents_of, require_measured
from mdmkit.builtin.evaluators.pairs import Deal, PairDraws, blocks_to_measure
from mdmkit.diffusion import mask_tokens, masked_nll, time_at_mask_rate
from mdmkit.errors import DataError, RecipeError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Split, Subject
from mdmkit.values import Batch, HeatMap, Measurement, Picture

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable
    from mdmkit.evaluation.driver import Result
    from mdmkit.recipe import Recipe

_ROWS = 64  # that are looked through at once
_NEAR = 4  # the largest radius that is called near
_SURE = 3.0  # standard errors


@frozen(kw_only=True)
class Locality:
    """The cross-entropy of a masked token by the nearest visible tokens, at one number of masks.

    In each block tokens far enough from its edges are the targets. Every look at a target masks
    as many tokens of its document (share·n, rounded), so that the mask ratio explains nothing:

    - by pair: the nearest visible token is at a distance l on the left and r on the right, the
      other masks being a uniform subset. That is the law of a uniform subset given l and r, so the
      table is what one would see by sorting masked tokens, but the rare cells have as many tokens;
    - by radius: all within r is hidden, on both sides or on one. What is near otherwise stays as
      it was, and as many tokens more are visible beyond the largest radius (nearer ones where
      these do not suffice). The nearest visible token may be farther away than r + 1;
    - nothing visible: what all of the context is worth.

    All looks share their blocks, targets and noise, and the errors of differences are of the
    differences. What is measured is what this network makes of the context, not what is in it.
    """

    chief: ClassVar[tuple[str, ...]] = ("lost_both", "lost_left", "lost_right", "near_share")
    subject: ClassVar[Subject] = "network"

    split: Split = option("validation", doc="which split: train, validation or test")
    blocks: int = option(192, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")
    targets: int = option(1, ge=1, doc="targets a block, each with looks of its own")
    share: float = option(0.5, gt=0, lt=1, doc="share of the tokens that is masked in every look")
    distances: tuple[int, ...] = option(
        (1, 2, 3, 4, 6, 12, 24), doc="of the pair table, tokens; those too far for the rows go"
    )
    radii: tuple[int, ...] = option(
        (1, 2, 3, 4, 6, 8, 12, 16, 24), doc="that are hidden, tokens; the same holds"
    )

    def __attrs_post_init__(self) -> None:
        """Refuse distances that are none, or twice the same."""
        for name, values in (("distances", self.distances), ("radii", self.radii)):
            if not values or any(value < 1 for value in values) or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected different numbers >= 1, got {list(values)}")

    def applies(self, recipe: Recipe) -> bool:
        """Whether the run's network predicts masked tokens."""
        return bool(recipe.objective.prediction == "masked")

    def build(self, context: EvaluationContext) -> LiveLocality:
        """Open the split and see how far from the edges its rows allow targets to be.

        Raises:
            RecipeError: for a network that does not predict masked tokens.
            DataError: where fewer than two blocks have a target.
        """
        from mdmkit.builtin.evaluators.nelbo.pair_table import PairTable  # torchmetrics: a second

        if context.prediction != "masked":
            raise RecipeError(f"locality: {_WRONG_NETWORK}")
        source = context.blocks(self.split)
        blocks = blocks_to_measure(source, self.blocks, evaluator="locality", split=self.split)
        parts = torch.split(blocks, _ROWS)
        room = torch.cat([rooms(source.batch(part), self.share).amax(-1) for part in parts])
        reach = self._reach(room)
        blocks = blocks[room >= reach]
        looks = Looks.within(reach, self.distances, self.radii)
        pairs = len(blocks) * self.targets * len(looks.all)
        table = PairTable(pairs, sync_on_compute=context.world_size > 1)
        return LiveLocality(
            options=self,
            context=context,
            source=source,
            blocks=blocks,
            reach=reach,
            looks=looks,
            deal=Deal.of(pairs, context),
            table=table.to(context.device),
        )

    def _reach(self, room: Tensor) -> int:
        """The largest distance or radius for which at least half of the blocks have a target.

        Args:
            room: ``[N]``, the most that a target of each block has.
        """
        enough = max(len(room) / 2, 2)
        fits = [r for r in {*self.distances, *self.radii} if int((room >= r).sum()) >= enough]
        if not fits:
            raise DataError(
                f"locality: a share {self.share:g} of masks leaves hardly a token of split "
                f"{self.split!r} with {min(*self.distances, *self.radii)} on both sides to hide; "
                "expected it in half of the blocks, and in two (smaller distances and radii, "
                "another share, or longer rows)"
            )
        return max(fits)

    @staticmethod
    def over_training(results: Mapping[int, Result]) -> Mapping[str, Picture | HeatMap]:
        """What hiding costs at each checkpoint."""
        return during_training(results)


_WRONG_NETWORK = (
    "the network does not predict masked tokens, so what is visible cannot be chosen; expected one "
    "that does"
)


@frozen(kw_only=True, eq=False)
class LiveLocality:
    """`Locality` on one network and one split, made by its ``build``.

    Attributes:
        blocks: ``[N]`` int64, the blocks that have a target.
        reach: targets have so many tokens on both sides.
        looks: K of them at each target; pair p is look p mod K, at target (p div K) mod T of the
            block at p div (K·T).
        deal: which rank does which pairs when.
        table: what was found, by pair.
    """

    options: Locality
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    reach: int
    looks: Looks
    deal: Deal
    table: PairTable

    def __len__(self) -> int:
        """Batches a rank."""
        return len(self.deal)

    def update(self, index: int) -> None:
        """Take one batch of looks."""
        pairs, weights = self.deal.batch(index)
        device, every = self.context.device, self.looks.all
        places = pairs // len(every) // self.options.targets
        batch = self.source.batch(self.blocks[places])
        scene = self._scene(batch, pairs // len(every))
        mask = scene.masks([every[number] for number in (pairs % len(every)).tolist()])
        nats = self._nats(batch.to(device), mask.to(device), scene.target.to(device))
        weights = weights.to(device)
        self.table.update(pairs.to(device), nats * weights, weights, weights)

    def _scene(self, batch: Batch, targets: Tensor) -> Scene:
        """The rows with their targets, uniform among the tokens that have room enough."""
        wanted, inverse = torch.unique(targets, return_inverse=True)
        draws = PairDraws(
            make=self.context.draws,
            seed=self.context.seed,
            blocks=self.blocks,
            order=torch.zeros(self.options.targets, len(self.blocks), dtype=torch.int64),
            rows=wanted,
        )
        length = batch.tokens.shape[1]
        noise, where = (draws.uniform(f"locality/{s}", length)[inverse] for s in ("mask", "target"))
        fits = rooms(batch, self.options.share) >= self.reach
        target = where.masked_fill(~fits, -1.0).argmax(-1)
        return Scene(
            batch=batch,
            target=target,
            noise=noise,
            share=self.options.share,
            reach=self.reach,
        )

    def _nats(self, batch: Batch, mask: Tensor, target: Tensor) -> Tensor:
        """The cross-entropy of each row's target: ``[B]`` float64."""
        context, vocab = self.context, self.context.tokenizer.vocab
        scored = batch.scored()
        rate = (mask & scored).sum(-1).double() / scored.sum(-1)
        t = time_at_mask_rate(context.noise_schedule.alpha, rate)
        xt = mask_tokens(batch.tokens, mask, vocab.mask_id)
        rows = torch.arange(len(xt), device=xt.device)

        def look(denoiser: Denoiser) -> Tensor:
            h = denoiser(xt, t=t.float(), attention=batch.attention())
            logits = denoiser.unembed(h[rows, target])
            return masked_nll(logits, batch.tokens[rows, target], vocab.mask_id)

        return context.call(look).double()

    def compute(self) -> dict[str, Measurement]:
        """What is lost by hiding all within the largest radius, on which side, and how near it was.

        Without `near_share` where the context is not surely worth anything.

        Raises:
            MdmkitError: where the network's cross-entropies are not finite.
        """
        table = self._found()
        radius = max(self.looks.radii, default=None)
        base, blind = self.looks.nothing_hidden(), self.looks.blind()
        found = {
            "nll": table.mean(base),
            "nll_blind": table.mean(blind),
            "context": table.difference(blind, base),
        }
        if radius is None:
            return found
        sides = {side: self.looks.hidden(side, radius) for side in ("both", "left", "right")}
        found |= {f"lost_{side}": table.difference(look, base) for side, look in sides.items()}
        found["left_minus_right"] = table.difference(sides["left"], sides["right"])
        near = [r for r in self.looks.radii if r <= _NEAR]
        if near and found["context"].value > _SURE * found["context"].stderr:
            hidden = self.looks.hidden("both", near[-1])
            found["near_share"] = table.share(hidden, base, blind)
        return found

    def pictures(self) -> dict[str, Picture | HeatMap]:
        """The pair table, the curves by distance, and those by hidden radius."""
        masked = f"{self.options.share:.0%} of the tokens are masked in every look"
        return pictures(self._found(), self.looks, masked)

    def _found(self) -> LookTable:
        found, units = self.table.compute(), self._sample()
        shape = (len(self.blocks), self.options.targets, len(self.looks.all))
        nats, counts = found.nats.view(shape).sum(1), found.tokens.view(shape).sum(1)
        require_measured("locality", self.options.split, nats, counts)
        sums = torch.stack([units.sums(column) for column in nats.unbind(-1)], -1)
        return LookTable(nats=sums, count=units.sums(counts[:, 0]))

    def _sample(self) -> Sample:
        return Sample.of(documents_of(self.source, self.blocks))

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split and its source, the targets and the looks at them."""
        sample = self._sample()
        near = [r for r in self.looks.radii if r <= _NEAR]
        return {
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "targets_measured": len(self.blocks) * self.options.targets,
            "tokens_on_both_sides": self.reach,
            "masked_share": self.options.share,
            "table_distances": list(self.looks.distances),
            "hidden_radii": list(self.looks.radii),
            "near_radius": near[-1] if near else None,
            "stderr": f"ratio estimator over {sample.count} {sample.kind}",
        }
