from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mdmkit.comparison.difference import compare_sums

TOKENS = np.full(8, 100.0)
NOISE = np.array([0.3, -0.2, 0.1, -0.4, 0.2, 0.1, -0.2, 0.1])  # of a document, nats per token


def sums(*levels: float, noise: np.ndarray = NOISE) -> np.ndarray:
    """Nats of each seed and document."""
    return np.stack([TOKENS * (level + noise) for level in levels])


def test_one_seed_by_hand():
    own, other = sums(4.0, noise=0.02 * NOISE), sums(4.0, noise=0 * NOISE)
    found = compare_sums("all", own, other, TOKENS, paired=False, margin=0.01)
    error = (0.02 * NOISE).std(ddof=1) / math.sqrt(8)
    assert found.value == pytest.approx(0, abs=1e-12)
    assert (found.stderr, found.seed_stderr) == (pytest.approx(error), 0)
    assert found.degrees == pytest.approx(7)
    assert found.upper == pytest.approx(stats.t.ppf(0.95, 7) * error)
    assert found.shown is True


def test_what_both_share_does_not_count():
    found = compare_sums("all", sums(4.005), sums(4.0), TOKENS, paired=False, margin=0.01)
    assert (found.value, found.stderr) == (pytest.approx(0.005), pytest.approx(0, abs=1e-12))
    assert found.shown is True
    worse = compare_sums("all", sums(4.015), sums(4.0), TOKENS, paired=False, margin=0.01)
    assert worse.shown is False


def test_seeds_are_paired_where_they_can_be():
    own, other = sums(4.001, 4.101, 4.202), sums(4.0, 4.1, 4.2)
    paired = compare_sums("all", own, other, TOKENS, paired=True, margin=0.01)
    alone = compare_sums("all", own, other, TOKENS, paired=False, margin=0.01)
    assert paired.value == alone.value
    spread = np.std([0.001, 0.001, 0.002], ddof=1)
    assert paired.seed_stderr == pytest.approx(spread / math.sqrt(3))
    assert paired.degrees == pytest.approx(2)
    assert (paired.shown, alone.shown) == (True, False)
    apart = sum(
        np.var([4 + x for x in level], ddof=1) / 3
        for level in ((0.001, 0.101, 0.202), (0, 0.1, 0.2))
    )
    assert alone.seed_stderr == pytest.approx(math.sqrt(apart))


def test_better_is_not_shown_where_it_cannot_be_known():
    own, other = sums(3.0, 3.9), sums(4.0, 4.0)
    found = compare_sums("all", own, other, TOKENS, paired=True, margin=0.01)
    assert found.value < 0
    assert found.shown is False


def test_one_document_gives_no_bound():
    tokens = TOKENS * np.eye(8)[0]
    found = compare_sums("0 to 0.2", sums(4.0), sums(4.0), tokens, paired=False, margin=0.01)
    assert (found.upper, found.shown) == (None, None)


def test_the_bound_is_above_the_truth_as_often_as_it_says():
    """A true difference of 0, 5 seeds and 20 documents, 400 experiments."""
    source = np.random.default_rng(3)
    tokens, above = np.full(20, 50.0), 0
    for _ in range(400):
        seeds = source.normal(size=(2, 5, 1))
        text = source.normal(size=(2, 1, 20))
        own, other = tokens * (4 + 0.1 * seeds + 0.1 * text)
        found = compare_sums("all", own, other, tokens, paired=True, margin=0.0)
        above += found.upper > 0
    assert 0.92 <= above / 400 <= 0.985
