"""What each packing means for what is learned: padding and neighbours change nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion, MixedCausal
from mdmkit.data.blocks import build_tokenizer, open_blocks
from mdmkit.data.packing import Document, Packed, Padded, Wrapped
from mdmkit.draws import StepDraws
from mdmkit.testing import objective_context, randomize
from mdmkit.values import Batch, Vocabulary

VOCAB = Vocabulary(size=40, mask_id=39, bos_id=1, eos_id=2, pad_id=3)
OBJECTIVES = {
    "masked": MaskedDiffusion(),
    "causal": Autoregressive(),
    "mixed": MixedCausal(share=0.5, final_share=0.5),
}
PACKINGS = {
    "packed": Packed(),
    "wrapped": Wrapped(),
    "wrapped, BOS apart": Wrapped(score_bos=False),
    "padded": Padded(eos=True, bos=True),
    "split": Padded(overflow="split"),
    "padding seen": Padded(attend_padding=True, score_bos=False),
    "document": Document(),
}


def network(vocab: Vocabulary = VOCAB) -> Any:
    options = Dit(width=16, depth=2, heads=2, conditioning_width=8)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        built = options.build(vocab)
    randomize(built)
    return built


def live(name: str, length: int, vocab: Vocabulary = VOCAB) -> Any:
    context = evolve(objective_context(), vocab=vocab, length=length)
    return OBJECTIVES[name].build(context)


def draws(rows: int) -> StepDraws:
    return StepDraws(seed=3, step=0, rows=torch.arange(rows), global_rows=rows)


def text(rows: int, length: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCAB.mask_id, (rows, length), generator=source)


def measured(name: str, batch: Batch, *, of: Any = None) -> dict[str, Tensor]:
    """Training loss by row, bound, and cross-entropies under a fixed mask."""
    rows, length = batch.tokens.shape
    net, objective = of or network(), live(name, length)
    noised = objective.corrupt(batch, draws(rows))
    mask = batch.scored() & (torch.arange(length) % 3 != 1)
    with torch.no_grad():
        loss = objective.loss(net, noised)
        return {
            "loss": loss.total / noised.denominator,
            "bound": objective.bound(net, batch, draws(rows)).nats,
            "nll": objective.nll(net, batch, mask),
        }


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=1e-4, atol=1e-5, msg=key)


# --- padding

REAL = torch.arange(9) < torch.tensor([[9], [6], [3], [5]])


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("score_bos", [True, False])
def test_nothing_depends_on_what_is_in_the_padding(name: str, score_bos: bool) -> None:
    scored = REAL if score_bos else REAL & (torch.arange(9) > 0)
    batch = Batch(tokens=text(4, 9), real=REAL, maskable=scored)
    other = evolve(batch, tokens=batch.tokens.where(REAL, text(4, 9, seed=1)))
    assert not torch.equal(batch.tokens, other.tokens)
    found = measured(name, batch)
    assert_same(found, measured(name, other))
    assert (found["bound"] > 0).all()
    assert not found["nll"][~scored].any()


@pytest.mark.parametrize("name", ["masked", "causal"])
def test_padded_rows_cost_what_they_cost_without_padding(name: str) -> None:
    batch = Batch(tokens=text(4, 9), real=REAL)
    mask = REAL & (torch.arange(9) % 3 != 1)
    net, objective = network(), live(name, 9)
    with torch.no_grad():
        found = objective.nll(net, batch, mask)
        for row, size in enumerate(REAL.sum(-1).tolist()):
            alone = Batch(tokens=batch.tokens[row : row + 1, :size])
            cost = objective.nll(net, alone, mask[row : row + 1, :size])
            torch.testing.assert_close(found[row : row + 1, :size], cost, rtol=1e-4, atol=1e-5)


def test_padding_that_is_seen_changes_masked_diffusion_alone() -> None:
    batch = Batch(tokens=text(4, 9).where(REAL, 3), real=REAL, padding_seen=True)
    hidden = evolve(batch, padding_seen=False)
    masked = (measured("masked", batch), measured("masked", hidden))
    for key in ("loss", "bound", "nll"):
        assert not torch.allclose(masked[0][key], masked[1][key], rtol=1e-4), key
    assert_same(measured("causal", batch), measured("causal", hidden))  # it comes after the text
    # Padding under a mask is masked for the network, and has no cross-entropy of its own.
    net, objective = network(), live("masked", 9)
    some = REAL & (torch.arange(9) % 3 != 1)
    with torch.no_grad():
        clean, all_masked = (objective.nll(net, batch, mask) for mask in (some, some | ~REAL))
    assert not torch.allclose(clean[1:], all_masked[1:], rtol=1e-3)
    torch.testing.assert_close(clean[0], all_masked[0])
    assert torch.equal(clean > 0, all_masked > 0)


# --- neighbours

IDS = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2]])
MIDDLE = slice(4, 7)


def beside(seed: int) -> Tensor:
    """One document between two others."""
    tokens = text(1, 9, seed)
    tokens[:, MIDDLE] = text(1, 9)[:, MIDDLE]
    return tokens


@pytest.mark.parametrize("name", ["masked", "causal"])
def test_a_document_costs_the_same_beside_any_others_and_alone(name: str) -> None:
    net, objective = network(), live(name, 9)
    mask = torch.arange(9)[None] % 2 == 0

    def cost(tokens: Tensor, ids: Tensor | None, part: slice) -> Tensor:
        batch = Batch(tokens=tokens[:, part], document_ids=None if ids is None else ids[:, part])
        with torch.no_grad():
            found: Tensor = objective.nll(net, batch, mask[:, part])
        return found[:, MIDDLE] if part == slice(None) else found

    every = slice(None)
    apart = [cost(beside(seed), IDS, every) for seed in (1, 2)]
    alone = cost(beside(1), None, MIDDLE)
    assert alone[:, 0] > 0
    torch.testing.assert_close(apart[0], apart[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(apart[0], alone, rtol=1e-4, atol=1e-5)
    together = [cost(beside(seed), None, every) for seed in (1, 2)]  # plainly packed
    assert not torch.allclose(together[0], together[1], rtol=1e-3)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_in_one_document_is_blind_to_the_others(name: str) -> None:
    rows = 4
    net, objective = network(), live(name, 9)
    found = []
    for seed in (1, 2):
        batch = Batch(tokens=beside(seed).expand(rows, -1), document_ids=IDS.expand(rows, -1))
        noised = objective.corrupt(batch, draws(rows))
        own = torch.zeros_like(noised.in_loss)
        own[:, MIDDLE] = True
        with torch.no_grad():
            part = evolve(noised, in_loss=noised.in_loss & own)
            found.append(objective.loss(net, part).total)
    assert found[0] > 0
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


# --- from a corpus to a step


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_step_of_training(packing: str, name: str, table: Any, corpus: Any) -> None:
    data = table(length=16, corpus=corpus, packing=PACKINGS[packing])
    tokenizer = build_tokenizer(data)
    vocab = tokenizer.vocab
    if packing == "padding seen":  # a trained tokenizer has none
        vocab = evolve(vocab, pad_id=vocab.eos_id)
        tokenizer = _Known(tokenizer, vocab)
    blocks = open_blocks(data, "train", tokenizer=tokenizer)
    batch = blocks.batch(torch.arange(8))
    net, objective = network(vocab), live(name, 16, vocab)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(2):
        noised = objective.corrupt(batch, draws(8))
        loss = objective.loss(net, noised).total / noised.denominator
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters()])
        assert 0 < float(norm) < math.inf
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert not noised.in_loss[~batch.scored()].any()
    if not batch.scored().all():
        visible = noised.inputs if name == "masked" else None
        hidden = batch.real is not None and batch.padding_seen
        if visible is not None and not hidden:
            assert (visible[~batch.scored()] == batch.tokens[~batch.scored()]).all()


class _Known:
    """A tokenizer with another idea of its special tokens."""

    def __init__(self, tokenizer: Any, vocab: Vocabulary) -> None:
        self.vocab, self.fingerprint = vocab, tokenizer.fingerprint
        self.encode_batch = tokenizer.encode_batch
