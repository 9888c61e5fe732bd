from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats

from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.schedules import Cosine, Geometric, Linear, Polynomial
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.diffusion import GridDensity, nelbo_weight, stratify, uniform_subset
from mdmkit.training.ema import ema_decay
from mdmkit.values import Vocabulary

T = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
GRID = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000


@pytest.mark.parametrize(("t", "sigma"), [(0.1, 0.105249), (0.5, 0.692148), (1.0, 6.907755)])
def test_sigma_of_the_log_linear_schedule(t: float, sigma: float) -> None:
    alpha = Linear(eps=1e-3).alpha(torch.tensor([t], dtype=torch.float64))
    assert float(-alpha.log()) == pytest.approx(sigma, abs=5e-7)


@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.1])
def test_the_log_linear_weight_is_one_over_t(eps: float) -> None:
    schedule = Linear(eps=eps)
    alpha, dalpha = schedule.alpha(T), schedule.dalpha(T)
    torch.testing.assert_close(nelbo_weight(alpha, dalpha), 1 / T, rtol=1e-10, atol=0)
    dsigma, sigma = -dalpha / alpha, -alpha.log()  # MDLM's way of writing the same weight
    torch.testing.assert_close(dsigma / sigma.expm1(), 1 / T, rtol=1e-10, atol=0)


def test_the_cosine_weight_is_a_tangent() -> None:
    # MD4, arXiv 2406.04329, table 1: −alpha'/(1 − alpha) = (π/2)·tan((π/2)·(1 − t))
    schedule = Cosine()
    weight = nelbo_weight(schedule.alpha(T), schedule.dalpha(T))
    expected = math.pi / 2 * torch.tan(math.pi / 2 * (1 - T))
    torch.testing.assert_close(weight, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_the_weight_of_a_polynomial_schedule_is_its_power_over_t(power: float) -> None:
    # MD4, arXiv 2406.04329, table 1
    schedule = Polynomial(power=power)
    weight = nelbo_weight(schedule.alpha(T), schedule.dalpha(T))
    torch.testing.assert_close(weight, power / T, rtol=1e-6, atol=0)
    torch.testing.assert_close(1 - schedule.alpha(T), T**power)


def test_sigma_of_the_geometric_schedule() -> None:
    schedule = Geometric(sigma_min=1e-4, sigma_max=25.0)
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    sigma = -schedule.alpha(t).log()
    # equal steps of t multiply sigma by equal factors: 250000^(1/4) each
    expected = [1e-4, 1e-4 * 250_000**0.25, 0.05, 25.0]
    assert sigma.tolist() == pytest.approx(expected, rel=1e-9)
    # MD4, table 1: −alpha'/(1 − alpha) = sigma·ln(max/min)/(exp(sigma) − 1)
    weight = nelbo_weight(schedule.alpha(t), schedule.dalpha(t))
    torch.testing.assert_close(weight, sigma * math.log(250_000) / sigma.expm1(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (1.0, 0.5)])
def test_a_geometric_schedule_that_does_not_grow_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=f"above sigma_min: got sigma_min = {low:g} and"):
        Geometric(sigma_min=low, sigma_max=high)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "vocabulary", "parameters"),
    [
        (768, 12, 12, 50258, 169_627_218),
        (768, 12, 12, 30522, 139_292_986),
        (1024, 24, 16, 50258, 424_477_010),
        (512, 8, 8, 50258, 80_061_266),
    ],
)
def test_parameter_counts_of_mdlms_networks(
    width: int, depth: int, heads: int, vocabulary: int, parameters: int
) -> None:
    options = Dit(width=width, depth=depth, heads=heads)
    with torch.device("meta"):
        network = options.build(Vocabulary(size=vocabulary, mask_id=vocabulary - 1))
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_ema_warm_up() -> None:
    assert ema_decay(1, 0.9999) == pytest.approx(0.181818, abs=5e-7)
    assert ema_decay(90, 0.9999) == pytest.approx(0.91)
    assert ema_decay(10**6, 0.9999) == 0.9999


# --- densities


