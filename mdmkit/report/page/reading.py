"""What a report reads of a run: whatever is there, and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen

from mdmkit.comparison.runs import find_runs, load_run
from mdmkit.errors import CheckpointError, MdmkitError
from mdmkit.evaluation.analysis_files import Analysis, read_analysis
from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.suite_file import KIND, SuiteRecord, read_record
from mdmkit.metrics_log import LARGEST, METRICS, read_metrics
from mdmkit.plain_files import parse_json, read_bytes, read_json
from mdmkit.plugins import load_catalogue
from mdmkit.recipe import plain_hash
from mdmkit.report.page.plots import finite
from mdmkit.runs.status import RunStatus, glance
from mdmkit.samples_log import LoggedSamples, read_samples, sampled_steps
from mdmkit.training.branch import read_branch
from mdmkit.training.run_directory import RESOLVED, require_own_files
from mdmkit.validation_log import LoggedValidation, logged_steps, read_validation

Tell = Callable[[str], object]
LARGEST_RECIPE = 1 << 20
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
        lines: of its metrics.
        validations: by block.
        costs: by axis of `AXES`, at the steps of ``validations``, as far as they are known.
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
    lines: Sequence[Mapping[str, Any]]
    validations: Sequence[LoggedValidation]
    costs: Mapping[str, Sequence[float]]
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
        steps = [line["step"] for line in self.lines] + [v.step for v in self.validations]
        return max(steps, default=0)

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
        known: dict[str, dict[int, float]] = {"tokens": {}, "seconds": {}}
        for line in self.lines:
            for axis, of_steps in known.items():
                value = finite(line.get(axis))
                if value is not None:
                    of_steps.setdefault(line["step"], value)
        if "flops" in self.costs:
            at = (validation.step for validation in self.validations)
            known["flops"] = dict(zip(at, self.costs["flops"], strict=True))
        found = {"steps": [float(step) for step in steps]}
        for axis, of_steps in known.items():
            if of_steps:
                places = sorted(of_steps)
                values = np.interp(steps, places, [of_steps[place] for place in places])
                found[axis] = [float(value) for value in values]
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
    return [evolve(run, label=_label(run, runs)) for run in runs]


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
    recipe = _json(directory / RESOLVED, tell)
    validations = list(_validations(directory, tell))
    evaluated = _folder(directory / "eval", tell)
    run = ReportedRun(
        number=number,
        label="",
        directory=directory,
        status=glance(directory),
        recipe=recipe if isinstance(recipe, Mapping) else {},
        toml=_text(directory / "recipe.toml", tell),
        lines=_lines(directory / METRICS, tell),
        validations=validations,
        costs={},
        analyses=dict(_analyses(directory / "analysis", tell)),
        evaluations=dict(_results(directory / "eval", evaluated, tell)),
        suites=dict(_suites(directory / "eval", evaluated, tell)),
        samples=dict(_samples(directory, tell)),
        bench=_json(directory / "bench.json", tell)
        if (directory / "bench.json").exists()
        else None,
        manifest=_manifest(directory, tell),
        branch=_branch(directory, tell),
    )
    status = run.status.with_metrics(run.step, None)
    return evolve(run, status=status, costs=_costs(run, tell))


def _json(path: Path, tell: Tell) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        tell(f"{path}: cannot be read ({error}); the report goes on without it")
        return None


def _text(path: Path, tell: Tell) -> str | None:
    try:
        return read_bytes(path, LARGEST_RECIPE).decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        tell(f"{path}: cannot be read ({error}); the report goes on without it")
        return None


def _folder(folder: Path, tell: Tell) -> dict[str, Any]:
    """The JSON files of a folder that can be read, by name; numbers set aside are left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if ".previous" not in path.name and (value := _json(path, tell)) is not None:
            found[path.stem] = value
    return found


def _analyses(folder: Path, tell: Tell) -> Iterator[tuple[str, Analysis]]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield path.stem, read_analysis(path)
        except CheckpointError as error:
            tell(str(error))


def _results(folder: Path, files: Mapping[str, Any], tell: Tell) -> Iterator[tuple[str, Result]]:
    for name, plain in files.items():
        if _is_suite(plain):
            continue
        try:
            yield name, Result.from_json(plain)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            tell(f"{folder / name}.json: holds no result ({error}); the report goes on without it")


def _suites(
    folder: Path, files: Mapping[str, Any], tell: Tell
) -> Iterator[tuple[str, SuiteRecord]]:
    for name, plain in files.items():
        if not _is_suite(plain):
            continue
        try:
            yield name, read_record(folder / f"{name}.json")
        except CheckpointError as error:
            tell(str(error))


def _is_suite(plain: object) -> bool:
    return isinstance(plain, Mapping) and plain.get("kind") == KIND


def _lines(path: Path, tell: Tell) -> list[Mapping[str, Any]]:
    """The metrics; of a damaged file, the lines that can be read."""
    try:
        return list(read_metrics(path))
    except FileNotFoundError:
        return []
    except CheckpointError as error:
        tell(f"{error}; the report is of the lines that can be read")
        return list(_readable(path))
    except OSError as error:
        tell(f"{path}: cannot be read ({error}); the report goes on without it")
        return []


def _readable(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = read_bytes(path, LARGEST).split(b"\n")
    except (OSError, ValueError):
        return
    for line in lines:
        try:
            entry = parse_json(line)
        except ValueError:
            continue
        if (
            isinstance(entry, dict)
            and type(entry.get("step")) is int
            and 0 <= entry["step"] < 2**63
        ):
            yield {name: finite(value) for name, value in entry.items()} | {"step": entry["step"]}


def _validations(directory: Path, tell: Tell) -> Iterator[LoggedValidation]:
    for step in logged_steps(directory):
        try:
            found = read_validation(directory, step)
        except CheckpointError as error:
            tell(str(error))
            continue
        if not found.table.nats.isfinite().all():
            tell(f"{directory}: the validation of step {step} is not finite; it is left out")
        else:
            yield found


def _samples(directory: Path, tell: Tell) -> Iterator[tuple[int, LoggedSamples]]:
    for step in sampled_steps(directory):
        try:
            yield step, read_samples(directory, step)
        except CheckpointError as error:
            tell(str(error))


def _manifest(directory: Path, tell: Tell) -> Mapping[str, Any] | None:
    paths = sorted((directory / "checkpoints").glob("step-*/manifest.json"))
    found = _json(paths[-1], tell) if paths else None
    return found if isinstance(found, Mapping) else None


def _branch(directory: Path, tell: Tell) -> Mapping[str, Any] | None:
    try:
        return read_branch(directory)
    except CheckpointError as error:
        tell(str(error))
        return None


def _costs(run: ReportedRun, tell: Tell) -> dict[str, Sequence[float]]:
    """What training had cost at each validation, with the FLOPs that `mdmkit compare` counts."""
    if not run.validations or not run.lines or not run.recipe:
        return {}
    if [v.step for v in run.validations] != logged_steps(run.directory):
        return {}
    try:
        loaded = load_run(run.directory, catalogue=load_catalogue(), notify=tell)
    except MdmkitError as error:
        tell(f"{run.directory}: no FLOPs ({error})")
        return {}
    return {axis: values.tolist() for axis, values in loaded.costs.items()}
