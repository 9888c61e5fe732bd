from __future__ import annotations

import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdmkit.data.hub import unreachable

CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: odd/x.*
---
"""
LM1B = "billion-word-benchmark/lm1b"
ASK = """
import json, sys
from mdmkit import DataError
from mdmkit.builtin.corpora import Hub, Lm1b
corpus, split = (Hub if "dataset" in sys.argv[1] else Lm1b)(**json.loads(sys.argv[1])), sys.argv[2]
try:
    texts = list(corpus.documents(split))
    print(json.dumps([texts, corpus.fingerprint(split), dict(corpus.describe(split))]))
except DataError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def fake_hub() -> Any:
    spec = importlib.util.spec_from_file_location("fake_hub", Path(__file__).parent / "fake_hub.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """Reads a corpus in a process of its own, since the hub's client reads its address once."""

    def read(address: str, split: str, offline: str = "0", **options: str) -> Any:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}
        environment |= {"NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": offline}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", ASK, json.dumps(options), split],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return read


def parquet(texts: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file)
    return file.getvalue()


def nobody() -> str:
    """An address at which nothing answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_fetched_once_then_read_without_the_hub(fake_hub: Any, ask: Any, cache: Path) -> None:
    files = {
        "plain_text/train/0000.parquet": parquet(["one", "two"]),
        "plain_text/train/0001.parquet": parquet(["three"]),
        "plain_text/test/0000.parquet": parquet(["four"]),
    }
    with fake_hub.serve(LM1B, files) as address:
        online = ask(address, "train")
    texts, _, facts = online
    assert texts == ["one", "two", "three"]
    assert facts["commit"] == fake_hub.COMMIT
    assert facts["files"] == list(files)[:2]
    assert ask(nobody(), "train") == online
    assert ask(nobody(), "train", offline="1") == online

    message = ask(nobody(), "test")
    assert "no connection to 127.0.0.1" in message
    assert "run once with network access" in message
    assert "`--set data.corpus.path=…`" in message
    assert "plain_text/test/*" in message
    assert "HF_HUB_OFFLINE is set" in ask(nobody(), "test", offline="1")

    for record in (cache / "hub").iterdir():
        record.write_text("{")
    assert "was not fetched before" in ask(nobody(), "train")


def test_files_lost_from_the_hubs_cache(fake_hub: Any, ask: Any, tmp_path: Path) -> None:
    files = {f"plain_text/train/000{i}.parquet": parquet([str(i)]) for i in range(2)}
    with fake_hub.serve(LM1B, files) as address:
        ask(address, "train")
    (tmp_path / "hf" / "hub").rename(tmp_path / "hf" / "elsewhere")
    assert "was not fetched before" in ask(nobody(), "train")


def test_the_data_sets_own_card_says_where_the_files_are(fake_hub: Any, ask: Any) -> None:
    files = {"README.md": CARD.encode(), "odd/x.jsonl": b'{"text": "odd"}\n'}
    with fake_hub.serve("some/set", files) as address:
        texts, _, facts = ask(address, "train", dataset="some/set")
        assert (texts, facts["files"]) == (["odd"], ["odd/x.jsonl"])
        missing = ask(address, "test", dataset="some/set")
        assert "no such split; the data set has: train" in missing
        assert "the hub did not deliver" in ask(address, "train", dataset="some/other")


def test_something_that_answers_is_reachable(
    fake_hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_hub.serve("some/set", {}) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert unreachable() is None
        monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
        assert unreachable() == "HF_DATASETS_OFFLINE is set"


def test_a_proxy_is_asked_instead(fake_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    with fake_hub.serve("some/set", {}) as address:
        monkeypatch.setenv("https_proxy", address)
        assert unreachable() is None
    monkeypatch.setenv("https_proxy", nobody())
    assert "no connection to 127.0.0.1" in str(unreachable())
