"""What the batches of one method tell of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.gradient_batches import Drawn
from mdmkit.builtin.evaluators.analysis.gradient_moments import Moments, between, cosine
from mdmkit.builtin.evaluators.analysis.jackknife import jackknifed
from mdmkit.builtin.evaluators.analysis.training_methods import Method
from mdmkit.values import Measurement

CLEAR = 2.0
"""So many standard errors a squared norm must have to be told from noise."""

Estimate = tuple[Tensor, Tensor]
"""A value and its standard error, of one shape."""


@frozen(kw_only=True, eq=False)
class Finding:
    """The inner products of the gradients of a method's batches, R of them, by group.

    Attributes:
        method: whose.
        groups: of each group of parameters.
        losses: ``[R, J]`` float64.
        crossed: of each group ``[R, S]`` float64, whole batches with those of the reference; empty
            for the reference itself.
        totals: of each group ``[R, P]``, the gradients of whole batches; kept of the reference.
    """

    method: Method
    groups: list[Moments]
    losses: Tensor
    crossed: list[Tensor]
    totals: list[Tensor]

    @classmethod
    def of(
        cls,
        method: Method,
        drawn: Sequence[Drawn],
        gradients: Sequence[Tensor],
        reference: Finding | None,
    ) -> Finding:
        """From the batches of a method; without a reference it is one.

        Args:
            method: whose.
            drawn: its batches.
            gradients: of each group ``[R, J, P]``.
            reference: the method to compare with.
        """
        rows = torch.stack([batch.rows for batch in drawn])
        totals = [group.sum(1) for group in gradients]
        others = [] if reference is None else reference.totals
        return cls(
            method=method,
            groups=[Moments.of(group, rows) for group in gradients],
            losses=torch.stack([batch.loss for batch in drawn]),
            crossed=[(a @ b.T).double() for a, b in zip(totals, others, strict=False)],
            totals=totals if reference is None else [],
        )

    @property
    def whole(self) -> Moments:
        """Of all parameters."""
        return sum(self.groups[1:], self.groups[0])

    @property
    def parts(self) -> list[Moments]:
        """Of each group, and then of all."""
        return [*self.groups, self.whole]

    def estimate(self, statistic: Callable[[Tensor], Tensor]) -> Estimate:
        """A statistic of the batches that are kept, with its error."""
        return jackknifed(statistic, len(self.losses))

    def loss_share(self, kept: Tensor) -> Tensor:
        """The share of the loss by bin, ``[J]``."""
        by_bin = self.losses[kept].mean(0)
        return by_bin / by_bin.sum()

    def cosines(self, reference: Finding) -> list[Estimate | None]:
        """To the reference, of each group and then of all; None where noise hides a norm."""
        crossed = [*self.crossed, torch.stack(self.crossed).sum(0)]
        return [
            _cosine(mine.whole_batches, other.whole_batches, cross)
            for mine, other, cross in zip(self.parts, reference.parts, crossed, strict=True)
        ]

    @property
    def clear(self) -> bool:
        """Whether the squared norm of its gradient can be told from noise."""
        return _clear(self.whole.whole_batches)

    def numbers(self, reference: Finding) -> dict[str, Measurement]:
        """The few numbers that are told of it."""
        found = {f"signal_to_noise_{self.method.name}": self.estimate(self.whole.ratio)}
        together = self.cosines(reference)[-1]
        if together is not None:
            found[f"cosine_{self.method.name}"] = together
        return {
            name: Measurement(value=float(value), stderr=float(error))
            for name, (value, error) in found.items()
        }


def _clear(gram: Tensor) -> bool:
    norm, error = jackknifed(partial(between, gram), len(gram))
    return bool(norm > CLEAR * error)


def _cosine(first: Tensor, second: Tensor, cross: Tensor) -> Estimate | None:
    if not (_clear(first) and _clear(second)):
        return None
    value, error = jackknifed(partial(cosine, first, second, cross), len(first), len(second))
    return (value, error) if bool(error.isfinite()) else None
