"""Suites on a tiny run: opening, missing sets, the file, going on, and replay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mdmkit.builtin.evaluators import Nelbo
from mdmkit.errors import CheckpointError, DataError, RecipeError
from mdmkit.evaluation.evaluate import evaluate
from mdmkit.evaluation.replay import replay
from mdmkit.evaluation.suite import evaluate_suite
from mdmkit.evaluation.suite_sets import same_everywhere
from mdmkit.training.checkpoint import load_weights
from mdmkit.training.distributed import World
from mdmkit.training.saving import save_checkpoint

from .runs import make_run

AR = '[objective]\nuse = "autoregressive"\n[sampler]\nuse = "autoregressive"\n'
SUITE = """
title = "Three sets"
[protocol]
packing = { use = "packed" }
evaluator = { use = "nelbo", split = "test", draws = 2 }
[sets.own]
[sets.lines]
corpus = { use = "text", test = "lines.txt", document = "line" }
[sets.short]
corpus = { use = "text", test = "lines.txt" }
packing = { use = "wrapped", eos = false }
length = 8
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(cache))
        yield {
            "masked": make_run(tmp_path_factory.mktemp("masked"), extra=""),
            "ar": make_run(tmp_path_factory.mktemp("ar"), extra=AR),
        }


@pytest.fixture(autouse=True)
def here(monkeypatch, cache, tmp_path):
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(cache))
    monkeypatch.setenv("MDMKIT_PLUGINS", "none")
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("".join(f"{n}, {n + 1} and {n + 2}\n" for n in range(60)))
    Path("three.toml").write_text(SUITE)
    return tmp_path


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made["masked"], tmp_path / "runs" / made["masked"].name))


def written(run, name="three"):
    return json.loads((run / "eval" / f"{name}.json").read_text())


def values(found):
    return {
        label: result.measurements["nelbo_per_token"].value
        for label, result in found.results.items()
    }


def test_every_set_is_measured_on_its_own_text(run):
    found = evaluate_suite(run, "three.toml")
    assert list(found.results) == ["own", "lines", "short"]
    told = {label: result.provenance for label, result in found.results.items()}
    assert [told[label]["data"]["length"] for label in told] == [16, 16, 8]
    assert [told[label]["data"]["packing"]["use"] for label in told] == [
        "packed", "packed", "wrapped",
    ]  # fmt: skip
    assert told["own"]["data"]["corpus"]["pattern"].endswith("text.txt")
    assert told["lines"]["data"]["corpus"]["pattern"] == "lines.txt"
    assert told["lines"]["data"]["documents"] == 60
    assert told["short"]["data"]["documents"] == 1
    assert len(set(values(found).values())) == 3


def test_a_set_of_the_runs_own_text_is_what_the_recipes_evaluator_finds(run):
    found = evaluate_suite(run, "three.toml", only=["own"])
    (own,) = evaluate(run, overrides=["evaluators.x.use=nelbo"], split="test", draws=2).values()
    assert found.results["own"].measurements == own.measurements


def test_the_file_says_everything(run):
    found = evaluate_suite(run, "three.toml", seed=3, batch_size=5, checkpoint=3, ema=False)
    plain = written(run)
    assert plain == found.to_json()
    assert plain["suite"]["title"] == "Three sets"
    assert plain["suite"]["sets"]["own"]["corpus"]["use"] == "text"  # resolved for the run
    assert plain["suite"]["sets"]["own"]["length"] == 16
    settings = {key: plain["settings"][key] for key in ("seed", "checkpoint", "ema", "dtype")}
    assert settings == {"seed": 3, "checkpoint": 3, "ema": False, "dtype": "fp32"}
    assert plain["run"] == {"name": "tiny", "recipe_hash": run.name.removeprefix("tiny-")}
    told = plain["sets"]["lines"]["provenance"]
    expected = {
        "suite": "three",
        "preset": None,
        "split": "test",
        "draws": 2,
        "seed": 3,
        "batch_size": 5,
        "ranks": 1,
        "precision": "fp32",
        "checkpoint": {"step": 3, "ema": False},
        "set": plain["suite"]["sets"]["lines"],
    }
    assert {key: told[key] for key in expected} == expected
    assert told["set"]["detokenizer"] == "none"
    assert told["data"]["corpus_fingerprint"]
    assert told["data"]["utf8_bytes"] == Path("lines.txt").stat().st_size - 60
    assert told["tokenizer_fingerprint"] == told["data"]["tokenizer_fingerprint"]
    assert len(told["weights_sha256"]) == 64
    assert {"mdmkit", "torch", "python", "device", "threads"} <= set(told["environment"])


