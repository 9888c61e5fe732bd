"""How many token ids a recipe has, before its tokenizer is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdmkit.errors import DataError

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


def vocab_size_of(recipe: Recipe) -> int:
    """V, the mask included.

    What the tokenizer's options say, else the size of the tokenizer, which is then read from its
    file or the hub. None is trained.

    Raises:
        DataError: where it cannot be had.
    """
    tokenizer = recipe.data.tokenizer
    if tokenizer.known_size is not None:
        return tokenizer.known_size
    try:
        return tokenizer.build(recipe.data.corpus).vocab.size
    except DataError as error:
        raise DataError(f"{error}; or say how many ids there are, with --vocab-size") from error
