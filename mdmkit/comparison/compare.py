"""Runs to a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mdmkit.comparison.cautions import cautions, covers, ground_facts
from mdmkit.comparison.comparable import Ground, common_ground, require_comparable
from mdmkit.comparison.difference import differences
from mdmkit.comparison.groups import Method, choose_baseline, group_runs
from mdmkit.comparison.method_curves import (
    MethodCurve,
    Resampler,
    curve_over_budgets,
    curve_over_steps,
)
from mdmkit.comparison.resampling import Bootstrap
from mdmkit.comparison.results import (
    Comparison,
    Escape,
    MethodResult,
    NoWorse,
    PlateauResult,
)
from mdmkit.comparison.runs import LoadedRun, find_runs, load_run
from mdmkit.comparison.settings import Settings
from mdmkit.comparison.smoothing import Floats, find_plateau
from mdmkit.comparison.speed import (
    Cost,
    Reached,
    SpeedUp,
    costs_of,
    escape_cost,
    ratio,
    reached,
    speed_up,
)
from mdmkit.comparison.summaries import diagnostics, drawn, point, run_facts
from mdmkit.data.cache import Notify, ignore
from mdmkit.environment import environment
from mdmkit.errors import MdmkitError
from mdmkit.plugins import load_catalogue

SHARES = (0.25, 0.5, 0.75)
"""Of the baseline's drop after the plateau: the levels besides its end."""


def compare(
    runs: Sequence[str | Path],
    *,
    baseline: str | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    margin: float = 0.01,
    bins: int = 5,
    escape_margin: float = 0.1,
    plateau: float | None = None,
    clusters: str = "documents",
    envelope: bool = False,
    cooled: bool = False,
    resamples: int = 2000,
    seed: int = 0,
    runs_dir: str | Path | None = None,
    notify: Notify = ignore,
) -> Comparison:
    """Compare runs that were validated on the same blocks: ``docs/comparing_runs.md``.

    Args:
        runs: run directories or names, folders of runs, or a name that several runs share.
        baseline: the label of the method that the others are compared to; the first by default.
        labels: patterns of names or paths by label, where runs are not to be grouped by recipe.
        margin: of the non-inferiority test, nats per token.
        bins: of the mask ratio, in that test.
        escape_margin: how far below the plateau counts as having left it, nats per token.
        plateau: its level in nats per token; by default it is found from the curves.
        clusters: what is resampled: ``documents``, or ``blocks``.
        envelope: runs of a method may differ in the peak of the learning rate; at each budget the
            best one counts.
        cooled: compare the ends of runs whose learning rate decays, of several budgets a method.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        notify: is told what is left out and what to beware of; the result's notes say it, too.

    Raises:
        CheckpointError: for a run that cannot be read.
        MdmkitError: for runs that cannot be compared, and for options that make no sense.
    """
    settings = Settings(
        margin=margin,
        bins=bins,
        escape_margin=escape_margin,
        plateau=plateau,
        clusters=clusters,
        envelope=envelope,
        cooled=cooled,
        resamples=resamples,
        seed=seed,
    )
    notes: list[str] = []
    catalogue = load_catalogue()
    loaded = [
        load_run(directory, catalogue=catalogue, notify=notes.append)
        for directory in find_runs(runs, runs_dir)
    ]
    if not loaded:
        raise MdmkitError("compare: no runs were given; name at least one")
    found = compare_loaded(loaded, settings, baseline=baseline, labels=labels or {}, notes=notes)
    for note in found.notes:
        notify(f"note: {note}")
    return found


