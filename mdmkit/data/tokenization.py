"""Fills a folder with the tokens of a corpus, and goes on with it after it was stopped at any time.

While a folder is being filled, ``progress.json`` says how much of its files was safely on the disk
at some moment. A later start checks that much, cuts off the rest and skips the documents it is of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit.data.cache import Notify, unwritable
from mdmkit.data.encoding import encoded
from mdmkit.data.hashed_file import DamagedError
from mdmkit.data.token_files import MANIFEST, PROGRESS, Counts, Filled
from mdmkit.data.token_writer import TokenWriter
from mdmkit.errors import DataError
from mdmkit.protocols import Tokenizer

_SAY_SECONDS = 10.0
_RECORD_SECONDS = 10.0  # at most so much work is lost


@frozen(kw_only=True)
class Frame:
    """The ids that a packing puts around each document: all that tokens on disk depend on it for.

    Attributes:
        before, after: special ids at the beginning and end of every document.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


@frozen(kw_only=True)
class Progress:
    """How far tokenization is.

    Attributes:
        counts: what is written, by earlier attempts too.
        seconds: since this attempt began to tokenize.
        bytes_per_second: of text, in this attempt.
    """

    counts: Counts
    seconds: float
    bytes_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.counts.documents:,} documents, {self.counts.tokens:,} tokens, "
            f"{self.bytes_per_second / 1e6:.1f} MB/s"
        )


Watch = Callable[[Progress], None]
"""Is told of progress, often."""


def lines(notify: Notify) -> Watch:
    """Progress as a line now and then, for logs."""
    said = time.monotonic()

    def watch(progress: Progress) -> None:
        nonlocal said
        if time.monotonic() - said >= _SAY_SECONDS:
            said = time.monotonic()
            notify(f"  {progress} so far")

    return watch


@frozen(kw_only=True)
class Work:
    """What is to be tokenized.

    Attributes:
        made_from: all that the tokens depend on.
        about: what that is, for people.
        documents: begins to read the corpus.
        tokenizer, frame: how each document becomes ids.
        workers: as in `mdmkit.data.encoding.encoded`.
    """

    made_from: Mapping[str, Any]
    about: Mapping[str, Any]
    documents: Callable[[], Iterable[str]]
    tokenizer: Tokenizer
    frame: Frame
    workers: int | None

    def fill(self, folder: Path, notify: Notify, watch: Watch) -> None:
        """Make `folder` a whole store, from whatever state it is in.

        Raises:
            DataError: where the corpus, the tokenizer or the disk has a problem; what is safely
                on the disk by then stays there for the next attempt.
        """
        with self._writer(folder, notify) as writer:
            started, before = time.monotonic(), writer.counts.utf8_bytes
            recorded = started
            for part in encoded(self._left(writer.counts, folder), self.tokenizer, self.workers):
                writer.append(part)
                now = time.monotonic()
                seconds = now - started
                speed = (writer.counts.utf8_bytes - before) / max(seconds, 1e-9)
                watch(Progress(counts=writer.counts, seconds=seconds, bytes_per_second=speed))
                if now - recorded >= _RECORD_SECONDS:
                    self._record(writer, folder / PROGRESS)
                    recorded = time.monotonic()
            if writer.counts.documents == writer.counts.empty:
                raise DataError(
                    "the corpus has no tokens: the tokenizer made nothing out of any document; "
                    "expected text that it knows"
                )
            self._record(writer, folder / MANIFEST)

    def _writer(self, folder: Path, notify: Notify) -> TokenWriter:
        """The writer of `folder`: after what was done there before, if that is as it was."""
        frame = self.frame.before, self.frame.after
        if (folder / PROGRESS).exists():
            try:
                begun = Filled.read(folder / PROGRESS)
                if begun.made_from != self.made_from:
                    raise DamagedError("it is of other tokens")
                state = begun.counts, begun.files
                writer = TokenWriter(folder, self.tokenizer.vocab, *frame, state)
            except (DamagedError, OSError) as error:
                notify(f"{folder}: cannot go on from here ({error}); starting over")
                (folder / PROGRESS).unlink(missing_ok=True)
            else:
                done = begun.counts.documents + begun.counts.without_tokens
                notify(f"going on after {done:,} documents that were tokenized before")
                return writer
        return TokenWriter(folder, self.tokenizer.vocab, *frame)

    def _left(self, counts: Counts, folder: Path) -> Iterator[str]:
        """The documents that are still to be tokenized."""
        done = counts.documents + counts.without_tokens
        documents = iter(self.documents())
        found = sum(1 for _ in islice(documents, done))
        if found < done:
            raise DataError(
                f"{folder}: {done} documents were tokenized here before, but the corpus now has "
                f"{found}, under the same fingerprint; remove this folder to start over"
            )
        return documents

    def _record(self, writer: TokenWriter, path: Path) -> None:
        """Have all of it on the disk, and write down at `path` how much that is."""
        counts, files = writer.sync()
        filled = Filled(
            made_from=self.made_from,
            about=self.about,
            dtype=writer.dtype.str,
            counts=counts,
            files=files,
        )
        try:
            filled.write(path)
        except OSError as error:
            raise unwritable(path, error) from error
