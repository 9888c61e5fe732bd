"""``mdmkit plugins show``: what a component is, does and may be told."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from mdmkit.cli.options import JsonOption, print_columns, print_json

if TYPE_CHECKING:
    from mdmkit.choices import Choice
    from mdmkit.plugins import Catalogue

Plain = dict[str, Any]
_FEATURES = ("supports", "needs")

HookOption = Annotated[
    str | None, typer.Option("--hook", help="Only a component of this hook, such as time_sampler.")
]


def register(group: typer.Typer) -> None:
    """Add the sub-command."""
    group.command("show")(show)


def show(
    name: Annotated[str, typer.Argument(help="What a recipe's `use` says.")],
    hook: HookOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a component's options with types and defaults, its documentation and its source."""
    from mdmkit.choices import all_choices
    from mdmkit.plugins import load_catalogue
    from mdmkit.recipe import CLOSED_TABLES

    catalogue = load_catalogue()
    choices = all_choices(catalogue, CLOSED_TABLES)
    wanted = None if hook is None else _kind(hook, choices)
    found = list(described(name, wanted, catalogue, choices))
    if not found:
        _refuse(name, wanted, catalogue, choices)
    if as_json:
        print_json(found)
        return
    for number, component in enumerate(found):
        if number:
            typer.echo()
        _print(component)


def _kind(hook: str, choices: Mapping[Any, Choice]) -> str:
    """The kind of component that a hook is for: ``time_sampler``, ``mdmkit_time_samplers``, ….

    Raises:
        RecipeError: where there is no such hook.
    """
    from mdmkit.contracts import HOOKS
    from mdmkit.errors import RecipeError
    from mdmkit.suggest import did_you_mean

    kinds = {choice.kind.replace(" ", "_"): choice.kind for choice in choices.values()}
    known = kinds | {name: point.kind for name, point in HOOKS.items()}
    asked = hook.replace("-", "_").replace(" ", "_")
    if asked not in known:
        hint = did_you_mean(asked, known) or ";"
        raise RecipeError(f'--hook: there is no "{hook}"{hint} known: {", ".join(sorted(kinds))}')
    return known[asked]


def described(
    name: str, kind: str | None, catalogue: Catalogue, choices: Mapping[Any, Choice]
) -> Iterator[Plain]:
    """Everything of that name, as plain JSON."""
    from mdmkit.option_words import option_rows

    owners = {c.cls: f"{c.distribution} {c.version} ({c.plugin})" for c in catalogue.components}
    for choice in choices.values():
        if name not in choice.classes or kind not in (None, choice.kind):
            continue
        cls = choice.classes[name]
        attrs.resolve_types(cls)
        fields = [field for field in attrs.fields(cls) if field.init]
        yield {
            "name": name,
            "kind": choice.kind,
            "from": owners.get(cls, "mdmkit"),
            "class": f"{cls.__module__}.{cls.__qualname__}",
            "source": _source(cls),
            "doc": (inspect.getdoc(cls) or "").replace("``", "`"),
            **{fact: _features(cls, fact) for fact in _FEATURES},
            "options": [attrs.asdict(row) for row in option_rows(fields, choices)],
        }


def _features(cls: type, fact: str) -> list[str]:
    """Features that every instance has; what depends on the options is no property of the class."""
    found = getattr(cls, fact, ())
    return sorted(found) if isinstance(found, frozenset) else []


def _source(cls: type) -> str:
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return "(no source)"


def _refuse(
    name: str, kind: str | None, catalogue: Catalogue, choices: Mapping[Any, Choice]
) -> None:
    from mdmkit.errors import RecipeError
    from mdmkit.suggest import did_you_mean

    names = {known for c in choices.values() if kind in (None, c.kind) for known in c.classes}
    message = f'there is no {kind or "component"} "{name}"{did_you_mean(name, names) or ";"} '
    message += "`mdmkit plugins` lists what there is"
    for plugin in catalogue.broken:
        message += f"; a plugin that might provide it is broken: {plugin.describe()}"
    raise RecipeError(message)


def _print(component: Plain) -> None:
    typer.echo(f"{component['name']}: {component['kind']} of {component['from']}")
    typer.echo(f"{component['class']}, {component['source']}\n")
    typer.echo(component["doc"])
    for fact in _FEATURES:
        if component[fact]:
            typer.echo(f"\n{fact}: {', '.join(component[fact])}")
    typer.echo()
    if not component["options"]:
        typer.echo("It has no options.")
        return
    header = ("option", "value", "default", "meaning")
    print_columns(header, [tuple(row.values()) for row in component["options"]])
