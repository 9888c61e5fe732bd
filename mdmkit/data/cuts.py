"""Blocks laid over the tokens of a store: what packings are made of.

`Pieces` are windows of one width, one after the other; `Rows` are one document, or a part of one,
each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from attrs import Factory, frozen
from numpy.typing import NDArray

from mdmkit.data.store import TokenStore
from mdmkit.values import Batch

if TYPE_CHECKING:
    from torch import Tensor

Places = NDArray[np.int64]

_DOCUMENTS_AT_ONCE = 1 << 22  # bounds the memory of a look at all documents


class Cut(Protocol):
    """A store cut into N blocks."""

    @property
    def dropped(self) -> int:
        """Tokens of the store that are in no block."""

    @property
    def facts(self) -> Mapping[str, int]:
        """What else was counted, for the provenance."""

    def __len__(self) -> int:
        """N."""

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]`` int64 in [0, N)."""

    def documents(self, rows: Tensor) -> Tensor:
        """The document that each of these blocks begins in, ``[B]`` int64."""

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        """Bytes of the text behind each of these blocks, ``[B]`` float64."""


@frozen(kw_only=True)
class Pieces:
    """Blocks whose middle is `width` tokens of the store; the tail that fills none is dropped.

    Attributes:
        store: what they are cut from.
        width: tokens of the store in a block.
        first, last: ids around them in each block, or None.
        score_first: whether `first` may be masked and counts.
        apart: whether attention stays inside documents.
    """

    store: TokenStore
    width: int
    first: int | None = None
    last: int | None = None
    score_first: bool = True
    apart: bool = False
    facts: Mapping[str, int] = Factory(dict)

    @property
    def dropped(self) -> int:
        """Tokens after the last piece."""
        return len(self.store.tokens) % self.width

    def __len__(self) -> int:
        return len(self.store.tokens) // self.width

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]``."""
        import torch

        left, right = int(self.first is not None), int(self.last is not None)
        pieces = self.store.tokens[: len(self) * self.width].reshape(len(self), self.width)
        self.store.expect(self._begins(rows), self.width)
        tokens = np.empty((len(rows), left + self.width + right), dtype=np.int64)  # [B, L]
        tokens[:, left : left + self.width] = np.take(pieces, rows.numpy(), axis=0)
        if self.first is not None:
            tokens[:, 0] = self.first
        if self.last is not None:
            tokens[:, -1] = self.last
        maskable = None
        if not self.score_first:
            maskable = torch.ones(tokens.shape, dtype=torch.bool)
            maskable[:, 0] = False
        return Batch(
            tokens=torch.from_numpy(tokens),
            maskable=maskable,
            document_ids=torch.from_numpy(self._document_ids(rows)) if self.apart else None,
            rows=rows,
        )

    def documents(self, rows: Tensor) -> Tensor:
        """The document that each of the blocks begins in, ``[B]``."""
        import torch

        return torch.from_numpy(self.store.document_at(self._begins(rows)))

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        """Bytes of the text behind each of the blocks, ``[B]``."""
        import torch

        begins = self._begins(rows)
        return torch.from_numpy(self.store.bytes_between(begins, begins + self.width))

    def _begins(self, rows: Tensor) -> Places:
        """Where in the store each block's first own token is, ``[B]``."""
        places: Places = rows.numpy() * self.width
        return places

    def _document_ids(self, rows: Tensor) -> Places:
        """The document that each token is of, ``[B, width]``."""
        places = self._begins(rows)[:, None] + np.arange(self.width)
        return self.store.document_at(places.ravel()).reshape(places.shape)


@frozen(kw_only=True, slots=False)
class Rows:
    """Blocks of one document, or a part of one, each: ``[first] + text + [last] + padding``.

    Attributes:
        store: what they are cut from; its documents have no frame.
        length: L.
        pad: the id of padding.
        first, last: ids around the text in each block, or None.
        split: whether what does not fit of a document goes on in the next block, instead of being
            dropped.
        score_first: whether `first` may be masked and counts.
        padding_seen: see `Batch`.
    """

    store: TokenStore
    length: int
    pad: int
    first: int | None = None
    last: int | None = None
    split: bool = False
    score_first: bool = True
    padding_seen: bool = False

    @property
    def room(self) -> int:
        """Tokens of text that a block has room for."""
        return self.length - (self.first is not None) - (self.last is not None)

    @cached_property
    def facts(self) -> Mapping[str, int]:
        """Documents that are too long, and positions that hold padding."""
        long = sum(int((lengths > self.room).sum()) for lengths in self._lengths())
        kept = len(self.store.tokens) - self.dropped
        return {
            "split_documents" if self.split else "truncated_documents": long,
            "padding": len(self) * self.room - kept,
        }

    @cached_property
    def dropped(self) -> int:
        """Tokens of text after a document's block is full."""
        if self.split:
            return 0
        return sum(int((lengths - self.room).clip(min=0).sum()) for lengths in self._lengths())

    def __len__(self) -> int:
        return len(self.store.offsets) - 1 if self._rows is None else int(self._rows[-1])

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]``."""
        import torch

        begins, ends = self._span(rows)
        self.store.expect(begins, self.room)
        own, left = (ends - begins)[:, None], int(self.first is not None)  # [B, 1], tokens of text
        place = np.arange(self.length) - left  # [L], in the text; −1 is what stands before it
        where = np.minimum(begins[:, None] + place.clip(min=0), len(self.store.tokens) - 1)
        tokens = self.store.tokens[where].astype(np.int64)  # [B, L]
        tokens[place >= own] = self.pad
        if self.first is not None:
            tokens[:, 0] = self.first
        if self.last is not None:
            tokens[place == own] = self.last
        real = torch.from_numpy(place < own + (self.last is not None))
        maskable = None
        if not self.score_first:
            maskable = real.clone()
            maskable[:, 0] = False
        return Batch(
            tokens=torch.from_numpy(tokens),
            real=real,
            maskable=maskable,
            rows=rows,
            padding_seen=self.padding_seen,
        )

    def documents(self, rows: Tensor) -> Tensor:
        """The document that each of the blocks holds, ``[B]``."""
        import torch

        return torch.from_numpy(self._document(rows))

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        """Bytes of the text behind each of the blocks, ``[B]``."""
        import torch

        return torch.from_numpy(self.store.bytes_between(*self._span(rows)))

    @cached_property
    def _rows(self) -> Places | None:
        """``[documents + 1]``, the blocks before each document; None where each has one."""
        if not self.split:
            return None
        counts = [-(-lengths // self.room) for lengths in self._lengths()]
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(counts))])

    def _document(self, rows: Tensor) -> Places:
        if self._rows is None:
            return rows.numpy().astype(np.int64)
        return np.searchsorted(self._rows, rows.numpy(), side="right") - 1

    def _span(self, rows: Tensor) -> tuple[Places, Places]:
        """Where in the store the text of each block begins and ends, ``[B]`` each."""
        document = self._document(rows)
        begins, stops = self.store.offsets[document], self.store.offsets[document + 1]
        if self._rows is not None:
            begins = begins + (rows.numpy() - self._rows[document]) * self.room
        return begins, np.minimum(begins + self.room, stops)

    def _lengths(self) -> Iterator[Places]:
        """Tokens of each document, some documents at a time."""
        offsets = self.store.offsets
        for start in range(0, len(offsets) - 1, _DOCUMENTS_AT_ONCE):
            yield np.diff(offsets[start : start + _DOCUMENTS_AT_ONCE + 1])