def test_sets_that_cannot_be_had_are_one_error_before_anything_is_measured(run):
    asked = {"sets.own.corpus": '{use="text", test="gone.txt"}',
             "sets.short.corpus": '{use="hub", dataset="a/b", path="nowhere"}'}  # fmt: skip
    overrides = [f"{key}={value}" for key, value in asked.items()]
    with pytest.raises(DataError) as caught:
        evaluate_suite(run, "three.toml", overrides=overrides)
    first, *lines = str(caught.value).splitlines()
    assert first == "suite three: 2 of 3 sets cannot be had:"
    assert lines[0].startswith("  own: sets.own.corpus.test: ")
    assert lines[1].startswith("  short: sets.short.corpus.path: there is nothing at")
    assert "--source own=FILE --source short=FILE" in lines[-1]
    assert "--allow-missing" in lines[-1]
    assert not (run / "eval").exists()

    found = evaluate_suite(run, "three.toml", overrides=overrides, allow_missing=True)
    assert list(found.results) == ["lines"]
    assert list(written(run)["missing"]) == ["own", "short"]
    with pytest.raises(DataError, match="1 of 1 set cannot be had"):  # nothing is left to measure
        evaluate_suite(run, "three.toml", overrides=overrides, allow_missing=True, only=["own"])


