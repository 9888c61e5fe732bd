"""``mdmkit schema``: what an editor needs to complete and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.options import print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(schema)


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it to a file instead.")
    ] = None,
) -> None:
    """Print a JSON schema of recipes, with the options of every installed component.

    An editor for TOML uses it where a recipe begins with the comment `#:schema FILE`.
    """
    from mdmkit.errors import RecipeError
    from mdmkit.files import write_json
    from mdmkit.plugins import load_catalogue
    from mdmkit.recipe_schema import recipe_schema

    catalogue = load_catalogue()
    for plugin in catalogue.broken:
        typer.echo(f"not in the schema: {plugin.describe()}", err=True)
    made = recipe_schema(catalogue)
    if out is None:
        print_json(made)
        return
    try:
        write_json(out, made)
    except OSError as error:
        raise RecipeError(f"{out}: cannot be written: {error.strerror}") from error
    typer.echo(str(out))
