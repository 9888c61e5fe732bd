"""Samplers that learn from training: known answers, and what must not disturb them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attrs import evolve
from scipy import optimize, stats
from torch import Tensor

from mdmkit.builtin.time_samplers import Beta, InformationRate, LossAdaptive, Mixture, Uniform
from mdmkit.builtin.time_samplers.online import OnlineSums, interpolate, isotonic
from mdmkit.protocols import RunFacts
from mdmkit.testing import run_facts

T = torch.linspace(0.03, 0.97, 200, dtype=torch.float64)
LENGTH, ROWS = 128, 64
ENTROPY = math.log(100)
FACTS = evolve(
    run_facts(),
    length=LENGTH,
    global_batch_size=ROWS,
    token_counts=lambda: torch.full((100,), 7.0, dtype=torch.float64),
)


def taught(
    options: Any,
    h: Callable[[Tensor], Tensor],
    *,
    steps: int = 300,
    rate: Callable[[Tensor], Tensor] = lambda t: t,
    noise: float = 0.0,
    facts: RunFacts = FACTS,
) -> Any:
    """A sampler after steps of a model whose mean cross-entropy at t is h(t)."""
    live, source = options.build(facts), torch.Generator().manual_seed(0)
    for step in range(steps):
        t = live.at(step).icdf(torch.rand(ROWS, generator=source, dtype=torch.float64))
        expected = rate(t).expand(LENGTH, -1).contiguous()
        count = torch.bernoulli(expected, generator=source).sum(0)
        nll = count * h(t) * (1 + noise * torch.randn(ROWS, generator=source, dtype=torch.float64))
        live.observe(t, nll, count)
    return live


# --- what they are made of


def test_the_isotonic_fit_is_the_best_increasing_one() -> None:
    values = torch.tensor([1.0, 3.0, 2.0, 2.0, 5.0, 4.0, 0.5], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 1.0, 4.0, 1.0, 3.0, 0.5], dtype=torch.float64)
    theirs = optimize.isotonic_regression(values.numpy(), weights=weights.numpy()).x
    torch.testing.assert_close(isotonic(values, weights), torch.tensor(theirs))
    rising = torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    assert torch.equal(isotonic(rising, torch.ones(4)), rising)


def test_interpolation_is_constant_outside() -> None:
    places, values = torch.tensor([0.2, 0.4, 0.8]), torch.tensor([1.0, 3.0, -1.0])
    t = torch.tensor([0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])
    found = interpolate(t, places, values)
    assert found.tolist() == pytest.approx([1.0, 1.0, 2.0, 3.0, 1.0, -1.0, -1.0])
    assert interpolate(t, places[:1], values[:1]).tolist() == [1.0] * 7


def test_old_sums_fade() -> None:
    sums = OnlineSums(bins=2, memory=4.0, columns=1)
    one = torch.ones(1, 1, dtype=torch.float64)
    sums.add(torch.tensor([0.2], dtype=torch.float64), one)
    sums.add(torch.tensor([1.0], dtype=torch.float64), 2 * one)
    assert sums.values.flatten().tolist() == pytest.approx([0.75, 2.0])


# --- information rate


def test_a_linear_cross_entropy_gives_beta_of_two_and_two() -> None:
    live = taught(InformationRate(floor=1e-6, warmup=20), lambda t: ENTROPY * t)
    found = live.at(1000)
    assert found is not live.at(0)
    torch.testing.assert_close(found.density(T), Beta().density(T), rtol=0.02, atol=0.01)


def test_the_density_follows_the_formula() -> None:
    options = InformationRate(floor=0.1, warmup=20, prior=0.3)
    live = taught(options, lambda t: ENTROPY * t**0.5, noise=0.05)
    fine = torch.linspace(0, 1, 2001, dtype=torch.float64)

    def shape(t: Tensor) -> Tensor:
        return t * (ENTROPY * (1 - t**0.5) + 0.3 * (1 - t))

    expected = 0.9 * shape(T) / torch.trapezoid(shape(fine), fine) + 0.1
    torch.testing.assert_close(live.at(1000).density(T), expected, rtol=0.05, atol=0.03)


def test_the_share_of_masked_tokens_is_measured() -> None:
    """Under alpha = 1 − t², r = t²: h = H₁·r gives r·(1 − r) = t²·(1 − t²)."""
    live = taught(
        InformationRate(floor=1e-6, warmup=20), lambda t: ENTROPY * t**2, rate=lambda t: t**2
    )
    expected = 7.5 * T**2 * (1 - T**2)
    torch.testing.assert_close(live.at(1000).density(T), expected, rtol=0.03, atol=0.02)


def test_a_cross_entropy_that_falls_somewhere_is_levelled() -> None:
    live = taught(InformationRate(floor=1e-6, warmup=0), lambda t: 1 + 2 * (t < 0.5).double())
    found = live.at(1000).density(T) / T
    # h is 3 and then 1: its level fit lies between, and only the prior's 0.2·(1 − t) is left
    slope = (found[150] - found[50]) / (T[150] - T[50]) / found[100]
    assert -0.2 < float(slope) < 0


def test_a_model_that_knows_nothing_keeps_the_bell() -> None:
    live = taught(InformationRate(floor=1e-6, warmup=0), lambda t: 1.5 * ENTROPY + 0 * t)
    torch.testing.assert_close(live.at(1000).density(T), Beta().density(T), rtol=0.02, atol=0.01)


def test_the_tokens_are_counted_late_and_once() -> None:
    asked: list[int] = []

    def count() -> Tensor:
        asked.append(1)
        return torch.ones(100, dtype=torch.float64)

    live = InformationRate(warmup=2).build(evolve(FACTS, token_counts=count))
    before = live.at(5)  # nothing was observed
    assert before.density(T).tolist() == Beta().density(T).tolist()
    t = torch.full((ROWS,), 0.5, dtype=torch.float64)
    for step in range(6):
        live.at(step)
        assert asked == [] or step >= 2
        live.observe(t, 64 * t, 128 * t)
    live.at(7)
    assert asked == [1]
    assert live.unigram_entropy == pytest.approx(math.log(100))


# --- loss-adaptive


def test_the_root_of_the_mean_square_of_the_loss_is_found() -> None:
    """A row's loss at t: mean m(t), standard deviation s(t), so q ∝ sqrt(m² + s²)."""
    options = LossAdaptive(floor=1e-6, warmup=20, memory=500.0)
    live, source = options.build(FACTS), torch.Generator().manual_seed(3)

    def mean(t: Tensor) -> Tensor:
        return 1 + 2 * t

    def deviation(t: Tensor) -> Tensor:
        return 2 * (1 - t)

    for step in range(1000):
        t = live.at(step).icdf(torch.rand(ROWS, generator=source, dtype=torch.float64))
        z = torch.randn(ROWS, generator=source, dtype=torch.float64)
        live.observe(t, t * (mean(t) + deviation(t) * z), 0 * t + 1)
    fine = torch.linspace(0, 1, 2001, dtype=torch.float64)
    shape = (mean(fine) ** 2 + deviation(fine) ** 2).sqrt()
    expected = (mean(T) ** 2 + deviation(T) ** 2).sqrt() / torch.trapezoid(shape, fine)
    torch.testing.assert_close(live.at(1000).density(T), expected, rtol=0.08, atol=0)
    flat = (mean(T) / torch.trapezoid(mean(fine), fine) - live.at(1000).density(T)).abs()
    assert float(flat.max()) > 0.3  # it is not the mean alone


