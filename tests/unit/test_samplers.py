from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mdmkit import choosing
from mdmkit.builtin.samplers.ancestral import Ancestral, Cached
from mdmkit.builtin.samplers.autoregressive import AutoregressiveSampler
from mdmkit.builtin.schedules import Cosine
from mdmkit.choosing import Choosing
from mdmkit.protocols import SamplerContext

from ..golden import oracles
from ..golden.oracles import CHAIN, MOVE, START, Oracle

STATES, LENGTH, MASK, VOCAB = CHAIN.states, CHAIN.length, CHAIN.mask_id, CHAIN.vocab


def next_token(inputs: Tensor, t: Any, attention: Any, at: Tensor) -> Tensor:
    """log p(x_i | x_<i) of the chain, for inputs shifted right with BOS in front."""
    assert attention.causal
    assert (inputs[:, 0] == VOCAB.bos_id).all()
    logits = torch.full((*inputs.shape, VOCAB.size), 5.0, dtype=torch.float64)
    logits[:, 0, :STATES] = START.log()
    logits[:, 1:, :STATES] = MOVE.log()[inputs[:, 1:]]
    return logits[at]


def context_of(logits: Any, rows: int, **parts: Any) -> SamplerContext:
    return oracles.context_of(logits, CHAIN, rows, **parts)


def last(sampler: Any, tokens: Tensor, context: SamplerContext) -> Any:
    return list(sampler.generate(tokens, context))[-1]


def test_left_to_right_gives_the_distribution_of_the_chain():
    masks = torch.full((4000, LENGTH), MASK)
    found = last(AutoregressiveSampler(), masks, context_of(next_token, len(masks)))
    assert CHAIN.p_value(found.tokens) > 0.01
    assert found.network_evaluations == LENGTH


@pytest.mark.parametrize(
    ("sampler", "logits"),
    [(Ancestral(steps=9), Oracle(CHAIN)), (AutoregressiveSampler(), next_token)],
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
    states = list(
        Ancestral(steps=5).generate(masks, context_of(Oracle(CHAIN), 5000, noise_schedule=Cosine()))
    )
    shares = [(state.tokens != MASK).double().mean() for state in states]
    wanted = Cosine().alpha(torch.tensor([0.8, 0.6, 0.4, 0.2, 0.0]))
    assert torch.allclose(torch.stack(shares), wanted.double(), atol=0.012)


def test_the_network_is_called_only_where_something_is_lifted():
    oracle = Oracle(CHAIN)
    tokens = torch.tensor([[0, MASK, 1, 1]])
    state = last(Cached(steps=50), tokens, context_of(oracle, 1))
    assert state.network_evaluations == len(oracle.calls) == 1
    assert 1 < state.step <= 50


def test_the_network_is_told_the_time():
    oracle = Oracle(CHAIN)
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
