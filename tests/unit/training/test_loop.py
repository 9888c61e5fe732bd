"""The training loop on a tiny real job: what it leaves, and that nothing it should not matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file

from mdmkit import CheckpointError, RecipeError, TrainingError, load_recipe, train
from mdmkit.builtin.objectives import LiveMaskedDiffusion
from mdmkit.data.blocks import build_tokenizer
from mdmkit.errors import RunInterrupted
from mdmkit.metrics_log import read_metrics
from mdmkit.report.console import quiet
from mdmkit.training.checkpoint import load_weights, steps_on_disk
from mdmkit.training.distributed import World
from mdmkit.training.job import open_job
from mdmkit.training.run_directory import run_directory
from mdmkit.values import Loss

UNREPEATABLE = ("seconds", "train/tokens_per_second")


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log without what the clock has a say in."""
    lines = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in UNREPEATABLE} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """Bitwise: every logged figure, and every weight."""
    assert metrics(one) == metrics(other)
    assert len(metrics(one)) > 12
    for ema in (True, False):
        left, right = load_weights(one, ema=ema).state, load_weights(other, ema=ema).state
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_leaves_everything_in_its_directory(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    result = train(recipe)
    run = result.directory
    assert run == run_directory(recipe)
    assert result.step == 12
    assert steps_on_disk(run) == [8, 12]  # two are kept
    assert json.loads((run / "eval" / "held_out.json").read_text())["provenance"]["checkpoint"] == {
        "step": 12,
        "ema": True,
    }
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 13))
    validated = {s["step"]: s["val/nelbo_per_token"] for s in lines if "val/nelbo_per_token" in s}
    assert list(validated) == [0, 4, 8, 12]
    assert validated[12] < validated[0]
    assert lines[-1]["tokens"] == 12 * 8 * 16
    assert {"train/grad_norm", "train/learning_rate", "train/tokens_per_second"} <= set(lines[1])
    assert load_recipe(run / "recipe.toml") == recipe
    exported = load_file(run / "model.safetensors")
    averaged = load_weights(run).state
    assert all(torch.equal(exported[n.removeprefix("denoiser.")], t) for n, t in averaged.items())
    assert len(result.samples) == 3


def test_the_same_recipe_gives_the_same_run(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    one = train(recipe, runs_dir=tmp_path / "one").directory
    other = train(recipe, runs_dir=tmp_path / "other").directory
    assert_same_run(one, other)


def test_another_seed_gives_another_run(tiny_recipe: Path) -> None:
    one = train(load_recipe(tiny_recipe)).directory
    other = train(load_recipe(tiny_recipe, ["run.seed=2"])).directory
    assert metrics(one) != metrics(other)


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ['loss_weighting.use="elbo"', 'time_sampler.use="uniform"'],
        ['objective.use="autoregressive"', 'sampler.use="autoregressive"'],
        ["denoiser.adaln=false", "denoiser.tied=true"],
    ],
)
def test_accumulation_does_not_change_the_curve(
    tiny_recipe: Path, tmp_path: Path, changes: list[str]
) -> None:
    whole = train(load_recipe(tiny_recipe, changes)).directory
    recipe = load_recipe(tiny_recipe, [*changes, "train.micro_batch_size=2"])
    parts = train(recipe, runs_dir=tmp_path / "parts").directory
    assert parts.name == whole.name  # it is no other run
    for one, other in zip(metrics(whole), metrics(parts), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=1e-5), name


# What happens to the process, and at which moment.
DEATHS = {
    "after a log line": "Job.log",
    "before the first checkpoint": "Job.log first",
    "while a checkpoint is written": "write_tensors",
    "before its manifest": "write_json",
    "before it is renamed": "rename",
}
KILLER = """
import os, signal, sys
from pathlib import Path
import mdmkit.training.saving as saving, mdmkit.training.job as job
from mdmkit import load_recipe, train

recipe, moment = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
calls = [0]

def at(number, function, half=None):
    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == number:
            if half:
                half(*args)
            die()
        return function(*args, **kwargs)
    return wrapped

def half_written(path, tensors, **_):
    (Path(path) / "__0_0.distcp").write_bytes(b"half")

if moment == "Job.log":
    job.Job.log = at(11, job.Job.log)
elif moment == "Job.log first":
    job.Job.log = at(3, job.Job.log)
elif moment == "write_tensors":
    saving.write_tensors = at(2, saving.write_tensors, half_written)
elif moment == "write_json":
    saving.write_json = at(4, saving.write_json)
elif moment == "rename":
    saving.sync_directory = at(3, saving.sync_directory)
train(load_recipe(recipe, ["denoiser.dropout=0.1"]))
raise SystemExit("it was to be killed")
"""


@pytest.mark.parametrize("moment", DEATHS.values(), ids=DEATHS.keys())
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    tiny_recipe: Path, tmp_path: Path, moment: str
) -> None:
    recipe = load_recipe(tiny_recipe, ["denoiser.dropout=0.1"])
    script = tmp_path / "killer.py"
    script.write_text(KILLER)
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_recipe), moment],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = run_directory(recipe)
    assert max([0, *steps_on_disk(killed)]) < 12
    train(recipe)
    uninterrupted = train(recipe, runs_dir=tmp_path / "whole").directory
    assert_same_run(uninterrupted, killed)
    assert not list((killed / "checkpoints").glob(".tmp-*"))


