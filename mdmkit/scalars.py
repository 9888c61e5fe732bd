"""Scalars of a recipe: nothing is coerced but an integer to a number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mdmkit.problems import found, invalid

WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Path: "a string",
}

_LOOSE_NUMBER = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")  # .5 or 5., which TOML refuses


def _exactly(kind: type, value: object, _: Any = None) -> Any:
    if type(value) is not kind:
        raise invalid(f"expected {WORDS[kind]}, got {found(value)}")
    return value


def _int(value: object, _: Any) -> int:
    number: int = _exactly(int, value)
    if not -(1 << 63) <= number < 1 << 63:
        raise invalid("expected an integer, got one that takes more than 64 bits")
    return number


def _float(value: object, _: Any) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise invalid("expected a number, got an integer too large for one") from None
    if isinstance(value, str) and _LOOSE_NUMBER.fullmatch(value):
        raise invalid(
            f"expected a number, got {found(value)}; TOML wants digits on both sides of the point"
        )
    number: float = _exactly(float, value)
    if not math.isfinite(number):
        raise invalid(f"expected a finite number, got {found(number)}")
    return number


def _path(value: object, _: Any) -> Path:
    return value if isinstance(value, Path) else Path(_exactly(str, value))


SCALARS: dict[type, Callable[[Any, Any], Any]] = {
    **{kind: partial(_exactly, kind) for kind in (bool, str)},
    int: _int,
    float: _float,
    Path: _path,
}