def test_too_little_text_is_missing_too(run):
    Path("short.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"  lines: sets\.lines\.corpus: the test split is shorter"):
        evaluate_suite(run, "three.toml", sources={"lines": "short.txt"})


def test_a_source_is_read_instead(run):
    Path("other.txt").write_text("something else entirely, " * 40)
    found = evaluate_suite(run, "three.toml", sources={"lines": "other.txt"})
    told = found.results["lines"].provenance
    assert told["data"]["corpus"]["files"] == ["other.txt"]
    assert told["set"]["corpus"]["test"] == str(Path("other.txt").absolute())


def test_a_finished_set_is_kept_as_long_as_nothing_that_decides_it_changes(run, monkeypatch):
    first = evaluate_suite(run, "three.toml")
    again = evaluate_suite(run, "three.toml")
    assert list(again.kept) == ["own", "lines", "short"]
    assert again.to_json() == first.to_json()
    assert list(evaluate_suite(run, "three.toml", batch_size=7).kept) == [*first.results]
    other = evaluate_suite(run, "three.toml", overrides=["sets.lines.evaluator.draws=3"])
    assert list(other.kept) == ["own", "short"]
    Path("lines.txt").write_text(Path("lines.txt").read_text() + "and one more\n")
    text = evaluate_suite(run, "three.toml", overrides=["sets.lines.evaluator.draws=3"])
    assert list(text.kept) == ["own"]
    for change in ({"seed": 1}, {"ema": False}, {"checkpoint": 3}, {"dtype": "bf16"}):
        assert not evaluate_suite(run, "three.toml", **change).kept


def test_other_weights_of_the_same_step_are_measured_anew(run):
    first = evaluate_suite(run, "three.toml")
    change_weights(run)
    other = evaluate_suite(run, "three.toml")
    assert not other.kept
    assert values(other) != values(first)


def test_an_interrupted_suite_keeps_what_is_done_and_goes_on(run):
    def stop(label, done, total):
        if label == "short":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_suite(run, "three.toml", progress=stop)
    assert list(written(run)["sets"]) == ["own", "lines"]
    seen = []
    found = evaluate_suite(run, "three.toml", progress=lambda label, *_: seen.append(label))
    assert set(seen) == {"short"}
    assert list(found.results) == list(written(run)["sets"]) == ["own", "lines", "short"]


def test_an_interruption_between_kept_sets_loses_none_of_them(run):
    evaluate_suite(run, "three.toml")
    path, plain = run / "eval" / "three.json", written(run)
    del plain["sets"]["lines"]
    path.write_text(json.dumps(plain))

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_suite(run, "three.toml", progress=stop)
    assert list(written(run)["sets"]) == ["own", "short"]


def test_numbers_of_other_text_are_set_aside(run):
    evaluate_suite(run, "three.toml")
    before, said = written(run), []
    Path("lines.txt").write_text(Path("lines.txt").read_text() + "and one more\n")

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_suite(run, "three.toml", notify=said.append, progress=stop)
    assert list(written(run)["sets"]) == ["own"]
    assert written(run, "three.previous") == before
    assert any(line.startswith("lines, short: measured otherwise before") for line in said)


def test_some_sets_leave_the_others_in_the_file_unless_they_were_measured_otherwise(run):
    evaluate_suite(run, "three.toml")
    found = evaluate_suite(run, "three.toml", only=["short"])
    assert list(found.results) == ["short"]
    assert list(written(run)["sets"]) == ["own", "lines", "short"]
    before, said = written(run), []
    evaluate_suite(run, "three.toml", only=["short"], seed=5, notify=said.append)
    assert list(written(run)["sets"]) == ["short"]
    aside = run / "eval" / "three.previous.json"
    assert f"own, lines, short: measured otherwise before; those numbers are now in {aside}" in said
    assert written(run, "three.previous") == before
    assert replay(aside).matches


def test_a_preset_has_a_file_of_its_own(run):
    Path("mine.toml").write_text("[protocol.evaluator]\nsplit = 'train'\n")
    found = evaluate_suite(
        run, "three.toml", preset="mine.toml", overrides=["sets.lines.corpus.train=lines.txt"],
        only=["own", "lines"],
    )  # fmt: skip
    assert found.path == run / "eval" / "three-mine.json"
    assert found.results["own"].provenance["preset"] == "mine"
    assert found.results["own"].provenance["split"] == "train"


def test_a_foreign_file_is_not_overwritten(run):
    (run / "eval").mkdir()
    (run / "eval" / "three.json").write_text('{"label": "three"}')
    with pytest.raises(CheckpointError, match=r"three\.json: is not what a suite wrote"):
        evaluate_suite(run, "three.toml")
    assert (run / "eval" / "three.json").read_text() == '{"label": "three"}'


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"overrides": ["train.steps=3"]}, r"\[train\] is fixed once a run is trained"),
        ({"overrides": ["sets.own.evaluator.drwas=3"]}, "did you mean draws"),
        ({"overrides": ["sets.own.length=0"]}, "length: expected a value >= 2"),
        ({"draws": 0}, "draws: expected a value >= 1"),
        ({"only": ["onw"]}, 'did you mean "own"'),
        ({"preset": "mdml"}, 'no shipped preset "mdml"'),
        ({"dtype": "fp8"}, "dtype: expected bf16 or fp32"),
    ],
)
def test_bad_requests_are_said_in_words(run, asked, words):
    with pytest.raises(RecipeError, match=words):
        evaluate_suite(run, "three.toml", **asked)
    assert not (run / "eval").exists()


def test_options_of_all_evaluators(run):
    found = evaluate_suite(run, "three.toml", draws=4, split="test")
    assert {result.provenance["draws"] for result in found.results.values()} == {4}


