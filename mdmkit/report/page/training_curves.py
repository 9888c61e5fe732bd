"""Curves over training: the validation NELBO, and what the loop logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mdmkit.report.page.figure_data import LARGEST_NUMBER, Series, View, thinned
from mdmkit.report.page.markup import Markup, joined, missing
from mdmkit.report.page.plots import Plot
from mdmkit.report.page.reading import AXES, ReportedRun
from mdmkit.report.page.summary import validation_points

SPEED = "train/tokens_per_second"
UNITS: Mapping[str, str] = {
    "train/loss": "training loss (nats per token of the loss)",
    "train/grad_norm": "norm of the gradient, before clipping",
    "train/learning_rate": "learning rate",
    "train/masked_share": "share of tokens that were masked",
    "train/clipped_share": "share of steps whose gradient was clipped",
    "train/nonfinite_steps": "steps whose gradient was not finite",
    "train/grad_noise_trace": "trace of the gradient's covariance",
    "train/grad_noise_signal": "squared norm of the mean gradient",
}
_NOT_DRAWN = {"step", "tokens", "seconds", SPEED}
_BAND = (
    "The band is one standard error on either side, over the text. Runs on the same text and masks "
    "move together, so their differences are surer than the bands suggest."
)


def curves(runs: Sequence[ReportedRun]) -> Markup:
    """Both figures, as far as there is something to draw."""
    plots = [plot for plot in (_validation(runs), _training(runs)) if plot is not None]
    if not plots:
        return missing("Nothing has been logged yet.", "mdmkit run recipe.toml")
    return joined(*(plot.html() for plot in plots))


def axes_of(lines: Sequence[Series]) -> dict[str, str]:
    """The horizontal axes that any line has."""
    return {axis: words for axis, words in AXES.items() if any(axis in one.x for one in lines)}


def _validation(runs: Sequence[ReportedRun]) -> Plot | None:
    lines, low, high = [], [], []
    for run in runs:
        points = validation_points(run)
        if not points:
            continue
        lines.append(
            Series(
                name=run.label,
                x=run.across([point.step for point in points]),
                y=[point.nelbo for point in points],
                stderr=[point.stderr for point in points],
                colour=run.number,
                dash=run.number // 7,
            )
        )
        # The fall from the untrained network would flatten all the rest.
        later = points[1:] if len(points) > 3 else points
        low.append(min(point.nelbo - point.stderr for point in points))
        high.append(max(point.nelbo + point.stderr for point in later))
    if not lines:
        return None
    pad = 0.05 * max(max(high) - min(low), 0.01)
    view = View(
        label="",
        y_label="validation NELBO (nats per token)",
        series=lines,
        low=min(low) - pad,
        high=max(high) + pad,
    )
    return Plot(
        name="validation", title="Validation NELBO", axes=axes_of(lines), views=[view], note=_BAND
    )


def _training(runs: Sequence[ReportedRun]) -> Plot | None:
    logged = dict.fromkeys(
        name
        for run in runs
        for name in run.metrics.columns
        if name not in _NOT_DRAWN and not name.startswith("val/")
    )
    first = [name for name in UNITS if name in logged]
    names = [*first, *sorted(name for name in logged if name not in first)]
    views = [
        View(label=name, y_label=UNITS.get(name, name), series=lines)
        for name in names
        if (lines := metric_lines(runs, name))
    ]
    if not views:
        return None
    lines = [line for view in views for line in view.series]
    return Plot(
        name="training",
        title="Training",
        axes=axes_of(lines),
        views=views,
        chosen_by="Metric",
        note="As logged, without smoothing; of more than 600 points, evenly spaced ones are drawn.",
    )


def metric_lines(runs: Sequence[ReportedRun], name: str) -> list[Series]:
    """A metric of every run that logged it."""
    found = []
    for run in runs:
        values = np.asarray(run.metrics[name].values)
        known = np.flatnonzero(abs(values) < LARGEST_NUMBER)
        chosen = known[list(thinned(len(known)))] if len(known) else known
        if len(chosen):
            found.append(
                Series(
                    name=run.label,
                    x=run.across(np.asarray(run.metrics[name].steps)[chosen].tolist()),
                    y=values[chosen].tolist(),
                    colour=run.number,
                    dash=run.number // 7,
                )
            )
    return found
