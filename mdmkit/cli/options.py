"""Arguments that several commands share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

RECIPE_HELP = "A TOML file, or the name of a shipped recipe (see: mdmkit recipes)."

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)]
RecipesArgument = Annotated[list[str], typer.Argument(metavar="RECIPE...", help=RECIPE_HELP)]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Override a key of the recipe; repeatable. The value is read as TOML, else as text.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns; nothing is cut, so that the text can be copied and piped."""
    from mdmkit.report.tables import columns

    for line in columns([header, *rows]):
        typer.echo(line)
