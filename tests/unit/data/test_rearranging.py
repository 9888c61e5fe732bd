"""Where the tokens of a block stand, checked against lists written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mdmkit import DataError, RecipeError
from mdmkit.data.blocks import build_tokenizer, open_blocks
from mdmkit.data.packing import Packed, Padded, Rearranged, Thinned, Wrapped
from mdmkit.recipe import dump_recipe, load_recipe
from mdmkit.values import Vocabulary

from .test_packing import DOCUMENTS, store

VOCAB = Vocabulary(size=100, mask_id=99, bos_id=1, eos_id=2, pad_id=9)
COUNTING = [list(range(10, 58))]


def blocks(packing: Any, length: int, documents: Any = DOCUMENTS) -> Any:
    return packing.cut(store(documents, packing.frame(VOCAB)), length, VOCAB)


def tokens(packing: Any, length: int, documents: Any = DOCUMENTS) -> list[list[int]]:
    cut = blocks(packing, length, documents)
    found: list[list[int]] = cut.batch(torch.arange(len(cut))).tokens.tolist()
    return found


def test_neighbours_in_the_text_stand_a_stride_apart() -> None:
    # the text 10, 11, … goes to the positions 0, 3, 6, then 1, 4, 7, then 2, 5
    packing = Rearranged(of=Packed(eos=False), order="strided", stride=3)
    assert tokens(packing, 8, COUNTING)[0] == [10, 13, 16, 11, 14, 17, 12, 15]
    assert tokens(packing, 8, COUNTING)[1] == [18, 21, 24, 19, 22, 25, 20, 23]


def test_shuffled_is_another_order_for_each_block_and_fixed_the_same() -> None:
    shuffled = [tuple(i % 8 for i in row) for row in tokens(moved(), 8, COUNTING)]
    assert len(set(shuffled)) == 6
    assert shuffled == [tuple(i % 8 for i in row) for row in tokens(moved(), 8, COUNTING)]
    assert tokens(moved(seed=1), 8, COUNTING) != tokens(moved(), 8, COUNTING)
    for order in ("shuffled", "fixed"):
        for row, plain in zip(
            tokens(moved(order=order), 8, COUNTING),
            tokens(Packed(eos=False), 8, COUNTING),
            strict=True,
        ):
            assert sorted(row) == plain != row
    fixed = {tuple((i - 10) % 8 for i in row) for row in tokens(moved(order="fixed"), 8, COUNTING)}
    assert len(fixed) == 1
    cut = blocks(moved(), 8, COUNTING)
    some = torch.tensor([4, 1])
    assert cut.batch(some).tokens.tolist() == [tokens(moved(), 8, COUNTING)[i] for i in (4, 1)]


def moved(**options: Any) -> Rearranged:
    return Rearranged(of=Packed(eos=False), **options)


def test_every_place_is_as_likely() -> None:
    cut = blocks(moved(), 4, [list(range(90)) * 40])
    first = cut.batch(torch.arange(len(cut))).tokens[:, 0]
    text = blocks(Packed(eos=False), 4, [list(range(90)) * 40]).batch(torch.arange(len(cut))).tokens
    place = (text == first[:, None]).long().argmax(-1)
    counts = place.bincount(minlength=4)
    assert counts.sum() == 900
    assert (counts - 225).abs().max() < 60  # more than four standard deviations


def test_padding_stays_and_what_is_scored_moves_along() -> None:
    padded = Rearranged(of=Padded(score_bos=False), order="strided", stride=2)
    batch = blocks(padded, 7).batch(torch.arange(3))
    # [BOS] 10 11 12 [EOS]: to the positions 0, 2, 4, 1, 3
    assert batch.tokens.tolist() == [
        [1, 12, 10, 2, 11, 9, 9],
        [1, 2, 20, 9, 9, 9, 9],
        [1, 32, 30, 33, 31, 2, 9],
    ]
    assert batch.scored().tolist() == [
        [False, True, True, True, True, False, False],
        [False, True, True, False, False, False, False],
        [False, True, True, True, True, True, False],
    ]
    assert padded.needs == {"padding"}
    for order in ("shuffled", "fixed"):
        packing = Rearranged(of=Padded(score_bos=False), order=order)
        batch = blocks(packing, 7).batch(torch.arange(3))
        plain = blocks(Padded(score_bos=False), 7).batch(torch.arange(3))
        assert torch.equal(batch.real, plain.real)
        assert torch.equal(batch.tokens[~batch.real], plain.tokens[~batch.real])
        hidden = batch.real & ~batch.scored()
        assert batch.tokens[hidden].tolist() == [1, 1, 1]


def test_bytes_documents_and_counts_are_those_without() -> None:
    for of in (Packed(), Wrapped(), Padded(overflow="split")):
        plain, cut = blocks(of, 4), blocks(Rearranged(of=of), 4)
        rows = torch.arange(len(plain))
        assert (len(cut), cut.dropped, cut.facts) == (len(plain), plain.dropped, plain.facts)
        assert torch.equal(cut.utf8_bytes(rows), plain.utf8_bytes(rows))
        assert torch.equal(cut.documents(rows), plain.documents(rows))


def test_thinned() -> None:
    packing = Thinned(eos=False, stride=3)
    assert tokens(packing, 4, COUNTING)[:4] == [
        [10, 13, 16, 19],
        [11, 14, 17, 20],
        [12, 15, 18, 21],
        [22, 25, 28, 31],
    ]
    cut = blocks(packing, 2, DOCUMENTS)  # 10 11 12 20 30 31 | 32 33
    assert (len(cut), cut.dropped) == (3, 2)
    rows = torch.arange(3)
    assert cut.utf8_bytes(rows).tolist() == [20, 20, 20]  # ten bytes a token
    assert cut.documents(rows).tolist() == [0, 0, 0]
    assert cut.batch(rows).tokens.dtype == torch.int64


def test_a_stride_that_moves_nothing() -> None:
    with pytest.raises(DataError, match=r"packing\.stride: 8 leaves all as it is; .* 8"):
        blocks(moved(order="strided", stride=8), 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"of": {"use": "document"}}, "[data.packing] of: a document cannot be kept to itself"),
        ({"order": "strided"}, '[data.packing]: stride is for order = "strided", which needs it'),
        ({"stride": 4}, '[data.packing]: stride is for order = "strided"'),
    ],
)
def test_what_a_recipe_may_not_say(options: dict[str, Any], said: str) -> None:
    table = {"use": "rearranged"} | options
    words = ", ".join(f"{key} = {toml(value)}" for key, value in table.items())
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart_bell", [f"data.packing={{{words}}}"])
    assert said in str(caught.value)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_in_a_recipe_and_in_the_provenance(table: Any, corpus: Any, cache: Path) -> None:
    recipe = load_recipe(
        "quickstart_bell", ["data.packing.use=rearranged", "data.packing.of.bos=true"]
    )
    plain = {"use": "packed", "eos": True, "bos": True}
    said = {"use": "rearranged", "of": plain, "order": "shuffled", "seed": 0}
    assert dump_recipe(recipe)["data"]["packing"] == said
    packed, data = table(corpus=corpus), table(corpus=corpus, packing=Rearranged(of=Packed()))
    tokenizer = build_tokenizer(data)
    first = open_blocks(packed, "test", tokenizer=tokenizer)
    second = open_blocks(data, "test", tokenizer=tokenizer)
    assert second.folder == first.folder  # the same tokens on disk
    assert second.provenance["packing"] == {
        "use": "rearranged",
        "of": {"use": "packed", "eos": True, "bos": False},
        "order": "shuffled",
        "stride": None,
        "seed": 0,
    }
    text = first.batch(torch.arange(3)).tokens
    assert torch.equal(second.batch(torch.arange(3)).tokens.sort(-1).values, text.sort(-1).values)
