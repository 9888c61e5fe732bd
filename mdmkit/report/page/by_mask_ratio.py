"""Loss by mask ratio over training, from the validations by block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from attrs import frozen

from mdmkit.comparison.resampling import cluster_sums
from mdmkit.report.page.figure_data import Heat, Series, View, thinned
from mdmkit.report.page.markup import Markup, joined, missing, paragraph
from mdmkit.report.page.plots import Plot, side_by_side
from mdmkit.report.page.reading import ReportedRun
from mdmkit.validation_log import LoggedValidation

BINS = 10
_RATIO, _LOSS = "mask ratio", "nats per masked token"
_MOST_STEPS = 40
_NOTE = (
    "The cross-entropy of a masked token, by the share of tokens that is masked: the mean over "
    "the validation blocks whose masks fell into each of 10 equal bins. The NELBO is the mean over "
    "all ratios. Errors are over documents."
)


@frozen
class Bin:
    """The loss of the blocks in a bin of the mask ratio, with its standard error over documents."""

    ratio: float
    loss: float
    stderr: float | None


def by_mask_ratio(validation: LoggedValidation, bins: int = BINS) -> list[Bin | None]:
    """The loss in equal bins of the mask ratio; None for a bin without blocks.

    The ratio of sums Σ nats / Σ tokens over the draws in a bin; its variance is that of the
    residuals of documents (Cochran, Sampling Techniques, 1977, ch. 6).

    Args:
        validation: whose table has masks.
        bins: how many.
    """
    table = validation.table
    nats, tokens, masked = (part.numpy() for part in (table.nats, table.tokens, table.masked))
    documents, cluster = np.unique(table.documents.numpy(), return_inverse=True)
    place = np.clip(np.ceil(masked / np.maximum(tokens, 1) * bins).astype(int) - 1, 0, bins - 1)
    found: list[Bin | None] = []
    for number in range(bins):
        inside = place == number
        sums = np.stack([(part * inside).sum(-1) for part in (nats, tokens)])
        by_document = cluster_sums(sums, cluster, len(documents))
        there = by_document[1] > 0
        total_nats, total = by_document[:, there].sum(-1)
        if total == 0:
            found.append(None)
            continue
        loss, count = total_nats / total, int(there.sum())
        residuals = by_document[0, there] - loss * by_document[1, there]
        variance = (residuals**2).sum() * count / max(count - 1, 1) / total**2
        error = math.sqrt(variance) if count > 1 else None
        found.append(Bin((number + 0.5) / bins, float(loss), error))
    return found


def mask_ratio_section(runs: Sequence[ReportedRun]) -> Markup:
    """Lines with a slider over training, and a heat map of each run."""
    tables = {
        run.number: {
            validation.step: by_mask_ratio(validation)
            for validation in run.validations
            if bool(validation.table.masked.any())
        }
        for run in runs
    }
    shown = [run for run in runs if tables[run.number]]
    maskless = [run.label for run in runs if run.validations and not tables[run.number]]
    if not shown and len(maskless) < len(runs):
        what = "No validation by block with masks; every validation of a run writes one."
        return missing(what, "mdmkit run recipe.toml")
    why = f"Validated without masks, so they have no mask ratio: {', '.join(maskless)}."
    return joined(
        _lines(shown, tables).html() if shown else None,
        side_by_side(_heats(shown, tables)) if shown else None,
        paragraph(why, class_="note") if maskless else None,
    )


Tables = Mapping[int, Mapping[int, Sequence[Bin | None]]]


def _lines(runs: Sequence[ReportedRun], tables: Tables) -> Plot:
    steps = sorted({step for run in runs for step in tables[run.number]})
    steps = [steps[place] for place in thinned(len(steps), _MOST_STEPS)]
    only = runs if len(runs) == 1 else ()
    last = [_line(run, tables, max(tables[run.number]), known=True) for run in only]
    views = []
    for step in steps:
        lines = [_line(run, tables, step) for run in runs if step in tables[run.number]]
        views.append(View(label=f"step {step:,}", y_label=_LOSS, series=[*lines, *last]))
    every = [b for table in tables.values() for bins in table.values() for b in bins if b]
    low = min(b.loss - (b.stderr or 0) for b in every)
    high = max(b.loss + (b.stderr or 0) for b in every)
    pad = 0.05 * max(high - low, 0.01)
    views = [
        View(label=v.label, y_label=v.y_label, series=v.series, low=low - pad, high=high + pad)
        for v in views
    ]
    return Plot(
        name="loss-by-mask-ratio",
        title="Lines by mask ratio",
        axes={"x": _RATIO},
        views=views,
        chosen_by="After",
        slider=True,
        note=f"{_NOTE} The dashed line is that of the last step." if only else _NOTE,
    )


def _line(run: ReportedRun, tables: Tables, step: int, *, known: bool = False) -> Series:
    bins = [one for one in tables[run.number][step] if one is not None]
    return Series(
        name=f"{run.label}, at step {step:,}" if known else run.label,
        x={"x": [one.ratio for one in bins]},
        y=[one.loss for one in bins],
        stderr=None if known else [one.stderr for one in bins],
        colour=run.number,
        dash=run.number // 7,
        known=known,
    )


def _heats(runs: Sequence[ReportedRun], tables: Tables) -> list[Plot]:
    every = [
        one.loss
        for run in runs
        for step, bins in tables[run.number].items()
        for one in bins
        if one is not None and (step > 0 or len(tables[run.number]) < 3)
    ]
    return [_heat(run, tables[run.number], min(every), max(every)) for run in runs]


def _heat(
    run: ReportedRun, table: Mapping[int, Sequence[Bin | None]], low: float, high: float
) -> Plot:
    steps = sorted(table)
    steps = [steps[place] for place in thinned(len(steps), _MOST_STEPS)]
    downwards = range(BINS - 1, -1, -1)
    edges = [f"{number / BINS:.1f} to {(number + 1) / BINS:.1f}" for number in downwards]
    cells = [[table[step][row] for step in steps] for row in downwards]
    heat = Heat(
        columns=[str(step) for step in steps],
        rows=edges,
        values=[[None if one is None else one.loss for one in row] for row in cells],
        stderr=[[None if one is None else one.stderr for one in row] for row in cells],
        lowest=low,
        highest=high,
    )
    return Plot(
        name=f"mask-ratio-heat-{run.number}",
        title=f"Over training: {run.label}",
        axes={"x": "optimizer steps"},
        views=[View(label="", y_label=_RATIO, heat=heat, value_label=_LOSS)],
        note="The colours end at the highest value after step 0.",
    )
