"""Documents, tokens, blocks and what is dropped, against plain Python that knows nothing of ours.

The other side of each comparison reads the file line by line, tokenizes it with the tokenizers
library's own classes (or splits it at spaces), and counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import (
    BertWordPieceTokenizer,
    ByteLevelBPETokenizer,
    Tokenizer,
    models,
    pre_tokenizers,
)

from mdmkit.builtin.corpora import Text
from mdmkit.data.blocks import build_tokenizer, open_blocks
from mdmkit.data.packing import Document, Packed, Padded, Wrapped
from mdmkit.data.tokenizers import Bert, Bpe, Gpt2, Json
from mdmkit.values import Vocabulary

Encode = Callable[[list[str]], list[list[int]]]

SHARED = os.environ.get("MDMKIT_SHARED_DATA")

# --- the plain computation


def lines_of(path: Path) -> list[str]:
    """A line a document, blank ones dropped."""
    with path.open(encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file]
    if path.suffix == ".jsonl":
        lines = [json.loads(line)["text"] for line in lines]
    return [line for line in lines if line.strip()]


def stream_of(ids: list[list[int]], end: int | None) -> list[int]:
    return [i for document in ids for i in (document if end is None else [*document, end])]


def compare(table: Any, data: dict[str, Any], ids: list[list[int]], vocab: Vocabulary) -> None:
    """Every packing of the same text, block by block."""
    length = data["length"]
    bos, eos = vocab.bos_id, vocab.eos_id
    tokenizer = build_tokenizer(table(**data))

    def found(packing: Any) -> tuple[dict[str, Any], Any]:
        blocks = open_blocks(table(**data, packing=packing), "test", tokenizer=tokenizer)
        return dict(blocks.provenance), blocks.batch(torch.arange(len(blocks)))

    for with_eos in (True, False):
        stream = stream_of(ids, eos if with_eos else None)
        for packing in (Packed(eos=with_eos), Document(eos=with_eos), Wrapped(eos=with_eos)):
            width = length - 2 if isinstance(packing, Wrapped) else length
            pieces = [
                stream[start : start + width] for start in range(0, len(stream) - width + 1, width)
            ]
            facts, batch = found(packing)
            assert (facts["documents"], facts["tokens"]) == (len(ids), len(stream))
            assert (facts["blocks"], facts["dropped_tokens"]) == (len(pieces), len(stream) % width)
            if isinstance(packing, Wrapped):
                pieces = [[bos, *piece, eos] for piece in pieces]
            assert batch.tokens.tolist() == pieces
        room = length - 2 if with_eos else length - 1
        rows = [[bos, *document[:room], *([eos] if with_eos else [])] for document in ids]
        facts, batch = found(Padded(eos=with_eos))
        assert facts["documents"] == facts["blocks"] == len(ids)
        assert facts["tokens"] == sum(map(len, ids))
        assert facts["dropped_tokens"] == sum(max(len(document) - room, 0) for document in ids)
        assert facts["truncated_documents"] == sum(len(document) > room for document in ids)
        assert facts["padding"] == sum(length - len(row) for row in rows)
        kept = zip(batch.tokens, batch.real, strict=True)
        assert [row[real].tolist() for row, real in kept] == rows
        pieces = [
            [bos, *document[start : start + room], *([eos] if with_eos else [])]
            for document in ids
            for start in range(0, len(document), room)
        ]
        facts, batch = found(Padded(eos=with_eos, overflow="split"))
        assert (facts["blocks"], facts["dropped_tokens"]) == (len(pieces), 0)
        kept = zip(batch.tokens, batch.real, strict=True)
        assert [row[real].tolist() for row, real in kept] == pieces


# --- made-up files

SENTENCES = [
    "the cat sat on the mat , and the other cat sat on the dog",
    "a @-@ b",
    "\u201c no , \u201d said the dog in 1999",
    "mat",
    "the end of the world is a very long way off and it is not to be had for any money at all",
]


def write_lambada(folder: Path) -> Path:
    path = folder / "passages.jsonl"
    texts = [f"{SENTENCES[n % 5]}\n\n{SENTENCES[n * 3 % 5]} {n}" for n in range(60)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, " "]))
    return path


def write_wikitext(folder: Path) -> Path:
    path = folder / "articles.txt"
    parts = [f" = Title {n} = \n \n {SENTENCES[n % 5]} . \n\n {n} \n" for n in range(50)]
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


FILES = {"lambada": write_lambada, "wikitext": write_wikitext}


def gpt2_files(folder: Path) -> tuple[Any, Encode]:
    """All bytes, and a few merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("a", "t"), ("c", "at"), ("\u0120", "o")]
    pieces = [*alphabet, *(a + b for a, b in merges), "<|endoftext|>"]
    vocab, ranks = folder / "vocab.json", folder / "merges.txt"
    vocab.write_text(json.dumps({piece: n for n, piece in enumerate(pieces)}))
    ranks.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    return Gpt2(path=str(folder)), library_gpt2(vocab, ranks)


