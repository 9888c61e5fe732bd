"""``mdmkit recipes``: the shipped recipes and suites, to use by name or to copy and change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.options import JsonOption, print_columns, print_json


def register(app: typer.Typer) -> None:
    """Add the command and its sub-command."""
    group = typer.Typer(
        help="List the shipped recipes and suites, or copy one.", invoke_without_command=True
    )
    group.callback()(list_recipes)
    group.command("copy")(copy)
    app.add_typer(group, name="recipes")


def list_recipes(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the shipped recipes (`mdmkit run NAME`) and suites (`mdmkit eval RUN --suite NAME`)."""
    if context.invoked_subcommand is not None:
        return
    from mdmkit.shipped import RECIPES, SUITES

    shipped = [
        {"name": name, "kind": shelf.kind, "about": _about(path), "path": str(path)}
        for shelf in (RECIPES, SUITES)
        for name, path in ((name, shelf.path(name)) for name in shelf.names())
    ]
    if as_json:
        print_json(shipped)
        return
    header = ("name", "kind", "about")
    print_columns(header, [tuple(entry[key] for key in header) for entry in shipped])


def copy(
    name: Annotated[str, typer.Argument(help="The name of a shipped recipe or suite.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="A file or directory; the current directory by default."),
    ] = None,
) -> None:
    """Copy a shipped recipe or suite to change it. An existing file is never overwritten."""
    from mdmkit.shipped import RECIPES, SUITES

    is_suite = name in SUITES.names() and name not in RECIPES.names()
    typer.echo(str((SUITES if is_suite else RECIPES).copy(name, to or Path())))


def _about(path: Path) -> str:
    """What a file says of itself: its first line, which is a comment."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
