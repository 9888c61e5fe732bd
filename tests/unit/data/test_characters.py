"""Tokenizers whose ids are known without any file: bytes, and the characters of text8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mdmkit import DataError
from mdmkit.data.blocks import open_blocks
from mdmkit.data.packing import Packed, Padded
from mdmkit.data.text_tokenizer import defined_tokenizer, load_tokenizer
from mdmkit.data.tokenizers import Bytes, Text8

EVERY = "".join(map(chr, range(0x800))) + "漢字 🦊 \U0010ffff <|mask|><|endoftext|><|pad|>"


def test_bytes_are_their_own_ids(listed: Any) -> None:
    tokenizer = Bytes().build(listed())
    vocab = tokenizer.vocab
    assert (vocab.size, vocab.mask_id, vocab.pad_id) == (259, 258, 257)
    assert vocab.bos_id == vocab.eos_id == 256
    for text in ("plain text", "  \n\t a", EVERY, "", "'s 're 12,345.6"):
        (ids,) = tokenizer.encode_batch([text])
        assert ids == list(text.encode())
        assert tokenizer.decode(ids) == text
    assert tokenizer.decode([104, 105, 258, 256]) == "hi<|mask|><|endoftext|>"


def test_text8(listed: Any) -> None:
    tokenizer = Text8().build(listed())
    vocab = tokenizer.vocab
    assert (vocab.size, vocab.mask_id) == (28, 27)
    assert vocab.bos_id is vocab.eos_id is vocab.pad_id is None
    text = "abcdefghijklmnopqrstuvwxyz  zyx "
    (ids,) = tokenizer.encode_batch([text])
    assert ids == [*range(27), 26, 25, 24, 23, 26]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([0, 27, 26, 1]) == "a<|mask|> b"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the Fox", "'F' in 'the Fox'"),
        ("one\ntwo", r"'\\n' in 'one\\ntwo'"),
        ("caf\u00e9", "'\u00e9'"),
        ("x" * 99 + "<|mask|>", "'<' in 'x{20}<.mask.>'"),
    ],
)
def test_text8_refuses_other_characters(listed: Any, text: str, found: str) -> None:
    tokenizer = Text8().build(listed())
    with pytest.raises(DataError, match=f"no token for the character {found}.*normalize = true"):
        tokenizer.encode_batch(["fine", text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Fox, 42 years -- old!\n", "the fox four two years old "),
        ("a  b\t\nc", "a b c"),
        ("1990s", " one nine nine zero s"),
        ("caf\u00e9 \U0001f98a", "caf "),
        ("plain text", "plain text"),
    ],
)
def test_text8_may_change_text(listed: Any, text: str, expected: str) -> None:
    tokenizer = Text8(normalize=True).build(listed())
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == expected


@pytest.mark.parametrize("options", [Bytes(), Text8(), Text8(normalize=True)])
def test_they_are_kept_like_any_other(options: Any, listed: Any, tmp_path: Path) -> None:
    tokenizer = options.build(listed())
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    sent = defined_tokenizer(tokenizer.definition())
    built = options.build(listed())
    for other in (again, sent, built):
        assert (other.fingerprint, other.vocab) == (tokenizer.fingerprint, tokenizer.vocab)
        assert other.encode_batch(["some text"]) == tokenizer.encode_batch(["some text"])


def test_fingerprints_tell_them_apart(listed: Any) -> None:
    kinds = (Bytes(), Text8(), Text8(normalize=True))
    assert len({kind.build(listed()).fingerprint for kind in kinds}) == 3


def test_text8_in_blocks(listed: Any, table: Any) -> None:
    corpus = listed(train=["ab cd", "e f"])
    tokenizer = Text8().build(corpus)
    data = table(length=4, corpus=corpus, tokenizer=Text8(), packing=Packed(eos=False))
    blocks = open_blocks(data, "train", tokenizer=tokenizer)
    assert (len(blocks), blocks.provenance["tokens"], blocks.provenance["dropped_tokens"]) == (
        2,
        8,
        0,
    )
    plain = table(length=4, corpus=corpus, tokenizer=Text8())
    with pytest.raises(DataError, match=r"needs the eos token.*other options of the packing"):
        open_blocks(plain, "train", tokenizer=tokenizer)
    seen = table(length=4, corpus=corpus, packing=Padded(bos=False, eos=False, attend_padding=True))
    with pytest.raises(DataError, match="needs the pad token"):
        open_blocks(seen, "train", tokenizer=tokenizer)
