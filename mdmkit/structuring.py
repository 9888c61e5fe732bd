"""Plain data to typed objects and back: strict, and with every error of a file at once.

A cattrs converter decides by the type which rule applies; the rules are ours, because a recipe
coerces nothing and every error keeps its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import attrs
import cattrs
from attrs import frozen

from mdmkit.annotations import (
    SEQUENCES,
    element_types,
    fields,
    is_attrs,
    is_literal,
    is_mapping,
    is_sequence,
    is_union,
)
from mdmkit.choices import USE, Choice, all_choices
from mdmkit.options import DEFAULT_USE, METADATA_KEY
from mdmkit.plugins import Catalogue
from mdmkit.problems import Gather, Problem, StructureError, a, found, invalid
from mdmkit.scalars import SCALARS, WORDS
from mdmkit.suggest import did_you_mean


def make_converter(
    catalogue: Catalogue, extra_tables: Mapping[Any, tuple[str, Mapping[str, type]]] | None = None
) -> cattrs.Converter:
    """Make the converter of recipes.

    ``converter.structure(data, cls)`` raises `mdmkit.problems.StructureError` with every problem of
    the data. ``converter.unstructure(value, cls)`` gives plain data, with ``use`` keys, without
    what is unset (None), and such that ``structure(unstructure(x)) == x``.

    Args:
        catalogue: the components that ``use`` chooses from, wherever the type of a field *is*
            the protocol of a hook (identity decides: a structural match would also catch the
            component classes themselves).
        extra_tables: more types with ``use`` dispatch: type to (kind, classes by name).
    """
    choices = all_choices(catalogue, extra_tables or {})
    converter = cattrs.Converter()
    for scalar, structure_scalar in SCALARS.items():
        converter.register_structure_hook(scalar, structure_scalar)
    converter.register_unstructure_hook(Path, str)
    for accepts, structure, unstructure in _Rules(converter=converter, choices=choices).table():
        converter.register_structure_hook_func(accepts, structure)
        converter.register_unstructure_hook_factory(accepts, partial(_typed, unstructure))
    return converter


def _typed(unstructure: Callable[[Any, Any], Any], annotation: Any) -> Callable[[Any], Any]:
    return lambda value: unstructure(value, annotation)


# --- everything else -----------------------------------------------------------------------


@frozen(kw_only=True)
class _Rules:
    """How each kind of type is structured and unstructured."""

    converter: cattrs.Converter
    choices: Mapping[Any, Choice]

    def table(self) -> list[tuple[Callable[[Any], bool], Callable[..., Any], Callable[..., Any]]]:
        """(which types, structure, unstructure); later rows take precedence."""
        return [
            (is_literal, self.structure_literal, _as_it_is),
            (is_sequence, self.structure_sequence, self.unstructure_sequence),
            (is_mapping, self.structure_mapping, self.unstructure_mapping),
            (is_union, self.structure_union, self.unstructure_union),
            (is_attrs, self.structure_attrs, self.unstructure_attrs),
            (self.is_choice, self.structure_choice, self.unstructure_choice),
        ]

    # -- tables

    def is_choice(self, annotation: Any) -> bool:
        """Whether `annotation` is, by identity, a type with ``use`` dispatch."""
        return any(annotation is known for known in self.choices)

    def structure_choice(self, value: object, annotation: Any, default: str | None = None) -> Any:
        """The component that ``use`` names, or the default one."""
        table = _table(value)
        choice = self.choices[annotation]
        name = table.get(USE, default)
        if name is None:
            raise invalid(f"missing; expected the name of {a(choice.kind)}; {choice.known()}", USE)
        cls = choice.find(name)
        options = {key: entry for key, entry in table.items() if key != USE}
        return self.structure_attrs(options, cls, owner=f' for "{name}"')

    def unstructure_choice(self, value: Any, annotation: Any) -> dict[str, Any]:
        """``use`` and the options."""
        name = self.choices[annotation].name_of(type(value))
        return {USE: name, **self.unstructure_attrs(value, type(value))}

    def structure_attrs(self, value: object, cls: type, owner: str = "") -> Any:
        """An object of `cls`; all of its problems are found before any is raised."""
        table = _table(value)
        known = fields(cls)
        gather = Gather()
        for key in table:
            if key not in known:
                message = f"unknown key{owner}{did_you_mean(key, known, quote='')}"
                gather.problems.append(Problem(path=(key,), message=message))
        arguments = {}
        for name, field in known.items():
            if name in table or DEFAULT_USE in field.metadata:
                structure = partial(self._structure_field, table.get(name, {}), field)
                arguments[name] = gather.part(name, structure)
            elif field.default is attrs.NOTHING:
                gather.problems.append(self._missing(name, field.type))
        gather.finish()
        try:
            return cls(**arguments)
        except StructureError:
            raise
        except (ValueError, TypeError) as error:  # what attrs validators raise
            message = error.args[0] if error.args else type(error).__name__
            raise invalid(str(message), table=True) from error

    def _structure_field(self, value: object, field: attrs.Attribute[Any]) -> Any:
        if DEFAULT_USE in field.metadata:
            return self.structure_choice(value, field.type, field.metadata[DEFAULT_USE])
        result = self.converter.structure(value, field.type)  # type: ignore[arg-type]
        bounds = field.metadata.get(METADATA_KEY)
        problem = bounds.problem(value) if bounds is not None else None
        if problem is not None:
            raise invalid(problem)
        return result

    def _missing(self, name: str, annotation: Any) -> Problem:
        message = f"missing; expected {self._expected(annotation)}"
        table = is_attrs(annotation) or self.is_choice(annotation)
        return Problem(path=(name,), message=message, table=table)

    def unstructure_attrs(self, value: Any, cls: type) -> dict[str, Any]:
        """The options that are set, by name."""
        plain = {}
        for name, field in fields(cls).items():
            option = getattr(value, field.name)
            if option is not None:
                plain[name] = self.converter.unstructure(option, unstructure_as=field.type)
        return plain

    def structure_mapping(self, value: object, annotation: Any) -> dict[str, Any]:
        """A table with free names."""
        _, kind = get_args(annotation) or (str, Any)
        gather = Gather()
        result = {
            key: gather.part(key, partial(self.converter.structure, entry, kind))
            for key, entry in _table(value).items()
        }
        gather.finish()
        return result

    def unstructure_mapping(self, value: Mapping[str, Any], annotation: Any) -> dict[str, Any]:
        """A dict of plain data."""
        _, kind = get_args(annotation) or (str, Any)
        return {
            key: self.converter.unstructure(entry, unstructure_as=kind)
            for key, entry in value.items()
        }

    # -- arrays, unions, literals

    def structure_sequence(self, value: object, annotation: Any) -> Any:
        """A list, tuple or set, as the type says."""
        if not isinstance(value, list | tuple | Set):
            raise invalid(f"expected an array, got {found(value)}")
        kinds = element_types(annotation, len(value))
        if len(kinds) != len(value):
            raise invalid(f"expected an array of {len(kinds)} entries, got {len(value)}")
        gather = Gather()
        items = [
            gather.part(index, partial(self.converter.structure, item, kind))
            for index, (item, kind) in enumerate(zip(value, kinds, strict=True))
        ]
        gather.finish()
        return SEQUENCES[get_origin(annotation) or annotation](items)

    def unstructure_sequence(self, value: Any, annotation: Any) -> list[Any]:
        """A list; a set comes sorted, so that equal recipes give equal data."""
        items = sorted(value) if isinstance(value, Set) else value
        kinds = element_types(annotation, len(value))
        return [
            self.converter.unstructure(item, unstructure_as=kind)
            for item, kind in zip(items, kinds, strict=True)
        ]

    def structure_union(self, value: object, annotation: Any) -> Any:
        """The first alternative that takes the value as it is."""
        if value is None and NoneType in get_args(annotation):
            return None
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        if len(kinds) == 1:
            return self.converter.structure(value, kinds[0])
        for kind in kinds:
            gather = Gather()
            result = gather.part(0, partial(self.converter.structure, value, kind))
            if not gather.problems:
                return result
        raise invalid(f"expected {self._expected(annotation)}, got {found(value)}")

    def unstructure_union(self, value: Any, annotation: Any) -> Any:
        """Plain data by the first alternative that the value is one of."""
        kinds = (kind for kind in get_args(annotation) if self._is_one(value, kind))
        return self.converter.unstructure(value, unstructure_as=next(kinds, type(value)))

    def _is_one(self, value: object, kind: Any) -> bool:
        if self.is_choice(kind):
            return type(value) in self.choices[kind].classes.values()
        origin = get_origin(kind) or kind
        return isinstance(origin, type) and isinstance(value, origin)

    def structure_literal(self, value: object, annotation: Any) -> Any:
        """One of the listed values; True is not 1."""
        for allowed in get_args(annotation):
            if type(allowed) is type(value) and allowed == value:
                return value
        names = [word for word in get_args(annotation) if isinstance(word, str)]
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise invalid(f"expected {self._expected(annotation)}, got {found(value)}{hint}")

    def _expected(self, annotation: Any) -> str:
        """A type in words, for ``expected …``."""
        if self.is_choice(annotation):
            choice = self.choices[annotation]
            return f"a table whose {USE} names {a(choice.kind)}; {choice.known()}"
        if is_union(annotation):
            kinds = (kind for kind in get_args(annotation) if kind is not NoneType)
            return " or ".join(self._expected(kind) for kind in kinds)
        if is_literal(annotation):
            return " or ".join(json.dumps(value) for value in get_args(annotation))
        if is_sequence(annotation):
            return "an array"
        if is_mapping(annotation) or is_attrs(annotation):
            return "a table"
        return WORDS.get(annotation, "a value")


def _as_it_is(value: Any, _: Any) -> Any:
    return value


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid(f"expected a table, got {found(value)}")
    return value
