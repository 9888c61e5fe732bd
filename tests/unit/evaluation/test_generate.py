from __future__ import annotations

import weakref
from typing import ClassVar

import pytest
import torch

from mdmkit.builtin.samplers import Ancestral
from mdmkit.builtin.schedules import Linear
from mdmkit.errors import PluginError
from mdmkit.generation import LiveGenerate
from mdmkit.network import InferenceCall, Root
from mdmkit.values import Generation

from .conftest import LENGTH, MASK, VOCAB, TinyNetwork

CPU = torch.device("cpu")


def tokens_of(sampler=None, *, n=8, length=LENGTH, seed=0, batch_size=8, prompt_ids=()):
    root = Root(TinyNetwork(1.0))
    root.train()
    generate = LiveGenerate(
        call=InferenceCall(root, CPU, "fp32"),
        vocab=VOCAB,
        noise_schedule=Linear(),
        length=LENGTH,
        device=CPU,
    )
    start = torch.full((n, length), MASK)
    start[:, : len(prompt_ids)] = torch.tensor(prompt_ids, dtype=torch.int64)
    found = []
    for rows in torch.arange(n).split(batch_size):
        states = generate(sampler or Ancestral(steps=6), start[rows], rows=rows.tolist(), seed=seed)
        found.append(Generation.last_of(states).tokens.cpu())
    assert root.training  # as it was
    return torch.cat(found)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_row_depends_on_the_seed_and_its_number_alone(batch_size):
    whole = tokens_of(n=8)
    assert torch.equal(tokens_of(n=8, batch_size=batch_size), whole)
    assert torch.equal(tokens_of(n=5, batch_size=batch_size), whole[:5])
    assert not torch.equal(tokens_of(n=8, seed=1), whole)
    assert len(whole.unique(dim=0)) > 1


def test_the_prompt_stays():
    found = tokens_of(prompt_ids=[2, 0])
    assert (found[:, :2] == torch.tensor([2, 0])).all()
    assert found.shape == (8, LENGTH)
    assert (found != MASK).all()


class Idle:
    prediction: ClassVar[str] = "masked"

    def generate(self, tokens, context):
        yield Generation(tokens=tokens, step=1, network_evaluations=0)


class Vandal(Idle):
    def generate(self, tokens, context):
        yield Generation(tokens=torch.zeros_like(tokens), step=1, network_evaluations=0)


class Short(Idle):
    def generate(self, tokens, context):
        yield Generation(tokens=tokens[:, 1:], step=1, network_evaluations=0)


class Foreign(Idle):
    def generate(self, tokens, context):
        yield Generation(tokens=torch.full_like(tokens, 99), step=1, network_evaluations=0)


class Silent(Idle):
    def generate(self, tokens, context):
        return iter(())


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (Idle(), "still holds masks"),
        (Vandal(), "changed tokens"),
        (Silent(), "no state"),
        (Short(), "int64; expected"),
        (Foreign(), "ids outside of the vocabulary"),
    ],
)
def test_a_sampler_that_breaks_its_contract_is_named(sampler, words):
    with pytest.raises(PluginError, match=f"{type(sampler).__name__}: .*{words}"):
        tokens_of(sampler, prompt_ids=[1])


def test_rows_are_no_longer_than_the_sampler_can_fill():
    with pytest.raises(PluginError, match=f"Ancestral: it fills {LENGTH} tokens at most"):
        tokens_of(length=LENGTH + 1)


def test_the_last_of_many_states_keeps_no_other():
    kept = []

    def states():
        for step in range(5):
            assert [ref() is None for ref in kept[:-2]] == [True] * max(step - 2, 0)
            state = Generation(tokens=torch.zeros(1, 1), step=step, network_evaluations=0)
            kept.append(weakref.ref(state))
            yield state

    assert Generation.last_of(states()).step == 4
