from __future__ import annotations

import attrs
import pytest
import torch

from mdmkit.builtin.evaluators import FewStep
from mdmkit.errors import DataError, MdmkitError, RecipeError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.recipe import load_recipe

from .conftest import LENGTH, MASK, VOCAB, TinyNetwork


class Letters:
    vocab = VOCAB


TEXTS = torch.randint(MASK, (12, LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def found(make_context):
    def evaluate(options, **changes):
        context = make_context(TEXTS, tokenizer=Letters(), **changes)
        return run_evaluation(options, context).measurements

    return evaluate


def test_the_numbers_depend_neither_on_batches_nor_on_what_else_is_asked(found):
    options = FewStep(blocks=0, direct=(2,))
    whole = found(options)
    assert found(options, batch_size=5) == pytest.approx(whole)
    alone = found(attrs.evolve(options, steps=(8,), direct=()))
    assert alone == {name: whole[name] for name in alone}
    assert found(options, seed=1)["h_mean"] != whole["h_mean"]


def test_padding_is_neither_masked_nor_counted(make_context):
    real = torch.ones(12, LENGTH, dtype=torch.bool)
    real[::2, 2:] = False
    context = make_context(TEXTS, tokenizer=Letters(), real=real)
    found = run_evaluation(FewStep(blocks=0, steps=(1,)), context)
    assert found.provenance["tokens_scored"] == int(real.sum())
    masked = [point["masked"] for point in found.provenance["curve"]]
    longest = float((real.sum(-1) ** 2).sum() / real.sum())
    assert (masked[0], masked[-1]) == (1, pytest.approx(longest))
    value = {name: number.value for name, number in found.measurements.items()}
    assert value["predicted_error_1"] == pytest.approx(value["h_1"] - value["h_mean"])
    assert 0 < found.measurements["h_1"].stderr < 1


def test_what_cannot_be(found, make_context):
    for wrong in ({"steps": (0,)}, {"steps": (2, 2)}, {"direct": (-1,)}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"{name}: expected different numbers >= 1"):
            FewStep(**wrong)
    with pytest.raises(RecipeError, match=r"\[evaluators\.few\].*there are no steps to save"):
        load_recipe("quickstart_ar", overrides=["evaluators.few.use=few_step"])
    assert not FewStep().applies(load_recipe("quickstart_ar"))
    with pytest.raises(RecipeError, match="there are no steps to save"):
        found(FewStep(), exact=True)
    with pytest.raises(DataError, match=r"few_step: 1 of the 12 blocks .* expected at least 2"):
        found(FewStep(blocks=1))
    with pytest.raises(MdmkitError, match="cross-entropies on split 'validation' are not finite"):
        found(FewStep(), network=TinyNetwork(float("nan")))
