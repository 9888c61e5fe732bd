from __future__ import annotations

import pytest

from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.recipe import LearningRate


@pytest.mark.parametrize(
    ("shape", "step", "expected"),
    [
        ("constant", 0, 0.1),
        ("constant", 9, 1.0),
        ("constant", 99, 1.0),
        ("linear", 10, 1.0),
        ("linear", 55, 0.6),  # halfway from 1 to 0.2
        ("cosine", 55, 0.6),
        ("cosine", 10, 1.0),
        ("wsd", 79, 1.0),
        ("wsd", 90, 0.6),
        ("wsd", 80, 1.0),
    ],
)
def test_learning_rate_shapes(shape: str, step: int, expected: float) -> None:
    options = LearningRate(
        shape=shape,  # type: ignore[arg-type]  # parametrised
        warmup_steps=10,
        final_fraction=0.2,
        decay_fraction=0.2,
    )
    assert learning_rate_fraction(options, 100)(step) == pytest.approx(expected)


def test_no_warmup_starts_at_the_peak() -> None:
    assert learning_rate_fraction(LearningRate(warmup_steps=0), 10)(0) == 1.0
