"""Twins by enumeration: every row of a pair pays, in expectation, what its own time asks for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.mask_patterns import Complementary, Independent, Mirrored
from mdmkit.builtin.objectives import MaskedDiffusion
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Elbo
from mdmkit.diffusion import time_at_mask_rate
from mdmkit.draws import StepDraws

CELLS = 8  # noise in the middle of eighths, rates of whole eighths: exact probabilities


@frozen(kw_only=True)
class EveryNoise:
    """All rows of noise on the cells, each for a pair of rows, at one u."""

    length: int
    u: float
    step: int = 0

    @property
    def rows(self) -> Tensor:
        return torch.arange(2 * CELLS**self.length)

    def uniform(self, stream: str, *shape: int, group: int = 1) -> Tensor:
        cells = (torch.arange(CELLS) + 0.5) / CELLS
        noise = torch.tensor(list(itertools.product(cells.tolist(), repeat=self.length)))
        return noise.repeat_interleave(2, 0) if shape else torch.zeros(len(self.rows))

    def strata(self, stream: str, kind: str, *, group: int = 1) -> Tensor:
        return torch.full((len(self.rows),), self.u, dtype=torch.float64)


def build(case: Any, pattern: Any, schedule: Any, density: Any) -> Any:
    return MaskedDiffusion().build(
        case.context(
            noise_schedule=schedule,
            time_sampler=density,
            mask_pattern=pattern,
            loss_weighting=Elbo(),
        )
    )


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
@pytest.mark.parametrize("pattern", [Complementary(), Mirrored(), Independent()])
@pytest.mark.parametrize("eighths", range(1, CELLS))
def test_each_twin_pays_h_of_its_own_mask_ratio(
    case: Any, pattern: Any, schedule: Any, eighths: int
) -> None:
    """E[w·Σ CE] = L·h(r)/p(r) for both, p being the density of the row's mask ratio r.

    Under uniform t that is 1/|alpha'| at the time that was drawn, because a twin's density is
    the first one's at it.
    """
    rate = torch.tensor([eighths / CELLS], dtype=torch.float64)
    t = time_at_mask_rate(schedule.alpha, rate)
    draws = EveryNoise(length=case.length, u=float(t))
    objective = build(case, pattern, schedule, Uniform())
    noised = objective.corrupt(case.batch(len(draws.rows)), draws)
    index = (noised.in_loss.long() * (2 ** torch.arange(case.length - 1, -1, -1))).sum(-1)
    paid = noised.weights[:, 0].double() * case.ce[index]
    slope = -float(schedule.dalpha(t))
    twin = 1 - float(rate) if isinstance(pattern, Complementary) else float(rate)
    for member, ratio in ((0, float(rate)), (1, twin)):
        expected = case.length * case.h(ratio) * slope
        assert float(paid[member::2].mean()) == pytest.approx(expected, rel=1e-5), member


@pytest.mark.parametrize("density", [Uniform(), Bell(centre=0.6, width=0.2, floor=0.2)])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
@pytest.mark.parametrize("pattern", [Complementary(), Mirrored()])
def test_the_training_loss_with_twins_is_the_nelbo(
    case: Any, pattern: Any, schedule: Any, density: Any
) -> None:
    objective, rows, steps = build(case, pattern, schedule, density), 4096, 30
    losses = []
    for step in range(steps):
        draws = StepDraws(seed=1, step=step, rows=torch.arange(rows), global_rows=rows)
        noised = objective.corrupt(case.batch(rows), draws)
        with torch.no_grad():
            total = objective.loss(case.denoiser, noised).total
        losses.append(float(total) / float(noised.denominator))
    found = torch.tensor(losses, dtype=torch.float64)
    error = float(found.std()) / steps**0.5
    assert error < 0.01 * case.nelbo()
    assert abs(float(found.mean()) - case.nelbo()) < 4 * error
