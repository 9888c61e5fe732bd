"""Corpora: named splits of text documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from mdmkit.builtin.corpora.embedded import Embedded
from mdmkit.builtin.corpora.hub import Hub
from mdmkit.builtin.corpora.markov_text import MarkovText
from mdmkit.builtin.corpora.named import (
    AgNews,
    ArXiv,
    FineWebEdu,
    Lambada,
    Lm1b,
    OpenWebText,
    Ptb,
    PubMed,
    TinyStories,
    WikiText2,
    WikiText103,
)
from mdmkit.builtin.corpora.state_of_the_union import StateOfTheUnion
from mdmkit.builtin.corpora.text import Text
from mdmkit.builtin.corpora.text8 import Text8
from mdmkit.builtin.corpora.topic_text import TopicText
from mdmkit.hookspecs import hookimpl

__all__ = [
    "NAMED",
    "Embedded",
    "Hub",
    "Lm1b",
    "MarkovText",
    "StateOfTheUnion",
    "Text",
    "Text8",
    "TopicText",
    "contract_examples",
    "mdmkit_corpora",
]

NAMED: Mapping[str, type[Hub]] = {
    "lm1b": Lm1b,
    "openwebtext": OpenWebText,
    "wikitext2": WikiText2,
    "wikitext103": WikiText103,
    "ptb": Ptb,
    "ag_news": AgNews,
    "lambada": Lambada,
    "arxiv": ArXiv,
    "pubmed": PubMed,
    "fineweb_edu": FineWebEdu,
    "tinystories": TinyStories,
}
"""Data sets on the hub by the names that the field knows them by."""


@hookimpl
def mdmkit_corpora() -> Mapping[str, type]:
    """The corpora of this package."""
    return {
        "state_of_the_union": StateOfTheUnion,
        "embedded": Embedded,
        "text": Text,
        "hub": Hub,
        "text8": Text8,
        "markov_text": MarkovText,
        "topic_text": TopicText,
        **NAMED,
    }


def contract_examples(directory: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What `mdmkit.testing` tries: the embedded text, and small files in place of the hub's."""
    yield StateOfTheUnion(), {"splits": ("train", "validation", "test"), "documents": 10}
    yield Embedded(text="bible"), {"splits": ("test",), "documents": 10}
    for split in ("train", "test"):
        folder = directory / "copy" / "plain_text" / split
        folder.mkdir(parents=True)
        (directory / f"{split}.txt").write_text(f"one {split}\n\ntwo\n\nthree\n")
        (folder / "0000.jsonl").write_text(f'{{"text": "{split} one"}}\n{{"text": "two"}}\n')
    splits, copy = {"splits": ("train", "test")}, str(directory / "copy")
    train, test = (str(directory / f"{split}.txt") for split in splits["splits"])
    yield Text(train=train, test=test, document="blank_line"), splits
    yield Hub(dataset="owner/name", config="plain_text", path=copy), splits
    (directory / "text8").write_bytes(b"abc def " * 25)
    yield Text8(path=str(directory / "text8"), characters=200, piece=7), {}
    yield MarkovText(symbols=3, train=50, held_out=20, piece=8), {}
    yield TopicText(topics=2, group=2, document_length=8, train=5, held_out=3), {}
    for cls in NAMED.values():
        corpus = cls()
        file = directory / f"{cls.__name__}.csv"
        file.write_text(f"{corpus.column}\none\ntwo\n")
        split = corpus.file_split
        whole: dict[str, Any] = {split: "whole"}  # a slice of some would ask for more rows
        yield evolve(corpus, path=str(file), **whole), {"splits": (split,)}
