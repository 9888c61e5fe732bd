"""The weighting that separates the objective from the density of t, against integrals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from scipy import integrate

from mdmkit import load_recipe
from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Annealed, Elbo, Flat
from mdmkit.builtin.weightings.annealed import FLOOR
from mdmkit.errors import RecipeError
from mdmkit.plugins import load_catalogue
from mdmkit.testing import run_facts

BELL = Bell(centre=0.4, width=0.25)


def build(options: Annealed, schedule: Any = None, **facts: Any) -> Any:
    return options.build(evolve(run_facts(), noise_schedule=schedule or Linear(), **facts))


def constant(level: float, **options: Any) -> Annealed:
    return Annealed(bell=BELL, start=level, final=level, **options)


def at(schedule: Any, t: torch.Tensor, q: Any) -> dict[str, Any]:
    return {
        "t": t,
        "alpha_t": schedule.alpha(t),
        "dalpha_t": schedule.dalpha(t),
        "density": q.density(t),
        "mask_count": torch.full_like(t, 3),
        "token_count": torch.full_like(t, 6),
    }


def scalar(function: Any, t: float) -> float:
    return float(function(torch.tensor([t], dtype=torch.float64)))


@pytest.mark.parametrize("density", [Uniform(), Bell(), Bell(centre=0.7, width=0.2, floor=0.3)])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_the_loss_is_the_integral_whatever_t_is_drawn_from(
    case: Any, expected_loss: Any, schedule: Any, density: Any, level: float
) -> None:
    found = expected_loss(
        case,
        case.ce,
        schedule=schedule,
        density=density,
        weighting=build(constant(level), schedule),
    )

    def ratio(t: float) -> float:
        return 1 - scalar(schedule.alpha, t)

    # over t, with r = 1 - alpha(t): r·p(r) dr = r·q_bell dt
    z = integrate.quad(lambda t: scalar(BELL.density, t) * ratio(t), 0, 1)[0]

    def integrand(t: float) -> float:
        bell = scalar(BELL.density, t) * ratio(t) / z
        return ((1 - level) * bell + level * -scalar(schedule.dalpha, t)) * case.h(ratio(t))

    assert found == pytest.approx(integrate.quad(integrand, 1e-9, 1)[0], rel=5e-4)


def test_with_the_linear_schedule_it_is_the_formula_in_t(case: Any, expected_loss: Any) -> None:
    found = expected_loss(
        case, case.ce, schedule=Linear(), density=Uniform(), weighting=build(constant(0.3))
    )
    q = lambda t: scalar(BELL.density, t)  # noqa: E731
    z = integrate.quad(lambda t: t * q(t), 0, 1)[0]
    expected = integrate.quad(lambda t: (0.7 * t * q(t) / z + 0.3) * case.h(t), 1e-9, 1)[0]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_the_ends_are_the_flat_bell_and_the_nelbo(schedule: Any) -> None:
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    live = build(constant(0.0), schedule)
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    mean_ratio = float((1 - schedule.alpha(BELL.icdf(u))).mean())
    given = at(schedule, t, BELL)
    flat = Flat().weight(t=t) / mean_ratio  # over masked tokens, in expectation
    torch.testing.assert_close(live.weight(**given, step=0), flat, rtol=1e-6, atol=0)
    nelbo = Elbo().weight(**given)
    torch.testing.assert_close(build(constant(1.0), schedule).weight(**given, step=0), nelbo)


def test_the_level_follows_the_learning_rate() -> None:
    def rate(step: int) -> float:  # constant, and a linear decay from step 79 to 99
        return min(1.0, (99 - step) / 20)

    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    live = build(Annealed(bell=BELL), learning_rate=rate)
    given = at(Linear(), t, Uniform())
    bell, nelbo = BELL.density(t) / live.mean_ratio(0), 1 / t
    for step, a in ((0, 0.0), (79, 0.0), (89, 0.5), (99, 1.0)):
        expected = (1 - a) * bell + a * nelbo
        torch.testing.assert_close(live.weight(**given, step=step), expected)


def test_far_from_the_bell_a_weight_stays_positive_and_max_weight_holds() -> None:
    narrow = Annealed(bell=Bell(width=0.005), start=0.0, final=0.0)
    t = torch.tensor([1e-6, 0.5], dtype=torch.float64)
    given = at(Linear(), t, Uniform())
    weight = build(narrow).weight(**given, step=0)
    assert float(weight[0]) == pytest.approx(FLOOR * 1e6)
    assert float(weight[1]) > 100
    clipped = build(evolve(narrow, max_weight=10.0)).weight(**given, step=0)
    assert float(clipped[1]) == 10.0


def test_z_follows_a_bell_that_moves() -> None:
    class Moving:
        def at(self, step: int) -> Any:
            return Bell(centre=0.2 + step / 1000)

    live = build(Annealed(bell=Moving(), final=0.0))  # type: ignore[arg-type]
    means = []
    for step in (0, 99, 0):
        q = Bell(centre=0.2 + step / 1000)
        means.append(live.mean_ratio(step))
        expected = integrate.quad(lambda t, q=q: t * scalar(q.density, t), 0, 1)[0]
        assert means[-1] == pytest.approx(expected, rel=1e-5)
    assert means[0] != means[1]


def test_a_bell_that_adapts_is_refused() -> None:
    class Adapts(Bell):
        def observe(self, t: Any, nll: Any, count: Any) -> None: ...

    with pytest.raises(RecipeError, match="adapts to the training"):
        build(Annealed(bell=Adapts()))


def test_a_recipe_names_the_bell_and_its_end() -> None:
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "none"})
    chosen = ["loss_weighting.use=annealed", "loss_weighting.bell.width=0.1"]
    with pytest.raises(RecipeError, match=r"anneal: .*constant"):
        load_recipe("quickstart_bell", chosen, catalogue=catalogue)
    for fits in ("loss_weighting.final=0.0", "learning_rate.shape=wsd"):
        recipe = load_recipe("quickstart_bell", [*chosen, fits], catalogue=catalogue)
        assert recipe.loss_weighting.bell == Bell(width=0.1)  # type: ignore[attr-defined]
        assert recipe.loss_weighting.anneal == Annealing(by="learning_rate")  # type: ignore[attr-defined]
