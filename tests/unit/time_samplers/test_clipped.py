from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mdmkit import RecipeError, load_recipe
from mdmkit.builtin.time_samplers import Clipped
from mdmkit.builtin.time_samplers.variance import LiveClipped
from mdmkit.testing import run_facts

LENGTH = run_facts().length
N = 4000


def validation(deviation: Tensor, t: Tensor, mean: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    """Draws whose loss per token has that deviation at each t."""
    z = torch.randn(len(t), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return t, (mean + deviation * z) * t * LENGTH, t * LENGTH


def times(count: int = N) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def interval(live: LiveClipped) -> list[float]:
    found: list[float] = live.state_dict()["interval"].tolist()
    return found


def test_it_begins_where_it_is_told() -> None:
    live = Clipped(low=0.2, high=0.7).build(run_facts())
    u = torch.tensor([0.5], dtype=torch.float64)
    assert float(live.at(0).icdf(u)) == pytest.approx(0.45)
    assert live.at(0).density(u).tolist() == pytest.approx([2.0])


@pytest.mark.parametrize(
    ("quiet", "width", "grid", "expected"),
    [(0.5, 0.5, 20, [0.25, 0.75]), (0.1, 0.3, 10, [0.0, 0.3]), (1.0, 0.6, 20, [0.4, 1.0])],
)
def test_the_interval_of_least_variance_is_found(
    quiet: float, width: float, grid: int, expected: list[float]
) -> None:
    live = Clipped(min_width=width, grid=grid).build(run_facts())
    t = times()
    live.validated(*validation(0.1 + (t - quiet).abs() * 3, t))
    assert interval(live) == pytest.approx(expected)
    assert float(live.at(7).icdf(torch.tensor([1e-12], dtype=torch.float64))) == pytest.approx(
        expected[0], abs=1e-9
    )


def test_the_variance_has_that_of_the_mean_over_t_in_it() -> None:
    """No noise at all, but a mean that jumps at 0.5: only intervals on one side have none."""
    live = Clipped(min_width=0.5).build(run_facts())
    t = times()
    live.validated(t, torch.where(t < 0.5, 1.0, 5.0) * t * LENGTH, t * LENGTH)
    assert interval(live) in ([0.0, 0.5], [0.5, 1.0])


def test_every_validation_chooses_anew() -> None:
    live = Clipped().build(run_facts())
    t = times()
    live.validated(*validation(0.1 + 3 * t, t))
    assert interval(live) == [0.0, 0.5]
    live.validated(*validation(0.1 + 3 * (1 - t), t))
    assert interval(live) == [0.5, 1.0]


def test_too_few_draws_change_nothing() -> None:
    live = Clipped(low=0.1, high=0.9).build(run_facts())
    t = times(31)
    live.validated(*validation(t, t))
    assert interval(live) == [0.1, 0.9]
    live.validated(*validation(t, t))
    empty = t[:0]
    live.validated(empty, empty, empty)
    assert interval(live) == [0.1, 0.9]


def test_draws_that_are_not_finite_are_passed_over() -> None:
    live = Clipped().build(run_facts())
    t, nll, count = validation(0.1 + 3 * (1 - times()), times())
    nll[:40], nll[-5:] = math.nan, math.inf
    live.validated(t, nll, count)
    assert interval(live) == [0.5, 1.0]


def test_among_equals_the_widest_is_taken() -> None:
    live = Clipped(low=0.4, high=0.6).build(run_facts())
    live.validated(times(), 2 * times() * LENGTH, times() * LENGTH)
    assert interval(live) == [0.0, 1.0]


def test_the_interval_is_its_state() -> None:
    live, other = Clipped().build(run_facts()), Clipped().build(run_facts())
    t = times()
    live.validated(*validation(0.1 + 3 * t, t))
    other.load_state_dict(live.state_dict())
    assert other.at(0) == live.at(0)
    assert other.at(0) != Clipped().build(run_facts()).at(0)


def test_an_interval_without_width_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"\[time_sampler\]: high must be above low: got low = 0"):
        load_recipe("quickstart_uniform", ["time_sampler={use='clipped', low=0.5, high=0.25}"])


@pytest.mark.parametrize("use", ["clipped", "loss_adaptive"])
def test_they_need_the_weight_of_the_linear_schedule(use: str) -> None:
    choice = f"time_sampler.use={use}"
    load_recipe("quickstart_uniform", [choice, "noise_schedule.eps=0.001"])
    with pytest.raises(RecipeError, match=r"\[time_sampler\]: measures the loss by the weight 1/t"):
        load_recipe("quickstart_uniform", [choice, "noise_schedule.use=cosine"])
