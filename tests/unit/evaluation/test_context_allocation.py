from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch

from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.evaluators import ContextAllocation
from mdmkit.builtin.evaluators.analysis.run_lengths import counted_shapes, known_shape
from mdmkit.builtin.mask_patterns import BlueNoise, Clustered, Complementary, Independent
from mdmkit.builtin.objectives import Autoregressive, MixedCausal
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Flat
from mdmkit.errors import DataError, RecipeError
from mdmkit.evaluation.driver import Result, measure, run_evaluation
from mdmkit.recipe import load_recipe
from mdmkit.testing import evaluation_context
from mdmkit.testing.facts import objective_context, run_facts
from mdmkit.values import Line, Picture

LENGTH = 40


def found(*, batches: int = 40, **parts: Any) -> Result:
    context, facts = evaluation_context(), run_facts(length=LENGTH)
    made = attrs.evolve(
        objective_context(facts), **{name: facts.live(part) for name, part in parts.items()}
    )
    context = attrs.evolve(context, training=made, length=LENGTH)
    return run_evaluation(ContextAllocation(batches=batches, reach=8), context)


def lines(result: Result, key: str) -> dict[str, Line]:
    picture = result.pictures[key]
    assert isinstance(picture, Picture)
    return {line.name: line for line in picture.lines}


def agrees(drawn: Line, known: Line) -> bool:
    assert drawn.stderr is not None
    assert known.known
    assert known.x == drawn.x
    assert 0 < max(drawn.stderr) < 0.03
    away = [
        abs(y - truth) < 4 * error + 1e-3
        for y, truth, error in zip(drawn.y, known.y, drawn.stderr, strict=True)
    ]
    return all(away)


def test_shapes_of_uniform_rates_are_fractions():
    rates = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    r = torch.arange(6, dtype=torch.float64)
    truths = {
        "left": (2 / (r + 2), 1 / (r + 1)),
        "either": (1 / (r + 1), 1 / (2 * r + 1)),
        "run": (2 * (2 * r + 3) / ((r + 2) * (r + 3)), 2 / (r + 2)),
    }
    for name, (by_token, by_nelbo) in truths.items():
        for weights, truth in ((rates, by_token), (torch.ones_like(rates), by_nelbo)):
            assert torch.allclose(known_shape(name, rates, weights, 5), truth, atol=1e-6), name


