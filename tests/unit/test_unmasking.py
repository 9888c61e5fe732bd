"""What the samplers of masked networks do besides drawing: steps, ends, options, calls."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
import tomllib
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from scipy.stats import chisquare
from torch import Tensor

from mdmkit import choosing
from mdmkit.builtin.samplers import (
    Ancestral,
    AutoregressiveSampler,
    Cached,
    Confidence,
    FirstHitting,
    Remask,
    SemiAutoregressive,
)
from mdmkit.builtin.schedules import Cosine, Linear, Polynomial
from mdmkit.diffusion import time_at_mask_rate
from mdmkit.draws import RowStreams
from mdmkit.errors import PluginError, RecipeError
from mdmkit.protocols import SamplerContext
from mdmkit.recipe import load_recipe
from mdmkit.testing import check_all, check_sampler
from mdmkit.values import Attention, Generation, Vocabulary

VOCAB = Vocabulary(size=8, mask_id=7, bos_id=0, eos_id=1, pad_id=2)
MASK = VOCAB.mask_id


class Network:
    """The same logits at each position whatever is shown; it remembers what that was."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits  # [L, V]
        self.shown: list[Tensor] = []
        self.times: list[Tensor] = []

    def __call__(self, xt: Tensor, t: Any, attention: Attention, at: Any = None) -> Tensor:
        self.shown.append(xt)
        self.times.append(t)
        assert at is None or (xt[at] == MASK).all()  # what is asked for is shown as a mask
        logits = self.logits[: xt.shape[1]].expand(len(xt), -1, -1)
        return logits if at is None else logits[at]


def states_of(
    sampler: Any, start: Tensor, logits: Tensor, **parts: Any
) -> tuple[list[Generation], Network]:
    network = parts.pop("network", None) or Network(logits)
    context = SamplerContext(
        **{
            "logits": network,
            "uniform": RowStreams(0, range(len(start)), start.shape[1]),
            "vocab": VOCAB,
            "noise_schedule": Linear(),
            "device": torch.device("cpu"),
            "length": start.shape[1],
            **parts,
        }
    )
    return list(sampler.generate(start, context)), network


def flat(length: int) -> Tensor:
    """Seven tokens, all alike but EOS, which is impossible."""
    logits = torch.zeros(length, VOCAB.size)
    logits[:, VOCAB.eos_id] = -torch.inf
    return logits


def masks(rows: int, length: int, **given: int) -> Tensor:
    tokens = torch.full((rows, length), MASK)
    for place, token in given.items():
        tokens[:, int(place[1:])] = token
    return tokens


# --- least steps

GREEDY = [  # would lift everything at once
    Ancestral(steps=1),
    Cached(steps=1),
    FirstHitting(tokens_per_call=99),
    Confidence(steps=1),
    Confidence(rule="threshold", threshold=0.0),
    Confidence(rule="entropy_bounded", gamma=99.0),
    Remask(steps=1),
]


@pytest.mark.parametrize("sampler", GREEDY, ids=repr)
@pytest.mark.parametrize("least", [1, 2, 3, 5, 50])
def test_a_row_gets_the_steps_that_were_asked_for_or_one_for_each_mask(sampler, least):
    start = masks(4, 9)
    start[1, 2:] = 3  # two masks
    start[2, :4] = 3  # five
    start[3] = 3
    states, network = states_of(evolve(sampler, min_steps=least), start, flat(9))
    changed, before = torch.zeros(4, dtype=torch.int64), start
    for state in states:
        changed += (state.tokens != before).any(-1)
        before = state.tokens
    assert changed.tolist() == [min(least, n) for n in (9, 2, 5, 0)]
    assert states[-1].network_evaluations == len(network.shown) == min(least, 9)


@pytest.mark.parametrize("least", [2, 4])
def test_least_steps_leave_slower_samplers_alone(least):
    start = masks(3, 8)
    for sampler in (Ancestral(steps=60), FirstHitting(), Confidence(steps=6)):
        (free, _), (bound, _) = (
            states_of(evolve(sampler, min_steps=n), start, flat(8)) for n in (1, least)
        )
        assert torch.equal(free[-1].tokens, bound[-1].tokens)
    many, _ = states_of(Remask(steps=6, min_steps=least), start, flat(8))
    assert len(many) >= 6


