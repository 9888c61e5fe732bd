"""The curve of a method: the mean over its seeds, the best over learning rates, cooled points.

Every curve comes with its resamples: ``nelbo [1 + R, K]``, row 0 being the data as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from attrs import field, frozen

from mdmkit.comparison.comparable import Ground
from mdmkit.comparison.groups import Method, Variant
from mdmkit.comparison.resampling import (
    Bootstrap,
    cluster_sums,
    mean_of,
    resampled_ratios,
)
from mdmkit.comparison.runs import AXES, LoadedRun
from mdmkit.comparison.smoothing import Floats, Interpolation, falling
from mdmkit.errors import MdmkitError


@frozen(kw_only=True, eq=False)
class Resampler:
    """Curves of runs under the same resamples of documents and seeds.

    Attributes:
        bootstrap: the draws.
        ground: the blocks and clusters that all runs share.
    """

    bootstrap: Bootstrap
    ground: Ground
    _documents: Floats = field(init=False)
    _known: dict[int, Floats] = field(init=False, factory=dict)

    @_documents.default
    def _draw_documents(self) -> Floats:
        return self.bootstrap.weights(self.ground.clusters, "documents")

    @property
    def document_tokens(self) -> Floats:
        """Scored tokens of each cluster, ``[D]``."""
        tokens: Floats = self.by_cluster(self.ground.tokens[None])[0]
        return tokens

    def by_cluster(self, values: Floats) -> Floats:
        """``[K, N]`` summed over the blocks of each cluster, ``[K, D]``."""
        return cluster_sums(values, self.ground.cluster, self.ground.clusters)

    def run(self, run: LoadedRun) -> Floats:
        """NELBO per token of a run at each of its validations, ``[1 + R, K]``."""
        if id(run) not in self._known:
            nats = self.by_cluster(run.nats.mean(-1))
            self._known[id(run)] = resampled_ratios(nats, self.document_tokens, self._documents)
        return self._known[id(run)]

    def seeds(self, runs: Sequence[LoadedRun]) -> Floats:
        """How much each run counts, ``[1 + R, S]``; methods that are paired get the same."""
        return self.bootstrap.weights(len(runs), "seeds", *pairing(runs))


def pairing(runs: Sequence[LoadedRun]) -> tuple[Any, ...]:
    """What two methods must have alike to be paired seed by seed.

    The seeds, and what makes the data order a function of them: the text, the block length and
    packing, and the rows of a step.
    """
    recipe = runs[0].recipe
    seeds = tuple(sorted(run.seed for run in runs))
    return seeds, recipe.get("data"), recipe["train"].get("global_batch_size")


@frozen(kw_only=True, eq=False)
class MethodCurve:
    """A method's curve with its resamples.

    Attributes:
        label: the method's.
        nelbo: ``[1 + R, K]``, nats per token.
        costs: by axis, ``[K]``, mean over the runs; an axis that is not known is absent.
        chosen: for each point, the variant that it is from.
        how: how costs are interpolated between points.
    """

    label: str
    nelbo: Floats
    costs: Mapping[str, Floats]
    chosen: tuple[Variant, ...]
    how: Interpolation = "linear"
    smooth: Floats = field(init=False)

    @smooth.default
    def _smoothed(self) -> Floats:
        return falling(self.nelbo)

    @property
    def steps(self) -> Floats:
        """``[K]``."""
        return self.costs["steps"]

    @property
    def finals(self) -> tuple[LoadedRun, ...]:
        """The runs behind the last point."""
        return self.chosen[-1].runs


def variant_curve(variant: Variant, resampler: Resampler, label: str) -> MethodCurve:
    """The mean over the seeds, at the steps at which all of them were validated.

    Raises:
        MdmkitError: where there is no such step.
    """
    runs = variant.runs
    steps = reduce(np.intersect1d, [run.steps for run in runs])
    if not len(steps):
        raise MdmkitError(
            f"{label}: its runs were never validated at the same step; give them the same "
            "train.validate_every"
        )
    places = [np.searchsorted(run.steps, steps) for run in runs]
    rows = [resampler.run(run)[:, place] for run, place in zip(runs, places, strict=True)]
    costs = {
        axis: np.mean(
            [run.costs[axis][place] for run, place in zip(runs, places, strict=True)], axis=0
        )
        for axis in AXES
        if all(axis in run.costs for run in runs)
    }
    return MethodCurve(
        label=label,
        nelbo=mean_of(rows, resampler.seeds(runs)),
        costs=costs,
        chosen=(variant,) * len(steps),
    )


def envelope(curves: Sequence[MethodCurve], label: str, how: Interpolation) -> MethodCurve:
    """The best of several variants at each budget at which any of them has a point.

    Which one is best is decided by the data as they are, and every resample follows that choice.
    """
    steps = reduce(np.union1d, [curve.steps for curve in curves])
    columns, costs, chosen = [], [], []
    for step in steps:
        there = [(curve, np.flatnonzero(curve.steps == step)) for curve in curves]
        points = [(curve, int(place[0])) for curve, place in there if len(place)]
        curve, place = min(points, key=lambda point: float(point[0].nelbo[0, point[1]]))
        columns.append(curve.nelbo[:, place])
        costs.append({axis: values[place] for axis, values in curve.costs.items()})
        chosen.append(curve.chosen[place])
    return MethodCurve(
        label=label,
        nelbo=np.stack(columns, axis=-1),
        costs={
            axis: np.array([point[axis] for point in costs])
            for axis in AXES
            if all(axis in point for point in costs)
        },
        chosen=tuple(chosen),
        how=how,
    )


def curve_over_steps(method: Method, resampler: Resampler) -> MethodCurve:
    """The mean curve of a method, or the envelope over its learning rates."""
    curves = [variant_curve(variant, resampler, method.label) for variant in method.variants]
    return curves[0] if len(curves) == 1 else envelope(curves, method.label, "linear")


def curve_over_budgets(
    method: Method, resampler: Resampler, notify: Callable[[str], object]
) -> MethodCurve:
    """The last validations of runs that cooled down, against their budgets.

    Raises:
        MdmkitError: where no run of the method is cooled.
    """
    points = []
    for variant in method.variants:
        cooled = tuple(run for run in variant.runs if _cooled(run, method.label, notify))
        if not cooled:
            continue
        curve = variant_curve(
            Variant(peak=variant.peak, budget=variant.budget, runs=cooled), resampler, method.label
        )
        points.append(
            MethodCurve(
                label=method.label,
                nelbo=curve.nelbo[:, -1:],
                costs={axis: values[-1:] for axis, values in curve.costs.items()},
                chosen=curve.chosen[-1:],
            )
        )
    if not points:
        raise MdmkitError(
            f"{method.label}: none of its runs is finished with a decaying learning rate; "
            "--cooled compares the ends of such runs"
        )
    return envelope(points, method.label, "log")


def _cooled(run: LoadedRun, label: str, notify: Callable[[str], object]) -> bool:
    if run.recipe["learning_rate"]["shape"] == "constant":
        notify(f"{label}: {run.directory.name} is left out: its learning rate is constant")
        return False
    if not run.finished:
        notify(
            f"{label}: {run.directory.name} is left out: it stands at step {run.steps[-1]} of "
            f"{run.budget}"
        )
        return False
    return True
