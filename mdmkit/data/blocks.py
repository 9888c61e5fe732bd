"""The data table of a recipe, made real: its tokenizer, and its splits as blocks ``[B, L]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.data.cache import Notify, cache_key, cache_root, ignore, make_folder, unwritable
from mdmkit.data.detokenizers import detokenized
from mdmkit.data.packing import PACKINGS, Cut, PackingOptions
from mdmkit.data.store import TokenStore, open_store
from mdmkit.data.text_tokenizer import TextTokenizer, load_tokenizer
from mdmkit.data.tokenization import Watch
from mdmkit.data.tokenizers import TOKENIZERS, TokenizerOptions
from mdmkit.errors import DataError
from mdmkit.protocols import BlockSource, Corpus, Split, Tokenizer
from mdmkit.values import Batch

_TRAINING_FORMAT = 1  # changes whenever the same options would train another tokenizer
_COUNTED_ROWS = 4096


class DataTable(Protocol):
    """What is needed of a recipe's table ``[data]``."""

    @property
    def length(self) -> int:
        """L, tokens a block."""

    @property
    def corpus(self) -> Corpus:
        """The text."""

    @property
    def detokenizer(self) -> str:
        """What is done to the text first: a name of `mdmkit.data.detokenizers`."""

    @property
    def tokenizer(self) -> TokenizerOptions:
        """How it is tokenized."""

    @property
    def packing(self) -> PackingOptions:
        """How it is cut into blocks."""


