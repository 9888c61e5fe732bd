"""Generative perplexity against training steps: runs at their checkpoints, by one judge.

    python benchmarks/generation_curve.py runs/bell-* runs/uniform-* --judge runs/judge-... \
        --picture docs/generation_curve.svg > benchmarks/results/generation_curve.json

The runs were trained with `train.keep_checkpoints = 0`, which keeps all checkpoints. All texts are
made with the same seed, sampler and length. Runs whose names differ in the number at their end
alone are seeds of one method; its error is the standard error over them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from mdmkit.builtin.evaluators.generation import GenerativePerplexity, Judge
from mdmkit.builtin.samplers import AutoregressiveSampler, Cached
from mdmkit.environment import environment
from mdmkit.evaluation.contexts import trained_context
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import open_trained
from mdmkit.validation_log import read_validation

SHOWN = ("generative_nll", "unigram_entropy", "rep_4", "distinct_2", "generative_bits_per_byte")


def measure(directory: Path, step: int, options: argparse.Namespace) -> dict[str, Any]:
    """The numbers of one checkpoint."""
    opened = open_trained(directory, checkpoint=step)
    context = trained_context(opened, batch_size=options.batch_size)
    masked = context.prediction == "masked"
    sampler = Cached(steps=options.steps) if masked else AutoregressiveSampler()
    evaluator = GenerativePerplexity(
        n=options.n, sampler=sampler, judge=Judge(run=str(options.judge))
    )
    result = run_evaluation(evaluator, context).to_json()
    table = read_validation(directory, step).table
    return {
        "run": opened.recipe.run.name,
        "recipe_hash": opened.recipe_hash,
        "step": step,
        "nelbo_per_token": float(table.nats.sum() / table.tokens.sum()),
        "measurements": result["measurements"],
        "provenance": result["provenance"],
    }


def methods(points: list[dict[str, Any]]) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """The points by method and step."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        found[point["run"].rpartition("-")[0]][point["step"]].append(point)
    return found


def over_seeds(values: list[float]) -> dict[str, float | int | None]:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "stderr": error, "seeds": len(values)}


def summary(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each method at each step, over its seeds."""
    rows = []
    for method, steps in methods(points).items():
        for step, group in sorted(steps.items()):
            row: dict[str, Any] = {"method": method, "step": step}
            row["nelbo_per_token"] = over_seeds([one["nelbo_per_token"] for one in group])
            for name in SHOWN:
                row[name] = over_seeds([one["measurements"][name]["value"] for one in group])
            rows.append(row)
    return rows


def picture(path: Path, points: list[dict[str, Any]]) -> None:
    """The judge's NLL and the entropy against the steps, with real text as a line."""
    from matplotlib.figure import Figure

    from mdmkit.report.figure_style import COLOURS, file_of, styled

    rows = summary(points)
    names = {"generative_nll": "judge's NLL of generated text (nats per token)",
             "unigram_entropy": "unigram entropy of a text (nats)"}  # fmt: skip
    with styled():
        figure = Figure(figsize=(9, 3.8))
        figure.set_layout_engine("constrained")
        for axes, (name, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
            for colour, method in zip(
                COLOURS, dict.fromkeys(row["method"] for row in rows), strict=False
            ):
                own = [row for row in rows if row["method"] == method]
                axes.errorbar(
                    [row["step"] for row in own],
                    [row[name]["mean"] for row in own],
                    yerr=[row[name]["stderr"] or 0.0 for row in own],
                    color=colour, label=method, marker="o", markersize=3, capsize=2,
                )  # fmt: skip
            real = points[0]["measurements"][f"real_{name}"]["value"]
            axes.axhline(real, color="black", linestyle=":", linewidth=1, label="real text")
            axes.set_xlabel("training steps")
            axes.set_title(title, fontsize=9)
            axes.legend(frameon=False)
        path.write_bytes(file_of(figure, path.suffix.removeprefix(".")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--at", type=int, nargs="+", default=[200, 400, 600, 800, 1000, 1400, 2000])
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    points = []
    for run in options.runs:
        for step in options.at:
            points.append(measure(find_run(run), step, options))
            shown = {k: round(points[-1]["measurements"][k]["value"], 3) for k in SHOWN}
            print(points[-1]["run"], step, shown, file=sys.stderr, flush=True)
    if options.picture is not None:
        picture(options.picture, points)
    plain = {
        "options": {"n": options.n, "steps": options.steps, "at": options.at},
        "environment": environment(open_trained(find_run(options.runs[0])).device),
        "summary": summary(points),
        "points": points,
    }
    print(json.dumps(plain, indent=1))


if __name__ == "__main__":
    main()
