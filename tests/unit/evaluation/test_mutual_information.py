from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor

from mdmkit.builtin.evaluators import MutualInformation
from mdmkit.builtin.evaluators.analysis.pair_information import (
    Jackknife,
    contiguous_groups,
    mutual_information,
    pair_counts,
    slope,
    symbols,
)
from mdmkit.builtin.evaluators.analysis.symbol_text import SymbolText
from mdmkit.errors import DataError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.testing import evaluation_context
from mdmkit.values import Batch, Picture

TEXT = torch.tensor([[0, 1, 1, 2], [1, 1, 0, 0]])
WITHIN = torch.tensor([[0, 0, 0, 1], [0, 0, 0, -1]])  # a document's end, and padding


def test_pairs_are_counted_within_documents_and_never_in_padding():
    counts = pair_counts(TEXT, torch.tensor([0, 1]), 3, 1, WITHIN)
    first, second = torch.zeros(3, 3), torch.zeros(3, 3)
    first[0, 1] = first[1, 1] = 1
    second[1, 1] = second[1, 0] = 1
    assert counts.tolist() == [first.tolist(), second.tolist()]
    farther = pair_counts(TEXT, torch.tensor([0, 1]), 3, 2, WITHIN)
    assert farther.sum((1, 2)).tolist() == [1, 1]


def test_rare_types_and_padding_make_no_symbols_of_their_own():
    tokens = torch.tensor([[7, 7, 7, 3, 9], [3, 5, 5, 99, 99]])
    real = tokens < 50
    text, kinds, share = symbols(tokens, real, 2)
    assert (kinds, share) == (3, 0.625)
    assert text[real].tolist() == [0, 0, 0, 1, 2, 1, 2, 2]
    assert symbols(tokens, real, 4)[1] == symbols(tokens, real, 100)[1] == 4


def test_information_in_closed_form():
    copy = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    apart = torch.tensor([[4.0, 8.0], [1.0, 2.0]])
    found = mutual_information(torch.stack([copy, apart, torch.zeros(2, 2)]))
    assert found.tolist() == pytest.approx([math.log(2), 0, 0], abs=1e-6)


def test_the_jackknife_of_a_mean_is_the_error_of_a_mean():
    values = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    without = (values.sum() - values) / 19
    error = Jackknife(whole=values.mean(), without=without).stderr
    assert float(error) == pytest.approx(float(values.std() / 20**0.5))


def test_the_stderr_is_the_spread_of_what_is_found():
    source = torch.Generator().manual_seed(0)

    def counts() -> Tensor:  # 16 groups of pairs, the second a copy of the first with chance 1/2
        first = torch.randint(2, (16, 200), generator=source)
        copied = torch.rand(16, 200, generator=source) < 0.5
        second = torch.where(copied, first, torch.randint(2, (16, 200), generator=source))
        pairs = torch.stack([first, second], -1).flatten(0, 1)
        return pair_counts(pairs, torch.arange(16).repeat_interleave(200), 2, 1, pairs * 0)

    found = [Jackknife.information(counts()) for _ in range(60)]
    spread = torch.stack([one.whole for one in found]).std()
    error = torch.stack([one.stderr for one in found]).mean()
    assert float(error) == pytest.approx(float(spread), rel=0.25)


def test_groups_keep_units_whole_and_are_of_a_size():
    units = torch.tensor([0] * 50 + [1] * 3 + [2] * 47 + [3] * 20 + [4] * 30)
    groups = contiguous_groups(units, 3)
    assert groups.tolist() == [0] * 50 + [1] * 50 + [2] * 50
    assert contiguous_groups(torch.arange(10), 5).bincount().tolist() == [2] * 5


def test_the_exponent_of_a_power_law():
    x = torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=torch.float64)
    found = slope(x, torch.stack([0.3 * x**-1.5, 7 * x**0.5]))
    assert found.tolist() == pytest.approx([-1.5, 0.5])


def test_shuffling_keeps_what_is_in_place():
    text = SymbolText(
        symbols=torch.arange(8).view(2, 4),
        within=torch.tensor([[0, 0, 1, 1], [0, 0, 0, -1]]),
        groups=torch.zeros(2, dtype=torch.int64),
        kinds=8,
        share=1.0,
    )
    source = torch.Generator().manual_seed(0)
    seen = {tuple(text.shuffled_within(source).flatten().tolist()) for _ in range(200)}
    assert len(seen) == 2 * 2 * 6
    for order in seen:
        assert (set(order[:2]), set(order[2:4]), set(order[4:7])) == ({0, 1}, {2, 3}, {4, 5, 6})
    mixed = torch.stack([text.independent(1, text.symbols, source) for _ in range(50)])
    assert len(mixed.unique(dim=0)) > 16  # of 24, there being four pairs
    there = text.counts(1, text.symbols)[0]
    for side in (1, 2):
        assert (mixed.sum(side) == there.sum(side - 1)).all()


@attrs.frozen
class Headed:
    """Independent tokens; the first four of a block have few types."""

    tokens: Tensor

    @classmethod
    def drawn(cls, seed: int) -> Headed:
        source = torch.Generator().manual_seed(seed)
        head = torch.randint(2, (200, 4), generator=source)
        return cls(torch.cat([head, torch.randint(12, (200, 8), generator=source)], 1))

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=self.tokens[rows])

    @property
    def provenance(self) -> dict[str, str]:
        return {}


def test_independent_tokens_share_nothing_whatever_their_place():
    z = []
    for seed in range(24):
        text = Headed.drawn(seed)
        context = attrs.evolve(evaluation_context(), blocks=lambda _split: text, length=12)  # noqa: B023
        found = run_evaluation(MutualInformation(distances=(8, 10)), context)
        line = found.pictures["distance"].lines[0]
        z += [value / error for value, error in zip(line.y, line.stderr, strict=True)]
    scores = torch.tensor(z)
    assert abs(float(scores.mean())) < 0.6
    assert 0.7 < float(scores.std()) < 1.3


class Documents:
    """Two documents in a block, of the same token each."""

    provenance: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(0)
        kinds = torch.randint(2, (400, 2), generator=source)
        self.tokens, self.ids = kinds.repeat_interleave(5, 1), torch.arange(10) // 5

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=self.tokens[rows], document_ids=self.ids.expand(len(rows), -1))


def test_documents_of_a_block_are_apart():
    context = attrs.evolve(evaluation_context(), blocks=lambda _split: Documents(), length=10)
    found = run_evaluation(MutualInformation(distances=(1, 4, 6, 9)), context)
    line = found.pictures["distance"]
    assert isinstance(line, Picture)
    assert line.lines[0].y == pytest.approx([math.log(2)] * 2 + [0] * 2, abs=0.01)
    assert found.measurements["composition"].value == pytest.approx(math.log(2), abs=0.01)
    assert found.provenance["share_of_tokens_told_apart"] == 1
    assert found.provenance["surely_above_composition"] == []


def test_what_cannot_be():
    for wrong in ((), (0,), (3, 3)):
        with pytest.raises(ValueError, match="distances: expected different numbers >= 1"):
            MutualInformation(distances=wrong)
    context = evaluation_context()
    with pytest.raises(DataError, match=r"blocks of 12 tokens .* expected longer blocks"):
        MutualInformation(distances=(12,)).build(context)
    with pytest.raises(DataError, match="expected at least 2"):
        MutualInformation(blocks=1).build(context)
