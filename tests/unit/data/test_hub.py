from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mdmkit.hub import unreachable

from . import fake_hub

CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: odd/x.*
---
"""
LM1B = "billion-word-benchmark/lm1b"


def test_fetched_once_then_read_without_the_hub(ask: Any, cache: Path) -> None:
    files = {
        "plain_text/train/0000.parquet": fake_hub.parquet(["one", "two"]),
        "plain_text/train/0001.parquet": fake_hub.parquet(["three"]),
        "plain_text/test/0000.parquet": fake_hub.parquet(["four"]),
    }
    with fake_hub.serve(LM1B, files) as address:
        online = ask(address, "train")
    texts, _, facts = online
    assert texts == ["one", "two", "three"]
    assert facts["commit"] == fake_hub.COMMIT
    assert facts["files"] == list(files)[:2]
    assert ask(fake_hub.nobody(), "train") == online
    assert ask(fake_hub.nobody(), "train", offline="1") == online

    message = ask(fake_hub.nobody(), "test")
    assert "no connection to 127.0.0.1" in message
    assert "run once with network access" in message
    assert "`--set data.corpus.path=…`" in message
    assert "plain_text/test/*" in message
    assert "HF_HUB_OFFLINE is set" in ask(fake_hub.nobody(), "test", offline="1")

    for record in (cache / "hub").iterdir():
        record.write_text("{")
    assert "was not fetched before" in ask(fake_hub.nobody(), "train")


def test_files_lost_from_the_hubs_cache(ask: Any, tmp_path: Path) -> None:
    files = {f"plain_text/train/000{i}.parquet": fake_hub.parquet([str(i)]) for i in range(2)}
    with fake_hub.serve(LM1B, files) as address:
        ask(address, "train")
    (tmp_path / "hf" / "hub").rename(tmp_path / "hf" / "elsewhere")
    assert "was not fetched before" in ask(fake_hub.nobody(), "train")


def test_the_data_sets_own_card_says_where_the_files_are(ask: Any) -> None:
    files = {"README.md": CARD.encode(), "odd/x.jsonl": b'{"text": "odd"}\n'}
    with fake_hub.serve("some/set", files) as address:
        texts, _, facts = ask(address, "train", dataset="some/set")
        assert (texts, facts["files"]) == (["odd"], ["odd/x.jsonl"])
        missing = ask(address, "test", dataset="some/set")
        assert "no such split; the data set has: train" in missing
        assert "the hub did not deliver" in ask(address, "train", dataset="some/other")


def test_something_that_answers_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_hub.serve("some/set", {}) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert unreachable() is None
        monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
        assert unreachable() == "HF_DATASETS_OFFLINE is set"


def test_a_proxy_is_asked_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    with fake_hub.serve("some/set", {}) as address:
        monkeypatch.setenv("https_proxy", address)
        assert unreachable() is None
    monkeypatch.setenv("https_proxy", fake_hub.nobody())
    assert "no connection to 127.0.0.1" in str(unreachable())
