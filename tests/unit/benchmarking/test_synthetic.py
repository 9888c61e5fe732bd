"""Random tokens in the place of text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attrs import evolve

from mdmkit import DataError, load_recipe
from mdmkit.benchmarking.bench import bench
from mdmkit.benchmarking.synthetic import BLOCKS, synthetic_text
from mdmkit.data.packing import Document, Padded
from mdmkit.data.tokenizers import Gpt2, Json

ROWS = torch.tensor([3, 0, 3])


def test_blocks_have_the_recipes_shapes_and_no_masks(tiny_recipe: Path) -> None:
    tokenizer, opened = synthetic_text(load_recipe(tiny_recipe))
    assert (tokenizer.vocab.size, tokenizer.vocab.mask_id) == (280, 279)
    blocks = opened("train")
    assert len(blocks) == BLOCKS
    batch = blocks.batch(ROWS)
    assert batch.tokens.shape == (3, 16)
    assert torch.equal(batch.tokens[0], batch.tokens[2])
    everything = blocks.batch(torch.arange(BLOCKS)).tokens
    assert (int(everything.min()), int(everything.max())) == (0, 278)
    again = synthetic_text(load_recipe(tiny_recipe))[1]("train")
    assert torch.equal(again.batch(ROWS).tokens, batch.tokens)


def test_attention_is_what_the_packing_asks_for(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    packed = [evolve(recipe, data=evolve(recipe.data, packing=p)) for p in (Document(), Padded())]
    apart = synthetic_text(packed[0])[1]("train").batch(ROWS)
    assert apart.document_ids is not None
    assert apart.document_ids.tolist()[1] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert apart.document_ids[0, 0] != apart.document_ids[1, 3]
    padded = synthetic_text(packed[1])[1]("train").batch(ROWS)
    assert padded.real is not None
    assert padded.real.all()


def test_how_many_ids_there_are(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    gpt2 = evolve(recipe, data=evolve(recipe.data, tokenizer=Gpt2()))
    assert synthetic_text(gpt2)[0].vocab.size == 50_258  # without its file
    file = Json(path=str(tiny_recipe.with_name("no.json")))
    nowhere = evolve(recipe, data=evolve(recipe.data, tokenizer=file))
    with pytest.raises(DataError, match=r"no\.json.*--vocab-size"):
        synthetic_text(nowhere)
    assert synthetic_text(nowhere, 99)[0].vocab.size == 99


def test_a_bench_needs_no_corpus(tiny_recipe: Path) -> None:
    changes = ["train.steps=100", 'loss_weighting.use="elbo"']
    for name in ("train.txt", "held_out.txt"):
        tiny_recipe.with_name(name).unlink()
    recipe = load_recipe(tiny_recipe, [*changes, "time_sampler.use=information_rate"])
    found = bench(recipe, steps=1, warmup=2, device="cpu", synthetic=True, seconds=0.01)
    assert found.text == "synthetic"
    assert "random tokens" in found.notes[1]
    assert found.sizes.vocab_size == 280
