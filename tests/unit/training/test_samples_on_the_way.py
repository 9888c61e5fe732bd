"""Texts that a run generates and keeps, on the way and at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdmkit import load_recipe, train
from mdmkit.builtin.samplers.ancestral import Ancestral
from mdmkit.data.text_tokenizer import load_tokenizer
from mdmkit.metrics_log import read_metrics
from mdmkit.recipe import dump_recipe, recipe_hash
from mdmkit.report.console import Quiet
from mdmkit.samples_log import read_samples, sampled_steps
from mdmkit.training.checkpoint import steps_on_disk
from mdmkit.training.run_directory import run_directory

UNREPEATABLE = ("seconds", "train/tokens_per_second")


def metrics(run: Path) -> list[dict[str, float]]:
    lines = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in UNREPEATABLE} for line in lines]


@pytest.mark.parametrize(
    "changes", [[], ['objective.use="autoregressive"', 'sampler.use="autoregressive"']]
)
def test_the_samples_of_the_end_are_kept_with_how_they_came_about(
    tiny_recipe: Path, changes: list[str]
) -> None:
    result = train(load_recipe(tiny_recipe, [*changes, "train.steps=2", "train.validate_every=0"]))
    assert sampled_steps(result.directory) == [2]
    logged = read_samples(result.directory, 2)
    assert (logged.step, logged.ema, logged.seed, logged.vocab_size) == (2, True, 0, 280)
    assert logged.sampler["use"] == ("autoregressive" if changes else "ancestral")
    tokenizer = load_tokenizer(result.directory / "tokenizer.json")
    for kept, sample in zip(logged.samples, result.samples, strict=True):
        assert (kept.text, kept.length) == (sample.text, len(sample.ids))
        assert kept.network_evaluations[-1] == sample.network_evaluations
        masks = [kept.pieces(state).count(None) for state in range(len(kept.states))]
        assert masks == sorted(masks, reverse=True)  # neither of the two masks again
        assert masks[0] > masks[-1] == 0
        assert kept.pieces(-1) == [tokenizer.decode([token]) for token in sample.ids]


def test_samples_on_the_way_change_nothing_of_the_training(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["train.steps=6", "train.validate_every=0", "train.checkpoint_every=4"]
    changes.append("denoiser.dropout=0.1")
    without = train(load_recipe(tiny_recipe, changes)).directory
    recipe = load_recipe(tiny_recipe, [*changes, "train.sample_every=3"])
    run = train(recipe).directory
    assert sampled_steps(without) == [6]
    assert sampled_steps(run) == [3, 6]
    assert metrics(run) == metrics(without)
    assert read_samples(run, 6).samples == read_samples(without, 6).samples
    assert read_samples(run, 3).samples != read_samples(run, 6).samples


def test_a_run_made_before_the_option_goes_on(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    assert "sample_every" not in dump_recipe(recipe)["train"]
    assert recipe_hash(load_recipe(tiny_recipe, ["train.sample_every=3"])) != recipe_hash(recipe)


def test_going_on_from_a_checkpoint_forgets_the_samples_past_it(tiny_recipe: Path) -> None:
    recipe = load_recipe(
        tiny_recipe, ["train.steps=6", "train.sample_every=2", "train.checkpoint_every=4"]
    )
    run = train(recipe).directory
    kept = (run / "samples" / "step-00000004.json").stat().st_mtime_ns
    (run / "samples" / "step-00000005.json").write_bytes(b"of a run that was killed")
    last = run / "checkpoints" / f"step-{steps_on_disk(run)[-1]:08d}"
    (last / "manifest.json").unlink()
    assert train(recipe).directory == run
    assert sampled_steps(run) == [2, 4, 6]
    # those of the checkpoint itself are there, and are not made again
    assert (run / "samples" / "step-00000004.json").stat().st_mtime_ns == kept


class Told(Quiet):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notify(self, text: str) -> None:
        self.texts.append(text)


def test_a_sampler_that_fails_on_the_way_costs_neither_checkpoint_nor_training(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["steps=3", "checkpoint_every=1", "checkpoints_in_flight=0", "sample_every=1"]
    recipe = load_recipe(tiny_recipe, [f"train.{change}" for change in changes])
    run, saved = run_directory(recipe), []
    generate = Ancestral.generate

    def failing(self, start, context):  # type: ignore[no-untyped-def]
        saved.append(steps_on_disk(run))
        if len(saved) < 3:
            raise RuntimeError("no luck")
        return generate(self, start, context)

    monkeypatch.setattr(Ancestral, "generate", failing)
    told = Told()
    assert train(recipe, reporter=told).directory == run
    assert saved == [[1], [1, 2], [2, 3]]  # each is saved first
    assert [text for text in told.texts if "luck" in text] == [
        "step 1: no texts were generated on the way, the training goes on (RuntimeError: no luck)"
    ]
    assert sampled_steps(run) == [3]
