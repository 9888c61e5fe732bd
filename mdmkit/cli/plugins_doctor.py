"""``mdmkit plugins doctor``: what is wrong with the installed plugins."""

from __future__ import annotations

import os
from typing import Annotated

import attrs
import typer

from mdmkit.cli.options import JsonOption, print_columns, print_json

_LINES = 4  # of a traceback, from its end


def register(group: typer.Typer) -> None:
    """Add the sub-command."""
    group.command("doctor")(doctor)


def doctor(
    context: typer.Context,
    as_json: JsonOption = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print whole tracebacks, not only their ends.")
    ] = False,
) -> None:
    """Explain which plugins cannot be used and why, and what to do; the exit status is then 1.

    It looks at what could not be loaded, at versions (of packages and of the plugin API), at names
    that two plugins give, and at plugins that are installed twice.
    """
    import mdmkit
    from mdmkit.cli.plugin_commands import check_command
    from mdmkit.plugin_health import examine

    commands = getattr(context.find_root().command, "commands", {})
    health = examine(os.environ, taken=commands, try_command=check_command)
    if as_json:
        print_json(attrs.asdict(health) | {"api": mdmkit.API_VERSION, "mdmkit": mdmkit.__version__})
    else:
        typer.echo(f"mdmkit {mdmkit.__version__}, plugin API {mdmkit.API_VERSION}")
        rows = [
            (p.distribution, p.version, p.entry, str(p.api or "-"), p.state, p.provides)
            for p in health.plugins
        ]
        if rows:
            print_columns(("distribution", "version", "entry", "API", "state", "provides"), rows)
        else:
            typer.echo("no plugin is installed")
        for problem in health.problems:
            typer.echo(f"\n{problem.where}: {problem.what}\n  remedy: {problem.remedy}")
            lines = problem.traceback.rstrip().splitlines()
            for line in lines if verbose else lines[-_LINES:]:
                typer.echo(f"  | {line}")
        typer.echo(f"\n{len(health.problems) or 'no'} problem{'s' * (len(health.problems) != 1)}")
    if health.problems:
        raise typer.Exit(1)
