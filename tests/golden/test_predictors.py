"""Denoisers whose NELBO is known without any expectation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
from mdmkit.builtin.schedules import Linear
from mdmkit.builtin.time_samplers import Uniform
from mdmkit.builtin.weightings import Elbo
from mdmkit.draws import StepDraws
from mdmkit.protocols import ObjectiveContext
from mdmkit.testing import randomize, run_facts
from mdmkit.values import Attention, Batch, Vocabulary


def context(vocab: Vocabulary, length: int) -> ObjectiveContext:
    return ObjectiveContext(
        vocab=vocab,
        length=length,
        noise_schedule=Linear(),
        time_sampler=Uniform(),
        mask_pattern=Independent(),
        loss_weighting=Elbo(),
        facts=run_facts(vocab=vocab, length=length),
    )


def step_draws(rows: int, step: int = 0) -> StepDraws:
    return StepDraws(seed=4, step=step, rows=torch.arange(rows), global_rows=rows)


@pytest.mark.parametrize("objective", [MaskedDiffusion(), Autoregressive()])
@pytest.mark.parametrize(("size", "golden"), [(50258, 10.824905), (30522, 10.326170)])
def test_an_untrained_network_costs_ln_of_v_minus_one(
    objective: Any, size: int, golden: float
) -> None:
    vocab = Vocabulary(size=size, mask_id=size - 1)
    network = Dit(width=8, depth=1, heads=2, conditioning_width=8).build(vocab)
    draw = torch.Generator().manual_seed(0)
    batch = Batch(tokens=torch.randint(0, size - 1, (6, 5), generator=draw))
    with torch.no_grad():
        bound = objective.build(context(vocab, 5)).bound(network, batch, step_draws(6))
    assert (bound.nats / bound.tokens).tolist() == pytest.approx([golden] * 6, abs=2e-6)


class Unigram:
    """The same prediction everywhere, whatever is visible; it would like to say "mask"."""

    def __init__(self, log_p: Tensor) -> None:
        self.logits = torch.cat([log_p, torch.tensor([9.0])])

    def __call__(self, tokens: Tensor, **_: Any) -> Tensor:
        return torch.zeros(*tokens.shape, 1)

    def unembed(self, h: Tensor) -> Tensor:
        return self.logits.expand(*h.shape[:-1], -1)


def test_a_context_free_prediction_costs_its_cross_entropy(all_orders: Any) -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    vocab, text = Vocabulary(size=5, mask_id=4), [0, 3, 0, 2]
    cross_entropy = -sum(math.log(p[token]) for token in text) / len(text)
    draws = all_orders(length=len(text))
    batch = Batch(tokens=torch.tensor(text).expand(len(draws.rows), -1))
    objective = MaskedDiffusion().build(context(vocab, len(text)))
    bound = objective.bound(Unigram(p.log()), batch, draws)  # type: ignore[arg-type]
    assert float(bound.nats.mean()) / len(text) == pytest.approx(cross_entropy, rel=1e-6)


def test_autoregressive_nll_is_the_sum_over_prefixes() -> None:
    vocab = Vocabulary(size=11, mask_id=10, bos_id=3)
    network = Dit(width=16, depth=2, heads=2, conditioning_width=8).build(vocab).eval()
    randomize(network)
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 10, (2, 6), generator=draw)
    objective = Autoregressive().build(context(vocab, 6))
    with torch.no_grad():
        found = objective.bound(network, Batch(tokens=tokens), step_draws(2)).nats
        for row in range(2):
            nats = 0.0
            for i in range(6):  # the network sees the prefix alone, so nothing can leak
                prefix = torch.tensor([[vocab.bos_id, *tokens[row, :i].tolist()]])
                h = network(prefix, attention=Attention(causal=True))
                log_p = network.unembed(h[0, -1])[:10].double().log_softmax(-1)
                nats -= float(log_p[tokens[row, i]])
            assert float(found[row]) == pytest.approx(nats, rel=1e-5)


def test_both_objectives_count_the_same_tokens() -> None:
    vocab = Vocabulary(size=11, mask_id=10)
    network = Dit(width=8, depth=1, heads=2, conditioning_width=8).build(vocab)
    draw = torch.Generator().manual_seed(1)
    real = torch.arange(6) < torch.tensor([[6], [4], [1]])
    maskable = real & (torch.arange(6) != 0)
    for batch in (
        Batch(tokens=torch.randint(0, 10, (3, 6), generator=draw), real=real),
        Batch(tokens=torch.randint(0, 10, (3, 6), generator=draw), real=real, maskable=maskable),
    ):
        with torch.no_grad():
            masked, causal = (
                options.build(context(vocab, 6)).bound(network, batch, step_draws(3))
                for options in (MaskedDiffusion(), Autoregressive())
            )
        assert masked.tokens.tolist() == causal.tokens.tolist() == batch.scored().sum(-1).tolist()
        assert causal.nats.tolist() == pytest.approx((causal.tokens * math.log(10)).tolist())
