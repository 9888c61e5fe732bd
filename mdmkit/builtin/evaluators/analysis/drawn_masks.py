"""Masks as a run draws them at some step, and how far their tokens are from visible ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.run_lengths import counted_shapes
from mdmkit.protocols import Draws, Objective, Stratification
from mdmkit.values import Batch


@frozen(kw_only=True, eq=False)
class SameDraws:
    """The numbers of a batch for whatever step of the run, so that only what the run does differs.

    Attributes:
        numbers: of the batch.
        step: of the run.
    """

    numbers: Draws
    step: int

    @property
    def rows(self) -> Tensor:
        """``[B]`` int64."""
        return self.numbers.rows

    def uniform(self, stream: str, *shape: int, group: int = 1) -> Tensor:
        """``[B, *shape]`` float32."""
        return self.numbers.uniform(stream, *shape, group=group)

    def strata(self, stream: str, kind: Stratification, *, group: int = 1) -> Tensor:
        """``[B]`` float64."""
        return self.numbers.strata(stream, kind, group=group)


@frozen(kw_only=True, eq=False)
class Drawn:
    """What the masks of one batch gave, by name of `SHAPES`: ``[reach + 1]`` float64 each.

    Attributes:
        tokens: masked tokens beyond r.
        weights: the same, as the loss weighs them.
        uneven: whether it does not weigh all of the batch alike.
    """

    tokens: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    uneven: bool

    @classmethod
    def at(
        cls, objective: Objective, numbers: Draws, step: int, *, length: int, reach: int
    ) -> Drawn:
        """The masks that an objective draws at a step, in full rows of `length` tokens."""
        text = Batch(tokens=torch.zeros(len(numbers.rows), length, dtype=torch.int64))
        noised = objective.corrupt(text, SameDraws(numbers=numbers, step=step))
        mask, weights = noised.in_loss, noised.weights.double()
        found = weights[mask]
        return cls(
            tokens=counted_shapes(mask, torch.ones_like(weights), reach),
            weights=counted_shapes(mask, weights, reach),
            uneven=len(found) > 0 and not bool((found == found[0]).all()),
        )
