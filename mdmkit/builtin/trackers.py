"""Trackers: where metrics go besides ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import tomli_w
from attrs import frozen

from mdmkit.errors import MissingPackageError, RecipeError
from mdmkit.hookspecs import hookimpl
from mdmkit.metrics_log import MetricsLog, read_metrics
from mdmkit.options import option
from mdmkit.protocols import RunInfo

if TYPE_CHECKING:
    from mdmkit.builtin.tensorboard_log import TensorBoardLog


@frozen(kw_only=True)
class Jsonl:
    """A second file of metrics in the run directory, one JSON object a line."""

    file: str = option("extra.jsonl", doc="path inside the run directory, ending in .jsonl")

    def build(self, run: RunInfo) -> MetricsLog:
        """The live tracker; missing folders are made.

        Raises:
            RecipeError: for ``metrics.jsonl``, which is written anyway, and for paths that lead
                out of the run directory or do not end in ``.jsonl``.
        """
        path = PurePath(self.file)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".jsonl":
            raise RecipeError(
                f'tracker "jsonl", file: expected a path inside the run directory that ends in '
                f'.jsonl, got "{self.file}"'
            )
        if path == PurePath("metrics.jsonl"):
            raise RecipeError(
                'tracker "jsonl", file: "metrics.jsonl" is always written by the run itself; '
                'choose another name, such as "extra.jsonl"'
            )
        target = run.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return MetricsLog(target)


@frozen(kw_only=True)
class TensorBoard:
    """Event files for TensorBoard: a scalar for each figure, and the recipe as text.

    Look at them with ``tensorboard --logdir runs``. It needs the package of that name:
    ``pip install 'mdmkit[tensorboard]'``. Figures are kept in float32; what is not finite is
    left out.
    """

    folder: str = option("tensorboard", doc="where the files go, inside the run directory")

    def build(self, run: RunInfo) -> TensorBoardLog:
        """The live tracker.

        Raises:
            RecipeError: where the package is missing, and for a folder that is not one of its own
                inside the run directory.
        """
        path = PurePath(self.folder)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise RecipeError(
                'tracker "tensorboard", folder: expected a path inside the run directory, got '
                f'"{self.folder}"'
            )
        if find_spec("tensorboard") is None:
            raise MissingPackageError('tracker "tensorboard"', "tensorboard", extra="tensorboard")
        from mdmkit.builtin.tensorboard_log import TensorBoardLog  # needs the package

        return TensorBoardLog(run.directory / path, tomli_w.dumps(run.recipe))


@hookimpl
def mdmkit_trackers() -> Mapping[str, type]:
    """The trackers of this module."""
    return {"jsonl": Jsonl, "tensorboard": TensorBoard}


def contract_examples(directory: Path) -> Iterator[tuple[Any, dict[str, Any]]]:  # noqa: ARG001
    """What `mdmkit.testing` tries, and how it reads back what was tracked."""
    file = "deeper/extra.jsonl"
    yield Jsonl(file=file), {"read": lambda run: read_metrics(run / file)}
    folder = "deeper/events"
    yield TensorBoard(folder=folder), {"read": lambda run: _read_events(run / folder)}


def _read_events(folder: Path) -> list[dict[str, float]]:
    """The scalars of a folder of event files, line by line; they are float32.

    Raises:
        ValueError: where a figure is there twice for one step.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines: dict[int, dict[str, float]] = {}
    events = EventAccumulator(str(folder)).Reload()
    for name in events.Tags()["scalars"]:
        for scalar in events.Scalars(name):
            line = lines.setdefault(scalar.step, {"step": scalar.step})
            if name in line:
                raise ValueError(f"{folder}: {name} is there twice for step {scalar.step}")
            line[name] = round(scalar.value, 6)
    return [line for _, line in sorted(lines.items())]
