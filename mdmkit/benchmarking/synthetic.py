"""Random tokens in the shapes of a recipe's text, so that no corpus is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.data.text_tokenizer import SpecialTokens, TextTokenizer, wrap
from mdmkit.data.tokenizers import Bert, Gpt2
from mdmkit.draws import generator
from mdmkit.errors import DataError
from mdmkit.recipe import Data
from mdmkit.training.job import Text
from mdmkit.values import Batch

BLOCKS = 1024
"""Blocks of a synthetic split."""

DOCUMENTS = 4
"""Documents in a block, where attention stays inside them."""

_KNOWN = {Gpt2: 50_258, Bert: 30_522}  # as their classes say, the mask included


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


def synthetic_text(data: Data, vocab_size: int | None = None) -> Text:
    """A tokenizer that has the right number of ids and no text, and random blocks for any split.

    Args:
        data: the recipe's table.
        vocab_size: V, mask included; by default what `known_vocab_size` finds.

    Raises:
        DataError: where the number of ids is not known without the text or the hub.
    """
    size = vocab_size or known_vocab_size(data)
    needs: frozenset[str] = getattr(data.packing, "needs", frozenset())
    tokens = torch.randint(size - 1, (BLOCKS, data.length), generator=generator("synthetic"))
    blocks = RandomBlocks(tokens=tokens, needs=needs)  # without the mask, the last id
    return _numbers(size), lambda _: blocks


def known_vocab_size(data: Data) -> int:
    """The number of ids of the recipe's tokenizer, mask included, without its text.

    Raises:
        DataError: where only building it would tell, and it cannot be built.
    """
    options: Any = data.tokenizer
    if hasattr(options, "vocab_size"):
        return int(options.vocab_size)
    known = next((size for kind, size in _KNOWN.items() if isinstance(options, kind)), None)
    if known is not None:
        return known
    try:
        return data.tokenizer.build(data.corpus).vocab.size
    except DataError as error:
        raise DataError(f"{error}\nor say how many ids it has with --vocab-size") from error


def _numbers(size: int) -> TextTokenizer:
    """Ids 0 to V − 1, written as numbers; the last is the mask."""
    from tokenizers import Tokenizer, models

    words = {str(number): number for number in range(size)}
    special = SpecialTokens(mask=str(size - 1), bos="0", eos="0", pad="1")
    return wrap(Tokenizer(models.WordLevel(words, unk_token="0")), special, where="synthetic")
