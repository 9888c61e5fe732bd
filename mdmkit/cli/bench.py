"""``mdmkit bench``: how fast a recipe trains here, and where the time goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.options import JsonOption, RecipeArgument, SetOption, print_json
from mdmkit.cli.run_options import DeviceOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(bench)


def bench(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 20,
    warmup: Annotated[int, typer.Option(min=2, help="Steps before them.")] = 5,
    device: DeviceOption = "auto",
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Train on random tokens; no corpus is needed.")
    ] = False,
    vocab_size: Annotated[
        int | None,
        typer.Option(min=3, help="With --synthetic: ids, where the recipe does not tell how many."),
    ] = None,
    find_batch: Annotated[
        bool,
        typer.Option("--find-batch", help="Look for the largest micro-batch; one CUDA device."),
    ] = False,
    machine_seconds: Annotated[
        float, typer.Option(min=0, help="About how long measuring the machine may take.")
    ] = 3.0,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a trace of a few steps there, for chrome://tracing or Perfetto, and print "
            "which operations take longest.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write everything there, as JSON.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a few steps of a recipe and say how fast that is, against what this machine can do.

    Nothing is left behind but the tokenized text in the cache.
    """
    from rich.console import Console

    from mdmkit.benchmarking.bench import bench as measured
    from mdmkit.errors import MdmkitError
    from mdmkit.files import write_json
    from mdmkit.recipe import load_recipe
    from mdmkit.report.bench import print_bench
    from mdmkit.report.console import RunReporter

    for path in (profile, out):
        if path is not None and not path.parent.is_dir():
            raise MdmkitError(f"{path}: its folder is not there; make it, or choose another")
        if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            raise MdmkitError(f"{path}: cannot be written; give the name of a file")
    found = measured(
        load_recipe(recipe, overrides or ()),
        steps=steps,
        warmup=warmup,
        device=device,
        synthetic=synthetic,
        vocab_size=vocab_size,
        find_batch=find_batch,
        trace=profile,
        seconds=machine_seconds,
        reporter=RunReporter(Console(stderr=True)),
        command=[Path(sys.argv[0]).name, *sys.argv[1:]],
    )
    if os.environ.get("RANK", "0") != "0":  # torchrun starts one of us per rank
        return
    if out is not None:
        write_json(out, found.to_json())
    if as_json:
        print_json(found.to_json())
    else:
        print_bench(Console(), found, operations=profile is not None)
    for path in (profile, out):
        if path is not None:
            typer.echo(f"{path}: written", err=True)
