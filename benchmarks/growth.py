"""How the time of a step and its peak memory grow: with L, V, width and rows.

    python benchmarks/growth.py measure                 # on the CPU; about ten minutes
    python benchmarks/growth.py measure --device cuda   # DiT-small around its usual size
    python benchmarks/growth.py draw
    python benchmarks/growth.py table

``measure`` trains random tokens by ``mdmkit.benchmarking``, one size after the other, each in a
process of its own, so that one finds no memory that another has left. It writes
``benchmarks/results/growth_<device>.json`` after every size, and goes on where it stopped.
The time of a step on a CPU is the CPU time that it takes: where the machine is shared, the clock
on the wall says who else was there. ``draw`` makes ``docs/performance_growth.svg`` from all such
files (it needs ``pip install 'mdmkit[plot]'``), ``table`` prints them as Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from mdmkit import load_recipe
from mdmkit.benchmarking.bench import bench
from mdmkit.files import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "docs" / "performance_growth.svg"
HEAD_WIDTH = 64
TOO_LARGE = 9  # exit status of a size that does not fit a GPU; the system kills on a CPU

# Around one size, one thing at a time.
CENTRE = {
    "cpu": {"length": 256, "vocab_size": 8192, "width": 128, "rows": 4, "depth": 2},
    "cuda": {"length": 1024, "vocab_size": 50258, "width": 768, "rows": 32, "depth": 12},
}
SIZES = {
    "cpu": {
        "length": (128, 256, 512, 1024, 2048, 4096),
        "vocab_size": (1024, 2048, 8192, 32768, 131072),
        "width": (64, 128, 256, 512),
        "rows": (1, 2, 4, 8, 16, 32),
    },
    "cuda": {
        "length": (128, 256, 512, 1024, 2048, 4096),
        "vocab_size": (1024, 4096, 16384, 50258, 131072),
        "width": (256, 512, 768, 1024, 1536, 2048),
        "rows": (4, 8, 16, 32, 64, 128),
    },
}
LABELS = {
    "length": "L, tokens a row",
    "vocab_size": "V, vocabulary",
    "width": "width",
    "rows": "rows a step",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def overrides(denoiser: str, size: dict[str, int]) -> list[str]:
    """The recipe of a size, as changes of quickstart_bell."""
    heads = size["width"] // HEAD_WIDTH
    network = f'use = "{denoiser}", width = {size["width"]}, depth = {size["depth"]}'
    return [
        f"denoiser={{{network}, heads = {heads}}}",
        f"data.length={size['length']}",
        f"data.tokenizer.vocab_size={size['vocab_size']}",
        f"train.global_batch_size={size['rows']}",
        "train.steps=1000",
    ]


def measured(denoiser: str, device: str, size: dict[str, int], steps: int) -> dict[str, Any]:
    """Train one size; in this process."""
    recipe = load_recipe("quickstart_bell", overrides(denoiser, size))
    found = bench(recipe, steps=steps, warmup=2, device=device, synthetic=True, seconds=0.0)
    (memory,) = found.memory
    return {
        "denoiser": denoiser,
        **size,
        "seconds": found.step.median,
        "quartiles": [found.step.lower, found.step.upper],
        "cpu_seconds": found.cpu_seconds * found.step.median,
        "tokens_per_second": found.tokens_per_second,
        "peak_bytes": memory.peak,
        "peak_source": memory.source,
        "parameters": found.sizes.parameters,
        "phases": {name: spread.median for name, spread in found.phases.items()},
        "environment": found.environment,
    }


def sizes_of(device: str) -> list[dict[str, int]]:
    """Every size once."""
    found = []
    for name, values in SIZES[device].items():
        for value in values:
            size = CENTRE[device] | {name: value}
            if size not in found:
                found.append(size)
    return found


def measure(denoisers: list[str], device: str, steps: int) -> None:
    """Train every size that the file does not have yet."""
    path = RESULTS / f"growth_{device}.json"
    done: list[dict[str, Any]] = json.loads(path.read_text())["sizes"] if path.exists() else []
    for denoiser in denoisers:
        for size in sizes_of(device):
            wanted = {"denoiser": denoiser, **size}
            if any(wanted.items() <= row.items() for row in done):
                continue
            words = ["point", "--device", device, "--steps", str(steps), json.dumps(wanted)]
            got = subprocess.run(
                [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=False
            )
            # A size that does not fit is a result, too; anything else is a mistake.
            if got.returncode not in (0, TOO_LARGE, -signal.SIGKILL):
                raise SystemExit(f"{wanted} ended with {got.returncode}; what is done is kept")
            failed = wanted | {"failed": got.returncode}
            done.append(failed if got.returncode else json.loads(got.stdout))
            command = f"python benchmarks/growth.py measure --device {device} --steps {steps}"
            write_json(path, {"command": command, "centre": CENTRE[device], "sizes": done})
            print(json.dumps({k: v for k, v in done[-1].items() if k != "environment"}), flush=True)


def curve(rows: list[dict[str, Any]], device: str, name: str) -> list[dict[str, Any]]:
    """The sizes in which nothing but `name` is not that of the centre, in order."""
    others = {key: value for key, value in CENTRE[device].items() if key != name}
    fitting = [row for row in rows if others.items() <= row.items() and "failed" not in row]
    return sorted(fitting, key=lambda row: row[name])


def files() -> dict[str, list[dict[str, Any]]]:
    """The measured sizes by device."""
    return {
        device: json.loads(path.read_text())["sizes"]
        for device in CENTRE
        if (path := RESULTS / f"growth_{device}.json").exists()
    }


def draw() -> None:
    """Make the figure: time above, memory below, one column for each thing that grows."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mdmkit"  # the same results give the same file
    figure, axes = pyplot.subplots(2, len(LABELS), figsize=(11, 5), sharey="row", sharex="col")
    lines = [
        (f"{denoiser}, {device}", device, [row for row in rows if row["denoiser"] == denoiser])
        for device, rows in files().items()
        for denoiser in dict.fromkeys(row["denoiser"] for row in rows)
    ]
    for column, name in enumerate(LABELS):
        for (label, device, rows), colour in zip(lines, COLOURS, strict=False):
            found = curve(rows, device, name)
            x = [row[name] for row in found]
            times = [row["cpu_seconds" if device == "cpu" else "seconds"] * 1e3 for row in found]
            axes[0][column].plot(x, times, "o-", color=colour, ms=4, label=label)
            _linear(axes[0][column], x, times)
            peaks = [row["peak_bytes"] / 2**20 for row in found]
            axes[1][column].plot(x, peaks, "o-", color=colour, ms=4)
        axes[1][column].set_xlabel(LABELS[name])
    axes[0][0].set_ylabel("a step (ms)")
    axes[1][0].set_ylabel("peak memory (MiB)")
    for ax in axes.flat:
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].plot([], [], "--", color="grey", lw=0.8, label="proportional")
    axes[0][0].legend(frameon=False, fontsize="small")
    figure.savefig(FIGURE, bbox_inches="tight", metadata={"Date": None})


