"""The loss by mask ratio of a network that knows the chain its text is from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mdmkit.builtin.corpora import MarkovText
from mdmkit.builtin.evaluators import LossByMaskRatio
from mdmkit.builtin.evaluators.analysis.loss_over_training import jackknife_error
from mdmkit.evaluation.driver import Result, run_evaluation
from mdmkit.recipe import load_recipe
from mdmkit.testing import evaluation_context
from mdmkit.testing.facts import VOCAB
from mdmkit.values import Batch, Line, Picture

LENGTH = 5
CORPUS = MarkovText(symbols=3, seed=4, held_out=400 * LENGTH)
TEXTS = torch.tensor(list(itertools.product(range(3), repeat=LENGTH)))


class Posterior(nn.Module):
    """The chain's own conditionals, by a sum over all texts; `spoil` makes them flatter."""

    def __init__(self, spoil: float = 0.0) -> None:
        super().__init__()
        moves = torch.from_numpy(CORPUS.transitions())
        first = torch.from_numpy(CORPUS.stationary())
        self.p = first[TEXTS[:, 0]] * moves[TEXTS[:, :-1], TEXTS[:, 1:]].prod(-1)
        self.spoil, self.blocks = spoil, nn.ModuleList()

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        fitting = (tokens[:, None] == TEXTS) | (tokens[:, None] == VOCAB.mask_id)
        weight = self.p * fitting.all(-1)  # [B, texts]
        right = torch.einsum("bs,slk->blk", weight, nn.functional.one_hot(TEXTS).double())
        right = right / weight.sum(-1)[:, None, None]
        logits = torch.full((*tokens.shape, VOCAB.size), -torch.inf, dtype=torch.float64)
        logits[..., :3] = ((1 - self.spoil) * right + self.spoil / 3).log()
        return logits

    def unembed(self, h: Tensor) -> Tensor:
        return h


@attrs.frozen
class Blocks:
    """The chain in whole blocks."""

    tokens: Tensor
    packing: str = "packed"

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=self.tokens[rows], rows=rows)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"packing": {"use": self.packing}}


def measured(spoil: float = 0.0, *, packing: str = "packed", seed: int = 0) -> Result:
    text = "".join(CORPUS.documents("validation"))
    tokens = torch.tensor([ord(letter) - ord("a") for letter in text]).view(-1, LENGTH)
    denoiser = Posterior(spoil)
    context = attrs.evolve(
        evaluation_context(),
        call=lambda function: function(denoiser),
        blocks=lambda _: Blocks(tokens, packing),
        corpus=CORPUS,
        length=LENGTH,
        batch_size=500,
        seed=seed,
    )
    return run_evaluation(LossByMaskRatio(blocks=0), context, label="loss")


@pytest.fixture(scope="module")
def exact() -> Result:
    return measured()


def line(result: Result, picture: str, name: str) -> Line:
    drawn = result.pictures[picture]
    assert isinstance(drawn, Picture)
    return next(one for one in drawn.lines if one.name == name)


def test_exact_posteriors_cost_the_true_entropy(exact: Result) -> None:
    loss, true = line(exact, "loss", "the network"), line(exact, "loss", "true conditional entropy")
    assert loss.x == true.x == (0.2, 0.4, 0.6, 0.8, 1.0)
    assert true.y == tuple(CORPUS.masked_entropy(k, LENGTH) for k in range(1, LENGTH + 1))
    assert loss.stderr is not None
    for found, error, expected in zip(loss.y, loss.stderr, true.y, strict=True):
        assert 0 < error < 0.04
        assert abs(found - expected) < 4 * error
    gap = exact.measurements["gap_mean"]
    assert abs(gap.value) < 4 * gap.stderr


def test_the_numbers_are_of_the_curve(exact: Result) -> None:
    y = line(exact, "loss", "the network").y
    numbers = {name: number.value for name, number in exact.measurements.items()}
    assert numbers["h_mean"] == pytest.approx(sum(y) / LENGTH)
    assert numbers["h_0.1"] == pytest.approx(y[0])  # no ratio is lower than one mask
    assert numbers["h_0.5"] == pytest.approx((y[1] + y[2]) / 2)


