from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve

from mdmkit import DataError
from mdmkit.data import read_ahead
from mdmkit.data.packing import PACKINGS, Packed, Wrapped
from mdmkit.data.read_ahead import MappedFile
from mdmkit.data.store import Frame, TokenStore
from mdmkit.data.token_writer import Counts
from mdmkit.values import Vocabulary

VOCAB = Vocabulary(size=100, mask_id=99, bos_id=1, eos_id=2)


def store(documents: list[list[int]], frame: Frame) -> TokenStore:
    framed = [[*frame.before, *ids, *frame.after] for ids in documents]
    tokens = np.array([i for ids in framed for i in ids], dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, framed)])
    sizes = np.cumsum([0, *(10 * len(ids) for ids in documents)])  # ten bytes a token
    counts = Counts(
        documents=len(documents), tokens=len(tokens), utf8_bytes=int(sizes[-1]), without_tokens=0
    )
    return TokenStore(
        tokens=tokens,
        offsets=offsets,
        utf8_bytes=sizes,
        frame=frame,
        counts=counts,
        corpus_fingerprint="c",
        tokenizer_fingerprint="t",
    )


DOCUMENTS = [[10, 11, 12], [20], [30, 31, 32, 33]]


def cut(packing: Any, length: int) -> tuple[list[list[int]], int]:
    blocks = packing.cut(store(DOCUMENTS, packing.frame(VOCAB)), length, VOCAB)
    rows = torch.arange(len(blocks))
    return blocks.batch(rows).tokens.tolist(), blocks.dropped


def test_packed() -> None:
    blocks = [[10, 11, 12, 2], [20, 2, 30, 31]]
    assert cut(Packed(), 4) == (blocks, 3)
    assert cut(Packed(eos=False), 4) == ([[10, 11, 12, 20], [30, 31, 32, 33]], 0)
    assert cut(Packed(bos=True), 7) == ([[1, 10, 11, 12, 2, 1, 20], [2, 1, 30, 31, 32, 33, 2]], 0)


def test_wrapped() -> None:
    assert cut(Wrapped(), 5) == ([[1, 10, 11, 12, 2], [1, 2, 20, 2, 2], [1, 30, 31, 32, 2]], 2)
    assert cut(Wrapped(eos=False), 6) == ([[1, 10, 11, 12, 20, 2], [1, 30, 31, 32, 33, 2]], 0)


def test_a_batch_has_the_rows_asked_for_in_that_order() -> None:
    blocks = Packed().cut(store(DOCUMENTS, Frame(after=(2,))), 3, VOCAB)
    batch = blocks.batch(torch.tensor([2, 0, 2]))
    assert batch.tokens.dtype == torch.int64
    assert batch.tokens.tolist() == [[30, 31, 32], [10, 11, 12], [30, 31, 32]]
    assert batch.rows is not None
    assert batch.rows.tolist() == [2, 0, 2]
    assert batch.real is None
    assert batch.maskable is None
    assert bool(batch.scored().all())


def utf8_bytes(packing: Any, length: int) -> list[float]:
    blocks = packing.cut(store(DOCUMENTS, packing.frame(VOCAB)), length, VOCAB)
    found = blocks.utf8_bytes(torch.arange(len(blocks)))
    assert found.dtype == torch.float64
    return found.tolist()


def test_bytes_are_those_of_text_and_special_tokens_have_none() -> None:
    assert utf8_bytes(Packed(), 4) == [30, 30]
    assert utf8_bytes(Packed(eos=False), 4) == [40, 40]
    assert utf8_bytes(Packed(bos=True), 7) == [40, 40]
    assert utf8_bytes(Packed(bos=True), 2) == [10, 20, 0, 10, 10, 20, 10]
    assert utf8_bytes(Wrapped(), 5) == [30, 10, 30]
    assert utf8_bytes(Wrapped(eos=False), 6) == [40, 40]


def test_too_few_tokens_are_no_blocks() -> None:
    assert cut(Packed(), 12) == ([], 11)


@pytest.mark.parametrize(
    ("packing", "role"),
    [(Packed(), "eos"), (Packed(eos=False, bos=True), "bos"), (Wrapped(), "eos")],
)
def test_a_frame_without_its_token(packing: Any, role: str) -> None:
    bare = Vocabulary(size=100, mask_id=99)
    with pytest.raises(DataError, match=rf"needs the {role} token.*data\.tokenizer\.{role}"):
        packing.frame(bare)


def test_wrapping_needs_both_tokens_and_room() -> None:
    for lacking in ("bos", "eos"):
        vocab = evolve(VOCAB, **{f"{lacking}_id": None})
        with pytest.raises(DataError, match=f'"wrapped" needs the {lacking} token'):
            Wrapped(eos=False).cut(store(DOCUMENTS, Frame()), 5, vocab)
    with pytest.raises(DataError, match=r"data\.length: 2 leaves no room.*at least 3"):
        Wrapped().cut(store(DOCUMENTS, Frame()), 2, VOCAB)


def test_the_catalogue() -> None:
    assert dict(PACKINGS) == {"packed": Packed, "wrapped": Wrapped}


@pytest.mark.parametrize("memory", [0, 1 << 40])
def test_what_a_batch_reads_is_asked_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(read_ahead, "_EXTENT", 64)
    path = tmp_path / "tokens"
    np.arange(1000, dtype="<u2").tofile(path)
    file = MappedFile(path, np.dtype("<u2"), memory=memory)
    asked: list[tuple[int, int]] = []
    advise = read_ahead.os.posix_fadvise

    def noted(descriptor: int, start: int, size: int, advice: int) -> None:
        advise(descriptor, start, size, advice)
        asked.append((start, size))

    monkeypatch.setattr(read_ahead.os, "posix_fadvise", noted)
    cut = Packed().cut(evolve(store(DOCUMENTS, Frame()), tokens=file.array, file=file), 10, VOCAB)
    for _ in range(2):
        batch = cut.batch(torch.tensor([3, 99, 6]))
        assert batch.tokens[:, 0].tolist() == [30, 990, 60]
    if memory:  # bytes 60 to 80, 1980 to 2000 and 120 to 140; each extent is asked for once
        assert asked == [(0, 64), (64, 64), (128, 64), (1920, 64), (1984, 64)]
    else:
        assert asked == [(60, 20), (1980, 20), (120, 20)] * 2
