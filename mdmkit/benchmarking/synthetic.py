"""Random tokens in the shapes of a recipe's text, so that no corpus is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.costs.vocabulary import vocab_size_of
from mdmkit.data.text_tokenizer import SpecialTokens, TextTokenizer, wrap
from mdmkit.draws import generator
from mdmkit.recipe import Recipe
from mdmkit.training.job import Text
from mdmkit.values import Batch

BLOCKS = 1024
"""Blocks of a synthetic split."""

DOCUMENTS = 4
"""Documents in a block, where attention stays inside them."""


@frozen(kw_only=True, eq=False)
class RandomBlocks:
    """A `BlockSource` of random tokens.

    Attributes:
        tokens: ``[N, L]`` int64.
        needs: what the recipe's packing asks of attention. With ``document_ids`` each block has
            `DOCUMENTS` documents of one length; with ``padding`` every token is real, which is
            the most work that a padded row can be.
    """

    tokens: Tensor
    needs: frozenset[str]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """That it is no text."""
        return {"corpus": "uniform random tokens", "blocks": len(self)}

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]``."""
        batch = Batch(tokens=self.tokens[rows], rows=rows)
        length = batch.tokens.shape[-1]
        if "document_ids" in self.needs:
            within = torch.arange(length) * DOCUMENTS // length  # [L]
            batch = evolve(batch, document_ids=rows[:, None] * DOCUMENTS + within)
        if "padding" in self.needs:
            batch = evolve(batch, real=torch.ones_like(batch.tokens, dtype=torch.bool))
        return batch


def synthetic_text(recipe: Recipe, vocab_size: int | None = None) -> Text:
    """A tokenizer that has the right number of ids and no text, and random blocks for any split.

    Args:
        recipe: its length, packing and tokenizer count.
        vocab_size: V, mask included; by default what `vocab_size_of` finds.

    Raises:
        DataError: where the number of ids is not known without the text or the hub.
    """
    data = recipe.data
    size = vocab_size or vocab_size_of(recipe)
    needs: frozenset[str] = getattr(data.packing, "needs", frozenset())
    tokens = torch.randint(size - 1, (BLOCKS, data.length), generator=generator("synthetic"))
    blocks = RandomBlocks(tokens=tokens, needs=needs)  # without the mask, the last id
    return _numbers(size), lambda _: blocks


def _numbers(size: int) -> TextTokenizer:
    """Ids 0 to V − 1, written as numbers; the last is the mask."""
    from tokenizers import Tokenizer, models

    words = {str(number): number for number in range(size)}
    special = SpecialTokens(mask=str(size - 1), bos="0", eos="0", pad="1")
    return wrap(Tokenizer(models.WordLevel(words, unk_token="0")), special, where="synthetic")
