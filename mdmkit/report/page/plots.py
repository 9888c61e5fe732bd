"""Figures as data for the page's script, each with words and a table that say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import asdict, evolve, field, frozen

from mdmkit.report.numbers import with_error
from mdmkit.report.page.figure_data import (
    MOST_CELLS,
    MOST_POINTS,
    Heat,
    Series,
    View,
    thinned,
    thinned_heat,
    thinned_view,
)
from mdmkit.report.page.markup import Content, Markup, data, details, joined, paragraph, table, tag
from mdmkit.values import Measurement

MOST_ROWS = 40
"""Of a table of numbers."""
MOST_TABLES = 16
_FEWER = (
    f"Of more than {MOST_POINTS} points of a line, or {MOST_CELLS} rows or columns of a heat map, "
    "evenly spaced ones are drawn."
)


@frozen(kw_only=True)
class Plot:
    """A figure.

    Attributes:
        name: unique on the page, of letters, digits and dashes.
        title: the heading.
        note: what is to be seen.
        axes: the words of each horizontal axis, by its key.
        views: one or more.
        chosen_by: what the choice between views is called.
        slider: whether that is a slider, and not a list.
        log_x, log_y: at first.
        scales: whether the axes can be made logarithmic.
        level: of the heading.
    """

    name: str
    title: str
    axes: Mapping[str, str]
    views: Sequence[View]
    note: str = ""
    chosen_by: str = ""
    slider: bool = False
    log_x: bool = False
    log_y: bool = False
    scales: bool = True
    level: int = 3
    first: int = field()

    @first.default
    def _first(self) -> int:
        return len(self.views) - 1 if self.slider else 0

    def html(self) -> Markup:
        """The figure with its controls, its data and its numbers."""
        heading = f"{self.name}-title"
        views = [thinned_view(view) for view in self.views]
        plain = asdict(evolve(self, views=views))
        alt = alternative(self)
        return tag(
            "figure",
            tag("figcaption", tag(f"h{self.level}", self.title, id=heading)),
            tag("div", *_controls(self), class_="controls live drawn"),
            tag("ul", class_="legend live drawn", aria_label="Lines shown"),
            tag("div", class_="plot live drawn", id=self.name, role="img", aria_label=alt),
            paragraph(self.note, class_="note") if self.note else None,
            paragraph(_FEWER, class_="note") if views != list(self.views) else None,
            details("The numbers", *_tables(self), class_="numbers"),
            data(plain, class_="figure-data"),
            aria_labelledby=heading,
        )


def number_text(value: float | None, stderr: float | None = None) -> str:
    """A number of a table.

    >>> number_text(3.14159), number_text(3.14159, 0.01), number_text(None), number_text(2000)
    ('3.142', '3.142 ± 0.010', '-', '2000')
    """
    if value is None:
        return "-"
    if stderr:
        return with_error(Measurement(value=value, stderr=stderr))
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def alternative(plot: Plot) -> str:
    """What a figure shows, in words, for those who do not see it."""
    view = plot.views[plot.first]
    if view.heat is not None:
        known = [v for row in view.heat.values for v in row if v is not None]
        reach = f" from {min(known):.4g} to {max(known):.4g}" if known else ", nothing measured"
        across = next(iter(plot.axes.values()))
        return (
            f"Heat map, {plot.title}: {view.value_label}{reach}, by {across} (across, "
            f"{len(view.heat.columns)}) and {view.y_label} (down, {len(view.heat.rows)})."
        )
    axis, across = next(iter(plot.axes.items()))
    lines = "; ".join(_line_in_words(one, axis) for one in view.series) or "no lines"
    choice = f" {len(plot.views)} views by {plot.chosen_by}." if len(plot.views) > 1 else ""
    return f"Line chart, {plot.title}: {view.y_label} by {across}. {lines}.{choice}"


def _line_in_words(line: Series, axis: str) -> str:
    points = [
        (x, y)
        for x, y in zip(line.x.get(axis, ()), line.y, strict=False)
        if x is not None and y is not None
    ]
    if not points:
        return f"{line.name}: no points"
    (x0, y0), (x1, y1) = points[0], points[-1]
    low = min(y for _, y in points)
    return f"{line.name}: {y0:.4g} at {x0:.4g}, {y1:.4g} at {x1:.4g}, lowest {low:.4g}"


def _controls(plot: Plot) -> Iterator[Markup]:
    if len(plot.views) > 1 and plot.slider:
        yield _slider(plot)
    elif len(plot.views) > 1:
        yield _list(plot, plot.chosen_by, "view", [view.label for view in plot.views])
    if len(plot.axes) > 1:
        yield _list(plot, "Horizontal axis", "axis", list(plot.axes.values()), list(plot.axes))
    if plot.scales and plot.views[0].heat is None:
        for which, words, on in (
            ("x", "Log horizontal", plot.log_x),
            ("y", "Log vertical", plot.log_y),
        ):
            box = tag("input", type="checkbox", data_control=f"log-{which}", checked=on)
            yield tag("label", box, words, class_="check")
    if plot.views[0].heat is None:
        yield tag("button", "Reset view", type="button", data_control="reset")


def _list(
    plot: Plot, words: str, control: str, labels: Sequence[str], values: Sequence[str] | None = None
) -> Markup:
    own = f"{plot.name}-{control}"
    keys = values or [str(number) for number in range(len(labels))]
    options = [tag("option", label, value=key) for key, label in zip(keys, labels, strict=True)]
    return tag(
        "span",
        tag("label", words, for_=own),
        tag("select", *options, id=own, data_control=control, autocomplete="off"),
        class_="choice",
    )


def _slider(plot: Plot) -> Markup:
    own = f"{plot.name}-view"
    last, shown = len(plot.views) - 1, plot.views[plot.first].label
    bar = tag(
        "input", type="range", id=own, min=0, max=last, step=1, value=plot.first,
        data_control="view", aria_valuetext=shown, autocomplete="off",
    )  # fmt: skip
    return tag(
        "span",
        tag("label", plot.chosen_by, for_=own),
        bar,
        tag("output", shown, for_=own),
        class_="choice slider",
    )


def _tables(plot: Plot) -> Iterator[Markup]:
    chosen = thinned(len(plot.views), MOST_TABLES)
    for number in chosen:
        view = plot.views[number]
        caption = f"{plot.title}: {view.label}" if view.label else plot.title
        shown = len(plot.views) > 1
        if view.heat is not None:
            yield _heat_table(
                view, thinned_heat(view.heat), next(iter(plot.axes.values())), caption, shown
            )
        else:
            yield _line_table(view, plot.axes, caption, shown)
    if len(chosen) < len(plot.views):
        yield paragraph(f"{len(chosen)} of {len(plot.views)} views are listed.", class_="note")


def _heat_table(view: View, heat: Heat, across: str, caption: str, shown: bool) -> Markup:
    errors = heat.stderr or [[None] * len(heat.columns)] * len(heat.rows)
    rows = [
        [name, *(number_text(v, e) for v, e in zip(values, line, strict=True))]
        for name, values, line in zip(heat.rows, heat.values, errors, strict=True)
    ]
    title = f"{caption}. {view.value_label}, {across} across"
    return table([view.y_label, *heat.columns], rows, caption=title, visible=shown)


def _line_table(view: View, axes: Mapping[str, str], caption: str, shown: bool) -> Markup:
    """Lines that share their horizontal values share rows."""
    key, words = next(iter(axes.items()))
    by_x: dict[float, dict[int, str]] = {}
    for number, line in enumerate(view.series):
        errors = line.stderr or [None] * len(line.y)
        for x, y, e in zip(line.x.get(key, ()), line.y, errors, strict=False):
            if x is not None:
                by_x.setdefault(x, {})[number] = number_text(y, e)
    every = sorted(by_x)
    chosen = [every[place] for place in thinned(len(every), MOST_ROWS)]
    rows: list[list[Content]] = [
        [number_text(x), *(by_x[x].get(n, "") for n in range(len(view.series)))] for x in chosen
    ]
    header = [words, *(line.name for line in view.series)]
    found = table(header, rows, caption=f"{caption}. {view.y_label}", visible=shown)
    if len(chosen) == len(every):
        return found
    few = f"{len(chosen)} of {len(every)} rows are listed."
    return joined(found, paragraph(few, class_="note"))


def plain_name(*parts: object) -> str:
    """A name for an id: letters, digits and dashes.

    >>> plain_name("a b", 3)
    'a-b-3'
    """
    text = "-".join(map(str, parts))
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)


Figures = Sequence[Plot]


def side_by_side(plots: Figures) -> Markup:
    """Figures in columns where there is room."""
    return tag("div", *(plot.html() for plot in plots), class_="figures")
