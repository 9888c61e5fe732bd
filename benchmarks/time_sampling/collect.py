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
NOISE = RESULTS.with_name("time_sampling_noise.json")
PAGE = ROOT / "docs" / "time_sampling.md"
CELLS = tomllib.loads((HERE / "cells.toml").read_text())
BASELINE = "uniform_1t"
VALUE, ERROR = "val/nelbo_per_token", "val/nelbo_per_token_stderr"
FOUND = "bell10_flat"
SIGNS = {"exact": "", "at least": "> ", "at most": "< "}
SCREENED = 1000  # steps of the screen's budget
LONGEST = 2000  # steps of the longest budget
BLOCKS = 512  # of base.toml's validations
PICTURE = ROOT / "docs" / "time_sampling.svg"


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
    return found


def raw_nelbo(run: Path) -> dict[str, float]:
    """The NELBO of the weights that are not averaged, on the blocks of the run's validations.

    What was measured once stands in the run's ``eval/raw.json``.
    """
    path = run / "eval" / "raw.json"
    if not path.exists():
        mdmkit.evaluate(
            run,
            overrides=[f'evaluators.raw={{use="nelbo", split="validation", blocks={BLOCKS}}}'],
            ema=False,
        )
    nelbo: dict[str, float] = json.loads(path.read_text())["measurements"]["nelbo_per_token"]
    return nelbo


def collect(out: Path) -> None:
    """Write the results file."""
    runs: list[dict[str, Any]] = []
    screened: dict[str, Path] = {}
    for stage, run in finished(out):
        entry = facts(stage, run)
        entry["screened"] = entry["cell"] not in screened and is_screened(entry)
        if entry["screened"]:
            screened[entry["cell"]] = run
        if stage == "decide" and entry["cooled"] and entry["steps"] == LONGEST:
            entry["raw"] = raw_nelbo(run)
        runs.append(entry)
        print(stage, run.name, entry["validation"][-1], flush=True)
    decisive_runs = [run for stage, run in finished(out) if stage == "decide"]
    comparisons = {
        "decide": compared(decisive_runs, BASELINE),
        "one_seed": compared([run for run in decisive_runs if seed_of(run) == 1], BASELINE),
        "screen": compared(list(screened.values()), FOUND),
    }
    commands = [
        "prepare.py CLASSICS text --megabytes 40",
        "run.py scan screen decide batch --text text --out OUT",
        "collect.py runs --out OUT",
    ]
    results = portable(
        {
            "commands": [f"python benchmarks/time_sampling/{command}" for command in commands],
            "environment": environment(),
            "runs": runs,
            "comparisons": comparisons,
        }
    )
    write_json(RESULTS, results)


