"""A function put to every tensor in a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from attrs import AttrsInstance, fields, has

if TYPE_CHECKING:
    from torch import Tensor

V = TypeVar("V", bound=AttrsInstance)


def mapped(value: V, function: Callable[[Tensor], Tensor]) -> V:
    """`value` with every tensor in it, and in the values in it, put through `function`."""
    parts: dict[str, Any] = {}
    for field in fields(type(value)):
        part = getattr(value, field.name)
        if hasattr(part, "pin_memory"):
            parts[field.name] = function(part)
        elif has(type(part)):
            parts[field.name] = mapped(part, function)
    return attrs.evolve(value, **parts)  # type: ignore[misc]  # V is one of attrs
