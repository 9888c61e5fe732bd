"""A curve as text: dots of braille characters between axes, or plain ASCII."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from attrs import frozen

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille character, by column and row from the top (Unicode 16, section 21.1)."""
_BLANK = 0x2800
_LABEL = 9
"""Characters for the numbers at the left."""
_FIRST = 0.05
"""The share of the steps whose values need not fit."""
_ENOUGH = 3
"""Points that have to be left then."""
_LARGEST = 1e300
"""Sums and differences of a few such numbers are finite."""
_PER_BAR = 2
"""Columns."""
SMALLEST = (20, 4)
"""Width and height below which there is no room for a plot."""


@frozen(kw_only=True)
class Point:
    """A value at a step, with its standard error or 0."""

    step: int
    value: float
    stderr: float = 0.0


def plot_lines(
    points: Sequence[Point], *, width: int, height: int, ascii_only: bool = False
) -> list[str]:
    """The points as a curve with axes, joined by straight lines, an error as a vertical bar.

    There are bars where two columns or more come to a point: of many they would fill the plot.
    What the first steps have above everything later is cut off at the top.

    Args:
        points: by rising step; those that are not finite, or far from what a float can hold, or of
            a negative error, are left out.
        width, height: characters and lines of the whole plot, axes included.
        ascii_only: for terminals without braille characters.

    Returns:
        `height` lines of at most `width` characters; none where there is no room or no point.
    """
    points = [p for p in points if abs(p.value) < _LARGEST and 0 <= p.stderr < _LARGEST]
    if not points or width < SMALLEST[0] or height < SMALLEST[1]:
        return []
    columns, rows = width - _LABEL - 1, height - 2
    low, high = _range(points)
    canvas = _Canvas(columns, rows, ascii_only)
    first, last = points[0].step, points[-1].step
    points = list(_thinned(points, 2 * columns))

    def place(step: float, value: float) -> tuple[int, int]:
        x = (step - first) / (last - first) if last > first else 0.0
        return canvas.dot(x, min((value - low) / (high - low), 1.0))

    for point in points if len(points) <= columns // _PER_BAR else ():
        canvas.bar(*(place(point.step, point.value + sign * point.stderr) for sign in (-1, 1)))
    for before, after in pairwise([points[0], *points]):
        canvas.line(place(before.step, before.value), place(after.step, after.value))
    return _framed(canvas.lines(), (low, high), (first, last), ascii_only)


def _range(points: Sequence[Point]) -> tuple[float, float]:
    """From the lowest to the highest after the first steps, errors included; never of no height."""
    settled = [point for point in points if point.step > _FIRST * points[-1].step]
    settled = settled if len(settled) >= _ENOUGH else list(points)
    low = min(point.value - point.stderr for point in points)
    high = max(point.value + point.stderr for point in settled)
    if high - low > 1e-9 * max(abs(low), abs(high), 1e-300):
        return low, high
    room = abs(high) * 0.01 or 1.0
    return low - room, high + room


def _thinned(points: Sequence[Point], buckets: int) -> Iterator[Point]:
    """The points, or of many the lowest and the highest of each bucket, by step."""
    if len(points) <= 2 * buckets:
        yield from points
        return
    for i in range(buckets):
        some = points[i * len(points) // buckets : (i + 1) * len(points) // buckets]
        both = {min(some, key=lambda p: p.value), max(some, key=lambda p: p.value)}
        yield from sorted(both, key=lambda p: p.step)


def _framed(
    lines: list[str], values: tuple[float, float], steps: tuple[int, int], ascii_only: bool
) -> list[str]:
    """The canvas with numbers at its left and below."""
    side, corner, floor = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    labels = [""] * len(lines)
    span = values[1] - values[0]
    labels[0], labels[-1] = _number(values[1], span), _number(values[0], span)
    columns = len(lines[0])
    first, last = f"{steps[0]}", f"{steps[1]}" if steps[1] > steps[0] else ""
    gap = max(columns - len(first) - len(last), 1)
    framed = [f"{label:>{_LABEL}}{side}{line}" for label, line in zip(labels, lines, strict=True)]
    framed.append(" " * _LABEL + corner + floor * columns)
    framed.append((" " * (_LABEL + 1) + first + " " * gap + last)[: _LABEL + 1 + columns])
    return [line.rstrip() for line in framed]


def _number(value: float, span: float) -> str:
    """At most eight characters, and if they do, so many digits that `span` is to be seen.

    >>> _number(3.14159, 9.0), _number(-0.00001234, 9.0), _number(123456789.0, 9.0)
    ('3.142', '-1.2e-05', '1.2e+08')
    >>> _number(3.00004, 8e-5), _number(2.99996, 8e-5)
    ('3.00004', '2.99996')
    """
    lost = math.log10(max(abs(value), span) / span)
    text = f"{value:.{4 if lost < 2 else min(2 + math.ceil(lost), 17)}g}"
    return text if len(text) < _LABEL else f"{value:.1e}"


class _Canvas:
    """Cells of two by four dots, or of one character each."""

    def __init__(self, columns: int, rows: int, ascii_only: bool) -> None:
        self._columns, self._rows, self._ascii = columns, rows, ascii_only
        self._across, self._down = (1, 1) if ascii_only else (2, 4)
        self._curve: set[tuple[int, int]] = set()
        self._bars: set[tuple[int, int]] = set()

    def dot(self, x: float, y: float) -> tuple[int, int]:
        """The dot at a place of the unit square, y upwards."""
        across, down = self._columns * self._across - 1, self._rows * self._down - 1
        return round(x * across), round((1 - y) * down)

    def bar(self, low: tuple[int, int], high: tuple[int, int]) -> None:
        self._bars |= {(low[0], y) for y in range(high[1], low[1] + 1)}

    def line(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Dots from one to the other, without gaps."""
        count = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for i in range(count + 1):
            share = i / count
            x = round(start[0] + share * (end[0] - start[0]))
            self._curve.add((x, round(start[1] + share * (end[1] - start[1]))))

    def lines(self) -> list[str]:
        if self._ascii:
            return ["".join(map(self._letter, self._row(row))) for row in range(self._rows)]
        cells = [[0] * self._columns for _ in range(self._rows)]
        for x, y in self._curve | self._bars:
            cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
        return ["".join(chr(_BLANK + cell) if cell else " " for cell in row) for row in cells]

    def _row(self, row: int) -> list[tuple[int, int]]:
        return [(column, row) for column in range(self._columns)]

    def _letter(self, cell: tuple[int, int]) -> str:
        return "*" if cell in self._curve else "|" if cell in self._bars else " "
