"""Whole trainings: interrupted, accumulated, and on several ranks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mdmkit import load_recipe, train
from mdmkit.metrics_log import read_metrics
from mdmkit.training.checkpoint import load_weights
from mdmkit.training.run_directory import run_directory
from mdmkit.training.tensor_files import read_tensors, tensor_sizes

pytest.importorskip("mdmkit_puma", reason="not installed: pip install -e plugins/mdmkit-puma")

RECIPE = """
[run]
name = "puma"

[data]
length = 16
corpus = {{ use = "text", train = "{text}", validation = "{text}", test = "{text}" }}
tokenizer = {{ use = "bpe", vocab_size = 270 }}

[denoiser]
use = "dit"
width = 16
depth = 1
heads = 2
adaln = false

[objective]
use = "puma"
stages = 5
threshold = 0.02

[loss_weighting]
use = "flat"
normalizer = "sequence"

[train]
steps = 7
global_batch_size = 8
precision = "fp32"
log_every = 1
validate_every = 0
validate_blocks = 4
diagnose_every = 4
checkpoint_every = 2
keep_checkpoints = 0

[learning_rate]
peak = 1e-2
warmup_steps = 1

[sampler]
use = "ancestral"
steps = 2
"""

# Imports everything once and forks every rank from there, which saves some seconds for each.
FORKED = """
import os, socket, sys, traceback
import torch._dynamo, torchmetrics
import torch.distributed.checkpoint  # before the process group: it warns when imported after
import mdmkit.training.loop
from mdmkit import load_recipe, train

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
ranks = [0, 0]
for rank in range(2):
    ranks[rank] = os.fork()
    if ranks[rank]:
        continue
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
                      MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    code = 1
    try:
        train(load_recipe(sys.argv[1]), runs_dir=sys.argv[2], device="cpu")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
if any(os.waitpid(pid, 0)[1] for pid in ranks):
    raise SystemExit("a rank failed")
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("puma")
    (text := folder / "text.txt").write_text(" ".join(map(str, range(2000))))
    (path := folder / "puma.toml").write_text(RECIPE.format(text=text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        train(load_recipe(path), runs_dir=folder / "whole")
        path.with_name("cache-of").write_text(str(folder / "cache"))
    return path


@pytest.fixture(autouse=True)
def same_cache(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDMKIT_CACHE_DIR", recipe.with_name("cache-of").read_text())


def whole(recipe: Path) -> Path:
    return run_directory(load_recipe(recipe), recipe.parent / "whole")


def pool(run: Path, step: int = 7) -> dict[str, Tensor]:
    """The pool in the checkpoint of `step`."""
    path = run / "checkpoints" / f"step-{step:08d}"
    tensors = {
        name: torch.zeros(size, dtype=torch.uint8 if name.endswith("flags") else torch.int64)
        for name, size in tensor_sizes(path).items()
        if name.startswith("components/objective/")
    }
    assert len(tensors) == 5
    read_tensors(path, tensors, distributed=False)
    return tensors


def curve(run: Path) -> dict[tuple[int, str], float]:
    names = ("train/loss", "train/grad_norm", "train/grad_noise_trace", "val/nelbo_per_token")
    lines = read_metrics(run / "metrics.jsonl")
    return {(line["step"], name): line[name] for line in lines for name in names if name in line}


def cut(run: Path, step: int) -> None:
    """Leave `run` as if it had been killed after its checkpoint of `step`."""
    for path in (run / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)


def assert_alike(run: Path, recipe: Path) -> None:
    """The same pool, and but for rounding the same curve."""
    expected, found = curve(whole(recipe)), curve(run)
    assert found.keys() == expected.keys()
    assert len(expected) == 7 * 2 + 1 + 1
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3 if "noise" in key[1] else 1e-5), key
    for name, tensor in pool(whole(recipe)).items():
        assert torch.equal(pool(run)[name], tensor), name


def test_some_tokens_were_lifted_early(recipe: Path) -> None:
    """Else the tests below would say little of rows that are each in a stage of their own."""
    stage = pool(whole(recipe))["components/objective/stage"]
    assert not torch.equal(stage, (torch.arange(8) * 5 // 8 + 6) % 5)
    assert (pool(whole(recipe))["components/objective/step"] == 6).all()


def test_a_killed_run_goes_on_bit_by_bit(recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole(recipe), tmp_path / whole(recipe).name)
    cut(run, 4)
    assert train(load_recipe(recipe), runs_dir=tmp_path).directory == run
    assert curve(run) == curve(whole(recipe))
    for name, tensor in pool(whole(recipe)).items():
        assert torch.equal(pool(run)[name], tensor), name
    weights = load_weights(whole(recipe), ema=False).state
    for name, tensor in load_weights(run, ema=False).state.items():
        assert torch.equal(tensor, weights[name]), name


def test_accumulation_changes_nothing(recipe: Path, tmp_path: Path) -> None:
    changed = load_recipe(recipe, ["train.micro_batch_size=2"])
    assert_alike(train(changed, runs_dir=tmp_path).directory, recipe)


def test_two_ranks_go_on_from_one_and_one_from_two(recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole(recipe), tmp_path / whole(recipe).name)
    cut(run, 2)
    (script := tmp_path / "forked.py").write_text(FORKED)
    done = subprocess.run(
        [sys.executable, str(script), str(recipe), str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_alike(run, recipe)
    cut(run, 4)
    train(load_recipe(recipe), runs_dir=tmp_path)
    assert_alike(run, recipe)
