"""The pictures of ``mdmkit analyze``, drawn from their plain JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from mdmkit.report.page.markup import Content, Markup, joined, missing, tag
from mdmkit.report.page.measurements import measurement_table
from mdmkit.report.page.plots import (
    Heat,
    Plot,
    Series,
    View,
    finite,
    plain_name,
    side_by_side,
)
from mdmkit.report.page.reading import ReportedRun, Tell

_OVERLAID = 8
"""Lines that are still told apart in one figure."""
OUTCOME = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What a file that is not what was expected leads to."""


@frozen(kw_only=True)
class Drawn:
    """A picture of a run at some steps, ready to be drawn."""

    run: ReportedRun
    axes: Mapping[str, str]
    log_x: bool
    log_y: bool
    note: str
    title: str
    views: Sequence[View]


def analyses(runs: Sequence[ReportedRun], tell: Tell) -> Markup:
    """Every analysis that any of the runs has."""
    labels = list(dict.fromkeys(label for run in runs for label in run.analyses))
    if not labels:
        what = "No run has been analysed yet."
        return missing(what, f"mdmkit analyze {runs[0].directory.name}")
    return joined(*(part for label in labels for part in _analysis(label, runs, tell)))


def _analysis(label: str, runs: Sequence[ReportedRun], tell: Tell) -> Iterator[Markup]:
    yield tag("h3", label.replace("_", " ").capitalize(), id=plain_name("analysis", label))
    of_runs: dict[int, Mapping[str, Any]] = {}
    found: dict[str, list[Drawn]] = {}
    for run in runs:
        if label not in run.analyses:
            continue
        try:
            last, drawn = _of_run(run, run.analyses[label])
        except OUTCOME as error:
            tell(
                f"{run.directory / 'analysis' / label}.json: is not what mdmkit analyze writes "
                f"({type(error).__name__}: {error}); the report goes on without it"
            )
            continue
        of_runs[run.number] = last
        for key, picture in drawn.items():
            found.setdefault(key, []).append(picture)
    if any(of_runs.values()):
        yield measurement_table(
            [run for run in runs if run.number in of_runs],
            list(of_runs.values()),
            caption=f"{label}: numbers",
        )
    for key, pictures in found.items():
        yield _together(plain_name("analysis", label, key), pictures)


def _of_run(
    run: ReportedRun, plain: Mapping[str, Any]
) -> tuple[Mapping[str, Any], dict[str, Drawn]]:
    """The numbers of the last step, and all pictures by name."""
    steps = sorted(plain["steps"], key=int)
    by_key: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for step in steps:
        for key, picture in plain["steps"][step].get("pictures", {}).items():
            by_key.setdefault(key, []).append((f"step {int(step):,}", picture))
    for key, picture in (plain.get("over_training") or {}).items():
        by_key.setdefault(f"{key}-over-training", []).append(("", picture))
    last = plain["steps"][steps[-1]].get("measurements", {}) if steps else {}
    return last, {key: _drawn(run, pictures) for key, pictures in by_key.items()}


def _drawn(run: ReportedRun, pictures: Sequence[tuple[str, Mapping[str, Any]]]) -> Drawn:
    last = pictures[-1][1]
    return Drawn(
        run=run,
        title=str(last["title"]),
        axes={"x": str(last["x_label"])},
        note=str(last.get("note") or ""),
        log_x=bool(last.get("log_x")),
        log_y=bool(last.get("log_y")),
        views=[_view(label, picture) for label, picture in pictures],
    )


def _view(label: str, picture: Mapping[str, Any]) -> View:
    """A `Picture` or a `HeatMap` as plain data."""
    y_label = str(picture["y_label"])
    if "lines" in picture:
        lines = [_line(line, number) for number, line in enumerate(picture["lines"])]
        return View(label=label, y_label=y_label, series=lines)
    columns, rows = ([str(one) for one in picture[name]] for name in ("columns", "rows"))
    values = [[finite(value) for value in row] for row in picture["values"]]
    errors = picture.get("stderr")
    heat = Heat(
        columns=columns,
        rows=rows,
        values=values,
        stderr=errors and [[finite(value) for value in row] for row in errors],
    )
    if [len(row) for row in values] != [len(columns)] * len(rows):
        raise ValueError("the values of a heat map are not its rows by its columns")
    value_label = str(picture["value_label"])
    return View(label=label, y_label=y_label, heat=heat, value_label=value_label)


