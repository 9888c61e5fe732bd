from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor

from mdmkit.recipe import Recipe
from mdmkit.report.agreement import compare_curves
from mdmkit.report.curve_text import comparison_lines

from .curve_parts import Complementary, NearVisible, Shifting, recipe

UNIFORM = ("time_sampler.use=uniform",)


@attrs.frozen(kw_only=True)
class UniformUnderCosine:
    """q(t) = |alpha'(t)| of the cosine schedule, so that the mask ratio is uniform."""

    def at(self, step: int) -> UniformUnderCosine:
        return self

    def density(self, t: Tensor) -> Tensor:
        return math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))

    def icdf(self, u: Tensor) -> Tensor:
        return (1 - u.acos() * 2 / math.pi).clamp(2.0**-64, 1 - 2.0**-53)


@attrs.frozen(kw_only=True)
class AsTheBell:
    """Weight q_bell(t) over all tokens times `scale`: flat over masked tokens has 1/E[t] = 2."""

    normalizer: str = "tokens"
    scale: float = 2.0

    def weight(self, *, t, **_):
        return self.scale * recipe().time_sampler.at(0).density(t)


def test_the_same_curves_by_other_parts_are_equal_in_expectation():
    under_cosine = recipe("noise_schedule.use=cosine", time_sampler=UniformUnderCosine())
    found = compare_curves(under_cosine, recipe(*UNIFORM))
    assert (found.density_equal, found.weight_equal, found.weight_factor) == (True, True, 1.0)
    assert found.verdict == "Both curves agree: the recipes are equal in expectation."
    assert found.notes == ()
    (at,) = found.steps
    assert max(at.density.size, at.weight.size) < 1e-6


@pytest.mark.parametrize(("scale", "factor"), [(2.0, 1.0), (0.5, 4.0)])
def test_a_bell_of_times_and_a_bell_of_weights_share_the_weight_alone(scale: float, factor: float):
    found = compare_curves(recipe(), recipe(*UNIFORM, loss_weighting=AsTheBell(scale=scale)))
    assert (found.density_equal, found.weight_equal) == (False, factor == 1.0)
    assert found.weight_factor == pytest.approx(factor, rel=1e-6)
    assert "estimated with another noise" in found.verdict
    assert ("up to the factor 4" in found.verdict) is (factor != 1.0)


def test_recipes_of_other_weights_are_told_apart_with_the_place():
    found = compare_curves(recipe(*UNIFORM), recipe(*UNIFORM, "loss_weighting.use=elbo"))
    assert (found.density_equal, found.weight_equal, found.weight_factor) == (True, False, None)
    (at,) = found.steps
    assert at.weight.size == pytest.approx(0.98 / 1.98)  # 2r against 1, over the height 1.98
    assert sorted(at.weight.values) in (
        pytest.approx([0.02, 1.0]), pytest.approx([1.0, 1.98]),
    )  # fmt: skip
    assert found.verdict.startswith("The recipes train on different losses")
    lines = comparison_lines(found)
    assert lines[0] == "at step 0:"
    assert "density     agree" in lines[1]
    assert "weight      differ" in lines[2]
    assert "tolerance 0.001" in lines[2]


def test_the_tolerance_is_that_of_the_call():
    one, near = (recipe(f"time_sampler.width={width}") for width in (0.2, 0.2001))
    assert not compare_curves(one, near, tolerance=1e-5).density_equal
    assert compare_curves(one, near, tolerance=1e-2).density_equal


def test_what_changes_the_loss_besides_its_weight_is_said():
    """Complementary twins of a symmetric bell have its very curves, but not its masks."""
    found = compare_curves(recipe(), recipe(mask_pattern=Complementary()))
    assert (found.density_equal, found.weight_equal) == (True, True)
    (note,) = found.notes
    assert note.endswith("they differ in [mask_pattern]")


def test_a_mean_over_positions_is_said_to_be_one():
    one = recipe(*UNIFORM, loss_weighting=NearVisible())
    assert compare_curves(one, one).notes == ()
    other = recipe(*UNIFORM, "run.seed=2", loss_weighting=NearVisible())
    assert compare_curves(one, other).notes == ()
    twice = recipe("noise_schedule.use=cosine", time_sampler=UniformUnderCosine())
    found = compare_curves(one, attrs.evolve(twice, loss_weighting=NearVisible()))
    assert found.weight_equal
    assert "only its mean over masked tokens was compared" in found.notes[0]


def test_what_differs_on_the_way_is_found_whatever_the_lengths():
    def shifting(steps: int, by: str = "steps") -> Recipe:
        changes = (f"train.steps={steps}", "learning_rate.warmup_steps=0")
        return recipe(*changes, "loss_weighting.use=inverse_t", time_sampler=Shifting(by=by))

    found = compare_curves(shifting(101), shifting(201))
    assert (found.density_equal, found.weight_equal) == (True, True)
    assert [at.steps for at in found.steps] == [(0, 0), (50, 100), (100, 200)]
    found = compare_curves(shifting(101), shifting(201, "abrupt"))
    sizes = [at.density.size for at in found.steps]
    assert sizes[0] == sizes[-1] == 0
    assert max(sizes) > 0.1
    assert found.weight_factor is None
    assert any(line == "at step 100, of the other 200:" for line in comparison_lines(found))
