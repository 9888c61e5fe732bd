from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from mdmkit import compare
from mdmkit.errors import CheckpointError, MdmkitError
from mdmkit.validation_log import read_validation, write_validation

from .synthetic import DATA, DOCUMENTS, END, LEVEL, curve

UNIFORM = ["time_sampler.use=uniform"]
NOISE = np.random.default_rng(4).normal(size=DOCUMENTS)
NOISE -= NOISE.mean()
FAST = {"resamples": 400}


def rows(found):
    return {(row.method, row.level): row for row in found.speed_ups}


def test_a_curve_stretched_by_two_is_twice_as_fast_everywhere(make_run):
    base = make_run("slow", overrides=UNIFORM, by_document=0.2 * NOISE)
    fast = make_run("fast", nelbo=partial(curve, speed=2), steps=range(0, 301, 25),
                    overrides=["train.steps=300"], by_document=0.2 * NOISE)  # fmt: skip
    found = compare([base, fast], **FAST)
    assert found.baseline == "slow"
    assert found.plateau.nelbo == pytest.approx(LEVEL)
    assert found.plateau.source == "slow, steps 50 to 200"
    levels = {"25% of the drop": 300, "50% of the drop": 400, "75% of the drop": 500, "final": 600}
    assert [row.level for row in found.speed_ups] == list(levels)
    for (method, level), row in rows(found).items():
        assert method == "fast"
        assert row.baseline_costs["steps"].value == pytest.approx(levels[level])
        assert row.nelbo == pytest.approx(LEVEL - (levels[level] - 200) / 400 * (LEVEL - END))
        for axis in ("steps", "tokens", "flops", "seconds"):
            ratio = row.ratios[axis]
            assert (ratio.kind, ratio.censored) == ("exact", 0)
            # The text is the same for both, and nothing else varies.
            ends = (ratio.low, ratio.value, ratio.high)
            assert ends == pytest.approx((2, 2, 2))
    by_name = {escape.method: escape for escape in found.escapes}
    assert by_name["slow"].steps.value == pytest.approx(200 + 0.1 / 2 * 400)
    assert by_name["slow"].ratio is None
    assert by_name["fast"].ratio.value == pytest.approx(2)
    assert any("one seed" in note for note in found.notes)


def test_a_cooldown_is_not_taken_for_the_end_of_a_plateau(make_run):
    """Diminishing returns at a constant rate, then a decay over the last fifth: no plateau."""

    def cooling(step: float) -> float:
        return 3.3 + 2.9 * (1 + step / 40) ** -0.55 - 0.4 * max(step - 480, 0) / 120

    decay = ["learning_rate.shape=wsd", "learning_rate.decay_fraction=0.2"]
    runs = [
        make_run(name, nelbo=cooling, steps=range(0, 601, 30), overrides=[*decay, *more])
        for name, more in (("base", UNIFORM), ("own", []))
    ]
    found = compare(runs, **FAST)
    assert found.plateau is None
    assert [row.level for row in found.speed_ups] == ["final"]


def test_costs_are_those_of_each_run(make_run):
    """Twice the clock and half the positions in the loss."""
    base = make_run("base", overrides=UNIFORM)
    own = make_run("own", seconds_a_step=1.0, lines=[{"step": 1, "train/masked_share": 0.25}])
    row = rows(compare([base, own], **FAST))["own", "final"]
    assert row.ratios["steps"].value == pytest.approx(1)
    assert row.ratios["seconds"].value == pytest.approx(0.5)
    body = 2 * 16 * 8 * (24 + 8 + 32 + 32) + 4 * 16 * 16 * 8
    head = 2 * 8 * 258
    wanted = (body + 0.5 * 16 * head) / (body + 0.25 * 16 * head)
    assert row.ratios["flops"].value == pytest.approx(wanted, rel=1e-3)


def test_a_level_that_is_not_reached_is_a_bound_and_an_open_end(make_run):
    base = make_run("base", overrides=UNIFORM)
    short = make_run("short", steps=range(0, 451, 50))
    found = compare([base, short], **FAST)
    final = rows(found)["short", "final"]
    assert (final.costs["steps"].kind, final.costs["steps"].value) == ("at least", 450)
    ratio = final.ratios["steps"]
    assert (ratio.kind, ratio.value) == ("at most", pytest.approx(600 / 450))
    assert (ratio.low, ratio.high) == (None, pytest.approx(600 / 450))
    assert ratio.censored == 1
    half = rows(found)["short", "50% of the drop"].ratios["steps"]
    assert (half.kind, half.value) == ("exact", pytest.approx(1))
    assert "short: short-00000001 stands at step 450 of 600; used as far as it goes" in found.notes