def _linear(axes: Any, x: list[int], y: list[float]) -> None:
    """A dashed line that doubles with `x`, through the last point."""
    if len(x) > 1:
        axes.plot(x, [y[-1] * value / x[-1] for value in x], "--", color="grey", lw=0.8)


def table() -> None:
    """Print what was measured as Markdown."""
    print("| denoiser | device | L | V | width | rows | a step | tokens/s | peak memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for device, rows in files().items():
        for row in rows:
            size = [str(row[name]) for name in LABELS]
            if "failed" in row:
                cells = ["does not fit", "", ""]
            else:
                seconds = row["cpu_seconds" if device == "cpu" else "seconds"]
                tokens = row["rows"] * row["length"]
                cells = [
                    f"{seconds * 1e3:.0f} ms",
                    _rounded(tokens / seconds),
                    f"{row['peak_bytes'] / 2**20:.0f} MiB",
                ]
            print(f"| {' | '.join([row['denoiser'], device, *size, *cells])} |")


def _rounded(number: float) -> str:
    """Three digits."""
    digits = 2 - math.floor(math.log10(number))
    return f"{round(number, digits):,.0f}"


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (commands.add_parser("measure"), commands.add_parser("point")):
        command.add_argument("--device", choices=list(CENTRE), default="cpu")
        command.add_argument("--steps", type=int, default=5)
    commands.choices["measure"].add_argument("--denoiser", nargs="+", default=["dit"])
    commands.choices["point"].add_argument("size", type=json.loads)
    commands.add_parser("draw")
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        measure(arguments.denoiser, arguments.device, arguments.steps)
    elif arguments.command == "point":
        size = arguments.size
        denoiser = size.pop("denoiser")
        try:
            print(json.dumps(measured(denoiser, arguments.device, size, arguments.steps)))
        except torch.OutOfMemoryError:
            raise SystemExit(TOO_LARGE) from None
    elif arguments.command == "draw":
        draw()
    else:
        table()


if __name__ == "__main__":
    main()