def _line(line: Mapping[str, Any], number: int) -> Series:
    x, y = ([finite(value) for value in line[name]] for name in ("x", "y"))
    errors = line.get("stderr")
    stderr = errors and [finite(value) for value in errors]
    if len(x) != len(y) or (stderr and len(stderr) != len(y)):
        raise ValueError("the x, y and stderr of a line are not equally long")
    return Series(
        name=str(line["name"]),
        x={"x": x},
        y=y,
        stderr=stderr or None,
        colour=number,
        dash=number // 7,
        known=bool(line.get("known")),
    )


def _together(name: str, pictures: Sequence[Drawn]) -> Markup:
    """One figure of all runs, where they can be told apart in it; else one for each."""
    if len(pictures) == 1:
        return _plot(name, pictures[0], pictures[0].title).html()
    if _overlays(pictures):
        return _plot(name, _overlaid(pictures), pictures[0].title).html()
    pictures = _same_colours(pictures)
    plots = [
        evolve(_plot(f"{name}-{one.run.number}", one, f"{one.title}: {one.run.label}"))
        for one in pictures
    ]
    return side_by_side(plots)


def _plot(name: str, drawn: Drawn, title: str) -> Plot:
    return Plot(
        name=name,
        title=title,
        axes=drawn.axes,
        views=drawn.views,
        note=drawn.note,
        chosen_by="After",
        slider=True,
        log_x=drawn.log_x,
        log_y=drawn.log_y,
        level=4,
    )


def _overlays(pictures: Sequence[Drawn]) -> bool:
    first = pictures[0]
    return all(
        (one.axes, one.log_x, one.log_y, [view.label for view in one.views])
        == (first.axes, first.log_x, first.log_y, [view.label for view in first.views])
        and all(view.heat is None for view in one.views)
        for one in pictures
    ) and all(
        sum(len(one.views[n].series) for one in pictures) <= _OVERLAID
        for n in range(len(first.views))
    )


def _overlaid(pictures: Sequence[Drawn]) -> Drawn:
    """All runs in one: the colour is the run's, the dash the line's, and what is known is once."""
    views = []
    for number, view in enumerate(pictures[0].views):
        lines: list[Series] = []
        for one in pictures:
            many = sum(not line.known for line in one.views[number].series) > 1
            for place, line in enumerate(one.views[number].series):
                if line.known and any(_same(line, other) for other in lines):
                    continue
                label = f"{one.run.label}: {line.name}" if many or line.known else one.run.label
                same = line.known and all(
                    any(_same(line, other) for other in another.views[number].series)
                    for another in pictures
                )
                lines.append(
                    evolve(
                        line,
                        name=line.name if same else label,
                        colour=one.run.number,
                        dash=place,
                    )
                )
        views.append(evolve(view, series=lines))
    return evolve(pictures[0], views=views)


def _same(one: Series, other: Series) -> bool:
    return other.known and (one.x, one.y) == (other.x, other.y)


def _same_colours(pictures: Sequence[Drawn]) -> list[Drawn]:
    """Heat maps of one picture share their range of colours."""
    every = [
        value
        for one in pictures
        for view in one.views
        if view.heat is not None
        for row in view.heat.values
        for value in row
        if value is not None
    ]
    if not every:
        return list(pictures)
    low, high = min(every), max(every)
    return [
        evolve(
            one,
            views=[
                view
                if view.heat is None
                else evolve(view, heat=evolve(view.heat, lowest=low, highest=high))
                for view in one.views
            ],
        )
        for one in pictures
    ]


Parts = Sequence[Content]