def test_seeds_widen_the_interval_and_pairs_narrow_it_again(make_run):
    """Seed s is slower by the same factor in both methods: pairs cancel it."""

    def method(name, speed, seeds, overrides):
        return [
            make_run(name, seed=seed, overrides=overrides,
                     nelbo=partial(curve, speed=speed * (1 + 0.1 * (seed % 4))))
            for seed in seeds
        ]  # fmt: skip

    base = method("base", 1.0, (1, 2, 3), UNIFORM)
    paired = method("paired", 1.5, (1, 2, 3), [])
    apart = method("apart", 1.5, (5, 6, 7), ["time_sampler.width=0.3"])
    found = compare([*base, *paired, *apart], plateau=LEVEL, **FAST)
    widths = {}
    for (name, level), row in rows(found).items():
        ratio = row.ratios["steps"]
        assert ratio.kind == "exact"
        if level == "50% of the drop":
            widths[name] = np.log(ratio.high / ratio.low)
    assert 0 < widths["paired"] < 0.5 * widths["apart"]
    assert any("apart and base are not paired by seed" in note for note in found.notes)
    tests = {test.method: test.parts[0] for test in found.no_worse}
    assert (tests["paired"].paired, tests["apart"].paired) == (True, False)


def test_errors_of_a_point(make_run):
    shifts = {1: -0.1, 2: 0.0, 3: 0.1}
    paths = [
        make_run("m", seed=seed, nelbo=lambda s, d=shift: curve(s) + d, by_document=0.3 * NOISE)
        for seed, shift in shifts.items()
    ]
    (method,) = compare(paths, resamples=4000).methods
    point = method.final
    assert (point.step, point.nelbo) == (600, pytest.approx(END))
    assert point.seed_stderr == pytest.approx(0.1 / 3**0.5)
    text = 0.3 * NOISE.std(ddof=1) / DOCUMENTS**0.5
    assert point.document_stderr == pytest.approx(text, rel=0.05)
    assert point.stderr == pytest.approx((text**2 + 0.01 / 3) ** 0.5, rel=0.05)
    assert method.best == point


@pytest.mark.parametrize(("gap", "shown"), [(0.005, True), (0.02, False), (-0.5, True)])
def test_no_worse_in_total_and_by_mask_ratio(make_run, gap, shown):
    base = make_run("base", overrides=UNIFORM, by_document=0.3 * NOISE)
    own = make_run("own", nelbo=lambda s: curve(s) + gap, by_document=0.3 * NOISE)
    (test,) = compare([base, own], **FAST).no_worse
    assert test.covers == "12 documents"
    assert [part.part for part in test.parts] == [
        "all", "0 to 0.2", "0.2 to 0.4", "0.4 to 0.6", "0.6 to 0.8", "0.8 to 1",
    ]  # fmt: skip
    for part in test.parts:
        assert part.value == pytest.approx(gap)
        assert part.shown is shown


def test_a_loss_at_one_mask_ratio_is_seen_in_its_bin(make_run):
    base = make_run("base", overrides=UNIFORM)
    own = make_run("own", by_mask=lambda rate: np.where(rate > 0.85, 0.1, -0.1))
    (test,) = compare([base, own], **FAST).no_worse
    assert [part.shown for part in test.parts] == [True, True, True, True, True, False]
    assert test.parts[-1].value == pytest.approx(0.1)


def test_the_envelope_takes_the_best_learning_rate_at_each_budget(make_run):
    base = make_run("base", overrides=UNIFORM)
    early = make_run("own", directory="early", nelbo=lambda s: max(curve(s, speed=2), 4.0),
                     overrides=["learning_rate.peak=0.004"])  # fmt: skip
    late = make_run("own", directory="late", nelbo=curve, overrides=["learning_rate.peak=0.001"])
    found = compare([base, early, late], envelope=True, **FAST)
    own = next(method for method in found.methods if method.label == "own")
    by_step = dict(zip(own.curve.costs["steps"], own.curve.peaks, strict=True))
    assert (by_step[300], by_step[600]) == (0.004, 0.001)
    assert own.curve.nelbo == pytest.approx([
        min(max(curve(s, speed=2), 4.0), curve(s)) for s in own.curve.costs["steps"]
    ])  # fmt: skip
    ratios = {level: row.ratios["steps"] for (_, level), row in rows(found).items()}
    assert ratios["25% of the drop"].value == pytest.approx(2)
    assert ratios["final"].value == pytest.approx(1)
    with pytest.raises(MdmkitError, match="same seed of the same method"):
        compare([base, early, late], labels={"own": ["own*"]}, **FAST)


