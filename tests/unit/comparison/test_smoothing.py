from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from mdmkit.comparison.smoothing import (
    INITIAL_FALL,
    LEAST_BULGE,
    Plateau,
    falling,
    find_plateau,
    first_crossing,
    value_at,
)

from .synthetic import curve


def best_by_trying(values: np.ndarray) -> np.ndarray:
    """The least-squares falling fit, among all ways of cutting the points into stretches."""
    points, best = len(values), (np.inf, values)
    for cuts in itertools.product([False, True], repeat=points - 1):
        parts = np.split(values, [i + 1 for i, cut in enumerate(cuts) if cut])
        fit = np.concatenate([np.full(len(part), part.mean()) for part in parts])
        if (np.diff(fit) <= 1e-12).all():
            best = min(best, (((values - fit) ** 2).sum(), fit), key=lambda pair: pair[0])
    return best[1]


def test_the_fit_is_the_best_falling_one():
    values = np.random.default_rng(1).normal(size=(40, 7))
    tried = np.stack([best_by_trying(row) for row in values])
    np.testing.assert_allclose(falling(values), tried, atol=1e-12)


def test_the_fit_agrees_with_scipy_on_long_curves():
    values = np.random.default_rng(2).normal(size=(30, 60)).cumsum(-1)
    theirs = [isotonic_regression(row, increasing=False).x for row in values]
    fit = falling(values)
    np.testing.assert_allclose(fit, theirs, atol=1e-12)
    assert (np.diff(fit) <= 0).all()
    np.testing.assert_allclose(falling(fit), fit, atol=1e-12)


def test_a_crossing_by_hand():
    curves = np.array([[4.0, 3.0, 2.0], [4.0, 3.0, 2.0], [4.0, 3.0, 2.0], [4.0, 3.0, 2.0]])
    found = first_crossing(curves, np.array([2.5, 1.9, 4.5, 4.0]))
    np.testing.assert_array_equal(found.at, [1.5, np.nan, np.nan, 0.0])
    assert found.reached.tolist() == [True, False, True, True]
    assert found.from_start.tolist() == [False, False, True, False]


def test_the_first_of_equal_points_is_the_crossing():
    found = first_crossing(np.array([[4.0, 3.0, 3.0, 3.0]]), np.array([3.0]))
    assert found.at.tolist() == [1.0]


def test_an_end_that_is_level_is_reached_where_it_begins():
    """The fit of equal points differs in the last digits of their sums; it is one level."""
    walk = np.random.default_rng(2).normal(size=(30, 60)).cumsum(-1)
    level = falling(np.concatenate([walk[:, :1] + 50, walk], axis=-1))
    begins = (level == level[:, -1:]).argmax(-1)
    assert (begins < 60).sum() > 10
    smooth = falling(level)
    np.testing.assert_allclose(first_crossing(smooth, smooth[:, -1]).at, begins, atol=1e-6)


def test_values_between_points():
    at = np.array([0.5, 1.0, 2.0, np.nan])
    values = np.array([100.0, 400.0, 1600.0])
    np.testing.assert_allclose(value_at(values, at), [250, 400, 1600, np.nan])
    np.testing.assert_allclose(value_at(values, at, "log"), [200, 400, 1600, np.nan])


def test_a_plateau_is_found_where_it_is():
    steps = np.arange(0, 601, 10.0)
    found = find_plateau(steps, np.array([curve(step) for step in steps]))
    assert found == Plateau(start=50, end=200)
    curves = np.stack([[curve(step) + shift for step in steps] for shift in (0, 0.25)])
    np.testing.assert_allclose(found.level(steps, curves), [5.0, 5.25])


@pytest.mark.parametrize(
    "shape",
    [
        lambda s: 3 + 3 * np.exp(-s / 100),  # diminishing returns from the start
        lambda s: 5 + np.exp(-s / 20),  # a plateau that is not left
        lambda s: np.interp(s, [0, 20, 50, 600], [6, 6, 5, 3]),  # a warm-up is no plateau
        lambda s: np.full_like(s, 6 - INITIAL_FALL / 2),  # nothing learned
        lambda s: np.interp(s, [0, 50, 300, 600], [6, 5, 5 - 0.9 * LEAST_BULGE, 5 - LEAST_BULGE]),
    ],
)
def test_no_plateau_where_there_is_none(shape):
    steps = np.arange(0, 601, 10.0)
    assert find_plateau(steps, shape(steps)) is None