def portable(value: Any) -> Any:
    """Plain data with absolute paths cut to their last two parts."""
    if isinstance(value, dict):
        return {key: portable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [portable(inner) for inner in value]
    is_path = isinstance(value, str) and value.startswith("/")
    return "/".join(Path(value).parts[-2:]) if is_path else value


def seed_of(run: Path) -> int:
    """The seed of a run."""
    return int(json.loads((run / "resolved.json").read_text())["run"]["seed"])


def is_screened(run: dict[str, Any]) -> bool:
    """Whether a run belongs to the table of all cells at one budget; `decide` has some of them."""
    return bool(run["cooled"] and run["seed"] == 1 and run["steps"] == SCREENED) and (
        run["stage"] in ("screen", "decide")
    )


def compared(runs: list[Path], baseline: str) -> dict[str, Any]:
    """The cooled runs, compared by cell."""
    labels: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        recipe = json.loads((run / "resolved.json").read_text())
        if recipe["run"]["name"].endswith("_cooled"):
            labels[recipe["run"]["name"].rsplit("_", 2)[0]].append(str(run))
    own = [path for paths in labels.values() for path in paths]
    found = mdmkit.compare(own, labels=labels, baseline=baseline, cooled=True).to_json()
    for one in found["speed_ups"]:
        if one["method"].startswith("mixed"):  # the share that they logged leaves causal rows out
            for axes in ("costs", "baseline_costs", "ratios"):
                one[axes].pop("flops", None)
    return found


def draw() -> None:
    """Fill in the page's tables and make its pictures."""
    results = json.loads(RESULTS.read_text())
    runs = results["runs"]
    tables = {
        "scan": scan_table(runs),
        "screen": screen_table(runs, results["comparisons"]["screen"]),
        "decide": decide_table(runs, results["comparisons"]["decide"]),
        "speed": speed_table(results["comparisons"]["decide"]),
        "speed1": speed_table(results["comparisons"]["one_seed"]),
        "batch": batch_table(runs),
        "noise": noise_table(),
    }
    text = PAGE.read_text()
    for name, rows in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = before + begin + "\n" + "\n".join(rows) + "\n" + end + rest.split(end)[1]
    write_atomic(PAGE, text)
    pictures(runs)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def final(run: dict[str, Any]) -> float:
    """The last validation of a run."""
    return float(run["validation"][-1][1])


def over_seeds(values: list[float]) -> str:
    """The mean, and its standard error over seeds where there are several."""
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.3f} ± {error:.3f}"


def scan_table(runs: list[dict[str, Any]]) -> list[str]:
    """Cells by learning rates."""
    found = {(x["cell"], x["peak"]): final(x) for x in runs if x["stage"] == "scan"}
    peaks = sorted({peak for _, peak in found}, key=float)
    cells = dict.fromkeys(cell for cell, _ in found)
    rows = [
        [f"`{cell}`", *(f"{found[cell, p]:.3f}" if (cell, p) in found else "" for p in peaks)]
        for cell in sorted(cells)
    ]
    return table(["cell", *peaks], rows)


def screen_table(runs: list[dict[str, Any]], found: dict[str, Any]) -> list[str]:
    """All cells at one small budget, the best first."""
    against = {x["method"]: x["parts"][0] for x in found["no_worse"]}
    rows = []
    for run in sorted(runs, key=final):
        if not run["screened"]:
            continue
        part = against.get(run["cell"])
        rows.append(
            [
                f"`{run['cell']}`",
                CELLS[run["cell"]]["about"],
                f"{final(run):.3f}",
                f"{part['value']:+.3f} ± {part['stderr']:.3f}" if part else "",
                f"{run['clipped_share']:.0%}",
            ]
        )
    header = ["cell", "what", "NELBO", f"less `{FOUND}`", "clipped"]
    return table(header, rows)


