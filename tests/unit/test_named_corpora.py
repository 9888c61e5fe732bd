from __future__ import annotations

import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdmkit import DataError
from mdmkit.builtin.corpora import NAMED, Text8, mdmkit_corpora
from mdmkit.data.rows import RowSource
from mdmkit.protocols import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

# Where the files lie on the hub, with the split's files and those of a neighbour: as listed on
# the hub's pages (see docs/data.md).
LAYOUT: dict[str, dict[Split, list[str]]] = {
    "lm1b": {
        "train": ["plain_text/train/0000.parquet", "plain_text/train/0001.parquet"],
        "validation": ["plain_text/test/0000.parquet"],
        "test": ["plain_text/test/0000.parquet"],
    },
    "wikitext2": {split: [f"wikitext-2-raw-v1/{split}-00000-of-00001.parquet"] for split in SPLITS},
    "wikitext103": {
        "train": [f"wikitext-103-raw-v1/train-0000{i}-of-00002.parquet" for i in range(2)],
        "validation": ["wikitext-103-raw-v1/validation-00000-of-00001.parquet"],
        "test": ["wikitext-103-raw-v1/test-00000-of-00001.parquet"],
    },
    "ptb": {split: [f"penn_treebank/{split}/0000.parquet"] for split in SPLITS},
    "ag_news": {
        "train": ["data/train-00000-of-00001.parquet"],
        "validation": ["data/test-00000-of-00001.parquet"],
        "test": ["data/test-00000-of-00001.parquet"],
    },
    "lambada": {
        "validation": ["default/test/0000.parquet"],
        "test": ["default/test/0000.parquet"],
    },
    "arxiv": {split: [f"arxiv/partial-{split}/0000.parquet"] for split in SPLITS},
    "pubmed": {split: [f"pubmed/{split}/0000.parquet"] for split in SPLITS},
    "tinystories": {
        "train": [f"data/train-0000{i}-of-00004-2d5a.parquet" for i in range(4)],
        "validation": ["data/validation-00000-of-00001-869c.parquet"],
        "test": ["data/validation-00000-of-00001-869c.parquet"],
    },
}
NEIGHBOURS = (
    "wikitext-2-v1/train-00000-of-00001.parquet",
    "en/test/0000.parquet",
    "section/train/0000.parquet",
    "TinyStories-train.txt",
    "README.md",
)


def write(path: Path, texts: list[str], column: str = "text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({column: texts, "other": texts}), path)
    else:
        path.write_text("\n".join(texts))


def test_every_name_is_a_corpus() -> None:
    assert set(NAMED) == {*LAYOUT, "openwebtext", "fineweb_edu"}
    assert NAMED.items() <= mdmkit_corpora().items()
    assert len({cls().dataset + str(cls().config) for cls in NAMED.values()}) == len(NAMED)


@pytest.mark.parametrize("name", LAYOUT)
def test_a_copy_laid_out_as_on_the_hub(name: str, tmp_path: Path) -> None:
    corpus = NAMED[name](path=str(tmp_path))
    for file in {f for files in LAYOUT[name].values() for f in files}:
        write(tmp_path / file, [f"one of {file}", "two"], corpus.column)
    for file in NEIGHBOURS:
        write(tmp_path / file, ["not this"])
    for split, files in LAYOUT[name].items():
        expected = [text for file in files for text in (f"one of {file}", "two")]
        assert list(corpus.documents(split)) == expected
        assert corpus.describe(split)["files"] == [Path(file).name for file in files]
    if name == "lambada":
        with pytest.raises(DataError, match="no files of the split 'train'"):
            corpus.documents("train")


def test_the_end_of_openwebtext_and_fineweb_is_held_out(tmp_path: Path) -> None:
    for name, files, held_out in (
        ("openwebtext", [f"plain_text/train-{i:05}-of-00080.parquet" for i in range(5)], 100_000),
        ("fineweb_edu", [f"sample/10BT/{i:03}_00000.parquet" for i in range(5)], 10_000),
    ):
        size = held_out // 3
        texts = [str(i) for i in range(5 * size)]
        folder = tmp_path / name
        write(folder / "data/CC-MAIN-2024-10/train-00000-of-00001.parquet", ["not this"])
        write(folder / "sample/100BT/000_00000.parquet", ["not this"])
        for number, file in enumerate(files):
            write(folder / file, texts[number * size : (number + 1) * size])
        corpus = NAMED[name](path=str(folder))
        assert list(corpus.documents("train")) == texts[:-held_out]
        assert list(corpus.documents("validation")) == texts[-held_out:]
        assert corpus.fingerprint("validation") == corpus.fingerprint("test")
        assert corpus.fingerprint("validation") != corpus.fingerprint("train")


@pytest.mark.parametrize("name", NAMED)
def test_a_single_file_is_one_split_and_no_other(name: str, tmp_path: Path) -> None:
    corpus = NAMED[name]()
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({corpus.column: t}) + "\n" for t in "abcdef"))
    for split in SPLITS:
        whole: Any = NAMED[name](**{"path": str(path), "file_split": split, split: "whole"})
        assert list(whole.documents(split)) == list("abcdef")
    for split in SPLITS:
        other = NAMED[name](path=str(path), train="x", validation="y", test="z")
        if split == other.file_split:
            assert list(other.documents(split)) == list("abcdef")
        else:
            with pytest.raises(DataError, match=rf"--set data\.corpus\.file_split={split}`"):
                other.documents(split)


