"""The contract of every options class: what a recipe can set, and how."""

from __future__ import annotations

import collections.abc
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from mdmkit.contracts import HOOKS
from mdmkit.plugins import Catalogue
from mdmkit.problems import StructureError
from mdmkit.structuring import make_converter
from mdmkit.testing.errors import Contract

SCALARS = (bool, int, float, str, Path, types.NoneType)
_CONTAINERS = (
    *(tuple, list, set, frozenset, collections.abc.Sequence),
    *(dict, collections.abc.Mapping, collections.abc.MutableMapping),
    *(Union, types.UnionType),
)
_PROTOCOLS = tuple(point.protocol for point in HOOKS.values())


def check_options(cls: type) -> None:
    """Check that a class can stand behind ``use``: frozen, keyword-only, typed, documented.

    Args:
        cls: the class that a hook returns.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("options", cls)
    contract.require(attrs.has(cls), "options are an attrs class", "a class without attrs fields")
    contract.require(
        _is_frozen(cls), "options are frozen (@attrs.frozen)", "an attribute can be set"
    )
    doc = vars(cls).get("__doc__") or ""
    contract.require(doc.strip(), "the class has a docstring", "none")
    _check_types(contract, cls)
    for field in attrs.fields(cls):
        _check_field(contract, field)
    required = [f.name for f in attrs.fields(cls) if f.init and f.default is attrs.NOTHING]
    if not required:
        _check_defaults(contract, cls)


def _check_types(contract: Contract, cls: type) -> None:
    clause = "the types of options are known at run time"
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        contract.require(False, clause, f"{error} (an import under `if TYPE_CHECKING`?)")


def _check_field(contract: Contract, field: Any) -> None:
    name = field.name
    if not field.init:
        return
    contract.require(field.kw_only, "options are keyword-only", f"{name} is positional")
    contract.require(
        "use" not in (name, field.alias),
        "the key `use` is no option: it chooses the component",
        f"a field {name}",
    )
    contract.require(
        _is_plain(field.type),
        "an option has a type that a recipe can hold: bool, int, float, str, Path, None, Literal, "
        "sequences and mappings of these, attrs classes, or components",
        lambda: f"{name}: {field.type!r}",
    )


def _check_defaults(contract: Contract, cls: type) -> None:
    try:
        first, second = cls(), cls()
    except (TypeError, ValueError) as error:
        contract.require(False, "the defaults are allowed values", repr(error))
        return
    contract.require(first == second, "equal options are equal", f"{first} != {second}")
    if any(field.type in _PROTOCOLS for field in attrs.fields(cls)):
        return  # only a catalogue of components knows how to write those
    converter = make_converter(Catalogue(components=()))
    clause = "options survive being written to a recipe and read back"
    again: object = None
    try:
        again = converter.structure(converter.unstructure(first, cls), cls)
    except StructureError as error:
        contract.require(False, clause, str(error))
    contract.require(again == first, clause, f"{first} came back as {again}")


def _is_frozen(cls: type) -> bool:
    """Whether setting an attribute is refused, found out by trying (attrs has no question)."""
    try:
        setattr(object.__new__(cls), "use", None)  # noqa: B010 - no class has such a field
    except attrs.exceptions.FrozenInstanceError:
        return True
    except (AttributeError, TypeError):
        return False
    return False


def _is_plain(kind: Any) -> bool:
    """Whether a value of this type can be written in a recipe and read back."""
    if kind is Ellipsis or kind in SCALARS or get_origin(kind) is Literal:
        return True
    if kind in _PROTOCOLS:
        return True
    if isinstance(kind, type) and get_origin(kind) is None:
        return attrs.has(kind)
    return get_origin(kind) in _CONTAINERS and all(map(_is_plain, get_args(kind)))
