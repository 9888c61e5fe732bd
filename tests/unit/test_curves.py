from __future__ import annotations

import itertools
import math
from typing import Any

import attrs
import pytest
import torch

from mdmkit.draws import StepDraws
from mdmkit.recipe import load_recipe
from mdmkit.report.curve_text import curve_lines, sparkline, training_lines
from mdmkit.report.curves import Curves, curves_over_training, effective_curves, why_no_curves
from mdmkit.testing import objective_context, run_facts
from mdmkit.values import Batch

from .curve_parts import (
    CATALOGUE,
    Asking,
    Complementary,
    NearVisible,
    OneRun,
    Shifting,
    recipe,
)

BASE = load_recipe("quickstart_bell", catalogue=CATALOGUE)


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


def test_an_objective_without_times_has_no_curves():
    made = load_recipe("quickstart_ar", catalogue=CATALOGUE)
    assert "next_token" in (why_no_curves(made) or "")
    with pytest.raises(ValueError, match="no curves: the objective trains"):
        effective_curves(made)


def test_the_lines_show_ten_points_and_a_bar_for_each():
    lines = curve_lines(effective_curves(BASE))
    assert lines[1].split()[2:] == [f"{r:.3f}" for r in (0.05 + 0.1 * i for i in range(10))]
    bars = [line.split("|")[1] for line in lines if "|" in line]
    assert [len(bar) for bar in bars] == [50, 50]
    assert "█" in bars[0]


def test_a_sparkline_never_hides_what_is_not_zero():
    assert sparkline([0.0, 1e-9, 1.0]) == " ▁█"
    assert sparkline([0.0, 0.0]) == "  "


# --- the mask pattern: twins, rounding, weights by position


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_twins_at_rates_of_their_own_are_folded_into_both_curves(schedule: str):
    """Complementary twins: p(r) = (p0(r) + p0(1 − r))/2, and E[r] = 1/2 whatever p0 is."""
    choices = (f"noise_schedule.use={schedule}", "time_sampler.centre=0.3")
    one, two = (recipe(*choices, **parts) for parts in ({}, {"mask_pattern": Complementary()}))
    alone, twins = effective_curves(one, points=40), effective_curves(two, points=40)
    folded = [(p + m) / 2 for p, m in zip(alone.density, alone.density[::-1], strict=True)]
    assert twins.density == pytest.approx(folded)
    assert twins.density != pytest.approx(alone.density, rel=0.1)
    expected = [2 * r * p for r, p in zip(twins.mask_ratio, folded, strict=True)]
    assert twins.weight == pytest.approx(expected)
    assert twins.notes == ()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_twins_keep_the_weights_that_undo_the_density(schedule: str):
    choices = (f"noise_schedule.use={schedule}", "time_sampler.centre=0.3")
    made = recipe(*choices, "loss_weighting.use=elbo", mask_pattern=Complementary())
    assert effective_curves(made).weight == pytest.approx([1.0] * 50, rel=1e-6)
    made = recipe(*choices, "loss_weighting.normalizer=sequence", mask_pattern=Complementary())
    curves = effective_curves(made)
    assert curves.weight == pytest.approx(curves.density)


def test_a_pattern_that_rounds_up_counts_its_own_tokens():
    rounded = ("mask_pattern.use=exact_count", "mask_pattern.rounding=up", "data.length=8")
    exact = recipe(
        *rounded,
        "time_sampler.use=uniform",
        "loss_weighting.use=elbo",
        "loss_weighting.estimator=count",
    )
    assert effective_curves(exact).weight == pytest.approx([1.0] * 50)
    flat = effective_curves(recipe(*rounded, "time_sampler.use=uniform"), points=20)
    own = [math.ceil(8 * r) / 8 for r in flat.mask_ratio]
    assert flat.weight == pytest.approx([r / (9 / 16) for r in own], rel=1e-3)  # E[⌈8r⌉/8] = 9/16


