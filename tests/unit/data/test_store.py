from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from mdmkit import DataError
from mdmkit.data import store as store_module
from mdmkit.data.cache import ignore
from mdmkit.data.store import Frame, TokenStore, open_store
from mdmkit.data.text_tokenizer import SpecialTokens, TextTokenizer, wrap
from mdmkit.data.token_writer import token_dtype


def word_tokenizer(size: int = 300, mask: str = "<m>") -> TextTokenizer:
    words = {"<m>": 0, "</s>": 1, "<u>": 2} | {f"w{i}": i for i in range(3, size)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<u>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrap(backend, SpecialTokens(mask=mask, eos="</s>"), where="test")


def texts(count: int) -> list[str]:
    return [" ".join(f"w{3 + (i * j) % 250}" for j in range(1 + i % 7)) for i in range(count)]


def opened(root: Path, corpus: Any, notes: list[str] | None = None, **options: Any) -> TokenStore:
    tokenizer = options.pop("tokenizer", None) or word_tokenizer()
    frame = options.pop("frame", Frame(after=(1,)))
    notify = ignore if notes is None else notes.append
    return open_store(corpus, "train", tokenizer, frame, root=root, notify=notify)


def test_documents_come_back_framed(tmp_path: Path, listed: Any) -> None:
    written = texts(50)
    store = opened(tmp_path, listed(train=written), frame=Frame(before=(1,), after=(1, 1)))
    assert store.tokens.dtype == np.uint16
    for number, text in enumerate(written):
        ids = store.tokens[store.offsets[number] : store.offsets[number + 1]].tolist()
        assert ids == [1, *(int(w[1:]) for w in text.split()), 1, 1]
    assert store.counts.documents == 50
    assert store.counts.tokens == len(store.tokens) == store.offsets[-1]
    assert store.counts.utf8_bytes == sum(len(t) for t in written)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(256, "u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")],
)
def test_the_smallest_type_that_holds_the_ids(size: int, dtype: str) -> None:
    assert token_dtype(size) == np.dtype(dtype)


def test_chunks_do_not_change_the_tokens(
    tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = listed(train=texts(500))
    whole = opened(tmp_path / "a", corpus)
    monkeypatch.setattr(store_module, "_CHUNK_CHARACTERS", 40)
    monkeypatch.setattr(store_module, "_CHUNK_DOCUMENTS", 7)
    monkeypatch.setattr(store_module, "_SAY_EVERY", 100)
    notes: list[str] = []
    pieces = opened(tmp_path / "b", corpus, notes)
    assert np.array_equal(whole.tokens, pieces.tokens)
    assert np.array_equal(whole.offsets, pieces.offsets)
    assert sum("so far" in note for note in notes) == 4


def test_made_once_and_then_read(tmp_path: Path, listed: Any) -> None:
    corpus = listed(train=texts(20))
    notes: list[str] = []
    opened(tmp_path, corpus, notes)
    assert corpus.reads == ["train"]
    assert notes[0] == "tokenizing the train split"
    notes.clear()
    opened(tmp_path, corpus, notes)
    assert corpus.reads == ["train"]
    assert notes == []


def test_the_key_is_all_that_matters(tmp_path: Path, listed: Any) -> None:
    written = texts(20)
    opened(tmp_path, listed(train=written))
    opened(tmp_path, listed(train=written, version="2"))
    opened(tmp_path, listed(train=written), frame=Frame())
    opened(tmp_path, listed(train=written), tokenizer=word_tokenizer(301))
    assert len(list((tmp_path / "tokens").iterdir())) == 4


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_noticed_said_and_mended(
    tmp_path: Path, listed: Any, name: str, damage: str
) -> None:
    corpus = listed(train=texts(30))
    good = np.array(opened(tmp_path, corpus).tokens)
    (folder,) = (tmp_path / "tokens").iterdir()
    file = folder / name
    content = bytearray(file.read_bytes())
    middle = content.index(b'"bytes"') if name == "manifest.json" else len(content) // 2
    content[middle] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-3])
    notes: list[str] = []
    assert np.array_equal(opened(tmp_path, corpus, notes).tokens, good)
    assert "damaged" in notes[0]
    assert "making them again" in notes[0]
    assert corpus.reads == ["train", "train"]
    opened(tmp_path, corpus)
    assert corpus.reads == ["train", "train"]


