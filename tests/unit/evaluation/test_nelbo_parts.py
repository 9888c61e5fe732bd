from __future__ import annotations

import math

import pytest
import torch

from mdmkit.builtin.evaluators.likelihood import (
    Sample,
    exponential,
    measurements,
    ratio_of_sums,
)
from mdmkit.builtin.evaluators.nelbo.control import (
    FEATURES,
    PRIOR,
    Neighbours,
    controls,
    features,
    fitted,
)
from mdmkit.builtin.evaluators.nelbo.designs import allocated_rate, allocated_share, times_by_half
from mdmkit.builtin.evaluators.nelbo.errors import error_of_draws
from mdmkit.builtin.evaluators.nelbo.neighbours import count_neighbours
from mdmkit.values import Batch, Measurement

from .conftest import Blocks, draws

# --- times


def test_each_half_of_the_blocks_is_stratified_by_itself():
    times = times_by_half(draws, 0, 0, 7, 3)
    assert times.shape == (7, 3)
    assert torch.equal((times * 3).long(), torch.arange(3).expand(7, 3))
    for half, count in ((0, 4), (1, 3)):
        strata = (times[half::2].flatten() * 3 * count).long().sort().values
        assert torch.equal(strata, torch.arange(3 * count))


def test_the_halves_know_nothing_of_each_other():
    def order(half):
        return torch.stack(
            [times_by_half(draws, seed, 0, 8, 1)[half::2, 0].argsort() for seed in range(300)]
        )

    first, second = order(0), order(1)
    together = (first == second).all(-1).double().mean()
    assert together == pytest.approx(1 / 24, abs=0.04)  # as often as chance has it
    assert not torch.equal(times_by_half(draws, 0, 0, 8, 1), times_by_half(draws, 0, 1, 8, 1))


def test_the_allocation_and_its_inverse():
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    rate = allocated_rate(u)
    assert rate[0] == 0
    assert rate[-1] == pytest.approx(1.0, rel=1e-12)
    assert (rate.diff() > 0).all()
    torch.testing.assert_close(allocated_share(rate), u)


# --- neighbours


def test_costs_are_shares_of_a_token_and_of_a_pair_without_their_own_occurrence():
    tokens = torch.tensor([[1, 2, 1, 2, 1, 3]] * 2)
    counts = count_neighbours(Blocks(tokens))
    alone, left, right = counts.costs(Batch(tokens=tokens[:1])).exp().reciprocal().unbind(-1)
    total, kinds = 12, 4  # three kinds were seen, and one stands for the others
    share = {1: (6 - 1 + 1) / (total + kinds), 2: 4 / 16, 3: 2 / 16}
    assert alone[0].tolist() == pytest.approx([share[t] for t in (1, 2, 1, 2, 1, 3)])
    # after 1 comes 2 four times out of six, one of which is the token itself
    assert left[0, 1].item() == pytest.approx((4 - 1 + 5 * share[2]) / (6 - 1 + 5))
    assert right[0, 0].item() == pytest.approx((4 - 1 + 5 * share[1]) / (4 - 1 + 5))
    assert left[0, 0] == alone[0, 0]  # there is nothing to its left
    assert right[0, 5] == alone[0, 5]


def test_padding_is_no_neighbour_and_what_was_not_seen_costs_most():
    tokens = torch.tensor([[1, 2, 7, 7], [1, 2, 1, 2]])
    real = torch.tensor([[True, True, False, False], [True] * 4])
    counts = count_neighbours(Blocks(tokens, real))
    assert counts.total == 6
    batch = Batch(
        tokens=torch.tensor([[1, 2, 9, 1]]), real=torch.tensor([[True, True, False, True]])
    )
    costs = counts.costs(batch)[0]
    assert costs[1, 2] == costs[1, 0]  # its right neighbour is padding
    assert costs[3, 1] == costs[3, 0]
    assert costs[2, 0] > costs[:2, 0].max()


# --- control variates


def test_which_neighbours_are_visible():
    batch = Batch(
        tokens=torch.zeros(1, 6, dtype=torch.int64),
        real=torch.tensor([[True, True, True, True, True, False]]),
        maskable=torch.tensor([[False, True, True, True, True, False]]),
    )
    mask = torch.tensor([[False, True, True, False, True, False]])
    left, right, both = Neighbours.of(batch).under(mask)
    assert left[0, 1:5].tolist() == [1, 0, 0, 1]
    assert right[0, 1:5].tolist() == [0, 1, 0, 0]  # what is right of 4 is padding
    assert both[0, 1:5].tolist() == [0, 0, 0, 0]
    left, right, both = Neighbours.of(batch).on_average()
    assert left[0, 1:5].tolist() == [1, 0.5, 0.5, 0.5]
    assert right[0, 1:5].tolist() == [0.5, 0.5, 0.5, 0]
    assert both[0, 1:5].tolist() == pytest.approx([0.5, 1 / 3, 1 / 3, 0])


