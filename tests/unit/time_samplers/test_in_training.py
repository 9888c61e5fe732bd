"""Samplers that learn, in a real run: a function of the global batch, and saved with the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from mdmkit import load_recipe, train
from mdmkit.metrics_log import read_metrics
from mdmkit.training.checkpoint import load_weights

CHOICES = {
    "information_rate": '{use = "information_rate", warmup = 2, memory = 5, bins = 4}',
    "loss_adaptive": '{use = "loss_adaptive", warmup = 2, memory = 5, bins = 4}',
    "clipped in annealed": '{use = "annealed", start = {use = "loss_adaptive", warmup = 0}, '
    'end = {use = "clipped", min_width = 0.3}}',
}
choices = pytest.mark.parametrize("choice", CHOICES.values(), ids=list(CHOICES))


def losses(run: Path) -> list[float]:
    return [x["train/loss"] for x in read_metrics(run / "metrics.jsonl") if "train/loss" in x]


@choices
def test_an_interruption_changes_nothing(tiny_recipe: Path, choice: str) -> None:
    recipe = load_recipe(tiny_recipe, [f"time_sampler={choice}"])
    run = train(recipe).directory
    before, weights = losses(run), load_weights(run, ema=False).state
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    train(recipe)  # again from step 8
    after = load_weights(run, ema=False).state
    assert losses(run) == before
    assert all(torch.equal(weights[name], after[name]) for name in weights)


@choices
def test_micro_batches_change_nothing(tiny_recipe: Path, tmp_path: Path, choice: str) -> None:
    found = []
    for number, size in enumerate((8, 2)):
        changes = [f"time_sampler={choice}", f"train.micro_batch_size={size}"]
        result = train(load_recipe(tiny_recipe, changes), runs_dir=tmp_path / str(number))
        found.append(losses(result.directory))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
