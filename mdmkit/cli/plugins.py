"""``mdmkit plugins``: which components there are, and who provides them.

A sub-command is a module beside this one with ``register(group)``, as a command is for `app`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import typer

from mdmkit.cli import plugins_doctor, plugins_new, plugins_show
from mdmkit.cli.options import JsonOption, print_columns, print_json

if TYPE_CHECKING:
    from mdmkit.plugins import Catalogue


SUBCOMMANDS = (plugins_show, plugins_doctor, plugins_new)


def register(app: typer.Typer) -> None:
    """Add the command and its sub-commands."""
    group = typer.Typer(
        help="List the components and who provides them, look into them, or make a plugin.",
        invoke_without_command=True,
    )
    group.callback()(plugins)
    for command in SUBCOMMANDS:
        command.register(group)
    app.add_typer(group, name="plugins")


def plugins(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the components by distribution, version and hook, and the plugins that are broken."""
    if context.invoked_subcommand is not None:
        return
    from mdmkit.plugins import load_catalogue

    catalogue = load_catalogue()
    if as_json:
        print_json(
            {
                "components": _groups(catalogue),
                "broken": [attrs.asdict(plugin) for plugin in catalogue.broken],
            }
        )
        return
    rows = [
        (group["distribution"], group["version"], group["hook"], ", ".join(group["names"]))
        for group in _groups(catalogue)
    ]
    print_columns(("distribution", "version", "hook", "names"), rows)
    for plugin in catalogue.broken:
        typer.echo(f"broken: {plugin.describe()}")
    if catalogue.broken:
        typer.echo("(mdmkit plugins --json has the tracebacks)")


def _groups(catalogue: Catalogue) -> list[dict[str, Any]]:
    """One entry for each distribution and hook, in the order of loading."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for component in catalogue.components:
        key = (component.distribution, component.version, component.hook)
        groups.setdefault(key, []).append(component.name)
    return [
        {"distribution": distribution, "version": version, "hook": hook, "names": names}
        for (distribution, version, hook), names in groups.items()
    ]
