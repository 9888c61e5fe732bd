"""Fixtures of the data room: a cache of its own, small corpora, and no way to the real hub."""

from __future__ import annotations

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
