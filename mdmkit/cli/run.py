"""``mdmkit run``: train what a recipe says, evaluate it, show it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.options import RECIPE_HELP, SetOption, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)] = None,
    overrides: SetOption = None,
    runs_dir: Annotated[
        Path | None, typer.Option(help="Folder of all runs; else MDMKIT_RUNS_DIR, else runs.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on in this run directory; without RECIPE, with the run's own."),
    ] = None,
    branch_from: Annotated[
        str | None,
        typer.Option(
            metavar="RUN@STEP",
            help="Begin where another run was at a step, with the changes of this recipe.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    nproc: Annotated[
        int | None,
        typer.Option(min=1, help="Processes on this machine that train together; else one."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print nothing but the outcome, as JSON.")
    ] = False,
) -> None:
    """Train a recipe, evaluate it, and keep everything in a run directory.

    An interrupted run goes on where it stopped: start the same command again.
    """
    from mdmkit.errors import RecipeError
    from mdmkit.evaluation.find_run import find_run
    from mdmkit.evaluation.run import read_recipe
    from mdmkit.recipe import load_recipe
    from mdmkit.report.console import RunReporter, quiet
    from mdmkit.training.loop import train

    if resume is not None and branch_from is not None:
        raise RecipeError("run: --resume goes on in a run, --branch-from begins one; leave one out")
    if resume is not None:
        resume = find_run(resume, runs_dir)
    if recipe is not None:
        loaded = load_recipe(recipe, overrides or ())
    elif resume is None:
        raise RecipeError("run: name a recipe (`mdmkit recipes` lists some), or a run to --resume")
    elif overrides:
        raise RecipeError("--set: a run that goes on keeps its recipe; leave it out")
    else:
        loaded = read_recipe(resume)
    if nproc is not None and nproc > 1:
        from mdmkit.cli.launch import launch

        arguments = [] if recipe is None else [recipe]
        for name, values in (
            ("--set", overrides or ()),
            ("--runs-dir", [runs_dir]),
            ("--resume", [resume]),
            ("--branch-from", [branch_from]),
            ("--device", [device]),
        ):
            arguments += [str(x) for value in values if value is not None for x in (name, value)]
        raise typer.Exit(launch(nproc, ["run", *arguments, *(["--json"] if as_json else [])]))
    reporter = quiet() if as_json else RunReporter()
    result = train(
        loaded,
        runs_dir=runs_dir,
        resume=resume,
        branch_from=branch_from,
        device=device,
        reporter=reporter,
    )
    if as_json and os.environ.get("RANK", "0") == "0":  # torchrun starts one of us per rank
        print_json(result.to_json())
