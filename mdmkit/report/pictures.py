"""Pictures of evaluators on a console and, by matplotlib, as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from mdmkit.errors import MdmkitError
from mdmkit.files import explained, write_atomic
from mdmkit.report.figure_style import COLOURS, colour, file_of, styled
from mdmkit.report.tables import columns, printable
from mdmkit.values import HeatMap, Line, Picture

Drawn = Picture | HeatMap
_POINTS = 8
"""So many points of a line are printed."""

DASHES = ("-", "-.", ":")
"""Of measured lines beyond seven."""
KNOWN = ((6, 3), (1.5, 2), (8, 2, 1.5, 2), (12, 4), (8, 2, 1.5, 2, 1.5, 2))
"""The dashes of what is known; the shades of grey repeat at another number."""
GREYS = ("0.25", "0.6", "0.45")


def print_picture(console: Console, name: str, picture: Drawn) -> None:
    """Its title, its numbers (a few points of each line, or the whole table), and its note."""
    _say(console, Text(f"{name}: {picture.title}", "bold"))
    rows = _table(picture) if isinstance(picture, HeatMap) else _points(picture)
    for row in columns([[printable(cell) for cell in row] for row in rows]):
        _say(console, Text(f"  {row}"))
    if picture.note:
        console.print(Padding(Text(picture.note), (0, 0, 0, 2), expand=False))


def write_pictures(folder: Path, name: str, drawn: Mapping[str, Drawn]) -> Iterator[Path]:
    """Write each picture as ``<name>-<its name>.svg``, replacing what is there.

    Yields:
        The path of each file that has been written.

    Raises:
        MdmkitError: where matplotlib is not installed.
        CheckpointError: where a file cannot be written.
    """
    if find_spec("matplotlib") is None:
        raise MdmkitError("the pictures need matplotlib: pip install 'mdmkit[plot]'")
    for key, picture in drawn.items():
        content = figure(picture)
        path = folder / f"{name}-{key}.svg"
        with explained(path, "make room, or choose another place with --out"):
            write_atomic(path, content)
        yield path


def figure(picture: Drawn, kind: str = "svg") -> bytes:
    """The picture as a file, ``svg`` or ``png``: the same picture gives the same one."""
    from matplotlib.figure import Figure

    with styled():
        drawing = Figure(figsize=(6.5, 4.2))
        drawing.set_layout_engine("constrained")
        axes = drawing.subplots()
        if isinstance(picture, HeatMap):
            _draw_table(drawing, axes, picture)
        else:
            _draw_lines(axes, picture)
        axes.set_title(_plain(picture.title), fontsize=9, loc="left")
        return file_of(drawing, kind)


def _draw_lines(axes: Any, picture: Picture) -> None:
    for number, line in enumerate(line for line in picture.lines if not line.known):
        own = {
            "color": colour(number),
            "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        }
        axes.plot(line.x, line.y, lw=1.6, marker="o", ms=3, label=_plain(line.name), **own)
        if line.stderr is not None:
            low, high = _band(line, floor=picture.log_y)
            axes.fill_between(line.x, low, high, color=own["color"], alpha=0.2, lw=0)
    for number, line in enumerate(line for line in picture.lines if line.known):
        look = {"dashes": KNOWN[number % len(KNOWN)], "color": GREYS[number % len(GREYS)]}
        axes.plot(line.x, line.y, lw=1.2, label=_plain(line.name), **look)
    if picture.log_x:
        axes.set_xscale("log")
    if picture.log_y:
        axes.set_yscale("log")
    axes.set_xlabel(_plain(picture.x_label))
    axes.set_ylabel(_plain(picture.y_label))
    axes.grid(alpha=0.25, lw=0.6)
    if len(picture.lines) > 1:
        axes.legend(loc="best", fontsize=8, framealpha=0.9, edgecolor="none")


def _band(line: Line, *, floor: bool) -> tuple[list[float], list[float]]:
    """Two standard errors to both sides; above 0 for a logarithmic axis."""
    errors = line.stderr or (0.0,) * len(line.x)
    low = [y - 2 * e for y, e in zip(line.y, errors, strict=True)]
    high = [y + 2 * e for y, e in zip(line.y, errors, strict=True)]
    if floor:
        positive = [y for y in line.y if y > 0]
        least = min(positive, default=1e-12) / 10
        low = [max(value, least) for value in low]
        high = [max(value, least) for value in high]
    return low, high


def _draw_table(drawing: Any, axes: Any, picture: HeatMap) -> None:
    values = [[float("nan") if v is None else v for v in row] for row in picture.values]
    shown = axes.imshow(values, aspect="auto", cmap="cividis")
    axes.set_xticks(range(len(picture.columns)), [_plain(name) for name in picture.columns])
    axes.set_yticks(range(len(picture.rows)), [_plain(name) for name in picture.rows])
    axes.set_xlabel(_plain(picture.x_label))
    axes.set_ylabel(_plain(picture.y_label))
    known = [v for row in picture.values for v in row if v is not None]
    middle = (min(known) + max(known)) / 2
    if len(picture.columns) * len(picture.rows) <= 150:
        for y, row in enumerate(picture.values):
            for x, value in enumerate(row):
                if value is not None:
                    ink = "white" if value < middle else "black"
                    axes.text(x, y, f"{value:.2f}", ha="center", va="center", size=7, color=ink)
    drawing.colorbar(shown, ax=axes, label=_plain(picture.value_label))


def _points(picture: Picture) -> list[Sequence[str]]:
    """A few points of each line, the first and the last among them."""
    xs = sorted({x for line in picture.lines for x in line.x})
    picked = _some(xs)
    rows: list[Sequence[str]] = [[picture.x_label, *(f"{x:.4g}" for x in picked)]]
    for line in picture.lines:
        at = dict(zip(line.x, range(len(line.x)), strict=False))
        cells = ["" if x not in at else _number(line, at[x]) for x in picked]
        rows.append([f"{line.name}{' (known)' if line.known else ''}", *cells])
    return rows


def _some(xs: Sequence[float]) -> list[float]:
    if len(xs) <= _POINTS:
        return list(xs)
    return [xs[round(i * (len(xs) - 1) / (_POINTS - 1))] for i in range(_POINTS)]


def _number(line: Line, place: int) -> str:
    error = "" if line.stderr is None else f" ± {line.stderr[place]:.2g}"
    return f"{line.y[place]:.4g}{error}"


def _table(picture: HeatMap) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [[f"{picture.y_label} \\ {picture.x_label}", *picture.columns]]
    for number, name in enumerate(picture.rows):
        errors = picture.stderr[number] if picture.stderr else (None,) * len(picture.columns)
        cells = zip(picture.values[number], errors, strict=True)
        rows.append([name, *(_cell(value, error) for value, error in cells)])
    return rows


def _cell(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if error is None else f"{value:.3g} ± {error:.1g}"


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _say(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True, highlight=False)
