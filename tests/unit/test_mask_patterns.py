from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from mdmkit import load_recipe
from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.mask_patterns import BlueNoise, Clustered, Complementary, Independent, Mirrored
from mdmkit.diffusion import GOLDEN, golden_sequence
from mdmkit.errors import RecipeError
from mdmkit.plugins import load_catalogue
from mdmkit.protocols import RunFacts
from mdmkit.testing import run_facts

CATALOGUE = load_catalogue({"MDMKIT_PLUGINS": "none"})
FACTS = run_facts()  # 100 steps
LENGTH = 512


def masks(
    pattern: Any, rate: float, rows: int = 200, *, step: int = 0, length: int = LENGTH
) -> Tensor:
    """The masks of `rows` rows (or pairs of them) of one rate: ``[rows, length]`` bool."""
    live = FACTS.live(pattern)
    draw = torch.Generator().manual_seed(5)
    noise = torch.rand(rows, length, generator=draw)
    row_noise = torch.rand(rows, generator=draw)
    mask: Tensor = live.mask(
        rate=torch.full((rows * live.group,), rate, dtype=torch.float64),
        noise=noise.repeat_interleave(live.group, 0),
        row_noise=row_noise.repeat_interleave(live.group, 0),
        member=torch.arange(rows * live.group) % live.group,
        maskable=torch.ones(rows * live.group, length, dtype=torch.bool),
        step=step,
    )
    return mask


def run_lengths(mask: Tensor) -> list[int]:
    """Lengths of all masked runs of ``[B, L]``, those cut off by the edges too."""
    padded = torch.nn.functional.pad(mask.long(), (1, 1)).diff()
    begins, ends = (padded == 1).nonzero(), (padded == -1).nonzero()
    return (ends[:, 1] - begins[:, 1]).tolist()


# --- blue noise


def fibonacci_bound(rate: float) -> int:
    k = next(k for k in range(1, 50) if GOLDEN**k < 1 - rate)
    numbers = [1, 1]
    while len(numbers) < k + 2:
        numbers.append(numbers[-1] + numbers[-2])
    return numbers[k + 1] - 1


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.39, 0.5, 0.62, 0.7, 0.8, 0.9, 0.95, 0.98])
def test_masked_runs_are_as_long_as_the_three_distance_theorem_allows(rate: float) -> None:
    blue = run_lengths(masks(BlueNoise(share=1.0), rate))
    assert max(blue) == fibonacci_bound(rate)


def test_at_the_rates_of_the_docstring() -> None:
    assert [fibonacci_bound(rate) for rate in (0.5, 0.9)] == [2, 12]
    independent = run_lengths(masks(Independent(), 0.5))
    assert max(independent) > 10
    blue = run_lengths(masks(BlueNoise(share=1.0), 0.5))
    assert sum(blue) / len(blue) < 0.9 * sum(independent) / len(independent)


def test_a_blue_row_masks_the_rate_up_to_two_tokens() -> None:
    counts = masks(BlueNoise(share=1.0), 0.37).sum(-1)
    assert (counts - 0.37 * LENGTH).abs().max() < 3
    assert masks(Independent(), 0.37).sum(-1).double().std() > 5


def test_a_long_row_stays_uniform() -> None:
    """In float32 the fraction of 10^6·φ would have four digits left."""
    start = torch.tensor([0.125])
    values = golden_sequence(start, torch.arange(10**6))
    exact = math.fmod(0.125 + 999_999 * GOLDEN, 1)
    assert float(values[-1]) == pytest.approx(exact, abs=1e-9)
    assert float(values.sort().values.diff().max()) < 3e-6


def blue_rows(pattern: BlueNoise, step: int) -> int:
    """How many of 200 rows have bounded runs at rate 0.5."""
    mask = masks(pattern, 0.5, step=step)
    return sum(max(run_lengths(row[None])) <= 2 for row in mask)


def test_the_share_of_blue_rows_follows_its_course() -> None:
    assert blue_rows(BlueNoise(share=0.0), 0) == 0
    assert blue_rows(BlueNoise(share=1.0), 0) == 200
    fixed = BlueNoise(share=0.3)
    assert blue_rows(fixed, 0) == blue_rows(fixed, 99) == pytest.approx(60, abs=25)
    falling = BlueNoise(share=1.0, final_share=0.0, anneal=Annealing(begin=0.2, end=0.8))
    assert [blue_rows(falling, step) for step in (0, 19, 80, 99)] == [200, 200, 0, 0]
    assert blue_rows(falling, 50) == pytest.approx(100, abs=30)


def test_without_blue_rows_the_masks_are_those_of_independent() -> None:
    assert torch.equal(masks(BlueNoise(share=0.0), 0.4), masks(Independent(), 0.4))
    assert BlueNoise(share=0.0).count_law == "binomial"
    assert BlueNoise(share=0.0, final_share=0.1).count_law == "other"


def test_what_blue_noise_states_of_contexts() -> None:
    assert BlueNoise().every_context
    assert not BlueNoise(share=1.0).every_context
    assert not BlueNoise(share=1.0, final_share=0.0).every_context  # not at the first step
    assert BlueNoise(share=0.9, final_share=0.0).build(FACTS).every_context


# --- twins


