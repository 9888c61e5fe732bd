from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve

from mdmkit import DataError
from mdmkit.data import read_ahead
from mdmkit.data.packing import PACKINGS, Document, Packed, Padded, Rearranged, Thinned, Wrapped
from mdmkit.data.read_ahead import MappedFile
from mdmkit.data.store import Frame, TokenStore
from mdmkit.data.token_writer import Counts
from mdmkit.values import Vocabulary

VOCAB = Vocabulary(size=100, mask_id=99, bos_id=1, eos_id=2, pad_id=9)


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
    assert dict(PACKINGS) == {
        "packed": Packed,
        "wrapped": Wrapped,
        "padded": Padded,
        "document": Document,
        "rearranged": Rearranged,
        "thinned": Thinned,
    }


# --- what may be scored, what attention sees


def batch(packing: Any, length: int, vocab: Vocabulary = VOCAB) -> Any:
    blocks = packing.cut(store(DOCUMENTS, packing.frame(vocab)), length, vocab)
    return blocks.batch(torch.arange(len(blocks)))


def test_wrapped_without_scoring_bos() -> None:
    found = batch(Wrapped(score_bos=False), 5)
    assert found.tokens.tolist() == batch(Wrapped(), 5).tokens.tolist()
    assert found.scored().tolist() == [[False, True, True, True, True]] * 3
    assert found.real is None
    assert batch(Wrapped(), 5).maskable is None


def test_wrapped_with_bos_where_eos_should_be() -> None:
    blocks = [[1, 10, 11, 12, 1], [1, 1, 20, 1, 1], [1, 30, 31, 32, 1]]
    assert cut(Wrapped(separator="bos"), 5) == (blocks, 2)
    without_eos = evolve(VOCAB, eos_id=None)
    assert Wrapped(separator="bos").frame(without_eos) == Frame(after=(1,))


def test_documents_are_told_apart() -> None:
    found = batch(Document(), 4)
    assert found.tokens.tolist() == [[10, 11, 12, 2], [20, 2, 30, 31]]
    assert found.document_ids.tolist() == [[0, 0, 0, 0], [1, 1, 2, 2]]
    assert found.document_ids.dtype == torch.int64
    assert found.attention().features() == Document().needs
    framed = batch(Document(bos=True, eos=False), 3)
    assert framed.tokens.tolist() == [[1, 10, 11], [12, 1, 20], [1, 30, 31]]
    assert framed.document_ids.tolist() == [[0, 0, 0], [0, 1, 1], [2, 2, 2]]
    assert cut(Document(), 4)[1] == 3


PADDED: list[tuple[Padded, int, list[list[int]], list[int], dict[str, int]]] = [
    (  # truncated: one token of the last document
        Padded(),
        5,
        [[1, 10, 11, 12, 2], [1, 20, 2, 9, 9], [1, 30, 31, 32, 2]],
        [5, 3, 5],
        {"truncated_documents": 1, "padding": 2},
    ),
    (
        Padded(overflow="split"),
        4,
        [[1, 10, 11, 2], [1, 12, 2, 9], [1, 20, 2, 9], [1, 30, 31, 2], [1, 32, 33, 2]],
        [4, 3, 3, 4, 4],
        {"split_documents": 2, "padding": 2},
    ),
    (
        Padded(bos=False, eos=False),
        3,
        [[10, 11, 12], [20, 9, 9], [30, 31, 32]],
        [3, 1, 3],
        {"truncated_documents": 1, "padding": 2},
    ),
    (
        Padded(bos=False, eos=False, overflow="split"),
        3,
        [[10, 11, 12], [20, 9, 9], [30, 31, 32], [33, 9, 9]],
        [3, 1, 3, 1],
        {"split_documents": 1, "padding": 4},
    ),
    (
        Padded(eos=False),
        6,
        [[1, 10, 11, 12, 9, 9], [1, 20, 9, 9, 9, 9], [1, 30, 31, 32, 33, 9]],
        [4, 2, 5],
        {"truncated_documents": 0, "padding": 7},
    ),
    (
        Padded(bos=False),
        6,
        [[10, 11, 12, 2, 9, 9], [20, 2, 9, 9, 9, 9], [30, 31, 32, 33, 2, 9]],
        [4, 2, 5],
        {"truncated_documents": 0, "padding": 7},
    ),
]


@pytest.mark.parametrize(("packing", "length", "rows", "real", "facts"), PADDED)
def test_padded(packing: Padded, length: int, rows: Any, real: Any, facts: Any) -> None:
    found = batch(packing, length)
    assert found.tokens.tolist() == rows
    assert found.real.tolist() == [[i < n for i in range(length)] for n in real]
    assert found.scored().tolist() == found.real.tolist()
    assert found.attention().features() == packing.needs == {"padding"}
    blocks = packing.cut(store(DOCUMENTS, packing.frame(VOCAB)), length, VOCAB)
    assert dict(blocks.facts) == facts
    assert facts["padding"] == sum(length - n for n in real)


