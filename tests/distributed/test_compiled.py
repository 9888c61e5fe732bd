"""Compiled blocks give the curve of plain ones, sharded and with activations worked out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import write_tiny_recipe
from .worlds import deviation, train_in_world

pytestmark = pytest.mark.timeout(900)  # processes start slowly on a busy machine

SHORT = [
    "train.steps=3",
    "train.validate_every=0",
    "train.diagnose_every=0",
    "learning_rate.warmup_steps=1",
    "denoiser.adaln=false",
    "denoiser.depth=1",
    "evaluators={}",
]
COMPILED = ["parallel.compile=true", "parallel.activation_checkpointing=selective"]


@pytest.mark.slow
def test_two_ranks_train_compiled_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path / "cache"))
    recipe = write_tiny_recipe(tmp_path / "tiny")
    variants = {"plain": SHORT, "compiled": [*SHORT, *COMPILED, "train.micro_batch_size=2"]}
    runs = train_in_world(2, recipe, tmp_path, variants)
    assert max(deviation(runs["plain"], runs["compiled"]).values()) < 1e-5
