from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdmkit import DataError
from mdmkit.builtin.corpora import Lm1b
from mdmkit.data.blocks import build_tokenizer, open_blocks, token_counts
from mdmkit.data.packing import Wrapped
from mdmkit.data.tokenizers import Bert, Bpe
from mdmkit.values import Batch


def test_from_corpus_to_blocks(table: Any, corpus: Any) -> None:
    data = table(length=16, corpus=corpus)
    tokenizer = build_tokenizer(data)
    blocks = open_blocks(data, "train", tokenizer=tokenizer)
    text = tokenizer.decode(blocks.batch(torch.arange(len(blocks))).tokens.ravel().tolist())
    whole = "".join(f"{t}<|endoftext|>" for t in corpus.train)
    assert whole.startswith(text)
    assert len(whole) - len(text) < 16 * 20


def test_provenance_says_what_it_is(table: Any, corpus: Any) -> None:
    data = table(length=16, corpus=corpus, packing=Wrapped())
    tokenizer = build_tokenizer(data)
    blocks = open_blocks(data, "validation", tokenizer=tokenizer)
    facts = dict(blocks.provenance)
    tokens = sum(len(ids) + 1 for ids in tokenizer.encode_batch(corpus.validation))
    assert facts == {
        "corpus": {"source": "a list", "split": "validation"},
        "detokenizer": "none",
        "split": "validation",
        "corpus_fingerprint": "1-validation",
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "packing": {"use": "wrapped", "eos": True, "score_bos": True, "separator": "eos"},
        "length": 16,
        "blocks": len(blocks),
        "tokens": tokens,
        "documents": 20,
        "documents_without_tokens": 0,
        "empty_documents": 0,
        "dropped_tokens": tokens - 14 * len(blocks),
        "utf8_bytes": sum(len(t) for t in corpus.validation),
    }


def test_a_trained_tokenizer_is_kept(table: Any, corpus: Any, cache: Path) -> None:
    notes: list[str] = []
    data = table(corpus=corpus)
    first = build_tokenizer(data, notes.append)
    assert notes == ["training the tokenizer"]
    again = build_tokenizer(data, notes.append)
    assert (again.fingerprint, again.vocab) == (first.fingerprint, first.vocab)
    assert notes == ["training the tokenizer"]
    assert build_tokenizer(table(corpus=corpus, tokenizer=Bpe(vocab_size=281))).vocab.size == 281
    assert len(list((cache / "tokenizers").glob("*.special.json"))) == 2


def test_a_damaged_tokenizer_is_trained_again(table: Any, corpus: Any, cache: Path) -> None:
    data = table(corpus=corpus)
    first = build_tokenizer(data)
    (saved,) = (p for p in (cache / "tokenizers").iterdir() if "special" not in p.name)
    saved.write_text(saved.read_text()[:100])
    notes: list[str] = []
    assert build_tokenizer(data, notes.append).fingerprint == first.fingerprint
    assert "damaged" in notes[0]


def test_all_that_is_out_of_reach_is_said_at_once(
    table: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    with pytest.raises(DataError) as caught:
        build_tokenizer(table(corpus=Lm1b(), tokenizer=Bert()))
    corpus, tokenizer = str(caught.value).split("\n")
    assert "--set data.corpus.path=" in corpus
    assert "--set data.tokenizer.path=" in tokenizer


def test_another_cache_folder(table: Any, corpus: Any, tmp_path: Path, cache: Path) -> None:
    data = table(corpus=corpus)
    tokenizer = build_tokenizer(data, cache_dir=tmp_path / "other")
    open_blocks(data, "train", tokenizer=tokenizer, cache_dir=tmp_path / "other")
    assert {p.name for p in (tmp_path / "other").iterdir()} == {"tokens", "tokenizers"}
    assert not cache.exists()


def test_a_corpus_shorter_than_one_block(table: Any, listed: Any, corpus: Any) -> None:
    tokenizer = build_tokenizer(table(corpus=corpus))
    small = table(length=64, corpus=listed(validation=["a", "b"]))
    with pytest.raises(
        DataError,
        match=r"validation split is shorter than one block: 2 documents have 4 tokens, a block "
        r"has 64; give more text or lower data\.length",
    ):
        open_blocks(small, "validation", tokenizer=tokenizer)


def test_blocks_that_do_not_exist(table: Any, corpus: Any) -> None:
    data = table(corpus=corpus)
    blocks = open_blocks(data, "test", tokenizer=build_tokenizer(data))
    for wrong in (-1, len(blocks)):
        with pytest.raises(IndexError, match=f"0 to {len(blocks) - 1}"):
            blocks.batch(torch.tensor([0, wrong]))
    assert blocks.batch(torch.zeros(0, dtype=torch.int64)).tokens.shape == (0, 8)


def test_token_counts(table: Any, corpus: Any) -> None:
    data = table(corpus=corpus)
    tokenizer = build_tokenizer(data)
    blocks = open_blocks(data, "train", tokenizer=tokenizer)
    counts = token_counts(blocks)
    ids = [i for t in tokenizer.encode_batch(corpus.train) for i in [*t, tokenizer.vocab.eos_id]]
    expected = np.bincount(ids[: len(blocks) * 8], minlength=280)
    assert counts.dtype == torch.float64
    assert counts.tolist() == expected.tolist()
    assert counts[tokenizer.vocab.mask_id] == 0


def test_token_counts_leave_padding_out() -> None:
    class Padded:
        provenance: dict[str, Any] = {}  # noqa: RUF012 - a fake

        def __len__(self) -> int:
            return 2

        def batch(self, rows: torch.Tensor) -> Batch:
            tokens = torch.tensor([[1, 2, 0], [1, 0, 0]])
            return Batch(tokens=tokens[rows], real=tokens[rows] > 0)

    assert token_counts(Padded(), vocab_size=4).tolist() == [0, 2, 1, 0]
    with pytest.raises(ValueError, match="vocab_size is needed"):
        token_counts(Padded())


def test_the_data_room_is_light_to_import() -> None:
    code = (
        "import sys, mdmkit.data.blocks, mdmkit.builtin.corpora\n"
        "heavy = {'datasets', 'pyarrow', 'huggingface_hub', 'torchmetrics'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_are_read_without_torch() -> None:
    code = (
        "import sys, mdmkit.data.packing, mdmkit.data.tokenizers, mdmkit.builtin.corpora\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
