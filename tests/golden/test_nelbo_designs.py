"""The designs of the evaluator nelbo: their expectations as finite sums over counts and masks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from attrs import frozen
from scipy import integrate
from torch import Tensor

from mdmkit.builtin.evaluators.nelbo import designs
from mdmkit.builtin.evaluators.nelbo.control import FEATURES, controls
from mdmkit.builtin.evaluators.nelbo.designs import Ask
from mdmkit.builtin.evaluators.nelbo.neighbours import count_neighbours
from mdmkit.values import Batch

POINTS = 20_000


@frozen(kw_only=True)
class Every:
    """Draws that are handed their times and noise."""

    u: Tensor
    noise: Tensor
    draw: Tensor

    def of(self, times: Tensor) -> Tensor:
        return times

    def uniform(self, stream: str, *shape: int, group: int = 1) -> Tensor:
        return self.noise

    def strata(self, stream: str, kind: str, *, group: int = 1) -> Tensor:
        return self.u


def ask(u: Tensor, noise: Tensor, scored: Tensor, *, draw: int = 0, **options: Any) -> Ask:
    every: Any = Every(u=u, noise=noise, draw=torch.full((len(u),), draw))
    return Ask(scored=scored, draws=every, times=u, **{"sampling_eps": 0.0, **options})


def chances_of_counts(count_of: Any) -> dict[int, float]:
    """How often each count comes, u going evenly through (0, 1)."""
    u = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    counts, times = count_of(u).unique(return_counts=True)
    return {int(k): float(n) / POINTS for k, n in zip(counts.tolist(), times.tolist(), strict=True)}


def orders_of(length: int) -> Tensor:
    """Noise whose ranks are every order of `length` positions: ``[L!, L]``."""
    return torch.tensor(list(itertools.permutations(range(length)))) / length


def over_counts_and_orders(design: Any, scored: Tensor, **options: Any) -> list[tuple[float, Any]]:
    """The masks of each count under every order, with the count's chance."""
    noise = orders_of(len(scored))
    rows = scored.expand(len(noise), -1)

    def count_of(u: Tensor) -> Tensor:
        same = torch.zeros(len(u), len(scored))
        wide = scored.expand(len(u), -1)
        return design(ask(u, same, wide, **options)).mask.sum(-1)

    u = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    counts = count_of(u)
    found = []
    for k, chance in chances_of_counts(count_of).items():
        some = u[counts == k][0]
        found.append((chance, design(ask(some.expand(len(noise)), noise, rows, **options))))
    assert sum(chance for chance, _ in found) == pytest.approx(1.0, abs=1e-12)
    return found