# --- the end of a text

ENDING = [
    Ancestral(steps=20),
    Cached(steps=20),
    FirstHitting(),
    Confidence(),
    SemiAutoregressive(sampler=FirstHitting(), block_length=3),
    Remask(steps=20, eta=0.2),
    SemiAutoregressive(sampler=Remask(steps=20, eta=0.2), block_length=4),
]


def stopping(sampler: Any) -> Any:
    if isinstance(sampler, SemiAutoregressive):
        return evolve(sampler, sampler=evolve(sampler.sampler, eos="stop"))
    return evolve(sampler, eos="stop")


def ends_at(place: int, length: int) -> Tensor:
    """The network is sure of EOS there; elsewhere it is not, and it is never EOS."""
    logits = flat(length)
    logits[place, VOCAB.eos_id] = 50.0
    return logits


@pytest.mark.parametrize("sampler", ENDING, ids=repr)
@pytest.mark.parametrize("pad_id", [2, None])
def test_a_text_ends_at_the_first_eos_that_is_generated(sampler, pad_id):
    vocab = evolve(VOCAB, pad_id=pad_id)
    start = masks(20, 9, _0=VOCAB.eos_id, _5=4)  # a given EOS ends nothing
    states, _ = states_of(stopping(sampler), start, ends_at(2, 9), vocab=vocab)
    tokens, behind = states[-1].tokens, [3, 4, 6, 7, 8]
    assert (tokens[:, 2] == VOCAB.eos_id).all()
    assert (tokens[:, 5] == 4).all()  # what is given stays
    assert (tokens[:, 1] != MASK).all()
    filling = VOCAB.eos_id if pad_id is None else pad_id
    filled = (tokens[:, behind] == filling) & (states[-1].log_p[:, behind] == 0)
    if isinstance(getattr(sampler, "sampler", sampler), Remask):
        assert filled.all()  # its EOS may go again, so all is written over in the end
        return
    for (
        state
    ) in states:  # from the EOS on nothing is generated behind it; blocks wait for their end
        ended = state.tokens[:, 2] == VOCAB.eos_id
        now, finally_ = state.tokens[ended][:, behind], tokens[ended][:, behind]
        waiting = (now == MASK) & isinstance(sampler, SemiAutoregressive)
        assert ((now == finally_) | waiting).all()
    assert filled.sum() > 20
    if isinstance(sampler, Confidence):  # it is surest of the EOS
        assert filled.all()


@pytest.mark.parametrize("sampler", ENDING, ids=repr)
def test_without_an_eos_in_the_vocabulary_nothing_ends(sampler):
    vocab = evolve(VOCAB, eos_id=None)
    start = masks(5, 9)
    found = [
        states_of(s, start, ends_at(2, 9), vocab=vocab)[0] for s in (sampler, stopping(sampler))
    ]
    assert torch.equal(found[0][-1].tokens, found[1][-1].tokens)


def test_blocks_behind_the_end_cost_no_calls():
    inner = Confidence(steps=4)
    for rule, calls in (("keep", 12), ("stop", 4)):
        sampler = SemiAutoregressive(sampler=evolve(inner, eos=rule), block_length=4)
        assert sampler.eos == rule
        states, network = states_of(sampler, masks(3, 12), ends_at(3, 12))
        assert states[-1].network_evaluations == len(network.shown) == calls
        assert (states[-1].tokens != MASK).all()
    # a row that goes on is shown beside one that ended
    start = masks(2, 12)
    start[0, 3] = 5
    states, network = states_of(sampler, start, ends_at(3, 12))
    assert (states[-1].tokens[1, 4:] == VOCAB.pad_id).all()
    assert (states[-1].log_p[0, 4:] < 0).all()
    # as in the samplers without blocks, the network sees what was filled up
    seen = torch.stack([xt[1, 4:] for xt in network.shown])
    assert (seen == VOCAB.pad_id).all(-1).any()


# --- confidence


def graded(length: int) -> Tensor:
    """The further right, the surer of token 3."""
    logits = torch.zeros(length, VOCAB.size)
    logits[:, 3] = torch.arange(length) * 0.7
    return logits


def order_of(states: list[Generation]) -> list[list[int]]:
    """Which places of row 0 each step lifts."""
    found, before = [], torch.full_like(states[0].tokens, MASK)
    for state in states:
        found.append((state.tokens != before)[0].nonzero()[:, 0].tolist())
        before = state.tokens
    return found