def test_padded_without_scoring_bos() -> None:
    found = batch(Padded(score_bos=False), 5)
    assert found.scored().tolist() == (found.real & (torch.arange(5) > 0)).tolist()
    assert batch(Padded(score_bos=False, bos=False), 5).maskable is None  # there is none


def test_padding_that_is_seen() -> None:
    packing = Padded(attend_padding=True)
    found = batch(packing, 5)
    assert found.attention().features() == packing.needs == frozenset()
    assert found.scored().tolist() == batch(Padded(), 5).scored().tolist()
    assert found.padding_seen
    bare = evolve(VOCAB, pad_id=None)
    with pytest.raises(DataError, match='"padded" needs the pad token'):
        batch(packing, 5, bare)
    # Where nobody sees it, what begins a text stands there.
    assert batch(Padded(), 5, bare).tokens.tolist()[1] == [1, 20, 2, 1, 1]


def test_padded_rows_in_any_order() -> None:
    packing = Padded(overflow="split")
    blocks = packing.cut(store(DOCUMENTS, Frame()), 4, VOCAB)
    order = torch.tensor([4, 1, 2, 1])
    assert torch.equal(blocks.batch(order).tokens, batch(packing, 4).tokens[order])
    assert blocks.documents(order).tolist() == [2, 0, 1, 0]
    assert Padded().cut(store(DOCUMENTS, Frame()), 4, VOCAB).documents(
        torch.tensor([2, 0])
    ).tolist() == [2, 0]


def test_many_documents_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(packing: Padded) -> Any:
        blocks = packing.cut(store(DOCUMENTS, Frame()), 4, VOCAB)
        every = blocks.batch(torch.arange(len(blocks))).tokens.tolist()
        return len(blocks), blocks.dropped, dict(blocks.facts), every

    packings = [Padded(), Padded(overflow="split")]
    whole = [facts(packing) for packing in packings]
    monkeypatch.setattr("mdmkit.data.cuts._DOCUMENTS_AT_ONCE", 2)
    assert [facts(packing) for packing in packings] == whole


def test_bytes_of_padded_blocks() -> None:
    assert utf8_bytes(Padded(), 5) == [30, 10, 30]
    assert utf8_bytes(Padded(overflow="split"), 4) == [20, 10, 10, 20, 20]
    assert utf8_bytes(Document(), 4) == [30, 30]


@pytest.mark.parametrize(
    "packing",
    [
        *(kind(eos=e, bos=b) for kind in (Packed, Document) for e in (0, 1) for b in (0, 1)),
        *(Wrapped(eos=e, separator=s) for e in (0, 1) for s in ("eos", "bos")),
        *(
            Padded(eos=e, bos=b, overflow=o)
            for e in (0, 1)
            for b in (0, 1)
            for o in ("truncate", "split")
        ),
    ],
)
def test_every_token_is_in_one_block_or_dropped(packing: Any) -> None:
    draw = np.random.default_rng(0)
    ids = iter(range(10, 99))
    documents = [[next(ids) for _ in range(draw.integers(1, 9))] for _ in range(18)]
    for length in (3, 5, 7):
        blocks = packing.cut(store(documents, packing.frame(VOCAB)), length, VOCAB)
        batch = blocks.batch(torch.arange(len(blocks)))
        assert batch.tokens.shape[-1] == length
        text = [i for i in batch.tokens[batch.scored()].tolist() if i >= 10]
        assert text == sorted(set(text))  # in order, each once
        framed = packing.frame(VOCAB)
        stored = sum(map(len, documents)) + 18 * (len(framed.before) + len(framed.after))
        of_store = stored - blocks.dropped
        added = len(blocks) * (2 if isinstance(packing, Wrapped) else 0)
        if isinstance(packing, Padded):
            added = len(blocks) * (packing.bos + packing.eos)
        assert int(batch.scored().sum()) == of_store + added


@pytest.mark.parametrize(("packing", "least"), [(Padded(), 3), (Padded(bos=False), 2)])
def test_padding_needs_room(packing: Padded, least: int) -> None:
    with pytest.raises(DataError, match=f'leaves no room.*"padded" needs at least {least}'):
        batch(packing, least - 1)
    assert batch(packing, least).tokens.shape == (3, least)


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


def test_a_padded_row_may_ask_past_the_end(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    np.arange(1000, dtype="<u2").tofile(path)
    file = MappedFile(path, np.dtype("<u2"), memory=1 << 40)
    plain = store([[7] * 990, [7] * 10], Frame())
    cut = Padded().cut(evolve(plain, tokens=file.array, file=file), 100_000, VOCAB)
    assert cut.batch(torch.tensor([1])).tokens[0, 1:11].tolist() == list(range(990, 1000))