def test_a_manifest_of_other_tokens_is_damage(tmp_path: Path, listed: Any) -> None:
    corpus = listed(train=texts(30))
    opened(tmp_path, corpus)
    (folder,) = (tmp_path / "tokens").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["made_from"]["corpus_fingerprint"] = "other"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    notes: list[str] = []
    opened(tmp_path, corpus, notes)
    assert "manifest is of other tokens" in notes[0]


def test_two_at_once(tmp_path: Path, listed: Any) -> None:
    corpus = listed(train=texts(2000))
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: opened(tmp_path, corpus), range(8)))
    for store in stores:
        assert np.array_equal(store.tokens, stores[0].tokens)
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_failure_leaves_nothing_behind(tmp_path: Path, listed: Any) -> None:
    def broken() -> Any:
        yield "w3"
        raise DataError("the file ends in the middle")

    class Broken(listed):
        def documents(self, split: str) -> Any:
            return broken()

    with pytest.raises(DataError, match="ends in the middle"):
        opened(tmp_path, Broken())
    assert list((tmp_path / "tokens").iterdir()) == []


def test_old_leftovers_are_removed_and_young_ones_kept(tmp_path: Path, listed: Any) -> None:
    for name, age in ((".tmp-old", 3 * 86400), (".tmp-young", 60)):
        folder = tmp_path / "tokens" / name
        folder.mkdir(parents=True)
        (folder / "tokens.bin").write_bytes(b"x")
        for path in (folder / "tokens.bin", folder):
            os.utime(path, (time.time() - age,) * 2)
    opened(tmp_path, listed(train=texts(5)))
    names = {p.name for p in (tmp_path / "tokens").iterdir()}
    assert ".tmp-young" in names
    assert ".tmp-old" not in names


def test_documents_without_tokens_are_counted(tmp_path: Path, listed: Any) -> None:
    store = opened(tmp_path, listed(train=["w3 w4", " ", "w5"]))
    assert store.tokens.tolist() == [3, 4, 1, 5, 1]
    assert (store.counts.documents, store.counts.without_tokens) == (2, 1)
    with pytest.raises(DataError, match="the tokenizer made nothing out of any document"):
        opened(tmp_path, listed(train=[" ", "\n"], version="2"))


def test_text_that_is_tokenized_to_the_mask_is_refused(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(DataError, match=r"document 1: its text is tokenized to the mask \(id 0\)"):
        opened(tmp_path, listed(train=["w3", "w4 <m> w5"]))


def test_ids_beyond_the_vocabulary_are_refused(tmp_path: Path, listed: Any) -> None:
    class Wrong:
        vocab = word_tokenizer(10).vocab
        fingerprint = "wrong"

        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            return [[3, 10] for _ in texts]

    with pytest.raises(DataError, match=r"document 0: the tokenizer gave id 10.*from 0 to 9"):
        opened(tmp_path, listed(train=["a"]), tokenizer=Wrong())


def test_a_cache_that_cannot_be_written(tmp_path: Path, listed: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write here.*set MDMKIT_CACHE_DIR"):
        opened(tmp_path / "file", listed(train=["w3"]))


def test_a_full_disk(tmp_path: Path, listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    plain_open = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *a, **k: Full() if path.name == "tokens.bin" else plain_open(path, *a, **k),
    )
    with pytest.raises(DataError, match=r"No space left on device; free some space"):
        opened(tmp_path, listed(train=["w3"]))
    assert list((tmp_path / "tokens").iterdir()) == []


def test_bytes_of_ranges_add_up_to_the_text(tmp_path: Path, listed: Any) -> None:
    written = [*texts(40), "w3 ünbekannt é w4", " "]
    frame = Frame(before=(1, 1), after=(1,))
    store = opened(tmp_path, listed(train=written), frame=frame)
    sizes = [len(t.encode()) for t in written[:-1]]
    assert np.diff(store.utf8_bytes).tolist() == sizes
    assert store.counts.utf8_bytes == sum(sizes)

    whole = store.bytes_between(store.offsets[:-1], store.offsets[1:])
    assert whole.tolist() == sizes
    each = np.arange(store.counts.tokens)
    of_token = store.bytes_between(each, each + 1)
    assert of_token.sum() == pytest.approx(sum(sizes))
    for document, size in enumerate(sizes):
        own = of_token[store.offsets[document] : store.offsets[document + 1]]
        assert own[[0, 1, -1]].tolist() == [0, 0, 0]
        assert own[2:-1] == pytest.approx(np.full(len(own) - 3, size / (len(own) - 3)))
    last = np.array([store.counts.tokens])
    assert store.bytes_between(last, last).tolist() == [0]