@pytest.mark.parametrize("score", ["probability", "margin", "entropy"])
def test_the_surest_go_first_and_evenly(score):
    states, network = states_of(Confidence(steps=4, score=score), masks(1, 10), graded(10))
    assert order_of(states) == [[7, 8, 9], [4, 5, 6], [2, 3], [0, 1]]
    shares = torch.tensor([t[0] for t in network.times])
    assert torch.allclose(shares, torch.tensor([1.0, 0.7, 0.4, 0.2]))


@pytest.mark.parametrize(
    ("score", "threshold"), [("probability", 0.6), ("margin", 0.5), ("entropy", 1.1)]
)
def test_a_threshold_lifts_all_that_reach_it_and_else_the_best(score, threshold):
    p = graded(10)[:, :MASK].double().softmax(-1)
    best = p.topk(2, -1).values
    reached = {
        "probability": best[:, 0] >= threshold,
        "margin": best[:, 0] - best[:, 1] >= threshold,
        "entropy": -(p * p.log()).sum(-1) <= threshold,
    }[score]
    count = int(reached.sum())
    assert 2 < count < 8
    sampler = Confidence(rule="threshold", score=score, threshold=threshold)
    states, _ = states_of(sampler, masks(1, 10), graded(10))
    assert order_of(states)[0] == list(range(10 - count, 10))
    assert order_of(states)[1:] == [[i] for i in reversed(range(10 - count))]


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("score", ["entropy", "margin", "drawn"])
def test_entropies_are_bounded_by_the_largest_prefix(gamma, score):
    logits = 2 * torch.randn(9, VOCAB.size, generator=torch.Generator().manual_seed(1))
    sampler = Confidence(rule="entropy_bounded", score=score, gamma=gamma)
    states, _ = states_of(sampler, masks(1, 9), logits)
    p = logits[:, :MASK].double().softmax(-1)
    entropy = (-(p * p.log()).sum(-1)).tolist()
    left = set(range(9))
    for lifted in order_of(states):
        chosen = [entropy[i] for i in lifted]
        assert len(lifted) == 1 or sum(chosen) - max(chosen) <= gamma
        if score == "entropy":
            ranked = sorted(left, key=lambda i: entropy[i])
            fits = [
                n
                for n in range(1, len(ranked) + 1)
                if n == 1 or sum(entropy[i] for i in ranked[: n - 1]) <= gamma
            ]
            assert sorted(lifted) == sorted(ranked[: max(fits)])
        left -= set(lifted)
    assert not left


@pytest.mark.parametrize("score", ["entropy", "margin"])
def test_what_a_call_told_is_scored_once_and_let_go(score, monkeypatch):
    kept, rows, plain = [], [], choosing.plain_log_probs

    def logits(xt: Tensor, t: Any, attention: Attention, at: Tensor) -> Tensor:
        assert [last() for last in kept] == [None] * len(kept)
        told = torch.zeros(int(at.sum()), VOCAB.size)
        kept.append(weakref.ref(told))
        return told

    monkeypatch.setattr(
        choosing, "plain_log_probs", lambda *of: rows.append(len(of[0])) or plain(*of)
    )
    sampler = Confidence(rule="entropy_bounded", score=score, gamma=0.0)
    states_of(sampler, masks(1, 3), flat(3), network=logits)
    assert rows == [3, 1, 2, 1, 1, 1]  # all that are masked, then the one that is lifted


def test_noise_makes_the_order_random_and_falls_with_the_masks_that_are_left():
    start = masks(1500, 5)
    firsts = {}
    for noise in (0.0, 1.0, 1e6):
        states, _ = states_of(Confidence(noise=noise), start, graded(5))
        first = (states[0].tokens != MASK).nonzero()[:, 1]
        firsts[noise] = torch.bincount(first, minlength=5)
        if noise == 1e6:  # with two masks left half of it, with one none: still the order is chance
            second = (states[3].tokens == MASK).nonzero()[:, 1]
            assert chisquare(torch.bincount(second, minlength=5)).pvalue > 0.01
    assert firsts[0.0].tolist() == [0, 0, 0, 0, 1500]
    assert chisquare(firsts[1e6]).pvalue > 0.01
    # of Gumbel noise: a place is first with a chance that grows as p^(1/noise); 4 of 5 are left
    p = graded(5)[:, :MASK].double().softmax(-1).amax(-1) ** (1 / 0.8)
    assert chisquare(firsts[1.0], (1500 * p / p.sum()).numpy()).pvalue > 0.01