def decisive(runs: list[dict[str, Any]]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """The cooled runs of the last stage, by cell and budget."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        if run["stage"] == "decide" and run["cooled"]:
            groups[run["cell"], run["steps"]].append(run)
    return groups


def decide_table(runs: list[dict[str, Any]], found: dict[str, Any]) -> list[str]:
    """Final NELBO by budget, over seeds, and whether it is no worse than the baseline's."""
    groups = decisive(runs)
    budgets = sorted({budget for _, budget in groups})
    longest = {cell: group for (cell, budget), group in groups.items() if budget == budgets[-1]}
    verdicts = {x["method"]: x["parts"][0] for x in found["no_worse"]}
    rows = []
    for cell in sorted(longest, key=lambda c: final(longest[c][0])):
        part = verdicts.get(cell)
        rows.append(
            [
                f"`{cell}`",
                str(len(longest[cell])),
                *(over_seeds([final(run) for run in groups[cell, budget]]) for budget in budgets),
                over_seeds([run["raw"]["value"] for run in longest[cell]]),
                f"{part['value']:+.3f}, at most {part['upper']:+.3f}" if part else "",
            ]
        )
    header = ["cell", "seeds", *(f"{budget} steps" for budget in budgets)]
    return table([*header, f"{budgets[-1]}, raw weights", f"less `{BASELINE}`"], rows)


def noise_table() -> list[str]:
    """Gradient noise of the cells at the same weights."""
    cells = json.loads(NOISE.read_text())["cells"]
    base = next(x for x in cells if x["cell"] == BASELINE)["signal_to_noise"]
    rows = [
        [
            f"`{x['cell']}`",
            f"{x['trace']:.3g} ± {x['trace_stderr']:.1g}",
            f"{x['signal']:.3g} ± {x['signal_stderr']:.1g}",
            f"{x['signal_to_noise']:.4f}",
            f"{x['signal_to_noise'] / base:.1f}",
        ]
        for x in sorted(cells, key=lambda x: -x["signal_to_noise"])
    ]
    return table(["cell", "tr(S)", "\\|G\\|²", "ratio", f"over `{BASELINE}`"], rows)


def speed_table(found: dict[str, Any]) -> list[str]:
    """Speed-ups to the baseline's cooled point of the longest budget."""
    rows = []
    for one in found["speed_ups"]:
        if not one["level"].endswith(f"at {LONGEST} steps"):
            continue
        ratio, own = one["ratios"]["steps"], one["costs"]["steps"]
        if ratio["kind"] not in SIGNS or own["value"] is None:
            continue
        low, high = (f"{x:.2f}" if x is not None else "…" for x in (ratio["low"], ratio["high"]))
        rows.append(
            [
                f"`{one['method']}`",
                one["level"],
                f"{one['nelbo']:.3f}",
                f"{SIGNS[own['kind']]}{own['value']:.0f}",
                f"{SIGNS[ratio['kind']]}{ratio['value']:.2f} [{low}, {high}]",
            ]
        )
    return table(["cell", f"level of `{BASELINE}`", "NELBO", "its steps", "speed-up"], rows)


def batch_table(runs: list[dict[str, Any]]) -> list[str]:
    """Four times the batch."""
    rows = [
        [f"`{run['cell']}`", str(run["steps"]), f"{final(run):.3f}"]
        for run in sorted(runs, key=final)
        if run["stage"] == "batch" and run["cooled"]
    ]
    return table(["cell", "steps of 4 × the batch", "NELBO"], rows)


def pictures(runs: list[dict[str, Any]]) -> None:
    """Cooled points against their budget, and the curves at a constant rate."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mdmkit"  # the same results give the same file
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    groups = decisive(runs)
    cells = sorted({cell for cell, _ in groups})
    colours = dict(zip(cells, pyplot.get_cmap("tab10").colors, strict=False))
    for cell in cells:
        own = {
            budget: [final(x) for x in group] for (c, budget), group in groups.items() if c == cell
        }
        budgets = sorted(own)
        means = [statistics.fmean(own[budget]) for budget in budgets]
        left.plot(budgets, means, "o-", color=colours[cell], label=cell)
        for budget in budgets:
            left.plot([budget] * len(own[budget]), own[budget], ".", color=colours[cell], alpha=0.4)
        for run in runs:
            if (run["stage"], run["cell"], run["cooled"]) == ("decide", cell, False):
                steps, values, _ = zip(*run["validation"], strict=True)
                right.plot(steps, values, color=colours[cell], alpha=0.6, lw=1)
    left.set(
        xscale="log", xlabel="budget (optimizer steps), cooled", ylabel="NELBO (nats per token)"
    )
    right.set(xlabel="optimizer steps, constant learning rate", ylim=(3.3, 5.5))
    budgets = sorted({budget for _, budget in groups})
    left.set_xticks(budgets, [str(budget) for budget in budgets])
    left.set_xticks([], minor=True)
    right.legend(*left.get_legend_handles_labels(), frameon=False, loc="upper right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("runs").add_argument("--out", type=Path, required=True)
    commands.add_parser("draw")
    arguments = parser.parse_args()
    if arguments.command == "runs":
        collect(arguments.out)
    else:
        draw()


if __name__ == "__main__":
    main()
