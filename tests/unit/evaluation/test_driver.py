from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import field, frozen

from mdmkit.errors import PluginError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.values import Measurement


@frozen(kw_only=True)
class Fixed:
    """An evaluator that returns what it is told."""

    numbers: Any
    provenance: Any = field(factory=lambda: {"split": "test"})
    done: list[int] = field(factory=list)

    def build(self, context):
        return self

    def __len__(self):
        return 3

    def update(self, index):
        self.done.append(index)

    def compute(self):
        return self.numbers


GOOD = {"accuracy": Measurement(value=0.5, stderr=0.1)}


def test_does_every_update_and_reports_progress():
    evaluator, seen = Fixed(numbers=GOOD), []
    found = run_evaluation(evaluator, None, label="x", progress=lambda *a: seen.append(a))
    assert evaluator.done == [0, 1, 2]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert found.to_json() == {
        "label": "x",
        "measurements": {"accuracy": {"value": 0.5, "stderr": 0.1, "unit": ""}},
        "provenance": {"split": "test"},
    }


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({}, "no numbers"),
        ({"accuracy": 0.5}, "expected a Measurement"),
        ({"accuracy": Measurement(value=0.5, stderr=math.nan)}, "standard error of accuracy"),
        ({"accuracy": Measurement(value=0.5, stderr=-1.0)}, "standard error of accuracy"),
        ({"accuracy": Measurement(value=math.inf, stderr=1.0)}, "accuracy is inf"),
    ],
)
def test_refuses_numbers_without_errors(numbers, words):
    with pytest.raises(PluginError, match=words):
        run_evaluation(Fixed(numbers=numbers), None, label="mine")


@pytest.mark.parametrize("provenance", [{"split": object()}, {"share": math.nan}])
def test_refuses_provenance_that_is_not_json(provenance):
    with pytest.raises(PluginError, match=r'"mine".*plain JSON'):
        run_evaluation(Fixed(numbers=GOOD, provenance=provenance), None, label="mine")
