"""How `few_step` looks at a block: what is masked, and which of the masks count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdmkit.builtin.evaluators.step_counts import survival
from mdmkit.diffusion import uniform_subset
from mdmkit.protocols import NoiseSchedule


class Look(NamedTuple):
    """One network call on a block: at a mask count, or at a step of T on the way through it."""

    point: int = 0
    steps: int = 0
    step: int = 0


def looks_of(points: int, direct: tuple[int, ...]) -> list[Look]:
    """All of a block: so many mask counts, and every step of each number of steps."""
    counts = [Look(point=point) for point in range(points)]
    return counts + [Look(steps=total, step=step) for total in direct for step in range(total)]


def subsets(scored: Tensor, counts: Tensor, looks: Sequence[Look], noise: Tensor) -> Tensor:
    """The masks of each look at a mask count: ``[B, L]`` bool, nested where rows share noise.

    Args:
        scored: ``[B, L]`` bool.
        counts: ``[B, K]`` int64, the mask counts of each row.
        looks: one a row.
        noise: ``[B, L]`` on [0, 1).
    """
    point = torch.tensor([look.point for look in looks])
    return uniform_subset(noise, counts.gather(1, point[:, None])[:, 0], scored)


def walked(
    scored: Tensor, subset: Tensor, looks: Sequence[Look], noise: Tensor, schedule: NoiseSchedule
) -> tuple[Tensor, Tensor]:
    """What is masked, and which of the masks count, with the looks that are steps: ``[B, L]`` each.

    Args:
        scored: ``[B, L]`` bool.
        subset: of the other looks, from `subsets`; all of their masks count.
        looks: one a row.
        noise: ``[B, L]`` on [0, 1).
        schedule: of the run.
    """
    left = [survival(schedule, max(k.steps, 1))[[k.step, k.step + 1]] for k in looks]
    before, after = torch.stack(left).unbind(1)
    walking = torch.tensor([look.steps > 0 for look in looks])[:, None]
    masked = torch.where(walking, (noise < before[:, None]) & scored, subset)
    return masked, masked & ~(walking & (noise < after[:, None]))
