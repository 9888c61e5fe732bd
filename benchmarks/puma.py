"""Progressive unmasking against the bell and standard training: equal but for the masks.

    python benchmarks/puma.py --steps 1000 --seeds 1 2 3
    python benchmarks/puma.py --steps 4000 --seeds 1 2 3 4 --device cuda --jobs 4

Trains the quickstart recipes ``bell``, ``uniform`` (weight 1/t), ``uniform_sequence`` (uniform
times with the loss of ``puma``, so that the two differ in their masks alone) and ``puma``
(``plugins/mdmkit-puma``), each with every seed: network, text, batch, learning rate and validation
are the same. ``--jobs`` trainings run side by side. Then `mdmkit.compare` compares them, with
``uniform`` as the baseline, and all goes to ``benchmarks/results/puma.json`` (``--out``). A run
that is there already is not trained again. What is measured is the NELBO over random masks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import fmean

import mdmkit
from mdmkit.environment import environment
from mdmkit.files import write_json
from mdmkit.metrics_log import read_metrics
from mdmkit.network import choose_device

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "plugins" / "mdmkit-puma"
RESULTS = ROOT / "benchmarks" / "results" / "puma.json"
BASELINE = "uniform"
CELLS = {
    "uniform": ["quickstart_uniform"],
    "uniform_sequence": [
        "quickstart_uniform",
        "--set",
        'loss_weighting={use = "flat", normalizer = "sequence"}',
    ],
    "bell": ["quickstart_bell"],
    "puma": [str(PLUGIN / "recipes" / "quickstart_puma.toml")],
}


def training(cell: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The arguments of ``mdmkit`` that train a cell with a seed."""
    recipe, *changes = CELLS[cell]
    shared = [
        f"run.name={cell}",
        f"run.seed={seed}",
        f"train.steps={options.steps}",
        f"train.validate_every={max(options.steps // 20, 1)}",
        "train.validate_blocks=0",
        "sampler.steps=8",
        *options.set,
    ]
    arguments = ["run", recipe, *changes]
    for change in shared:
        arguments += ["--set", change]
    return [*arguments, "--runs-dir", str(options.runs_dir), "--device", options.device]


def train(arguments: list[str], *, paths: list[str], threads: int) -> None:
    """Run ``mdmkit`` in a process of its own.

    Raises:
        RuntimeError: where it fails.
    """
    here = [*paths, os.environ.get("PYTHONPATH", "")]
    known = {"PYTHONPATH": os.pathsep.join(filter(None, here)), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "mdmkit", *arguments]
    print(" ".join(arguments[:2]), arguments[arguments.index("--runs-dir") - 1], flush=True)
    done = subprocess.run(
        command, env=os.environ | known, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def plugin_paths(folder: Path) -> list[str]:
    """What must be importable besides for the plugin to be found: nothing where it is installed.

    Else the checkout's own, with the entry point that an installation would have written.
    """
    try:
        distribution("mdmkit-puma")
    except PackageNotFoundError:
        info = folder / "mdmkit_puma-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mdmkit-puma\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text("[mdmkit]\npuma = mdmkit_puma\n")
        return [str(folder), str(PLUGIN / "src"), str(ROOT)]
    return []


def speed(runs_dir: Path, cell: str) -> float | None:
    """Tokens a second of a cell's runs after the first quarter of their lines, if there are any."""
    name = "train/tokens_per_second"
    found: list[float] = []
    for run in sorted(runs_dir.glob(f"{cell}-*")):
        lines = [x[name] for x in read_metrics(run / "metrics.jsonl") if name in x]
        found += lines[len(lines) // 4 :]
    return fmean(found) if found else None


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    parser.add_argument("--set", action="append", default=[], help="one more override for all")
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs" / "puma")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    jobs = [training(cell, seed, options) for seed in options.seeds for cell in options.cells]
    with tempfile.TemporaryDirectory() as folder:
        paths = plugin_paths(Path(folder))
        work = partial(train, paths=paths, threads=options.threads)
        work(jobs[0])  # alone: it fills the caches of text and tokenizer
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(work, jobs[1:]))
        sys.path[:0] = paths  # a run is compared with the components that it names
        labels = {cell: [f"{cell}-*"] for cell in options.cells}
        baseline = BASELINE if BASELINE in options.cells else options.cells[0]
        found = mdmkit.compare(
            [options.runs_dir], baseline=baseline, labels=labels, notify=partial(print, flush=True)
        )
    result = {
        "command": " ".join(["python benchmarks/puma.py", *sys.argv[1:]]),
        "environment": environment(choose_device(options.device)),
        "steps": options.steps,
        "seeds": options.seeds,
        "tokens_per_second": {cell: speed(options.runs_dir, cell) for cell in options.cells},
        "comparison": found.to_json(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    for method in found.methods:
        print(f"{method.label}: {method.final.nelbo:.4f} ± {method.final.stderr:.4f} nats/token")
    print(options.out)


if __name__ == "__main__":
    main()