def compare_loaded(
    runs: Sequence[LoadedRun],
    settings: Settings,
    *,
    baseline: str | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare runs that have been read: as `compare` does.

    Args:
        runs: at least one.
        settings: how.
        baseline, labels: as for `compare`.
        notes: what is already known to be worth saying.

    Raises:
        MdmkitError: for runs that cannot be compared.
    """
    require_comparable(runs)
    said = list(notes)
    methods = group_runs(runs, labels=labels or {}, free=settings.free, notify=said.append)
    return compare_methods(methods, choose_baseline(methods, baseline), settings, said)


def compare_methods(
    methods: Sequence[Method], baseline: Method, settings: Settings, notes: list[str]
) -> Comparison:
    """Compare methods whose runs are comparable.

    Args:
        methods: from `group_runs`, the baseline among them.
        baseline: what the others are compared to.
        settings: how.
        notes: what is already known to be worth saying; more is added.
    """
    every = [run for method in methods for run in method.runs]
    ground = common_ground(every, settings.clusters)
    resampler = Resampler(
        bootstrap=Bootstrap(resamples=settings.resamples, seed=settings.seed), ground=ground
    )
    curves = {
        method.label: curve_over_budgets(method, resampler, notes.append)
        if settings.cooled
        else curve_over_steps(method, resampler)
        for method in methods
    }
    base = curves[baseline.label]
    notes += cautions(methods, ground, settings)
    plateau, levels = (None, None) if settings.cooled else _plateau(base, curves, settings)
    if plateau is None and not settings.cooled:
        notes.append(
            "no curve shows a plateau that it leaves, so only the baseline's final level is "
            "compared; give the level of token frequencies by --plateau"
        )
    elif levels is not None and levels[0] - base.smooth[0, -1] <= settings.escape_margin:
        notes.append(
            f"{baseline.label} has not left the plateau, so its final level is that of token "
            "frequencies, and reaching it says little"
        )
    escapes, each = _escapes(methods, curves, baseline, levels, resampler, settings)
    others = [method for method in methods if method is not baseline]
    return Comparison(
        baseline=baseline.label,
        methods=[_method(method, curves[method.label], resampler, each) for method in methods],
        plateau=plateau,
        escapes=escapes,
        speed_ups=[
            found
            for method in others
            for found in _speed_ups(base, curves[method.label], levels, settings)
        ],
        no_worse=[_no_worse(curves[method.label], base, ground, settings) for method in others],
        settings=settings.to_json(),
        ground=ground_facts(every, ground),
        environment={**environment(), "numpy": np.__version__},
        notes=list(dict.fromkeys(notes)),
    )


def _plateau(
    base: MethodCurve, curves: Mapping[str, MethodCurve], settings: Settings
) -> tuple[PlateauResult | None, Floats | None]:
    """The plateau's level, and its resamples: the baseline's own, else the first that shows one."""
    if settings.plateau is not None:
        level = np.full(len(base.nelbo), settings.plateau)
        return PlateauResult(nelbo=settings.plateau, source="as given"), level
    for curve in [base, *(curve for curve in curves.values() if curve is not base)]:
        # A cooldown makes a curve fall again, too, but what is before it is no plateau.
        cooldown = min(run.cooldown for variant in curve.chosen for run in variant.runs)
        before = curve.steps <= cooldown
        window = find_plateau(curve.steps[before], curve.smooth[0][before])
        if window is not None:
            level = window.level(curve.steps, curve.smooth)
            source = f"{curve.label}, steps {window.start:.0f} to {window.end:.0f}"
            return PlateauResult(nelbo=float(level[0]), source=source), level
    return None, None


def _escapes(
    methods: Sequence[Method],
    curves: Mapping[str, MethodCurve],
    baseline: Method,
    levels: Floats | None,
    resampler: Resampler,
    settings: Settings,
) -> tuple[list[Escape], dict[Path, Reached]]:
    """When each method leaves the plateau, and each run."""
    if levels is None:
        return [], {}
    below = levels - settings.escape_margin
    costs: dict[str, Cost] = {}
    each: dict[Path, Reached] = {}
    for method in methods:
        for variant in method.variants:
            cost, own = escape_cost(variant.runs, resampler, below)
            costs[method.label] = cost
            each |= dict(zip([run.directory for run in variant.runs], own, strict=True))
        if len(method.variants) > 1:
            costs[method.label] = costs_of(curves[method.label], below)["steps"]
    base = costs[baseline.label]
    return [
        Escape(
            method=label,
            steps=reached(cost),
            ratio=None if label == baseline.label else ratio(base, cost),
        )
        for label, cost in costs.items()
    ], each


def _speed_ups(
    base: MethodCurve, own: MethodCurve, plateau: Floats | None, settings: Settings
) -> list[SpeedUp]:
    """A method against the baseline at every level."""
    end = base.smooth[:, -1]
    levels: list[tuple[str, Floats]] = []
    if settings.cooled:
        levels = [
            (f"cooled at {step:.0f} steps", base.smooth[:, place])
            for place, step in enumerate(base.steps)
        ]
    else:
        if plateau is not None and plateau[0] - end[0] > settings.escape_margin:
            levels = [
                (f"{share:.0%} of the drop", plateau - share * (plateau - end)) for share in SHARES
            ]
        levels.append(("final", end))
    return [
        speed_up(own.label, name, level, costs_of(base, level), costs_of(own, level))
        for name, level in levels
    ]


def _no_worse(own: MethodCurve, base: MethodCurve, ground: Ground, settings: Settings) -> NoWorse:
    steps = int(own.steps[-1]), int(base.steps[-1])
    sides = own.finals, base.finals
    places = [
        [int(np.searchsorted(run.steps, step)) for run in runs]
        for runs, step in zip(sides, steps, strict=True)
    ]
    return NoWorse(
        method=own.label,
        step=steps[0],
        baseline_step=steps[1],
        covers=covers([len(runs) for runs in sides], ground),
        parts=differences(
            *sides,
            places=(places[0], places[1]),
            ground=ground,
            margin=settings.margin,
            bins=settings.bins,
        ),
    )


def _method(
    method: Method, curve: MethodCurve, resampler: Resampler, each: Mapping[Path, Reached]
) -> MethodResult:
    return MethodResult(
        label=method.label,
        seeds=sorted({run.seed for run in method.runs}),
        best=point(curve, int(curve.nelbo[0].argmin()), resampler),
        final=point(curve, len(curve.steps) - 1, resampler),
        curve=drawn(curve),
        runs=[run_facts(run, each.get(run.directory)) for run in method.runs],
        diagnostics=diagnostics(curve.finals),
    )
