"""Corpora: named splits of text documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdmkit.builtin.corpora.hub import Hub, Lm1b
from mdmkit.builtin.corpora.state_of_the_union import StateOfTheUnion
from mdmkit.builtin.corpora.text import Text
from mdmkit.hookspecs import hookimpl

__all__ = ["Hub", "Lm1b", "StateOfTheUnion", "Text", "mdmkit_corpora"]


@hookimpl
def mdmkit_corpora() -> Mapping[str, type]:
    """The corpora of this package."""
    return {"state_of_the_union": StateOfTheUnion, "text": Text, "hub": Hub, "lm1b": Lm1b}


def contract_examples(directory: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What `mdmkit.testing` tries: the embedded text, and small files in place of the hub's."""
    yield StateOfTheUnion(), {"splits": ("train", "validation", "test"), "documents": 10}
    for split in ("train", "test"):
        folder = directory / "copy" / "plain_text" / split
        folder.mkdir(parents=True)
        (directory / f"{split}.txt").write_text(f"one {split}\n\ntwo\n\nthree\n")
        (folder / "0000.jsonl").write_text(f'{{"text": "{split} one"}}\n{{"text": "two"}}\n')
    splits, copy = {"splits": ("train", "test")}, str(directory / "copy")
    train, test = (str(directory / f"{split}.txt") for split in splits["splits"])
    yield Text(train=train, test=test, document="blank_line"), splits
    yield Hub(dataset="owner/name", config="plain_text", path=copy), splits
    yield Lm1b(path=copy), splits