# --- first hitting


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Linear(eps=0.3)], ids=repr)
def test_jumps_come_at_the_times_of_the_reverse_process(schedule):
    n, length = 4000, 4
    _, network = states_of(FirstHitting(), masks(n, length), flat(length), noise_schedule=schedule)
    rates = 1 - schedule.alpha(torch.stack(network.times).double())  # [jumps, n]
    begin = float(1 - schedule.alpha(torch.ones(1)))
    assert (rates.diff(dim=0) <= 0).all()
    before = torch.full((n,), begin, dtype=torch.float64)
    for left, rate in zip(range(length, 0, -1), rates, strict=True):
        u = (rate / before) ** left  # uniform, and independent of what was before
        assert abs(float(u.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / n)
        assert abs(float((u < 0.25).double().mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / n)
        before = rate


# --- remasking


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=repr)
@pytest.mark.parametrize(
    ("strategy", "eta"), [("cap", 0.2), ("cap", 1.0), ("rescale", 0.6), ("loop", 0.1)]
)
def test_the_share_of_masks_stays_that_of_the_schedule(schedule, strategy, eta):
    n, length, steps = 600, 10, 20
    sampler = Remask(steps=steps, strategy=strategy, eta=eta)
    states, _ = states_of(sampler, masks(n, length), flat(length), noise_schedule=schedule)
    times = torch.linspace(1, 0, steps + 1).double()
    if strategy == "loop":
        held = float(time_at_mask_rate(schedule.alpha, torch.tensor([0.1]).double()))
        early, late = held + (1 - held) * (times - 0.55) / 0.45, held * times / 0.05
        times = torch.where(times > 0.55, early, late.clamp(max=held))
    wanted = 1 - schedule.alpha(times[1:])
    for share, state in zip(wanted.tolist(), states, strict=True):
        found = float((state.tokens == MASK).double().mean())
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / (n * length)) + 1e-12
    again = sum(
        int(((after.tokens == MASK) & (before.tokens != MASK)).sum())
        for before, after in itertools.pairwise(states)
    )
    assert again > n


def test_how_often_tokens_are_masked_again():
    """From the second step on: cap by the smaller of eta and sigma_max, rescale by the product."""
    n, length = 400, 30
    for strategy, eta in (("cap", 0.15), ("cap", 1.0), ("rescale", 0.3)):
        sampler = Remask(steps=4, strategy=strategy, eta=eta)
        states, _ = states_of(sampler, masks(n, length), flat(length))
        for i, (before, after) in enumerate(itertools.pairwise(states)):
            alpha_t, alpha_s = (i + 1) / 4, (i + 2) / 4
            most = min(1.0, (1 - alpha_s) / alpha_t)
            sigma = min(eta, most) if strategy == "cap" else eta * most
            there = before.tokens != MASK
            found = float((after.tokens == MASK)[there].double().mean())
            assert abs(found - sigma) <= 4 * math.sqrt(sigma * (1 - sigma) / int(there.sum()))


def test_conf_shares_sigma_out_by_the_softmax_of_minus_p():
    logits = torch.zeros(6, VOCAB.size)
    logits[3:, 3] = 20.0  # sure on the right
    steps, eta = 20, 0.8
    states, _ = states_of(Remask(steps=steps, strategy="conf", eta=eta), masks(300, 6), logits)
    excess, variance = torch.zeros(6).double(), torch.zeros(6).double()
    for i, (before, after) in enumerate(itertools.pairwise(states)):
        alpha_t, alpha_s = (i + 1) / steps, (i + 2) / steps
        there = before.tokens != MASK
        weights = torch.where(there, (-before.log_p.exp()).exp(), 0.0)
        shares = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
        sigma = eta * min(1.0, (1 - alpha_s) / alpha_t) * shares
        again = there & (after.tokens == MASK)
        excess += (again.double() - sigma).sum(0)
        variance += (sigma * (1 - sigma)).sum(0)
        assert (after.log_p[after.tokens == MASK] == 0).all()
    assert (excess.abs() < 4 * variance.sqrt()).all()
    assert (variance > 100).all()