def test_counting_agrees_with_looking():
    mask = torch.rand(30, 13, generator=torch.Generator().manual_seed(0)) < 0.7
    weights = torch.rand(30, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    reach, truth = 4, {name: [0.0] * 5 for name in ("left", "right", "either", "run")}
    for row, weight in zip(mask.tolist(), weights.tolist(), strict=True):
        for place in range(reach, 13 - reach):
            if not row[place]:
                continue
            left = next((d for d in range(1, place + 1) if not row[place - d]), 99)
            right = next((d for d in range(1, 13 - place) if not row[place + d]), 99)
            far = {"left": left, "right": right, "either": min(left, right)}
            for name, distance in {**far, "run": left + right - 1}.items():
                for r in range(reach + 1):
                    truth[name][r] += weight[place] * (distance > r)
    counted = counted_shapes(mask, weights, reach)
    for name, sums in truth.items():
        assert counted[name].tolist() == pytest.approx(sums), name


def test_independent_masks_are_as_their_closed_form_says():
    result = found(mask_pattern=Independent(), time_sampler=Bell(), loss_weighting=Flat())
    for key in ("either", "run"):
        drawn = lines(result, key)
        assert agrees(drawn["this run"], drawn["independent masks at its rates"])
        assert not agrees(drawn["this run"], drawn["independent, uniform rates"])
        assert "this run, as its loss weighs" not in drawn
    side = lines(result, "side")
    for where in ("left", "right"):
        assert agrees(side[f"this run, {where}"], side["independent masks at its rates"])
    assert side["next-token prediction, left"].y[0] == 0
    assert side["next-token prediction, right"].y[-1] == 1
    either = lines(result, "either")["this run"]
    assert result.measurements["neighbours_hidden"].value == either.y[0]
    assert set(result.measurements) == {
        "neighbours_hidden", "nearest_beyond_4", "left_hidden", "run_beyond_8",
    }  # fmt: skip
    assert result.provenance["rows"] == 40 * 32


def test_standard_training_counts_by_its_weight():
    drawn = lines(found(time_sampler=Uniform(), batches=80), "either")
    assert agrees(drawn["this run"], drawn["independent, uniform rates"])
    weighed = drawn["this run, as its loss weighs"]
    assert agrees(weighed, drawn["independent, uniform rates, weight 1/t"])


def test_patterns_move_the_nearest_visible_token():
    fixed = Bell(centre=0.5, width=0.01)
    blue = found(mask_pattern=BlueNoise(share=1.0), time_sampler=fixed, loss_weighting=Flat())
    assert max(lines(blue, "run")["this run"].y[2:]) < 0.02  # no run longer than 2, but near 1/2
    assert blue.measurements["neighbours_hidden"].value < 0.02
    runs = found(mask_pattern=Clustered(mean_run=8), time_sampler=fixed, loss_weighting=Flat())
    side = lines(runs, "side")["this run, right"]
    # a masked token's neighbour copies it with chance 3/4, and is drawn anew otherwise
    chain = Line(name="", x=side.x, y=tuple((0.75 + 0.25 / 2) ** r for r in side.x), known=True)
    assert agrees(side, chain)


def test_twins_have_rates_of_their_own():
    low = Bell(centre=0.25, width=0.01)
    result = found(mask_pattern=Complementary(), time_sampler=low, loss_weighting=Flat())
    drawn = lines(result, "side")
    assert agrees(drawn["this run, left"], drawn["independent masks at its rates"])
    # half of the rows at 1/4 and half at 3/4
    truth = (0.25**2 + 0.75**2) / (0.25 + 0.75)
    assert drawn["independent masks at its rates"].y[0] == pytest.approx(truth, abs=1e-3)


def test_what_changes_over_the_run_is_shown_at_both_ends():
    pattern = BlueNoise(share=1.0, final_share=0.0, anneal=Annealing(end=1.0))
    result = found(mask_pattern=pattern, time_sampler=Bell(), loss_weighting=Flat(), batches=10)
    start, end = (lines(result, "either")[f"this run, step {step}"] for step in (0, 99))
    assert end.y[0] > 2 * start.y[0]
    numbers = result.measurements
    assert numbers["neighbours_hidden_at_end"].value == end.y[0]
    assert len([name for name in lines(result, "either") if "its rates" in name]) == 1


def test_of_mixed_rows_the_masked_ones_are_looked_at_and_it_is_said():
    recipe = load_recipe("quickstart_bell", ["objective.use=mixed_causal"])
    assert ContextAllocation().applies(recipe)
    context = evaluation_context()
    mixed = MixedCausal(stratification="iid", share=0.4, final_share=0.4).build(context.training)
    made = ContextAllocation(batches=2, reach=2).build(attrs.evolve(context, objective=mixed))
    assert made.objective.options.stratification == "iid"
    result = measure(made, label="context")
    assert result.provenance["causal_rows_left_out"] == {"0": 0.4, "99": 0.4}
    assert "causal instead are left out" in result.pictures["run"].note


def test_what_cannot_be():
    for other in ("quickstart_ar", "quickstart_bell"):
        changed = ["objective.use=any_order", "sampler.use=any_order"] if "bell" in other else []
        assert not ContextAllocation().applies(load_recipe(other, changed))
    foreign: Any = SimpleNamespace(objective=SimpleNamespace(prediction="masked"))
    assert not ContextAllocation().applies(foreign)
    context = evaluation_context()
    for wrong in ({"training": None}, {"prediction": "next_token"}):
        with pytest.raises(RecipeError, match="context: the network is not trained on masks"):
            ContextAllocation().build(attrs.evolve(context, **wrong))
    other = attrs.evolve(context, objective=Autoregressive().build(context.training))
    with pytest.raises(RecipeError, match="draws masks in a way of its own"):
        ContextAllocation().build(other)
    with pytest.raises(DataError, match=r"rows of 3 tokens .* expected 4 or more"):
        ContextAllocation().build(attrs.evolve(context, length=3))
