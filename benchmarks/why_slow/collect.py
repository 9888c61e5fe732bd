"""What the causal tests found, out of their run directories: one JSON file, and tables.

    python benchmarks/why_slow/collect.py --out runs/why

reads the finished runs of ``cells.toml``'s cells and writes ``benchmarks/results/why_slow.json``;
with ``--tables`` it reads that file and no runs. The tables are printed, and go into
``docs/why_slow.md`` between their markers.

Numbers are in nats a token, on the validation blocks that every run measures. A *forward* is a row
of text shown to the network once in training; a *target* is a token whose cross-entropy was in the
loss. ``any_order`` shows the network two inputs a position, so that FLOPs are given, too. Spreads
are standard errors over seeds, where there are several.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import statistics
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdmkit.comparison.flops import loss_share
from mdmkit.comparison.runs import load_run
from mdmkit.costs import inputs_per_position
from mdmkit.environment import environment
from mdmkit.evaluation.run import read_recipe
from mdmkit.files import write_atomic, write_json
from mdmkit.metrics_log import read_metrics
from mdmkit.plugins import load_catalogue
from mdmkit.recipe import Recipe

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "why_slow.json"
PAGE = HERE.parent.parent / "docs" / "why_slow.md"
MARKED = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)
CELLS = tomllib.loads((HERE / "cells.toml").read_text())
REFERENCES = ("why_uniform", "why_bell")
FORWARDS = (8_000, 16_000, 32_000)
TARGETS = (500_000, 1_000_000, 2_000_000, 4_000_000)
KINDS = ("uniform", "bell")


def facts(run: Path) -> dict[str, Any] | None:
    """What is kept of a run; None where it is no cell's, or not finished."""
    plain = json.loads((run / "resolved.json").read_text())
    cell = plain["run"]["name"]
    if cell not in CELLS or not (run / "eval" / "test.json").exists():
        return None
    catalogue = load_catalogue()
    loaded, recipe = load_run(run, catalogue=catalogue, notify=print), read_recipe(run)
    rows, length = recipe.train.global_batch_size, recipe.data.length
    targets = loss_share(recipe, loaded.metrics).cumulative(
        lambda share: share * rows * length, loaded.costs["steps"]
    )
    last = json.loads((run / "eval" / "test.json").read_text())["measurements"]["nelbo_per_token"]
    return {
        "cell": cell,
        "seed": loaded.seed,
        "run": run.name,
        "command": ["mdmkit", "run", CELLS[cell]["recipe"], *overrides(cell, loaded.seed)],
        "steps": loaded.budget,
        "exact": loaded.exact,
        "inputs_per_position": inputs_per_position(recipe),
        "seconds": loaded.costs["seconds"][-1],
        "validation_blocks": len(loaded.table.blocks),
        **truth(recipe),
        "validation": [
            {"step": int(step), "nelbo": round(nelbo, 5), "forwards": int(step) * rows}
            | {"targets": round(seen), "flops": float(f"{flops:.4g}"), "stderr": round(error, 5)}
            for step, nelbo, error, seen, flops in zip(
                loaded.steps.tolist(),
                loaded.curve.tolist(),
                errors(run, loaded.steps.tolist()),
                targets.tolist(),
                loaded.costs["flops"].tolist(),
                strict=True,
            )
        ],
        "test": {"value": last["value"], "stderr": last["stderr"]},
    }


def errors(run: Path, steps: Sequence[int]) -> list[float]:
    """The standard errors of the validations at these steps, over documents."""
    lines = read_metrics(run / "metrics.jsonl")
    name = "val/nelbo_per_token_stderr"
    logged = {line["step"]: line[name] for line in lines if name in line}
    return [float(logged[int(step)]) for step in steps]


def truth(recipe: Recipe) -> dict[str, float]:
    """The least NELBO per token there is, where the text was made up: the mean of all h_k."""
    known = getattr(recipe.data.corpus, "masked_entropy", None)
    if known is None:
        return {}
    length = recipe.data.length
    return {"truth": statistics.fmean(known(k, length) for k in range(1, length + 1))}


def overrides(cell: str, seed: int) -> list[str]:
    """As ``run.py`` gives them."""
    changes = [f"run.name={cell}", f"run.seed={seed}", *CELLS[cell]["set"]]
    return [part for change in changes for part in ("--set", change)]


def collect(out: Path) -> dict[str, Any]:
    """Read the runs."""
    found = [facts(path.parent) for path in sorted(out.glob("*/resolved.json"))]
    runs = [entry for entry in found if entry is not None]
    runs.sort(key=lambda entry: (list(CELLS).index(entry["cell"]), entry["seed"]))
    whole = max((entry["steps"] for entry in runs), default=0)
    seeds = sorted({entry["seed"] for entry in runs})
    return {
        "commands": [
            f"python benchmarks/why_slow/run.py --seeds {' '.join(map(str, seeds))} --out OUT",
            "python benchmarks/why_slow/collect.py --out OUT",
        ],
        "environment": environment(),
        "cells": {name: {key: CELLS[name][key] for key in ("group", "about")} for name in CELLS},
        "runs": [entry for entry in runs if entry["steps"] == whole or "truth" in entry],
    }


# --- tables


def over_seeds(values: Sequence[float]) -> str:
    """The mean, and its standard error over seeds where there are several."""
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.3f} ± {error:.3f}"


def of(results: dict[str, Any], cell: str) -> list[dict[str, Any]]:
    """The runs of a cell."""
    return [run for run in results["runs"] if run["cell"] == cell]


