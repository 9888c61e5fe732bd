"""``mdmkit plugins new``: a distribution to start from."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Annotated

import typer


def register(group: typer.Typer) -> None:
    """Add the sub-command."""
    group.command("new")(new)


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the distribution, such as mdmkit-foo.")
    ],
    hook: Annotated[
        str,
        typer.Option(
            "--hook",
            help="What it adds: denoiser, noise_schedule, time_sampler, mask_pattern, "
            "loss_weighting, objective, sampler, evaluator, corpus or tracker.",
        ),
    ],
    component: Annotated[
        str | None,
        typer.Option("--component", help="Its name in recipes; by default NAME without mdmkit-."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", help="The folder to make; by default NAME, here."),
    ] = None,
) -> None:
    """Make an installable plugin with a component that works, tests and all, to be changed."""
    from mdmkit.plugins import load_catalogue
    from mdmkit.scaffold.names import chosen_names, refuse_twin
    from mdmkit.scaffold.plugin import plugin_files, table, write_folder

    names = chosen_names(name, hook, component)
    refuse_twin(names, load_catalogue())
    folder = directory or Path(name)
    write_folder(folder, plugin_files(names))
    chosen = f"{'.'.join(table(names))}.use={_value(names.component)}"
    typer.echo(f'{folder}: a plugin with the {names.words} "{names.component}"')
    typer.echo(f"its code: {folder / 'src' / names.module / '__init__.py'}; to go on from here:")
    for command in (
        f"cd {shlex.quote(str(folder))}",
        "pip install -e '.[dev]'",
        f"pytest --mdmkit-contract {names.distribution}",
        f"mdmkit run quickstart_bell --set {shlex.quote(chosen)}",
    ):
        typer.echo(f"    {command}")


def _value(name: str) -> str:
    """A name as ``--set`` takes it: in quotes where TOML would read a number, a date or a truth."""
    try:
        tomllib.loads(f"value = {name}")
    except tomllib.TOMLDecodeError:
        return name
    return f'"{name}"'
