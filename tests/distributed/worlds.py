"""Training in several processes: one start of a world trains many recipes, for a start is slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mdmkit.metrics_log import read_metrics

FIGURES = ("train/loss", "train/grad_norm", "val/nelbo_per_token", "val/nelbo_per_token_stderr")

SCRIPT = """
import json, os, sys, time
import torch.distributed.checkpoint  # before the process group: it warns when imported after
import torch.distributed as dist
from mdmkit import load_recipe, train

if "RANK" in os.environ:
    dist.init_process_group("gloo")
directories = {}
for name, (recipe, folder, changes) in json.loads(sys.argv[1]).items():
    done = train(load_recipe(recipe, changes), runs_dir=folder, device="cpu")
    directories[name] = str(done.directory)
if os.environ.get("RANK", "0") == "0":
    print(json.dumps(directories))
if dist.is_initialized():
    dist.destroy_process_group()
    time.sleep(0.5)  # as in mdmkit.training.distributed: gloo's threads are late
"""


def train_in_world(
    ranks: int, recipe: Path, folder: Path, variants: dict[str, list[str]]
) -> dict[str, Path]:
    """Train `recipe` with each list of overrides on `ranks` processes; the directory of each."""
    jobs = {
        name: (str(recipe), str(folder / f"{ranks} {name}"), changes)
        for name, changes in variants.items()
    }
    several = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    script = folder / "many.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *(several if ranks > 1 else []), str(script), json.dumps(jobs)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: Path(found) for name, found in json.loads(done.stdout).items()}


def curve(run: Path) -> dict[tuple[int, str], float]:
    """The figures of a run that no layout may change, by step and name."""
    lines: list[dict[str, Any]] = read_metrics(run / "metrics.jsonl")
    return {(line["step"], name): line[name] for line in lines for name in FIGURES if name in line}


def deviation(one: Path, other: Path) -> dict[str, float]:
    """The largest relative deviation of each figure, over all steps."""
    left, right = curve(one), curve(other)
    assert left.keys() == right.keys()
    return {
        name: max(
            (abs(right[step, n] / value - 1) for (step, n), value in left.items() if n == name),
            default=0.0,
        )
        for name in FIGURES[:3]
    }