def test_the_smallest_times_do_not_blow_it_up() -> None:
    """A single token paid at t = 1e-6 is a loss of a million, and must not draw q there."""
    live = taught(LossAdaptive(warmup=0), lambda t: 1 + t, steps=200)
    before = live.at(200).density(T)
    t = torch.full((ROWS,), 0.5, dtype=torch.float64)
    t[0] = 1e-6
    live.observe(t, 128 * t.clamp(min=1 / 128) * (1 + t), 128 * t)
    torch.testing.assert_close(live.at(201).density(T), before, rtol=0.05, atol=0)


def test_until_the_warm_up_is_over_times_are_uniform() -> None:
    live = taught(LossAdaptive(warmup=30), bumpy, steps=30)
    assert live.at(29) == Uniform()
    assert live.at(30) != Uniform()


# --- every sampler that observes

ONLINE: list[Any] = [InformationRate(warmup=0), LossAdaptive(warmup=0)]
online = pytest.mark.parametrize("options", ONLINE, ids=lambda options: type(options).__name__)


def bumpy(t: Tensor) -> Tensor:
    return 1 + 3 * t - 2 * t**3


@online
def test_rows_that_are_not_finite_or_have_no_time_change_nothing(options: Any) -> None:
    live, clean = taught(options, bumpy, steps=30), taught(options, bumpy, steps=30)
    t = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    nll, count = 100 * bumpy(t), 128 * t
    bad = torch.tensor([math.nan, math.inf, -math.inf, 1e200, 1.0, 1.0], dtype=torch.float64)
    odd = torch.tensor([0.5, 0.5, 0.5, math.nan, 0.0, -1.0], dtype=torch.float64)
    live.observe(torch.cat([t, odd]), torch.cat([nll, bad]), torch.cat([count, 0 * odd + 64]))
    clean.observe(t, nll, count)
    assert torch.equal(live.at(99).density(T), clean.at(99).density(T))


