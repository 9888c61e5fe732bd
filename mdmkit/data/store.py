"""Tokens on disk: made once from a corpus, checked whenever they are opened, memory-mapped.

A store is a folder of four files: ``tokens.bin`` (the ids of all documents, one after the other,
in the smallest unsigned integer type that holds them), ``offsets.bin`` (where each document
begins, and the end; int64), ``utf8_bytes.bin`` (how many bytes of text come before each document,
and all of them; int64) and ``manifest.json`` (what it was made from, counts, sizes, sha256).
Its name is a hash of everything its content depends on, so it never goes stale.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mdmkit.data.cache import Notify, cache_key, ignore, locked, make_folder, unwritable
from mdmkit.data.hashed_file import DamagedError
from mdmkit.data.read_ahead import MappedFile
from mdmkit.data.token_files import OFFSETS, PROGRESS, TOKENS, UTF8_BYTES, Counts, checked
from mdmkit.data.tokenization import Frame, Watch, Work, lines
from mdmkit.errors import DataError
from mdmkit.files import sync_directory
from mdmkit.protocols import Corpus, Split, Tokenizer

__all__ = ["FORMAT", "Frame", "TokenStore", "open_store", "stores_folder"]

FORMAT = 3
"""Changes whenever the same text and options would give other files."""

_STALE_SECONDS = 24 * 3600.0


@frozen(kw_only=True)
class TokenStore:
    """The tokens of a split, on disk.

    Attributes:
        tokens: ``[N]`` unsigned, memory-mapped: all documents with what frames them.
        offsets: ``[documents + 1]`` int64, memory-mapped: document d is
            ``tokens[offsets[d]:offsets[d + 1]]``.
        utf8_bytes: ``[documents + 1]`` int64, memory-mapped: bytes of text before document d.
        frame: what surrounds each document.
        counts: how much it is.
        corpus_fingerprint, tokenizer_fingerprint: what it was made from.
        file: where the tokens are; None where they are in memory.
        folder: of the store; None where there is none.
    """

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    utf8_bytes: NDArray[np.int64]
    frame: Frame
    counts: Counts
    corpus_fingerprint: str
    tokenizer_fingerprint: str
    file: MappedFile | None = None
    folder: Path | None = None

    def expect(self, starts: NDArray[np.int64], width: int) -> None:
        """Have ``width`` tokens from each of the places ``starts [n]`` read from the disk.

        To be called with all of a batch before its tokens are copied: many requests at a time
        make a cold file tens of times faster.
        """
        if self.file is not None:
            self.file.expect(starts, width)

    def document_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The document that the tokens at ``places [n]`` belong to, ``[n]``."""
        return np.searchsorted(self.offsets, places, side="right") - 1

    def bytes_between(
        self, starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """UTF-8 bytes of the text behind the tokens from ``starts [n]`` to ``stops [n]``.

        Where a range ends inside a document, the document's bytes are spread evenly over its own
        tokens; what frames it holds none. Ranges that meet therefore add up to the whole text.

        Returns:
            ``[n]`` float64; exact where a range ends at no document's inside.
        """
        (whole_first, part_first), (whole_last, part_last) = (
            self._bytes_before(places) for places in (starts, stops)
        )
        return (whole_last - whole_first) + (part_last - part_first)

    def _bytes_before(
        self, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Bytes of the documents before ``places [n]``, and of the one that a place is in."""
        document = np.minimum(self.document_at(places), len(self.offsets) - 2)
        begin, end = self.offsets[document], self.offsets[document + 1]
        before = len(self.frame.before)
        own = end - begin - before - len(self.frame.after)
        into = np.clip(places - begin - before, 0, own)
        size = self.utf8_bytes[document + 1] - self.utf8_bytes[document]
        return self.utf8_bytes[document], into / np.maximum(own, 1) * size  # some have none


def stores_folder(root: Path) -> Path:
    """Where in the cache `root` the stores are.

    In it are ``<key>`` (a store), ``.work-<key>`` (one that is being made, or was when its process
    ended), ``.lock-<key>`` (held by who makes it) and ``.tmp-…`` (damaged ones, for a day).
    """
    return root / "tokens"


def open_store(
    corpus: Corpus,
    split: Split,
    tokenizer: Tokenizer,
    frame: Frame,
    *,
    root: Path,
    notify: Notify = ignore,
    watch: Watch | None = None,
    workers: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> TokenStore:
    """The tokens of `split`: from the cache, or made now and kept there.

    An attempt that was stopped at any moment is gone on with. Where another process makes the
    same store, it is waited for.

    Args:
        corpus, split, tokenizer: what is tokenized, and how.
        frame: what surrounds each document.
        root: the cache folder; the store is ``root/tokens/<key>``.
        notify: is told when tokens are made, and of damage.
        watch: is told of progress; by default `notify` is, now and then.
        workers: processes that tokenize; None for one a core. The result is the same.
        about: more to be written down about the store, for people.

    Raises:
        DataError: where the corpus cannot be read or the cache not written.
    """
    made_from = {
        "format": FORMAT,
        "corpus_fingerprint": corpus.fingerprint(split),
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "frame": {"before": list(frame.before), "after": list(frame.after)},
    }
    parent = make_folder(stores_folder(root))
    folder = parent / cache_key(made_from)
    with suppress(FileNotFoundError, DamagedError):
        return _read(folder, made_from)
    work = Work(
        made_from=made_from,
        about={"split": split, "corpus": dict(corpus.describe(split)), **(about or {})},
        documents=lambda: corpus.documents(split),
        tokenizer=tokenizer,
        frame=frame,
        workers=workers,
    )
    waiting = f"another process is tokenizing the {split} split; waiting for it"
    with locked(parent / f".lock-{folder.name}", notify, waiting):
        try:
            return _read(folder, made_from)  # another process may have made it
        except FileNotFoundError:
            pass
        except DamagedError as error:
            notify(f"{folder}: the cached tokens are damaged ({error}); making them again")
            _set_aside(folder)
        _sweep(parent)
        notify(f"tokenizing the {split} split")
        _make(work, folder, notify, watch or lines(notify))
        try:
            store = _read(folder, made_from)
        except (FileNotFoundError, DamagedError) as error:
            raise DataError(f"{folder}: was written but cannot be read back: {error}") from error
    notify(f"{store.counts.documents:,} documents, {store.counts.tokens:,} tokens in {folder}")
    return store


def _read(folder: Path, made_from: Mapping[str, Any]) -> TokenStore:
    """Open and verify a store; FileNotFoundError where there is none."""
    filled = checked(folder, made_from)
    tokens = MappedFile(folder / TOKENS, np.dtype(filled.dtype))
    return TokenStore(
        tokens=tokens.array,
        offsets=MappedFile(folder / OFFSETS, np.dtype("<i8")).array,
        utf8_bytes=MappedFile(folder / UTF8_BYTES, np.dtype("<i8")).array,
        file=tokens,
        folder=folder,
        frame=Frame(**{side: tuple(ids) for side, ids in made_from["frame"].items()}),
        counts=filled.counts,
        corpus_fingerprint=made_from["corpus_fingerprint"],
        tokenizer_fingerprint=made_from["tokenizer_fingerprint"],
    )


def _make(work: Work, folder: Path, notify: Notify, watch: Watch) -> None:
    """Fill a working folder, or one that was begun, and give it its name when it is whole."""
    begun = make_folder(folder.with_name(f".work-{folder.name}"))
    try:
        for torn in begun.glob(".tmp-*"):  # a small file that an earlier attempt was writing
            torn.unlink()
        work.fill(begun, notify, watch)
        sync_directory(begun)
        begun.rename(folder)
        sync_directory(folder.parent)
        (folder / PROGRESS).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        if not (begun / PROGRESS).exists():  # nothing to go on with
            shutil.rmtree(begun, ignore_errors=True)


def _set_aside(folder: Path) -> None:
    """Move a damaged store out of the way; it is removed with other leftovers after a day."""
    try:
        target = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        folder.rename(target / "damaged")
    except OSError as error:
        raise unwritable(folder, error) from error


def _sweep(parent: Path) -> None:
    """Remove what was set aside a day ago or earlier."""
    for leftover in parent.glob(".tmp-*"):
        with suppress(OSError):
            newest = max(p.stat().st_mtime for p in (leftover, *leftover.rglob("*")))
            if time.time() - newest > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
