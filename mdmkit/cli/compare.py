"""``mdmkit compare``: which method is sooner at the same NELBO, and is it no worse at the end?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.options import JsonOption, print_json
from mdmkit.cli.run_options import RunsDirOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare_runs)


def compare_runs(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run directories or names, folders of runs, or a name that several runs share.",
        ),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The method to compare to; else that of the first run."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATTERN",
            help="Call the runs whose name, directory or folder fits the pattern one method; "
            "repeatable. Else runs that differ in nothing but the seed are one.",
        ),
    ] = None,
    envelope: Annotated[
        bool,
        typer.Option(
            "--envelope", help="A method's learning rates may differ; the best at each budget."
        ),
    ] = False,
    cooled: Annotated[
        bool,
        typer.Option(
            "--cooled", help="Compare the ends of runs of several budgets that cooled down."
        ),
    ] = False,
    margin: Annotated[float, typer.Option(help="Of the test for no worse, nats per token.")] = 0.01,
    bins: Annotated[int, typer.Option(help="Bins of the mask ratio in that test.")] = 5,
    plateau: Annotated[
        float | None,
        typer.Option(metavar="NATS", help="Its level, where the curves do not show it."),
    ] = None,
    escape_margin: Annotated[
        float, typer.Option(help="How far below the plateau counts as having left it, nats.")
    ] = 0.1,
    clusters: Annotated[
        str, typer.Option(help="What is resampled: documents, or blocks.")
    ] = "documents",
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write compare.json, curves.svg, curves.png and curves.html there; the pictures "
            "need: pip install 'mdmkit[plot]'.",
        ),
    ] = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = None,
) -> None:
    """Compare runs that were validated on the same text with the same masks."""
    from rich.console import Console

    from mdmkit.comparison.compare import compare
    from mdmkit.report.comparison import print_comparison
    from mdmkit.report.comparison_files import write_comparison

    found = compare(
        runs,
        baseline=baseline,
        labels=_labels(label or ()),
        margin=margin,
        bins=bins,
        escape_margin=escape_margin,
        plateau=plateau,
        clusters=clusters,
        envelope=envelope,
        cooled=cooled,
        resamples=resamples,
        seed=seed,
        runs_dir=runs_dir,
    )
    if as_json:
        print_json(found.to_json())
    else:
        print_comparison(Console(), found)
    if out is not None:
        for path in write_comparison(out, found):
            typer.echo(f"{path}: written", err=True)


def _labels(assignments: list[str] | tuple[()]) -> dict[str, list[str]]:
    """The patterns by label."""
    from mdmkit.errors import MdmkitError

    labels: dict[str, list[str]] = {}
    for assignment in assignments:
        name, _, pattern = assignment.partition("=")
        if not (name and pattern):
            raise MdmkitError(f'--label: expected NAME=PATTERN, got "{assignment}"')
        labels.setdefault(name, []).append(pattern)
    return labels
