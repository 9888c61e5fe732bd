"""Samplers on networks that know the posterior: what they draw is known exactly.

The distributions (a Markov chain, a hidden one) are small enough to list every text, so laws of
samplers are finite sums, and samples are held against them by chi-square tests with fixed seeds.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mdmkit.builtin.orders import ORDERS
from mdmkit.builtin.samplers import (
    Ancestral,
    Cached,
    Confidence,
    FirstHitting,
    Remask,
    SemiAutoregressive,
)
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.choosing import Choosing

from .oracles import CHAIN, HIDDEN, Oracle, Texts, context_of, drawn

EXACT = [
    FirstHitting(),
    Confidence(),
    Confidence(score="margin", noise=2.0),
    Confidence(rule="entropy_bounded", score="entropy", gamma=0.0),
    SemiAutoregressive(sampler=FirstHitting(), block_length=2),
    SemiAutoregressive(sampler=Confidence(), block_length=1),
]
NEARLY = [  # in the limit of many steps
    Cached(steps=200),
    Remask(steps=200, strategy="cap", eta=0.01),
    Remask(steps=200, strategy="loop", eta=0.01),
]
COARSE = [  # several tokens at a time, or an order that looks at what was drawn
    Ancestral(steps=3),
    FirstHitting(tokens_per_call=2),
    Confidence(steps=2),
    Confidence(rule="threshold", threshold=0.5),
    Confidence(score="drawn"),
    SemiAutoregressive(sampler=Ancestral(steps=1), block_length=2),
    Remask(steps=6, strategy="rescale", eta=0.5),
]


# --- whole texts


@pytest.mark.parametrize("texts", [CHAIN, HIDDEN], ids=["chain", "hidden"])
@pytest.mark.parametrize("sampler", EXACT, ids=repr)
def test_one_token_at_a_time_is_the_distribution(sampler, texts):
    found = drawn(sampler, texts, texts.masks(3000))
    assert texts.p_value(found.tokens) > 0.01
    assert found.network_evaluations == texts.length


def test_first_hitting_is_exact_for_every_schedule():
    for schedule in (Cosine(), Linear(eps=0.2)):
        found = drawn(FirstHitting(), CHAIN, CHAIN.masks(3000), noise_schedule=schedule)
        assert CHAIN.p_value(found.tokens) > 0.01


@pytest.mark.parametrize("sampler", NEARLY, ids=repr)
def test_many_steps_are_the_distribution(sampler):
    assert CHAIN.p_value(drawn(sampler, CHAIN, CHAIN.masks(2000)).tokens) > 0.01


@pytest.mark.parametrize("sampler", COARSE, ids=repr)
def test_the_test_finds_what_is_not_the_distribution(sampler):
    assert HIDDEN.p_value(drawn(sampler, HIDDEN, HIDDEN.masks(3000)).tokens) < 1e-6


@pytest.mark.parametrize(
    ("texts", "given"), [(CHAIN, {1: 2}), (HIDDEN, {0: 1, 4: 0})], ids=["chain", "hidden"]
)
@pytest.mark.parametrize("sampler", [*EXACT, Cached(steps=100)], ids=repr)
def test_given_tokens_stay_and_condition_the_others(sampler, texts, given):
    start = texts.masks(2000, given)
    states = list(sampler.generate(start, context_of(Oracle(texts), texts, len(start))))
    for state in states:
        for place, token in given.items():
            assert (state.tokens[:, place] == token).all()
    assert texts.p_value(states[-1].tokens, texts.given(given)) > 0.01
    assert texts.p_value(states[-1].tokens) < 1e-6


@pytest.mark.parametrize("sampler", [*NEARLY, *COARSE], ids=repr)
def test_given_tokens_stay_with_every_sampler(sampler):
    start = HIDDEN.masks(50, {0: 1, 3: 0})
    for state in sampler.generate(start, context_of(Oracle(HIDDEN), HIDDEN, len(start))):
        assert (state.tokens[:, [0, 3]] == torch.tensor([1, 0])).all()
    assert (state.tokens < HIDDEN.states).all()


# --- the error of few steps


def partitions(length: int, sizes: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """Every way to deal the positions out to groups of these sizes, in order."""
    found = set()
    for order in itertools.permutations(range(length)):
        ends = list(itertools.accumulate(sizes, initial=0))
        found.add(tuple(tuple(sorted(order[a:b])) for a, b in itertools.pairwise(ends)))
    return [list(groups) for groups in sorted(found)]


def all_partitions(length: int) -> list[list[tuple[int, ...]]]:
    """Every ordered partition of the positions, into any number of groups."""
    sizes = itertools.chain.from_iterable(
        itertools.product(range(1, length + 1), repeat=groups) for groups in range(1, length + 1)
    )
    return [way for size in sizes if sum(size) == length for way in partitions(length, size)]


def chance(way: list[tuple[int, ...]], steps: int) -> float:
    """Of a partition, if each position chooses one of so many steps: what equal steps do."""
    return math.comb(steps, len(way)) / steps ** sum(len(group) for group in way)


def law_of_steps(texts: Texts, steps: int) -> Tensor:
    """Of `ancestral` with the linear schedule: ``[N]``."""
    ways = all_partitions(texts.length)
    laws = torch.stack([texts.partitioned(way) for way in ways])
    return torch.tensor([chance(way, steps) for way in ways], dtype=torch.float64) @ laws


def mixture(texts: Texts, ways: list[list[tuple[int, ...]]]) -> Tensor:
    return torch.stack([texts.partitioned(groups) for groups in ways]).mean(0)


@pytest.mark.parametrize("texts", [CHAIN, HIDDEN], ids=["chain", "hidden"])
def test_the_entropy_is_the_sum_of_h(texts):
    terms = [texts.h(masks) for masks in range(1, texts.length + 1)]
    assert math.isclose(sum(terms), texts.entropy, rel_tol=1e-12)
    assert terms == sorted(terms)  # the more is hidden, the less is known


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        *((CHAIN, sizes) for sizes in [(4,), (2, 2), (1, 3), (3, 1), (1, 2, 1), (1, 1, 1, 1)]),
        *((HIDDEN, sizes) for sizes in [(5,), (2, 3), (1, 2, 2), (3, 1, 1)]),
    ],
    ids=str,
)
def test_the_error_of_a_partition_is_the_formula_and_the_mixture_errs_less(texts, sizes):
    ways = partitions(texts.length, sizes)
    mean = sum(texts.kl(texts.partitioned(groups)) for groups in ways) / len(ways)
    left = texts.length
    formula = -texts.entropy
    for size in sizes:
        formula += size * texts.h(left)
        left -= size
    assert math.isclose(mean, formula, rel_tol=1e-9, abs_tol=1e-12)
    of_mixture = texts.kl(mixture(texts, ways))
    assert of_mixture <= mean + 1e-12
    assert (of_mixture < 0.9 * mean) is (len(ways) > 1 and mean > 1e-9)


def test_one_step_draws_from_the_product_of_marginals():
    for texts in (CHAIN, HIDDEN):
        tokens = drawn(Ancestral(steps=1), texts, texts.masks(3000)).tokens
        assert texts.p_value(tokens, texts.partitioned([range(texts.length)])) > 0.01


def test_parallel_calls_draw_from_the_mixture_of_partitions():
    for texts, sizes in ((CHAIN, (2, 2)), (HIDDEN, (2, 2, 1))):
        found = drawn(FirstHitting(tokens_per_call=2), texts, texts.masks(4000))
        assert texts.p_value(found.tokens, mixture(texts, partitions(texts.length, sizes))) > 0.01


@pytest.mark.parametrize("texts", [CHAIN, HIDDEN], ids=["chain", "hidden"])
def test_few_ancestral_steps_have_the_law_and_the_error_of_their_mixture(texts):
    n, law = 20_000, law_of_steps(texts, 3)
    found = drawn(Ancestral(steps=3), texts, texts.masks(n)).tokens
    assert texts.p_value(found, law) > 0.01
    shares = texts.counts(found) / n
    seen = shares > 0
    assert texts.chances[~seen].sum() < 1e-3
    ratio = texts.chances / law
    bias = float((ratio * (1 - law))[seen].sum()) / (2 * n)  # of the plug-in estimate, 2nd order
    error = math.sqrt(float((texts.chances * ratio).sum() - 1) / n)
    estimate = float((texts.chances * (texts.chances / shares).log())[seen].sum()) - bias
    assert abs(estimate - texts.kl(law)) < 3 * error
    assert texts.kl(law) > 20 * error


def expected_error(texts: Texts, steps: int) -> float:
    """KL of `steps` equal steps (linear schedule), expected over which masks a step lifts."""
    length, total = texts.length, 0.0
    for step in range(steps):
        t = 1 - step / steps
        for others in range(length):
            chance = math.comb(length - 1, others) * t**others * (1 - t) ** (length - 1 - others)
            total += length / steps * chance * texts.h(others + 1)
    return total - texts.entropy


@pytest.mark.parametrize("texts", [CHAIN, HIDDEN], ids=["chain", "hidden"])
def test_how_the_error_falls_with_the_number_of_steps(texts):
    """Of a known partition as 1/T, of what comes out, which does not tell it, as 1/T²."""
    ways = all_partitions(texts.length)
    mean = sum(chance(way, 3) * texts.kl(texts.partitioned(way)) for way in ways)
    assert math.isclose(mean, expected_error(texts, 3), rel_tol=1e-9)
    slope = texts.length * (texts.h(texts.length) - texts.h(1)) / 2
    assert math.isclose(100 * expected_error(texts, 100), slope, rel_tol=0.03)
    coarse, fine = (texts.kl(law_of_steps(texts, steps)) for steps in (50, 200))
    assert math.isclose(coarse / fine, 16, rel_tol=0.05)


def surest_first(texts: Texts, at_once: int) -> Tensor:
    """The law of lifting the surest masks, so many at a time: ``[N]``."""
    law = torch.zeros(len(texts.all), dtype=torch.float64)
    for number, text in enumerate(texts.all):
        seen, chance = texts.masks(1), 1.0
        while (seen == texts.mask_id).any():
            p = texts.posterior(seen)[0].exp()  # [L, V]
            sureness = p.amax(-1).masked_fill(seen[0] != texts.mask_id, -1.0)
            places = sureness.argsort(descending=True, stable=True)[:at_once]
            places = places[seen[0, places] == texts.mask_id]
            chance *= float(p[places, text[places]].prod())
            if not chance:
                break
            seen[0, places] = text[places]
        law[number] = chance
    return law


def test_the_page_says_what_is_computed_here():
    page = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text(encoding="utf-8")
    both = (CHAIN, HIDDEN)
    entropies = re.search(r"four tokens, ([\d.]+) nats; a hidden one of five,\s+([\d.]+)", page)
    assert entropies
    assert [f"{texts.entropy:.3f}" for texts in both] == list(entropies.groups())
    rows = re.findall(r"^\|((?: [\d.]+ \|){5})$", page, re.M)
    assert len(rows) == 6
    for row in rows:
        steps, *said = row.strip(" |").split(" | ")
        found = [
            error
            for texts in both
            for error in (
                expected_error(texts, int(steps)),
                texts.kl(law_of_steps(texts, int(steps))),
            )
        ]
        assert said == [f"{e:.{len(cell) - 2}f}" for e, cell in zip(found, said, strict=True)]
    pairs = re.search(
        r"`first_hitting` ([\d.]+) and ([\d.]+); "
        r"`confidence` \(all three scores\) ([\d.]+) and ([\d.]+)\.",
        " ".join(page.split()),
    )
    assert pairs
    halves = [mixture(CHAIN, partitions(4, (2, 2))), mixture(HIDDEN, partitions(5, (2, 2, 1)))]
    laws = [*halves, *(surest_first(texts, 2) for texts in both)]
    found = [texts.kl(law) for texts, law in zip([*both, *both], laws, strict=True)]
    assert [f"{error:.3f}" for error in found] == list(pairs.groups())


# --- orders, calls


@pytest.mark.parametrize(
    ("score", "order"),
    [("probability", "confidence"), ("margin", "margin"), ("entropy", "entropy")],
)
def test_a_wrong_network_gives_what_the_duel_of_its_order_measures(score, order):
    """Its law is Π p(token | what stood there before), in the order that the network chose."""
    random = torch.Generator().manual_seed(4)
    table = 1.5 * torch.randn(CHAIN.table.shape, generator=random, dtype=torch.float64)
    table[..., CHAIN.mask_id] = -torch.inf
    log_p = table.log_softmax(-1)
    powers = (CHAIN.states + 1) ** torch.arange(CHAIN.length - 1, -1, -1)
    seen, law = CHAIN.masks(len(CHAIN.all)), torch.ones(len(CHAIN.all), dtype=torch.float64)
    for _ in range(CHAIN.length):
        looked = log_p[(seen * powers).sum(-1)]  # [N, L, V]
        sureness = ORDERS[order](looked).masked_fill(seen != CHAIN.mask_id, -torch.inf)
        place = sureness.argmax(-1, keepdim=True)
        token = CHAIN.all.gather(-1, place)
        law *= (
            looked.gather(1, place[..., None].expand(-1, -1, 4))[:, 0].gather(-1, token)[:, 0].exp()
        )
        seen = seen.scatter(-1, place, token)

    def network(xt, t, attention, at):
        return table[(xt * powers).sum(-1)][at]

    start = CHAIN.masks(3000)
    *_, state = Confidence(score=score).generate(start, context_of(network, CHAIN, len(start)))
    assert math.isclose(float(law.sum()), 1, rel_tol=1e-12)
    assert CHAIN.p_value(state.tokens, law) > 0.01
    given = law[CHAIN.all.eq(state.tokens[0]).all(-1)].log()
    assert math.isclose(float(state.log_p[0].sum()), float(given), rel_tol=1e-9)


def test_cached_makes_the_same_text_in_fewer_calls():
    start = CHAIN.masks(3)
    start[1, 2] = 0
    slow = drawn(Ancestral(steps=60), CHAIN, start)
    for rows in (True, False):
        quick = drawn(Cached(steps=60, rows=rows), CHAIN, start)
        assert torch.equal(quick.tokens, slow.tokens)
        assert torch.equal(quick.log_p, slow.log_p)
        assert quick.step == slow.step == slow.network_evaluations
        assert quick.network_evaluations <= 11 < slow.network_evaluations


def test_in_blocks_too_the_rows_that_change_are_enough():
    start = HIDDEN.masks(6)
    start[1, 0], start[4, :2] = 1, 1
    found = [
        drawn(SemiAutoregressive(sampler=inner, block_length=3), HIDDEN, start)
        for inner in (Cached(steps=40), Cached(steps=40, rows=False), Ancestral(steps=40))
    ]
    for one in found[:2]:
        assert torch.equal(one.tokens, found[2].tokens)
        assert torch.equal(one.log_p, found[2].log_p)


@pytest.mark.parametrize(("per_call", "calls"), [(1, 4), (2, 2), (3, 2), (9, 1)])
def test_first_hitting_calls_once_for_so_many_masks_of_the_fullest_row(per_call, calls):
    start = CHAIN.masks(3)
    start[0, :3] = 0
    start[2] = 1
    found = drawn(FirstHitting(tokens_per_call=per_call), CHAIN, start)
    assert found.network_evaluations == found.step == calls


# --- 32-bit draws


def share_of_rare(tail: int, mass: float, grain: float) -> float:
    """How often Gumbel noise of this grain draws one of `tail` tokens of together this mass.

    The best of them has the smallest E = −log(noise), which is a multiple of the grain: j·grain
    with probability (1 − q)·q^(j − 1), q = exp(−tail·grain). It beats the other token, whose own
    E is exponential, with probability exp(−E·tail·(1 − mass)/mass).
    """
    q = math.exp(-tail * grain)
    beats = math.exp(-tail * grain * (1 - mass) / mass)
    return (1 - q) * beats / (1 - q * beats)


def test_32_bit_draws_lose_rare_tokens_and_entropy(monkeypatch):
    """At a grain of 2^−14 in place of 2^−24, with which it would take 2^29 numbers to be seen."""
    tail, mass, grain, n = 1024, 0.05, 2.0**-14, 3000
    noise = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(noise * 2**24, (noise * 2**24).round())  # what 32-bit noise is

    def coarse(self, *, generator):
        return self.copy_((torch.rand(self.shape, generator=generator) / grain).floor() * grain)

    monkeypatch.setattr(torch.Tensor, "uniform_", coarse)
    p = torch.full((tail + 2,), mass / tail, dtype=torch.float64)
    p[0], p[-1] = 1 - mass, 0.9  # the last is the mask
    u = torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    surprise = -(p / (p[:-1].sum())).log()
    entropy = float((p * surprise)[:-1].sum())
    spread = surprise[1] - surprise[0]
    for draws, share in (("float64", mass), ("float32", share_of_rare(tail, mass, grain))):
        tokens = Choosing(draws=draws).choose(p.log().expand(n, -1), u, tail + 1).tokens
        error = math.sqrt(share * (1 - share) / n)
        assert abs(float((tokens > 0).double().mean()) - share) < 3 * error
        lost = entropy - float(surprise[tokens].mean())  # E −log p(token) is the entropy
        assert abs(lost - float(spread) * (mass - share)) < 3 * float(spread) * error
        assert (lost > 5 * float(spread) * error) is (draws == "float32")
    assert share < 0.6 * mass
