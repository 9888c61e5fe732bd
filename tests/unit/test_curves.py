from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch

from mdmkit.plugins import load_catalogue
from mdmkit.recipe import Recipe, load_recipe
from mdmkit.report.curves import (
    Curves,
    curve_lines,
    curves_over_training,
    effective_curves,
    sparkline,
    why_no_curves,
)

CATALOGUE = load_catalogue({"MDMKIT_PLUGINS": "none"})
BASE = load_recipe("quickstart_bell", catalogue=CATALOGUE)


def recipe(*overrides: str, **parts: Any) -> Recipe:
    made = load_recipe("quickstart_bell", overrides, catalogue=CATALOGUE)
    return attrs.evolve(made, **parts)


def integral(curves: Curves, values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(curves.mask_ratio)


@pytest.mark.parametrize("weighting", ["elbo", "inverse_t"])
def test_standard_training_weighs_every_mask_ratio_the_same(weighting: str):
    curves = effective_curves(
        recipe("time_sampler.use=uniform", f"loss_weighting.use={weighting}"), points=37
    )
    assert curves.density == pytest.approx([1.0] * 37)
    assert curves.weight == pytest.approx([1.0] * 37)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("sampler", ["uniform", "bell"])
def test_the_elbo_weighting_undoes_schedule_and_density(schedule: str, sampler: str):
    curves = effective_curves(
        recipe(
            f"noise_schedule.use={schedule}",
            f"time_sampler.use={sampler}",
            "loss_weighting.use=elbo",
        )
    )
    assert curves.weight == pytest.approx([1.0] * 50, rel=1e-6)


def test_inverse_t_without_the_correction_weighs_by_the_density():
    curves = effective_curves(recipe("loss_weighting.use=inverse_t"))
    assert curves.weight == pytest.approx(curves.density)
    assert max(curves.density) > 1.9


def test_a_flat_bell_is_r_times_the_density_and_integrates_to_one():
    curves = effective_curves(recipe(), points=400)
    assert integral(curves, curves.density) == pytest.approx(1, abs=1e-4)
    assert integral(curves, curves.weight) == pytest.approx(1, abs=1e-4)
    ratios = [
        w / (r * p)
        for r, p, w in zip(curves.mask_ratio, curves.density, curves.weight, strict=True)
    ]
    assert ratios == pytest.approx([ratios[0]] * 400)
    assert ratios[0] == pytest.approx(2.0, rel=1e-6)  # 1/E[r], and the bell's mean is 1/2


def test_the_normalizers_of_the_reference():
    """Rows of its table: a flat weight over tokens, masked tokens, and each sequence's own."""
    bell = BASE.time_sampler.at(0)
    r = torch.tensor([0.125, 0.375, 0.625, 0.875], dtype=torch.float64)
    q = bell.density(r)

    def weight(normalizer: str) -> tuple[float, ...]:
        return effective_curves(recipe(f"loss_weighting.normalizer={normalizer}"), points=4).weight

    assert weight("tokens") == pytest.approx((r * q).tolist())
    assert weight("masked") == pytest.approx((r * q / 0.5).tolist())
    assert weight("weights") == pytest.approx((r * q / 0.5).tolist())
    assert weight("sequence") == pytest.approx(q.tolist())


def test_weights_are_divided_by_their_own_mean():
    made = recipe("loss_weighting.use=inverse_t", "loss_weighting.normalizer=weights")
    curves = effective_curves(made)
    assert curves.weight == pytest.approx(curves.density)  # w·r = 1 everywhere, so E[w·r] = 1


def test_the_weight_is_the_components_own_at_the_expected_count():
    curves = effective_curves(
        recipe(
            "time_sampler.use=uniform",
            "loss_weighting.use=elbo",
            "loss_weighting.estimator=rao_blackwell",
        ),
        points=8,
    )
    length = BASE.data.length
    assert curves.weight == pytest.approx([(length + 1) / length] * 8)


def test_a_bell_in_time_is_no_bell_in_mask_ratio_under_another_schedule():
    """With r = sin(πt/2), p(r) = q(t)·2/(π·cos(πt/2)): it leans towards r = 1."""
    linear = effective_curves(recipe(), points=200)
    cosine = effective_curves(recipe("noise_schedule.use=cosine"), points=200)
    r = torch.tensor(cosine.mask_ratio, dtype=torch.float64)
    t = r.asin() * 2 / math.pi
    expected = BASE.time_sampler.at(0).density(t) * 2 / (math.pi * torch.cos(math.pi * t / 2))
    assert cosine.density == pytest.approx(expected.tolist(), rel=1e-6)
    assert linear.density == pytest.approx(linear.density[::-1])
    assert cosine.mask_ratio[cosine.density.index(max(cosine.density))] > 0.7
    assert integral(cosine, cosine.weight) == pytest.approx(1, abs=5e-3)


def test_nothing_is_trained_where_nothing_is_drawn():
    curves = effective_curves(
        recipe(
            "noise_schedule.eps=0.2",
            "time_sampler.use=uniform",
            "time_sampler.eps=0.25",
            "loss_weighting.use=elbo",
        ),
        points=10,
    )
    # r runs from 0.8·0.25 = 0.2 to 0.8; the edges are not cells' midpoints
    assert [p > 0 for p in curves.density] == [False] * 2 + [True] * 6 + [False] * 2
    assert [w > 0 for w in curves.weight] == [False] * 2 + [True] * 6 + [False] * 2
    assert all(math.isfinite(w) for w in curves.weight)
    assert integral(curves, curves.density) == pytest.approx(1)


@attrs.frozen(kw_only=True)
class ByPosition:
    """A weight that differs by position: 1 at the first position, 0.5 elsewhere."""

    normalizer: str = "tokens"

    def weight(self, *, mask, **_):
        weights = torch.full(mask.shape, 0.5, dtype=torch.float64)
        weights[:, 0] = 1.0
        return weights


def test_weights_by_position_are_averaged_over_the_masked_ones():
    made = recipe("time_sampler.use=uniform", "data.length=8", loss_weighting=ByPosition())
    curves = effective_curves(made, points=4)  # masks of 1, 3, 5 and 7 tokens
    means = [1.0, 2 / 3, 3 / 5, 4 / 7]
    assert curves.weight == pytest.approx(
        [r * w for r, w in zip(curves.mask_ratio, means, strict=True)]
    )


@attrs.frozen(kw_only=True)
class Drifting:
    """A time sampler that changes over training."""

    def at(self, step: int):
        made = load_recipe("quickstart_bell", [f"time_sampler.centre={0.2 if step else 0.8}"])
        return made.time_sampler.at(step)


def test_what_changes_over_training_is_shown_at_both_ends():
    first, last = curves_over_training(recipe(time_sampler=Drifting()))
    assert (first.step, last.step) == (0, BASE.train.steps - 1)
    assert first.density == pytest.approx(last.density[::-1])
    assert len(curves_over_training(BASE)) == 1


def test_an_objective_without_times_has_no_curves():
    made = load_recipe("quickstart_ar", catalogue=CATALOGUE)
    assert "next_token" in (why_no_curves(made) or "")
    with pytest.raises(ValueError, match="no curves: the objective trains"):
        effective_curves(made)


@attrs.frozen(kw_only=True)
class Late:
    """A time sampler that exists only once the run is known."""

    def build(self, facts):
        raise NotImplementedError


def test_what_is_built_from_the_run_has_no_curves_before_it():
    assert why_no_curves(recipe(time_sampler=Late())) == (
        "the time sampler is built from facts of the run"
    )
    assert why_no_curves(BASE) is None


def test_the_lines_show_ten_points_and_a_bar_for_each():
    lines = curve_lines(effective_curves(BASE))
    assert lines[1].split()[2:] == [f"{r:.3f}" for r in (0.05 + 0.1 * i for i in range(10))]
    bars = [line.split("|")[1] for line in lines if "|" in line]
    assert [len(bar) for bar in bars] == [50, 50]
    assert "█" in bars[0]


def test_a_sparkline_never_hides_what_is_not_zero():
    assert sparkline([0.0, 1e-9, 1.0]) == " ▁█"
    assert sparkline([0.0, 0.0]) == "  "