def test_the_unigram_entropy_is_that_of_all_masked(exact: Result) -> None:
    unigram = line(exact, "loss", "unigram entropy").y[0]
    assert unigram == pytest.approx(CORPUS.masked_entropy(LENGTH, LENGTH), abs=0.03)


def test_runs_meet_the_same_masks(exact: Result) -> None:
    assert measured().to_json() == exact.to_json()
    assert measured(seed=1).measurements != exact.measurements


def test_without_its_order_the_text_has_no_known_curve() -> None:
    result = measured(packing="rearranged")
    assert [*result.pictures] == ["loss"]
    assert "gap_mean" not in result.measurements


def test_over_training_the_gap_closes(exact: Result) -> None:
    results = {10: measured(0.9), 20: measured(0.3), 30: exact}
    drawn = LossByMaskRatio.over_training(results)
    lines = {name: {one.name: one for one in picture.lines} for name, picture in drawn.items()}
    assert {"step 10", "step 30", "true conditional entropy"} <= lines["curves"].keys()
    left = lines["still_to_gain"]["mask ratio 0.5"]
    assert left.x == (10, 20, 30)
    assert left.y[0] > left.y[1] > left.y[2]
    assert left.stderr is not None
    assert abs(left.y[2]) < 4 * left.stderr[2]
    level = lines["levels"]["mask ratio 0.5"]
    assert left.stderr == pytest.approx(level.stderr, rel=0.5)  # the truth has no error
    share = lines["share_learned"]["mask ratio 0.3"]
    assert share.y[2] == pytest.approx(1, abs=0.1)
    sums = [lines["gained_and_staying"][name].y for name in lines["gained_and_staying"]]
    unigram = lines["curves"]["unigram entropy"].y
    assert [sum(three) for three in zip(*sums, strict=True)] == pytest.approx(unigram)


def test_where_the_truth_is_unknown_the_best_stands_for_it() -> None:
    results = {10: measured(0.9, packing="x"), 20: measured(0.3, packing="x")}
    drawn = LossByMaskRatio.over_training(results)
    left = {one.name: one.y for one in drawn["still_to_gain"].lines}["mask ratio 0.5"]
    assert left[1] == 0
    (by_step,) = [one for one in drawn["still_to_gain"].lines if one.name == "mask ratio 0.5"]
    level = {one.name: one for one in drawn["levels"].lines}["mask ratio 0.5"]
    assert by_step.stderr is not None
    assert level.stderr is not None
    assert by_step.stderr[1] == 0
    assert "upper bound" in drawn["still_to_gain"].note
    (stays,) = [one for one in drawn["gained_and_staying"].lines if "stays" in one.name]
    assert not stays.known


def test_no_share_is_told_of_what_is_next_to_nothing() -> None:
    poor = measured(0.99, packing="x")
    assert "share_learned" not in LossByMaskRatio.over_training({10: poor, 20: poor})


def test_the_error_of_a_difference_is_that_of_the_texts_difference() -> None:
    draw = np.random.default_rng(0)
    texts = draw.normal(size=(64, 1))
    one, other = texts + 0.1 * draw.normal(size=(64, 1)), 1 + texts
    without = np.stack([(v.sum(0) - v) / 63 for v in (one, other)])
    expected = (one - other).std(ddof=1) / 64**0.5
    assert float(jackknife_error(without[0] - without[1])[0]) == pytest.approx(float(expected))


@pytest.mark.parametrize("name", ["loss_by_mask_ratio", "gradient"])
def test_a_recipe_of_another_network_may_have_it_and_leaves_it_out(name: str) -> None:
    recipe = load_recipe("quickstart_ar", [f'evaluators.{name}.use="{name}"'])
    evaluator: Any = recipe.evaluators[name]
    assert not evaluator.applies(recipe)
