"""``mdmkit watch``: a run that goes on in another terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.run_options import RunsDirOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="A run directory, or its name in the folder of runs; else the one that is "
            "running there.",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print what there is now and leave.")
    ] = False,
    runs_dir: RunsDirOption = None,
) -> None:
    """Follow a run from another process: curves, figures, texts, and what is odd.

    The run is not disturbed. Without a terminal the figures come as plain lines. It ends with the
    run, with status 1 if that did not finish, and with the key q.
    """
    from rich.console import Console

    from mdmkit.evaluation.find_run import find_run
    from mdmkit.report.run_watch import print_view, watch_run

    directory = _running(runs_dir) if run is None else find_run(run, runs_dir)
    console = Console()
    if once:
        print_view(console, directory)
        return
    status = watch_run(console, directory)
    if status.state not in ("running", "finished", "imported"):
        raise typer.Exit(1)


def _running(runs_dir: Path | None) -> Path:
    """The one run that is running."""
    from mdmkit.errors import CheckpointError
    from mdmkit.report.tables import one_line
    from mdmkit.runs.folder import runs_root
    from mdmkit.runs.lock import is_held
    from mdmkit.runs.status import run_folders

    root = runs_root(runs_dir)
    try:
        running = [path for path in run_folders(root) if is_held(path)]
    except OSError as error:
        raise CheckpointError(f"{root}: cannot be listed ({error.strerror or error})") from error
    if len(running) != 1:
        names = f": {', '.join(one_line(path.name) for path in running)}" if running else ""
        raise CheckpointError(
            f"watch: {len(running) or 'no'} runs are running in {root}{names}; say which RUN "
            "(`mdmkit runs` lists them)"
        )
    return running[0]