def test_multiples_come_from_the_other_half_and_are_those_of_the_truth():
    source = torch.Generator().manual_seed(0)
    rows, length = 600, 12
    batch = Batch(tokens=torch.randint(0, 9, (rows, length), generator=source))
    costs = 3 * torch.rand(rows, length, 3, generator=source).double()
    mask = torch.rand(rows, length, generator=source) < 0.5
    half = torch.arange(rows) % 2
    around = Neighbours.of(batch)
    left, right, both = around.under(mask)
    truth = (1.5 + half[:, None]) * costs[..., 0] * (1 - left - right + both) + 2.0
    found = controls(batch, costs, mask, truth * mask, torch.ones(rows, dtype=torch.float64), half)
    theta = fitted(found.gram, torch.tensor([rows / 2, rows / 2]))
    rate = mask.double().mean(-1)
    seen = features((left, right, both), rate, rate**2, costs)
    other = 1.5 + (1 - half[:, None])  # what the other half is like
    expected = other * costs[..., 0] * (1 - left - right + both) + 2.0
    off = (seen @ theta[half][..., None])[..., 0] - expected
    assert off[mask].square().mean().sqrt() < 0.1
    assert (truth - expected)[mask].square().mean().sqrt() > 0.3


def test_with_little_to_fit_the_multiples_are_near_the_prior():
    gram = torch.zeros(2, FEATURES + 1, FEATURES + 1, dtype=torch.float64)
    gram[0] = 5 * torch.eye(FEATURES + 1)  # cross-entropies that nothing explains
    theta = fitted(gram, torch.tensor([5.0, 0.0]))
    assert torch.equal(theta[0], PRIOR)  # the other half has nothing
    torch.testing.assert_close(theta[1], PRIOR * 2 / (2 + 5), rtol=1e-6, atol=0.0)


# --- errors


def test_documents_are_the_units_where_there_are_ten():
    few = Sample.of(torch.tensor([4, 4, 9, 9, 9]))
    assert (few.kind, few.count) == ("blocks", 5)
    many = Sample.of(torch.arange(30) // 3)
    assert (many.kind, many.count) == ("documents", 10)
    assert many.sums(torch.ones(30)).tolist() == [3.0] * 10


def test_the_error_over_documents_is_that_of_a_bootstrap_over_them():
    source = torch.Generator().manual_seed(4)
    documents = torch.arange(300) // 5
    level = torch.randn(60, generator=source).double()[documents]
    tokens = torch.randint(50, 129, (300,), generator=source).double()
    nats = tokens * (3 + 0.3 * level + 0.05 * torch.randn(300, generator=source))
    sample = Sample.of(documents)
    by_document = sample.sums(nats), sample.sums(tokens)
    value, error = ratio_of_sums(*by_document)
    assert value == pytest.approx(float(nats.sum() / tokens.sum()))
    picks = torch.randint(0, 60, (4000, 60), generator=source)
    spread = (by_document[0][picks].sum(-1) / by_document[1][picks].sum(-1)).std()
    assert error == pytest.approx(float(spread), rel=0.06)
    assert error > 1.5 * ratio_of_sums(nats, tokens)[1]  # blocks of a document are alike


def test_the_error_of_the_draws_leaves_blocks_and_strata_out():
    source = torch.Generator().manual_seed(2)
    blocks, n, rounds = 500, 4, 2
    level = 10 * torch.randn(blocks, 1, generator=source).double()
    strata = torch.tensor([0.0, 5.0, 9.0, 20.0] * rounds)
    noise = torch.randn(blocks, n * rounds, generator=source)
    error = error_of_draws(level + strata + noise, 1, n)
    assert error == pytest.approx(math.sqrt(blocks / (n * rounds)), rel=0.05)


def test_draws_that_belong_together_count_once():
    source = torch.Generator().manual_seed(2)
    noise = torch.randn(400, 3, generator=source).double()
    opposite = torch.stack([noise, 1 - noise], -1).flatten(1)  # pairs that cancel
    assert error_of_draws(opposite, 2, 6) == pytest.approx(0.0, abs=1e-12)
    assert error_of_draws(opposite, 1, 6) > 1
    assert error_of_draws(opposite[:, :2], 2, 2) is None


def test_all_numbers_have_the_error_of_the_first_by_the_delta_method():
    nats, tokens = torch.tensor([30.0, 50.0, 41.0]).double(), torch.full((3,), 20.0).double()
    found = measurements(
        "nll_per_token",
        nats,
        tokens,
        sample=Sample.of(torch.arange(3)),
        draws_error=0.6,
        size=4 * tokens,
    )
    first = found["nll_per_token"]
    assert first.draws_stderr == pytest.approx(0.01)
    bits, ppl, byte = found["bits_per_token"], found["ppl"], found["bits_per_byte"]
    assert bits.value == pytest.approx(first.value / math.log(2))
    assert bits.stderr / bits.value == pytest.approx(first.stderr / first.value)
    assert ppl.value == pytest.approx(math.exp(first.value))
    assert ppl.stderr == pytest.approx(ppl.value * first.stderr)
    assert ppl.draws_stderr == pytest.approx(ppl.value * first.draws_stderr)
    assert byte.value == pytest.approx(bits.value / 4)


def test_a_perplexity_that_is_too_large_for_a_number() -> None:
    found = exponential(Measurement(value=2.0, stderr=0.1, draws_stderr=0.01))
    assert (found.value, found.stderr) == pytest.approx((math.exp(2), 0.1 * math.exp(2)))
    assert found.draws_stderr == pytest.approx(0.01 * math.exp(2))
    absurd = exponential(Measurement(value=5000.0, stderr=100.0))
    assert math.isfinite(absurd.value)
    assert math.isfinite(absurd.stderr)
    assert absurd.value > 1e307
    assert absurd.draws_stderr is None