# --- blocks


class Places(Network):
    """Is sure, at each place of what it is shown, of a token that says what is there."""

    def __call__(self, xt: Tensor, t: Any, attention: Attention, at: Any = None) -> Tensor:
        super().__call__(xt, t, attention, at)
        logits = torch.full((*xt.shape, VOCAB.size), -30.0)
        return logits.scatter_(
            -1, (torch.arange(xt.shape[1]) % 6)[None, :, None].expand(*xt.shape, 1), 30.0
        )[at]


@pytest.mark.parametrize("inner", [Cached(steps=30), Confidence(steps=2)], ids=repr)
def test_blocks_are_shown_inside_of_windows(inner):
    network = Places(flat(6))
    start = masks(3, 10, _7=2)
    start[1, :2] = 5
    parts = {"network": network, "length": 6}
    states, _ = states_of(
        SemiAutoregressive(sampler=inner, block_length=4), start, flat(6), **parts
    )
    whole = states[-1].tokens
    # windows begin at 0, 2 and 4, so places are 0 1 2 3, 2 3 4 5, 4 5
    wanted = torch.tensor([0, 1, 2, 3, 2, 3, 4, 2, 4, 5])
    assert torch.equal(whole[0], wanted)
    assert torch.equal(whole[1, 2:], wanted[2:])
    assert whole[1, :2].tolist() == [5, 5]
    assert {xt.shape[1] for xt in network.shown} == {6}
    for xt, t in zip(network.shown, network.times, strict=True):
        assert torch.allclose(t.double(), (xt == MASK).double().mean(-1), atol=1e-6)
    first, last = network.shown[0], network.shown[-1]
    assert (first[:, 4:] == MASK).all()  # to the right of the block
    assert torch.equal(last[:, :4], whole[-len(last) :, 4:8])
    assert [state.step for state in states] == list(range(1, len(states) + 1))
    assert states[-1].network_evaluations == len(network.shown)
    firsts = [int((state.tokens == MASK).nonzero()[:, 1].min()) for state in states[:-1]]
    assert firsts == sorted(firsts)


def test_a_block_is_no_longer_than_what_the_network_knows():
    states, network = states_of(
        SemiAutoregressive(sampler=Confidence(steps=1)), masks(2, 11), flat(11), length=4
    )
    assert [xt.shape[1] for xt in network.shown] == [4, 4, 4]
    assert (states[-1].tokens != MASK).all()


def test_the_noise_of_a_block_does_not_depend_on_the_steps_of_others():
    sampler = SemiAutoregressive(sampler=FirstHitting(), block_length=4)
    one, _ = states_of(sampler, masks(1, 8), flat(8))
    start = masks(1, 8)
    start[0, :3] = 3  # the first block is done sooner
    other, _ = states_of(sampler, start, flat(8))
    assert torch.equal(one[-1].tokens[:, 4:], other[-1].tokens[:, 4:])
    blocks = one[-1].tokens.unflatten(-1, (2, 4))
    assert not torch.equal(blocks[:, 0], blocks[:, 1])


class Causal(Ancestral):
    def generate(self, tokens: Tensor, context: SamplerContext) -> Any:
        context.logits(tokens, None, Attention(causal=True))
        yield from ()


class SomeRows(Ancestral):
    def generate(self, tokens: Tensor, context: SamplerContext) -> Any:
        context.logits(tokens[1:], None, Attention())
        yield from ()


@pytest.mark.parametrize(
    ("inner", "message"), [(Causal(), "asks for causal"), (SomeRows(), "2 of 3 rows")]
)
def test_what_a_block_cannot_translate_is_an_error(inner, message):
    with pytest.raises(PluginError, match=message):
        states_of(SemiAutoregressive(sampler=inner), masks(3, 4), flat(4))


def test_the_options_of_the_inner_sampler_are_seen_from_outside():
    sampler = SemiAutoregressive(sampler=Cached(draws="float32", eos="stop"))
    assert (sampler.draws, sampler.eos) == ("float32", "stop")
    nested = SemiAutoregressive(sampler=sampler, block_length=64)
    assert (nested.draws, nested.eos) == ("float32", "stop")


