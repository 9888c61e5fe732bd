"""``mdmkit report``: runs as one page of HTML to look at and to pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.run_options import RunsDirOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run directories or names, folders of runs, or a name that several runs share.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The page; a file that is there is replaced.")
    ] = Path("report.html"),
    runs_dir: RunsDirOption = None,
) -> None:
    """Write a page that says everything about runs; it needs no network and opens from disk.

    Whatever a run has is shown, and what it lacks is said with the command that makes it. Needs
    plotly: pip install 'mdmkit[plot]'.
    """
    from mdmkit.report.page import write_report

    written = write_report(
        runs, out, runs_dir=runs_dir, notify=lambda problem: typer.echo(problem, err=True)
    )
    typer.echo(f"{written}: written", err=True)
