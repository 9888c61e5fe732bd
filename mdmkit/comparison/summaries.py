"""What is told of each method and run: points with errors, curves, means of the logs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mdmkit.comparison.method_curves import MethodCurve, Resampler
from mdmkit.comparison.resampling import spread
from mdmkit.comparison.results import Curve, Diagnostics, Point, RunFacts
from mdmkit.comparison.runs import LoadedRun
from mdmkit.comparison.speed import Reached

BY_T = "train/nll_at_t/"
TRACE, SIGNAL = "train/grad_noise_trace", "train/grad_noise_signal"
CLIPPED = "train/clipped_share"


def point(curve: MethodCurve, place: int, resampler: Resampler) -> Point:
    """One point of a curve with its errors."""
    runs, step = curve.chosen[place].runs, int(curve.steps[place])
    rows = [resampler.run(run)[:, np.searchsorted(run.steps, step)] for run in runs]
    values = [float(row[0]) for row in rows]
    return Point(
        step=step,
        nelbo=float(curve.nelbo[0, place]),
        seed_stderr=float(np.std(values, ddof=1)) / math.sqrt(len(values))
        if len(values) > 1
        else None,
        document_stderr=spread(np.mean(rows, axis=0)),  # the seeds as they are
        stderr=spread(curve.nelbo[:, place]),
    )


def drawn(curve: MethodCurve) -> Curve:
    """A curve as lists."""
    low, high = np.nanquantile(curve.nelbo[1:], [0.025, 0.975], axis=0)
    return Curve(
        nelbo=curve.nelbo[0].tolist(),
        smooth=curve.smooth[0].tolist(),
        low=low.tolist(),
        high=high.tolist(),
        costs={axis: values.tolist() for axis, values in curve.costs.items()},
        peaks=[variant.peak for variant in curve.chosen],
    )


def run_facts(run: LoadedRun, escape: Reached | None) -> RunFacts:
    """What a comparison says of a run."""
    return RunFacts(
        directory=str(run.directory),
        name=run.name,
        seed=run.seed,
        recipe_hash=run.recipe_hash,
        peak=run.peak,
        budget=run.budget,
        steps=run.steps.tolist(),
        nelbo=run.curve.tolist(),
        costs={axis: values.tolist() for axis, values in run.costs.items()},
        finished=run.finished,
        ema=run.provenance.get("ema"),
        loss_share=run.loss_share,
        branch=run.branch,
        escape=escape,
    )


def diagnostics(runs: Sequence[LoadedRun]) -> Diagnostics:
    """Means over all lines of the runs behind the last point that have the figure."""
    trace, signal = _mean(runs, TRACE), _mean(runs, SIGNAL)
    known = trace is not None and signal is not None and signal > 0
    names = {name for run in runs for name in run.metrics.columns if name.startswith(BY_T)}
    by_t = {name.removeprefix(BY_T): _mean(runs, name) for name in names}
    return Diagnostics(
        clipped_share=_mean(runs, CLIPPED),
        noise_scale=trace / signal if known and trace is not None and signal is not None else None,
        nll_at_t={
            centre: value
            for centre, value in sorted(by_t.items(), key=lambda pair: float(pair[0]))
            if value is not None
        },
    )


def _mean(runs: Sequence[LoadedRun], name: str) -> float | None:
    values = np.concatenate([run.metrics[name].values for run in runs])
    return float(np.mean(values)) if len(values) else None
