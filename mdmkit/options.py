"""`option`: an attrs field with a range, the way every component declares its options.

The bounds are kept in the field's metadata, where the recipe loader reads them (it then names
file, table and key), and are also checked when the class is called from Python.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
from attrs import NOTHING, Attribute

METADATA_KEY = "mdmkit.bounds"
DEFAULT_USE = "mdmkit.default_use"


@attrs.frozen(kw_only=True)
class Bounds:
    """The values an option may take; an unset bound does not bind. ``doc`` says what it means."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    doc: str = ""

    def problem(self, value: object) -> str | None:
        """Say what is wrong with `value`, or None. Anything but a number passes."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return f"expected a finite number, got {value}"
        inside = (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )
        return None if inside else f"expected {self.describe()}, got {value}"

    def describe(self) -> str:
        """The bounds in words, such as ``a value > 0 and <= 1``."""
        signs = ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
        return "a value " + " and ".join(f"{s} {b:g}" for s, b in signs if b is not None)


def _validate(instance: object, attribute: Attribute[Any], value: object) -> None:
    problem = attribute.metadata[METADATA_KEY].problem(value)
    if problem is not None:
        raise ValueError(f"{type(instance).__name__}.{attribute.name}: {problem}")


def option(
    default: Any = NOTHING,
    *,
    factory: Any = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    doc: str = "",
) -> Any:
    """Declare an option of a component: an attrs field with bounds and a one-line meaning.

    Args:
        default: the value where a recipe says nothing; without one the option is required.
        factory: called without arguments for the default of a mutable value.
        ge, gt, le, lt: inclusive and exclusive bounds; numbers must also be finite.
        doc: what the option means, with its unit.

    Returns:
        An attrs field, to be used in a frozen, keyword-only attrs class.

    >>> import attrs
    >>> @attrs.frozen(kw_only=True)
    ... class Bell:
    ...     width: float = option(0.2, gt=0, doc="standard deviation in t")
    >>> Bell(width=0.0)
    Traceback (most recent call last):
    ValueError: Bell.width: expected a value > 0, got 0.0
    """
    metadata = {METADATA_KEY: Bounds(ge=ge, gt=gt, le=le, lt=lt, doc=doc)}
    if factory is not None:
        return attrs.field(factory=factory, validator=_validate, metadata=metadata)
    return attrs.field(default=default, validator=_validate, metadata=metadata)


def component(default: str, *, doc: str = "") -> Any:
    """Declare a field that holds another component, with the one a recipe gets if it says none.

    The field's type is the protocol of a hook (``start: protocols.TimeSampler``); a recipe fills
    it with a sub-table that has ``use``. A field that must always be chosen needs no
    `component`: its type alone makes it one.

    Args:
        default: the name that ``use`` has where the recipe leaves it out. It is looked up when a
            recipe is read; from Python the field is required.
        doc: what the component is for.

    Returns:
        An attrs field, to be used in a frozen, keyword-only attrs class.
    """
    return attrs.field(metadata={DEFAULT_USE: default, METADATA_KEY: Bounds(doc=doc)})