def cooled(make_run, name, budgets, nelbo, overrides=()):
    shape = ["learning_rate.shape=wsd", "learning_rate.warmup_steps=5"]
    return [
        make_run(name, directory=f"{name}-{budget}", steps=(0, budget), nelbo=nelbo,
                 overrides=[*shape, f"train.steps={budget}", *overrides])
        for budget in budgets
    ]  # fmt: skip


def test_cooled_points_are_interpolated_in_the_logarithm_of_the_budget(make_run):
    def line(speed):
        return lambda budget: 6 - 0.5 * np.log2(max(budget, 1) * speed / 100)

    base = cooled(make_run, "base", (100, 200, 400), line(1), UNIFORM)
    own = cooled(make_run, "own", (50, 100, 200), line(3))
    found = compare([*base, *own], cooled=True, **FAST)
    ratios = {level: row.ratios["steps"] for (_, level), row in rows(found).items()}
    assert list(ratios) == [f"cooled at {steps} steps" for steps in (100, 200, 400)]
    first, *others = ratios.values()
    assert (first.kind, first.value) == ("at least", pytest.approx(2))  # 50 steps are enough
    assert (first.low, first.high) == (pytest.approx(2), None)
    assert [ratio.value for ratio in others] == pytest.approx([3, 3])
    assert found.escapes == []


def test_what_is_not_cooled_is_left_out_and_said(make_run):
    base = cooled(make_run, "base", (100, 200), lambda s: 6 - s / 100, UNIFORM)
    own = cooled(make_run, "own", (100, 200), lambda s: 6 - s / 100)
    trunk = make_run("own", directory="trunk", overrides=["train.steps=500"])
    torn = make_run("own", directory="torn", steps=(0, 100), overrides=[
        "learning_rate.shape=wsd", "learning_rate.warmup_steps=5", "train.steps=300",
    ])  # fmt: skip
    found = compare([*base, *own, trunk, torn], cooled=True, labels={"own": ["own"]}, **FAST)
    assert "own: trunk is left out: its learning rate is constant" in found.notes
    assert "own: torn is left out: it stands at step 100 of 300" in found.notes
    with pytest.raises(MdmkitError, match="--cooled compares the ends of such runs"):
        compare([*base, trunk], cooled=True, **FAST)


def test_an_exact_likelihood_is_compared_on_the_same_blocks(make_run):
    base = make_run("base", overrides=UNIFORM, draws=2)
    exact = make_run("ar", exact=True, nelbo=lambda s: curve(s, speed=3), overrides=[
        "objective.use=autoregressive", "sampler.use=autoregressive",
    ])  # fmt: skip
    found = compare([base, exact], **FAST)
    assert rows(found)["ar", "final"].ratios["steps"].value == pytest.approx(3)
    (test,) = found.no_worse
    assert [part.part for part in test.parts] == ["all"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"data": {**DATA, "corpus_fingerprint": "xyz"}},
            'data.corpus_fingerprint: "abc" -> "xyz"',
        ),
        ({"data": {**DATA, "length": 32}}, "data.length: 16 -> 32"),
        ({"draws": 2}, "the draws of a block: 1 -> 2"),
        ({"mask_shift": 1}, "the masks: the numbers of masked tokens are not the same"),
    ],
)
def test_runs_on_other_ground_are_refused(make_run, changes, words):
    base, other = make_run("base", overrides=UNIFORM), make_run("other", **changes)
    with pytest.raises(MdmkitError) as caught:
        compare([base, other], **FAST)
    assert words in str(caught.value)
    assert str(base) in str(caught.value)
    assert str(other) in str(caught.value)


def test_the_place_of_the_text_does_not_matter(make_run):
    other = {**DATA, "corpus": {"source": "elsewhere"}}
    compare([make_run("base", overrides=UNIFORM), make_run("other", data=other)], **FAST)


def test_a_run_whose_validations_are_not_of_one_kind_is_refused(make_run):
    run = make_run("base")
    found = read_validation(run, 100)
    found.table.masked[0] += 1
    write_validation(run, 100, found.table, found.provenance)
    with pytest.raises(CheckpointError, match="steps 100 and 600 differ in their masked"):
        compare([run], **FAST)


def test_a_run_without_validations_is_refused(make_run):
    with pytest.raises(CheckpointError, match="has no validation by block"):
        compare([make_run("base", steps=())], **FAST)


