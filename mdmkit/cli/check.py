"""``mdmkit check``: say everything that is wrong with recipes and suites."""

from __future__ import annotations

import typer

from mdmkit.cli.options import RecipesArgument, SetOption
from mdmkit.errors import RecipeError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(recipes: RecipesArgument, overrides: SetOption = None) -> None:
    """Check recipes and suites, and print all of their errors at once."""
    from mdmkit.plugins import load_catalogue
    from mdmkit.recipe import load_recipe
    from mdmkit.suites import is_suite, load_suite

    catalogue = load_catalogue()
    problems: list[str] = []
    for source in recipes:
        try:
            load = load_suite if is_suite(source) else load_recipe
            load(source, overrides or (), catalogue=catalogue)
        except RecipeError as error:
            # An override that is wrong is wrong for every recipe, but said once.
            problems += [line for line in error.problems if line not in problems]
        else:
            typer.echo(f"{source}: ok")
    if problems:
        raise RecipeError(problems)
