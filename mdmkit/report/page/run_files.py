"""The files of a run, each as far as it can be read; what is wrong with it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mdmkit.errors import CheckpointError
from mdmkit.evaluation.analysis_files import Analysis, read_analysis
from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.suite_file import KIND, SuiteRecord, read_record
from mdmkit.metrics_log import MetricColumns, read_columns
from mdmkit.plain_files import read_bytes, read_json
from mdmkit.samples_log import LoggedSamples, read_samples, sampled_steps
from mdmkit.training.branch import read_branch
from mdmkit.validation_log import LoggedValidation, logged_steps, read_validation

Tell = Callable[[str], object]
LARGEST_RECIPE = 1 << 20


def read_plain(path: Path, tell: Tell) -> Any:
    """The value in a JSON file, or None."""
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        tell(f"{path}: cannot be read ({error}); the report goes on without it")
        return None


def read_text(path: Path, tell: Tell) -> str | None:
    """A short text, or None."""
    try:
        return read_bytes(path, LARGEST_RECIPE).decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        tell(f"{path}: cannot be read ({error}); the report goes on without it")
        return None


def read_folder(folder: Path, tell: Tell) -> dict[str, Any]:
    """The JSON files of a folder that can be read, by name; numbers set aside are left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if ".previous" not in path.name and (value := read_plain(path, tell)) is not None:
            found[path.stem] = value
    return found


def analyses_in(folder: Path, tell: Tell) -> Iterator[tuple[str, Analysis]]:
    """What `mdmkit analyze` found, by label."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield path.stem, read_analysis(path)
        except CheckpointError as error:
            tell(str(error))


def results_in(folder: Path, files: Mapping[str, Any], tell: Tell) -> Iterator[tuple[str, Result]]:
    """What evaluators found, by label."""
    for name, plain in files.items():
        if _is_suite(plain):
            continue
        try:
            yield name, Result.from_json(plain)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            tell(f"{folder / name}.json: holds no result ({error}); the report goes on without it")


def suites_in(
    folder: Path, files: Mapping[str, Any], tell: Tell
) -> Iterator[tuple[str, SuiteRecord]]:
    """What suites found, by the name of the file."""
    for name, plain in files.items():
        if not _is_suite(plain):
            continue
        try:
            yield name, read_record(folder / f"{name}.json")
        except CheckpointError as error:
            tell(str(error))


def _is_suite(plain: object) -> bool:
    return isinstance(plain, Mapping) and plain.get("kind") == KIND


def metrics_in(path: Path, tell: Tell) -> MetricColumns:
    """The metrics; of a damaged file, the lines that can be read."""
    damaged: list[str] = []
    try:
        found = read_columns(path, damaged.append)
    except FileNotFoundError:
        return MetricColumns(0, {})
    except (CheckpointError, OSError) as error:
        tell(f"{path}: cannot be read ({error}); the report goes on without it")
        return MetricColumns(0, {})
    for problem in damaged[:1]:
        tell(f"{problem}; the report is of the lines that can be read")
    return found


def validations_in(directory: Path, tell: Tell) -> Iterator[LoggedValidation]:
    """The validations by block that are finite."""
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


def samples_in(directory: Path, tell: Tell) -> Iterator[tuple[int, LoggedSamples]]:
    """Generated texts, by step."""
    for step in sampled_steps(directory):
        try:
            yield step, read_samples(directory, step)
        except CheckpointError as error:
            tell(str(error))


def last_manifest(directory: Path, tell: Tell) -> Mapping[str, Any] | None:
    """That of the last checkpoint, or None."""
    paths = sorted((directory / "checkpoints").glob("step-*/manifest.json"))
    found = read_plain(paths[-1], tell) if paths else None
    return found if isinstance(found, Mapping) else None


def branch_of(directory: Path, tell: Tell) -> Mapping[str, Any] | None:
    """Where a run branched off, or None."""
    try:
        return read_branch(directory)
    except CheckpointError as error:
        tell(str(error))
        return None
