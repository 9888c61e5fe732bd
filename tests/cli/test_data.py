"""``mdmkit data``: made ahead, looked at, listed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mdmkit.data import encoding, tokenization
from mdmkit.data.cache import ignore, locked
from mdmkit.data.store import stores_folder

from .commands import changed, files, mdmkit, refused


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stores(cache: Path) -> list[Path]:
    return sorted(stores_folder(cache).iterdir())


def test_prepare_makes_what_a_run_needs(cache: Path, recipe: Path) -> None:
    said = mdmkit("data", "prepare", recipe)
    assert said.code == 0
    *notes, header, train, validation, test = said.lines
    assert "tokenizing the train split" in notes
    assert header.split() == ["split", "documents", "tokens", "blocks", "folder"]
    names = [line.split()[0] for line in (train, validation, test)]
    assert names == ["train", "validation", "test"]
    assert {Path(line.split()[-1]) for line in (train, validation, test)} == set(stores(cache))
    before = files(cache)
    again = mdmkit("data", "prepare", recipe)
    assert again.lines == said.lines[-4:]
    assert "tokenizing" not in mdmkit("run", recipe, *changed("train.steps=1")).out
    assert files(cache) == before


def test_prepare_one_split_on_any_number_of_processes(
    cache: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for workers in (1, 3):
        monkeypatch.setenv("MDMKIT_CACHE_DIR", str(cache / str(workers)))
        monkeypatch.setattr(encoding, "_ALONE_CHARACTERS", 0)
        monkeypatch.setattr(tokenization, "_SAY_SECONDS", 0.0)
        said = mdmkit(
            "data", "prepare", recipe, "--split", "test", "--workers", workers,
            *changed('data.corpus.document="line"'),
        )  # fmt: skip
        assert said.code == 0
        assert re.search(r"^  1 documents, [\d,]+ tokens, [\d.]+ MB/s so far$", said.out, re.M)
        (folder,) = stores(cache / str(workers))
        found.append(files(folder))
    assert found[0] == found[1]


def test_a_split_that_does_not_exist(recipe: Path) -> None:
    said = refused("data", "prepare", recipe, "--split", "valid")
    assert 'no split "valid"; did you mean "validation"? known: train, validation, test' in said
    assert "data.corpus.test" in refused(
        "data", "show", recipe, "--split", "test", "--set", "data.corpus.test=none.txt"
    )
    assert "--workers" in refused("data", "prepare", recipe, "--workers", "0")


def test_show_says_how_much_it_is_and_what_it_looks_like(cache: Path, recipe: Path) -> None:
    said = mdmkit("data", "show", recipe, "--json", "--blocks", "2")
    assert said.code == 0
    assert "tokenizing the train split" in said.err
    train, validation, test = json.loads(said.out)
    assert [part["split"] for part in (train, validation, test)] == ["train", "validation", "test"]
    assert test["documents"] == 1
    assert test["utf8_bytes"] == (recipe.parent / "held_out.txt").stat().st_size
    assert test["tokens"] == 16 * test["blocks"] + test["dropped_tokens"]
    assert test["tokens_per_byte"] == pytest.approx(test["tokens"] / test["utf8_bytes"])
    assert test["tokenizer"] == {"use": "bpe", "vocab_size": 280, "vocabulary": 280}
    assert test["packing"] == {"use": "packed", "eos": True, "bos": False}
    assert Path(test["folder"]).is_dir()
    assert [example["block"] for example in test["examples"]] == [0, test["blocks"] // 2]
    assert (recipe.parent / "held_out.txt").read_text().startswith(test["examples"][0]["text"])

    text = mdmkit("data", "show", recipe, "--split", "test", "--blocks", "1").out
    assert f"  blocks           {test['blocks']:,} of 16 tokens\n" in text
    assert f"  dropped          {test['dropped_tokens']:,} tokens\n" in text
    assert f"  block 0:\n    {test['examples'][0]['text']}" in text
    assert "train: " not in text


def test_show_of_padded_rows(cache: Path, write, recipe: Path) -> None:
    write("lines.txt", "one\n" + "one two three four five six seven eight nine\n")
    show = ["data", "show", recipe, "--split", "test", *changed("data.corpus.document=line")]
    show += changed("data.corpus.test=lines.txt", "data.packing.use=padded")
    said = mdmkit(*show).out
    facts = json.loads(mdmkit(*show, "--json", "--blocks", "9").out)[0]
    assert facts["truncated_documents"] == 1
    assert facts["tokens"] == facts["dropped_tokens"] + 2 * 14 - facts["padding"]
    assert f"  dropped          {facts['dropped_tokens']:,} tokens\n" in said
    assert "  truncated        1 documents\n" in said
    assert f"  padding          {facts['padding']} positions\n" in said
    assert facts["examples"][0]["text"] == "<|endoftext|>one<|endoftext|>"


def test_special_tokens_are_seen_and_control_characters_harmless(
    cache: Path, write, recipe: Path
) -> None:
    write("lines.txt", "one two three four\n" * 50 + "\x1b[2J five\n" * 50)
    said = mdmkit(
        "data", "show", recipe, "--split", "test", "--blocks", "100",
        *changed("data.corpus.test=lines.txt", 'data.corpus.document="line"'),
    )  # fmt: skip
    assert said.code == 0
    assert "<|endoftext|>" in said.out
    assert "\\x1b" in said.out


def test_list_tells_whole_unfinished_and_damaged(cache: Path, recipe: Path) -> None:
    assert mdmkit("data", "list").out == f"nothing in {cache}\n"
    assert mdmkit("data", "list", "--json").out == "[]\n"
    (cache.parent / "test.txt").write_text((recipe.parent / "held_out.txt").read_text()[5:])
    prepare = ("data", "prepare", recipe, *changed(f"data.corpus.test={cache.parent}/test.txt"))
    assert mdmkit(*prepare).code == 0
    assert [entry["state"] for entry in listed()] == ["whole"] * 3
    train, validation, test = (entry for split in ("train", "validation", "test")
                               for entry in listed() if entry["split"] == split)  # fmt: skip
    assert train["corpus"]["source"] == "local files"
    assert train["tokenizer"] == {"use": "bpe", "vocab_size": 280}
    assert train["bytes"] > train["tokens"] * 2

    unfinished = Path(train["folder"])
    (unfinished / "manifest.json").rename(unfinished / "progress.json")
    work = unfinished.rename(unfinished.with_name(f".work-{unfinished.name}"))
    flipped = Path(validation["folder"]) / "tokens.bin"
    flipped.write_bytes(bytes([flipped.read_bytes()[0] ^ 1]) + flipped.read_bytes()[1:])
    cut = Path(test["folder"]) / "offsets.bin"
    cut.write_bytes(cut.read_bytes()[:-8])

    def states(*options: str) -> dict[str, str]:
        return {entry["split"]: entry["state"] for entry in listed(*options)}

    assert states() == {"train": "unfinished", "validation": "whole", "test": "damaged"}
    assert states("--verify")["validation"] == "damaged"
    with locked(work.with_name(f".lock-{unfinished.name}"), ignore, ""):
        assert states()["train"] == "being made"
    said = mdmkit("data", "list", "--verify").out
    assert "unfinished after 1 documents" in said
    assert "damaged (the content of tokens.bin has changed" in said
    assert re.search(r"damaged \(offsets.bin has 8 bytes, expected 16\)", said)
    assert f" in {cache}" in said.splitlines()[-1]
    assert said.splitlines()[0].split()[:6] == [
        "corpus", "split", "tokenizer", "size", "tokens", "age",
    ]  # fmt: skip

    assert "going on after 1 documents" in mdmkit(*prepare).out
    assert [e["state"] for e in listed("--verify") if "split" in e] == ["whole"] * 3
    aside = [entry for entry in listed() if "split" not in entry]
    assert {(entry["state"], entry["problem"]) for entry in aside} == {("damaged", "set aside")}


def listed(*options: str) -> list[dict]:
    said = mdmkit("data", "list", "--json", *options)
    assert said.code == 0
    return json.loads(said.out)
