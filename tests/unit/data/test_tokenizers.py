from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from mdmkit import DataError
from mdmkit.data.text_tokenizer import SpecialTokens, TextTokenizer, load_tokenizer, wrap
from mdmkit.data.tokenizers import TOKENIZERS, Bert, Bpe, Bytes, Gpt2, Json, Text8

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##ly", "[", "]", "mask"]

TRAIN = """
from mdmkit.data.tokenizers import Bpe
class Corpus:
    def documents(self, split):
        return (" ".join(f"{i * k * 7919 % 100003:x}" for k in range(1, 9)) for i in range(400))
print(Bpe(vocab_size=320).build(Corpus()).fingerprint)
"""


@pytest.fixture
def bpe(corpus: Any) -> TextTokenizer:
    return Bpe(vocab_size=300).build(corpus)


@pytest.fixture
def vocab_file(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n")
    return path


def test_bpe_has_exactly_the_size_asked_for(bpe: TextTokenizer) -> None:
    assert bpe.vocab.size == 300
    assert bpe.decode([bpe.vocab.mask_id]) == "<|mask|>"
    assert bpe.vocab.eos_id == bpe.vocab.bos_id != bpe.vocab.mask_id
    assert bpe.vocab.pad_id is None


@pytest.mark.parametrize(
    "text", ["the quick brown fox", "  spaces\n\tand lines ", "ünïcödé 漢字 🦊"]
)
def test_bpe_gives_every_text_back(bpe: TextTokenizer, text: str) -> None:
    (ids,) = bpe.encode_batch([text])
    assert bpe.decode(ids) == text


def test_text_that_looks_special_is_plain_text(bpe: TextTokenizer, tmp_path: Path) -> None:
    text = "a <|mask|> and <|endoftext|> in the text"
    bpe.save(tmp_path / "tokenizer.json")
    for tokenizer in (bpe, load_tokenizer(tmp_path / "tokenizer.json")):
        (ids,) = tokenizer.encode_batch([text])
        assert not {tokenizer.vocab.mask_id, tokenizer.vocab.eos_id} & set(ids)
        assert tokenizer.decode(ids) == text


def test_training_is_the_same_in_every_process() -> None:
    prints = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", TRAIN],
            env=os.environ | {"PYTHONHASHSEED": str(seed), "RAYON_NUM_THREADS": str(1 + 2 * seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(prints) == 1


def test_training_reads_the_train_split_only(corpus: Any) -> None:
    Bpe(vocab_size=260).build(corpus)
    assert corpus.reads == ["train"]


def test_too_little_text_for_the_vocabulary(listed: Any) -> None:
    with pytest.raises(DataError, match=r"enough for (\d+) tokens only, 5000 are asked for"):
        Bpe(vocab_size=5000).build(listed(train=["one short text"]))


def test_the_smallest_vocabulary_has_all_bytes(listed: Any) -> None:
    tokenizer = Bpe(vocab_size=258).build(listed(train=["text"]))
    assert tokenizer.vocab.size == 258
    assert tokenizer.encode_batch(["ab"]) == [[66, 67]]
    with pytest.raises(ValueError, match=">= 258"):
        Bpe(vocab_size=257)


def test_save_and_load_restore_exactly(bpe: TextTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    bpe.save(path)
    loaded = load_tokenizer(path)
    assert loaded.vocab == bpe.vocab
    assert loaded.special == bpe.special
    assert loaded.fingerprint == bpe.fingerprint
    assert Tokenizer.from_file(str(path)).get_vocab_size() == 300


def test_fingerprints_tell_tokenizers_apart(corpus: Any, bpe: TextTokenizer) -> None:
    assert Bpe(vocab_size=300).build(corpus).fingerprint == bpe.fingerprint
    assert Bpe(vocab_size=301).build(corpus).fingerprint != bpe.fingerprint
    without_eos = SpecialTokens(mask="<|mask|>")
    assert wrap(bpe.backend, without_eos, where="here").fingerprint != bpe.fingerprint


def test_damage_to_a_saved_tokenizer_is_noticed(bpe: TextTokenizer, tmp_path: Path) -> None:
    path, beside = tmp_path / "tokenizer.json", tmp_path / "tokenizer.special.json"
    bpe.save(path)
    whole, special = path.read_text(), beside.read_text()
    path.write_text(whole.replace('"add_prefix_space":false', '"add_prefix_space":true'))
    with pytest.raises(DataError, match="its content has changed"):
        load_tokenizer(path)
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer\.json"):
        load_tokenizer(path)
    path.write_text(whole)
    beside.write_text(special[:20])
    with pytest.raises(DataError, match=r"tokenizer\.special\.json: damaged"):
        load_tokenizer(path)
    beside.unlink()
    with pytest.raises(DataError, match=r"tokenizer\.special\.json: missing"):
        load_tokenizer(path)


def test_bert_word_pieces(vocab_file: Path, listed: Any) -> None:
    tokenizer = Bert(path=str(vocab_file)).build(listed())
    assert tokenizer.vocab.size == len(PIECES)
    vocab = tokenizer.vocab
    assert (vocab.mask_id, vocab.bos_id, vocab.eos_id, vocab.pad_id) == (4, 2, 3, 0)
    assert tokenizer.encode_batch(["Héllo WORLDly zebra", "[MASK]"]) == [[5, 6, 7, 1], [8, 10, 9]]
    assert Bert(path=str(vocab_file.parent)).build(listed()).fingerprint == tokenizer.fingerprint


def test_bert_from_a_saved_json_adds_no_template(vocab_file: Path, listed: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    backend = Bert(path=str(vocab_file)).build(listed()).backend
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    path = vocab_file.with_name("bert.json")
    backend.save(str(path))
    tokenizer = Bert(path=str(path)).build(listed())
    assert tokenizer.encode_batch(["hello world hello"]) == [[5, 6, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\nworld\n", r"\[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\] not in it"),
        ("\n".join([*PIECES, "hello"]).encode(), 'the piece "hello" stands there twice'),
        (b"[PAD]\ncaf\xe9", "byte 9 is not UTF-8"),
    ],
)
def test_bad_vocab_files(tmp_path: Path, listed: Any, content: bytes, message: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        Bert(path=str(path)).build(listed())


def test_missing_bert_files(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(DataError, match=r"vocab\.txt: cannot be read: No such file"):
        Bert(path=str(tmp_path / "vocab.txt")).build(listed())
    with pytest.raises(DataError, match=r"has neither tokenizer\.json nor vocab\.txt"):
        Bert(path=str(tmp_path)).build(listed())


def test_without_the_hub_both_ways_out_are_named(
    listed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    with pytest.raises(
        DataError, match=r"network access, or `--set data\.tokenizer\.path=…` with BERT's vocab"
    ):
        Bert().build(listed())


@pytest.fixture
def words_file(tmp_path: Path) -> Path:
    words = {w: i for i, w in enumerate(["<unk>", "</s>", "a", "b", "M"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["</s>"])
    path = tmp_path / "words.json"
    backend.save(str(path))
    return path


def test_any_json_with_an_added_mask(words_file: Path, listed: Any, tmp_path: Path) -> None:
    tokenizer = Json(path=str(words_file), add_mask=True, eos="</s>").build(listed())
    assert (tokenizer.vocab.size, tokenizer.vocab.mask_id, tokenizer.vocab.eos_id) == (6, 5, 1)
    assert tokenizer.encode_batch(["a <|mask|> b"]) == [[2, 0, 3]]
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path / "tokenizer.json").vocab == tokenizer.vocab


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r'the mask token "<\|mask\|>" is not in the vocabulary; set data\.tokenizer\.mask'),
        ({"mask": "M", "eos": "<s>"}, r'the eos token "<s>" is not in the .*did you mean "</s>"'),
        ({"mask": "M", "pad": "M"}, '"M" is both the mask and the pad token'),
    ],
)
def test_special_tokens_that_do_not_fit(
    words_file: Path, listed: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Json(path=str(words_file), **options).build(listed())


def test_a_json_that_is_no_tokenizer(tmp_path: Path, listed: Any) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": 3}')
    with pytest.raises(DataError, match=r"not a tokenizer\.json of the tokenizers library"):
        Json(path=str(path)).build(listed())


def test_ids_with_gaps_count_up_to_the_largest(tmp_path: Path, listed: Any) -> None:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "M": 1, "a": 900}, unk_token="<unk>"))
    path = tmp_path / "gaps.json"
    backend.save(str(path))
    assert Json(path=str(path), mask="M").build(listed()).vocab.size == 901


def test_the_catalogue() -> None:
    assert dict(TOKENIZERS) == {
        "bpe": Bpe,
        "bert": Bert,
        "gpt2": Gpt2,
        "bytes": Bytes,
        "text8": Text8,
        "json": Json,
    }


@pytest.mark.skipif(
    "MDMKIT_SHARED_DATA" not in os.environ, reason="needs BERT's vocabulary: MDMKIT_SHARED_DATA"
)
def test_the_real_bert_vocabulary(listed: Any) -> None:
    path = Path(os.environ["MDMKIT_SHARED_DATA"]) / "tokenizers" / "bert-base-uncased-vocab.txt"
    tokenizer = Bert(path=str(path)).build(listed())
    vocab = tokenizer.vocab
    assert (vocab.size, vocab.pad_id, vocab.bos_id, vocab.eos_id, vocab.mask_id) == (
        30522,
        0,
        101,
        102,
        103,
    )
    assert tokenizer.encode_batch(["Hello, world!"]) == [[7592, 1010, 2088, 999]]
    # The Hugging Face course, chapter 2 ("Behind the pipeline").
    known = "I've been waiting for a HuggingFace course my whole life."
    ids = [1045, 1005, 2310, 2042, 3403, 2005, 1037, 17662, 12172, 2607, 2026, 2878, 2166, 1012]
    assert tokenizer.encode_batch([known]) == [ids]
