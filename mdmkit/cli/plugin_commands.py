"""Commands that plugins add: entry points of the group ``mdmkit.commands``.

The entry point's name is the command, what it points to a function as typer takes one. A plugin's
module is imported only for its own command and for the list that ``--help`` prints, so it imports
nothing heavy at its top either.
"""

from __future__ import annotations

import copy
import re
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from mdmkit.errors import PluginError

if TYPE_CHECKING:
    from mdmkit.installed import Source

_NAME = re.compile("[a-z0-9][a-z0-9-]*")


def with_plugin_commands(
    app: typer.Typer, arguments: Sequence[str], environ: Mapping[str, str]
) -> typer.Typer:
    """`app` and the commands of plugins, where the command line may want one.

    Args:
        app: with our own commands; it stays as it is.
        arguments: the command line.
        environ: where ``MDMKIT_PLUGINS`` is looked up.

    Raises:
        PluginError: where that names what is not there.
    """
    command = next((word for word in arguments if not word.startswith("-")), None)
    own = taken_names(app)
    if command in own or "--version" in arguments[:1]:
        return app
    from mdmkit.installed import COMMANDS, installed_sources

    try:
        sources = _by_name(installed_sources(environ, COMMANDS))
    except PluginError:
        if command is None:  # --help helps even where MDMKIT_PLUGINS is wrong
            return app
        raise
    extended = copy.copy(app)
    extended.registered_commands = list(app.registered_commands)
    for name, providers in sources.items():
        if name not in own and command in (None, name):
            try:
                extended.command(name)(_function(name, providers))
            except PluginError as error:
                _refuse(extended, name, str(error))
    return extended


def taken_names(app: typer.Typer) -> Collection[str]:
    """The names of the commands that `app` has."""
    command = typer.main.get_command(app)
    return frozenset(command.commands) if isinstance(command, typer.core.TyperGroup) else ()


def _by_name(sources: Iterable[Source]) -> dict[str, list[Source]]:
    found: dict[str, list[Source]] = {}
    for source in sources:
        found.setdefault(source.entry, []).append(source)
    return dict(sorted(found.items()))


def _function(name: str, sources: Sequence[Source]) -> Callable[..., object]:
    """The function of a command.

    Raises:
        PluginError: where there are two, or it cannot be used.
    """
    if len(sources) > 1:
        owners = " and ".join(f"{source.distribution} {source.version}" for source in sources)
        raise PluginError(
            f'two plugins provide the command "{name}": {owners}; uninstall one of them, or choose '
            "with MDMKIT_PLUGINS=<distributions>"
        )
    return check_command(sources[0])


def check_command(source: Source) -> Callable[..., object]:
    """The function of a plugin's command.

    Raises:
        PluginError: where it cannot be imported, was made for another API, is no function that
            typer takes, or has a name that cannot be typed.
    """
    from mdmkit.installed import check_api, declared_api

    try:
        if not _NAME.fullmatch(source.entry):
            raise PluginError("its name is not made of small letters, digits and - alone")
        function = source.load()
        check_api(declared_api(source, function))
        if not callable(function):
            raise TypeError(f"expected a function, got {type(function).__name__}")
        trial = typer.Typer()
        trial.command()(function)
        typer.main.get_command(trial)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # a stranger's module may raise anything
        raise PluginError(
            f'the command "{source.entry}" of {source.distribution} {source.version} cannot be '
            f"used: {_reason(source, error)}"
        ) from error
    checked: Callable[..., object] = function
    return checked


def _reason(source: Source, error: BaseException) -> str:
    from mdmkit.installed import check_api, stated_api

    if isinstance(error, PluginError):
        return str(error)
    try:  # what it says of itself may explain what went wrong before it could be asked
        check_api(stated_api(source))
    except PluginError as reason:
        return str(reason)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


def _refuse(app: typer.Typer, name: str, reason: str) -> None:
    """Add a command that says, whatever its arguments, why there is none of this name."""

    def refused(context: typer.Context) -> None:  # noqa: ARG001 - by which it takes anything
        raise PluginError(reason)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    help = "Cannot be used; `mdmkit plugins doctor` says why."
    app.command(name, help=help, context_settings=anything)(refused)
