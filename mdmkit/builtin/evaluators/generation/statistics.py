"""Statistics of texts as lists of token ids: entropy, repetition, diversity. Pure Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Ids = Sequence[int]


def unigram_entropy(ids: Ids) -> float:
    """Entropy of the tokens of one text, in nats: −Σ_v (c_v/L) log(c_v/L).

    c_v is how often token v occurs among the L tokens (arXiv 2409.02908, §4.1). It cannot exceed
    log L, so it compares texts of one length. 0.0 for an empty text.

    >>> round(unigram_entropy([7, 7, 8, 8]), 6)
    0.693147
    """
    length = len(ids)
    return math.fsum(c / length * math.log(length / c) for c in Counter(ids).values())


def ngrams(ids: Ids, n: int) -> list[tuple[int, ...]]:
    """The n-grams of one text, in order; none where it has fewer than n tokens."""
    return [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]


def repetition(ids: Ids, n: int) -> float:
    """Share of repeated n-grams in one text: 1 − unique/total.

    seq-rep-n of Welleck et al. 2020 (arXiv 1908.04319), rep-n of Su et al. 2022 (arXiv
    2202.06417) without its factor 100. 0.0 where there is no n-gram.

    >>> repetition([1, 2, 1, 2], 2)
    0.33333333333333337
    """
    found = ngrams(ids, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def distinct(texts: Sequence[Ids], n: int) -> tuple[float, float]:
    """Different n-grams of all texts together over the n-grams there are, with its error.

    distinct-n of Li et al. 2016 (arXiv 1510.03055), who divide by tokens. It falls with the
    number and the length of the texts. The standard error is a jackknife over texts; a bootstrap
    would draw texts twice, and their n-grams with them.

    Args:
        texts: U >= 2 of them.
        n: 1 or more.

    Returns:
        Value and standard error; zeros where no text has an n-gram.
    """
    by_text = [ngrams(ids, n) for ids in texts]
    total = sum(map(len, by_text))
    if total == 0:
        return 0.0, 0.0
    holders = Counter(gram for found in by_text for gram in set(found))
    without = [
        (len(holders) - sum(holders[gram] == 1 for gram in set(found))) / (total - len(found))
        if total > len(found)
        else len(holders) / total
        for found in by_text
    ]
    return len(holders) / total, _jackknife_error(without)


def _jackknife_error(without: Sequence[float]) -> float:
    """The standard error, from the values with each text left out in turn."""
    count = len(without)
    mean = math.fsum(without) / count
    return math.sqrt((count - 1) / count * math.fsum((value - mean) ** 2 for value in without))
