from __future__ import annotations

import math
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import attrs
import numpy as np
import pytest
import torch

from mdmkit.builtin.evaluators import Mauve
from mdmkit.builtin.evaluators.generation import Judge
from mdmkit.builtin.evaluators.generation.mauve_curve import (
    combined_error,
    mauve_of,
    sampling_variance,
)
from mdmkit.errors import MissingPackageError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.testing import evaluation_context

JUDGE = Judge(run="judge")
P = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
Q = torch.tensor([0.1, 0.0, 0.2, 0.7], dtype=torch.float64)


def test_histograms_that_are_alike_and_that_have_nothing_in_common():
    assert float(mauve_of(P, P)) == pytest.approx(1.0, abs=1e-9)
    # disjoint: the curve is ((1 − w)^5, w^5), under which ∫ w^5·5(1 − w)^4 dw = 5·5!·4!/10!
    one, two = torch.eye(2, dtype=torch.float64)
    expected = 5 * math.factorial(5) * math.factorial(4) / math.factorial(10)
    assert float(mauve_of(one, two)) == pytest.approx(expected, rel=0.03)
    assert float(mauve_of(P, Q)) == pytest.approx(float(mauve_of(Q, P)))
    assert mauve_of(P.expand(3, 4), Q.expand(3, 4)).shape == (3,)


def test_other_texts_matter_less_the_more_there_are():
    found = [sampling_variance(P, Q, (n, n), seed=1) for n in (100, 400)]
    assert found[0] / found[1] == pytest.approx(4, rel=0.5)


def test_the_errors_of_texts_and_of_seeds():
    assert combined_error(0.08, 0.07, 4) == pytest.approx((0.3, math.sqrt(0.02)))
    assert combined_error(0.0, 0.04, 1) == (0.2, None)


def test_the_mean_over_seeds_of_what_the_package_finds(monkeypatch):
    asked = []

    def compute_mauve(**options):
        asked.append(options)
        half = np.array([0.5, 0.5])
        return SimpleNamespace(mauve=0.5 + 0.1 * len(asked), p_hist=half, q_hist=half)

    module = ModuleType("mauve")
    module.__spec__ = ModuleSpec("mauve", None)
    module.compute_mauve = compute_mauve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mauve", module)
    context = attrs.evolve(evaluation_context(), seed=7)
    found = run_evaluation(Mauve(n=20, seeds=3, judge=JUDGE), context)
    number = found.measurements["mauve"]
    assert number.value == pytest.approx(0.7)
    assert number.draws_stderr == pytest.approx(0.1 / math.sqrt(3))
    assert number.stderr > number.draws_stderr
    assert [options["seed"] for options in asked] == [7, 8, 9]
    assert asked[0]["p_features"].shape == (10, 8)  # the split has ten blocks
    assert asked[0]["q_features"].shape == (20, 8)
    assert asked[0]["num_buckets"] == found.provenance["buckets"] == 2


def test_without_the_package(monkeypatch):
    path = "mdmkit.builtin.evaluators.generation.mauve.find_spec"
    monkeypatch.setattr(path, lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mdmkit\[mauve\]'"):
        Mauve(judge=JUDGE).build(evaluation_context())


@pytest.mark.skipif(find_spec("mauve") is None, reason="needs the extra mauve")
def test_the_curve_is_that_of_the_package():
    from mauve.compute_mauve import compute_mauve

    source = np.random.default_rng(0)
    p, q = source.normal(size=(2, 60, 5)).astype("float32")
    found = compute_mauve(p_features=p, q_features=q + 0.5, num_buckets=6, seed=1)
    ours = mauve_of(torch.from_numpy(found.p_hist), torch.from_numpy(found.q_hist))
    assert float(ours) == pytest.approx(found.mauve, rel=1e-6)