def test_drawing_goes_on_until_the_numbers_are_precise(run):
    rough = evaluate_suite(run, "three.toml", only=["own"]).results["own"]
    fine = evaluate_suite(run, "three.toml", only=["own"], precision=0.002).results["own"]
    assert fine.provenance["draws"] > rough.provenance["draws"]
    number = fine.measurements["nelbo_per_token"]
    assert number.draws_stderr <= 0.002 * number.value
    assert fine.provenance["set"]["evaluator"]["precision"] == 0.002


def test_numbers_that_cannot_be_verified_any_more_are_set_aside(run):
    evaluate_suite(run, "three.toml")
    Path("lines.txt").unlink()
    evaluate_suite(run, "three.toml", allow_missing=True)
    assert list(written(run)["sets"]) == ["own"]
    assert list(written(run, "three.previous")["sets"]) == ["own", "lines", "short"]


def test_what_does_not_fit_the_run_is_said_for_all_sets(made, tmp_path):
    run = Path(shutil.copytree(made["ar"], tmp_path / "runs" / made["ar"].name))
    with pytest.raises(RecipeError) as caught:
        evaluate_suite(run, "three.toml", overrides=["protocol.evaluator={use='duel'}"])
    assert [line.partition("] ")[0] for line in caught.value.problems] == [
        f"suite three: [sets.{label}" for label in ("own", "lines", "short")
    ]
    assert "evaluator: the network predicts the next token" in caught.value.problems[0]


def test_options_that_an_evaluator_refuses_when_it_is_built_are_said_for_all_sets(run, monkeypatch):
    def refuse(self, context):
        raise RecipeError("nelbo: no")

    monkeypatch.setattr(Nelbo, "build", refuse)
    with pytest.raises(RecipeError) as caught:
        evaluate_suite(run, "three.toml")
    assert list(caught.value.problems) == ["suite three: own, lines, short: nelbo: no"]


def test_an_autoregressive_run_gives_exact_numbers(made, tmp_path):
    run = Path(shutil.copytree(made["ar"], tmp_path / "runs" / made["ar"].name))
    found = evaluate_suite(run, "three.toml", draws=4)
    for result in found.results.values():
        assert result.provenance["exact"] is True
        assert result.provenance["draws"] == 1
    other = evaluate_suite(run, "three.toml", seed=9)
    assert values(other) == values(found)


# --- replay --------------------------------------------------------------------------------


def change_weights(run, step=6, factor=1.1):
    """Other weights under the same step, in a checkpoint that is whole."""
    state = load_weights(run, step=step).state
    shutil.rmtree(run / "checkpoints" / f"step-{step:08d}")
    tensors = {f"{kind}/{name}": factor * value for name, value in state.items()
               for kind in ("model", "ema")}  # fmt: skip
    save_checkpoint(run, step, tensors, {}, world=World(device=torch.device("cpu")), keep=0)


def test_a_replay_finds_the_same_numbers_by_the_file_alone(run, tmp_path, monkeypatch):
    found = evaluate_suite(
        run, "three.toml", seed=3, batch_size=5, checkpoint=3, draws=3,
        overrides=["sampler.steps=7", f'sets.lines.corpus.test="{tmp_path}/lines.txt"',
                   f'sets.short.corpus.test="{tmp_path}/lines.txt"'],
    )  # fmt: skip
    Path("three.toml").unlink()
    monkeypatch.chdir(tmp_path.parent)
    before = found.path.read_bytes()
    again = replay(found.path)
    assert again.matches
    assert all(entry.bitwise for entry in again.comparisons)
    assert len(again.comparisons) == sum(len(r.measurements) for r in found.results.values())
    assert (again.differences, again.circumstances, again.missing) == ((), (), {})
    assert found.path.read_bytes() == before


