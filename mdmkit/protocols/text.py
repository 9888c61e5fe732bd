"""Contracts of text: corpora, tokenizers, and blocks of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mdmkit.values import Batch, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "validation", "test"]


class Tokenizer(Protocol):
    """Text to ids and back.

    May also have ``unknown_id``, the id that text comes to for which there is no token: a judge of
    generated text refuses what its tokenizer does not know.
    """

    @property
    def vocab(self) -> Vocabulary:
        """Size and special ids."""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the tokenizer's definition."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text. Text that looks like a special token is encoded as plain text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens are kept, so that masks can be seen."""


class Corpus(Protocol):
    """Named splits of text documents.

    One that is made by a known process may also have ``masked_entropy(masked: int, length: int) ->
    float``: the exact mean conditional entropy, in nats, of a masked token, where a uniform subset
    of `masked` of the `length` tokens of a block is hidden and the others are seen. No network's
    cross-entropy is lower in expectation. It may suppose one token a symbol and ``packed`` blocks
    without EOS; its ``check`` then refuses recipes that have others.
    """

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of `split`, in an order that never changes.

        Raises:
            DataError: where the split cannot be had, naming the ways out.
        """

    def fingerprint(self, split: Split) -> str:
        """A hash that changes whenever the documents do (content, or pinned revision)."""

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Provenance as plain JSON: source, revision or sha256, licence where known."""


class BlockSource(Protocol):
    """A split, tokenized and cut into blocks of one length, read at random.

    May also have ``documents(rows)``: the number of the document that each block begins in,
    ``[B]`` int64; errors are then bootstrapped over documents instead of blocks. And
    ``utf8_bytes(rows)``: how many bytes of text each block holds, ``[B]`` float64 (a document's
    bytes are shared evenly among its tokens), for bits per byte.
    """

    def __len__(self) -> int:
        """Number of blocks N."""

    def batch(self, rows: Tensor) -> Batch:
        """The blocks with the numbers ``rows [B]`` int64 in [0, N)."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Corpus, split, revision, tokenizer, packing, blocks, tokens: plain JSON."""
