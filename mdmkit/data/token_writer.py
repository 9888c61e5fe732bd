"""Writes documents as flat token ids, offsets and byte counts, hashing them on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mdmkit.data.cache import unwritable
from mdmkit.errors import DataError
from mdmkit.files import sync_file
from mdmkit.values import Vocabulary

TOKENS = "tokens.bin"
OFFSETS = "offsets.bin"
UTF8_BYTES = "utf8_bytes.bin"


@frozen(kw_only=True)
class Counts:
    """How much text a store holds.

    Attributes:
        documents: those with at least one token of their own.
        tokens: all ids, the special ones around documents included.
        utf8_bytes: of the documents' text.
        without_tokens: documents of which the tokenizer made nothing; they are left out.
    """

    documents: int
    tokens: int
    utf8_bytes: int
    without_tokens: int


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned little-endian type that holds the ids below `vocab_size`.

    >>> token_dtype(256).itemsize, token_dtype(30522).itemsize, token_dtype(70000).itemsize
    (1, 2, 4)
    """
    return np.min_scalar_type(vocab_size - 1).newbyteorder("<")


class TokenWriter:
    """Appends encoded documents to a folder's files.

    Attributes:
        documents, tokens: written so far.
        dtype: of the ids on disk.
    """

    def __init__(
        self, folder: Path, vocab: Vocabulary, before: Sequence[int], after: Sequence[int]
    ) -> None:
        self.documents = 0
        self.tokens = 0
        self.dtype = token_dtype(vocab.size)
        self._vocab, self._before, self._after = vocab, tuple(before), tuple(after)
        self._utf8_bytes = self._without_tokens = 0
        self._tokens_file = _HashedFile(folder / TOKENS)
        self._offsets_file = _HashedFile(folder / OFFSETS)
        self._bytes_file = _HashedFile(folder / UTF8_BYTES)

    @property
    def _files(self) -> tuple[_HashedFile, ...]:
        return self._tokens_file, self._offsets_file, self._bytes_file

    def __enter__(self) -> Self:
        for file in (self._offsets_file, self._bytes_file):
            file.write(np.zeros(1, dtype="<i8"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.close()

    def append(self, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> None:
        """Add documents.

        Raises:
            DataError: an id that is no id, or the mask's; or a disk that takes no more.
        """
        kept = [ids for ids in encoded if ids]
        sizes = [len(t.encode()) for t, ids in zip(texts, encoded, strict=True) if ids]
        self._without_tokens += len(encoded) - len(kept)
        if not kept:
            return
        self._check(kept)
        parts = chain.from_iterable(chain(self._before, ids, self._after) for ids in kept)
        lengths = np.array([len(ids) for ids in kept], dtype="<i8")
        lengths += len(self._before) + len(self._after)
        ends = self.tokens + np.cumsum(lengths)
        self._tokens_file.write(np.fromiter(parts, dtype=self.dtype, count=int(lengths.sum())))
        self._offsets_file.write(ends.astype("<i8"))
        bytes_so_far = self._utf8_bytes + np.cumsum(sizes)
        self._bytes_file.write(bytes_so_far.astype("<i8"))
        self.documents += len(kept)
        self.tokens, self._utf8_bytes = int(ends[-1]), int(bytes_so_far[-1])

    def finish(self) -> tuple[Counts, dict[str, dict[str, Any]]]:
        """Have everything on the disk; the counts, and size and sha256 of each file.

        Raises:
            DataError: where there was nothing to write.
        """
        if not self.documents:
            raise DataError(
                "the corpus has no tokens: the tokenizer made nothing out of any document; "
                "expected text that it knows"
            )
        counts = Counts(
            documents=self.documents,
            tokens=self.tokens,
            utf8_bytes=self._utf8_bytes,
            without_tokens=self._without_tokens,
        )
        return counts, {f.path.name: f.seal() for f in self._files}

    def _check(self, kept: Sequence[Sequence[int]]) -> None:
        size, mask_id = self._vocab.size, self._vocab.mask_id
        for number, ids in enumerate(kept, start=self.documents):
            if min(ids) < 0 or max(ids) >= size:
                raise DataError(
                    f"document {number}: the tokenizer gave id {max(ids)} or {min(ids)}; expected "
                    f"ids from 0 to {size - 1}: the tokenizer's file does not fit its vocabulary"
                )
            if mask_id in ids:
                raise DataError(
                    f"document {number}: its text is tokenized to the mask (id {mask_id}); the "
                    "mask must never come out of text: choose a mask token that the tokenizer "
                    "does not find in plain text, for example data.tokenizer.mask = '<|mask|>' "
                    "with add_mask = true"
                )


class _HashedFile:
    """A file that is only appended to, with its size and sha256; errors name the way out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._bytes = 0
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, array: NDArray[Any]) -> None:
        content = array.tobytes()
        try:
            self._file.write(content)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._digest.update(content)
        self._bytes += len(content)

    def seal(self) -> dict[str, Any]:
        try:
            self._file.flush()
            sync_file(self.path)
        except OSError as error:
            raise unwritable(self.path, error) from error
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise unwritable(self.path, error) from error