def library_gpt2(vocab: Path, merges: Path) -> Encode:
    library = ByteLevelBPETokenizer(str(vocab), str(merges))
    return lambda texts: [found.ids for found in library.encode_batch(texts)]


def bert_files(folder: Path) -> tuple[Any, Encode]:
    words = ["the", "cat", "sat", "on", "mat", "a", "b", "##t", "##s", ",", ".", "-", "@", "of"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *map(str, range(10))]
    path = folder / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in pieces))
    return Bert(path=str(path)), library_bert(path)


def library_bert(path: Path) -> Encode:
    library = BertWordPieceTokenizer(str(path), lowercase=True)

    def encode(texts: list[str]) -> list[list[int]]:
        return [found.ids for found in library.encode_batch(texts, add_special_tokens=False)]

    return encode


def word_files(folder: Path) -> tuple[Any, Encode]:
    """Words between spaces, for which nothing but `str.split` is needed."""
    words = ["<unk>", "<s>", "</s>", "<m>", *sorted(set(" ".join(SENTENCES).split()))]
    ids = {word: n for n, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = folder / "words.json"
    backend.save(str(path))
    options = Json(path=str(path), mask="<m>", bos="<s>", eos="</s>")
    return options, lambda texts: [[ids.get(word, 0) for word in t.split()] for t in texts]


TOKENIZERS = {"gpt2": gpt2_files, "bert": bert_files, "words": word_files}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("length", [9, 32])
def test_made_up_files(table: Any, tmp_path: Path, file: str, name: str, length: int) -> None:
    path = FILES[file](tmp_path)
    options, encode = TOKENIZERS[name](tmp_path)
    ids = encode(lines_of(path))
    assert min(map(len, ids)) > 0
    assert max(map(len, ids)) > 9
    corpus = Text(train=str(path), test=str(path), document="line")
    data = {"length": length, "corpus": corpus, "tokenizer": options}
    compare(table, data, ids, options.build(corpus).vocab)


def test_a_trained_tokenizer(table: Any, tmp_path: Path) -> None:
    path = write_wikitext(tmp_path)
    corpus = Text(train=str(path), test=str(path), document="line")
    options = Bpe(vocab_size=300)
    built = options.build(corpus)
    built.save(tmp_path / "tokenizer.json")
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = [library.encode(text).ids for text in lines_of(path)]
    compare(table, {"length": 16, "corpus": corpus, "tokenizer": options}, ids, built.vocab)


def test_empty_rows_are_an_end_of_text_each(table: Any, listed: Any, tmp_path: Path) -> None:
    """As in MDLM's loader, where a corpus keeps such rows; without EOS they are nothing."""
    options, encode = gpt2_files(tmp_path)
    texts = ["the cat", "", "sat", "", "", "on the mat"]
    corpus = listed(test=texts)
    vocab = options.build(corpus).vocab
    data = {"length": 4, "corpus": corpus, "tokenizer": options}
    tokenizer = build_tokenizer(table(**data))
    stream = stream_of(encode(texts), vocab.eos_id)
    for packing, expected in ((Packed(), stream), (Packed(eos=False), [])):
        blocks = open_blocks(table(**data, packing=packing), "test", tokenizer=tokenizer)
        facts = blocks.provenance
        counted = (facts["documents"], facts["empty_documents"], facts["documents_without_tokens"])
        assert counted == ((6, 3, 0) if expected else (3, 0, 3))
        assert facts["tokens"] == (len(stream) if expected else len(stream) - 6)
        if expected:
            found = blocks.batch(torch.arange(len(blocks))).tokens.ravel().tolist()
            assert found == expected[: len(found)]


# --- real files

REAL = [  # not every pair, for the time it takes
    ("lambada_test.jsonl", "gpt2"),
    ("lambada_test.jsonl", "bert"),
    ("wikitext103.valid.tokens.txt", "gpt2"),
    ("wikitext2.test.raw.txt", "bert"),
]


@pytest.mark.skipif(SHARED is None, reason="needs the benchmark files: MDMKIT_SHARED_DATA")
@pytest.mark.parametrize(("file", "name"), REAL)
def test_real_files(table: Any, file: str, name: str) -> None:
    assert SHARED is not None
    path, files = Path(SHARED) / "zeroshot" / file, Path(SHARED) / "tokenizers"
    options: Any
    if name == "gpt2":
        vocab, merges = files / "gpt2_encoder.json", files / "gpt2_vocab.bpe"
        options, encode = Gpt2(path=str(vocab), merges=str(merges)), library_gpt2(vocab, merges)
    else:
        vocab = files / "bert-base-uncased-vocab.txt"
        options, encode = Bert(path=str(vocab)), library_bert(vocab)
    texts, detokenizer = lines_of(path), "none"
    if file.startswith("lambada"):
        assert len(texts) == 5153
        texts = ["\n" + t.replace("\u201c", '"').replace("\u201d", '"').strip() for t in texts]
        detokenizer = "lambada"
    corpus = Text(train=str(path), test=str(path), document="line")
    data = {"length": 128, "corpus": corpus, "tokenizer": options, "detokenizer": detokenizer}
    compare(table, data, encode(texts), options.build(corpus).vocab)
