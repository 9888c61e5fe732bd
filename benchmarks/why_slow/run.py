"""The runs of the causal tests: why do masked diffusion models learn slowly?

    python benchmarks/why_slow/run.py --group patterns --seeds 1 2 --dry
    python benchmarks/why_slow/run.py --group plain arrangements orders --seeds 1 2 --out runs/why

Each cell of ``cells.toml`` is a shipped quickstart recipe with some changes, trained for as many
steps as that says (1,000). Runs are done one after the other, all cells of the first seed first;
one that is finished is not done again, and a killed one goes on where it was. ``--dry`` prints the
command lines instead.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mdmkit import load_recipe
from mdmkit.training.run_directory import run_directory

HERE = Path(__file__).resolve().parent
CELLS = tomllib.loads((HERE / "cells.toml").read_text())
GROUPS = tuple(dict.fromkeys(cell["group"] for cell in CELLS.values()))


def lines(groups: Sequence[str], seeds: Sequence[int], extra: Sequence[str]) -> Iterator[list[str]]:
    """What follows ``mdmkit run``, for every cell of the groups; seed after seed."""
    for seed in seeds:
        for name, cell in CELLS.items():
            if cell["group"] in groups:
                changes = [f"run.name={name}", f"run.seed={seed}", *cell["set"], *extra]
                yield [cell["recipe"], *(part for key in changes for part in ("--set", key))]


def finished(arguments: Sequence[str], out: Path) -> bool:
    """Whether the run of these arguments came to its end."""
    recipe, *sets = arguments
    directory = run_directory(load_recipe(recipe, sets[1::2]), out)
    return (directory / "model.safetensors").exists()


def main() -> None:
    """Read the arguments and do the runs one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(1,))
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder of runs")
    parser.add_argument("--set", dest="extra", action="append", default=[], help="for all of them")
    parser.add_argument("--dry", action="store_true", help="print the command lines")
    arguments = parser.parse_args()
    failed = 0
    for line in lines(arguments.group, arguments.seeds, arguments.extra):
        if arguments.dry:
            print("mdmkit run", shlex.join(line))
            continue
        if finished(line, arguments.out):
            continue
        print("mdmkit run", shlex.join(line), flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "mdmkit", "run", *line, "--runs-dir", str(arguments.out)],
            env={"OMP_NUM_THREADS": "1", **os.environ},
            check=False,
        )
        failed += done.returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