def test_a_finished_run_is_not_trained_again(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe)
    before = metrics(train(recipe).directory)
    monkeypatch.setattr(LiveMaskedDiffusion, "corrupt", None)  # training would call it
    result = train(recipe)
    assert result.step == 12
    assert metrics(result.directory) == before


def test_a_damaged_last_checkpoint_costs_only_the_steps_since_the_one_before(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(tiny_recipe)
    run = train(recipe).directory
    shard = next((run / "checkpoints" / "step-00000012").glob("*.distcp"))
    os.truncate(shard, 100)
    train(recipe)
    assert_same_run(run, train(recipe, runs_dir=tmp_path / "whole").directory)


def test_another_recipes_directory_is_refused_with_the_keys_named(tiny_recipe: Path) -> None:
    run = train(load_recipe(tiny_recipe)).directory
    changed = load_recipe(tiny_recipe, ["learning_rate.peak=0.02", "train.steps=13"])
    with pytest.raises(CheckpointError) as caught:
        train(changed, resume=run)
    assert "learning_rate.peak" in str(caught.value)
    assert "0.02" in str(caught.value)
    assert "train.steps" in str(caught.value)
    assert metrics(run)[-1]["step"] == 12


def test_two_processes_cannot_train_in_one_directory(tiny_recipe: Path) -> None:
    import fcntl

    recipe = load_recipe(tiny_recipe)
    directory = run_directory(recipe)
    directory.mkdir(parents=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process is training here"):
            train(recipe)


def poisoned(steps: range) -> Any:
    """`LiveMaskedDiffusion.loss`, with a NaN in it at some of the calls."""
    original, calls = LiveMaskedDiffusion.loss, iter(range(10**6))

    def loss(self: LiveMaskedDiffusion, denoiser: Any, noised: Any) -> Loss:
        found = original(self, denoiser, noised)
        return found._replace(total=found.total * float("nan")) if next(calls) in steps else found

    return loss


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveMaskedDiffusion, "loss", poisoned(range(3, 5)))
    run = train(load_recipe(tiny_recipe)).directory
    lines = {line["step"]: line for line in metrics(run) if "train/nonfinite_steps" in line}
    assert lines[3]["train/nonfinite_steps"] == 0
    assert "train/loss" not in lines[4]
    assert lines[12]["train/nonfinite_steps"] == 2
    assert all(tensor.isfinite().all() for tensor in load_weights(run, ema=False).state.values())


def test_too_many_of_them_stop_the_run_and_leave_the_checkpoint(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe, ["train.max_nonfinite_steps=2"])
    monkeypatch.setattr(LiveMaskedDiffusion, "loss", poisoned(range(5, 100)))
    with pytest.raises(TrainingError, match=r"not finite 3 steps in a row.*learning_rate\.peak"):
        train(recipe)
    assert steps_on_disk(run_directory(recipe)) == [4]


def test_an_interrupt_saves_and_says_how_to_go_on(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe)
    original, calls = LiveMaskedDiffusion.loss, iter(range(10**6))

    def interrupting(self: LiveMaskedDiffusion, denoiser: Any, noised: Any) -> Loss:
        if next(calls) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, denoiser, noised)

    with monkeypatch.context() as patched:
        patched.setattr(LiveMaskedDiffusion, "loss", interrupting)
        with pytest.raises(RunInterrupted, match="same command again"):
            train(recipe)
    run = run_directory(recipe)
    assert steps_on_disk(run)[-1] in (7, 8)
    train(recipe)
    assert_same_run(train(recipe, runs_dir=tmp_path / "whole").directory, run)


def test_a_vocabulary_that_does_not_fit_is_refused(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["train.steps=4"])
    run = train(recipe).directory
    other = train(load_recipe(tiny_recipe, ["train.steps=4", "data.tokenizer.vocab_size=270"]))
    for name in ("tokenizer.json", "tokenizer.special.json"):
        (run / name).write_bytes((other.directory / name).read_bytes())
    with pytest.raises(CheckpointError, match="does not fit this recipe's network"):
        train(recipe)


def test_samples_that_could_not_end_are_refused_before_the_training(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(tiny_recipe, ["sampler.eos=stop"])
    tokenizer = build_tokenizer(recipe.data, lambda _: None)
    plain = evolve(tokenizer, special=evolve(tokenizer.special, bos=None, eos=None))
    plain.save(tmp_path / "tokenizer.json")
    with (
        pytest.raises(RecipeError, match=r"no such token; expected --set sampler\.eos=keep"),
        open_job(recipe, tmp_path, World(device=torch.device("cpu")), quiet()),
    ):
        pass


def test_uneven_batches_are_refused(tiny_recipe: Path) -> None:
    with pytest.raises(RecipeError, match="micro_batch_size"):
        train(load_recipe(tiny_recipe, ["train.micro_batch_size=3"]))
