"""A run goes on with another layout, and says so; nothing else of its recipe may change."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from mdmkit import load_recipe, train
from mdmkit.errors import CheckpointError
from mdmkit.metrics_log import read_metrics
from mdmkit.report.console import Quiet


class Listener(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def notify(self, text: str) -> None:
        self.said.append(text)


def losses(run: Path) -> list[float]:
    lines = read_metrics(run / "metrics.jsonl")
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_run_goes_on_with_another_layout(tiny_recipe: Path, dropout: float) -> None:
    changes = [f"denoiser.dropout={dropout}", "evaluators={}"]
    run = train(load_recipe(tiny_recipe, changes)).directory
    before = losses(run)
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    other = ["train.micro_batch_size=4", "parallel.activation_checkpointing=full"]
    listener = Listener()
    again = train(load_recipe(tiny_recipe, [*changes, *other]), reporter=listener).directory
    assert again == run
    (said,) = [line for line in listener.said if "another layout" in line]
    assert "train.micro_batch_size: (not set) -> 4" in said
    assert 'parallel.activation_checkpointing: "none" -> "full"' in said
    assert ("other values are dropped" in said) == (dropout > 0)
    saved = tomllib.loads((run / "recipe.toml").read_text())
    assert saved["train"]["micro_batch_size"] == 4
    if not dropout:
        assert losses(run) == pytest.approx(before, rel=1e-5)


def test_anything_else_is_still_refused(tiny_recipe: Path) -> None:
    changes = ["evaluators={}", "train.steps=4"]
    run = train(load_recipe(tiny_recipe, changes)).directory
    for change, said in (
        ("train.precision=bf16", "train.precision"),
        ("parallel.param_dtype=bf16", "parallel.param_dtype"),
    ):
        with pytest.raises(CheckpointError, match=said):
            train(load_recipe(tiny_recipe, [*changes, change]), resume=run)
