from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.diffusion import (
    GridDensity,
    invert_increasing,
    mask_tokens,
    masked_logits,
    masked_nll,
    scattered,
    stratify,
    subs_log_probs,
    sum_by_row,
    time_at_mask_rate,
    times_of_counts,
    uniform_subset,
)

MASK = 3


def test_masked_tokens_are_replaced_and_the_others_kept() -> None:
    x0 = torch.tensor([[0, 1, 2], [2, 1, 0]])
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert mask_tokens(x0, mask, MASK).tolist() == [[3, 1, 3], [2, 1, 0]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_mask_has_no_logit(given: torch.dtype, expected: torch.dtype) -> None:
    logits = masked_logits(torch.ones(2, 5, dtype=given), MASK)
    assert logits.dtype == expected
    assert logits.isneginf().tolist() == [[False, False, False, True, False]] * 2


def test_subs_carries_visible_tokens_over_and_never_predicts_a_mask() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=draw)
    xt = torch.tensor([[MASK, 4, 0], [1, MASK, MASK]])
    p = subs_log_probs(logits, xt, MASK).exp()
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 3))
    assert (p[..., MASK] == 0).all()
    assert p[0, 1].tolist() == [0, 0, 0, 0, 1]
    assert p[0, 2].tolist() == [1, 0, 0, 0, 0]
    others = [0, 1, 2, 4]
    torch.testing.assert_close(p[1, 1, others], logits[1, 1, others].softmax(-1))


def test_masked_nll_is_a_cross_entropy_without_the_mask() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), 0.0, 50.0]])
    nll = masked_nll(logits, torch.tensor([1]), MASK)
    assert nll.tolist() == pytest.approx([-math.log(3 / 5)])


def test_sums_by_row_count_empty_rows() -> None:
    where = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    values = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    summed = sum_by_row(values, where)
    assert summed.tolist() == [3.0, 0.0, 4.0]
    assert summed.dtype == torch.float64


def test_unknown_stratification_is_refused() -> None:
    with pytest.raises(KeyError):
        stratify(torch.rand(4, dtype=torch.float64), "antithetic")  # type: ignore[arg-type]


def test_times_never_touch_the_ends() -> None:
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    for kind in ("iid", "jittered", "offset", "mirrored"):
        u = stratify(ends, kind)  # type: ignore[arg-type]
        assert ((u > 0) & (u < 1)).all()


@given(st.floats(1e-6, 1 - 1e-6), st.sampled_from([0.5, 1.0, 3.0]))
def test_inversion(value: float, power: float) -> None:
    found = invert_increasing(lambda t: t**power, torch.tensor([value], dtype=torch.float64))
    assert float(found) ** power == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", [Linear(), Linear(eps=1e-3), Cosine()])
def test_the_time_at_a_mask_rate(schedule: Linear | Cosine) -> None:
    rate = torch.tensor([1e-6, 0.01, 0.5, 0.99], dtype=torch.float64)
    t = time_at_mask_rate(schedule.alpha, rate)
    torch.testing.assert_close(1 - schedule.alpha(t), rate, rtol=1e-9, atol=1e-12)


def test_the_times_of_counts_are_those_of_their_shares() -> None:
    t = times_of_counts(Cosine().alpha, 4)
    shares = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
    torch.testing.assert_close(1 - Cosine().alpha(t), shares, rtol=1e-9, atol=1e-12)
    assert ((t > 0) & (t < 1)).all()


def test_a_rate_past_the_end_of_a_schedule_is_its_end() -> None:
    t = time_at_mask_rate(Linear(eps=0.1).alpha, torch.tensor([0.95], dtype=torch.float64))
    assert 1 - 1e-9 < float(t) < 1


@pytest.mark.parametrize(
    "values", [[1.0, 0.0], [1.0, -1.0], [1.0, math.inf], [1.0, math.nan], [[1.0, 2.0]]]
)
def test_a_grid_density_refuses_what_is_no_density(values: list[float]) -> None:
    with pytest.raises(ValueError, match="positive, finite"):
        GridDensity(torch.tensor(values))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30))
@settings(max_examples=50)
def test_a_grid_density_integrates_to_one_and_inverts(values: list[float]) -> None:
    density = GridDensity(torch.tensor(values))
    cells = len(values)
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    q = density.density(centres)
    assert float(q.mean()) == pytest.approx(1)
    below = q.cumsum(0) / cells - q / cells / 2  # mass below each cell's centre
    torch.testing.assert_close(density.icdf(below), centres, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 2**31), st.integers(1, 12))
@settings(max_examples=50)
def test_subsets_have_the_size_asked_for_and_stay_inside(seed: int, length: int) -> None:
    source = torch.Generator().manual_seed(seed)
    among = torch.rand(6, length, generator=source) < 0.6
    sizes = among.sum(-1)
    count = (torch.rand(6, generator=source) * (sizes + 1)).long()
    chosen = uniform_subset(torch.rand(6, length, generator=source), count, among)
    assert chosen.sum(-1).tolist() == count.tolist()
    assert not (chosen & ~among).any()


def test_a_subset_is_the_candidates_of_least_noise() -> None:
    noise = torch.tensor([[0.5, 0.1, 0.9, 0.2]])
    among = torch.tensor([[True, False, True, True]])
    chosen = uniform_subset(noise, torch.tensor([2]), among)
    assert chosen.tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_scattered_values_stand_where_they_were_taken_from(dtype: torch.dtype) -> None:
    where = torch.tensor([[False, True, True], [False, False, False], [True, False, True]])
    values = torch.tensor([1, 2, 3, 4], dtype=dtype)
    found = scattered(values, where)
    assert found.dtype == dtype
    assert found.tolist() == [[0, 1, 2], [0, 0, 0], [3, 0, 4]]
    assert torch.equal(found[where], values)
    assert scattered(values[:0], torch.zeros(2, 3, dtype=torch.bool)).tolist() == [[0, 0, 0]] * 2
