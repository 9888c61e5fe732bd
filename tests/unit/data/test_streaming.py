from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

from . import fake_hub

LM1B = "billion-word-benchmark/lm1b"
SHARDS = {
    "plain_text/train/0000.parquet": fake_hub.parquet([f"first {i}" for i in range(50)]),
    "plain_text/train/0001.parquet": fake_hub.parquet(["", *(f"second {i}" for i in range(50))]),
    "plain_text/train/0002.parquet": fake_hub.parquet([f"third {i}" for i in range(50)]),
}


def test_streamed_is_the_same_text_and_leaves_nothing_behind(ask: Any, tmp_path: Path) -> None:
    requests: list[str] = []
    with fake_hub.serve(LM1B, SHARDS, requests=requests) as address:
        streamed = ask(address, "train", streaming=True)
        assert len(streamed[0]) == 150
        assert not list((tmp_path / "hf").rglob("*.parquet"))
        assert all("bytes=" in request for request in requests)
        assert ask(address, "train") == streamed  # documents, fingerprint and facts
    message = ask(fake_hub.nobody(), "train", streaming=True)
    assert "no connection to 127.0.0.1" in message
    assert "streaming reads from it each time" in message


def test_streamed_slices_skip_the_files_before_them(ask: Any) -> None:
    requests: list[str] = []
    with fake_hub.serve(LM1B, SHARDS, requests=requests) as address:
        texts, _, facts = ask(address, "train", streaming=True, train="train[1:]", limit=2)
        assert texts == ["first 1", "first 2"]
        assert facts["hub_split"] == "train[1:]"
        assert {request.split(" ")[0] for request in requests} == {"plain_text/train/0000.parquet"}
        last = ask(address, "train", streaming=True, train="train[-51:]")
        assert last[0] == ["second 49", *(f"third {i}" for i in range(50))]
        assert ask(address, "train", train="train[-51:]") == last


TEXTS = {
    "train/a.txt.gz": gzip.compress(b"one\ntwo\n"),
    "train/b.jsonl": b'{"text": "three"}\n',
    "train/c.csv.bz2": bz2.compress(b'id,text\n1,"four\nlines"\n'),
    "train/d.txt.xz": lzma.compress(b"five"),
    "train/e.jsonl": b"".join(b'{"text": "%d"}\n' % i for i in range(200_000)),
}


def test_all_kinds_are_streamed(ask: Any) -> None:
    with fake_hub.serve("some/set", TEXTS) as address:
        texts, _, _ = ask(address, "train", dataset="some/set", streaming=True)
    assert texts[:6] == ["one", "two", "three", "four\nlines", "five", "0"]
    assert texts[-1] == "199999"


def test_a_network_that_fails_for_a_while(ask: Any) -> None:
    with fake_hub.serve(LM1B, SHARDS, failures=2) as address:
        assert len(ask(address, "train", streaming=True)[0]) == 150
    with fake_hub.serve(LM1B, SHARDS, failures=3) as address:
        message = ask(address, "train", streaming=True)
    assert "0000.parquet: the hub did not deliver after byte" in message
    assert "503" in message
    assert "--set data.corpus.streaming=false" in message


def test_a_pattern_of_file_names(ask: Any) -> None:
    files = {
        "sample/10BT/000.parquet": fake_hub.parquet(["ten"]),
        "sample/100BT/0.parquet": fake_hub.parquet(["x"]),
    }
    options = {"dataset": "some/set", "files": "sample/10BT/*"}
    with fake_hub.serve("some/set", files) as address:
        assert ask(address, "train", **options)[0] == ["ten"]
        options["files"] = "samples/<split>-*"
        message = ask(address, "train", **options)
    assert "no file fits 'samples/<split>-*'; there are: sample/10" in message
