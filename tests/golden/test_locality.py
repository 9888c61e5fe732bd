"""Locality and mutual information of Markov text, whose laws by distance are matrix powers."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from mdmkit.builtin.evaluators import Locality, MutualInformation
from mdmkit.builtin.schedules import Linear
from mdmkit.evaluation.driver import Result, run_evaluation
from mdmkit.testing import evaluation_context
from mdmkit.values import Batch, HeatMap, Measurement, Picture, Vocabulary

LENGTH, STATES = 28, 3
# not reversible: the past and the future of a token are different matters
MOVE = torch.tensor([[0.7, 0.3, 0.0], [0.05, 0.75, 0.2], [0.5, 0.0, 0.5]], dtype=torch.float64)
POWERS = torch.stack([torch.linalg.matrix_power(MOVE, d) for d in range(LENGTH + 1)])
STATIONARY = torch.linalg.matrix_power(MOVE, 200)[0]


def chain(rows: int, length: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    tokens = [torch.multinomial(STATIONARY.expand(rows, -1), 1, generator=source)]
    for _ in range(length - 1):
        tokens.append(torch.multinomial(MOVE[tokens[-1][:, 0]], 1, generator=source))
    return torch.cat(tokens, 1)


class Posterior(nn.Module):
    """log p(token | the nearest visible ones), which for a chain is the whole posterior.

    With ``blind_to_the_right`` that on the left alone.
    """

    blocks = ()

    def __init__(self, *, blind_to_the_right: bool = False) -> None:
        super().__init__()
        self.left_only = blind_to_the_right

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        (gap, seen), (next_gap, next_seen) = nearest(tokens), nearest(tokens.flip(1))
        before = POWERS[gap, seen.clamp(min=0)]  # p(x | a)
        before = torch.where((seen >= 0)[..., None], before, STATIONARY)
        after = POWERS.mT[next_gap, next_seen.clamp(min=0)]  # p(b | x)
        after = torch.where((next_seen >= 0)[..., None], after, 1.0).flip(1)
        log_p = (before if self.left_only else before * after).log()
        return torch.cat([log_p, torch.zeros_like(log_p[..., :1])], -1)

    def unembed(self, h: Tensor) -> Tensor:
        return h


def nearest(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Of the last visible token before each place: how far it is, and which (−1: there is none)."""
    gap, seen = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    for place in range(1, tokens.shape[1]):
        visible = tokens[:, place - 1] < STATES
        gap[:, place] = torch.where(visible, 1, gap[:, place - 1] + 1)
        seen[:, place] = torch.where(visible, tokens[:, place - 1], seen[:, place - 1])
    return gap, seen


def entropy_between(left: int, right: int) -> float:
    """H(token | the one `left` before it and the one `right` after it), in nats."""
    joint = STATIONARY[:, None, None] * POWERS[left][:, :, None] * POWERS[right][None]  # a, x, b
    return float(-torch.xlogy(joint, joint / joint.sum(1, keepdim=True)).sum())


class Blocks:
    provenance = {"source": "chain"}  # noqa: RUF012 - never changed

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=self.tokens[rows], rows=rows)


class Letters:
    vocab = Vocabulary(size=STATES + 1, mask_id=STATES)


def measured(options: Any, tokens: Tensor, network: nn.Module | None = None) -> Result:
    context = attrs.evolve(
        evaluation_context(),
        call=lambda function: function(network or Posterior()),
        tokenizer=Letters(),
        blocks=lambda _split: Blocks(tokens),
        noise_schedule=Linear(),
        batch_size=1000,
        length=tokens.shape[1],
    )
    return run_evaluation(options, context)


def near(found: Measurement | tuple[float, float], truth: float) -> bool:
    value, error = found if isinstance(found, tuple) else (found.value, found.stderr)
    return error > 0 and abs(value - truth) < 3.5 * error


def test_locality_finds_the_entropies_of_a_chain() -> None:
    text = chain(500, LENGTH)
    found = measured(Locality(blocks=0, distances=(1, 2, 6), radii=(1, 6)), text)
    numbers = found.measurements
    for (left, right), cell in cells(found).items():
        assert near(cell, entropy_between(left, right)), (left, right)
    # each cell is away from the next by more than its error: the test could fail
    assert entropy_between(1, 2) - entropy_between(1, 1) > 0.1 > 3 * cells(found)[1, 1][1]
    marginal = float(-torch.xlogy(STATIONARY, STATIONARY).sum())
    assert near(numbers["nll_blind"], marginal)
    # nothing within 6: what is left of the chain's memory is small
    assert numbers["lost_both"].value == pytest.approx(numbers["context"].value, abs=0.03)
    assert 0.5 < numbers["near_share"].value < 1


