"""Time samplers against scipy's distributions, and samples against distribution functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import special, stats

from mdmkit.builtin.time_samplers import Bell, Beta, LogitNormal, Uniform, Window

T = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
U = torch.cat(
    [
        torch.logspace(-12, -3, 40, dtype=torch.float64),
        torch.linspace(0.002, 0.998, 499, dtype=torch.float64),
        1 - torch.logspace(-3, -9, 40, dtype=torch.float64),
    ]
)


@pytest.mark.parametrize(
    ("a", "b"),
    [(2, 2), (1, 1), (5, 3), (0.25, 0.25), (0.5, 3.3), (7.3, 1.0), (30.0, 2.5), (1000.0, 700.0)],
)
def test_beta_is_scipys(a: float, b: float) -> None:
    ours, theirs = Beta(a=a, b=b), stats.beta(a, b)
    torch.testing.assert_close(ours.density(T), torch.tensor(theirs.pdf(T)), rtol=1e-10, atol=1e-12)
    t = ours.icdf(U)
    inside = (t > 2.0**-64) & (t < 1 - 1e-12)  # past it float64 cannot tell the times apart
    reached = torch.where(t < 0.5, torch.tensor(theirs.cdf(t)), 1 - torch.tensor(theirs.sf(t)))
    torch.testing.assert_close(reached[inside], U[inside], rtol=1e-8, atol=1e-13)
    assert inside.float().mean() > 0.7


def test_beta_of_two_and_two_is_a_parabola() -> None:
    t = Beta().icdf(U)
    torch.testing.assert_close(3 * t**2 - 2 * t**3, U, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(Beta().density(T), 6 * T * (1 - T))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-1.0, 0.3), (2.0, 3.0)])
def test_logit_normal(mean: float, std: float) -> None:
    ours, normal = LogitNormal(mean=mean, std=std), stats.norm(mean, std)
    t = ours.icdf(U[40:-40])
    torch.testing.assert_close(torch.tensor(normal.cdf(special.logit(t.numpy()))), U[40:-40])
    slope = torch.tensor(normal.pdf(special.logit(T.numpy()))) / (T * (1 - T))
    torch.testing.assert_close(ours.density(T), slope)


def test_window() -> None:
    window = Window(low=0.2, high=0.6)
    u = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert window.icdf(u).tolist() == pytest.approx([0.3, 0.4])
    assert window.density(torch.tensor([0.19, 0.21, 0.59, 0.61])).tolist() == pytest.approx(
        [0.0, 2.5, 2.5, 0.0]
    )
    assert Window().icdf(u).tolist() == pytest.approx([0.475, 0.5])


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.7, 0.3)])
def test_a_window_without_width_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=f"above low: got low = {low} and high = {high}"):
        Window(low=low, high=high)


SAMPLERS: list[Any] = [
    (Uniform(eps=0.1), stats.uniform(0.1, 0.9)),
    (Bell(centre=0.4, width=0.3), stats.truncnorm(-4 / 3, 2, loc=0.4, scale=0.3)),
    (Beta(), stats.beta(2, 2)),
    (Beta(a=0.7, b=4.0), stats.beta(0.7, 4)),
    (Window(), stats.uniform(0.45, 0.1)),
]


@pytest.mark.parametrize(("sampler", "law"), SAMPLERS, ids=lambda value: str(value)[:40])
def test_samples_follow_the_law(sampler: Any, law: Any) -> None:
    assert stats.kstest(samples(sampler.at(0)), law.cdf).pvalue > 1e-3


def test_logits_of_samples_are_normal() -> None:
    t = samples(LogitNormal(mean=0.5, std=2.0).at(0))
    assert stats.kstest(special.logit(t), stats.norm(0.5, 2.0).cdf).pvalue > 1e-3


def samples(density: Any) -> Any:
    """20,000 times, drawn independently."""
    source = torch.Generator().manual_seed(5)
    return density.icdf(torch.rand(20_000, generator=source, dtype=torch.float64)).numpy()
