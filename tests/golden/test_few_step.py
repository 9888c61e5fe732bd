"""Few steps on a Markov chain whose posteriors are exact: the error by enumeration, and predicted.

Every text, every set of masks and every partition of the positions into steps is tried.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Tensor, nn

from mdmkit.builtin.evaluators import FewStep
from mdmkit.builtin.evaluators.step_counts import (
    drawn_at,
    interpolation,
    spread_counts,
    survival,
)
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.testing import evaluation_context
from mdmkit.values import Batch, Vocabulary

LENGTH, MASK = 4, 2
TEXTS = torch.tensor(list(itertools.product(range(MASK), repeat=LENGTH)))
STAY = (0.75, 0.5)  # in state 0 and 1
MASKS = torch.tensor(list(itertools.product([False, True], repeat=LENGTH)))


def chain() -> Tensor:
    """p(text), in 128ths."""
    moves = torch.tensor([[STAY[0], 1 - STAY[0]], [1 - STAY[1], STAY[1]]], dtype=torch.float64)
    steps = moves[TEXTS[:, :-1], TEXTS[:, 1:]]
    return 0.5 * steps.prod(-1)


P = chain()


def nll(text: Tensor, masked: Tensor) -> Tensor:
    """−log p(token | what is visible) of each masked token of one text, by the chain: [L]."""
    fitting = (text == TEXTS) | masked
    weight = P * fitting.all(-1)
    right = (weight[:, None] * (text == TEXTS)).sum(0) / weight.sum()
    return torch.where(masked, -right.log(), 0.0)


NLL = torch.stack([torch.stack([nll(text, masked) for masked in MASKS]) for text in TEXTS])
"""[texts, masks, L]"""


def h(count: int) -> float:
    chosen = MASKS.sum(-1) == count
    return float((P[:, None] * NLL.sum(-1))[:, chosen].sum()) / int(chosen.sum()) / count


H = torch.tensor([h(count) for count in range(1, LENGTH + 1)], dtype=torch.float64)
ENTROPY = -float((P * P.log()).sum())


def expected_kl(left: Tensor) -> tuple[float, float]:
    """KL(p ‖ what T steps generate): the mean over partitions, and of their mixture."""
    chance = left[:-1] - left[1:]  # of a token, to be lifted in each step
    mean, mixture = 0.0, torch.zeros(len(TEXTS), dtype=torch.float64)
    for steps in itertools.product(range(len(chance)), repeat=LENGTH):
        when = torch.tensor(steps)
        nats = torch.zeros(len(TEXTS), dtype=torch.float64)
        for step in range(len(chance)):
            masked = when >= step
            number = int((masked == MASKS).all(-1).nonzero())
            nats += (NLL[:, number] * (when == step)).sum(-1)
        weight = float(chance[when].prod())
        mean += weight * float((P * (P.log() + nats)).sum())
        mixture += weight * (-nats).exp()
    return mean, float((P * (P.log() - mixture.log())).sum())


@pytest.mark.parametrize("schedule", [Linear(), Linear(eps=0.1), Cosine()])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_expected_divergence_is_predicted_from_h_alone(schedule: Any, steps: int) -> None:
    left = survival(schedule, steps)
    drawn = drawn_at(left, LENGTH)
    assert float(drawn.sum()) == pytest.approx(LENGTH)
    mean, mixture = expected_kl(left)
    assert float(((drawn - 1) * H).sum()) == pytest.approx(mean, abs=1e-12)
    assert float(H.sum()) == pytest.approx(ENTROPY, abs=1e-12)
    assert 0.001 < mixture < mean or steps == 1
    assert mixture == pytest.approx(mean) or steps > 1


def test_many_steps_leave_what_the_leading_order_says() -> None:
    error = float(((drawn_at(survival(Linear(), 2000), 64) - 1) * torch.linspace(1, 5, 64)).sum())
    assert error == pytest.approx(64 * (5 - 1) / (2 * 2000), rel=0.02)


class Oracle(nn.Module):
    """The chain's posteriors as logits."""

    blocks = ()

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        fitting = ((tokens[:, None] == TEXTS) | (tokens[:, None] == MASK)).all(-1)  # [B, texts]
        is_one = (P * fitting)[..., None] * TEXTS  # [B, texts, L]
        one = is_one.sum(1) / (P * fitting).sum(-1, keepdim=True)
        return torch.stack([1 - one, one, torch.ones_like(one)], -1).log()

    def unembed(self, h: Tensor) -> Tensor:
        return h


class Blocks:
    """Every text as often as the chain has it, twice over."""

    provenance: ClassVar = {"source": "chain"}
    tokens = TEXTS.repeat_interleave((2 * 128 * P).long(), 0)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=self.tokens[rows], rows=rows)

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        return torch.full((len(rows),), 3 * LENGTH)


class Letters:
    vocab = Vocabulary(size=3, mask_id=MASK)


def measured(options: FewStep, **changes: Any) -> Any:
    context = attrs.evolve(
        evaluation_context(),
        call=lambda function: function(Oracle()),
        tokenizer=Letters(),
        blocks=lambda _split: Blocks(),
        noise_schedule=Linear(),
        batch_size=500,
        length=LENGTH,
        **changes,
    )
    return run_evaluation(options, context)


def test_the_evaluator_finds_it_with_honest_errors() -> None:
    options = FewStep(blocks=0, steps=(1, 2, 3), direct=(2,))
    found = measured(options)
    numbers = found.measurements
    truth = {"h_mean": ENTROPY, "h_0": float(H[0]), "h_0.5": float(H[1]), "h_1": float(H[3])}
    truth |= {
        name: expected_kl(survival(Linear(), steps))[0] / LENGTH
        for steps in (1, 2, 3)
        for name in [f"predicted_error_{steps}"]
    }
    truth["direct_error_2"] = truth["predicted_error_2"]
    truth["h_mean"] /= LENGTH
    for name, value in truth.items():
        number = numbers[name]
        assert abs(number.value - value) < 3.5 * number.stderr + 1e-9, name
    assert 0 < numbers["predicted_error_2"].stderr < numbers["direct_error_2"].stderr
    assert [point["masked"] for point in found.provenance["curve"]] == [1, 2, 3, 4]
    assert found.provenance["bytes_per_token"] == 3
    # text that is the chain to the letter has no error but that of its masks
    other = measured(options, seed=1).measurements["predicted_error_2"]
    assert 0 < abs(other.value - numbers["predicted_error_2"].value) < 2 * other.stderr


def test_counts_and_what_lies_between() -> None:
    counts = spread_counts(torch.tensor([9, 100]), 9)
    assert counts[0].tolist() == list(range(1, 10))
    assert counts[1].tolist() == [1, 5, 15, 32, 50, 69, 86, 96, 100]
    for length, points in ((128, 33), (129, 128), (40, 39)):
        found = spread_counts(torch.tensor([length]), points)[0]
        assert (found[0], found[-1], len(found.unique())) == (1, length, points)
        assert bool((found.diff() > 0).all())
    known = counts[1].double()
    every = torch.arange(1.0, 101, dtype=torch.float64)
    assert torch.allclose(interpolation(counts[1], every) @ (2 * known + 1), 2 * every + 1)
    ties = interpolation(torch.tensor([1, 1, 2, 3, 3]), torch.tensor([1.0, 2.5, 3.0]).double())
    assert (ties @ torch.tensor([7.0, 7, 4, 1, 1]).double()).tolist() == [7.0, 2.5, 1.0]
