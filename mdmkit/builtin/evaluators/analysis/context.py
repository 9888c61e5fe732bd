"""What a run lets its network see: how far masked tokens are from visible ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import define, field, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.drawn_masks import Drawn
from mdmkit.builtin.evaluators.analysis.own_masks import (
    causal_shares,
    own_masks,
    own_masks_of,
)
from mdmkit.builtin.evaluators.analysis.run_lengths import SHAPES, known_shape
from mdmkit.builtin.evaluators.likelihood import ratio_of_sums
from mdmkit.errors import DataError, RecipeError
from mdmkit.options import option
from mdmkit.protocols import EvaluationContext, Objective, ObjectiveContext, Subject
from mdmkit.values import Line, Measurement, Picture

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_MIDPOINTS = 4096  # in u, of the closed forms
_HEADLINES = {
    "neighbours_hidden": ("either", 1),
    "nearest_beyond_4": ("either", 4),
    "left_hidden": ("left", 1),
    "run_beyond_8": ("run", 8),
}


@frozen(kw_only=True)
class ContextAllocation:
    """How far from visible tokens a run's masked tokens are: nearest visible ones, and mask runs.

    Masks are drawn as the run draws them, by its schedule, time sampler and mask pattern, and
    every masked token counts once, or as its loss weighting says. Of ``mixed_causal`` these are
    the masked rows; the causal ones are left out. Objectives that draw masks in another way than
    these and ``masked_diffusion`` are not looked at. Beside them are closed forms:
    independent masks at the run's own mask rates (given the rate t, the nearest visible token on
    one side is beyond r with probability t^r, on either side with t^(2r), and the size-biased run
    is longer than r with t^r·(1 + r·(1 − t))); the same at uniform mask rates; and a network that
    predicts the next token, which always sees the one before.

    Counted are tokens at least ``reach`` away from both edges of the row, where these laws hold.
    Rows are taken as full: no padding, and one document.
    """

    chief: ClassVar[tuple[str, ...]] = ("neighbours_hidden", "nearest_beyond_4", "run_beyond_8")
    subject: ClassVar[Subject] = "recipe"

    batches: int = option(100, ge=2, doc="global batches whose masks are drawn")
    reach: int = option(
        32, ge=1, doc="the farthest distance, tokens; at most a third of the length"
    )

    def applies(self, recipe: Recipe) -> bool:
        """Whether the run draws masks by its recipe alone."""
        return own_masks(recipe.objective) is not None

    def build(self, context: EvaluationContext) -> LiveContextAllocation:
        """Look at the first and the last step of the run.

        Raises:
            RecipeError: for a network not trained on masks, or on those of another objective.
            DataError: where the rows are too short for any distance.
        """
        parts = context.training
        if context.prediction != "masked" or parts is None:
            raise RecipeError("context: the network is not trained on masks; expected one that is")
        own = own_masks_of(context.objective)
        if own is None:
            raise RecipeError(
                "context: the objective draws masks in a way of its own, which the recipe does not "
                "tell; expected masked_diffusion or mixed_causal"
            )
        reach = min(self.reach, (context.length - 1) // 3)
        if reach < 1:
            raise DataError(
                f"context: rows of {context.length} tokens have no token with one on both sides "
                "that is away from the edges; expected 4 or more"
            )
        steps = tuple(dict.fromkeys((0, max(parts.facts.steps - 1, 0))))
        return LiveContextAllocation(
            options=self,
            context=context,
            parts=parts,
            objective=own.build(parts),
            reach=reach,
            steps=steps,
        )


@define(kw_only=True, eq=False)
class LiveContextAllocation:
    """`ContextAllocation` of one run, made by its ``build``. Every rank draws all of it.

    Attributes:
        parts: the run's schedule, time sampler, mask pattern and weighting.
        objective: draws masks and weights from these.
        reach: R, the last r.
        steps: the first and the last step.
        drawn: what the batches gave, by step.
    """

    options: ContextAllocation
    context: EvaluationContext
    parts: ObjectiveContext
    objective: Objective
    reach: int
    steps: tuple[int, ...]
    drawn: dict[int, list[Drawn]] = field(init=False, factory=dict)

    def __len__(self) -> int:
        """Batches."""
        return self.options.batches

    def update(self, index: int) -> None:
        """Draw one global batch at each step, with the same numbers."""
        rows = self._rows()
        numbers = self.context.draws(self.context.seed, index, torch.arange(rows), rows)
        for step in self.steps:
            found = Drawn.at(
                self.objective, numbers, step, length=self.context.length, reach=self.reach
            )
            self.drawn.setdefault(step, []).append(found)

    def _rows(self) -> int:
        """Rows of a batch: G, filled up to whole groups of twins."""
        group = self.objective.group
        return -(-self.parts.facts.global_batch_size // group) * group

    def compute(self) -> dict[str, Measurement]:
        """Shares of masked tokens, at the first step, and at the last where they differ.

        Raises:
            DataError: where nothing was masked.
        """
        found = {}
        for step, suffix in zip(self._moments(), ("", "_at_end"), strict=False):
            for name, (shape, r) in _HEADLINES.items():
                if r <= self.reach:
                    value, error = self._share(self._table(step, shape, "tokens"), r)
                    found[name + suffix] = Measurement(value=value, stderr=error)
        return found

    def pictures(self) -> dict[str, Picture]:
        """What is beyond r, for each r: on either side, on one side, and runs."""
        return {
            "either": self._picture(
                "The nearest visible token, on either side",
                "with it farther away than r",
                [*self._measured("either"), *self._known("either"), self._causal("", 0.0)],
            ),
            "side": self._picture(
                "The nearest visible token on one side",
                "with it farther away than r",
                [
                    *self._measured("left", ", left", weighed=False),
                    *self._measured("right", ", right", weighed=False),
                    *self._known("left"),
                    self._causal(", left", 0.0),
                    self._causal(", right", 1.0),
                ],
            ),
            "run": self._picture(
                "The run of masks around a masked token",
                "in a run longer than r",
                [*self._measured("run"), *self._known("run")],
            ),
        }

    def _picture(self, title: str, what: str, lines: Sequence[Line]) -> Picture:
        left_out = " The rows that are causal instead are left out." if self._left_out else ""
        return Picture(
            title=title,
            x_label="r (tokens)",
            y_label=f"share of masked tokens {what}",
            lines=tuple(lines),
            log_x=True,
            note="Drawn as the run draws its masks, every masked token counting once unless it is "
            "said otherwise. Closed forms are dashed. What lies below that of independent masks at "
            "the run's own rates is due to the mask pattern; what that gains on uniform rates, to "
            f"the times.{left_out}",
        )

    def _measured(self, shape: str, side: str = "", *, weighed: bool = True) -> Iterator[Line]:
        for step, when in self._moments().items():
            yield self._line(f"this run{when}{side}", self._table(step, shape, "tokens"))
            if weighed and any(one.uneven for one in self.drawn[step]):
                name = f"this run{when}, as its loss weighs"
                yield self._line(name, self._table(step, shape, "weights"))

    def _known(self, shape: str) -> Iterator[Line]:
        known: list[tuple[str, Tensor, Tensor]] = []
        for step, when in self._moments().items():
            rates = self._rates(step)
            if not any(torch.equal(rates, other) for _, other, _ in known):
                known.append((f"independent masks at its rates{when}", rates, rates))
        uniform = (torch.arange(_MIDPOINTS, dtype=torch.float64) + 0.5) / _MIDPOINTS
        known.append(("independent, uniform rates", uniform, uniform))
        # a masked token counts 1/t, and there are t of them
        known.append(("independent, uniform rates, weight 1/t", uniform, torch.ones_like(uniform)))
        for name, rates, weights in known:
            shares = known_shape(shape, rates, weights, self.reach)
            yield self._reference(name, shares[self._places()])

    def _causal(self, side: str, share: float) -> Line:
        places = self._places()
        return self._reference(
            f"next-token prediction{side}", torch.full((len(places),), share, dtype=torch.float64)
        )

    def _reference(self, name: str, shares: Tensor) -> Line:
        x = tuple(float(r) for r in self._places())
        return Line(name=name, x=x, y=tuple(shares.tolist()), known=True)

    def _rates(self, step: int) -> Tensor:
        """The run's mask rates at evenly spaced quantiles, of all twins: ``[N]`` float64."""
        u = (torch.arange(_MIDPOINTS, dtype=torch.float64) + 0.5) / _MIDPOINTS
        asked = 1 - self.parts.noise_schedule.alpha(self.parts.time_sampler.at(step).icdf(u))
        size = torch.full_like(asked, self.context.length)
        own = [
            self.parts.mask_pattern.rate(asked, torch.full(asked.shape, member), size).double()
            for member in range(self.objective.group)
        ]
        return torch.cat(own)

    def _line(self, name: str, table: Tensor) -> Line:
        points = [self._share(table, r) for r in self._places()]
        return Line(
            name=name,
            x=tuple(float(r) for r in self._places()),
            y=tuple(value for value, _ in points),
            stderr=tuple(error for _, error in points),
        )

    def _places(self) -> list[int]:
        """Distances that are shown: all small ones, the larger ones about evenly on a log axis."""
        steps = range(8 * self.reach.bit_length())
        return sorted({r for n in steps if (r := round(2 ** (n / 6))) < self.reach} | {self.reach})

    def _table(self, step: int, shape: str, count: str) -> Tensor:
        """``[batches, reach + 1]`` float64."""
        return torch.stack([getattr(one, count)[shape] for one in self.drawn[step]])

    @staticmethod
    def _share(table: Tensor, r: int) -> tuple[float, float]:
        """The share beyond r, and its error from the spread between batches."""
        if not table[:, 0].sum() > 0:
            raise DataError(
                "context: no token away from the edges was masked; expected more batches, or "
                "higher mask rates"
            )
        return ratio_of_sums(table[:, r], table[:, 0])

    def _moments(self) -> dict[int, str]:
        """The steps whose masks differ, with what to call them: the last is left out if it can."""
        first, last = self.steps[0], self.steps[-1]
        same = all(
            torch.equal(self._table(first, shape, count), self._table(last, shape, count))
            for shape in SHAPES
            for count in ("tokens", "weights")
        )
        return {first: ""} if same else {step: f", step {step}" for step in (first, last)}

    @property
    def _left_out(self) -> dict[str, float]:
        return causal_shares(self.context.objective, self.steps)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How masks were drawn, and after `compute` how many tokens were counted."""
        adapts = any(hasattr(self.parts.time_sampler, told) for told in ("observe", "validated"))
        counted = {
            str(step): int(self._table(step, "either", "tokens")[:, 0].sum())
            for step in self.steps
            if self.drawn
        }
        return {
            "rows": self._rows() * self.options.batches,
            "row_length": self.context.length,
            "tokens_on_both_sides": self.reach,
            "steps_looked_at": list(self.steps),
            "masked_tokens_counted": counted,
            "causal_rows_left_out": self._left_out,
            "time_sampler_adapts": adapts,  # looked at is what it starts from
            "stderr": f"ratio estimator over {self.options.batches} global batches",
        }
