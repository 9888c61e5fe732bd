"""Text of documents with a hidden topic each: what predicts a symbol stands anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mdmkit.builtin.corpora.synthetic import LETTERS, fingerprint_of, source_of, whole_symbols
from mdmkit.options import option
from mdmkit.protocols import Split

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

Numbers = NDArray[np.float64]


@frozen(kw_only=True)
class TopicText:
    """Documents of one length with a hidden topic each; their masked entropy is known exactly.

    The letters fall into as many groups as there are topics. A document draws its topic, all as
    likely; given that, its symbols are independent: with probability ``purity`` one of the topic's
    own group, else one of another group, within a group each as likely. So a symbol a hundred
    places away says as much as the one beside it: text without locality.

    It needs a tokenizer with a token for each letter, and blocks that are in one document each::

        [data]
        length = 128                  # document_length, or a divisor of it
        corpus = { use = "topic_text", document_length = 128 }
        tokenizer = { use = "text8" }
        packing = { use = "packed", eos = false }

    How many visible symbols are of each group is all that they say of the topic, so the entropy of
    a hidden one given n visible is a sum over these counts.
    """

    seed: int = option(0, ge=0, doc="of the text")
    topics: int = option(4, ge=2, le=4, doc="T, how many topics (and groups of letters) there are")
    group: int = option(4, ge=1, le=13, doc="letters of a group; topics times group is at most 26")
    purity: float = option(
        0.5, gt=0, lt=1, doc="chance that a symbol is of its topic's group; 1/topics says nothing"
    )
    document_length: int = option(128, ge=1, doc="symbols of a document")
    train: int = option(16_000, ge=1, doc="documents of the train split")
    held_out: int = option(1_600, ge=1, doc="documents each of the validation and test split")

    def __attrs_post_init__(self) -> None:
        """Refuse more letters than there are."""
        if self.topics * self.group > len(LETTERS):
            raise ValueError(
                f"group: {self.topics} groups of {self.group} letters; expected at most "
                f"{len(LETTERS)} letters in all"
            )

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of `split`; letters a, b, … are the first group, and so on."""
        source, letters = source_of(self.seed, split), np.array(list(LETTERS))
        for _ in range(self.train if split == "train" else self.held_out):
            topic = source.integers(self.topics)
            own = source.random(self.document_length) < self.purity
            away = source.integers(1, self.topics, self.document_length)
            groups = np.where(own, topic, (topic + away) % self.topics)
            places = source.integers(self.group, size=self.document_length)
            yield "".join(letters[groups * self.group + places])

    def fingerprint(self, split: Split) -> str:
        """A hash of the options, the split and its first document."""
        return fingerprint_of(self, split)

    def describe(self, split: Split) -> Mapping[str, Any]:
        """The process, and the entropy of a symbol alone and where the topic is known."""
        symbols = self.topics * self.group
        chances = np.array([self.purity, *[self._other] * (self.topics - 1)])
        known = math.log(self.group) - float((chances * np.log(chances)).sum())
        return {
            "source": "documents of hidden topics",
            "seed": self.seed,
            "topics": self.topics,
            "symbols": symbols,
            "purity": self.purity,
            "document_length": self.document_length,
            "split": split,
            "nats_per_symbol": {"alone": math.log(symbols), "given_the_topic": known},
        }

    def check(self, recipe: Recipe) -> Iterator[str]:
        """Other tokens than its symbols, or blocks that are in several documents."""
        yield from whole_symbols(recipe)
        if self.document_length % recipe.data.length:
            yield (
                "document_length: a block must be in one document; expected data.length "
                f"({recipe.data.length}) or a multiple of it, got {self.document_length}"
            )

    def masked_entropy(self, masked: int, length: int) -> float:
        """That of a symbol given the `length` − `masked` visible ones; which do not matter; nats.

        A sum over the counts n_1 … n_T of the visible symbols by group. All topics being alike, the
        counts are taken as those of a text of topic 1; the topic then has the probability
        p_z ∝ (purity/other)^{n_z} given the counts.

        Args:
            masked: k, from 1 to L.
            length: L, at most `document_length`.
        """
        return _entropy_given(length - masked, self.topics, self.purity) + math.log(self.group)

    @property
    def _other(self) -> float:
        return _other(self.topics, self.purity)


def _other(topics: int, purity: float) -> float:
    """The chance that a symbol is of one given group that is not its topic's."""
    return (1 - purity) / (topics - 1)


@cache
def _entropy_given(visible: int, topics: int, purity: float) -> float:
    """The entropy of the group of a symbol where so many others are seen, in nats."""
    other, total = _other(topics, purity), 0.0
    step = math.log(purity / other)
    factorials = np.array([math.lgamma(n + 1) for n in range(visible + 1)])  # log n!
    for own in range(visible + 1):
        counts = np.insert(_compositions(visible - own, topics - 1), 0, own, axis=1)  # [ways, T]
        log_chance = factorials[visible] - factorials[counts].sum(-1)
        log_chance += own * step + visible * math.log(other)
        topic = np.exp(step * counts - (step * counts).max(-1, keepdims=True))
        topic /= topic.sum(-1, keepdims=True)
        group = other + (purity - other) * topic  # [ways, T], the next symbol's
        total -= float(np.exp(log_chance) @ (group * np.log(group)).sum(-1))
    return total


def _compositions(total: int, parts: int) -> NDArray[np.int64]:
    """All ways to write `total` as a sum of so many numbers >= 0, in order: ``[ways, parts]``."""
    free = np.indices((total + 1,) * (parts - 1)).reshape(parts - 1, (total + 1) ** (parts - 1)).T
    last = total - free.sum(-1, keepdims=True)  # [(total + 1)^(parts - 1), 1]
    found: NDArray[np.int64] = np.hstack([free, last])[last[:, 0] >= 0]
    return found