def test_a_weight_by_position_is_averaged_over_masks_of_the_recipes_own_pattern():
    """The left neighbour of a masked token is visible with probability 1 − r; in a run, 1/(r·L)."""
    uniform = recipe("time_sampler.use=uniform", loss_weighting=NearVisible())
    curves = effective_curves(uniform, points=10)
    assert curves.by_position
    assert "position" in curves.notes[0]
    assert curves.weight == pytest.approx([r * (2 - r) for r in curves.mask_ratio], rel=0.02)
    run = attrs.evolve(uniform, mask_pattern=OneRun())
    expected = [r * (1 + 1 / (r * BASE.data.length)) for r in curves.mask_ratio]
    assert effective_curves(run, points=10).weight == pytest.approx(expected, rel=0.02)
    assert not effective_curves(BASE).by_position


def test_a_weight_by_position_is_smooth_and_the_same_every_time():
    made = recipe(loss_weighting=NearVisible(normalizer="weights"))
    curves = effective_curves(made, points=40)
    assert curves == effective_curves(made, points=40)
    assert integral(curves, curves.weight) == pytest.approx(1, abs=5e-3)
    shape = [
        w / (p * r)
        for w, p, r in zip(curves.weight, curves.density, curves.mask_ratio, strict=True)
    ]
    falls = [a - b for a, b in itertools.pairwise(shape)]
    assert min(falls) > 0  # 2 − r, up to a factor


def test_a_weight_by_position_where_each_row_is_divided_by_its_own_count():
    made = recipe("time_sampler.use=uniform", loss_weighting=NearVisible(normalizer="sequence"))
    curves = effective_curves(made, points=10)
    assert curves.weight == pytest.approx([2 - r for r in curves.mask_ratio], rel=0.02)
    # A run of 1 or 2 of 8 tokens: the rows' means are 2 and 3/2, where all tokens' is 5/3.
    short = load_recipe("quickstart_bell", ["data.length=8"], catalogue=CATALOGUE)
    short = attrs.evolve(made, data=short.data, mask_pattern=OneRun())
    assert effective_curves(short, points=8).weight[1] == pytest.approx(1.75, abs=0.03)


@pytest.mark.parametrize("normalizer", ["tokens", "masked", "weights", "sequence"])
@pytest.mark.parametrize("pattern", [None, Complementary()])
@pytest.mark.parametrize("by_position", [False, True])
def test_the_weight_is_what_the_objective_hands_out(normalizer, pattern, by_position):
    """Summed weights of 4096 drawn rows in five cells of the mask ratio, over the denominator."""
    parts: dict[str, Any] = {"mask_pattern": pattern} if pattern else {}
    if by_position:
        parts["loss_weighting"] = NearVisible(normalizer=normalizer)
    choices = (f"loss_weighting.normalizer={normalizer}", "time_sampler.centre=0.35")
    made = recipe(*choices, "data.length=64", **parts)
    tables = ("noise_schedule", "time_sampler", "mask_pattern", "loss_weighting")
    chosen = {table: getattr(made, table) for table in tables}
    context = attrs.evolve(objective_context(run_facts(length=64)), **chosen)
    objective = made.objective.build(context)
    rows = torch.arange(4096)
    draws = StepDraws(seed=3, step=0, rows=rows, global_rows=4096)
    noised = objective.corrupt(Batch(tokens=torch.zeros(4096, 64, dtype=torch.int64)), draws)
    handed = torch.where(noised.in_loss, noised.weights, 0.0).double().sum(-1)
    cell = (noised.t * 5).long().clamp(0, 4)  # the schedule is linear: t is the mask rate
    drawn = torch.zeros(5).double().index_add_(0, cell, handed) / noised.denominator
    curves = effective_curves(made, points=200)
    expected = torch.tensor(curves.weight).double().reshape(5, 40).sum(-1) / 200
    assert drawn.tolist() == pytest.approx(expected.tolist(), abs=0.02)


# --- what is built from facts, and what changes over training


def test_what_changes_is_shown_at_both_ends_and_halfway():
    made = recipe("loss_weighting.use=inverse_t", time_sampler=Shifting())  # weight = density
    first, middle, last = curves_over_training(made)
    steps = BASE.train.steps
    assert (first.step, last.step) == (0, steps - 1)
    assert middle.step == pytest.approx(steps / 2, rel=0.01)
    assert first.density == pytest.approx([2.0] * 25 + [0.0] * 25)
    assert last.density == pytest.approx([0.0] * 25 + [2.0] * 25)
    assert middle.density == pytest.approx([1.0] * 50, rel=0.01)
    for curves in (first, middle, last):
        assert integral(curves, curves.density) == pytest.approx(1)
    assert len(curves_over_training(BASE)) == 1


