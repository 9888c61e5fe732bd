from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from mdmkit.builtin.samplers import choosing
from mdmkit.builtin.samplers.ancestral import Ancestral, Cached
from mdmkit.builtin.samplers.autoregressive import AutoregressiveSampler
from mdmkit.builtin.samplers.choosing import Choosing
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.protocols import SamplerContext
from mdmkit.values import Vocabulary

STATES, LENGTH, MASK = 3, 4, 3
VOCAB = Vocabulary(size=4, mask_id=MASK, bos_id=0)
START = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
MOVE = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]], dtype=torch.float64)
TEXTS = torch.tensor(list(itertools.product(range(STATES), repeat=LENGTH)))  # [81, L]
CHANCES = START[TEXTS[:, 0]] * MOVE[TEXTS[:, :-1], TEXTS[:, 1:]].prod(-1)  # [81]


def posterior(xt: Tensor) -> Tensor:
    """log p(x_i | visible tokens of xt) by enumeration, as logits [B, L, V]; rows are few."""
    fits = ((xt[:, None] == MASK) | (xt[:, None] == TEXTS)).all(-1)  # [B, 81]
    weights = fits * CHANCES
    one_hot = torch.nn.functional.one_hot(TEXTS, VOCAB.size).double()  # [81, L, V]
    marginal = torch.einsum("bk,klv->blv", weights / weights.sum(-1, keepdim=True), one_hot)
    return marginal.log()


