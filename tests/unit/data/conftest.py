"""Fixtures of the data room: a cache of its own, small corpora, and no way to the real hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from mdmkit.data.packing import Packed
from mdmkit.data.tokenizers import Bpe
from mdmkit.protocols import Split

TEXT = "the quick brown fox jumps over the lazy dog while seven wizards mix a black potion"
WORDS = TEXT.split()


ASK = """
import json, sys
from functools import partial
from huggingface_hub import hf_file_system
from mdmkit import DataError
from mdmkit.builtin.corpora import Hub, Lm1b
from mdmkit.data import remote
remote._WAITS = (0.0, 0.0)
hf_file_system.http_backoff = partial(hf_file_system.http_backoff, max_retries=0)
corpus, split = (Hub if "dataset" in sys.argv[1] else Lm1b)(**json.loads(sys.argv[1])), sys.argv[2]
try:
    texts = list(corpus.documents(split))
    print(json.dumps([texts, corpus.fingerprint(split), dict(corpus.describe(split))]))
except DataError as error:
    print(json.dumps(str(error)))
"""


@frozen(kw_only=True)
class Listed:
    """A corpus out of lists, which counts how often it is read."""

    train: Sequence[str] = ()
    validation: Sequence[str] = ()
    test: Sequence[str] = ()
    version: str = "1"
    reads: list[Split] = field(factory=list, eq=False)

    def documents(self, split: Split) -> Iterator[str]:
        self.reads.append(split)
        return iter(getattr(self, split))

    def fingerprint(self, split: Split) -> str:
        return f"{self.version}-{split}"

    def describe(self, split: Split) -> Mapping[str, Any]:
        return {"source": "a list", "split": split}


@frozen(kw_only=True)
class Table:
    """As much of a recipe's data table as is needed."""

    length: int = 8
    corpus: Any = field(factory=Listed)
    detokenizer: str = "none"
    tokenizer: Any = field(factory=lambda: Bpe(vocab_size=280))
    packing: Any = field(factory=Packed)


def sentences(count: int) -> list[str]:
    """Different sentences, the same every time."""
    size = len(WORDS)
    return [
        " ".join(WORDS[(i * 7 + j * (1 + i % 5)) % size] for j in range(6 + i % 9)) + f" {i}."
        for i in range(count)
    ]


@pytest.fixture
def listed() -> type[Listed]:
    return Listed


@pytest.fixture
def table() -> type[Table]:
    return Table


@pytest.fixture
def corpus() -> Listed:
    texts = sentences(200)
    return Listed(train=texts[:160], validation=texts[160:180], test=texts[180:])


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """Reads a corpus in a process of its own, since the hub's client reads its address once."""

    def read(address: str, split: str, offline: str = "0", **options: Any) -> Any:
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