def test_a_change_with_the_learning_rate_is_shown_within_the_decay():
    made = recipe(
        "learning_rate.shape=wsd",
        "learning_rate.warmup_steps=0",
        "train.steps=1001",
        time_sampler=Shifting(by="learning_rate"),
    )
    steps = [curves.step for curves in curves_over_training(made)]
    assert steps[0] == 0
    assert 850 <= steps[1] <= 950
    assert steps[2] == 1000


def test_a_change_at_once_has_no_middle_and_a_passing_one_is_not_missed():
    abrupt = curves_over_training(recipe("train.steps=100", time_sampler=Shifting(by="abrupt")))
    assert [curves.step for curves in abrupt] == [0, 99]
    bump = curves_over_training(recipe("train.steps=101", time_sampler=Shifting(by="bump")))
    assert [curves.step for curves in bump] == [0, 50, 100]
    lines = training_lines(bump)
    assert [line for line in lines if line.startswith("at step")] == [
        "at step 0:", "at step 50:", "at step 100:",
    ]  # fmt: skip


def test_a_weighting_that_changes_is_shown_too():
    @attrs.frozen(kw_only=True)
    class Fading:
        normalizer: str = "tokens"

        def weight(self, *, t, step, **_):
            return torch.full_like(t, 2.0) if step == 0 else torch.ones_like(t)

    first, last = curves_over_training(recipe(loss_weighting=Fading()))
    assert first.weight == pytest.approx([2 * w for w in last.weight])
    assert first.density == last.density


@pytest.mark.parametrize(
    ("fact", "words"), [("token_counts", "its token counts"), ("vocab", "its vocabulary")]
)
def test_what_asks_for_the_text_has_no_curves_before_the_run(fact: str, words: str):
    made = recipe(time_sampler=Asking(fact=fact))
    reason = f"the time sampler is built from facts of the run: from {words}"
    assert why_no_curves(made) == reason
    with pytest.raises(ValueError, match=reason):
        effective_curves(made)
    assert why_no_curves(BASE) is None


def test_a_sampler_that_adapts_is_shown_as_it_starts():
    (curves,) = curves_over_training(recipe(time_sampler=Asking(fact="none")))
    assert curves.density == pytest.approx([1.0] * 50)
    assert "adapts" in curves.notes[0]
    assert training_lines([curves])[-1] == f"note: {curves.notes[0]}"


def test_the_curves_of_a_mixed_objective_are_those_of_its_masked_rows():
    mixed = effective_curves(recipe("objective.use=mixed_causal"))
    assert attrs.evolve(mixed, notes=()) == effective_curves(BASE)
    assert "next-token" in mixed.notes[0]


@pytest.mark.parametrize("schedule", ["linear", "polynomial"])
def test_the_annealed_weighting_turns_from_its_bell_into_the_nelbo(schedule: str):
    made = recipe(
        f"noise_schedule.use={schedule}",
        "loss_weighting.use=annealed",
        "learning_rate.shape=wsd",
        "time_sampler.use=uniform",
    )
    first, *_, last = curves_over_training(made)
    assert sum(first.weight) / len(first.weight) == pytest.approx(1, abs=3e-3)
    assert max(first.weight) > 1.5
    assert last.weight == pytest.approx([1.0] * len(last.weight), rel=1e-6)


def test_a_weight_that_counts_masked_tokens_is_said_to():
    curves = effective_curves(recipe("loss_weighting={use = 'elbo', estimator = 'rao_blackwell'}"))
    assert curves.by_count
    assert any("number of masked tokens" in note for note in curves.notes)
    assert not effective_curves(recipe()).by_count


def test_a_component_may_remark_on_its_curves():
    @attrs.frozen(kw_only=True)
    class Mixed(type(BASE.objective)):  # type: ignore[misc]  # a class found at run time
        remark: str = "half of the rows are trained otherwise"

    assert effective_curves(recipe(objective=Mixed())).notes == (
        "half of the rows are trained otherwise",
    )
