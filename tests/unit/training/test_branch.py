"""A run that goes on from another's checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mdmkit import CheckpointError, RecipeError, load_recipe, train
from mdmkit.metrics_log import read_metrics
from mdmkit.training.checkpoint import load_weights
from mdmkit.validation_log import logged_steps

CONSTANT = ["train.keep_checkpoints=0"]
COOLED = ['learning_rate.shape="wsd"', "learning_rate.decay_fraction=0.5", "train.steps=16"]


@pytest.fixture
def source(tiny_recipe: Path) -> Path:
    return train(load_recipe(tiny_recipe, CONSTANT)).directory


def losses(run: Path) -> list[tuple[int, float]]:
    lines = read_metrics(run / "metrics.jsonl")
    return [(x["step"], x["train/loss"]) for x in lines if "train/loss" in x]


def test_it_is_as_if_the_run_had_had_that_recipe_all_along(
    tiny_recipe: Path, source: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(tiny_recipe, COOLED)
    whole = train(recipe, runs_dir=tmp_path / "whole").directory
    branch = train(recipe, branch_from=f"{source}@8").directory  # the decay begins at step 8
    assert losses(branch) == losses(whole)
    assert logged_steps(branch) == logged_steps(whole) == [0, 4, 8, 12, 16]
    left, right = load_weights(branch).state, load_weights(whole).state
    assert all(torch.equal(left[name], right[name]) for name in left)
    about = json.loads((branch / "branch.json").read_text())
    assert (about["from"], about["step"]) == (source.name, 8)
    assert about["changed"] == ["learning_rate", "train"]


def test_it_stands_by_itself_and_resumes(tiny_recipe: Path, source: Path) -> None:
    recipe = load_recipe(tiny_recipe, COOLED)
    branch = train(recipe, branch_from=f"{source}@4").directory
    before = losses(branch)
    shutil.rmtree(source)
    shutil.rmtree(branch / "checkpoints" / "step-00000016")
    assert train(recipe, resume=branch).directory == branch
    assert losses(branch) == before


def test_the_same_command_goes_on_without_the_other_run(tiny_recipe: Path, source: Path) -> None:
    recipe = load_recipe(tiny_recipe, COOLED)
    branch = train(recipe, branch_from=f"{source}@4").directory
    before = losses(branch)
    shutil.rmtree(source)
    shutil.rmtree(branch / "checkpoints" / "step-00000016")
    assert train(recipe, branch_from=f"{source}@4").directory == branch
    assert losses(branch) == before


def test_a_branch_is_never_trained_from_before_its_beginning(
    tiny_recipe: Path, source: Path
) -> None:
    recipe = load_recipe(tiny_recipe, COOLED)
    branch = train(recipe, branch_from=f"{source}@8").directory
    shutil.rmtree(branch / "checkpoints")
    for command in ({"resume": branch}, {"branch_from": f"{source}@8"}):
        with pytest.raises(CheckpointError, match="start again with --branch-from"):
            train(recipe, **command)  # type: ignore[arg-type]


def test_a_copy_that_was_broken_off_is_made_again(tiny_recipe: Path, source: Path) -> None:
    recipe = load_recipe(tiny_recipe, COOLED)
    branch = train(recipe, branch_from=f"{source}@4").directory
    before = losses(branch)
    about = json.loads((branch / "branch.json").read_text())
    (branch / "branch.json").write_text(json.dumps({**about, "whole": False}))
    shutil.rmtree(branch / "checkpoints")
    with pytest.raises(CheckpointError, match="start again with --branch-from"):
        train(recipe, resume=branch)
    (branch / "checkpoints" / "step-00000004").mkdir(parents=True)  # half of one
    assert train(recipe, branch_from=f"{source}@4").directory == branch
    assert losses(branch) == before


def test_each_branching_point_has_a_directory_of_its_own(tiny_recipe: Path, source: Path) -> None:
    recipe = load_recipe(tiny_recipe, COOLED)
    runs = {train(recipe, branch_from=f"{source}@{step}").directory for step in (4, 8)}
    runs.add(train(recipe).directory)
    assert len(runs) == 3
    assert all(run.name.startswith("tiny-") for run in runs)


def test_a_changed_component_starts_afresh(
    tiny_recipe: Path, distribution: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.training.test_stateful import PLUGIN

    distribution("mdmkit-leaning", PLUGIN)  # type: ignore[operator]
    monkeypatch.setenv("SEEN", str(tiny_recipe.parent / "seen.jsonl"))
    leaning = "time_sampler.use=leaning"
    source = train(load_recipe(tiny_recipe, [*CONSTANT, leaning])).directory
    plain = train(load_recipe(tiny_recipe, COOLED), branch_from=f"{source}@8").directory
    assert losses(plain)[:8] == losses(source)[:8]
    back = train(load_recipe(tiny_recipe, [*COOLED, leaning]), branch_from=f"{plain}@12")
    assert back.step == 16


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("nonsense", RecipeError, "expected RUN@STEP"),
        ("tiny@many", RecipeError, "expected RUN@STEP"),
        ("tniy@4", CheckpointError, "no such run"),
        ("tiny@5", CheckpointError, "has no checkpoint of step 5; it has 4, 8, 12"),
    ],
)
def test_what_is_not_there_is_said(
    tiny_recipe: Path, source: Path, text: str, error: type[Exception], words: str
) -> None:
    assert source.exists()
    with pytest.raises(error, match=words):
        train(load_recipe(tiny_recipe, COOLED), branch_from=text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.length=32", "data.length: 16 -> 32"),
        ("denoiser.width=32", "denoiser.width: 16 -> 32"),
        ("train.global_batch_size=16", "train.global_batch_size: 8 -> 16"),
        ("train.validate_draws=2", "train.validate_draws: 1 -> 2"),
        ("train.steps=8", "expected more than the 8 steps"),
    ],
)
def test_what_cannot_go_on_is_refused(
    tiny_recipe: Path, source: Path, change: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        train(load_recipe(tiny_recipe, [*COOLED, change]), branch_from=f"{source}@8")


def test_a_damaged_checkpoint_is_refused(tiny_recipe: Path, source: Path) -> None:
    (source / "checkpoints" / "step-00000008" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json is not as it was written"):
        train(load_recipe(tiny_recipe, COOLED), branch_from=f"{source}@8")
