"""Writes documents as flat token ids, offsets and byte counts, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdmkit.data.encoding import Encoded
from mdmkit.data.hashed_file import Content, HashedFile
from mdmkit.data.token_files import FILES, OFFSETS, TOKENS, UTF8_BYTES, Counts, token_dtype
from mdmkit.errors import DataError
from mdmkit.values import Vocabulary


class TokenWriter:
    """Appends encoded documents to a folder's files.

    Attributes:
        dtype: of the ids on disk.
        counts: what is written so far.
    """

    def __init__(
        self,
        folder: Path,
        vocab: Vocabulary,
        before: Sequence[int],
        after: Sequence[int],
        begun: tuple[Counts, Mapping[str, Content]] | None = None,
    ) -> None:
        """Begin anew in `folder`, or go on after what was `begun` there.

        Raises:
            DamagedError: where the files do not hold what was begun.
            DataError: where they cannot be written.
        """
        self.dtype = token_dtype(vocab.size)
        self._vocab, self._before, self._after = vocab, tuple(before), tuple(after)
        none = Counts(documents=0, tokens=0, utf8_bytes=0, without_tokens=0)
        self.counts, content = (none, dict.fromkeys(FILES)) if begun is None else begun
        with ExitStack() as stack:
            self._files = {name: HashedFile(folder / name, content[name]) for name in FILES}
            for file in self._files.values():
                stack.callback(file.close)
            if begun is None:
                for name in (OFFSETS, UTF8_BYTES):
                    self._files[name].write(np.zeros(1, dtype="<i8"))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, documents: Encoded) -> None:
        """Add documents, each with what frames it; where that is nothing at all, it is left out.

        Raises:
            DataError: an id that is no id, or the mask's; or a disk that takes no more.
        """
        self._check(documents)
        own = documents.lengths > 0
        kept = own | bool(self._before or self._after)
        framed, lengths = self._framed(documents.tokens, documents.lengths[kept])
        ends = self.counts.tokens + np.cumsum(lengths)
        sizes = self.counts.utf8_bytes + np.cumsum((documents.utf8_bytes * own)[kept])
        self._files[TOKENS].write(framed)
        self._files[OFFSETS].write(ends.astype("<i8"))
        self._files[UTF8_BYTES].write(sizes.astype("<i8"))
        self.counts = Counts(
            documents=self.counts.documents + len(ends),
            tokens=self.counts.tokens + len(framed),
            utf8_bytes=int(sizes[-1]) if len(sizes) else self.counts.utf8_bytes,
            without_tokens=self.counts.without_tokens + len(kept) - len(ends),
            empty=self.counts.empty + int((kept & ~own).sum()),
        )

    def sync(self) -> tuple[Counts, dict[str, Content]]:
        """Have everything on the disk, and say what it is."""
        return self.counts, {name: file.sync() for name, file in self._files.items()}

    def _framed(
        self, tokens: NDArray[Any], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Documents of ``lengths [d]`` in ``tokens [n]``, each with what frames it."""
        before, after = len(self._before), len(self._after)
        lengths = lengths + before + after
        ends = np.cumsum(lengths)
        framed = np.empty(len(tokens) + len(lengths) * (before + after), dtype=self.dtype)
        own = np.ones(len(framed), dtype=bool)
        for number, token in enumerate(self._before):
            places = ends - lengths + number
            framed[places], own[places] = token, False
        for number, token in enumerate(self._after):
            places = ends - after + number
            framed[places], own[places] = token, False
        framed[own] = tokens
        return framed, lengths

    def _check(self, documents: Encoded) -> None:
        tokens, size, mask_id = documents.tokens, self._vocab.size, self._vocab.mask_id
        if not tokens.size:
            return
        if tokens.min() < 0 or tokens.max() >= size:
            place = int(np.flatnonzero((tokens < 0) | (tokens >= size))[0])
            raise DataError(
                f"{self._document(documents, place)}: the tokenizer gave id {tokens[place]}; "
                f"expected ids from 0 to {size - 1}: the tokenizer's file does not fit its "
                "vocabulary"
            )
        places = np.flatnonzero(tokens == mask_id)
        if places.size:
            raise DataError(
                f"{self._document(documents, int(places[0]))}: its text is tokenized to the mask "
                f"(id {mask_id}); the mask must never come out of text: choose a mask token that "
                "the tokenizer does not find in plain text, for example "
                "data.tokenizer.mask = '<|mask|>' with add_mask = true"
            )

    def _document(self, documents: Encoded, place: int) -> str:
        """The document that an id is of, counted from 0 over the corpus."""
        number = int(np.searchsorted(np.cumsum(documents.lengths), place, side="right"))
        return f"document {self.counts.documents + self.counts.without_tokens + number}"