@pytest.mark.parametrize(("centre", "width"), [(0.5, 0.2), (0.5, 0.01), (0.0, 0.3), (0.9, 2.0)])
def test_bell_is_scipys_truncated_normal(centre: float, width: float) -> None:
    theirs = stats.truncnorm(-centre / width, (1 - centre) / width, loc=centre, scale=width)
    ours = Bell(centre=centre, width=width)
    torch.testing.assert_close(ours.density(T), torch.tensor(theirs.pdf(T)), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(ours.icdf(GRID), torch.tensor(theirs.ppf(GRID)), rtol=0, atol=1e-9)


def test_a_floor_mixes_in_the_uniform_density() -> None:
    ours, floor = Bell(centre=0.4, width=0.1, floor=0.25), 0.25
    theirs = stats.truncnorm(-4, 6, loc=0.4, scale=0.1)
    mixed = floor + (1 - floor) * torch.tensor(theirs.pdf(T))
    torch.testing.assert_close(ours.density(T), mixed, rtol=1e-8, atol=0)
    t = ours.icdf(GRID)
    reached = floor * t + (1 - floor) * torch.tensor(theirs.cdf(t))
    torch.testing.assert_close(reached, GRID, rtol=0, atol=1e-12)


def test_uniform_from_eps() -> None:
    u = torch.tensor([0.25], dtype=torch.float64)
    assert float(Uniform(eps=0.2).icdf(u)) == pytest.approx(0.4)
    assert Uniform(eps=0.2).density(torch.tensor([0.1, 0.2, 0.9])).tolist() == pytest.approx(
        [0.0, 1.25, 1.25]
    )


def test_a_density_on_a_grid() -> None:
    density = GridDensity(torch.tensor([1.0, 3.0]))  # mass 1/4 and 3/4
    u = torch.tensor([0.125, 0.25, 0.625, 0.9999999], dtype=torch.float64)
    assert density.icdf(u).tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert density.density(torch.tensor([0.1, 0.49, 0.5, 0.99])).tolist() == [0.5, 0.5, 1.5, 1.5]


# --- strata

KINDS = ("iid", "jittered", "offset", "mirrored")


def drawn(kind: str, size: int, times: int = 3000) -> torch.Tensor:
    """``[times, size]``"""
    source = torch.Generator().manual_seed(17)
    noise = torch.rand(times, size, generator=source, dtype=torch.float64)
    return torch.stack([stratify(row, kind) for row in noise])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_one_number_in_each_stratum(kind: str, size: int) -> None:
    strata = (drawn(kind, size, 50) * size).floor().long()
    assert (strata == torch.arange(size)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_uniform(kind: str) -> None:
    size = 5
    u = drawn(kind, size)
    inside = u if kind == "iid" else u * size - torch.arange(size)
    for column in inside.T:  # each number by itself, in its stratum
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
    picked = u[torch.arange(len(u)), torch.arange(len(u)) % size]  # whichever row one looks at
    assert stats.kstest(picked.numpy(), "uniform").pvalue > 1e-3


def test_independent_numbers_are_not_stratified() -> None:
    strata = (drawn("iid", 8, 50) * 8).floor().long().sort(-1).values
    assert not (strata == torch.arange(8)).all(-1).any()


@pytest.mark.parametrize("size", [2, 6, 7])
def test_mirrored_twins_add_up_to_one(size: int) -> None:
    u = drawn("mirrored", size, 50)
    total = u + u.flip(-1)
    half = size // 2
    torch.testing.assert_close(total[:, :half], torch.ones(50, half, dtype=torch.float64))


def test_offset_has_one_offset() -> None:
    u = drawn("offset", 6, 50)
    torch.testing.assert_close(u.diff(dim=-1), torch.full((50, 5), 1 / 6, dtype=torch.float64))
    assert u[:, 0].std() > 0.03


# --- subsets


def test_every_subset_is_equally_likely() -> None:
    orders = torch.tensor(list(itertools.permutations(range(4)))) / 4  # each order once
    for count in range(5):
        chosen = uniform_subset(
            orders, torch.full((24,), count), torch.ones(24, 4, dtype=torch.bool)
        )
        codes = (chosen.long() @ (2 ** torch.arange(4))).bincount(minlength=16)
        expected = [24 / math.comb(4, count) * (i.bit_count() == count) for i in range(16)]
        assert codes.tolist() == expected
