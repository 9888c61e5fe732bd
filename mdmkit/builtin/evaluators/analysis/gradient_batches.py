"""Batches of a training, and the gradient of each by the range that its times are in."""

from __future__ import annotations

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
    """What one batch gave, J bins of t.

    Attributes:
        gradients: of each group of parameters ``[J, P]`` float32: of the part of the loss whose
            times are in the bin.
        loss: ``[J]`` float64, these parts.
        rows: ``[J]`` float64, how many sequences they are of.
    """

    gradients: list[Tensor]
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

    def draw(self, method: Method, number: int, *, rows: int, bins: int) -> Drawn:
        """One batch.

        Args:
            method: whose.
            number: of the batch; with the method it fixes its randomness.
            rows: how many sequences, rounded up to whole groups of twins.
            bins: J.
        """
        noised = self._noised(method, number, rows)
        assert noised.t is not None  # masked diffusion draws them
        place = (noised.t.double() * bins).long().clamp(max=bins - 1)
        parts = [self._part(method, noised, (place == j).nonzero()[:, 0]) for j in range(bins)]
        gradients, losses = zip(*parts, strict=True)
        return Drawn(
            gradients=[torch.stack(group) for group in zip(*gradients, strict=True)],
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

    def _part(self, method: Method, noised: Noised, rows: Tensor) -> tuple[list[Tensor], float]:
        """The gradient of the loss of some rows, and that loss; some rows at a time."""
        total, loss = [torch.zeros(size) for size in self.groups.sizes], 0.0
        for some in torch.split(rows, self.context.batch_size):
            part = of_rows(noised, some)
            if not part.in_loss.any():
                continue
            share = _Share(method.objective, part.to(self.context.device))
            found = self.groups.flat(self.gradient(share))
            total = [one + other for one, other in zip(total, found, strict=True)]
            loss += share.value
        return total, loss


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