# --- nothing to do, and options


@pytest.mark.parametrize("sampler", [*GREEDY, *ENDING], ids=repr)
def test_rows_without_masks_come_back_as_one_state(sampler):
    start = torch.full((2, 5), 3)
    states, _ = states_of(sampler, start, flat(5))
    assert len(states) == 1
    assert torch.equal(states[0].tokens, start)
    assert not states[0].log_p.any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Confidence(rule="threshold", steps=9), 'steps is for rule = "top_k"; with rule'),
        (lambda: Confidence(rule="entropy_bounded", noise=1.0), 'noise is for rule = "top_k"'),
        (
            lambda: Confidence(threshold=0.5),
            'threshold is for rule = "threshold"; with rule = "top_k"',
        ),
        (lambda: Confidence(rule="threshold", threshold=1.5), "expected at most 1"),
        (lambda: Confidence(gamma=0.5), 'gamma is for rule = "entropy_bounded"'),
        (lambda: Remask(t_on=0.9), 't_on is for strategy = "loop"; with strategy = "cap"'),
        (lambda: Remask(strategy="conf", alpha_on=0.5), 'alpha_on is for strategy = "loop"'),
        (lambda: Remask(strategy="loop", t_on=0.2, t_off=0.2), "t_off must be below t_on"),
        (lambda: Remask(eta=1.5), "expected a value >= 0 and <= 1"),
        (lambda: FirstHitting(tokens_per_call=0), "expected a value >= 1"),
        (lambda: SemiAutoregressive(sampler=AutoregressiveSampler()), '"next_token"'),
    ],
)
def test_options_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_recipe_nests_samplers_and_names_what_does_not_fit():
    chosen = ["sampler.use=semi_autoregressive", "sampler.block_length=8"]
    plain = load_recipe("quickstart_bell", chosen)
    assert plain.sampler == SemiAutoregressive(sampler=Cached(), block_length=8)
    inner = ["sampler.sampler.use=confidence", "sampler.sampler.steps=4"]
    assert load_recipe("quickstart_bell", [*chosen, *inner]).sampler.sampler == Confidence(steps=4)
    with pytest.raises(RecipeError, match=r"\[sampler.sampler\]: gamma is for rule"):
        load_recipe("quickstart_bell", [*chosen, *inner, "sampler.sampler.gamma=1.0"])
    with pytest.raises(RecipeError, match=r"\[sampler\]: sampler: it drives a network"):
        load_recipe("quickstart_bell", [*chosen, "sampler.sampler.use=autoregressive"])


# --- the page


def test_the_sampler_of_the_page_keeps_the_contract(monkeypatch: pytest.MonkeyPatch):
    page = Path(__file__).parents[2] / "docs" / "samplers.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    module = ModuleType("pairs_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(page), "exec"), module.__dict__)
    check_all(module)
    assert module.mdmkit_samplers() == {"pairs": module.Pairs}
    check_sampler(module.Pairs(), noise_schedule=Cosine())
    start = torch.full((1, 8), MASK)
    _, network = states_of(module.Pairs(), start, flat(8), noise_schedule=Cosine())
    shares = 1 - Cosine().alpha(torch.cat(network.times).double())  # of masks, at the times told
    wanted = torch.tensor([8, 6, 4, 2]) / 8
    torch.testing.assert_close(shares.float(), wanted, rtol=0, atol=1e-5)


def test_the_recipe_of_the_page_is_one():
    page = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    table = tomllib.loads(recipe)["sampler"]
    overrides = [f"sampler.{k}={json.dumps(v)}" for k, v in table.items() if k != "sampler"]
    overrides += [f"sampler.sampler.{k}={json.dumps(v)}" for k, v in table["sampler"].items()]
    found = load_recipe("quickstart_bell", overrides).sampler
    assert found == SemiAutoregressive(sampler=Confidence(steps=8, eos="stop"), block_length=32)


@pytest.mark.parametrize("sampler", [Ancestral(steps=4096), Remask(steps=4096)], ids=repr)
def test_a_schedule_may_be_clean_before_its_end(sampler):
    # 1 - alpha is 0 in float64 for many steps
    start = masks(2, 4)
    states, _ = states_of(sampler, start, flat(4), noise_schedule=Polynomial(power=5.0))
    assert (states[-1].tokens != MASK).all()
