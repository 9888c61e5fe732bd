"""How documents become blocks of one length.

A packing has two halves. `frame` says which special ids surround each document on disk; all
packings with the same frame share one token store. `cut` lays blocks over the stored tokens and
returns an object that turns block numbers into a `Batch`. A new protocol (padded rows, one
document a row, …) is one more class with these two methods, and an entry in `PACKINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mdmkit.data.store import Frame, TokenStore
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.values import Batch, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor


class Cut(Protocol):
    """A store cut into N blocks."""

    @property
    def dropped(self) -> int:
        """Tokens of the store that are in no block."""

    def __len__(self) -> int:
        """N."""

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]`` int64 in [0, N)."""

    def documents(self, rows: Tensor) -> Tensor:
        """The document that each of these blocks begins in, ``[B]`` int64."""

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        """Bytes of the text behind each of these blocks, ``[B]`` float64."""


class PackingOptions(Protocol):
    """Options of a packing, for the table ``[data.packing]``."""

    def frame(self, vocab: Vocabulary) -> Frame:
        """What surrounds each document on disk.

        Raises:
            DataError: where the tokenizer has no such token.
        """

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:
        """Lay blocks of `length` tokens over `store`; there may be none.

        Raises:
            DataError: where the length or the tokenizer does not fit.
        """


@frozen(kw_only=True)
class Packed:
    """Documents one after the other, cut into blocks; the tail that fills none is dropped."""

    eos: bool = option(True, doc="put the tokenizer's EOS after each document")
    bos: bool = option(False, doc="put the tokenizer's BOS before each document")

    def frame(self, vocab: Vocabulary) -> Frame:
        """BOS before and EOS after each document, as asked."""
        return Frame(
            before=(_needed("bos", vocab.bos_id, "packed"),) if self.bos else (),
            after=(_needed("eos", vocab.eos_id, "packed"),) if self.eos else (),
        )

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:  # noqa: ARG002 - the contract
        """Blocks of `length` tokens."""
        return _Cut(
            pieces=_pieces(store, length),
            store=store,
            dropped=len(store.tokens) % length,
        )


@frozen(kw_only=True)
class Wrapped:
    """Blocks of ``[BOS] + (L − 2 tokens) + [EOS]``, as MDLM (arXiv 2406.07524) makes them.

    The L − 2 tokens are cut from the documents one after the other; the tail is dropped.
    """

    eos: bool = option(True, doc="also put EOS after each document, inside the blocks")

    def frame(self, vocab: Vocabulary) -> Frame:
        """EOS after each document, if asked."""
        return Frame(after=(_needed("eos", vocab.eos_id, "wrapped"),) if self.eos else ())

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:
        """Blocks of `length` tokens, two of which are BOS and EOS."""
        if length < 3:
            raise DataError(
                f"data.length: {length} leaves no room for text between BOS and EOS; the packing "
                '"wrapped" needs at least 3'
            )
        return _Cut(
            pieces=_pieces(store, length - 2),
            store=store,
            dropped=len(store.tokens) % (length - 2),
            first=_needed("bos", vocab.bos_id, "wrapped"),
            last=_needed("eos", vocab.eos_id, "wrapped"),
        )


PACKINGS: Mapping[str, type[Any]] = {"packed": Packed, "wrapped": Wrapped}
"""The closed catalogue: what ``use`` may say in ``[data.packing]``."""


@frozen(kw_only=True)
class _Cut:
    """Pieces of the store, ``[N, P]``, each the middle of a block.

    Attributes:
        pieces: a view of the memory-mapped tokens.
        store: what they are cut from.
        dropped: tokens after the last piece.
        first, last: ids around each piece, or None.
    """

    pieces: NDArray[Any]
    store: TokenStore
    dropped: int
    first: int | None = None
    last: int | None = None

    def __len__(self) -> int:
        return len(self.pieces)

    def batch(self, rows: Tensor) -> Batch:
        import torch

        left, right = int(self.first is not None), int(self.last is not None)
        width = self.pieces.shape[1]
        self.store.expect(self._first_places(rows), width)
        tokens = np.empty((len(rows), left + width + right), dtype=np.int64)  # [B, L]
        tokens[:, left : left + width] = np.take(self.pieces, rows.numpy(), axis=0)
        if self.first is not None:
            tokens[:, 0] = self.first
        if self.last is not None:
            tokens[:, -1] = self.last
        return Batch(tokens=torch.from_numpy(tokens), rows=rows)

    def documents(self, rows: Tensor) -> Tensor:
        import torch

        return torch.from_numpy(self.store.document_at(self._first_places(rows)))

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        import torch

        first = self._first_places(rows)
        return torch.from_numpy(self.store.bytes_between(first, first + self.pieces.shape[1]))

    def _first_places(self, rows: Tensor) -> NDArray[np.int64]:
        """Where in the store each block's first own token is."""
        places: NDArray[np.int64] = rows.numpy() * self.pieces.shape[1]
        return places


def _pieces(store: TokenStore, width: int) -> NDArray[Any]:
    count = len(store.tokens) // width
    return store.tokens[: count * width].reshape(count, width)


def _needed(role: str, token_id: int | None, packing: str) -> int:
    if token_id is None:
        raise DataError(
            f'data.packing: "{packing}" needs the {role} token, which the tokenizer does not '
            f"have; name one with data.tokenizer.{role}, or choose another packing or tokenizer"
        )
    return token_id
