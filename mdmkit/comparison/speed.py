"""Speed-ups to the same NELBO, with intervals, where a level may not have been reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from attrs import frozen

from mdmkit.comparison.method_curves import MethodCurve, Resampler
from mdmkit.comparison.resampling import interval, spread
from mdmkit.comparison.runs import AXES, LoadedRun
from mdmkit.comparison.smoothing import Floats, falling, first_crossing, value_at

Kind = Literal["exact", "at most", "at least", "unknown"]


@frozen(kw_only=True, eq=False)
class Cost:
    """What it took to reach a level: known, or known to lie between bounds.

    Attributes:
        low, high: ``[1 + R]``, equal where the cost is known. A curve that does not come down to
            the level took more than its last point, so high is inf; one that begins below it
            took at most its first point, so low is 0.
    """

    low: Floats
    high: Floats


@frozen(kw_only=True)
class Ratio:
    """A ratio of the baseline's cost to a method's.

    Attributes:
        kind: whether `value` is the ratio, or a bound of it.
        value: above 1 where the method is cheaper; None where nothing is known.
        low, high: of the 95% interval; None where it is open.
        log_stderr: standard deviation of the logarithm over the resamples that are not censored.
        censored: the share of the resamples in which one of the two costs is only a bound.
    """

    kind: Kind
    value: float | None
    low: float | None
    high: float | None
    log_stderr: float
    censored: float


@frozen(kw_only=True)
class Reached:
    """What a method took to reach a level.

    Attributes:
        kind: whether `value` is the cost, or a bound of it.
        value: in the axis' own unit.
    """

    kind: Kind
    value: float | None


@frozen(kw_only=True)
class SpeedUp:
    """How much sooner a method reaches one level than the baseline.

    Attributes:
        method: its label.
        level: which level, in words.
        nelbo: the level in nats per token.
        costs: what the method took, by axis.
        baseline_costs: what the baseline took, by axis.
        ratios: by axis; an axis that one of the two lacks is absent.
    """

    method: str
    level: str
    nelbo: float
    costs: Mapping[str, Reached]
    baseline_costs: Mapping[str, Reached]
    ratios: Mapping[str, Ratio]


def costs_of(curve: MethodCurve, levels: Floats) -> dict[str, Cost]:
    """What it took to reach a level, by axis.

    Args:
        curve: of a method.
        levels: ``[1 + R]``, the level in each resample.
    """
    return _costs(curve.smooth, levels, curve.costs, curve.how)


def _costs(
    smooth: Floats, levels: Floats, axes: Mapping[str, Floats], how: Literal["linear", "log"]
) -> dict[str, Cost]:
    crossing = first_crossing(smooth, levels)
    found = {}
    for axis, values in axes.items():
        at = value_at(values, crossing.at, how) if len(values) > 1 else crossing.at
        at = np.where(crossing.at == 0, values[0], at)
        first = values[values > 0][:1]  # nothing is reached at no cost: before the first point
        low = np.where(crossing.reached, np.where(crossing.from_start, 0.0, at), values[-1])
        high = np.where(crossing.reached, np.where(crossing.from_start, first.sum(), at), np.inf)
        found[axis] = Cost(low=low, high=high)
    return found


def speed_up(
    label: str, level: str, levels: Floats, baseline: Mapping[str, Cost], own: Mapping[str, Cost]
) -> SpeedUp:
    """One method against the baseline at one level, on every axis that both have."""
    shared = [axis for axis in AXES if axis in baseline and axis in own]
    return SpeedUp(
        method=label,
        level=level,
        nelbo=float(levels[0]),
        costs={axis: reached(own[axis]) for axis in shared},
        baseline_costs={axis: reached(baseline[axis]) for axis in shared},
        ratios={axis: ratio(baseline[axis], own[axis]) for axis in shared},
    )


def ratio(baseline: Cost, own: Cost) -> Ratio:
    """The baseline's cost over the method's, with its interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.log(baseline.low) - np.log(own.high)
        high = np.log(baseline.high) - np.log(own.low)
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    ends = interval(low[1:], high[1:])
    known = low == high
    kind, value = _kind(float(low[0]), float(high[0]))
    return Ratio(
        kind=kind,
        value=None if value is None else float(np.exp(value)),
        low=None if ends.low is None else float(np.exp(ends.low)),
        high=None if ends.high is None else float(np.exp(ends.high)),
        log_stderr=spread(np.where(known, np.where(known, low, 0.0), np.nan)),
        censored=float(1 - known[1:].mean()),
    )


def reached(cost: Cost) -> Reached:
    """The cost in the data as they are."""
    kind, value = _kind(float(cost.low[0]), float(cost.high[0]), floor=0.0)
    return Reached(kind=kind, value=value)


def _kind(low: float, high: float, floor: float = -np.inf) -> tuple[Kind, float | None]:
    if low == high:
        return "exact", low
    if low > floor:
        return "at least", low
    if high < np.inf:
        return "at most", high
    return "unknown", None


def escape_cost(
    runs: Sequence[LoadedRun], resampler: Resampler, levels: Floats
) -> tuple[Cost, list[Reached]]:
    """Steps to the level of every run, and their geometric mean.

    One run that does not get there makes the mean a bound.

    Args:
        runs: the seeds of a method.
        resampler: the resamples.
        levels: ``[1 + R]``.

    Returns:
        The mean cost, and each run's.
    """
    axes = [{"steps": run.costs["steps"]} for run in runs]
    curves = [falling(resampler.run(run)) for run in runs]
    each = [
        _costs(curve, levels, axis, "linear")["steps"]
        for curve, axis in zip(curves, axes, strict=True)
    ]
    weights = resampler.seeds(runs)
    with np.errstate(divide="ignore"):
        low = _weighted(weights, np.stack([np.log(cost.low) for cost in each], axis=-1))
        high = _weighted(weights, np.stack([np.log(cost.high) for cost in each], axis=-1))
    return Cost(low=np.exp(low), high=np.exp(high)), [reached(cost) for cost in each]


def _weighted(weights: Floats, values: Floats) -> Floats:
    """The weighted sum, in which an infinite value of no weight counts nothing."""
    counted = np.where(weights > 0, values, 0.0)
    found: Floats = (weights * counted).sum(-1)
    return found
