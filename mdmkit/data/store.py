"""Tokens on disk: made once from a corpus, checked whenever they are opened, memory-mapped.

A store is a folder of four files: ``tokens.bin`` (the ids of all documents, one after the other,
in the smallest unsigned integer type that holds them), ``offsets.bin`` (where each document
begins, and the end; int64), ``utf8_bytes.bin`` (how many bytes of text come before each document,
and all of them; int64) and ``manifest.json`` (what it was made from, counts, sizes, sha256).
Its name is a hash of everything its content depends on, so it never goes stale.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, frozen
from numpy.typing import NDArray

from mdmkit.data.cache import Notify, cache_key, ignore, make_folder, unwritable
from mdmkit.data.token_writer import OFFSETS, TOKENS, UTF8_BYTES, Counts, TokenWriter
from mdmkit.errors import DataError
from mdmkit.files import sha256_file, sync_directory, write_json
from mdmkit.protocols import Corpus, Split, Tokenizer

FORMAT = 2
"""Changes whenever the same text and options would give other files."""

_MANIFEST = "manifest.json"
_CHUNK_CHARACTERS = 1 << 20  # bounds the memory of tokenization, together with the next
_CHUNK_DOCUMENTS = 1 << 14
_SAY_EVERY = 5_000_000  # documents
_STALE_SECONDS = 24 * 3600.0


@frozen(kw_only=True)
class Frame:
    """The ids that a packing puts around each document: all that tokens on disk depend on it for.

    Attributes:
        before, after: special ids at the beginning and end of every document.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


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
    """

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    utf8_bytes: NDArray[np.int64]
    frame: Frame
    counts: Counts
    corpus_fingerprint: str
    tokenizer_fingerprint: str

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
        return self.utf8_bytes[document], into / own * size


class _DamagedError(Exception):
    """A store that is there but is not what it should be."""


def open_store(
    corpus: Corpus,
    split: Split,
    tokenizer: Tokenizer,
    frame: Frame,
    *,
    root: Path,
    notify: Notify = ignore,
) -> TokenStore:
    """The tokens of `split`: from the cache, or made now and kept there.

    Args:
        corpus, split, tokenizer: what is tokenized, and how.
        frame: what surrounds each document.
        root: the cache folder; the store is ``root/tokens/<key>``.
        notify: is told when tokens are made, and of damage.

    Raises:
        DataError: where the corpus cannot be read or the cache not written.
    """
    facts = {
        "format": FORMAT,
        "corpus_fingerprint": corpus.fingerprint(split),
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "frame": {"before": list(frame.before), "after": list(frame.after)},
    }
    parent = make_folder(root / "tokens")
    folder = parent / cache_key(facts)
    try:
        return _read(folder, facts)
    except FileNotFoundError:
        pass
    except _DamagedError as error:
        notify(f"{folder}: the cached tokens are damaged ({error}); making them again")
        _set_aside(folder)
    _sweep(parent)
    notify(f"tokenizing the {split} split")
    temporary = Path(_made_temporary(parent))
    try:
        _write(temporary, facts, corpus.documents(split), tokenizer, frame, notify)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already if it was published
    try:
        store = _read(folder, facts)
    except (FileNotFoundError, _DamagedError) as error:
        raise DataError(f"{folder}: was written but cannot be read back: {error}") from error
    notify(f"{store.counts.documents:,} documents, {store.counts.tokens:,} tokens in {folder}")
    return store


# --- reading -------------------------------------------------------------------------------


def _read(folder: Path, facts: dict[str, Any]) -> TokenStore:
    """Open and verify a store; FileNotFoundError where there is none."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["made_from"] != facts:
            raise _DamagedError("its manifest is of other tokens")
        counts = Counts(**manifest["counts"])
        dtype = np.dtype(manifest["dtype"])
        for name, expected in manifest["files"].items():
            _verify(folder / name, expected)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(f"{type(error).__name__}: {error}") from error
    return TokenStore(
        tokens=_mapped(folder / TOKENS, dtype),
        offsets=_mapped(folder / OFFSETS, np.dtype("<i8")),
        utf8_bytes=_mapped(folder / UTF8_BYTES, np.dtype("<i8")),
        frame=Frame(**{side: tuple(ids) for side, ids in facts["frame"].items()}),
        counts=counts,
        corpus_fingerprint=facts["corpus_fingerprint"],
        tokenizer_fingerprint=facts["tokenizer_fingerprint"],
    )


def _verify(path: Path, expected: dict[str, Any]) -> None:
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise _DamagedError(f"{path.name} has {size} bytes, expected {expected['bytes']}")
    if sha256_file(path) != expected["sha256"]:
        raise _DamagedError(f"the content of {path.name} has changed")


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    # The plain array type: fancy indexing of np.memmap itself makes a memmap object each time.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))


# --- writing -------------------------------------------------------------------------------


def _write(
    folder: Path,
    facts: dict[str, Any],
    documents: Iterable[str],
    tokenizer: Tokenizer,
    frame: Frame,
    notify: Notify,
) -> None:
    with TokenWriter(folder, tokenizer.vocab, frame.before, frame.after) as writer:
        said = 0
        for texts in _chunks(documents):
            writer.append(texts, tokenizer.encode_batch(texts))
            if writer.documents - said >= _SAY_EVERY:
                said = writer.documents
                notify(f"  {writer.documents:,} documents, {writer.tokens:,} tokens so far")
        counts, files = writer.finish()
    manifest = {
        "made_from": facts,
        "dtype": writer.dtype.str,
        "counts": asdict(counts),
        "files": files,
    }
    try:
        write_json(folder / _MANIFEST, manifest)
    except OSError as error:
        raise unwritable(folder, error) from error


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of bounded size, so that memory does not grow with the corpus."""
    chunk: list[str] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document)
        if characters >= _CHUNK_CHARACTERS or len(chunk) >= _CHUNK_DOCUMENTS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _made_temporary(parent: Path) -> str:
    try:
        return tempfile.mkdtemp(prefix=".tmp-", dir=parent)
    except OSError as error:
        raise unwritable(parent, error) from error


def _publish(temporary: Path, folder: Path) -> None:
    """Give the store its name. If another process was faster, its store is as good as ours."""
    temporary.chmod(0o755)
    sync_directory(temporary)
    try:
        temporary.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise unwritable(folder, error) from error
    sync_directory(folder.parent)


def _set_aside(folder: Path) -> None:
    """Move a damaged store out of the way; it is removed with other leftovers after a day."""
    target = Path(_made_temporary(folder.parent)) / "damaged"
    with suppress(FileNotFoundError):  # another process did it
        folder.rename(target)


def _sweep(parent: Path) -> None:
    """Remove what was left behind a day ago or earlier by processes that were killed."""
    for leftover in parent.glob(".tmp-*"):
        with suppress(OSError):
            newest = max(p.stat().st_mtime for p in (leftover, *leftover.rglob("*")))
            if time.time() - newest > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
