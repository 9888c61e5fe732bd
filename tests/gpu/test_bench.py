"""A bench on a CUDA device; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mdmkit import load_recipe
from mdmkit.benchmarking.bench import bench

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_everything_is_measured(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["train.steps=50", 'train.precision="bf16"'])
    found = bench(recipe, steps=4, warmup=2, device="cuda", seconds=0.5, synthetic=True)
    assert all(spread.median >= 0 for spread in found.phases.values())
    assert found.phase_step.median > 0
    assert found.memory[0].reserved is not None
    assert found.memory[0].reserved >= found.memory[0].peak > 0
    assert found.machines[0].flops > 1e12
    assert found.profile.parts["blocks"] > 0
    assert found.utilisation is not None
    assert 0 < found.utilisation.model < 1


def test_a_batch_that_does_not_fit_is_not_the_end(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe, ["train.steps=50", "data.length=1024"])
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        found = bench(
            recipe, steps=2, warmup=2, device="cuda", seconds=0.1, synthetic=True, find_batch=True
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    largest = found.largest_batch
    assert largest is not None
    assert largest.tried[largest.rows]
    assert not all(largest.tried.values())
