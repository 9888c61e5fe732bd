"""Expectations as finite sums over all masks, against every way the code has to estimate them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import integrate, stats

from mdmkit.builtin.mask_patterns import ExactCount, Independent
from mdmkit.builtin.objectives import MaskedDiffusion
from mdmkit.builtin.schedules import Cosine, Linear, Polynomial
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Elbo, Flat, InverseT
from mdmkit.draws import StepDraws

ROWS, STEPS = 4096, 60
SCHEDULES = [Linear(), Cosine(), Polynomial(power=1.5)]
DENSITIES = [Uniform(), Bell(), Bell(centre=0.6, width=0.15, floor=0.2)]
ESTIMATORS = ["time", "rao_blackwell", "count"]


def test_the_integral_over_t_is_the_mean_over_counts(case: Any) -> None:
    mean = sum(case.h_of_count(k) for k in range(1, case.length + 1)) / case.length
    assert case.nelbo() == pytest.approx(mean, rel=1e-12)
    numerical = integrate.quad(case.h, 0, 1)[0]
    assert case.nelbo() == pytest.approx(numerical, rel=1e-7)


def test_the_case_is_not_degenerate(case: Any) -> None:
    h = [case.h_of_count(k) for k in range(1, case.length + 1)]
    assert max(h) - min(h) > 0.3


def test_the_bound_over_all_counts_and_orders_is_the_nelbo(case: Any, all_orders: Any) -> None:
    draws = all_orders(length=case.length)
    objective = MaskedDiffusion().build(_parts(case))
    bound = objective.bound(case.denoiser, case.batch(len(draws.rows)), draws)
    assert float(bound.nats.mean()) / case.length == pytest.approx(case.nelbo(), rel=1e-6)
    assert (bound.tokens == case.length).all()


def test_the_bound_at_random_is_the_nelbo(case: Any) -> None:
    objective = MaskedDiffusion().build(_parts(case))
    every = torch.arange(ROWS)
    with torch.no_grad():
        means = torch.tensor(
            [
                objective.bound(
                    case.denoiser,
                    case.batch(ROWS),
                    StepDraws(seed=2, step=step, rows=every, global_rows=ROWS),
                )
                .nats.mean()
                .item()
                / case.length
                for step in range(STEPS)
            ]
        )
    _agree(means, case.nelbo())


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_elbo_weights_give_the_nelbo_in_expectation(
    case: Any, expected_loss: Any, schedule: Any, density: Any, estimator: Any
) -> None:
    found = expected_loss(
        case, case.ce, schedule=schedule, density=density, weighting=Elbo(estimator=estimator)
    )
    assert found == pytest.approx(case.nelbo(), rel=5e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("size", "golden"), [(50258, 10.824905), (30522, 10.326170)])
def test_a_uniform_prediction_costs_ln_of_v_minus_one_under_every_density(
    case: Any,
    expected_loss: Any,
    schedule: Any,
    density: Any,
    estimator: Any,
    size: int,
    golden: float,
) -> None:
    ce = case.counts * math.log(size - 1)
    found = expected_loss(
        case, ce, schedule=schedule, density=density, weighting=Elbo(estimator=estimator)
    )
    assert found == pytest.approx(golden, rel=5e-4)


@pytest.mark.parametrize(("size", "golden"), [(50258, 10.814080), (30522, 10.315844)])
def test_a_truncated_schedule_leaves_eps_out(
    case: Any, expected_loss: Any, size: int, golden: float
) -> None:
    found = expected_loss(
        case,
        case.counts * math.log(size - 1),
        schedule=Linear(eps=1e-3),
        density=Uniform(),
        weighting=InverseT(),
    )
    assert found == pytest.approx(golden, abs=2e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("schedule", SCHEDULES[:2])
def test_the_training_loss_with_elbo_weights_is_the_nelbo(
    case: Any, schedule: Any, density: Any, estimator: Any
) -> None:
    pattern = ExactCount(rounding="up") if estimator == "count" else Independent()
    losses = _losses(case, schedule, density, Elbo(estimator=estimator), pattern)
    _agree(losses, case.nelbo())


Q = stats.truncnorm(-2.5, 2.5, loc=0.5, scale=0.2)  # Bell()


def _integral(function: Any) -> float:
    return float(integrate.quad(function, 0, 1, epsabs=1e-10)[0])


def _h_of_binomial_count(case: Any, t: float) -> float:
    """E[h_k | k ~ Bin(L, t)], an empty row counting 0."""
    counts = range(1, case.length + 1)
    return sum(float(stats.binom.pmf(k, case.length, t)) * case.h_of_count(k) for k in counts)


def _flat_tokens(case: Any) -> float:
    return _integral(lambda t: Q.pdf(t) * t * case.h(t))


EFFECTIVE = {
    "1/(t·q), tokens": (Elbo(), lambda case: case.nelbo()),
    "1/t, tokens": (InverseT(), lambda case: _integral(lambda t: Q.pdf(t) * case.h(t))),
    "flat, tokens": (Flat(normalizer="tokens"), _flat_tokens),
    "flat, masked": (Flat(normalizer="masked"), lambda case: _flat_tokens(case) / Q.mean()),
    "flat, sequence": (
        Flat(normalizer="sequence"),
        lambda case: _integral(lambda t: Q.pdf(t) * _h_of_binomial_count(case, t)),
    ),
}


@pytest.mark.parametrize("row", EFFECTIVE)
def test_what_a_training_loss_with_a_bell_optimises(case: Any, row: str) -> None:
    weighting, effective = EFFECTIVE[row]
    _agree(_losses(case, Linear(), Bell(), weighting, Independent()), effective(case))


def test_the_rows_of_the_table_differ_by_more_than_their_errors(case: Any) -> None:
    values = sorted(effective(case) for _, effective in EFFECTIVE.values())
    assert min(b - a for a, b in itertools.pairwise(values)) > 0.02


def test_sequence_means_under_uniform_t_are_the_nelbo_times_l_over_l_plus_one(case: Any) -> None:
    losses = _losses(case, Linear(), Uniform(), Flat(normalizer="sequence"), Independent())
    _agree(losses, case.nelbo() * case.length / (case.length + 1))


def test_normalised_by_its_weights_the_loss_is_a_weighted_mean(case: Any) -> None:
    losses = _losses(case, Linear(), Bell(), InverseT(normalizer="weights"), Independent())
    # Σ w·CE over Σ w, both in expectation: E_q[h] over E_q[1]
    _agree(losses, _integral(lambda t: Q.pdf(t) * case.h(t)))


def _parts(case: Any, **parts: Any) -> Any:
    usual = {
        "noise_schedule": Linear(),
        "time_sampler": Uniform(),
        "mask_pattern": Independent(),
        "loss_weighting": Elbo(),
    }
    return case.context(**{**usual, **parts})


def _losses(case: Any, schedule: Any, density: Any, weighting: Any, pattern: Any) -> torch.Tensor:
    """The loss of `STEPS` steps, as the training loop makes it: ``[STEPS]``."""
    parts = _parts(
        case,
        noise_schedule=schedule,
        time_sampler=density,
        mask_pattern=pattern,
        loss_weighting=weighting,
    )
    objective, every, losses = MaskedDiffusion().build(parts), torch.arange(ROWS), []
    for step in range(STEPS):
        draws = StepDraws(seed=1, step=step, rows=every, global_rows=ROWS)
        noised = objective.corrupt(case.batch(ROWS), draws)
        with torch.no_grad():
            total = objective.loss(case.denoiser, noised).total
        losses.append(float(total) / float(noised.denominator))
    return torch.tensor(losses, dtype=torch.float64)


def _agree(samples: torch.Tensor, expected: float) -> None:
    """Their mean is `expected`, within four of its own, small, standard errors.

    The noisiest of them, 1/(t·q) under a bell without a floor, has an error of 0.6%.
    """
    mean, error = float(samples.mean()), float(samples.std()) / len(samples) ** 0.5
    assert error < 0.01 * expected
    assert abs(mean - expected) < 4 * error + 1e-6