def final(run: dict[str, Any]) -> float:
    """The last validation."""
    return float(run["validation"][-1]["nelbo"])


def at(run: dict[str, Any], axis: str, amount: float) -> float | None:
    """The NELBO after so many forwards or targets, between two validations; None beyond the run."""
    seen = [point[axis] for point in run["validation"]]
    if not seen[1] <= amount <= seen[-1] * 1.001:
        return None
    return float(np.interp(amount, seen, [point["nelbo"] for point in run["validation"]]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def finals(results: dict[str, Any], group: str) -> str:
    """The ends of the runs of a group, as they stand in ``cells.toml``."""
    rows = []
    for cell in [*REFERENCES, *(name for name in CELLS if CELLS[name]["group"] == group)]:
        runs = of(results, cell)
        if runs:
            last = runs[0]["validation"][-1]
            rows.append(
                [
                    f"`{cell}`",
                    CELLS[cell]["about"],
                    str(len(runs)),
                    over_seeds([final(run) for run in runs]),
                    over_seeds([run["test"]["value"] for run in runs]),
                    f"{last['targets'] / 1e6:.2f} M",
                    f"{last['flops']:.2e}",
                ]
            )
    return table(["cell", "what", "seeds", "validation", "test", "targets", "FLOPs"], rows)


def gaps(results: dict[str, Any]) -> str:
    """By how much the bell is ahead of standard training, for each arrangement of the text."""
    groups = ("plain", "arrangements")
    pairs_of = [cell for cell in CELLS if CELLS[cell]["group"] in groups]
    names = [cell.removesuffix("_bell") for cell in pairs_of if cell.endswith("_bell")]
    rows = []
    for name in names:
        pairs = {
            kind: {run["seed"]: run for run in of(results, f"{name}_{kind}")} for kind in KINDS
        }
        seeds = sorted(set(pairs["bell"]) & set(pairs["uniform"]))
        if seeds:
            uniform, bell = ([pairs[kind][seed] for seed in seeds] for kind in KINDS)
            rows.append(
                [
                    f"`{name}`",
                    str(len(seeds)),
                    over_seeds([final(run) for run in uniform]),
                    over_seeds([final(run) for run in bell]),
                    over_seeds([final(u) - final(b) for u, b in zip(uniform, bell, strict=True)]),
                    over_seeds([speed_up(u, b) for u, b in zip(uniform, bell, strict=True)]),
                ]
            )
    header = ["text", "seeds", "uniform", "bell", "uniform − bell", "speed-up"]
    return table(header, rows)


def speed_up(uniform: dict[str, Any], bell: dict[str, Any]) -> float:
    """Steps of standard training over those after which the bell is as good as it is at its end.

    Not a number where it never is.
    """
    level = final(uniform)
    points = [(point["step"], point["nelbo"]) for point in bell["validation"]]
    for (step, before), (later, after) in itertools.pairwise(points):
        if after <= level:
            return uniform["steps"] / float(np.interp(-level, [-before, -after], [step, later]))
    return math.nan


def made_up(results: dict[str, Any]) -> str:
    """How far from the truth, step after step, on text whose truth is known."""
    runs = [run for run in results["runs"] if "truth" in run]
    steps = [point["step"] for point in runs[0]["validation"]][1:] if runs else []
    rows = []
    for run in runs:
        points = run["validation"]
        shown = [f"{p['nelbo'] - run['truth']:.3f} ± {p['stderr']:.3f}" for p in points[1:]]
        rows.append([f"`{run['cell']}`", str(run["seed"]), f"{run['truth']:.3f}", *shown])
    return table(["cell", "seed", "truth", *(f"less it at {step}" for step in steps)], rows)


def along(
    results: dict[str, Any], axis: str, amounts: Sequence[int], words: Callable[[int], str]
) -> str:
    """The NELBO of every order after so many forwards or targets."""
    rows = []
    for cell in [*REFERENCES, *(name for name in CELLS if CELLS[name]["group"] == "orders")]:
        runs = of(results, cell)
        if runs:
            cells = [[at(run, axis, amount) for run in runs] for amount in amounts]
            shown = [over_seeds([value for value in one if value is not None]) for one in cells]
            rows.append([f"`{cell}`", *shown])
    return table(["cell", *(words(amount) for amount in amounts)], rows)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """All of them, by the names they have on the page."""
    return {
        "patterns": finals(results, "patterns"),
        "gaps": gaps(results),
        "made_up": made_up(results),
        "orders": finals(results, "orders"),
        "forwards": along(results, "forwards", FORWARDS, lambda n: f"{n:,} forwards"),
        "targets": along(results, "targets", TARGETS, lambda n: f"{n / 1e6:g} M targets"),
    }


def written(text: str, parts: Mapping[str, str]) -> str:
    """The page with each table between the markers of its name."""

    def replaced(found: re.Match[str]) -> str:
        return f"{found[1]}{parts[found[2]]}\n{found[3]}"

    return MARKED.sub(replaced, text)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="the folder of runs")
    parser.add_argument("--tables", action="store_true", help="those of the results file alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.tables:
        if arguments.out is None:
            parser.error("--out or --tables is needed")
        write_json(arguments.results, collect(arguments.out))
    found = tables(json.loads(arguments.results.read_text()))
    write_atomic(PAGE, written(PAGE.read_text(encoding="utf-8"), found))
    print("\n\n".join(f"{title}\n\n{rows}" for title, rows in found.items()))


if __name__ == "__main__":
    main()