@online
def test_an_empty_batch_keeps_a_density(options: Any) -> None:
    live = options.build(FACTS)
    zeros = torch.zeros(ROWS, dtype=torch.float64)
    live.observe(zeros + 0.5, zeros, zeros)  # nothing was masked
    live.observe(zeros + 0.5, zeros * math.nan, zeros)
    assert live.at(2).density(T).isfinite().all()


@online
def test_the_state_goes_on_the_same(options: Any) -> None:
    live = taught(options, bumpy, steps=30)
    saved = live.state_dict()
    other = taught(options, lambda t: t + 1, steps=3)
    other.at(3)  # a density that must be forgotten
    other.load_state_dict(saved)
    t = torch.linspace(0.1, 0.9, ROWS, dtype=torch.float64)
    for step in (30, 31):
        assert torch.equal(live.at(step).density(T), other.at(step).density(T))
        for one in (live, other):
            one.observe(t, 128 * t * bumpy(t), 128 * t)
    same = [saved[name].equal(value) for name, value in live.state_dict().items()]
    assert not any(same)  # what was saved is not what goes on changing


@online
def test_samples_follow_what_was_learned(options: Any) -> None:
    density = taught(options, bumpy, steps=100).at(100)
    source = torch.Generator().manual_seed(5)
    t = density.icdf(torch.rand(20_000, generator=source, dtype=torch.float64))
    edges = torch.linspace(0, 1, 4097, dtype=torch.float64)
    masses = density.density((edges[1:] + edges[:-1]) / 2) / 4096
    below = torch.cat([torch.zeros(1, dtype=torch.float64), masses.cumsum(0)])
    assert float(below[-1]) == pytest.approx(1, abs=1e-6)

    def law(x: Any) -> Any:
        return interpolate(torch.from_numpy(x), edges, below).numpy()

    assert stats.kstest(t.numpy(), law).pvalue > 1e-3
    assert stats.kstest(t.numpy(), "uniform").pvalue < 1e-6


@online
def test_the_density_is_positive_everywhere(options: Any) -> None:
    live = taught(options, bumpy, steps=100)
    ends = torch.tensor([0.0, 1e-9, 1 - 1e-9, 1.0], dtype=torch.float64)
    assert (live.at(100).density(torch.cat([T, ends])) >= options.floor * 0.999).all()


@online
def test_it_is_the_same_inside_of_a_mixture(options: Any) -> None:
    mixed = Mixture(first=Uniform(), second=options, share=1.0).build(FACTS)
    alone = options.build(FACTS)
    t = torch.linspace(0.01, 0.99, ROWS, dtype=torch.float64)
    for _ in range(5):
        for one in (mixed, alone):
            one.observe(t, 128 * t * bumpy(t), 128 * t)
    assert torch.equal(mixed.at(5).density(T), alone.at(5).density(T))
    assert mixed.state_dict().keys() == {f"second.{name}" for name in alone.state_dict()}
