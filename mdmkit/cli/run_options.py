"""Arguments of the commands that use a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, or its name in the folder of runs.")
]
RunsDirOption = Annotated[
    Path | None, typer.Option(help="Folder of all runs; else MDMKIT_RUNS_DIR, else runs.")
]
EmaOption = Annotated[
    bool, typer.Option("--ema/--no-ema", help="The averaged weights, where the run has them.")
]
CheckpointOption = Annotated[
    int | None,
    typer.Option(metavar="STEP", help="Which checkpoint; else the newest whole one."),
]
BatchSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Rows a network call; else as in training.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="bf16 or fp32, of the network's forward; else as in training."),
]
