"""``mdmkit analyze``: why does it learn slowly? Pictures of a run, its text, or a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdmkit.cli.options import JsonOption, print_json
from mdmkit.cli.run_options import (
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    EmaOption,
    RunsDirOption,
)
from mdmkit.cli.side import prints, said, side

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mdmkit.evaluation.analysis_files import Analysis


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("analyze")(analyze_run)


def analyze_run(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="RUN|RECIPE",
            help="A run directory or its name; or a recipe, for what needs no trained network.",
        ),
    ],
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Only these analyses; else all that apply (mdmkit plugins lists the evaluators).",
        ),
    ] = None,
    checkpoints: Annotated[
        str,
        typer.Option(
            metavar="last|all|STEP,...",
            help="At which checkpoints; results of earlier calls are kept beside them.",
        ),
    ] = "last",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TABLE.KEY=VALUE",
            help="Change an option of an analysis, such as evaluators.locality.blocks=64; of a "
            "recipe any key. Repeatable.",
        ),
    ] = None,
    ema: EmaOption = True,
    seed: Annotated[int, typer.Option(help="Of the masks; equal seeds: equal masks.")] = 0,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the results there instead of into the run, with a picture of each as .svg, "
            "which needs: pip install 'mdmkit[plot]'.",
        ),
    ] = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = None,
) -> None:
    """Analyze a run, its text or a recipe: loss by mask ratio, gradients, locality, context.

    The results go to analysis/<name>.json of the run; mdmkit report draws them. Exit status 1 where
    one of them could not be made.
    """
    from mdmkit.evaluation.analyze import analyze
    from mdmkit.report.counting import counting

    aside = side()
    with counting(aside) as progress:
        done = analyze(
            subject,
            only=[name.strip() for name in (only or "").split(",") if name.strip()],
            overrides=overrides or (),
            checkpoints=checkpoints,
            ema=ema,
            seed=seed,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            out=out,
            runs_dir=runs_dir,
            notify=said(aside),
            progress=progress,
        )
    if prints():
        if as_json:
            print_json({label: analysis.to_json() for label, analysis in done.found.items()})
        else:
            _print(done.found)
        if out is not None:
            _write(out, done.found)
    if done.failed:
        raise typer.Exit(1)


def _print(found: Mapping[str, Analysis]) -> None:
    from rich.console import Console

    from mdmkit.report.pictures import print_picture
    from mdmkit.report.tables import print_results

    console = Console()
    for number, (label, analysis) in enumerate(found.items()):
        if number:
            console.print()
        print_results(console, {label: analysis.last})
        for name, picture in analysis.pictures():
            console.print()
            print_picture(console, f"{label}/{name}", picture)


def _write(folder: Path, found: Mapping[str, Analysis]) -> None:
    from mdmkit.report.pictures import write_pictures

    for label, analysis in found.items():
        for path in write_pictures(folder, label, dict(analysis.pictures())):
            typer.echo(f"{path}: written", err=True)
