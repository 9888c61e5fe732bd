from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

import mdmkit
from mdmkit.protocols import EvaluationContext
from mdmkit.testing import ContractError, check_all, check_evaluator, evaluation_context

plugin = pytest.importorskip(
    "mdmkit_masked_accuracy", reason="not installed: pip install -e plugins/mdmkit-masked-accuracy"
)
MaskedAccuracy = plugin.MaskedAccuracy

SUITE = Path(__file__).parents[1] / "suites" / "masked_accuracy.toml"

RECIPE = """
[run]
name = "masked_accuracy"

[data]
length = 16
corpus = { use = "state_of_the_union" }
tokenizer = { use = "bpe", vocab_size = 512 }

[denoiser]
use = "dit"
width = 16
depth = 1
heads = 2

[train]
steps = 2
global_batch_size = 4

[learning_rate]
warmup_steps = 1

[evaluators.top1]
use = "masked_accuracy"
bins = 4
"""


def measured(options: Any, context: EvaluationContext) -> Any:
    """The live evaluator with all its work done."""
    live = options.build(context)
    for index in range(len(live)):
        live.update(index)
    return live


def test_everything_keeps_its_contract() -> None:
    """What ``pytest --mdmkit-contract mdmkit-masked-accuracy`` tests, for a bare ``pytest``."""
    check_all(plugin)


def test_the_check_would_notice_other_masks_each_time() -> None:
    class Careless(plugin.LiveMaskedAccuracy):  # type: ignore[misc, name-defined]
        def _mask(self, batch: Any, *_: Any) -> Tensor:
            return (torch.rand(batch.tokens.shape) < 0.5) & batch.scored()

    class Wrong(MaskedAccuracy):  # type: ignore[misc, valid-type]
        def build(self, context: EvaluationContext) -> Any:
            live = MaskedAccuracy().build(context)
            return Careless(
                **{name: getattr(live, name) for name in live.__slots__ if name[0] != "_"}
            )

    with pytest.raises(ContractError, match="same seed gives the same numbers"):
        check_evaluator(Wrong())


class Says(torch.nn.Module):
    """A network that says token 3 everywhere, and what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        self.asked.append(tokens)
        return torch.zeros(*tokens.shape, 1)

    def unembed(self, h: Tensor) -> Tensor:
        logits = h.expand(*h.shape[:-1], 11).clone()
        logits[..., 3] = 1.0
        logits[..., 10] = 2.0  # the mask, which is never an answer
        return logits


def test_accuracy_is_the_share_of_masked_tokens_that_are_right() -> None:
    network = Says()
    context = evolve(evaluation_context(), call=lambda function: function(network))
    live = measured(MaskedAccuracy(draws=3, bins=4), context)
    found = live.compute()
    text = context.blocks("validation").batch(torch.arange(10))
    hits, masked = 0.0, 0.0
    by_bin = torch.zeros(4, 2)
    # batches of 4 blocks, one draw after the other; the last is filled up with block 0
    for number, xt in enumerate(network.asked):
        rows = torch.arange(4) + 4 * (number % 3)
        for row, seen in zip(rows.tolist(), xt, strict=True):
            if row >= 10:
                continue
            mask = seen == 10
            right = float((text.tokens[row][mask] == 3).sum())
            hits, masked = hits + right, masked + float(mask.sum())
            ratio = float(mask.sum()) / float(text.scored()[row].sum())
            by_bin[max(0, int(-(-ratio * 4 // 1)) - 1)] += torch.tensor([right, float(mask.sum())])
    assert found["accuracy"].value == pytest.approx(hits / masked)
    assert live.provenance["tokens_masked"] == masked
    for i, name in enumerate(("0_0.25", "0.25_0.5", "0.5_0.75", "0.75_1")):
        assert found[f"accuracy_{name}"].value == pytest.approx(float(by_bin[i, 0] / by_bin[i, 1]))


def test_no_error_is_zero_and_errors_are_over_blocks() -> None:
    sure = plugin.ratio(torch.full((5,), 4.0).double(), torch.full((5,), 4.0).double())
    assert (sure.value, sure.stderr > 0.04) == (1.0, True)
    number = plugin.ratio(torch.tensor([1.0, 3.0]).double(), torch.tensor([4.0, 4.0]).double())
    assert number.value == 0.5
    assert number.stderr == pytest.approx(0.25)  # of the mean of 1/4 and 3/4


def test_ranks_together_find_what_one_finds() -> None:
    alone = measured(MaskedAccuracy(), evaluation_context()).table.compute()
    both = [measured(MaskedAccuracy(), evaluation_context(rank, 2)).table for rank in range(2)]
    for part, (one, two) in zip(alone, zip(*(t.compute() for t in both), strict=True), strict=True):
        assert torch.equal(one + two, part)
        assert not torch.equal(one, part)


def test_next_token_networks_are_refused() -> None:
    context = evolve(evaluation_context(), prediction="next_token")
    with pytest.raises(mdmkit.RecipeError, match="predicts 'next_token'"):
        MaskedAccuracy().build(context)
    with pytest.raises(mdmkit.DataError, match="at least 2"):
        MaskedAccuracy(blocks=1).build(evaluation_context())


def test_mdmkit_finds_it() -> None:
    (entry,) = entry_points(group="mdmkit", name="masked-accuracy")
    assert entry.load().mdmkit_evaluators is plugin.mdmkit_evaluators
    assert entry.dist is not None
    assert entry.dist.name == "mdmkit-masked-accuracy"


def test_a_recipe_can_use_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    assert mdmkit.load_recipe(path).evaluators == {"top1": MaskedAccuracy(bins=4)}


def test_a_suite_names_it() -> None:
    suites = importlib.import_module("mdmkit.suites")
    suite = suites.load_suite(SUITE)
    assert list(suite.sets) == ["own", "union"]
    for entry in suite.sets.values():
        assert entry.evaluator == MaskedAccuracy(split="test")
