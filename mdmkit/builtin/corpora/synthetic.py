"""What the made-up texts share: a letter a symbol, a seed, and what they need of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from mdmkit.data.packing import Wrapped
from mdmkit.data.tokenizers import Bytes, Text8
from mdmkit.protocols import Split

if TYPE_CHECKING:
    from mdmkit.protocols import Corpus
    from mdmkit.recipe import Recipe

LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""The symbols, in order; both tokenizers have a token for each."""

_STREAMS: dict[Split, int] = {"train": 1, "validation": 2, "test": 3}


def source_of(seed: int, split: Split | None = None) -> np.random.Generator:
    """The random numbers of a split; without one, those that the process itself is drawn from."""
    return np.random.default_rng([seed, 0 if split is None else _STREAMS[split]])


def fingerprint_of(corpus: Corpus, split: Split) -> str:
    """sha256 over the options, the split and its first document.

    The document stands for the library that draws it, should that ever draw others.
    """
    options: dict[str, Any] = attrs.asdict(corpus)  # type: ignore[arg-type]
    first = next(corpus.documents(split), "")
    facts = [type(corpus).__name__, options, split, first]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def whole_symbols(recipe: Recipe) -> Iterator[str]:
    """Where a recipe would have other tokens in its blocks than one for each symbol."""
    if not isinstance(recipe.data.tokenizer, Bytes | Text8):
        yield (
            "its true entropy is that of single symbols, so each must be a token; expected the "
            'tokenizer "text8" or "bytes"'
        )
    packing: Any = recipe.data.packing
    while hasattr(packing, "of"):  # it moves what another packing cuts
        packing = packing.of
    framed = getattr(packing, "eos", False) or getattr(packing, "bos", False)
    if framed or isinstance(packing, Wrapped):
        yield (
            "its true entropy is that of blocks of nothing but its symbols; expected a packing "
            'without BOS and EOS: packing = { use = "packed", eos = false }'
        )
