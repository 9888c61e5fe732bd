"""Pictures of evaluators as figures of the page, those of several runs together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, frozen

from mdmkit.report.page.figure_data import Heat, Series, View
from mdmkit.report.page.markup import Markup
from mdmkit.report.page.plots import Plot, side_by_side
from mdmkit.report.page.reading import ReportedRun
from mdmkit.values import HeatMap, Line, Picture

_OVERLAID = 8
"""Lines that are still told apart in one figure."""


@frozen(kw_only=True)
class Drawn:
    """A picture of a run, ready to be drawn.

    Attributes:
        run: whose.
        last: the picture at the last step.
        views: of every step that has it.
    """

    run: ReportedRun
    last: Picture | HeatMap
    views: Sequence[View]


def drawn(run: ReportedRun, pictures: Mapping[str, Picture | HeatMap]) -> Drawn:
    """A picture at one step or more, by what each step is called."""
    views = [view_of(label, picture) for label, picture in pictures.items()]
    return Drawn(run=run, last=list(pictures.values())[-1], views=views)


def view_of(label: str, picture: Picture | HeatMap) -> View:
    """A picture as a state of a figure."""
    if isinstance(picture, Picture):
        lines = [_series(line, number) for number, line in enumerate(picture.lines)]
        return View(label=label, y_label=picture.y_label, series=lines)
    heat = Heat(
        columns=picture.columns, rows=picture.rows, values=picture.values, stderr=picture.stderr
    )
    return View(label=label, y_label=picture.y_label, heat=heat, value_label=picture.value_label)


def _series(line: Line, number: int) -> Series:
    return Series(
        name=line.name,
        x={"x": line.x},
        y=line.y,
        stderr=line.stderr,
        colour=number,
        dash=number // 7,
        known=line.known,
    )


def together(name: str, pictures: Sequence[Drawn], *, level: int) -> Markup:
    """One figure of all runs, where they can be told apart in it; else one for each.

    Args:
        name: of the figure; unique on the page.
        pictures: the same picture, of one run or more.
        level: of the headings.
    """
    if len(pictures) == 1:
        return _plot(name, pictures[0], level).html()
    if _fits_together(pictures):
        views = [_overlaid(pictures, number) for number in range(len(pictures[0].views))]
        return _plot(name, evolve(pictures[0], views=views), level).html()
    plots = [
        evolve(_plot(f"{name}-{one.run.number}", one, level), title=_titled(one))
        for one in _same_colours(pictures)
    ]
    return side_by_side(plots)


def _titled(one: Drawn) -> str:
    return f"{one.last.title}: {one.run.label}"


def _plot(name: str, one: Drawn, level: int) -> Plot:
    picture = one.last
    return Plot(
        name=name,
        title=picture.title,
        axes={"x": picture.x_label},
        views=one.views,
        note=picture.note,
        chosen_by="After",
        slider=True,
        log_x=isinstance(picture, Picture) and picture.log_x,
        log_y=isinstance(picture, Picture) and picture.log_y,
        level=level,
    )


def _fits_together(pictures: Sequence[Drawn]) -> bool:
    """Whether all have the same axes and steps, and few lines."""
    frames = [_frame(one) for one in pictures]
    return all(frame is not None and frame == frames[0] for frame in frames) and all(
        sum(len(one.views[number].series) for one in pictures) <= _OVERLAID
        for number in range(len(pictures[0].views))
    )


def _frame(one: Drawn) -> tuple[object, ...] | None:
    picture = one.last
    if not isinstance(picture, Picture):
        return None
    steps = tuple(view.label for view in one.views)
    return picture.x_label, picture.y_label, picture.log_x, picture.log_y, steps


def _overlaid(pictures: Sequence[Drawn], number: int) -> View:
    """A view of all runs: the colour is the run's, the dash the line's."""
    views = [one.views[number] for one in pictures]
    lines = [line for one, view in zip(pictures, views, strict=True) for line in _own(one, view)]
    shared = [line for line in views[0].series if all(_has(view, line) for view in views)]
    left = [line for line in lines if not any(_same(line, other) for other in shared)]
    return evolve(views[0], series=[*left, *shared])


def _own(one: Drawn, view: View) -> Iterator[Series]:
    """The lines of a run, under its name and in its colour."""
    alone = sum(not line.known for line in view.series) == 1
    for place, line in enumerate(view.series):
        only = alone and not line.known
        name = one.run.label if only else f"{one.run.label}: {line.name}"
        yield evolve(line, name=name, colour=one.run.number, dash=0 if only else place)


def _has(view: View, line: Series) -> bool:
    return any(_same(line, other) for other in view.series)


def _same(one: Series, other: Series) -> bool:
    """Whether two known lines are one."""
    return one.known and other.known and (one.x, one.y) == (other.x, other.y)


def _same_colours(pictures: Sequence[Drawn]) -> Iterator[Drawn]:
    """Heat maps of one picture, with one range of colours."""
    heats = [view.heat for one in pictures for view in one.views if view.heat is not None]
    known = [value for heat in heats for row in heat.values for value in row if value is not None]
    low, high = min(known, default=None), max(known, default=None)
    for one in pictures:
        views = [
            view
            if view.heat is None
            else evolve(view, heat=evolve(view.heat, lowest=low, highest=high))
            for view in one.views
        ]
        yield evolve(one, views=views)
