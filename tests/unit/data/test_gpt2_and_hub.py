"""GPT-2's files, and tokenizers from the hub."""

from __future__ import annotations

import array
import json
import lzma
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mdmkit import DataError
from mdmkit.data.text_tokenizer import load_tokenizer
from mdmkit.data.tokenizers import Bert, Gpt2, Json

SHARED = os.environ.get("MDMKIT_SHARED_DATA")

# --- made-up files

PIECES = [*"abcelnoth", "\u0120", "th", "the", "\u0120the", "on", "\u0120on", "to", "<|endoftext|>"]
MERGES = "#version: 0.2\nt h\nth e\n\u0120 the\no n\n\u0120 on\nt o\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """GPT-2's two files in small."""
    vocab = {piece: number for number, piece in enumerate(PIECES)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    return tmp_path


def test_merges_are_applied_in_their_order(folder: Path, listed: Any) -> None:
    tokenizer = Gpt2(path=str(folder)).build(listed())
    vocab = tokenizer.vocab
    assert (vocab.size, vocab.mask_id) == (18, 17)
    assert vocab.bos_id == vocab.eos_id == PIECES.index("<|endoftext|>")
    assert vocab.pad_id is None
    text = "the nth cat on the tent ton"
    (ids,) = tokenizer.encode_batch([text])
    spelt = ["the", "\u0120", "n", "th", "\u0120", "c", "a", "t", "\u0120on", "\u0120the"]
    spelt += ["\u0120", "t", "e", "n", "t", "\u0120", "t", "on"]
    assert [PIECES[i] for i in ids] == spelt
    assert tokenizer.decode([*ids, vocab.mask_id]) == f"{text}<|mask|>"
    assert vocab.eos_id not in tokenizer.encode_batch(["<|eoetoet|>", "on<|endoftext|>the"])[1]
    tokenizer.save(folder / "tokenizer.json")
    assert load_tokenizer(folder / "tokenizer.json").encode_batch([text]) == [ids]


def test_either_names_of_the_files(folder: Path, listed: Any) -> None:
    expected = Gpt2(path=str(folder)).build(listed()).fingerprint
    assert Gpt2(path=str(folder / "vocab.json")).build(listed()).fingerprint == expected
    (folder / "vocab.json").rename(folder / "encoder.json")
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    assert Gpt2(path=str(folder)).build(listed()).fingerprint == expected
    (folder / "vocab.bpe").rename(folder / "mine")
    with pytest.raises(DataError, match=r"neither merges\.txt nor vocab\.bpe.*tokenizer\.merges"):
        Gpt2(path=str(folder)).build(listed())
    named = Gpt2(path=str(folder / "encoder.json"), merges=str(folder / "mine"))
    assert named.build(listed()).fingerprint == expected


def test_merges_without_a_vocabulary() -> None:
    with pytest.raises(ValueError, match="merges: expected path"):
        Gpt2(merges="merges.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "[1]", "vocab.json: expected GPT-2's vocabulary, a JSON object"),
        ("vocab.json", "{", "vocab.json: not JSON"),
        ("vocab.json", '{"a": 0, "b": true}', "vocab.json: expected GPT-2's vocabulary"),
        ("vocab.json", '{"a": 0, "b": 2}', "expected each of the ids 0 to 1 once"),
        ("vocab.json", json.dumps({p: i for i, p in enumerate(PIECES[:-1])}), "<.endoftext.> not"),
        ("merges.txt", "#version: 0.2\nt h\nt h e\n", r"merges.txt, line 3: found 't h e'"),
        ("merges.txt", "t h\nth  e\n", "line 2: found 'th  e'; expected GPT-2's merges, two"),
        ("merges.txt", "t h\nt x\n", 'line 2: the piece "x" is not in .*vocab.json'),
        ("merges.txt", "a b\n", 'line 1: the piece "ab" is not in'),
    ],
)
def test_bad_files(folder: Path, listed: Any, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        Gpt2(path=str(folder)).build(listed())


def test_missing_files(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(DataError, match=r"has neither vocab\.json nor encoder\.json"):
        Gpt2(path=str(tmp_path)).build(listed())
    with pytest.raises(DataError, match=r"has neither tokenizer\.json"):
        Json(path=str(tmp_path)).build(listed())


# --- the hub


@pytest.fixture
def hub(folder: Path, listed: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A hub that has the files of `folder`; what it is asked for."""
    Gpt2(path=str(folder)).build(listed()).save(folder / "tokenizer.json")
    asked: list[tuple[Any, ...]] = []

    def download(repo: str, name: str, *, revision: str | None = None) -> str:
        asked.append((repo, name, revision))
        if revision == "gone":
            raise OSError("404: no such revision")
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("mdmkit.data.tokenizer_files.unreachable", lambda: None)
    return asked


def test_gpt2_from_the_hub(hub: Any, folder: Path, listed: Any) -> None:
    expected = Gpt2(path=str(folder)).build(listed()).fingerprint
    assert Gpt2().build(listed()).fingerprint == expected
    assert hub == [("gpt2", "vocab.json", None), ("gpt2", "merges.txt", None)]


def test_a_json_from_the_hub_at_a_revision(hub: Any, folder: Path, listed: Any) -> None:
    tokenizer = Json(repo="some/one", revision="v1", eos="<|endoftext|>").build(listed())
    assert hub == [("some/one", "tokenizer.json", "v1")]
    assert tokenizer.vocab.size == 18
    with pytest.raises(DataError, match=r"some/one: the hub did not deliver: 404.*tokenizer\.path"):
        Json(repo="some/one", revision="gone").build(listed())


@pytest.mark.parametrize(
    ("options", "local"),
    [
        (Gpt2(), r"a folder that has GPT-2's vocab\.json and merges\.txt"),
        (Bert(revision="main"), r"BERT's vocab\.txt or tokenizer\.json"),
        (Json(repo="some/one"), r"its tokenizer\.json"),
    ],
)
def test_without_the_hub(
    options: Any, local: str, listed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    with pytest.raises(DataError, match=rf"network access, or `--set data\..*path=…` with {local}"):
        options.build(listed())


def test_what_was_fetched_before_is_used_without_the_hub(
    folder: Path, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"vocab.json": str(folder / "vocab.json")}
    monkeypatch.setattr("mdmkit.data.tokenizer_files.unreachable", lambda: "no network")

    def look(repo: str, name: str, *, revision: str | None) -> str | None:
        return known.get(name) if (repo, revision) == ("gpt2", None) else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", look)
    with pytest.raises(DataError, match="cannot be reached: no network, and it was not fetched"):
        Gpt2().build(listed())  # one of two files is not enough
    known["merges.txt"] = str(folder / "merges.txt")
    assert Gpt2().build(listed()).vocab.size == 18


def test_a_json_is_somewhere() -> None:
    with pytest.raises(ValueError, match=r"expected path .* or repo"):
        Json()


# --- the real files


@pytest.fixture
def gpt2(tmp_path: Path, listed: Any) -> Any:
    if SHARED is None:
        pytest.skip("needs GPT-2's files: MDMKIT_SHARED_DATA")
    files = Path(SHARED) / "tokenizers"
    shutil.copy(files / "gpt2_encoder.json", tmp_path / "encoder.json")
    shutil.copy(files / "gpt2_vocab.bpe", tmp_path / "vocab.bpe")
    return Gpt2(path=str(tmp_path)).build(listed())


def test_the_ids_of_gpt2(gpt2: Any) -> None:
    """The first four are in OpenAI's cookbook, "How to count tokens with tiktoken"."""
    known = {
        "antidisestablishmentarianism": [415, 29207, 44390, 3699, 1042],
        "2 + 2 = 4": [17, 1343, 362, 796, 604],
        "お誕生日おめでとう": [
            *(2515, 232, 45739, 243, 37955, 33768, 98),
            *(2515, 232, 1792, 223, 30640, 30201, 29557),
        ],
        "Hello, world!": [15496, 11, 995, 0],
        "The quick brown fox jumps over the lazy dog": [
            *(464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290)
        ],
    }
    assert gpt2.encode_batch(list(known)) == list(known.values())
    vocab = gpt2.vocab
    assert (vocab.size, vocab.mask_id, vocab.eos_id, vocab.bos_id) == (50258, 50257, 50256, 50256)


@pytest.mark.parametrize(
    "text", ["  two  spaces\n\n\ttabs ", "ünïcödé 漢字 🦊", "\x00\x7f <|mask|>"]
)
def test_gpt2_gives_every_text_back(gpt2: Any, text: str) -> None:
    (ids,) = gpt2.encode_batch([text])
    assert gpt2.decode(ids) == text


def test_books_that_were_tokenized_elsewhere(gpt2: Any) -> None:
    assert SHARED is not None
    with lzma.open(Path(SHARED) / "corpus" / "classics60m.train.gpt2.u16.xz") as stream:
        ids = array.array("H", stream.read(1 << 20)).tolist()
    book = ids[: ids.index(gpt2.vocab.eos_id)]
    assert len(book) > 10_000
    assert gpt2.encode_batch([gpt2.decode(book)]) == [book]
