"""How noisy the gradient of each cell is, all at the same weights.

    python benchmarks/time_sampling/noise.py --text text --run RUN --step 800

takes the weights of one run at one step, and measures tr(S) and |G|² of every cell's loss there,
each from two halves of a batch (`mdmkit.training.diagnosis`), on the same `--batches` batches of
text. It writes ``benchmarks/results/time_sampling_noise.json``. A ratio |G|²/tr(S) is the signal to
noise of one row.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from mdmkit import load_recipe
from mdmkit.environment import environment
from mdmkit.files import write_json
from mdmkit.report.console import quiet
from mdmkit.training.checkpoint import load_weights
from mdmkit.training.diagnosis import gradient_noise
from mdmkit.training.distributed import open_world
from mdmkit.training.job import open_job
from mdmkit.training.run_directory import open_run

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "time_sampling_noise.json"
CELLS = tomllib.loads((HERE / "cells.toml").read_text())
MEASURED = (
    "uniform_1t",
    "uniform_flat",
    "bell_flat",
    "bell_flat_iid",
    "bell10_flat",
    "window_flat",
    "bell_1t",
    "bell_objective",
    "bell_sampling",
    "blue_all",
    "mixed_causal",
    "mixed_blue",
)


def measured(cell: str, run: Path, step: int, data: list[str], batches: int) -> dict[str, Any]:
    """Means over the batches, with their standard errors."""
    recipe = load_recipe(HERE / "base.toml", [*CELLS[cell]["set"], *data])
    weights = load_weights(run, step=step, ema=False).state
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_world("cpu") as world,
        open_run(recipe, Path(folder) / "run", world),
        open_job(recipe, Path(folder) / "run", world, quiet()) as job,
    ):
        job.root.load_state_dict(weights)
        job.root.train()
        for number in range(batches):
            job.step = step + number
            found.append(gradient_noise(job))
    values: dict[str, Any] = {"cell": cell, "batches": batches}
    for name, column in zip(("trace", "signal"), zip(*found, strict=True), strict=True):
        numbers = [float(x) for x in column if x is not None]
        values[name] = statistics.fmean(numbers)
        values[f"{name}_stderr"] = statistics.stdev(numbers) / math.sqrt(len(numbers))
    values["signal_to_noise"] = values["signal"] / values["trace"]
    return values


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="with a checkpoint of --step")
    parser.add_argument("--step", type=int, default=800)
    parser.add_argument("--batches", type=int, default=64)
    arguments = parser.parse_args()
    text = arguments.text.resolve()
    data = [f'data.corpus.{s}="{text / s}.jsonl"' for s in ("train", "validation", "test")]
    cells = []
    for cell in MEASURED:
        cells.append(measured(cell, arguments.run, arguments.step, data, arguments.batches))
        print(cells[-1], flush=True)
    write_json(
        RESULTS,
        {
            "command": f"noise.py --run {arguments.run.name} --step {arguments.step}",
            "weights": {"run": arguments.run.name, "step": arguments.step, "ema": False},
            "environment": environment(),
            "cells": cells,
        },
    )


if __name__ == "__main__":
    main()
