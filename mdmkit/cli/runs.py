"""``mdmkit runs``: which runs there are and what became of each.

A sub-command is a module beside this one with ``register(group)``, as a command is for `app`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from mdmkit.cli import runs_clean
from mdmkit.cli.options import JsonOption, print_json
from mdmkit.cli.run_options import RunsDirOption

SUBCOMMANDS = (runs_clean,)


class _Group(TyperGroup):
    """A group whose own argument is a folder; the name of a sub-command is not taken for one."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        named = bool(args) and args[0] in self.commands
        ctx.allow_interspersed_args = not named
        return super().parse_args(ctx, ["", *args] if named else args)


def register(app: typer.Typer) -> None:
    """Add the command and its sub-commands."""
    group = typer.Typer(
        help="List the runs in a folder and what became of each, or remove old checkpoints.",
        invoke_without_command=True,
        cls=_Group,
    )
    group.callback()(runs)
    for command in SUBCOMMANDS:
        command.register(group)
    app.add_typer(group, name="runs")


def runs(
    context: typer.Context,
    folder: Annotated[
        str | None,
        typer.Argument(metavar="[DIR]", help="Folder of runs; else MDMKIT_RUNS_DIR, else runs."),
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only these: running, finished, interrupted, failed, imported or damaged; "
            "repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = None,
) -> None:
    """List the runs in a folder, the one that changed last first."""
    if context.invoked_subcommand is not None:
        return
    from mdmkit.errors import CheckpointError, RecipeError
    from mdmkit.report.run_list import run_lines
    from mdmkit.runs.folder import runs_root
    from mdmkit.runs.status import STATES, run_folders, status_of
    from mdmkit.suggest import did_you_mean

    for state in states or ():
        if state not in STATES:
            raise RecipeError(
                f'--status: there is no "{state}"{did_you_mean(state, STATES)}; expected '
                + ", ".join(STATES)
            )
    if folder and runs_dir is not None:
        raise RecipeError("runs: DIR and --runs-dir say the same; leave one out")
    root = runs_root(folder or runs_dir)
    try:
        statuses = [status_of(path) for path in run_folders(root)]
    except FileNotFoundError:
        statuses = []
    except OSError as error:
        raise CheckpointError(f"{root}: cannot be listed ({error.strerror or error})") from error
    chosen = [status for status in statuses if not states or status.state in states]
    chosen.sort(key=lambda status: (-status.changed, status.directory.name))
    if as_json:
        print_json([status.to_json() for status in chosen])
    elif not chosen:
        typer.echo(f"there are no {'such ' if statuses else ''}runs in {Path(root)}")
    else:
        for line in run_lines(chosen, time.time()):
            typer.echo(line)
