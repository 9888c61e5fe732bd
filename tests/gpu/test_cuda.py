"""The same things on a CUDA device; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mdmkit import evaluate, load_recipe, sample, train
from mdmkit.metrics_log import read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_train_evaluate_sample(tiny_recipe: Path, precision: str) -> None:
    recipe = load_recipe(tiny_recipe, [f'train.precision="{precision}"', "denoiser.dropout=0.1"])
    result = train(recipe, device="cuda")
    lines = read_metrics(result.directory / "metrics.jsonl")
    validated = [line["val/nelbo_per_token"] for line in lines if "val/nelbo_per_token" in line]
    assert validated[-1] < validated[0]
    found = evaluate(result.directory, device="cuda")["held_out"]
    again = evaluate(result.directory, device="cpu")["held_out"]
    on_gpu, on_cpu = found.measurements["nelbo_per_token"], again.measurements["nelbo_per_token"]
    assert on_gpu.value == pytest.approx(on_cpu.value, rel=2e-2 if precision == "bf16" else 1e-4)
    assert len(sample(result.directory, n=2, device="cuda")) == 2


def test_the_curve_is_that_of_the_cpu(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    runs = {
        device: train(recipe, device=device, runs_dir=tmp_path / device).directory
        for device in ("cpu", "cuda")
    }
    losses = {
        device: [line["train/loss"] for line in read_metrics(run / "metrics.jsonl")[1:]
                 if "train/loss" in line]
        for device, run in runs.items()
    }  # fmt: skip
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)
