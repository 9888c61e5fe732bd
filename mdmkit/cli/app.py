"""The list of commands.

A command is a module here with ``register(app)``. Its top imports nothing but typer and what is
as light; everything else is imported inside the command, so that ``--help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

import mdmkit
from mdmkit.cli import (
    analyze,
    bench,
    check,
    compare,
    data,
    plan,
    plugins,
    recipes,
    report,
    run,
    runs,
    sample,
    schema,
    show,
    watch,
)
from mdmkit.cli import eval as evaluation

COMMANDS = (
    run,
    watch,
    runs,
    evaluation,
    sample,
    analyze,
    compare,
    report,
    bench,
    data,
    check,
    plan,
    show,
    plugins,
    recipes,
    schema,
)

app = typer.Typer(
    name="mdmkit",
    help="Train masked diffusion language models from typed recipes and plugins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a [table] in a help text is not markup
)
for command in COMMANDS:
    command.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mdmkit {mdmkit.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Train masked diffusion language models from typed recipes and plugins."""
