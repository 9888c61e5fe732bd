"""Padding that is seen and masked like text, but does not count: sums over all masks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attrs import evolve, frozen

from mdmkit.builtin.evaluators.nelbo.designs import DESIGNS, Ask
from mdmkit.builtin.mask_patterns import ExactCount, Independent, Mirrored
from mdmkit.builtin.objectives import MaskedDiffusion
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.builtin.time_samplers import Uniform
from mdmkit.builtin.weightings import Elbo
from mdmkit.draws import StepDraws
from mdmkit.values import Batch

ROWS, STEPS = 4096, 40
REAL = torch.tensor([True, True, False, False])


def rows(case: Any, count: int) -> Batch:
    return evolve(case.batch(count), real=REAL.expand(count, -1), padding_seen=True)


def log_p(case: Any) -> torch.Tensor:
    """The cross-entropy of each position under every mask, ``[2^L, L]``."""
    logits = case.denoiser(torch.where(case.masks, 3, case.text)).double()[..., :3]
    return -logits.log_softmax(-1).gather(-1, case.text.expand_as(case.masks)[..., None])[..., 0]


def expected(case: Any) -> float:
    """Per row: ∫ (1/t) Σ over masks of all positions of P(mask)·(CE of masked text) dt."""
    ce = (log_p(case) * (case.masks & REAL)).sum(-1)
    length, total = case.length, 0.0
    for mask, cost in zip(case.masks, ce.tolist(), strict=True):
        k = int(mask.sum())
        if k:
            total += cost * math.factorial(k - 1) * math.factorial(length - k)
    return total / math.factorial(length)


def objective(case: Any, pattern: Any, schedule: Any) -> Any:
    parts = case.context(
        noise_schedule=schedule,
        time_sampler=Uniform(),
        mask_pattern=pattern,
        loss_weighting=Elbo(),
    )
    return MaskedDiffusion().build(parts)


def test_seeing_padding_matters_here(case: Any) -> None:
    ce = (log_p(case) * (case.masks & REAL)).sum(-1)
    clean, hidden = ce[(case.masks & REAL).sum(-1) == 2][[0, -1]].tolist()
    assert abs(hidden - clean) > 0.1


def test_the_bound_over_all_counts_and_orders(case: Any, all_orders: Any) -> None:
    draws = all_orders(length=case.length)
    bound = objective(case, Independent(), Linear()).bound(
        case.denoiser, rows(case, len(draws.rows)), draws
    )
    assert float(bound.nats.mean()) == pytest.approx(expected(case), rel=1e-6)
    assert (bound.tokens == 2).all()
    assert bound.masked is not None
    assert int(bound.masked.max()) == 2


@pytest.mark.parametrize("pattern", [Independent(), Mirrored()])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_the_training_loss_at_random(case: Any, pattern: Any, schedule: Any) -> None:
    live = objective(case, pattern, schedule)
    means = []
    for step in range(STEPS):
        draws = StepDraws(seed=5, step=step, rows=torch.arange(ROWS), global_rows=ROWS)
        noised = live.corrupt(rows(case, ROWS), draws)
        assert noised.attention.padding is None
        assert not noised.in_loss[:, ~REAL].any()
        with torch.no_grad():
            means.append(live.loss(case.denoiser, noised).total.item() / ROWS)
    found = torch.tensor(means)
    error = float(found.std()) / math.sqrt(STEPS)
    assert abs(float(found.mean()) - expected(case)) < 4 * error
    assert error < 0.02 * expected(case)


def test_padding_is_masked_at_the_rate_of_its_row(case: Any) -> None:
    live = objective(case, ExactCount(), Linear())
    draws = StepDraws(seed=5, step=0, rows=torch.arange(ROWS), global_rows=ROWS)
    noised = live.corrupt(rows(case, ROWS), draws)
    masked = (noised.inputs[:, ~REAL] == 3).double().mean(-1)
    assert float((masked - noised.t).mean()) == pytest.approx(0, abs=0.02)
    assert float(torch.corrcoef(torch.stack([masked, noised.t.double()]))[0, 1]) > 0.5


@frozen(kw_only=True)
class Given:
    """Draws that are handed their numbers."""

    u: torch.Tensor
    noise: torch.Tensor
    draw: torch.Tensor

    def of(self, times: torch.Tensor) -> torch.Tensor:
        return times

    def uniform(self, stream: str, *shape: int, group: int = 1) -> torch.Tensor:
        return self.noise

    def strata(self, stream: str, kind: str, *, group: int = 1) -> torch.Tensor:
        return self.u


@pytest.mark.parametrize(
    ("name", "draw"), [("controlled", 0), ("pairs", 0), ("pairs", 1), ("time", 0)]
)
def test_the_designs_of_the_evaluator_at_random(case: Any, name: str, draw: int) -> None:
    count = 200_000
    generator = torch.Generator().manual_seed(7)
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    noise = torch.rand(count, case.length, generator=generator)
    every: Any = Given(u=u, noise=noise, draw=torch.full((count,), draw))
    design = DESIGNS[name].masks
    assert design is not None
    real = REAL.expand(count, -1)
    made = design(Ask(scored=real, draws=every, times=u, sampling_eps=0.0, padding=~real))
    powers = 2 ** torch.arange(case.length - 1, -1, -1)  # a mask to its place in case.masks
    ce = (log_p(case) * (case.masks & REAL)).sum(-1)[(made.mask * powers).sum(-1)]
    found = made.factor * ce
    error = float(found.std()) / math.sqrt(count)
    assert abs(float(found.mean()) - expected(case)) < 4 * error
    assert error < 0.01 * expected(case)
