"""Options in words: what ``mdmkit plugins show`` and the reference of recipes print of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
from attrs import NOTHING, Factory, frozen

from mdmkit.choices import Choice
from mdmkit.options import DEFAULT_USE, METADATA_KEY, Bounds
from mdmkit.scalars import WORDS


@frozen(kw_only=True)
class OptionRow:
    """An option of a component, or a key of a table in it.

    Attributes:
        key: its name, with that of the table in front where it is in one.
        value: what it may be.
        default: what it is without a word; or ``required``, ``unset``, or ``computed`` from the
            other options.
        meaning: its one line of documentation.
    """

    key: str
    value: str
    default: str
    meaning: str


def option_rows(
    fields: Iterable[attrs.Attribute[Any]], choices: Mapping[Any, Choice], *, quote: str = ""
) -> Iterator[OptionRow]:
    """The options of a class, whose types are resolved.

    Args:
        fields: of the class.
        choices: `mdmkit.choices.all_choices`.
        quote: put around what a recipe would say literally.
    """
    for field in fields:
        about = _bounds(field).doc
        if not (isinstance(field.type, type) and attrs.has(field.type)):
            yield _row(field, field.name, about, choices, quote)
            continue
        attrs.resolve_types(field.type)
        table = _default_of(field)
        for key in attrs.fields(field.type):
            inner = key if table is NOTHING else key.evolve(default=getattr(table, key.name))
            meaning = f"{about}; {_bounds(key).doc}"
            yield _row(inner, f"{field.name}.{key.name}", meaning, choices, quote)


def _row(
    field: attrs.Attribute[Any], key: str, about: str, choices: Mapping[Any, Choice], quote: str
) -> OptionRow:
    return OptionRow(
        key=key,
        value=_value(field, choices, quote),
        default=_default(field, quote),
        meaning=about,
    )


def _value(field: attrs.Attribute[Any], choices: Mapping[Any, Choice], quote: str) -> str:
    kind: Any = field.type
    if any(kind is known for known in choices):
        return f"a table with {quote}use{quote}"
    if get_origin(kind) is not Literal:
        kinds = [inside for inside in get_args(kind) if inside is not type(None)]
        if len(kinds) == 1:
            (kind,) = kinds
    if get_origin(kind) is Literal:
        return ", ".join(f"{quote}{json.dumps(word)}{quote}" for word in get_args(kind))
    if any(kind is known for known in choices):
        return f"table with {quote}use{quote}: {choices[kind].kind}"
    if get_origin(kind) is tuple and get_args(kind)[0] in WORDS:
        return f"array of {WORDS[get_args(kind)[0]].split(' ', 1)[1]}s"
    if kind not in WORDS:
        return "an array" if get_origin(kind) in (tuple, list) else "a table"
    words = WORDS[kind].removeprefix("a ").removeprefix("an ")
    return f"{words}{_bounds(field).describe().removeprefix('a value')}".strip()


def _default(field: attrs.Attribute[Any], quote: str) -> str:
    if DEFAULT_USE in field.metadata:
        return f'{quote}{{use = "{field.metadata[DEFAULT_USE]}"}}{quote}'
    default = _default_of(field)
    if default is NOTHING:
        return "required" if field.default is NOTHING else "computed"
    if isinstance(default, Path):
        default = str(default)
    if isinstance(default, Mapping) and not default:
        return "empty"
    return "unset" if default is None else f"{quote}{json.dumps(default, default=str)}{quote}"


def _default_of(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if isinstance(default, Factory):  # type: ignore[arg-type]
        return NOTHING if default.takes_self else default.factory()
    return default


def _bounds(field: attrs.Attribute[Any]) -> Bounds:
    found: Bounds = field.metadata.get(METADATA_KEY, Bounds())
    return found
