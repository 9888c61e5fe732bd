"""The figure of the README: validation NELBO of the quickstart recipes against steps.

    for seed in 1 2 3; do
      for recipe in quickstart_bell quickstart_uniform quickstart_mixed; do
        mdmkit run $recipe --set run.seed=$seed
      done
    done
    python benchmarks/quickstart_curves.py collect runs/quickstart_*
    python benchmarks/quickstart_curves.py draw

``collect`` copies the curves and figures of finished runs, with their provenance, into
``benchmarks/results/quickstart.json``. ``draw`` makes ``docs/quickstart.svg`` and the README's
table from that file alone; it needs ``pip install 'mdmkit[plot]'``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from mdmkit.data.blocks import open_blocks, token_counts
from mdmkit.data.text_tokenizer import load_tokenizer
from mdmkit.evaluation.run import read_recipe
from mdmkit.files import write_atomic, write_json
from mdmkit.metrics_log import read_metrics

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "quickstart.json"
FIGURE = ROOT / "docs" / "quickstart.svg"
README = ROOT / "README.md"
BEGIN, END = "<!-- quickstart figures: begin -->", "<!-- quickstart figures: end -->"
COLOURS = {
    "quickstart_mixed": "#009e73",
    "quickstart_bell": "#0072b2",
    "quickstart_uniform": "#d55e00",
}
LABELS = {
    "quickstart_mixed": "bell, causal rows, blue-noise masks",
    "quickstart_bell": "bell-shaped t, no weight",
    "quickstart_uniform": "uniform t, weight 1/t (standard)",
}
VALUE, ERROR = "val/nelbo_per_token", "val/nelbo_per_token_stderr"


def collect(runs: list[Path]) -> None:
    """Copy what the figure and the table need out of run directories."""
    found = []
    for run in sorted(runs):
        recipe = json.loads((run / "resolved.json").read_text())
        lines = read_metrics(run / "metrics.jsonl")
        test = json.loads((run / "eval" / "test.json").read_text())
        found.append(
            {
                "run": run.name,
                "recipe": recipe["run"]["name"],
                "seed": recipe["run"]["seed"],
                "seconds": lines[-1]["seconds"],
                "validation": [[x["step"], x[VALUE], x[ERROR]] for x in lines if VALUE in x],
                "test": test["measurements"],
                "provenance": test["provenance"],
            }
        )
    RESULTS.parent.mkdir(exist_ok=True)
    results = {
        "command": "mdmkit run <recipe> --set run.seed=<seed>",
        "unigram_nats_per_token": unigram_cross_entropy(runs[0]),
        "runs": found,
    }
    write_json(RESULTS, results)


def unigram_cross_entropy(run: Path) -> float:
    """Nats per validation token of a model that knows the training frequencies (plus 1) alone."""
    recipe, tokenizer = read_recipe(run), load_tokenizer(run / "tokenizer.json")
    counts = {
        split: token_counts(open_blocks(recipe.data, split, tokenizer=tokenizer))
        for split in ("train", "validation")
    }
    log_p = ((counts["train"] + 1) / (counts["train"] + 1).sum()).log()
    return float(-(counts["validation"] * log_p).sum() / counts["validation"].sum())


def by_recipe() -> dict[str, list[dict[str, Any]]]:
    """The collected runs, by recipe."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in json.loads(RESULTS.read_text())["runs"]:
        groups[run["recipe"]].append(run)
    return dict(groups)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean over seeds and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def draw() -> None:
    """Make the figure and fill in the README's table."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mdmkit"  # the same results give the same file
    figure, axes = pyplot.subplots(figsize=(7, 4))
    groups = by_recipe()
    for recipe, runs in groups.items():
        colour = COLOURS[recipe]
        curves = [{step: value for step, value, _ in run["validation"]} for run in runs]
        steps = sorted(curves[0])
        means = [statistics.fmean(curve[step] for curve in curves) for step in steps]
        for curve in curves:
            axes.plot(steps, [curve[step] for step in steps], color=colour, alpha=0.3, lw=0.8)
        label = f"{LABELS[recipe]}: mean of {len(runs)} seeds"
        axes.plot(steps, means, color=colour, lw=2, label=label)
    unigram = json.loads(RESULTS.read_text())["unigram_nats_per_token"]
    axes.axhline(unigram, color="grey", ls="--", lw=1, label="token frequencies alone")
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("validation NELBO (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, bbox_inches="tight", metadata={"Date": None})
    fill_readme(groups)


def fill_readme(groups: dict[str, list[dict[str, Any]]]) -> None:
    """Write the table between the marks in the README."""
    rows = [
        "| recipe | steps | seeds | validation NELBO (nats/token) | test NELBO (nats/token) |",
        "|---|---|---|---|---|",
    ]
    for recipe, runs in groups.items():
        validation = mean_and_error([run["validation"][-1][1] for run in runs])
        test = mean_and_error([run["test"]["nelbo_per_token"]["value"] for run in runs])
        cells = [
            f"`{recipe}`",
            str(runs[0]["validation"][-1][0]),
            str(len(runs)),
            *(f"{mean:.3f} ± {error:.3f}" for mean, error in (validation, test)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    text = README.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_atomic(README, f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{after}")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("collect").add_argument("runs", nargs="+", type=Path)
    commands.add_parser("draw")
    arguments = parser.parse_args()
    if arguments.command == "collect":
        collect(arguments.runs)
    else:
        draw()


if __name__ == "__main__":
    main()
