"""What the experiment found, out of its run directories: one JSON file, then tables and pictures.

    python benchmarks/time_sampling/collect.py runs --out runs/bell
    python benchmarks/time_sampling/collect.py draw

``runs`` reads the finished runs of every stage, measures the cooled ones again with the weights
that are not averaged, compares the methods with `mdmkit.compare`, and writes
``benchmarks/results/time_sampling.json``. ``draw`` makes the tables between the marks of
``docs/time_sampling.md`` and the pictures beside it from that file alone
(``pip install 'mdmkit[plot]'``).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mdmkit
from mdmkit.environment import environment
from mdmkit.files import write_atomic, write_json
from mdmkit.metrics_log import read_metrics

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "time_sampling.json"
PAGE = ROOT / "docs" / "time_sampling.md"
CELLS = tomllib.loads((HERE / "cells.toml").read_text())
BASELINE = "uniform_1t"
VALUE, ERROR = "val/nelbo_per_token", "val/nelbo_per_token_stderr"
TRACE, SIGNAL = "train/grad_noise_trace", "train/grad_noise_signal"
COMPARED = ("uniform_1t", "uniform_flat", "bell_flat", "bell10_flat")


def finished(out: Path) -> Iterator[tuple[str, Path]]:
    """Stage and directory of every run that came to its end."""
    for stage in ("scan", "screen", "decide", "batch"):
        for weights in sorted((out / stage).glob("*/model.safetensors")):
            yield stage, weights.parent


def facts(stage: str, run: Path) -> dict[str, Any]:
    """What is kept of a run."""
    recipe = json.loads((run / "resolved.json").read_text())
    lines = read_metrics(run / "metrics.jsonl")
    cell, peak, *cooled = recipe["run"]["name"].rsplit("_", 2 if "cooled" in run.name else 1)
    clipped = [x["train/clipped_share"] for x in lines if "train/clipped_share" in x]
    found: dict[str, Any] = {
        "stage": stage,
        "cell": cell,
        "peak": peak,
        "cooled": bool(cooled),
        "seed": recipe["run"]["seed"],
        "steps": recipe["train"]["steps"],
        "run": run.name,
        "ema_decay": recipe["train"]["ema_decay"],
        "seconds": lines[-1]["seconds"],
        "validation": [
            [x["step"], round(x[VALUE], 5), round(x[ERROR], 5)] for x in lines if VALUE in x
        ],
        "clipped_share": statistics.fmean(clipped) if clipped else None,
    }
    noise = [(x[TRACE], x[SIGNAL]) for x in lines if TRACE in x]
    found["gradient_noise"] = [[round(trace, 5), round(signal, 6)] for trace, signal in noise]
    return found


def raw_nelbo(run: Path, blocks: int) -> dict[str, float]:
    """The NELBO of the weights that are not averaged, on the blocks of the run's validations."""
    (result,) = mdmkit.evaluate(
        run,
        overrides=[f'evaluators.raw={{use="nelbo", split="validation", blocks={blocks}}}'],
        ema=False,
    ).values()
    nelbo = result.measurements["nelbo_per_token"]
    return {"value": nelbo.value, "stderr": nelbo.stderr}


def collect(out: Path) -> None:
    """Write the results file."""
    runs = []
    for stage, run in finished(out):
        entry = facts(stage, run)
        if stage == "decide" and entry["cooled"]:
            entry["raw"] = raw_nelbo(run, 512)
        runs.append(entry)
        print(stage, run.name, entry["validation"][-1], flush=True)
    found = mdmkit.compare(
        [out / "decide"], baseline=f"{BASELINE}_2e-3", cooled=True, clusters="documents"
    )
    write_json(
        RESULTS,
        {
            "commands": [
                "python benchmarks/time_sampling/prepare.py CLASSICS text --megabytes 40",
                "python benchmarks/time_sampling/run.py scan screen decide batch --text text --out OUT",
                "python benchmarks/time_sampling/collect.py runs --out OUT",
            ],
            "environment": environment(),
            "runs": runs,
            "comparison": found.to_json(),
        },
    )
