"""The data of figures: lines and heat maps, with no more points than can be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

MOST_POINTS = 600
"""Of a line; of a longer one, every so many are drawn."""
MOST_CELLS = 200
"""Of a heat map in either direction; likewise."""
LARGEST_NUMBER = 1e300
"""What is larger has no place on an axis."""
Numbers = Sequence[float | None]


@frozen(kw_only=True)
class Series:
    """A line.

    Attributes:
        name: in the legend.
        x: by axis; an axis may be missing.
        y: as long as each x; None where there is nothing.
        stderr: the same of y; None for an exact line.
        colour, dash: numbers, by which lines are told apart.
        known: a closed form, or another reference.
    """

    name: str
    x: Mapping[str, Numbers]
    y: Numbers
    stderr: Numbers | None = None
    colour: int = 0
    dash: int = 0
    known: bool = False


@frozen(kw_only=True)
class Heat:
    """A heat map: ``values[row][column]``."""

    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Numbers]
    stderr: Sequence[Numbers] | None = None
    lowest: float | None = None
    highest: float | None = None


@frozen(kw_only=True)
class View:
    """One state of a figure.

    Attributes:
        label: of the choice that leads to it.
        y_label: of the vertical axis; of a heat map, that of its rows.
        series: lines, or none.
        heat: or else a heat map.
        value_label: what the colours of the heat map are.
        low, high: of the vertical axis at first; None for what the lines need.
    """

    label: str
    y_label: str
    series: Sequence[Series] = ()
    heat: Heat | None = None
    value_label: str = ""
    low: float | None = None
    high: float | None = None


def thinned(size: int, most: int = MOST_POINTS) -> range | list[int]:
    """Which of `size` points are drawn: evenly spaced ones with both ends.

    >>> thinned(5, 3)
    [0, 2, 4]
    """
    if size <= most:
        return range(size)
    return sorted({round(i * (size - 1) / (most - 1)) for i in range(most)})


def thinned_view(view: View) -> View:
    """The view with no more points than can be told apart."""
    heat = None if view.heat is None else thinned_heat(view.heat)
    series = [_thinned_line(line) for line in view.series]
    same = all(line is drawn for line, drawn in zip(view.series, series, strict=True))
    return view if same and heat is view.heat else evolve(view, series=series, heat=heat)


def _thinned_line(line: Series) -> Series:
    places = thinned(len(line.y))
    if len(places) == len(line.y):
        return line
    return evolve(
        line,
        x={axis: [x[place] for place in places] for axis, x in line.x.items()},
        y=[line.y[place] for place in places],
        stderr=None if line.stderr is None else [line.stderr[place] for place in places],
    )


def thinned_heat(heat: Heat) -> Heat:
    """The heat map with no more rows and columns than can be told apart."""
    down, across = (thinned(len(names), MOST_CELLS) for names in (heat.rows, heat.columns))
    if (len(down), len(across)) == (len(heat.rows), len(heat.columns)):
        return heat

    def cells(table: Sequence[Numbers]) -> list[list[float | None]]:
        return [[table[row][column] for column in across] for row in down]

    return evolve(
        heat,
        columns=[heat.columns[place] for place in across],
        rows=[heat.rows[place] for place in down],
        values=cells(heat.values),
        stderr=None if heat.stderr is None else cells(heat.stderr),
    )


def finite(value: object) -> float | None:
    """A number that can be drawn, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST_NUMBER and math.isfinite(value) else None
