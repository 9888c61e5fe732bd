"""Several processes (gloo, FSDP2) against one: the same recipe, the same curve."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mdmkit import load_recipe, train
from mdmkit.metrics_log import read_metrics
from mdmkit.training.checkpoint import load_weights
from mdmkit.training.run_directory import run_directory

from ..conftest import write_tiny_recipe
from .worlds import train_in_world

pytestmark = pytest.mark.timeout(900)  # processes start slowly on a busy machine

FIGURES = ("train/loss", "train/grad_norm", "val/nelbo_per_token", "val/nelbo_per_token_stderr")

SCRIPT = """
import sys
import torch.distributed.checkpoint  # before the process group: it warns when imported after
from mdmkit import load_recipe, train

recipe, runs_dir, *overrides = sys.argv[1:]
train(load_recipe(recipe, overrides), runs_dir=runs_dir, device="cpu")
"""


# every time sampler that learns, of which each rank keeps its own copy
ADAPTIVE = """time_sampler={use = "mixture", share = 0.3, \
first = {use = "information_rate", warmup = 3, memory = 5, bins = 4}, \
second = {use = "annealed", start = {use = "loss_adaptive", warmup = 0, memory = 5, bins = 4}, \
end = {use = "clipped", min_width = 0.3}}}"""


def train_on(ranks: int, recipe: Path, runs_dir: Path, *overrides: str) -> Path:
    """Train with `ranks` processes and return the run directory."""
    script = runs_dir.parent / "train.py"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(recipe), str(runs_dir), *overrides],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return run_directory(load_recipe(recipe, overrides), runs_dir)


def curve(run: Path) -> list[tuple[int, str, float]]:
    lines: list[dict[str, Any]] = read_metrics(run / "metrics.jsonl")
    return [(line["step"], name, line[name]) for line in lines for name in FIGURES if name in line]


def assert_same_curve(one: Path, other: Path) -> None:
    left, right = curve(one), curve(other)
    assert [entry[:2] for entry in left] == [entry[:2] for entry in right]
    assert len(left) > 20
    for (step, name, value), (*_, found) in zip(left, right, strict=True):
        assert found == pytest.approx(value, rel=1e-5, abs=1e-9), (step, name)


# What a layout alone does not change is in test_layouts.py; these have more to get wrong.
VARIANTS = {
    "accumulated and tied": ["train.micro_batch_size=2", "denoiser.tied=true"],
    "adaptive times": [ADAPTIVE],
    "autoregressive": ['objective.use="autoregressive"', 'sampler.use="autoregressive"'],
    # at most 3 causal rows for 4 micro-batches: some have none
    "mixed causal": [
        "train.micro_batch_size=2",
        'objective={use = "mixed_causal", share = 0.25, final_share = 0.0}',
        "objective.anneal.end=0.8",
        "denoiser.adaln=false",  # its tiny gradients are rounding, which Adam makes large
    ],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """The run of each variant on one rank and on two."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        recipe = write_tiny_recipe(folder / "tiny")
        variants = {name: ["train.steps=8", *changes] for name, changes in VARIANTS.items()}
        one, two = (train_in_world(ranks, recipe, folder, variants) for ranks in (1, 2))
    return {name: (one[name], two[name]) for name in variants}


@pytest.mark.parametrize("name", VARIANTS)
def test_two_ranks_give_the_curve_of_one(runs: dict[str, tuple[Path, Path]], name: str) -> None:
    one, two = runs[name]
    assert_same_curve(one, two)
    # The evaluation and the weights that are left are those of one rank, too.
    left, right = load_weights(one).state, load_weights(two).state
    for tensor_name, tensor in left.items():
        assert right[tensor_name] == pytest.approx(tensor, rel=1e-3, abs=1e-6), tensor_name


def test_sums_of_a_window_survive_a_resume_on_two_ranks(tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ["train.log_every=6", "train.checkpoint_every=4", "train.diagnose_every=12"]
    whole = train(load_recipe(tiny_recipe, changes), runs_dir=tmp_path / "one").directory
    begun = train_on(2, tiny_recipe, tmp_path / "two", *changes)
    shutil.rmtree(begun / "checkpoints" / "step-00000012")
    train_on(2, tiny_recipe, tmp_path / "two", *changes)  # from step 8, between two lines
    names = ("train/loss", "train/masked_share", "train/nll_at_t/0.55", "train/grad_noise_trace")
    for name in names:
        one, two = (
            {x["step"]: x[name] for x in read_metrics(run / "metrics.jsonl") if name in x}
            for run in (whole, begun)
        )
        assert two == pytest.approx(one, rel=1e-3), name
