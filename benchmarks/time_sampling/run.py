"""The experiment's runs: which cells, learning rates, seeds and budgets; resumable.

    python benchmarks/time_sampling/prepare.py CLASSICS text --megabytes 40
    python benchmarks/time_sampling/run.py scan screen decide batch --text text --out runs/bell

Each stage is a folder of runs below ``--out``. A job is one training at a constant rate and the
cooldowns that branch off from it; every finished command is noted in ``done.jsonl``, and a killed
one goes on where it was, so starting the same line again does what is left. Jobs run side by side
in ``--workers`` processes of one thread each.

* ``scan``: cells 2, 3 and 4 at four learning rates, constant.
* ``screen``: every cell, cooled once at a small budget, one seed.
* ``decide``: the cells that matter, cooled at several budgets, several seeds.
* ``batch``: cells 2 to 4 with four times the batch: a pure gain in noise shrinks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen

from mdmkit import load_recipe
from mdmkit.training.run_directory import run_directory

HERE = Path(__file__).parent
BASE = HERE / "base.toml"
CELLS = tomllib.loads((HERE / "cells.toml").read_text())
COOLED_SHARE = 0.2  # of a budget: linear decay to 0
WRITING = threading.Lock()
TRUNKS: dict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)


@frozen(kw_only=True)
class Job:
    """A training at a constant rate, and the cooldowns that branch off from it.

    Attributes:
        stage: the folder its runs go to.
        cell: of cells.toml.
        peak: the learning rate, as written.
        seed: of the run.
        steps: of the constant part.
        budgets: total steps of each cooldown; it begins at 80% of them.
        extra: more overrides.
    """

    stage: str
    cell: str
    peak: str
    seed: int = 1
    steps: int
    budgets: tuple[int, ...] = ()
    extra: tuple[str, ...] = ()

    def overrides(self, *, cooled: bool = False) -> list[str]:
        """What the constant part, or the cooldown, changes of the base recipe."""
        cell = CELLS[self.cell]
        name = self.cell if cooled else cell.get("trunk", self.cell)
        changes = cell["cooled"] if cooled and "cooled" in cell else CELLS[name]["set"]
        return [
            f'run.name="{name}_{self.peak}{"_cooled" if cooled else ""}"',
            f"run.seed={self.seed}",
            f"learning_rate.peak={self.peak}",
            *changes,
            *self.extra,
        ]


def jobs(stage: str) -> Iterator[Job]:
    """The jobs of a stage, the most wanted first."""
    if stage == "scan":
        for peak in ("2e-3", "4e-3", "1e-3", "8e-3"):
            for cell in ("uniform_1t", "uniform_flat", "bell_flat"):
                yield Job(stage=stage, cell=cell, peak=peak, steps=1200)
    if stage == "screen":
        for cell in CELLS:
            if cell in DECISIVE and cell not in SCREENED_TOO:
                continue  # its budgets there include this one
            yield Job(stage=stage, cell=cell, peak="2e-3", steps=800, budgets=(1000,))
    if stage == "decide":
        for seed in (1, 2, 3):
            for cell in DECISIVE:
                yield Job(
                    stage=stage,
                    cell=cell,
                    peak=DECISIVE[cell],
                    seed=seed,
                    steps=1600,
                    budgets=(500, 1000, 2000),
                )
    if stage == "batch":
        for cell in ("uniform_1t", "uniform_flat", "bell_flat"):
            yield Job(
                stage=stage,
                cell=cell,
                peak="2e-3",
                steps=400,
                budgets=(500,),
                extra=("train.global_batch_size=128", "train.micro_batch_size=32"),
            )


DECISIVE = {
    "mixed_blue": "2e-3",
    "uniform_1t": "2e-3",
    "bell10_flat": "2e-3",
    "bell10_to_nelbo": "2e-3",
    "uniform_flat": "2e-3",
    "bell_flat": "2e-3",
}
SCREENED_TOO = ("mixed_blue", "bell10_to_nelbo")  # before it was known what decides


def do(job: Job, out: Path, text: Path) -> None:
    """Run what is left of a job."""
    runs = out / job.stage
    data = [f'data.corpus.{s}="{text / s}.jsonl"' for s in ("train", "validation", "test")]
    starts = {budget: round(budget * (1 - COOLED_SHARE)) for budget in job.budgets}
    every = [f"train.checkpoint_every={min(starts.values())}"] if starts else []
    trunk = [*job.overrides(), f"train.steps={job.steps}", *data, *every]
    with TRUNKS[tuple(trunk)]:  # cells may share one
        command(out, runs, trunk)
    source = run_directory(load_recipe(BASE, trunk), runs)
    for budget, start in starts.items():
        cooldown = [
            *job.overrides(cooled=True),
            f"train.steps={budget}",
            'learning_rate.shape="wsd"',
            f"learning_rate.decay_fraction={COOLED_SHARE}",
            *data,
            *every,
        ]
        command(out, runs, cooldown, ["--branch-from", f"{source}@{start}"])


def command(out: Path, runs: Path, overrides: list[str], more: list[str] | None = None) -> None:
    """``mdmkit run`` with these overrides, unless it is done already."""
    sets = [part for override in overrides for part in ("--set", override)]
    arguments = ["run", str(BASE), "--runs-dir", str(runs), *sets, *(more or [])]
    ledger = out / "done.jsonl"
    with WRITING:
        done = ledger.read_text().splitlines() if ledger.exists() else []
    if json.dumps(arguments) in done:
        return
    name = next(o for o in reversed(overrides) if o.startswith("run.name="))
    print(f"{runs.name}: {name} {overrides[1]}", flush=True)
    log = out / "log.txt"
    with log.open("a") as file:
        outcome = subprocess.run(
            [sys.executable, "-m", "mdmkit", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=file,
            check=False,
        )
    if outcome.returncode != 0:
        raise RuntimeError(f"failed with {outcome.returncode}, see {log}: mdmkit {arguments}")
    with WRITING, ledger.open("a") as file:
        file.write(json.dumps(arguments) + "\n")


def main() -> None:
    """Read the arguments and do the stages one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="+", choices=("scan", "screen", "decide", "batch"))
    parser.add_argument("--text", type=Path, required=True, help="folder made by prepare.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=tuple(CELLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    out, text = arguments.out.resolve(), arguments.text.resolve()
    out.mkdir(parents=True, exist_ok=True)
    wanted = [
        job
        for stage in arguments.stages
        for job in jobs(stage)
        if job.cell in arguments.cells and job.seed in arguments.seeds
    ]
    with ThreadPoolExecutor(arguments.workers) as pool:
        begun = [pool.submit(do, job, out, text) for job in wanted]
    problems = [error for one in begun if (error := one.exception()) is not None]
    for error in problems:
        print(error, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