def test_options_that_change_the_text_change_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text('{"text": "a"}\n{"text": ""}\n{"text": "b"}\n')
    options: list[dict[str, Any]] = [
        {},
        {"keep_empty": True},
        {"limit": 1},
        {"train": "train[:2]"},
        {"train": "train[:-1]"},
    ]
    corpora = [NAMED["lm1b"](path=str(path), **o) for o in options]
    assert list(corpora[1].documents("train")) == ["a", "", "b"]
    assert list(corpora[3].documents("train")) == ["a"]
    assert len({c.fingerprint("train") for c in corpora}) == len(corpora)
    streamed = NAMED["lm1b"](path=str(path), streaming=True)
    assert streamed.fingerprint("train") == corpora[0].fingerprint("train")


def test_licences_are_those_of_the_data_set_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "sample" / "10BT").mkdir(parents=True)
    (tmp_path / "sample" / "10BT" / "0.txt").write_text("a")
    for dataset, licence in ((None, "ODC-By-1.0"), ("some/other", None)):
        options = {"dataset": dataset} if dataset else {}
        corpus = NAMED["fineweb_edu"](path=str(tmp_path), **options)
        assert corpus.describe("train").get("licence") == licence


def test_a_single_file_is_not_said_to_be_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    found = NAMED["fineweb_edu"](path=str(tmp_path / "a.txt"), limit=3).describe("train")
    assert found == {
        "source": "a local file in place of HuggingFaceFW/fineweb-edu",
        "local_copy": True,
        "files": ["a.txt"],
        "rows": "train[:-10000]",
        "limit": 3,
    }


# --- text8 ---------------------------------------------------------------------------------

LENGTH = 2000
WHOLE = "".join(random.Random(8).choices("abcdefghijklmnopqrstuvwxyz ", k=LENGTH))
PARTS: dict[Split, str] = {
    "train": WHOLE[:1800],
    "validation": WHOLE[1800:1900],
    "test": WHOLE[1900:],
}


def text8(path: Path, **options: Any) -> Text8:
    return Text8(**({"path": str(path), "characters": LENGTH, "piece": 70} | options))


def as_file(folder: Path, kind: str, content: bytes = WHOLE.encode()) -> Path:
    if kind == "folder":
        for split, text in PARTS.items():
            write(folder / f"data/{split}-00000-of-00001.parquet", [text])
        return folder
    path = folder / f"text8{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("text8", content)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["", ".zip", "folder"])
def test_text8_is_split_by_characters_and_cut_into_pieces(kind: str, tmp_path: Path) -> None:
    corpus = text8(as_file(tmp_path, kind))
    for split, text in PARTS.items():
        pieces = list(corpus.documents(split))
        assert "".join(pieces) == text
        assert {len(piece) for piece in pieces[:-1]} == {70}
        assert corpus.describe(split)["characters"] == len(text)
    assert len({corpus.fingerprint(split) for split in SPLITS}) == 3
    other = text8(as_file(tmp_path, kind), piece=7)
    assert other.describe("test")["piece"] == 7
    assert other.fingerprint("test") != corpus.fingerprint("test")


@pytest.mark.parametrize("kind", ["", ".zip"])
def test_text8_that_is_not_text8(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2000 bytes; expected 100000000, all of text8"):
        list(Text8(path=str(as_file(tmp_path, kind))).documents("test"))
    wrong = bytearray(WHOLE.encode())
    wrong[1950] = ord("\n")
    corpus = text8(as_file(tmp_path, kind, bytes(wrong)))
    assert "".join(corpus.documents("train")) == PARTS["train"]
    with pytest.raises(DataError, match=r"byte 1950: the byte 0x0a; expected a to z and spaces"):
        list(corpus.documents("test"))
    if kind == ".zip":
        packed = bytearray((tmp_path / "text8.zip").read_bytes())
        packed[300] ^= 255
        (tmp_path / "text8.zip").write_bytes(packed)
        with pytest.raises(DataError, match=r"text8\.zip: .*damaged"):
            list(corpus.documents("train"))


def test_text8_of_the_hub_must_be_whole(tmp_path: Path) -> None:
    as_file(tmp_path, "folder")
    write(tmp_path / "data/test-00000-of-00001.parquet", [PARTS["test"][:-1]])
    with pytest.raises(DataError, match=r"split test: 99 characters; expected 100"):
        list(text8(tmp_path).documents("test"))


# --- the real thing, where it is at hand ---------------------------------------------------

SHARED = os.environ.get("MDMKIT_SHARED_DATA", "")


@pytest.mark.skipif(not SHARED, reason="MDMKIT_SHARED_DATA names no folder of real data sets")
def test_real_files_have_as_many_rows_as_their_data_sets() -> None:
    folder = Path(SHARED)
    lambada = NAMED["lambada"](path=str(folder / "zeroshot/lambada_test.jsonl"))
    assert len(list(lambada.documents("test"))) == 5153
    for name, count, column in (("arc_easy", 570, "question"), ("piqa", 1838, "goal")):
        path = str(folder / f"choice/{name}.validation.jsonl")
        rows = list(RowSource(dataset=f"the/{name}", path=path).rows())
        assert len(rows) == count
        assert all(row.text(column) for row in rows)