def test_what_training_logged_is_averaged(make_run):
    lines = [
        {"step": step, "train/grad_noise_trace": trace, "train/grad_noise_signal": signal,
         "train/clipped_share": 0.5, "train/nll_at_t/0.05": 2.0, "train/nll_at_t/0.95": 5.0}
        for step, trace, signal in ((10, 1.0, 0.1), (20, 3.0, 0.3))
    ]  # fmt: skip
    told, silent = compare([make_run("a", overrides=UNIFORM, lines=lines), make_run("b")]).methods
    assert told.diagnostics.noise_scale == pytest.approx(2 / 0.2)
    assert told.diagnostics.clipped_share == 0.5
    assert told.diagnostics.nll_at_t == {"0.05": 2.0, "0.95": 5.0}
    assert (silent.diagnostics.noise_scale, silent.diagnostics.nll_at_t) == (None, {})


def test_without_a_plateau_only_the_end_is_compared(make_run):
    base = make_run("base", overrides=UNIFORM, nelbo=lambda s: 3 + 3 * np.exp(-s / 100))
    own = make_run("own", nelbo=lambda s: 3 + 3 * np.exp(-s / 50))
    found = compare([base, own], **FAST)
    assert [row.level for row in found.speed_ups] == ["final"]
    assert any("--plateau" in note for note in found.notes)
    given = compare([base, own], plateau=5.0, **FAST)
    assert [row.level for row in given.speed_ups][-1] == "final"
    assert len(given.speed_ups) == 4
    assert given.plateau.source == "as given"


def test_a_baseline_that_has_not_left_the_plateau(make_run):
    base = make_run("base", overrides=UNIFORM, steps=range(0, 201, 50))
    own = make_run("own")
    found = compare([base, own], **FAST)
    assert found.plateau.source.startswith("own")
    assert [row.level for row in found.speed_ups] == ["final"]
    assert any("base has not left the plateau" in note for note in found.notes)
    ratio = next(escape.ratio for escape in found.escapes if escape.method == "own")
    assert (ratio.kind, ratio.value) == ("at least", pytest.approx(200 / 220))
    assert ratio.high is None


def test_one_document_is_said_to_be_no_sample(make_run, monkeypatch):
    def alone(run):
        for step in (0, 600):
            found = read_validation(run, step)
            found.table.documents[:] = 0
            write_validation(run, step, found.table, found.provenance)
        return run

    paths = [
        alone(make_run(name, steps=(0, 600), overrides=o, by_document=NOISE))
        for name, o in (("base", UNIFORM), ("own", []))
    ]
    found = compare(paths, **FAST)
    assert any("--clusters blocks" in note for note in found.notes)
    assert found.methods[0].final.document_stderr == 0
    assert found.no_worse[0].parts[0].shown is None
    blocks = compare(paths, clusters="blocks", **FAST)
    assert blocks.ground["clusters"] == {"kind": "blocks", "count": 24}
    assert blocks.methods[0].final.document_stderr > 0


def test_the_same_question_has_the_same_answer(make_run):
    paths = [
        make_run(name, seed=seed, overrides=overrides, by_document=NOISE / seed)
        for name, overrides in (("base", UNIFORM), ("own", []))
        for seed in (1, 2)
    ]
    first, again = (json.dumps(compare(paths, **FAST).to_json()) for _ in range(2))
    assert first == again
    assert first != json.dumps(compare(paths, seed=1, **FAST).to_json())


def test_a_branch_is_told(make_run):
    run = make_run("m")
    (run / "branch.json").write_text('{"from": "trunk-1", "step": 300}')
    (facts,) = compare([run], **FAST).methods[0].runs
    assert facts.branch == {"from": "trunk-1", "step": 300}


def test_flops_are_left_out_where_they_cannot_be_counted(make_run):
    paths = [make_run("base", overrides=UNIFORM), make_run("own", tokenizer=None)]
    found = compare(paths, **FAST)
    assert "flops" not in found.speed_ups[0].ratios
    assert any("no FLOPs" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"margin": -1}, "margin: expected a number >= 0"),
        ({"resamples": 10}, "resamples: expected 100 or more"),
        ({"clusters": "words"}, "clusters: expected documents or blocks"),
        ({"escape_margin": 0}, "escape-margin: expected a number > 0"),
    ],
)
def test_options_that_make_no_sense(make_run, options, words):
    with pytest.raises(MdmkitError) as caught:
        compare([make_run("base")], **options)
    assert words in str(caught.value)
