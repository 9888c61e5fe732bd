"""What a measurement looks like, where it is more than a few numbers: lines and heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from attrs import asdict, frozen


@frozen(kw_only=True)
class Line:
    """A line of a picture.

    Attributes:
        name: for the legend.
        x, y: the points, x rising or in the order in which they are joined.
        stderr: the standard error of each y, in its unit; None for what is known exactly.
        known: whether it is a closed form or another reference rather than a measurement.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    stderr: tuple[float, ...] | None = None
    known: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse points without a place, or without a value.

        Raises:
            ValueError: saying what is wrong.
        """
        if not self.x:
            raise ValueError(f'line "{self.name}": has no points')
        for what, numbers in (("y", self.y), ("stderr", self.stderr)):
            if numbers is not None and len(numbers) != len(self.x):
                raise ValueError(
                    f'line "{self.name}": {len(self.x)} x and {len(numbers)} {what}; expected as '
                    "many"
                )
        every = [*self.x, *self.y, *(self.stderr or ())]
        if not all(_is_number(number) for number in every):
            raise ValueError(f'line "{self.name}": has points that are no finite numbers')
        if self.stderr is not None and min(self.stderr) < 0:
            raise ValueError(f'line "{self.name}": has a standard error below 0')


@frozen(kw_only=True)
class Picture:
    """Lines over one pair of axes.

    Attributes:
        title: what is shown, in a few words.
        x_label, y_label: the axes, with their units.
        lines: at least one.
        log_x, log_y: logarithmic axes; what is not positive there is not shown.
        note: what is to be seen, and what it does not say.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False
    log_y: bool = False
    note: str = ""

    def __attrs_post_init__(self) -> None:
        """Refuse a picture of nothing.

        Raises:
            ValueError: where there is no line.
        """
        if not self.lines:
            raise ValueError(f'picture "{self.title}": has no lines')

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {"kind": "lines", **_plain(asdict(self))}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_json` made; ValueError, LookupError or TypeError where it is something else."""
        lines = tuple(
            Line(
                name=_text(line["name"]),
                x=tuple(line["x"]),
                y=tuple(line["y"]),
                stderr=None if line["stderr"] is None else tuple(line["stderr"]),
                known=_flag(line["known"]),
            )
            for line in plain["lines"]
        )
        return cls(
            title=_text(plain["title"]),
            x_label=_text(plain["x_label"]),
            y_label=_text(plain["y_label"]),
            lines=lines,
            log_x=_flag(plain["log_x"]),
            log_y=_flag(plain["log_y"]),
            note=_text(plain["note"]),
        )


@frozen(kw_only=True)
class HeatMap:
    """A table of numbers, shown by colour.

    Attributes:
        title: what is shown, in a few words.
        x_label, y_label: what columns and rows stand for, with units.
        value_label: what the numbers are, with their unit.
        columns, rows: their names, from left to right and from top to bottom.
        values: of each row; None where nothing was measured.
        stderr: the standard errors in the same places; None for numbers that are known exactly.
        note: what is to be seen, and what it does not say.
    """

    title: str
    x_label: str
    y_label: str
    value_label: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    stderr: tuple[tuple[float | None, ...], ...] | None = None
    note: str = ""

    def __attrs_post_init__(self) -> None:
        """Refuse a table with holes in it, or one of nothing.

        Raises:
            ValueError: saying what is wrong.
        """
        for what, table in (("values", self.values), ("stderr", self.stderr)):
            if table is None:
                continue
            if len(table) != len(self.rows) or any(len(row) != len(self.columns) for row in table):
                raise ValueError(
                    f'heat map "{self.title}": its {what} are not {len(self.rows)} rows of '
                    f"{len(self.columns)}"
                )
            if not all(number is None or _is_number(number) for row in table for number in row):
                raise ValueError(f'heat map "{self.title}": {what} that are no finite numbers')
        if all(number is None for row in self.values for number in row):
            raise ValueError(f'heat map "{self.title}": nothing was measured')

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {"kind": "heat_map", **_plain(asdict(self))}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_json` made; ValueError, LookupError or TypeError where it is something else."""
        stderr = plain["stderr"]
        return cls(
            title=_text(plain["title"]),
            x_label=_text(plain["x_label"]),
            y_label=_text(plain["y_label"]),
            value_label=_text(plain["value_label"]),
            columns=tuple(_text(name) for name in plain["columns"]),
            rows=tuple(_text(name) for name in plain["rows"]),
            values=tuple(tuple(row) for row in plain["values"]),
            stderr=None if stderr is None else tuple(tuple(row) for row in stderr),
            note=_text(plain["note"]),
        )


_KINDS: Mapping[str, type[Picture | HeatMap]] = {"lines": Picture, "heat_map": HeatMap}


def picture_from_json(plain: Mapping[str, Any]) -> Picture | HeatMap:
    """What ``to_json`` of either made; ValueError, LookupError or TypeError where it is neither."""
    return _KINDS[plain["kind"]].from_json(plain)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


def _plain(value: Any) -> Any:
    """Tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value