@frozen(kw_only=True)
class TokenBlocks:
    """A split, tokenized and cut into blocks: a `BlockSource`.

    Attributes:
        vocab_size: V.
        provenance: what the blocks are, as plain JSON.
        folder: where the tokens are on disk.
    """

    vocab_size: int
    provenance: Mapping[str, Any]
    folder: Path | None
    _cut: Cut

    def __len__(self) -> int:
        return len(self._cut)

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]`` int64 in [0, N).

        Raises:
            IndexError: a number that is no block's.
        """
        if rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            raise IndexError(f"there are the blocks 0 to {len(self) - 1}")
        return self._cut.batch(rows)

    def documents(self, rows: Tensor) -> Tensor:
        """The document that each of the blocks ``rows [B]`` begins in, ``[B]`` int64."""
        return self._cut.documents(rows)

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        """UTF-8 bytes of the text behind each of the blocks ``rows [B]``, ``[B]`` float64.

        A document that is in several blocks spreads its bytes evenly over its tokens; special
        tokens that a packing adds hold none.
        """
        return self._cut.utf8_bytes(rows)


def build_tokenizer(
    data: DataTable,
    notify: Notify = ignore,
    cache_dir: Path | None = None,
    *,
    splits: Sequence[Split] = ("train",),
) -> TextTokenizer:
    """The tokenizer of `data`; one that is trained on the corpus is kept for the next time.

    Args:
        data: the recipe's table.
        notify: is told when one is trained, and of damage in the cache.
        cache_dir: instead of ``MDMKIT_CACHE_DIR``.
        splits: that will be opened with it; what is missing of them is said at once.

    Raises:
        DataError: where it cannot be had.
    """
    if not data.tokenizer.trained:
        return _ready_made(data, splits)
    path = make_folder(cache_root(cache_dir) / "tokenizers") / f"{_tokenizer_key(data)}.json"
    if path.is_file():
        try:
            return load_tokenizer(path)
        except DataError as error:
            notify(f"the cached tokenizer is damaged ({error}); training it again")
    notify("training the tokenizer")
    tokenizer = data.tokenizer.build(_text(data))
    try:
        tokenizer.save(path)
    except OSError as error:
        raise unwritable(path, error) from error
    return tokenizer


def open_blocks(
    data: DataTable,
    split: Split,
    *,
    tokenizer: Tokenizer,
    notify: Notify = ignore,
    watch: Watch | None = None,
    workers: int | None = None,
    cache_dir: Path | None = None,
) -> TokenBlocks:
    """The blocks of a split, tokenizing it first where that was not done before.

    Args:
        data: the recipe's table.
        split: ``train``, ``validation`` or ``test``.
        tokenizer: of the run.
        notify: is told of what takes long, and of damage in the cache.
        watch: is told how far tokenization is; by default `notify` is, now and then.
        workers: processes that tokenize; None for one a core. The blocks are the same.
        cache_dir: instead of ``MDMKIT_CACHE_DIR``.

    Raises:
        DataError: where the corpus cannot be had, or is shorter than one block.
    """
    store = open_store(
        _text(data),
        split,
        tokenizer,
        data.packing.frame(tokenizer.vocab),
        root=cache_root(cache_dir),
        notify=notify,
        watch=watch,
        workers=workers,
        about={"tokenizer": _named(data.tokenizer, TOKENIZERS)},
    )
    cut = data.packing.cut(store, data.length, tokenizer.vocab)
    if len(cut) == 0:
        raise DataError(
            f"data.corpus: the {split} split is shorter than one block: "
            f"{store.counts.documents} documents have {store.counts.tokens} tokens, a block has "
            f"{data.length}; give more text or lower data.length"
        )
    return TokenBlocks(
        vocab_size=tokenizer.vocab.size,
        provenance=_provenance(data, split, store, cut),
        folder=store.folder,
        cut=cut,
    )


def token_counts(blocks: BlockSource, vocab_size: int | None = None) -> Tensor:
    """How often each id occurs in `blocks`.

    Args:
        blocks: all of them are read once.
        vocab_size: V; may be left out where the blocks know it (`TokenBlocks`).

    Returns:
        ``[V]`` float64.
    """
    size = blocks.vocab_size if isinstance(blocks, TokenBlocks) else vocab_size
    if size is None:
        raise ValueError("vocab_size is needed for blocks that do not know it")
    counts = np.zeros(size, dtype=np.int64)
    for start in range(0, len(blocks), _COUNTED_ROWS):
        batch = blocks.batch(torch.arange(start, min(start + _COUNTED_ROWS, len(blocks))))
        tokens = batch.tokens if batch.real is None else batch.tokens[batch.real]
        counts += np.bincount(tokens.numpy().ravel(), minlength=size)
    return torch.from_numpy(counts.astype(np.float64))


def _text(data: DataTable) -> Corpus:
    return detokenized(data.corpus, data.detokenizer)


def _ready_made(data: DataTable, splits: Sequence[Split]) -> TextTokenizer:
    """A tokenizer that needs no text; where the text is out of reach too, both are said at once."""
    problems: list[DataError] = []
    for split in splits:
        try:
            data.corpus.describe(split)  # finds the files without reading them
        except DataError as error:
            problems.append(error)
            break  # the others' problem is the same, as a rule
    try:
        tokenizer = data.tokenizer.build(data.corpus)
    except DataError as error:
        problems.append(error)
    if problems:
        raise DataError("\n".join(str(problem) for problem in problems)) from problems[0]
    return tokenizer


def _provenance(data: DataTable, split: Split, store: TokenStore, cut: Cut) -> dict[str, Any]:
    return {
        "corpus": dict(data.corpus.describe(split)),
        "detokenizer": data.detokenizer,
        "split": split,
        "corpus_fingerprint": store.corpus_fingerprint,
        "tokenizer_fingerprint": store.tokenizer_fingerprint,
        "packing": _named(data.packing, PACKINGS),
        "length": data.length,
        "blocks": len(cut),
        "tokens": store.counts.tokens,
        "documents": store.counts.documents,
        "documents_without_tokens": store.counts.without_tokens,
        "empty_documents": store.counts.empty,
        "dropped_tokens": cut.dropped,
        **cut.facts,
        "utf8_bytes": store.counts.utf8_bytes,
    }


def _named(options: Any, catalogue: Mapping[str, type[Any]]) -> dict[str, Any]:
    """The table that an options object stands for in a recipe."""
    name = next((n for n, kind in catalogue.items() if kind is type(options)), None)
    inside = {
        field.name: _named(value, catalogue)
        for field in attrs.fields(type(options))
        if type(value := getattr(options, field.name)) in catalogue.values()
    }
    return {"use": name or type(options).__qualname__} | attrs.asdict(options) | inside


def _tokenizer_key(data: DataTable) -> str:
    import tokenizers

    return cache_key(
        {
            "format": _TRAINING_FORMAT,
            "library": tokenizers.__version__,
            "corpus_fingerprint": _text(data).fingerprint("train"),
            "options": _named(data.tokenizer, TOKENIZERS),
        }
    )