def test_a_complementary_twin_masks_what_the_first_left_visible() -> None:
    mask = masks(Complementary(), 0.3)
    assert torch.equal(mask[1::2], ~mask[::2])
    assert torch.equal(mask[::2], masks(Independent(), 0.3))
    assert mask[::2].double().mean() == pytest.approx(0.3, abs=0.01)


def test_nobody_masks_what_may_not_be_masked() -> None:
    maskable = torch.tensor([True, False, True, False]).repeat(4, 1)
    for pattern in (Complementary(), Mirrored(), Clustered()):
        mask = pattern.mask(
            rate=torch.full((4,), 0.99, dtype=torch.float64),
            noise=torch.rand(2, 4).repeat_interleave(2, 0),
            member=torch.arange(4) % 2,
            maskable=maskable,
        )
        assert not (mask & ~maskable).any()


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
def test_mirrored_twins_overlap_as_little_as_they_can(rate: float) -> None:
    mask = masks(Mirrored(), rate)
    first, twin = mask[::2], mask[1::2]
    both = (first & twin).double().mean()
    assert both == pytest.approx(max(2 * rate - 1, 0), abs=0.01)
    assert twin.double().mean() == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("rate", [0.5, 0.3, 1 - 2.0**-24, 2.0**-24])
def test_both_mirrored_twins_mask_exactly_the_same_share_of_the_noise(rate: float) -> None:
    """On the points k·2^-24 around the threshold and its mirror image, ties and all."""
    grid = 2.0**-24
    wanted = {round(rate * 2**24) + d for d in range(-3, 4)}
    wanted |= {2**24 - k for k in wanted} | {0, 1, 2**24 - 1}
    points = sorted(k for k in wanted if 0 <= k < 2**24)
    mirror = sorted({*points, *(2**24 - 1 - k for k in points)})  # closed under mirroring
    noise = torch.tensor([[k * grid for k in mirror]]).repeat(2, 1)
    mask = Mirrored().mask(
        rate=torch.full((2,), rate, dtype=torch.float64),
        noise=noise,
        member=torch.arange(2),
        maskable=torch.ones_like(noise, dtype=torch.bool),
    )
    assert mask[0].sum() == mask[1].sum() == sum(k * grid < rate for k in mirror)


# --- clustered


@pytest.mark.parametrize(("rate", "mean_run"), [(0.5, 8.0), (0.2, 5.0), (0.8, 4.0), (0.5, 2.0)])
def test_masked_runs_have_the_mean_length_and_correlation_of_the_chain(
    rate: float, mean_run: float
) -> None:
    mask = masks(Clustered(mean_run=mean_run), rate, rows=1000)
    share = mask.double().mean()
    assert share == pytest.approx(rate, abs=0.01)
    begins = (mask[:, 1:] & ~mask[:, :-1]).sum()
    ends = (mask[:, :-1] & ~mask[:, 1:]).sum()
    masked = mask[:, :-1].sum()
    assert float(masked / ends) == pytest.approx(mean_run / (2 * (1 - rate)), rel=0.02)
    assert float(begins) == pytest.approx(float(ends), rel=0.02)
    for distance in (1, 2, 5):
        product = (mask[:, :-distance] & mask[:, distance:]).double().mean()
        correlation = (product - rate**2) / (rate * (1 - rate))
        assert float(correlation) == pytest.approx((1 - 2 / mean_run) ** distance, abs=0.015)


def test_clusters_are_what_a_walk_along_the_row_gives() -> None:
    draw, m, rate = torch.Generator().manual_seed(2), 6.0, 0.4
    noise = torch.rand(50, 40, generator=draw)
    found = Clustered(mean_run=m).mask(
        rate=torch.full((50,), rate, dtype=torch.float64),
        noise=noise,
        maskable=torch.ones(50, 40, dtype=torch.bool),
    )
    for row, expected in zip(noise.tolist(), found.tolist(), strict=True):
        state, walked = row[0] < rate, []
        for place, u in enumerate(row):
            if place and u < (2 / m) * rate:
                state = True
            elif place and u >= (2 / m) * rate + 1 - 2 / m:
                state = False
            walked.append(state)
        assert walked == expected


def test_with_the_run_length_of_independent_masks_clusters_are_independent() -> None:
    assert torch.equal(masks(Clustered(mean_run=2.0), 0.4), masks(Independent(), 0.4))


# --- the table that says when something changes


def test_a_course_meets_both_ends_exactly() -> None:
    course = Annealing().course(0.1, 0.3, FACTS)
    assert course(0) == 0.1
    assert course(99) == course(100) == 0.3  # the last of 100 steps, and beyond
    assert course(50) == pytest.approx(0.1 + 0.2 * 50 / 99)


def test_a_course_that_goes_nowhere_asks_for_no_learning_rate() -> None:
    def refuse(_: int) -> float:
        raise AssertionError("asked")

    facts: RunFacts = attrs.evolve(FACTS, learning_rate=refuse)
    assert Annealing(by="learning_rate").course(0.5, 0.5, facts)(7) == 0.5


def test_a_change_with_a_constant_learning_rate_is_refused() -> None:
    blue = ['mask_pattern.use="blue_noise"', 'mask_pattern.anneal.by="learning_rate"']
    load_recipe("quickstart_bell", blue, catalogue=CATALOGUE)
    with pytest.raises(RecipeError, match=r"anneal: .*constant"):
        load_recipe("quickstart_bell", [*blue, "mask_pattern.final_share=0.0"], catalogue=CATALOGUE)
