"""``mdmkit runs clean``: remove old checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdmkit.cli.options import JsonOption, print_json
from mdmkit.cli.run_options import RunsDirOption

if TYPE_CHECKING:
    from mdmkit.runs.cleaning import Plan


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("clean")(clean_runs)


def clean_runs(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="Run directories or names; else all in the folder."),
    ] = None,
    keep: Annotated[
        int, typer.Option(min=1, help="How many of the newest whole checkpoints stay.")
    ] = 1,
    all_but_last: Annotated[
        bool,
        typer.Option(
            "--all-but-last", help="Also remove those that train.keep_every keeps for ever."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = None,
) -> None:
    """Remove old checkpoints, damaged ones that were set aside and what was left over by a kill.

    Shows first what goes and how much room that makes, and asks. The newest whole checkpoint of a
    run always stays, and a run that is running is left alone. What goes wrong with one run is said
    in the end, with status 1; the others are cleaned.
    """
    from mdmkit.errors import RecipeError
    from mdmkit.report.numbers import size
    from mdmkit.report.run_list import plan_lines
    from mdmkit.runs.cleaning import Wish, clean, plan

    wish = Wish(keep=keep, all_but_last=all_but_last)
    plans = [plan(directory, wish) for directory in _directories(runs, runs_dir)]
    count, octets = sum(len(each.removals) for each in plans), sum(each.size for each in plans)
    if not as_json:
        for line in plan_lines(plans):
            typer.echo(line)
    if count and not (dry_run or yes):
        what = f"remove {count} folder{'' if count == 1 else 's'} and free {size(octets)}"
        if as_json or not sys.stdin.isatty():
            raise RecipeError(f"runs clean: to {what}, add --yes; there is nobody to ask")
        if not typer.confirm(f"{what.capitalize()}?"):
            typer.echo("nothing was removed")
            return
    if count and not dry_run:
        plans = [clean(each, wish) if each.removals else each for each in plans]
    if as_json:
        print_json([each.to_json() for each in plans])
    else:
        typer.echo(_outcome(plans, dry_run))
    problems = [each.error for each in plans if each.error is not None]
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)


def _directories(runs: Sequence[str] | None, runs_dir: Path | None) -> list[Path]:
    from mdmkit.errors import CheckpointError
    from mdmkit.evaluation.find_run import find_run
    from mdmkit.runs.folder import runs_root
    from mdmkit.runs.status import run_folders

    if runs:
        return list(dict.fromkeys(find_run(run, runs_dir) for run in runs))
    root = runs_root(runs_dir)
    try:
        return run_folders(root)
    except OSError as error:
        raise CheckpointError(f"{root}: cannot be listed ({error.strerror or error})") from error


def _outcome(plans: Sequence[Plan], dry_run: bool) -> str:
    from mdmkit.report.numbers import size

    count = sum(len(each.removals) for each in plans)
    if not (count or any(each.error for each in plans)):
        return "there is nothing to remove"
    folders = f"{count} folder{'' if count == 1 else 's'}, {size(sum(p.size for p in plans))}"
    return f"would remove {folders}" if dry_run else f"removed {folders}"
