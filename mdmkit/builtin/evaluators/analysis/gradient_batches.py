"""Batches of a training, and the gradient of each by the range that its times are in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.layer_groups import LayerGroups
from mdmkit.builtin.evaluators.analysis.training_methods import Method
from mdmkit.draws import derive_seed
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, GradientCall, Objective
from mdmkit.values import Noised


@frozen(kw_only=True, eq=False)
class Drawn:
    """What one batch gave besides its gradient, J bins of t.

    Attributes:
        loss: ``[J]`` float64, the parts of the loss whose times are in each bin.
        rows: ``[J]`` float64, how many sequences they are of.
    """

    loss: Tensor
    rows: Tensor


@frozen(kw_only=True, eq=False)
class Batches:
    """Draws batches and differentiates their loss.

    Attributes:
        context, gradient: the network.
        source: the text; the sequences of a batch are drawn at random, with replacement.
        step: at which parts that change over training are looked at.
        groups: the parts of the network.
    """

    context: EvaluationContext
    gradient: GradientCall
    source: BlockSource
    step: int
    groups: LayerGroups

    def empty(self, count: int, bins: int) -> list[Tensor]:
        """Room for the gradients of so many batches, of each group ``[R, J, P]`` float32."""
        return [torch.zeros(count, bins, size) for size in self.groups.sizes]

    def draw(self, method: Method, number: int, *, rows: int, gradients: Sequence[Tensor]) -> Drawn:
        """One batch.

        Args:
            method: whose.
            number: of the batch; with the method it fixes its randomness.
            rows: how many sequences, rounded up to whole groups of twins.
            gradients: of each group of parameters ``[J, P]``, zeros, to which the gradient of the
                part of the loss whose times are in each bin is added.
        """
        bins = len(gradients[0])
        noised = self._noised(method, number, rows)
        assert noised.t is not None  # masked diffusion draws them
        place = (noised.t.double() * bins).long().clamp(max=bins - 1)
        losses = [
            self._part(
                method, noised, (place == j).nonzero()[:, 0], [group[j] for group in gradients]
            )
            for j in range(bins)
        ]
        return Drawn(
            loss=torch.tensor(losses, dtype=torch.float64),
            rows=torch.bincount(place, minlength=bins).double(),
        )

    def _noised(self, method: Method, number: int, rows: int) -> Noised:
        """The batch, masked as in training."""
        group = method.objective.group
        rows = -(-rows // group) * group
        seed = derive_seed(self.context.seed, "gradient", method.name, number)
        draws = self.context.draws(seed, self.step, torch.arange(rows), rows)
        places = draws.uniform("text", group=group).double() * len(self.source)
        return method.objective.corrupt(self.source.batch(places.long()), draws)

    def _part(
        self, method: Method, noised: Noised, rows: Tensor, gradients: Sequence[Tensor]
    ) -> float:
        """The loss of some rows, whose gradient is added to that given; some rows at a time."""
        loss = 0.0
        for some in torch.split(rows, self.context.batch_size):
            part = of_rows(noised, some)
            if not part.in_loss.any():
                continue
            share = _Share(method.objective, part.to(self.context.device))
            found = self.groups.flat(self.gradient(share))
            for total, one in zip(gradients, found, strict=True):
                total += one
            loss += share.value
        return loss


class _Share:
    """The loss of some rows of a batch; it remembers what it was when it was differentiated."""

    def __init__(self, objective: Objective, noised: Noised) -> None:
        self.objective, self.noised, self.value = objective, noised, 0.0

    def __call__(self, denoiser: Denoiser) -> Tensor:
        total = self.objective.loss(denoiser, self.noised).total
        loss = total / float(self.noised.denominator)
        self.value = float(loss.detach())
        return loss


def of_rows(noised: Noised, rows: Tensor) -> Noised:
    """Some rows of a batch, ``[N]`` int64, with the denominator of all of it."""
    return evolve(
        noised,
        inputs=noised.inputs[rows],
        targets=noised.targets[rows],
        in_loss=noised.in_loss[rows],
        weights=noised.weights[rows],
        t=None if noised.t is None else noised.t[rows],
        attention=noised.attention.of_rows(rows),
    )
