"""What became of a run, from the files in its directory: torch is not loaded, nothing is changed.

`mdmkit runs` and `mdmkit watch` say the same of a run because both ask here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import attrs
from attrs import frozen

from mdmkit.errors import CheckpointError
from mdmkit.metrics_log import METRICS
from mdmkit.plain_files import parse_json, read_json
from mdmkit.runs.checkpoints import steps_on_disk
from mdmkit.runs.failure import FAILURE, Failure, read_failure
from mdmkit.runs.folder import IMPORTED, RESOLVED, WEIGHTS, require_own_files
from mdmkit.runs.lock import is_held
from mdmkit.runs.tail import Tail

NELBO, NELBO_STDERR = "val/nelbo_per_token", "val/nelbo_per_token_stderr"
_MARK = f'"{NELBO}"'.encode()

_NEVER_NEGATIVE = ("tokens", "seconds", NELBO_STDERR, "train/nonfinite_steps")
_LARGEST = 1e100
"""More than any figure of a run: they come from float32. Means and squares of such are finite."""

State = Literal["running", "finished", "interrupted", "failed", "imported", "damaged"]
STATES: tuple[State, ...] = get_args(State)


@frozen(kw_only=True)
class Best:
    """The lowest NELBO of the validations of a run, in nats per token."""

    value: float
    stderr: float | None
    step: int


@frozen(kw_only=True)
class RunStatus:
    """What became of a run.

    Attributes:
        directory: its directory.
        state: in one word.
        step: the last step that is known of; None of a run that cannot be read.
        steps: those that its recipe asks for, or None.
        saved: the step of its newest checkpoint, or None.
        best: of its validations, or None.
        failure: why it failed, where it did.
        problem: what is wrong with its files, or None.
        changed: when a file of it changed last, in seconds since 1970.
        size: bytes of all its files.
    """

    directory: Path
    state: State
    step: int | None = None
    steps: int | None = None
    saved: int | None = None
    best: Best | None = None
    failure: Failure | None = None
    problem: str | None = None
    changed: float = 0.0
    size: int = 0

    @property
    def words(self) -> str:
        """The state, with how far the run came."""
        if self.steps is None:
            return self.state
        if self.state == "finished":
            return f"finished, {self.steps} steps"
        return f"{self.state} at step {self.step} of {self.steps}"

    @property
    def why(self) -> str | None:
        """What ended it, and what is wrong with it."""
        failed = None if self.failure is None else self.failure.line
        return "; ".join(filter(None, (failed, self.problem))) or None

    def with_metrics(
        self, reached: int | None, best: Best | None, problem: str | None = None
    ) -> RunStatus:
        """The same, told what the metrics say.

        Args:
            reached: the last step in them, or None.
            best: the best validation in them, or None.
            problem: what is wrong with them, or None.
        """
        if self.steps is None:
            return self
        failed = None if self.failure is None else self.failure.step
        step = max(0, *(each or 0 for each in (reached, self.saved, failed)))
        if step > self.steps:
            past = f"its files speak of step {step}; its recipe asks for {self.steps} steps"
            step, problem = self.steps, problem or past
        return attrs.evolve(
            self,
            step=self.steps if self.state == "finished" else step,
            best=best,
            problem=problem or self.problem,
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "name": self.directory.name,
            "directory": str(self.directory),
            "state": self.state,
            "step": self.step,
            "steps": self.steps,
            "saved": self.saved,
            "best": None if self.best is None else attrs.asdict(self.best),
            "failure": None if self.failure is None else attrs.asdict(self.failure),
            "problem": self.problem,
            "changed": datetime.fromtimestamp(self.changed, UTC).isoformat(timespec="seconds"),
            "size": self.size,
        }


def run_folders(root: Path) -> list[Path]:
    """The folders in `root` that hold a run, or what is left of one.

    Raises:
        OSError: where `root` is no folder that can be read.
    """
    marks = (RESOLVED, METRICS, "checkpoints")
    there = sorted(path for path in root.iterdir() if path.is_dir())
    return [path for path in there if any(os.path.lexists(path / mark) for mark in marks)]


def status_of(directory: Path) -> RunStatus:
    """What became of the run in `directory`. What is damaged is said, never raised."""
    changed, size = _extent(directory)
    status = glance(directory).with_metrics(*_metrics(directory))
    return attrs.evolve(status, changed=changed, size=size)


def glance(directory: Path) -> RunStatus:
    """What became of the run, its metrics and the size of its files left out."""
    try:
        require_own_files(directory)
        recipe = read_plain_recipe(directory)
        state, failure = _state(directory, recipe)
        saved = max(steps_on_disk(directory), default=None)
    except (CheckpointError, OSError) as error:
        problem = " ".join(str(error).split())
        return RunStatus(directory=directory, state="damaged", problem=problem)
    status = RunStatus(
        directory=directory,
        state=state,
        steps=None if state == "imported" else recipe["train"]["steps"],
        saved=saved,
        failure=failure,
        problem=_unfinished(directory, recipe, state),
    )
    return status.with_metrics(None, None)


def read_plain_recipe(directory: Path) -> Mapping[str, Any]:
    """The saved recipe of a run as plain data, of which ``train.steps`` is known to be a number.

    Raises:
        CheckpointError: where it cannot be read.
    """
    path = directory / RESOLVED
    try:
        recipe = read_json(path)
        steps, evaluators = recipe["train"]["steps"], recipe.get("evaluators", {})
        if type(steps) is not int or steps < 1 or not isinstance(evaluators, dict):
            raise ValueError("it is not the recipe of a run")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; put it back, or remove the folder") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); put it back"
        ) from error
    return dict(recipe)


def read_line(line: bytes) -> dict[str, Any] | None:
    """A line of metrics, or None where it is none: whoever looks on goes on without it."""
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or type(entry.get("step")) is not int or entry["step"] < 0:
        return None
    if not all(map(_is_number, entry.values())):
        return None
    return None if any((entry.get(name) or 0) < 0 for name in _NEVER_NEGATIVE) else entry


def better(best: Best | None, entry: Mapping[str, Any]) -> Best | None:
    """The better one of `best` and the validation of a line, if it has one."""
    value, stderr = entry.get(NELBO), entry.get(NELBO_STDERR)
    if value is None or not math.isfinite(value) or (best is not None and best.value <= value):
        return best
    return Best(value=value, stderr=stderr, step=entry["step"])


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return abs(value) < _LARGEST
    return value is None or (type(value) is int and abs(value) < 2**63)


def _state(directory: Path, recipe: Mapping[str, Any]) -> tuple[State, Failure | None]:
    if is_held(directory):
        return "running", None
    if (directory / IMPORTED).exists():
        return "imported", None
    try:
        failure = read_failure(directory)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{directory / FAILURE}: cannot be read ({error}); remove it"
        ) from error
    if failure is not None:
        return "failed", failure
    if (directory / WEIGHTS).exists() and not _missing(directory, recipe):
        return "finished", None
    return "interrupted", None


def _unfinished(directory: Path, recipe: Mapping[str, Any], state: State) -> str | None:
    """What a run lacks that was stopped after its training."""
    if state != "interrupted" or not (directory / WEIGHTS).exists():
        return None
    return f"trained to its end, but not measured yet: {', '.join(_missing(directory, recipe))}"


def _missing(directory: Path, recipe: Mapping[str, Any]) -> list[str]:
    """The evaluators of the recipe whose numbers are not there."""
    labels = recipe.get("evaluators", {})
    return [label for label in labels if not (directory / "eval" / f"{label}.json").exists()]


def _metrics(directory: Path) -> tuple[int | None, Best | None, str | None]:
    """The last step in the metrics, the best validation, and what is wrong with the file.

    Of many lines only those with a validation are parsed, and the last.
    """
    best, last = None, b""
    try:
        with Tail(directory / METRICS) as tail:
            for line in tail.lines():
                if _MARK in line:
                    best = better(best, read_line(line) or {})
                last = line or last
    except OSError as error:
        return None, None, f"{METRICS}: cannot be read ({error})"
    entry = read_line(last)
    if entry is not None:
        return entry["step"], best, None
    wrong = f"{METRICS}: its last line is {last[:40]!r}, not a JSON object of numbers"
    return None, best, wrong if last else None


def _extent(directory: Path) -> tuple[float, int]:
    """When a file changed last, and the bytes of all."""
    changed, size = 0.0, 0
    for status in _files(directory):
        changed, size = max(changed, status.st_mtime), size + status.st_size
    return changed, size


def _files(directory: Path) -> Iterator[os.stat_result]:
    """What the system says of each file; what vanishes meanwhile is left out."""
    for here, _, names in os.walk(directory):
        for name in names:
            try:
                yield Path(here, name).lstat()
            except OSError:
                continue
