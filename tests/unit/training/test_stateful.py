"""A time sampler with a memory: it sees the whole global batch, and its memory is checkpointed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mdmkit import load_recipe, train
from mdmkit.metrics_log import read_metrics
from mdmkit.training.checkpoint import load_weights
from mdmkit.training.run_directory import run_directory

# Its density leans to where the last step's loss was high: a toy, but what it does depends on
# everything it was told.
PLUGIN = """
import json, os
import torch
from attrs import frozen
from mdmkit import hookimpl
from mdmkit.diffusion import GridDensity

@frozen(kw_only=True)
class Leaning:
    def build(self, facts):
        return Live(facts)

class Live:
    def __init__(self, facts):
        self.values, self.seen = torch.ones(4, dtype=torch.float64), 0

    def at(self, step):
        return GridDensity(self.values)

    def observe(self, t, nll, count):
        assert t.shape == nll.shape == count.shape
        cell = (t * 4).long().clamp(0, 3)
        sums = torch.zeros(4, dtype=torch.float64).index_add_(0, cell, nll)
        self.values = 0.5 * self.values + 0.1 * (1 + sums / (1 + sums.sum()))
        self.seen += 1
        with open(os.environ["SEEN"], "a") as file:
            file.write(json.dumps([t.tolist(), nll.tolist(), count.tolist()]) + chr(10))

    def state_dict(self):
        return {"values": self.values, "seen": self.seen}

    def load_state_dict(self, state):
        self.values, self.seen = state["values"].clone(), state["seen"]

@hookimpl
def mdmkit_time_samplers():
    return {"leaning": Leaning}
"""


@pytest.fixture
def seen(
    distribution: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    distribution("mdmkit-leaning", PLUGIN)
    path = tmp_path / "seen.jsonl"
    monkeypatch.setenv("SEEN", str(path))
    return path


def observed(seen: Path) -> list[Any]:
    import json

    found = [json.loads(line) for line in seen.read_text().splitlines()]
    os.truncate(seen, 0)
    return found


def losses(run: Path) -> list[float]:
    return [x["train/loss"] for x in read_metrics(run / "metrics.jsonl") if "train/loss" in x]


def test_it_is_told_of_every_row_of_the_global_batch(
    tiny_recipe: Path, seen: Path, tmp_path: Path
) -> None:
    changes = ["time_sampler.use=leaning", "train.steps=6"]
    train(load_recipe(tiny_recipe, changes), runs_dir=tmp_path / "whole")
    whole = observed(seen)
    train(load_recipe(tiny_recipe, [*changes, "train.micro_batch_size=2"]), runs_dir=tmp_path / "m")
    parts = observed(seen)
    assert len(whole) == len(parts) == 6
    for one, other in zip(whole, parts, strict=True):
        for left, right in zip(one, other, strict=True):
            assert len(left) == 8
            assert left == pytest.approx(right, rel=1e-4)
    times, nll, count = whole[0]
    assert times == sorted(times)  # jittered strata, one a row
    assert all(n > 0 for n, c in zip(nll, count, strict=True) if c > 0)


def test_its_memory_survives_an_interruption(tiny_recipe: Path, seen: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["time_sampler.use=leaning"])
    run = train(recipe).directory
    before, weights = losses(run), load_weights(run, ema=False).state
    told = observed(seen)
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    assert train(recipe).directory == run == run_directory(recipe)  # again from step 8
    assert losses(run) == before
    after = load_weights(run, ema=False).state
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert observed(seen) == told[8:]