def test_left_is_told_from_right() -> None:
    options = Locality(blocks=0, distances=(1, 3), radii=(3,))
    found = measured(options, chain(500, LENGTH), Posterior(blind_to_the_right=True))
    for (left, right), cell in cells(found).items():
        joint = STATIONARY[:, None] * POWERS[left]
        truth = -torch.xlogy(joint, POWERS[left]).sum()
        assert near(cell, float(truth)), (left, right)
    numbers = found.measurements
    # but for what is shown far on the left instead
    assert numbers["lost_right"].value == pytest.approx(0, abs=0.002)
    assert numbers["lost_left"].value == pytest.approx(numbers["lost_both"].value, abs=0.002)
    assert near(numbers["left_minus_right"], numbers["lost_left"].value)
    assert numbers["lost_left"].value > 5 * numbers["lost_left"].stderr


def cells(found: Result) -> dict[tuple[int, int], tuple[float, float]]:
    """Value and error of the pair table by (left, right)."""
    table = found.pictures["pair"]
    assert isinstance(table, HeatMap)
    assert table.stderr is not None
    return {
        (int(left), int(right)): (value, error)
        for left, values, errors in zip(table.rows, table.values, table.stderr, strict=True)
        for right, value, error in zip(table.columns, values, errors, strict=True)
        if value is not None and error is not None
    }


def test_mutual_information_of_a_chain_by_distance() -> None:
    found = measured(MutualInformation(blocks=0, distances=(1, 2, 4, 8)), chain(6000, LENGTH))
    line = found.pictures["distance"]
    assert isinstance(line, Picture)
    text = line.lines[0]
    assert text.stderr is not None
    for distance, value, error in zip(text.x, text.y, text.stderr, strict=True):
        joint = STATIONARY[:, None] * POWERS[int(distance)]
        truth = torch.xlogy(joint, joint / (STATIONARY[:, None] * STATIONARY)).sum()
        assert near((value, error), float(truth)), distance
    assert found.measurements["mutual_information_1"].value > 0.3
    # fewer types say less: 2 of 3 told apart, the third alone is as good as pooled; 1 of 3 is not
    one = measured(MutualInformation(blocks=0, types=1, distances=(1,)), chain(6000, LENGTH))
    frequent = int(STATIONARY.argmax())
    order = [frequent, *(s for s in range(STATES) if s != frequent)]
    joint = (STATIONARY[:, None] * MOVE)[order][:, order]
    lumped = torch.stack([joint[:1].sum(0), joint[1:].sum(0)])
    lumped = torch.stack([lumped[:, 0], lumped[:, 1:].sum(1)], 1)
    truth = torch.xlogy(lumped, lumped / (lumped.sum(1)[:, None] * lumped.sum(0))).sum()
    assert near(one.measurements["mutual_information_1"], float(truth))


def test_independent_tokens_share_nothing() -> None:
    source = torch.Generator().manual_seed(1)
    tokens = torch.multinomial(STATIONARY.expand(3000, -1), LENGTH, replacement=True,
                               generator=source)  # fmt: skip
    found = measured(MutualInformation(blocks=0, distances=(1, 3, 9)), tokens)
    line = found.pictures["distance"]
    assert isinstance(line, Picture)
    for name in ("mutual_information_1", "mutual_information_9", "composition"):
        number = found.measurements[name]
        assert abs(number.value) < 3.5 * number.stderr < 5e-4, name
    assert found.provenance["surely_positive"] == []
    assert "slope" not in found.measurements


def test_the_bias_of_many_types_and_few_pairs_is_subtracted() -> None:
    tokens = torch.randint(STATES, (80, 12), generator=torch.Generator().manual_seed(3))
    tokens = tokens * 7 + torch.randint(7, (80, 12), generator=torch.Generator().manual_seed(4))
    found = measured(MutualInformation(blocks=0, distances=(1,)), tokens)
    number = found.measurements["mutual_information_1"]
    assert found.provenance["subtracted"][0] > 0.15  # (21 - 1)^2 / (2 * 880), and more
    assert abs(number.value) < 3.5 * number.stderr < 0.15


def test_blocks_of_two_kinds_share_what_they_are_about() -> None:
    source = torch.Generator().manual_seed(2)
    kinds = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    rows = kinds[torch.arange(3000) % 2]
    tokens = torch.multinomial(rows, LENGTH, replacement=True, generator=source)
    found = measured(MutualInformation(blocks=0, distances=(1, 9)), tokens).measurements
    joint = (kinds[:, :, None] * kinds[:, None]).mean(0)
    single = kinds.mean(0)
    truth = float(torch.xlogy(joint, joint / (single[:, None] * single)).sum())
    for name in ("mutual_information_1", "mutual_information_9", "composition"):
        assert near(found[name], truth), name
    assert truth > 0.1
