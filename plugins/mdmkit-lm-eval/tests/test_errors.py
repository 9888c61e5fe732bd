from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

errors = pytest.importorskip(
    "mdmkit_lm_eval.errors", reason="not installed: pip install -e plugins/mdmkit-lm-eval"
)


def mean(items: list[float]) -> float:
    return sum(items) / len(items)


def perplexity(items: list[tuple[float, int]]) -> float:
    nats, words = zip(*items, strict=True)
    return math.exp(-sum(nats) / sum(words))


def items_of(one: list[Any], two: list[Any], all: list[Any]) -> Any:
    return errors.Items(all=all, halves=(one, two))


def test_an_accuracy_has_the_error_of_our_own_evaluators() -> None:
    """As `share` of the built-in evaluators: √(Σ (c₁ − c₂)²/2)/N."""
    one, two, both = [1.0, 1, 0, 0], [1.0, 0, 1, 0], [1.0, 0, 0, 0]
    found = errors.draws_stderr(items_of(one, two, both), mean, is_mean=True)
    assert found == pytest.approx(1 / 4)


def test_a_mean_of_likelihoods_has_that_of_a_mean_of_two() -> None:
    one, two = np.random.default_rng(1).normal(size=(2, 50))
    found = errors.draws_stderr(
        items_of(one.tolist(), two.tolist(), ((one + two) / 2).tolist()), mean, is_mean=True
    )
    assert found == pytest.approx(math.sqrt(float(((one - two) ** 2).sum()) / 4) / 50)


def test_a_perplexity_by_the_delta_method() -> None:
    source = np.random.default_rng(2)
    words = source.integers(3, 9, size=300)
    nats = -4.0 * words
    halves = [nats + source.normal(size=300) for _ in range(2)]
    both = [(float(x), int(n)) for x, n in zip(sum(halves) / 2, words, strict=True)]
    one, two = ([(float(x), int(n)) for x, n in zip(half, words, strict=True)] for half in halves)
    found = errors.draws_stderr(items_of(one, two, both), perplexity, is_mean=False)
    in_exponent = math.sqrt(float(((halves[0] - halves[1]) ** 2).sum()) / 4) / words.sum()
    assert found == pytest.approx(perplexity(both) * in_exponent, rel=0.2)


def test_it_is_honest_over_many_seeds() -> None:
    """What is said of one sample is how much many scatter."""
    source, documents = np.random.default_rng(3), 200
    values, claims = [], []
    for _ in range(60):
        one, two = source.normal(size=(2, documents)) + 5
        both = (one + two) / 2
        values.append(mean(both.tolist()))
        claims.append(
            errors.draws_stderr(
                items_of(one.tolist(), two.tolist(), both.tolist()), mean, is_mean=True
            )
        )
    assert float(np.std(values)) == pytest.approx(mean(claims), rel=0.3)


def test_nothing_drawn_is_no_error() -> None:
    same = [(1.0, 2)]
    assert errors.draws_stderr(items_of(same, same, same), perplexity, is_mean=False) == 0.0


def test_items_of_several_numbers_that_are_no_means() -> None:
    """Such as (right, chosen): twice the variance."""
    one, two = [(0, 1)] * 40, [(0, 0)] * 40
    found = errors.draws_stderr(
        items_of(one, two, one), lambda items: mean([x for _, x in items]), is_mean=False
    )
    assert found == pytest.approx(math.sqrt(2) * math.sqrt(40) / 80, rel=0.15)


def test_the_bootstrap_finds_the_error_of_a_mean() -> None:
    values = np.random.default_rng(4).normal(size=400).tolist()
    found = errors.bootstrap_stderr(values, mean)
    assert found == pytest.approx(float(np.std(values)) / 20, rel=0.15)
