"""Keys and values of the tokens so far, for generation from left to right."""

from __future__ import annotations

from typing import Self

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.values import Attention


class Past:
    """Keys and values of one block, in room that is made at the first call.

    Attributes:
        length: positions that there is room for.
        filled: positions that are there.
    """

    def __init__(self, length: int) -> None:
        """Begin without any."""
        self.length, self.filled = length, 0
        self._room: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put those of n more positions behind the others.

        Args:
            k, v: ``[B, H, n, d]``.

        Returns:
            All keys and all values, ``[B, H, filled, d]`` each.
        """
        if self._room is None:
            rows, heads, _, width = k.shape
            self._room = k.new_empty(2, rows, heads, self.length, width)
        start, self.filled = self.filled, self.filled + k.shape[-2]
        self._room[0, :, :, start : self.filled] = k
        self._room[1, :, :, start : self.filled] = v
        return self._room[0, :, :, : self.filled], self._room[1, :, :, : self.filled]


@frozen(kw_only=True, eq=False)
class KeyValueCache:
    """What `mdmkit.values.Attention` holds as ``cache``: a `Past` for each block.

    Attributes:
        rows: B.
        blocks: one for each block of the network.
    """

    rows: int
    blocks: tuple[Past, ...]

    @classmethod
    def of(cls, rows: int, length: int, blocks: int) -> Self:
        """An empty one, for so many rows, positions and blocks."""
        return cls(rows=rows, blocks=tuple(Past(length) for _ in range(blocks)))

    @classmethod
    def asked_for(cls, attention: Attention, tokens: Tensor) -> Self | None:
        """The cache of `attention`, if it has one.

        Args:
            attention: with a cache it is causal, and says nothing else.
            tokens: ``[B, n]``, those that follow what the cache holds.

        Raises:
            ValueError: where the cache is none of this kind, does not fit the rows or has no room
                left, or something else is asked for with it.
        """
        cache = attention.cache
        if cache is None:
            return None
        if not isinstance(cache, cls):
            raise ValueError(
                f"expected a cache of the denoiser's own new_cache, got {type(cache).__name__}"
            )
        if attention.features() != {"cache", "causal"}:
            raise ValueError(
                "a cache holds what was left of the tokens: it needs causal attention, without "
                f"document_ids, padding or positions; got {sorted(attention.features())}"
            )
        rows, more = tokens.shape
        if rows != cache.rows or cache.filled + more > cache.length:
            raise ValueError(
                f"a cache for {cache.rows} rows of {cache.length} positions, {cache.filled} of "
                f"them taken, has no room for {more} positions of {rows} rows"
            )
        return cache

    @property
    def filled(self) -> int:
        """Positions that it holds."""
        return self.blocks[0].filled

    @property
    def length(self) -> int:
        """Positions that it has room for."""
        return self.blocks[0].length

    def positions(self, tokens: Tensor) -> Tensor:
        """``[1, n]`` int64, those of the ``tokens [B, n]`` that follow."""
        end = self.filled + tokens.shape[1]
        return torch.arange(self.filled, end, device=tokens.device)[None]

    def mask(self, tokens: Tensor) -> Tensor | None:
        """``[1, 1, n, filled + n]`` bool: each of n more sees what was and those up to itself.

        None for a single one, which sees everything.
        """
        more = tokens.shape[1]
        if more == 1:
            return None
        allowed = torch.ones(more, self.filled + more, dtype=torch.bool, device=tokens.device)
        return allowed.tril(self.filled)[None, None]