def test_a_replay_of_a_file_that_was_moved(run, tmp_path):
    path = evaluate_suite(run, "three.toml", only=["own"]).path
    moved = Path(shutil.move(path, tmp_path / "moved.json"))
    with pytest.raises(CheckpointError, match="holds no run"):
        replay(moved)
    assert replay(moved, run=run).matches


def test_other_weights_are_not_the_same_measurement(run):
    path = evaluate_suite(run, "three.toml").path
    change_weights(run)
    again = replay(path)
    assert not again.matches
    assert [line.split(":")[0] for line in again.differences] == ["own", "lines", "short"]
    assert all("weights_sha256" in line for line in again.differences)
    assert not any(entry.bitwise for entry in again.comparisons)


def test_other_weights_are_told_even_where_the_numbers_agree_within_their_errors(run):
    path = evaluate_suite(run, "three.toml", only=["own"]).path
    change_weights(run, factor=1.0001)
    again = replay(path)
    for entry in again.comparisons:
        assert abs(entry.found.value - entry.recorded.value) < entry.recorded.stderr
    assert again.differences
    assert not again.matches


def test_numbers_that_were_changed_in_the_file_are_seen(run):
    path = evaluate_suite(run, "three.toml", only=["own"]).path
    plain = json.loads(path.read_text())
    entry = plain["sets"]["own"]
    number = entry["measurements"]["nelbo_per_token"]
    for change, torch_version, matches in (
        (1e-9, None, True),  # rounding
        (0.5, None, False),  # the same text and masks on the same machine
        (0.5, "another", True),  # within the error, elsewhere
        (1.5, "another", False),
    ):
        changed = number | {"value": number["value"] + change * number["stderr"]}
        entry["measurements"]["nelbo_per_token"] = changed
        if torch_version:
            entry["provenance"]["environment"]["torch"] = torch_version
        path.write_text(json.dumps(plain))
        again = replay(path)
        assert again.matches is matches, change
        assert [e.name for e in again.comparisons if not e.bitwise] == ["nelbo_per_token"]


@pytest.mark.parametrize("key", ["seed", "draws", "blocks", "tokens_scored"])
def test_facts_that_were_changed_in_the_file_are_seen(run, key):
    path = evaluate_suite(run, "three.toml", only=["own"]).path
    plain = json.loads(path.read_text())
    plain["sets"]["own"]["provenance"][key] += 1
    path.write_text(json.dumps(plain))
    again = replay(path)
    assert not again.matches
    assert any(f" {key}: " in line for line in again.differences)


def test_other_text_is_not_the_same_measurement_and_gone_text_is_missing(run):
    path = evaluate_suite(run, "three.toml").path
    Path("moved.txt").write_text(Path("lines.txt").read_text())
    Path("lines.txt").unlink()
    with pytest.raises(DataError, match="2 of 3 sets cannot be had"):
        replay(path)
    partly = replay(path, allow_missing=True)
    assert not partly.matches
    assert list(partly.missing) == ["lines", "short"]
    moved = {"lines": "moved.txt", "short": "moved.txt"}
    assert replay(path, sources=moved).matches
    Path("moved.txt").write_text("10, 11 and 13\n" * 60)
    other = replay(path, sources=moved)
    assert not other.matches
    assert any(line.startswith("lines: data.corpus_fingerprint: ") for line in other.differences)
    assert not any(line.startswith("own:") for line in other.differences)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "mdmkit suite", "format": 99}'])
def test_a_file_that_is_none(run, text):
    Path("x.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"x\.json: is not what a suite wrote"):
        replay("x.json", run=run)
    with pytest.raises(CheckpointError, match=r"y\.json: cannot be read"):
        replay("y.json", run=run)


def test_ranks_that_miss_different_sets_are_named():
    same_everywhere([{"a": "x"}, {"a": "y"}])
    with pytest.raises(DataError, match=r"b: not all processes .* \(rank 1 differs"):
        same_everywhere([{"a": "x"}, {"a": "x", "b": "z"}])
