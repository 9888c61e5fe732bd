"""What a report reads of a run: whatever is there, and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen

from mdmkit.comparison.runs import LoadedRun, find_runs, first_of_steps, load_run
from mdmkit.comparison.smoothing import Floats as Numbers
from mdmkit.errors import MdmkitError
from mdmkit.evaluation.analysis_files import Analysis
from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.suite_file import SuiteRecord
from mdmkit.metrics_log import METRICS, MetricColumns
from mdmkit.plugins import load_catalogue
from mdmkit.recipe import plain_hash
from mdmkit.report.page.figure_data import LARGEST_NUMBER
from mdmkit.report.page.run_files import (
    Tell,
    analyses_in,
    branch_of,
    last_manifest,
    metrics_in,
    read_folder,
    read_plain,
    read_text,
    results_in,
    samples_in,
    suites_in,
    validations_in,
)
from mdmkit.report.tables import one_line
from mdmkit.runs.status import RunStatus, glance
from mdmkit.samples_log import LoggedSamples
from mdmkit.training.run_directory import RESOLVED, require_own_files
from mdmkit.validation_log import LoggedValidation, logged_steps

AXES = {
    "steps": "optimizer steps",
    "tokens": "tokens seen",
    "flops": "training FLOPs",
    "seconds": "seconds",
}


@frozen(kw_only=True, eq=False)
class ReportedRun:
    """A run as far as it can be read.

    Attributes:
        number: among those of the report; its colour.
        label: what it is called in the report, unlike the others.
        directory: where it is.
        status: what became of it, as `mdmkit runs` says.
        recipe: as plain data; empty where it cannot be read.
        toml: the same as the user's file, or None.
        metrics: what it logged.
        validations: by block.
        loaded: the same as `mdmkit compare` reads it, or None where it cannot be compared.
        axes: by axis of `AXES`, the steps at which it is known, rising, and its values.
        analyses: what `mdmkit analyze` found, by label.
        evaluations: what its evaluators found, by label.
        suites: what suites found, by the name of the file.
        samples: generated texts, by step.
        bench: what ``bench.json`` holds, or None.
        manifest: of its last checkpoint, or None.
        branch: where it branched off, or None.
    """

    number: int
    label: str
    directory: Path
    status: RunStatus
    recipe: Mapping[str, Any]
    toml: str | None
    metrics: MetricColumns
    validations: Sequence[LoggedValidation]
    loaded: LoadedRun | None
    axes: Mapping[str, tuple[Numbers, Numbers]]
    analyses: Mapping[str, Analysis]
    evaluations: Mapping[str, Result]
    suites: Mapping[str, SuiteRecord]
    samples: Mapping[int, LoggedSamples]
    bench: Mapping[str, Any] | None
    manifest: Mapping[str, Any] | None
    branch: Mapping[str, Any] | None

    def value(self, table: str, key: str) -> Any:
        """A key of the recipe, or None."""
        found = self.recipe.get(table)
        return found.get(key) if isinstance(found, Mapping) else None

    @property
    def name(self) -> str:
        """The run's name in its recipe, else that of its directory."""
        return str(self.value("run", "name") or self.directory.name)

    @property
    def step(self) -> int:
        """The last step of which anything is known."""
        return max([self.metrics.last, *(v.step for v in self.validations)])

    @property
    def recipe_hash(self) -> str | None:
        """Of the recipe as it was saved."""
        try:
            return plain_hash(self.recipe) if self.recipe else None
        except (AttributeError, TypeError, ValueError):
            return None

    @property
    def environment(self) -> Mapping[str, Any]:
        """Versions and device that trained it, as far as they were written down."""
        found = (self.manifest or {}).get("environment")
        return found if isinstance(found, Mapping) else {}

    def across(self, steps: Sequence[int]) -> dict[str, list[float]]:
        """What training had cost at some steps, by axis: between known ones, linearly."""
        found = {"steps": [float(step) for step in steps]}
        for axis, (places, values) in self.axes.items():
            found[axis] = np.interp(steps, places, values).tolist()
        return found


def read_runs(
    names: Sequence[str | Path], runs_dir: str | Path | None, tell: Tell
) -> list[ReportedRun]:
    """The runs that `names` mean.

    Args:
        names: as for `mdmkit.comparison.runs.find_runs`.
        runs_dir: the folder of runs.
        tell: is told of everything that cannot be read.

    Raises:
        MdmkitError: where a name means no run, or there is none.
    """
    directories = find_runs(names, runs_dir)
    if not directories:
        raise MdmkitError("report: no runs were given; name at least one")
    runs = [_read(directory, number, tell) for number, directory in enumerate(directories)]
    return [evolve(run, label=one_line(_label(run, runs))) for run in runs]


def _label(run: ReportedRun, runs: Sequence[ReportedRun]) -> str:
    """Name, seed, directory: the shortest that tells it from the others."""

    def seeded(one: ReportedRun) -> str:
        return f"{one.name}, seed {one.value('run', 'seed')}"

    for name_of in (lambda one: one.name, seeded, lambda one: one.directory.name):
        if sum(name_of(one) == name_of(run) for one in runs) == 1:
            return name_of(run)
    return str(run.directory)


def _read(directory: Path, number: int, tell: Tell) -> ReportedRun:
    require_own_files(directory)
    recipe = read_plain(directory / RESOLVED, tell)
    validations = list(validations_in(directory, tell))
    evaluated = read_folder(directory / "eval", tell)
    run = ReportedRun(
        number=number,
        label="",
        directory=directory,
        status=glance(directory),
        recipe=recipe if isinstance(recipe, Mapping) else {},
        toml=read_text(directory / "recipe.toml", tell),
        metrics=metrics_in(directory / METRICS, tell),
        validations=validations,
        loaded=None,
        axes={},
        analyses=dict(analyses_in(directory / "analysis", tell)),
        evaluations=dict(results_in(directory / "eval", evaluated, tell)),
        suites=dict(suites_in(directory / "eval", evaluated, tell)),
        samples=dict(samples_in(directory, tell)),
        bench=read_plain(directory / "bench.json", tell)
        if (directory / "bench.json").exists()
        else None,
        manifest=last_manifest(directory, tell),
        branch=branch_of(directory, tell),
    )
    status = run.status.with_metrics(run.step, None)
    run = evolve(run, status=status, loaded=_loaded(run, tell))
    return evolve(run, axes=_axes(run))


def _loaded(run: ReportedRun, tell: Tell) -> LoadedRun | None:
    """The run as `mdmkit compare` reads it, where it has all of that."""
    if not run.validations or not run.metrics.columns or not run.recipe:
        return None
    if [v.step for v in run.validations] != logged_steps(run.directory):
        return None
    try:
        return load_run(
            run.directory,
            catalogue=load_catalogue(),
            notify=tell,
            metrics=run.metrics,
            validations=run.validations,
        )
    except MdmkitError as error:
        tell(f"{run.directory}: no FLOPs ({error})")
        return None


def _axes(run: ReportedRun) -> dict[str, tuple[Numbers, Numbers]]:
    found = {}
    for axis in ("tokens", "seconds"):
        steps, values = first_of_steps(run.metrics[axis])
        drawable = abs(values) < LARGEST_NUMBER
        found[axis] = steps[drawable].astype(np.float64), values[drawable]
    if run.loaded is not None and "flops" in run.loaded.costs:
        found["flops"] = run.loaded.steps.astype(np.float64), run.loaded.costs["flops"]
    return {axis: known for axis, known in found.items() if len(known[0])}
