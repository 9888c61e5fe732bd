"""What a type says of the values that it stands for: the kinds of type that an option may have."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs

SEQUENCES: dict[Any, Callable[[Any], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: tuple,
}
"""The types of arrays, and what makes one of a list."""

_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def fields(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """The options of an attrs class by the name that a recipe uses, their types resolved."""
    attrs.resolve_types(cls)
    return {field.alias or field.name: field for field in attrs.fields(cls) if field.init}


def element_types(annotation: Any, length: int) -> Sequence[Any]:
    """The type of each of `length` elements of a sequence."""
    arguments = get_args(annotation) or (Any,)
    fixed = get_origin(annotation) is tuple and arguments[-1] is not Ellipsis
    return arguments if fixed else [arguments[0]] * length


def is_attrs(annotation: Any) -> bool:
    """Whether it is an attrs class: a table."""
    return isinstance(annotation, type) and attrs.has(annotation)


def is_literal(annotation: Any) -> bool:
    """Whether it lists its values."""
    return get_origin(annotation) is Literal


def is_union(annotation: Any) -> bool:
    """Whether it has alternatives, None among them or not."""
    return get_origin(annotation) in (Union, UnionType)


def is_sequence(annotation: Any) -> bool:
    """Whether it is an array."""
    return (get_origin(annotation) or annotation) in SEQUENCES


def is_mapping(annotation: Any) -> bool:
    """Whether it is a table of free names."""
    return (get_origin(annotation) or annotation) in _MAPPINGS
