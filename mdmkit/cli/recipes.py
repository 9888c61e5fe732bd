"""``mdmkit recipes``: the shipped recipes, to run by name or to copy and change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.options import JsonOption, print_columns, print_json


def register(app: typer.Typer) -> None:
    """Add the command and its sub-command."""
    group = typer.Typer(help="List the shipped recipes, or copy one.", invoke_without_command=True)
    group.callback()(list_recipes)
    group.command("copy")(copy)
    app.add_typer(group, name="recipes")


def list_recipes(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the shipped recipes: `mdmkit run NAME` runs one, `copy NAME` gives you the file."""
    if context.invoked_subcommand is not None:
        return
    from mdmkit.recipe_files import recipe_names, recipe_path

    recipes = [
        {"name": name, "about": _first_comment(recipe_path(name)), "path": str(recipe_path(name))}
        for name in recipe_names()
    ]
    if as_json:
        print_json(recipes)
        return
    print_columns(("name", "about"), [(recipe["name"], recipe["about"]) for recipe in recipes])


def copy(
    name: Annotated[str, typer.Argument(help="The name of a shipped recipe.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="A file or directory; the current directory by default."),
    ] = None,
) -> None:
    """Copy a shipped recipe to change it. An existing file is never overwritten."""
    from mdmkit.recipe_files import copy_recipe

    typer.echo(str(copy_recipe(name, to or Path())))


def _first_comment(path: Path) -> str:
    """What a recipe says of itself: its first line, which is a comment."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
