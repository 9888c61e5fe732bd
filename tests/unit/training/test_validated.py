"""What a time sampler is told of validations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mdmkit import load_recipe, train
from mdmkit.builtin.time_samplers.variance import LiveClipped
from mdmkit.validation_log import logged_steps


def test_a_sampler_is_told_of_every_validation_but_that_of_the_untrained_network(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(LiveClipped, "validated", lambda _, *given: told.append(given))
    run = train(load_recipe(tiny_recipe, ['time_sampler={use = "clipped"}'])).directory
    assert logged_steps(run) == [0, 4, 8, 12]
    assert len(told) == 3
    for t, nll, count in told:
        assert t.shape == nll.shape == count.shape
        assert ((t > 0) & (t <= 1)).all()
        assert (nll > 0).all()
        assert (count >= 1).all()
