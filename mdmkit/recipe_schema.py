"""A JSON schema of recipes, so that an editor can complete, explain and check them.

It says of types, bounds, names and required keys what the converter says (`mdmkit.structuring`).
It cannot say what only the whole shows (`mdmkit check` does), and JSON knows one kind of number:
where an integer is expected, the schema takes 8.0 for 8.

It is draft 2020-12, but keeps to what editors that know only older drafts read the same way: no
keyword that constrains stands beside a ``$ref``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import attrs
from attrs import Factory, frozen

from mdmkit.annotations import (
    element_types,
    fields,
    is_attrs,
    is_literal,
    is_mapping,
    is_sequence,
    is_union,
)
from mdmkit.choices import USE, Choice, all_choices
from mdmkit.options import DEFAULT_USE, METADATA_KEY, Bounds
from mdmkit.plugins import Catalogue
from mdmkit.recipe import CLOSED_TABLES, Recipe
from mdmkit.recipe_check import LABEL
from mdmkit.recipe_files import EXTENDS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_SCALARS: Mapping[Any, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    Path: {"type": "string"},
}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def recipe_schema(catalogue: Catalogue) -> Schema:
    """The JSON schema (draft 2020-12) of a recipe file.

    A file that extends another may leave out what is required, and a table in it may leave out
    ``use``; every key must still belong to some component. So each table has two definitions: a
    whole one, and a part, of which nothing is required.

    Args:
        catalogue: the components that ``use`` may name.
    """
    choices = all_choices(catalogue, CLOSED_TABLES)
    part = _Writer(choices=choices, whole=False)
    whole = _Writer(choices=choices, whole=True, definitions=part.definitions)
    root = part.table(Recipe)
    for free in ("evaluators", "trackers"):
        root["properties"][free]["propertyNames"] = {"pattern": f"^{LABEL.pattern}$"}
    root["properties"] = {
        EXTENDS: {
            "type": "string",
            "description": "a recipe to build on: the name of a shipped one, or a file relative to "
            "this one",
        },
        **root["properties"],
    }
    return {
        "$schema": DRAFT,
        "title": "mdmkit recipe",
        **root,
        "if": {"not": {"required": [EXTENDS]}},
        "then": whole.reference("recipe", Recipe, lambda: whole.table(Recipe)),
        "$defs": dict(sorted(part.definitions.items())),
    }


@frozen(kw_only=True)
class _Writer:
    """Writes the schemas of types, those of tables once each, as definitions.

    Attributes:
        choices: what ``use`` may name, by type.
        whole: whether required keys are required.
        definitions: what was written so far.
    """

    choices: Mapping[Any, Choice]
    whole: bool
    definitions: dict[str, Schema] = Factory(dict)
    _names: dict[tuple[str, Any], str] = Factory(dict)

    def reference(self, name: str, what: Any, write: Callable[[], Schema]) -> Schema:
        """A reference to the definition of `what`, which is written where it is not yet."""
        if (name, what) not in self._names:
            safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name if self.whole else f"{name}.part")
            while safe in self.definitions:
                safe += "_"
            self._names[name, what] = safe
            self.definitions[safe] = {}  # a component may contain itself
            self.definitions[safe] |= write()
        return {"$ref": f"#/$defs/{self._names[name, what]}"}

    # -- tables

    def table(self, cls: type, use: str | None = None) -> Schema:
        """An attrs class, with the name by which it was chosen."""
        options = fields(cls)
        properties = {} if use is None else {USE: {"const": use, "description": _about(cls)}}
        properties |= {name: self.field(field) for name, field in options.items()}
        schema: Schema = {"type": "object", "description": _about(cls), "properties": properties}
        required = [name for name, field in options.items() if self._required(field)]
        if self.whole and required:
            schema["required"] = required
        return {**schema, "additionalProperties": False}

    def _required(self, field: attrs.Attribute[Any]) -> bool:
        """Whether a recipe must say the key; a default component may itself have such keys."""
        if DEFAULT_USE not in field.metadata:
            return field.default is attrs.NOTHING
        cls = self.choices[field.type].classes.get(field.metadata[DEFAULT_USE])
        return cls is not None and any(
            inside.default is attrs.NOTHING and DEFAULT_USE not in inside.metadata
            for inside in fields(cls).values()
        )

    def field(self, field: attrs.Attribute[Any]) -> Schema:
        """The value of a key, with its bounds, meaning and default."""
        if DEFAULT_USE in field.metadata:
            schema = self.choice(field.type, field.metadata[DEFAULT_USE])
        else:
            schema = self.value(field.type)
        bounds = field.metadata.get(METADATA_KEY, Bounds())
        limits = {word: getattr(bounds, name) for name, word in _LIMITS.items()}
        schema = {**schema, **{word: bound for word, bound in limits.items() if bound is not None}}
        if bounds.doc:
            schema["description"] = bounds.doc
        default = _plain_default(field)
        return schema if default is None else {**schema, "default": default}

    def choice(self, annotation: Any, default: str | None = None) -> Schema:
        """A table with ``use``, which may be left out where there is a default."""
        choice = self.choices[annotation]
        kind = choice.kind.replace(" ", "_")
        chosen = self.reference(kind, annotation, lambda: self._components(kind, choice))
        if default is None or default not in choice.classes or not self.whole:
            return chosen
        unsaid = {"not": {"required": [USE]}}
        return {"oneOf": [chosen, {"allOf": [self._component(kind, choice, default), unsaid]}]}

    def _components(self, kind: str, choice: Choice) -> Schema:
        """Any component of a kind, by ``use``."""
        schema: Schema = {
            "type": "object",
            "properties": {USE: {"enum": sorted(choice.classes), "description": choice.kind}},
        }
        tables = [self._component(kind, choice, name) for name in choice.classes]
        if not self.whole:
            return {**schema, "anyOf": tables} if tables else schema
        schema["required"] = [USE]
        return {**schema, "oneOf": tables} if tables else schema

    def _component(self, kind: str, choice: Choice, name: str) -> Schema:
        cls = choice.classes[name]
        return self.reference(f"{kind}.{name}", cls, lambda: self.table(cls, use=name))

    # -- values

    def value(self, annotation: Any) -> Schema:
        """A value of that type; one that is unknown may be anything."""
        if any(annotation is known for known in self.choices):
            return self.choice(annotation)
        if is_attrs(annotation):
            name = f"{annotation.__module__}.{annotation.__qualname__}"
            return self.reference(name, annotation, lambda: self.table(annotation))
        if is_union(annotation):
            kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
            alternatives = [self.value(kind) for kind in kinds]
            return alternatives[0] if len(kinds) == 1 else {"anyOf": alternatives}
        if is_literal(annotation):
            return {"enum": list(get_args(annotation))}
        if is_sequence(annotation):
            return self._array(annotation)
        if is_mapping(annotation):
            _, kind = get_args(annotation) or (str, Any)
            return {"type": "object", "additionalProperties": self.value(kind)}
        return dict(_SCALARS.get(annotation, {}))

    def _array(self, annotation: Any) -> Schema:
        arguments = get_args(annotation)
        if get_origin(annotation) is tuple and arguments[-1:] != (Ellipsis,):
            items = [self.value(kind) for kind in arguments]
            length = {"minItems": len(items), "maxItems": len(items)}
            return {"type": "array", "prefixItems": items, **length}
        (kind,) = element_types(annotation, 1)
        return {"type": "array", "items": self.value(kind)}


def _about(cls: type) -> str:
    return (inspect.getdoc(cls) or "").replace("``", "`")


def _plain_default(field: attrs.Attribute[Any]) -> Any:
    """The default of a key where it is a scalar or an array of scalars, else None."""
    value: Any = field.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]  # typed as a function
        value = None if value.takes_self else value.factory()
    if isinstance(value, Set):
        value = sorted(value)
    if isinstance(value, list | tuple):
        items = [_plain_scalar(item) for item in value]
        return None if None in items else items
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, bool | int | float | str) else None
