from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mdmkit.comparison.resampling import (
    Bootstrap,
    cluster_sums,
    interval,
    one_sided_quantile,
    resampled_ratios,
    spread,
)

BOOTSTRAP = Bootstrap(resamples=4000, seed=5)


def test_row_0_is_the_data_and_every_row_adds_up_to_one():
    weights = BOOTSTRAP.weights(4, "documents")
    np.testing.assert_array_equal(weights[0], [0.25] * 4)
    np.testing.assert_allclose(weights.sum(-1), 1)
    assert set(np.unique(weights[1:] * 3).round(9)) <= {0, 1, 2, 3}


def test_draws_are_a_function_of_seed_and_name():
    one = BOOTSTRAP.weights(5, "seeds", (1, 2))
    np.testing.assert_array_equal(one, BOOTSTRAP.weights(5, "seeds", (1, 2)))
    assert not np.array_equal(one, BOOTSTRAP.weights(5, "seeds", (1, 3)))
    assert not np.array_equal(one, Bootstrap(resamples=4000, seed=6).weights(5, "seeds", (1, 2)))


@pytest.mark.parametrize("units", [2, 3, 10])
def test_the_variance_of_a_mean_is_that_of_theory(units):
    values = np.random.default_rng(units).normal(size=units)
    means = BOOTSTRAP.weights(units, "seeds") @ values
    wanted = values.std(ddof=1) / np.sqrt(units)
    assert spread(means) == pytest.approx(wanted, rel=0.05)  # its own error is about 1%


def test_one_unit_does_not_vary():
    assert (BOOTSTRAP.weights(1, "seeds") == 1).all()


def test_sums_and_ratios_by_hand():
    nats = cluster_sums(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([1, 0, 1]), 2)
    assert nats.tolist() == [[2, 4], [5, 10]]
    weights = np.array([[0.5, 0.5], [1.0, 0.0]])
    found = resampled_ratios(nats, np.array([1.0, 2.0]), weights)
    np.testing.assert_allclose(found, [[6 / 3, 15 / 3], [2, 5]])


def test_an_interval_is_open_where_its_end_is_not_reached():
    low, high = np.linspace(0, 1, 201), np.linspace(0, 1, 201)
    assert interval(low, high).low == pytest.approx(0.025)
    assert interval(low, high).high == pytest.approx(0.975)
    high[-10:] = np.inf
    assert interval(low, high).high is None
    low[:4] = -np.inf  # fewer than the tail
    assert interval(low, high).low == pytest.approx(0.025)


@pytest.mark.parametrize("degrees", [1.0, 1.7, 3.0, 12.0, 250.0])
def test_the_quantile_of_students_t(degrees):
    assert one_sided_quantile(degrees) == pytest.approx(stats.t.ppf(0.95, degrees), rel=1e-6)


def test_intervals_cover_what_they_should():
    """Two levels, 6 seeds and 30 documents, 300 experiments: 95% ± 1.3% would be exact."""
    source = np.random.default_rng(0)
    covered = 0
    for number in range(300):
        bootstrap = Bootstrap(resamples=400, seed=number)
        seeds, documents = source.normal(size=6), source.normal(size=30)
        rows = bootstrap.weights(6, "seeds") @ seeds + bootstrap.weights(30, "d") @ documents
        found = interval(rows[1:], rows[1:])
        covered += found.low <= 0 <= found.high
    assert 0.87 <= covered / 300 <= 0.98  # percentile intervals of six seeds are a little short
