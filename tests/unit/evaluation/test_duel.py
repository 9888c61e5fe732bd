from __future__ import annotations

import itertools
import math

import pytest
import torch

from mdmkit.builtin.evaluators.duel import Duel
from mdmkit.builtin.orders import ORDERS
from mdmkit.errors import DataError, MdmkitError, RecipeError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.recipe import load_recipe
from mdmkit.values import Batch

from .conftest import LENGTH, MASK, VOCAB, Blocks, TinyNetwork


class Letters:
    vocab = VOCAB


@pytest.fixture
def context_of(make_context):
    def make(texts, **changes):
        return make_context(texts, tokenizer=Letters(), **changes)

    return make


EVERY_TEXT = torch.tensor(list(itertools.product(range(MASK), repeat=LENGTH)))


def by_hand(network, text, order, step):
    """The NLL of one text, written out with one row and one position at a time."""
    masked, nats = list(range(LENGTH)), 0.0
    while masked:
        xt = text.clone()
        xt[masked] = MASK
        logits = network(xt[None])[0].detach()
        logits[:, MASK] = -torch.inf
        p = logits.softmax(-1)
        best = p.sort(-1, descending=True).values

        def rank(i, p=p, best=best):
            return {
                "margin": best[i, 1] - best[i, 0],
                "confidence": -best[i, 0],
                "entropy": -(p[i, :MASK] * p[i, :MASK].log()).sum(),
                "left_to_right": torch.tensor(0.0),
            }[order].item(), i

        for i in sorted(masked, key=rank)[:step]:
            nats -= math.log(p[i, text[i]])
            masked.remove(i)
    return nats


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_probabilities_of_all_texts_sum_to_one(context_of, order, step):
    live = Duel(order=order, tokens_per_step=step).build(context_of(EVERY_TEXT))
    for index in range(len(live)):
        live.update(index)
    nats = live.table.compute().nats
    assert nats.std() > 0.3
    assert float((-nats).exp().sum()) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("step", [1, 3])
def test_agrees_with_the_same_by_hand(context_of, order, step):
    network, texts = TinyNetwork(0.5), EVERY_TEXT[::5]
    live = Duel(order=order, tokens_per_step=step).build(context_of(texts, network=network))
    live.update(0)
    expected = [by_hand(network, text, order, step) for text in texts]
    assert live.table.compute().nats.tolist() == pytest.approx(expected, rel=1e-9)


def test_orders_are_different(context_of):
    found = {
        order: run_evaluation(
            Duel(order=order), context_of(EVERY_TEXT, network=TinyNetwork(0.5))
        ).measurements
        for order in ORDERS
    }
    values = {order: numbers["nll_per_token"].value for order, numbers in found.items()}
    assert len(set(values.values())) == len(ORDERS)


def test_the_numbers_and_their_errors(context_of):
    found = run_evaluation(Duel(blocks=9), context_of(EVERY_TEXT))
    numbers = found.measurements
    assert set(numbers) == {"nll_per_token", "bits_per_token", "ppl"}
    assert all(number.draws_stderr == 0.0 for number in numbers.values())
    assert numbers["nll_per_token"].stderr > 0
    assert numbers["ppl"].value == pytest.approx(math.exp(numbers["nll_per_token"].value))
    assert found.provenance["order"] == "margin"
    assert found.provenance["blocks"] == 9
    assert found.provenance["tokens_scored"] == 9 * LENGTH


def test_only_what_is_scored_counts(context_of):
    class OnlySome(Blocks):
        def batch(self, rows):
            tokens = self.tokens[rows]
            maskable = torch.tensor([False, True, True, False]).expand_as(tokens)
            return Batch(tokens=tokens, maskable=maskable)

    texts = EVERY_TEXT.view(MASK, -1, LENGTH)[2]  # those that begin with token 2
    texts = texts[texts[:, -1] == 1]
    source = OnlySome(texts)
    live = Duel().build(context_of(texts, blocks=lambda _: source))
    live.update(0)
    found = live.table.compute()
    assert (found.tokens == 2).all()
    assert float((-found.nats).exp().sum()) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_batches_and_ranks_change_nothing(context_of, batch_size):
    texts = EVERY_TEXT[::19]
    whole = Duel().build(context_of(texts))
    whole.update(0)
    parts = [
        Duel().build(context_of(texts, batch_size=batch_size, rank=rank, world_size=2))
        for rank in range(2)
    ]
    for part in parts:
        for index in range(len(part)):
            part.update(index)
    together = sum(part.table.nats for part in parts)
    assert torch.allclose(whole.table.nats, together, rtol=1e-12)


def test_a_network_that_predicts_the_next_token_is_refused(context_of):
    context = context_of(EVERY_TEXT, exact=True)
    with pytest.raises(RecipeError, match="next token"):
        Duel().build(context)
    with pytest.raises(RecipeError, match=r"\[evaluators\.exact\].*next token"):
        load_recipe("quickstart_ar", overrides=["evaluators.exact.use=duel"])


def test_mistakes_are_named(context_of):
    with pytest.raises(DataError, match="1 of the 256 blocks"):
        Duel(blocks=1).build(context_of(EVERY_TEXT))
    with pytest.raises(MdmkitError, match="not finite"):
        run_evaluation(Duel(), context_of(EVERY_TEXT[:5], network=TinyNetwork(math.nan)))