CASES = {
    "controlled": (designs.controlled, {}),
    "first of a pair": (designs.pairs, {"draw": 0}),
    "second of a pair": (designs.pairs, {"draw": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_design_has_the_nelbo_as_its_expectation(case: Any, name: str) -> None:
    design, options = CASES[name]
    scored = torch.ones(case.length, dtype=torch.bool)
    powers = 2 ** torch.arange(case.length - 1, -1, -1)  # a mask to its place in case.masks
    found = 0.0
    for chance, made in over_counts_and_orders(design, scored, **options):
        ce = case.ce[(made.mask * powers).sum(-1)]
        found += chance * float((made.factor * ce).mean())
    assert found / case.length == pytest.approx(case.nelbo(), rel=2e-4)  # of the grid in u


TEXTS = {
    "all": ("111111", "111111"),
    "a visible one in the middle and in front": ("011011", "111111"),
    "padding": ("111100", "111100"),
    "two": ("100100", "111111"),
    "two that touch": ("001100", "001100"),
    "one": ("000100", "111111"),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", CASES)
def test_the_control_variates_have_no_expectation(name: str, text: str) -> None:
    design, options = CASES[name]
    scored, real = (torch.tensor([c == "1" for c in flags]) for flags in TEXTS[text])
    tokens = torch.tensor([3, 1, 4, 1, 5, 9])
    source: Any = _Source(torch.randint(0, 9, (40, 6), generator=torch.Generator().manual_seed(1)))
    counts = count_neighbours(source)
    total, size = torch.zeros(FEATURES, dtype=torch.float64), torch.zeros(FEATURES).double()
    for chance, made in over_counts_and_orders(design, scored, **options):
        rows = len(made.mask)
        batch = Batch(
            tokens=tokens.expand(rows, -1),
            real=real.expand(rows, -1),
            maskable=scored.expand(rows, -1),
        )
        found = controls(
            batch,
            counts.costs(batch),
            made.mask,
            torch.zeros(made.mask.shape, dtype=torch.float64),
            made.factor,
            torch.zeros(rows, dtype=torch.int64),
        ).differences
        total += chance * found.mean(0)
        size += chance * found.abs().mean(0)
    assert (total.abs() <= 2e-4 * size + 1e-9).all()
    if scored.sum() > 2:
        assert (size[1:] > 0.01).all()  # they do vary


@frozen
class _Source:
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=self.tokens[rows])


@pytest.mark.parametrize("eps", [0.0, 0.05])
def test_mdlm_s_estimate_is_the_integral_over_time(case: Any, eps: float) -> None:
    """Factor and masking rate of each time, and the sum over all masks between them."""
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    noise = (torch.arange(4000) + 0.5) / 4000
    scored = torch.ones(len(noise), 1, dtype=torch.bool)
    values = []
    for one in u[::40]:
        made = designs.time(ask(one.expand(len(noise)), noise[:, None], scored, sampling_eps=eps))
        rate, factor = float(made.mask.double().mean()), float(made.factor[0])
        t = eps + (1 - eps) * float(one)
        assert rate == pytest.approx((1 - eps) * t, abs=2e-4)
        values.append(factor * case.length * rate * case.h(rate) if rate else 0.0)
    middle = sum(values) / len(values) / case.length
    expected = integrate.quad(lambda t: case.h((1 - eps) * t), max(eps, 1e-6), 1)[0]
    assert middle == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("vocab", "nats"), [(50258, 10.814080), (30522, 10.315844)])
def test_mdlm_s_figure_of_an_untrained_network(vocab: int, nats: float) -> None:
    """Every token costs ln(V − 1): MDLM's estimate is (1 − eps) of it (its ε is 0.001)."""
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    noise, scored = torch.zeros(2000, 1), torch.ones(2000, 1, dtype=torch.bool)
    t = 1e-3 + (1 - 1e-3) * u
    made = designs.time(ask(u, noise, scored, sampling_eps=1e-3))
    assert torch.equal(made.factor, 1 / t)
    expected = (made.factor * (1 - 1e-3) * t).mean() * math.log(vocab - 1)  # P(mask) = (1 − ε)t
    assert float(expected) == pytest.approx(nats, abs=1e-6)


def test_both_of_a_pair_cover_everything_once() -> None:
    scored = torch.ones(24, 4, dtype=torch.bool)
    noise = orders_of(4)
    for k in (1, 2, 3):
        u = torch.full((24,), (k - 0.5) / 4, dtype=torch.float64)
        first, second = (designs.pairs(ask(u, noise, scored, draw=d)).mask for d in (0, 1))
        assert torch.equal(first, ~second)
        assert (first.sum(-1) == k).all()


def test_noisy_counts_come_more_often_by_the_root_of_their_variance() -> None:
    n = 128
    scored = torch.ones(1, n, dtype=torch.bool)
    chances = chances_of_counts(
        lambda u: designs.controlled(
            ask(u, torch.zeros(len(u), n), scored.expand(len(u), -1))
        ).mask.sum(-1)
    )
    assert set(chances) == set(range(1, n + 1))
    assert chances[1] / chances[4] == pytest.approx(3.3, rel=0.1)  # more than √4 at the very end
    assert chances[8] / chances[32] == pytest.approx(1.7, rel=0.1)
    assert math.isclose(sum(chances.values()), 1.0)