class Oracle:
    """The exact posterior of a Markov chain, looked up; a mask gets a logit, too."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []
        inputs = torch.tensor(list(itertools.product(range(VOCAB.size), repeat=LENGTH)))
        self.table = posterior(inputs)
        self.table[..., MASK] = 5.0  # to be ignored

    def __call__(self, xt: Tensor, t: Tensor | None, attention: Any, at: Any = None) -> Tensor:
        self.calls.append((t, attention))
        powers = VOCAB.size ** torch.arange(LENGTH - 1, -1, -1)
        logits = self.table[(xt * powers).sum(-1)]
        return logits if at is None else logits[at]


def next_token(inputs: Tensor, t: Any, attention: Any, at: Tensor) -> Tensor:
    """log p(x_i | x_<i) of the chain, for inputs shifted right with BOS in front."""
    assert attention.causal
    assert (inputs[:, 0] == VOCAB.bos_id).all()
    logits = torch.full((*inputs.shape, VOCAB.size), 5.0, dtype=torch.float64)
    logits[:, 0, :STATES] = START.log()
    logits[:, 1:, :STATES] = MOVE.log()[inputs[:, 1:]]
    return logits[at]


def context_of(logits: Any, rows: int, seed: int = 0, schedule: Any = None) -> SamplerContext:
    source = torch.Generator().manual_seed(seed)
    return SamplerContext(
        logits=logits,
        uniform=lambda: torch.rand(rows, LENGTH, generator=source, dtype=torch.float64),
        vocab=VOCAB,
        noise_schedule=schedule or Linear(),
        device=torch.device("cpu"),
        length=LENGTH,
    )


def last(sampler: Any, tokens: Tensor, context: SamplerContext) -> Any:
    return list(sampler.generate(tokens, context))[-1]


def p_value(tokens: Tensor, expected: Tensor = CHANCES) -> float:
    codes = (tokens * STATES ** torch.arange(LENGTH - 1, -1, -1)).sum(-1)
    counts = torch.bincount(codes, minlength=len(TEXTS))
    common = expected * len(tokens) >= 5  # pool the rare ones, as the test's approximation asks
    observed = [*counts[common].tolist(), counts[~common].sum().item()]
    wanted = torch.tensor([*expected[common], expected[~common].sum()]) * len(tokens)
    return float(chisquare(observed, wanted.tolist()).pvalue)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_many_ancestral_steps_give_the_distribution_of_the_posterior(schedule):
    masks = torch.full((4000, LENGTH), MASK)
    context = context_of(Oracle(), len(masks), schedule=schedule)
    assert p_value(last(Ancestral(steps=300), masks, context).tokens) > 0.01


def test_one_ancestral_step_draws_from_the_product_of_marginals():
    masks = torch.full((4000, LENGTH), MASK)
    tokens = last(Ancestral(steps=1), masks, context_of(Oracle(), len(masks))).tokens
    marginals = Oracle().table[-1, :, :STATES].exp()  # [L, STATES], nothing visible
    product = marginals[torch.arange(LENGTH), TEXTS].prod(-1)
    assert p_value(tokens, product) > 0.01
    assert p_value(tokens) < 1e-6


def test_left_to_right_gives_the_distribution_of_the_chain():
    masks = torch.full((4000, LENGTH), MASK)
    found = last(AutoregressiveSampler(), masks, context_of(next_token, len(masks)))
    assert p_value(found.tokens) > 0.01
    assert found.network_evaluations == LENGTH


@pytest.mark.parametrize(
    ("sampler", "logits"), [(Ancestral(steps=9), Oracle()), (AutoregressiveSampler(), next_token)]
)
def test_visible_tokens_stay_and_no_mask_is_left(sampler, logits):
    tokens = torch.tensor([[MASK, 2, MASK, MASK], [1, MASK, MASK, 0], [0, 1, 2, 2]])
    visible, states = tokens != MASK, list(sampler.generate(tokens, context_of(logits, 3)))
    for before, after in itertools.pairwise([tokens, *(state.tokens for state in states)]):
        seen = before != MASK
        assert torch.equal(before[seen], after[seen])
    assert torch.equal(states[-1].tokens[visible], tokens[visible])
    assert (states[-1].tokens < STATES).all()
    assert [state.step for state in states] == list(range(1, len(states) + 1))


def test_a_step_of_ancestral_sampling_lifts_the_right_share():
    masks = torch.full((5000, LENGTH), MASK)
    states = list(Ancestral(steps=5).generate(masks, context_of(Oracle(), 5000, schedule=Cosine())))
    shares = [(state.tokens != MASK).double().mean() for state in states]
    wanted = Cosine().alpha(torch.tensor([0.8, 0.6, 0.4, 0.2, 0.0]))
    assert torch.allclose(torch.stack(shares), wanted.double(), atol=0.012)


def test_the_network_is_called_only_where_something_is_lifted():
    oracle = Oracle()
    tokens = torch.tensor([[0, MASK, 1, 1]])
    state = last(Cached(steps=50), tokens, context_of(oracle, 1))
    assert state.network_evaluations == len(oracle.calls) == 1
    assert 1 < state.step <= 50


def test_the_network_is_told_the_time():
    oracle = Oracle()
    list(Ancestral(steps=1).generate(torch.full((2, LENGTH), MASK), context_of(oracle, 2)))
    (t, attention), *_ = oracle.calls
    assert t.tolist() == [1.0, 1.0]
    assert not attention.features()


def test_low_temperature_takes_the_likeliest():
    masks = torch.full((50, LENGTH), MASK)
    cold = last(AutoregressiveSampler(temperature=1e-3), masks, context_of(next_token, 50))
    assert torch.equal(cold.tokens, torch.zeros_like(masks))


def test_a_draw_inverts_the_cumulative_distribution():
    logits = torch.tensor([[0.25, 0.25, 0.5, 9.0]]).log().expand(6, 4)
    u = torch.tensor([0.0, 0.2499, 0.25, 0.4999, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert Choosing().choose(logits, u, 3).tokens.tolist() == [0, 0, 1, 1, 2, 2]


def test_impossible_tokens_and_the_mask_are_never_drawn():
    source = torch.Generator().manual_seed(0)
    logits = torch.full((2000, 6), -torch.inf)
    logits[:, [2, 3]] = torch.randn(2000, 2, generator=source)
    logits[:, 5] = 50.0
    u = torch.rand(2000, generator=source, dtype=torch.float64)
    u[:2] = torch.tensor([0.0, 1 - 2**-53])
    assert set(Choosing(temperature=0.7).choose(logits, u, 5).tokens.tolist()) == {2, 3}


def test_draws_in_pieces_are_the_same(monkeypatch):
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 7, generator=source)
    u = torch.rand(20, generator=source, dtype=torch.float64)
    whole = Choosing(top_k=3).choose(logits, u, 6)
    monkeypatch.setattr(choosing, "CHUNK", 21)
    pieces = Choosing(top_k=3).choose(logits, u, 6)
    assert torch.equal(pieces.tokens, whole.tokens)
    assert torch.equal(pieces.log_p, whole.log_p)
    assert Choosing().choose(logits[:0], u[:0], 6).tokens.shape == (0,)


def test_options_have_ranges():
    for build in (
        lambda: Ancestral(steps=0),
        lambda: Ancestral(temperature=-0.1),
        lambda: AutoregressiveSampler(temperature=-1.0),
    ):
        with pytest.raises(ValueError, match="expected a value"):
            build()
