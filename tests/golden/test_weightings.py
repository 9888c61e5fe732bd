"""Effective weights on h as integrals, and distances one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import integrate

from mdmkit import load_recipe
from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.objectives import MaskedDiffusion
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Clipped, Elbo, Flat, InverseT, Locality, Power, Sigmoid
from mdmkit.builtin.weightings.locality import FLOOR, distance_to_visible
from mdmkit.draws import StepDraws
from mdmkit.errors import RecipeError
from mdmkit.plugins import load_catalogue
from mdmkit.testing import run_facts
from mdmkit.testing.facts import cross_entropies

BELL = Bell(centre=0.6, width=0.2, floor=0.2)


def given(schedule: Any, density: Any) -> dict[str, Any]:
    t = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    return {
        "t": t,
        "alpha_t": schedule.alpha(t),
        "dalpha_t": schedule.dalpha(t),
        "density": density.density(t),
        "mask_count": torch.full_like(t, 3),
        "token_count": torch.full_like(t, 6),
    }


def integral(function: Any, points: Any = None) -> float:
    return float(integrate.quad(function, 0, 1, points=points, epsabs=1e-10)[0])


# --- what is minimised, whatever t is drawn from


@pytest.mark.parametrize("density", [Uniform(), BELL])
@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.5])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_the_sigmoid_weight_on_h(
    case: Any, expected_loss: Any, schedule: Any, density: Any, bias: float
) -> None:
    found = expected_loss(
        case, case.ce, schedule=schedule, density=density, weighting=Sigmoid(bias=bias)
    )
    c = math.exp(bias)
    expected = integral(lambda r: c * r / (1 - r + c * r) * case.h(r) if r else 0.0)
    assert found == pytest.approx(expected, rel=5e-4)


def test_the_mass_of_the_sigmoid_weight() -> None:
    """∫ c·r/(1 − r + c·r) dr = c·(c − 1 − ln c)/(c − 1)²."""
    c, parts = math.exp(1.5), given(Linear(), Uniform())
    weight = Sigmoid(bias=1.5).weight(**parts) * parts["t"]
    torch.testing.assert_close(weight, c * parts["t"] / (1 - parts["t"] + c * parts["t"]))
    mass = c * (c - 1 - math.log(c)) / (c - 1) ** 2
    assert integral(lambda r: c * r / (1 - r + c * r)) == pytest.approx(mass)


def test_the_sigmoid_goes_from_flat_to_the_nelbo() -> None:
    parts = given(Linear(), Uniform())
    torch.testing.assert_close(Sigmoid().weight(**parts), Flat().weight(**parts))
    torch.testing.assert_close(
        Sigmoid(bias=20.0).weight(**parts), Elbo().weight(**parts), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("density", [Uniform(), BELL])
@pytest.mark.parametrize(("low", "high"), [(0.0, 4.0), (1.5, 1e9), (2.0, 5.0)])
def test_the_clipped_weight_on_h(
    case: Any, expected_loss: Any, density: Any, low: float, high: float
) -> None:
    weighting = Clipped(min_weight=low, max_weight=high)
    found = expected_loss(case, case.ce, schedule=Linear(), density=density, weighting=weighting)

    def weight(t: float) -> float:
        return t * min(max(1 / t, low), high) if t else 0.0

    corners = [1 / bound for bound in (low, high) if 1 < bound < 1e6]
    expected = integral(lambda t: weight(t) * (case.h(t) if t else 0.0), corners)
    assert found == pytest.approx(expected, rel=5e-4)
    mean = integral(weight, corners)
    if low == 0:
        assert mean == pytest.approx(1 - 1 / (2 * high))  # ∫ min(1, high·t) dt


def test_without_anything_to_clip_it_is_the_nelbo() -> None:
    parts = given(Cosine(), BELL)
    assert torch.equal(Clipped(max_weight=1e9).weight(**parts), Elbo().weight(**parts))


@pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.0, 2.0])
def test_powers_of_t(case: Any, expected_loss: Any, exponent: float) -> None:
    found = expected_loss(
        case, case.ce, schedule=Linear(), density=BELL, weighting=Power(exponent=exponent)
    )
    q = lambda t: float(BELL.density(torch.tensor(t, dtype=torch.float64)))  # noqa: E731
    expected = integral(lambda t: q(t) * t ** (exponent + 1) * case.h(t) if t else 0.0)
    assert found == pytest.approx(expected, rel=5e-4)


def test_powers_of_t_and_of_the_mask_ratio() -> None:
    parts = given(Cosine(), Uniform())
    ratio = 1 - parts["alpha_t"]
    torch.testing.assert_close(Power(exponent=2.0).weight(**parts), ratio**2)
    torch.testing.assert_close(Power(exponent=2.0, of="t").weight(**parts), parts["t"] ** 2)
    linear = given(Linear(), BELL)
    torch.testing.assert_close(Power(exponent=-1.0).weight(**linear), InverseT().weight(**linear))


def test_bounds_the_wrong_way_round_are_refused() -> None:
    chosen = ["loss_weighting.use=clipped", "loss_weighting.min_weight=20.0"]
    with pytest.raises(RecipeError, match=r"min_weight: 20 is above max_weight \(10\)"):
        load_recipe("quickstart_bell", chosen, catalogue=load_catalogue({"MDMKIT_PLUGINS": "none"}))


# --- locality


def random_masks() -> torch.Tensor:
    """Rows of every mask rate, among them all masked, none masked, and one position each."""
    draw = torch.Generator().manual_seed(0)
    rates = torch.linspace(0, 1, 60)[:, None]
    return torch.rand(60, 17, generator=draw) < rates


def nearest(row: list[bool], place: int) -> int:
    """The distance by looking at every position."""
    return min((abs(place - i) for i, hidden in enumerate(row) if not hidden), default=len(row))


def test_distances_are_those_of_looking_everywhere() -> None:
    mask = random_masks()
    found = distance_to_visible(mask)
    for row, distances in zip(mask.tolist(), found.tolist(), strict=True):
        assert distances == [nearest(row, place) for place in range(len(row))]
    assert distance_to_visible(torch.ones(2, 5, dtype=torch.bool)).tolist() == [[5] * 5] * 2
    assert distance_to_visible(torch.tensor([[True], [False]])).tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Locality(scale=3.0), lambda d: math.exp(-(d - 1) / 3)),
        (Locality(decay="power", exponent=1.5), lambda d: d**-1.5),
    ],
)
def test_the_weight_of_a_token_and_its_way_to_none(options: Any, expected: Any) -> None:
    mask = random_masks()
    live = options.build(run_facts())  # 100 steps
    for step, a in ((0, 0.0), (33, 1 / 3), (99, 1.0), (100, 1.0)):  # the last step is 99
        weight = live.weight(mask=mask, step=step)
        for row, weights in zip(mask.tolist(), weight.tolist(), strict=True):
            for place in range(len(row)):
                if row[place]:
                    g = expected(nearest(row, place))
                    assert weights[place] == pytest.approx((1 - a) * g + a, rel=1e-12)


def test_far_from_everything_a_weight_stays_positive() -> None:
    live = Locality(scale=0.01, final=0.0).build(run_facts())
    weight = live.weight(mask=torch.ones(1, 1000, dtype=torch.bool), step=0)
    assert (weight == FLOOR).all()


def test_the_loss_is_the_weighted_mean_of_the_cross_entropies(case: Any) -> None:
    rows = 64
    parts = case.context(
        noise_schedule=Linear(),
        time_sampler=BELL,
        mask_pattern=Independent(),
        loss_weighting=Locality(scale=1.0, final=0.0).build(run_facts()),
    )
    objective = MaskedDiffusion().build(parts)
    draws = StepDraws(seed=1, step=0, rows=torch.arange(rows), global_rows=rows)
    noised = objective.corrupt(case.batch(rows), draws)
    with torch.no_grad():
        loss = objective.loss(case.denoiser, noised).total / noised.denominator
        logits = case.denoiser.unembed(case.denoiser(noised.inputs))
    ce = cross_entropies(logits, noised.targets, case.vocab.mask_id)
    above = below = 0.0
    for row, costs in zip(noised.in_loss.tolist(), ce.tolist(), strict=True):
        for place in range(len(row)):
            if row[place]:
                g = math.exp(-(nearest(row, place) - 1))
                above, below = above + g * costs[place], below + g
    assert float(loss) == pytest.approx(above / below, rel=1e-5)
