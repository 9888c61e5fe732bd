"""A corpus for mdmkit: sums to learn arithmetic from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import hookimpl, option
from mdmkit.protocols import Corpus, Split

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """Sums of two random numbers, one a document: ``17 + 25 = 42``."""

    count: int = option(20_000, ge=1, doc="documents of a split")
    digits: int = option(4, ge=1, le=9, doc="at most so many digits a number")

    def documents(self, split: Split) -> Iterator[str]:
        """The sums of `split`, always the same."""
        numbers = random.Random(self.fingerprint(split))
        for _ in range(self.count):
            a, b = (int(numbers.random() * 10**self.digits) for _ in range(2))
            yield f"{a} + {b} = {a + b}"

    def fingerprint(self, split: Split) -> str:
        """Changes whenever the documents do."""
        return f"sums-v1-{split}-{self.count}-{self.digits}"

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Where the text comes from."""
        return {"source": "made-up sums", "split": split, "licence": "CC0-1.0"}


@hookimpl
def mdmkit_corpora() -> Mapping[str, type[Corpus]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[tuple[Example, Mapping[str, Any]]]:
    """What the contract checks try, and the arguments of the check."""
    yield Example(), {"splits": ("train", "validation", "test")}
