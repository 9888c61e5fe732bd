"""Equal entropies, marked rows and the error of few steps, on made-up numbers."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from attrs import evolve

from mdmkit.comparison.frontier import Frontier, has_frontier
from mdmkit.comparison.generated_text import GROUND, GeneratedText, marked
from mdmkit.comparison.matched_entropy import interpolated, match, round_entropies
from mdmkit.comparison.run_names import run_names
from mdmkit.comparison.step_error import step_errors
from mdmkit.evaluation.driver import Result
from mdmkit.report import frontier_figure
from mdmkit.suite_grids import Grid
from mdmkit.values import Measurement


def number(value: float, stderr: float = 0.0) -> Measurement:
    return Measurement(value=value, stderr=stderr)


def text(entropy, nll, *, temperature=1.0, run="a", errors=(0.0, 0.0), calls=8, **ground):
    return GeneratedText(
        run=run,
        label="x",
        grid="cached",
        sampler={"use": "cached", "temperature": temperature},
        varied={"temperature": temperature},
        numbers={
            "unigram_entropy": number(entropy, errors[0]),
            "generative_nll": number(nll, errors[1]),
            "network_evaluations": number(calls),
        },
        ground=ground,
    )


# --- equal entropies -----------------------------------------------------------------------


def test_between_two_temperatures_the_nll_is_linear_in_the_entropy():
    curve = [
        text(4.0, 2.0, temperature=0.8, errors=(0.1, 0.3)),
        text(5.0, 4.0, temperature=1.0, errors=(0.2, 0.0)),
    ]
    found = interpolated(curve, 4.25)
    assert found.value == pytest.approx(2.5)
    # slope 2: .3 and 2·.1 at one end, 2·.2 at the other
    assert found.stderr == pytest.approx(0.75 * math.hypot(0.3, 0.2) + 0.25 * 0.4)
    assert interpolated(curve, 5.0).value == 4.0
    assert interpolated(curve, 3.99) is None
    assert interpolated(curve, 5.01) is None
    assert interpolated(curve[:1], 4.0) is None


def test_the_error_is_that_of_a_simulation_or_more():
    draw = torch.Generator().manual_seed(0)
    values = []
    for _ in range(2000):
        noise = torch.randn(4, generator=draw).double().tolist()
        curve = [
            text(4.0 + 0.05 * noise[0], 2.0 + 0.1 * noise[1], temperature=0.8),
            text(5.0 + 0.05 * noise[2], 3.0 + 0.1 * noise[3], temperature=1.0),
        ]
        values.append(interpolated(curve, 4.5).value)
    spread = float(torch.tensor(values).std())
    ends = [text(4.0, 2.0, temperature=0.8, errors=(0.05, 0.1)),
            text(5.0, 3.0, errors=(0.05, 0.1))]  # fmt: skip
    said = interpolated(ends, 4.5).stderr
    assert spread < said < 1.5 * spread  # √2 too large where neighbours are independent


def test_where_a_curve_turns_the_higher_temperature_counts():
    curve = [text(5.0, 1.0, temperature=0.8), text(4.0, 2.0, temperature=0.9), text(5.0, 3.0)]
    assert interpolated(curve, 4.5).value == 2.5


def test_runs_are_compared_where_both_are_reached():
    texts = [
        text(4.0, 2.0, temperature=0.8), text(5.0, 4.0),
        text(4.5, 3.5, temperature=0.8, run="b"), text(5.5, 5.5, run="b", errors=(0.0, 0.3)),
    ]  # fmt: skip
    real = {"a": number(5.2), "b": number(5.2)}
    found = match(texts, real)
    assert [entry.entropy for entry in found] == [4.6, 4.8, 5.0, 5.2]
    assert [entry.of for entry in found] == [[], [], [], ["a", "b"]]
    a, b = found[0].curves
    assert (a.nll.value, a.over) == (pytest.approx(3.2), None)
    assert (b.nll.value, b.over.value) == (pytest.approx(3.7), pytest.approx(0.5))
    assert b.over.stderr == pytest.approx(0.03)
    a, b = found[3].curves
    assert (a.nll, b.over, b.nll.value) == (None, None, pytest.approx(4.9))
    assert [(best.run, best.over) for best in found[3].best] == [("b", None)]
    assert found[0].best[1].over.value == pytest.approx(0.5)


def test_other_tokenizers_are_not_compared():
    texts = [
        text(4.0, 2.0, temperature=0.8, length=8), text(5.0, 4.0, length=8),
        text(4.0, 2.0, temperature=0.8, run="b", length=9), text(5.0, 4.0, run="b", length=9),
        text(4.0, 3.0, temperature=0.8, run="c", length=9), text(5.0, 5.0, run="c", length=9),
    ]  # fmt: skip
    (entry, *_) = match(texts, {})
    over = [None if at.over is None else round(at.over.value, 9) for at in entry.curves]
    assert over == [None, None, 1.0]  # c against b, neither against a


def test_round_entropies():
    assert round_entropies([[text(4.03, 1), text(4.37, 1)]]) == [4.1, 4.2, 4.3]
    assert round_entropies([[text(4.0, 1), text(4.1, 1)], [text(5.0, 1, run="b")] * 2]) == []
    assert round_entropies([[text(4.0, 1)]]) == []


# --- from results --------------------------------------------------------------------------


class Made(SimpleNamespace):
    """As much of a suite and its result as a frontier looks at."""

    def table_of(self, label):
        return ("grids", "cached") if label in self.grids["cached"].sets else ("sets", label)


def result(run="run", *, tokenizer="t"):
    options = {"evaluator.sampler.steps": (4, 8), "evaluator.sampler.temperature": (0.5, 1.0)}
    values = {
        f"s{steps}t{heat}": dict(zip(options, (steps, heat), strict=True))
        for steps in (4, 8)
        for heat in (0.5, 1.0)
    }
    sets = {
        label: {"evaluator": {"sampler": {
            "use": "cached", "steps": chosen["evaluator.sampler.steps"],
            "temperature": chosen["evaluator.sampler.temperature"]}}}
        for label, chosen in values.items()
    }  # fmt: skip
    results = {
        label: Result(
            label=label,
            measurements={
                "generative_nll": number(5 - steps / 8 + heat, 0.1),
                "generative_bits_per_byte": number(2.5 - steps / 16 + heat, 0.06),
                "unigram_entropy": number(4 + heat),
                "network_evaluations": number(steps),
                "real_generative_nll": number(3.0),
                "real_unigram_entropy": number(4.75),
            },
            provenance=dict.fromkeys(GROUND, tokenizer),
        )
        for label, (steps, heat) in {k: tuple(v.values()) for k, v in values.items()}.items()
    }
    results["few"] = Result(
        label="few",
        measurements={"h_1": number(6.0), "predicted_error_4": number(0.3, 0.02),
                      "predicted_error_8": number(0.1, 0.01)},
        provenance={"predicts": ["ancestral", "cached"], "bytes_per_token": 2.0},
    )  # fmt: skip
    suite = Made(
        name="made",
        preset=None,
        title="",
        sets=dict.fromkeys([*sets, "few"]),
        grids={"cached": Grid(varied=tuple(options), sets=values)},
    )
    return SimpleNamespace(
        directory=Path("runs", run),
        suite=suite,
        results=results,
        record=SimpleNamespace(
            suite={"sets": {**sets, "few": {"evaluator": {}}}}, settings={"sampler": {}}
        ),
    )


def test_a_frontier_of_results():
    found = Frontier.of([result(), result("other", tokenizer="u")])
    assert found.runs == ["run", "other"]
    assert [text.curve for text in found.texts[:4]] == ["cached, steps 4"] * 2 + [
        "cached, steps 8"
    ] * 2
    assert found.real["run"]["unigram_entropy"].value == 4.75
    # more steps are better and cost more: every row is best at its own cost but none
    assert [text.best for text in found.texts[:4]] == [True] * 4
    assert found.cautions == [f"other: not compared with run: it differs in {', '.join(GROUND)}"]
    at_real = next(entry for entry in found.matched if entry.of)
    assert [at.nll.value for at in at_real.curves[:2]] == pytest.approx([5.25, 4.75])
    assert found.to_json()["texts"][0]["numbers"]["generative_nll"]["stderr"] == 0.1
    assert has_frontier([result()])
    plain = result()
    plain.suite.table_of, plain.suite.grids = lambda label: ("sets", label), {}
    assert not has_frontier([plain])


def varied(found, option, values):
    """The same, with every other set of another value of an option that is of the evaluator."""
    for number, label in enumerate(found.suite.grids["cached"].sets):
        found.suite.grids["cached"].sets[label][option] = values[number % 2]
        ground = {option.rpartition(".")[2]: values[number % 2]}
        found.results[label].provenance.update(ground)
    return found


def test_texts_of_a_run_that_are_not_comparable_are_not_compared():
    # lengths 16 and 32 at temperatures .5 and 1: no curve has two points of one length
    found = Frontier.of([varied(result(), "evaluator.length", (16, 32))])
    assert found.runs == list(found.real) == ["run (length 16)", "run (length 32)"]
    assert found.cautions == [
        "run (length 32): not compared with run (length 16): it differs in length"
    ]
    assert {at.over for entry in found.matched for at in entry.curves + entry.best} == {None}
    steps = [(row.run, row.sampler, row.steps) for row in found.steps]
    assert steps == [("run (length 32)", "cached, length 32", steps) for steps in (4, 8)]
    named = [{"run": {"name": name}} for name in "ab"]
    kind = varied(result(), "evaluator.judge", named)
    kind.results["s4t1.0"].measurements.update(
        generative_nll=number(0.1), unigram_entropy=number(9.0)
    )
    found = Frontier.of([kind])
    assert found.runs == ["run (judge a)", "run (judge b)"]
    # what a kind judge says beats its own texts alone
    assert [text.best for text in found.texts] == [True, True, True, False]


def test_steps_are_predicted_of_texts_of_that_length_and_by_curve():
    found = varied(result(), "evaluator.length", (16, 32))
    found.results["few"].provenance["data"] = {"length": 16}
    rows = Frontier.of([found]).steps  # at temperature 1 all have 32
    assert [(row.run, row.sampler, row.judged) for row in rows] == [("run", "ancestral", None)] * 2
    apart = [
        text(4.0, nll, use="cached", steps=steps, rows=rows)
        for rows, nlls in ((True, (5.0, 4.0)), (False, (3.0, 2.5)))
        for steps, nll in zip((4, 8), nlls, strict=True)
    ]
    apart = [
        evolve(one, sampler={**one.sampler, **one.ground}, varied={**one.ground}, ground={})
        for one in apart
    ]
    rows = [row for row in step_errors(result(), "a", apart) if row.judged]
    assert [(row.steps, row.judged.value) for row in rows] == [(4, 1.0), (4, 0.5)]
    stop = [evolve(one, sampler={**one.sampler, "eos": "stop"}) for one in apart]
    assert {row.judged for row in step_errors(result(), "a", stop)} == {None}


def test_the_temperature_of_a_sampler_inside_of_another():
    inside = evolve(
        text(4.0, 2.0),
        sampler={"use": "semi_autoregressive", "sampler": {"use": "cached", "temperature": 0.8}},
    )
    assert evolve(inside, varied={"temperature": 0.5}).temperature == 0.5
    assert evolve(inside, varied={}).temperature == 0.8
    assert evolve(inside, sampler={"use": "none"}, varied={}).temperature == 1.0


def test_runs_of_the_same_name_are_told_apart():
    found = Frontier.of([result(), result("other"), evolve_directory(result(), "old/run")])
    assert found.runs == ["runs/run", "other", "old/run"]
    assert run_names([Path("/a/x/r"), Path("/b/x/r"), Path("/c")]) == ["a/x/r", "b/x/r", "c"]


def evolve_directory(found, directory):
    found.directory = Path(directory)
    return found


def test_a_run_that_judges_itself_is_told():
    found, facts = result(), {"name": "run", "recipe_hash": "1"}
    for one in found.results.values():
        one.provenance["run"] = facts
        one.provenance["judge"] = {"run": {"name": "other", "recipe_hash": "2"}}
    assert Frontier.of([found]).cautions == []
    found.results["s4t0.5"].provenance["judge"] = {"run": dict(facts)}
    assert "run: is its own judge, and likes its text too well" in Frontier.of([found]).cautions


def test_a_row_is_best_unless_another_is_nowhere_worse():
    rows = [
        text(4.0, 3.0, calls=8),
        text(4.0, 3.5, calls=8),  # worse
        text(4.1, 3.5, calls=8),  # more entropy
        text(4.0, 3.5, calls=4),  # fewer calls
        text(4.0, 3.0, calls=8),  # the same as the first
    ]
    assert [row.best for row in marked(rows)] == [True, False, True, True, True]


def test_predicted_and_judged_errors_stand_side_by_side():
    four, eight = Frontier.of([result()]).steps
    assert (four.steps, four.most_steps, four.sampler) == (4, 8, "cached")
    assert four.judged.value == pytest.approx(0.5)  # at temperature 1 alone
    assert four.judged.stderr == pytest.approx(0.1 * math.sqrt(2))
    assert four.judged_bits.value == pytest.approx(0.25)
    assert four.predicted_bits.value == pytest.approx(0.3 / math.log(2) / 2)
    assert four.predicted_bits.stderr == pytest.approx(0.02 / math.log(2) / 2)
    assert four.predicted_over.value == pytest.approx(0.2)  # like for like
    assert four.predicted_over.stderr == pytest.approx(math.hypot(0.02, 0.01))
    assert four.predicted_over_bits.value == pytest.approx(0.1 / math.log(2))
    assert (eight.predicted.value, eight.judged, eight.predicted_over) == (0.1, None, None)


def test_a_prediction_without_texts_stands_by_itself():
    found = result()
    alone = SimpleNamespace(**{**vars(found), "results": {"few": found.results["few"]}})
    rows = list(step_errors(alone, "run", []))
    assert [(row.sampler, row.steps, row.judged, row.most_steps) for row in rows] == [
        ("ancestral", 4, None, None), ("ancestral", 8, None, None),
    ]  # fmt: skip
    hot = [evolve(t, sampler={**t.sampler, "top_p": 0.9}) for t in Frontier.of([found]).texts]
    assert {row.judged for row in step_errors(found, "run", hot)} == {None}


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_same_frontier_gives_the_same_picture(kind, begins):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    found = Frontier.of([result(), result("other")])
    first = frontier_figure.picture(found, kind)
    assert first.startswith(begins)
    assert frontier_figure.picture(found, kind) == first
    assert {text.temperature for text in frontier_figure.as_trained(found.texts)} == {1.0}
